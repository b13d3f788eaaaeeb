"""The check of lesson 09 on the times of training."""

import math

import torch

from minildm.course.exercises.compare import close, compare, fail
from minildm.course.exercises.fakes import follows_generator, randn, uniform
from minildm.course.exercises.harness import check


def shifted_logit_normal(n, m, s, generator):
    return torch.sigmoid(m + s * torch.randn(n, generator=generator))


@check(reference=shifted_logit_normal)
def check_shifted_logit_normal(answer):
    for n, m, s in (20_001, 0.5, 2.0), (15_000, -0.8, 0.6):
        got = follows_generator(answer, lambda seeded, n=n, m=m, s=s: (n, m, s, seeded))
        want = shifted_logit_normal(n, m, s, torch.Generator().manual_seed(0))
        likely = likely_times(n, m, s)
        if is_tensor_like(got, want) and not any(close(got, wrong) for wrong in likely.values()):
            # there are many ways to a normal number: another one is judged by its distribution
            judge_distribution(got, m, s)
        else:
            compare(got, want, likely, where=f"m = {m}, s = {s}")


def is_tensor_like(got, want) -> bool:
    if not isinstance(got, torch.Tensor):
        return False
    return got.shape == want.shape and got.dtype == want.dtype


def judge_distribution(times, m, s):
    """Raise Wrong unless times are the sigmoid of a normal with mean m and deviation s."""
    if not ((times > 0) & (times < 1)).all():
        fail("times lie between 0 and 1, some of these do not")
    logits = times.double().logit()
    mean, std = logits.mean().item(), logits.std().item()
    found = torch.special.ndtr((logits - m) / s).sort().values
    wanted = (torch.arange(len(found)) + 0.5) / len(found)
    # Kolmogorov and Smirnov: a right answer is further off in one of 4000
    if (found - wanted).abs().max() > 2.1 / len(found)**0.5:
        found = f"mean {mean:.2f} and standard deviation {std:.2f}"
        fail(f"the numbers under the sigmoid have {found}: "
             f"those of a normal with {m} and {s} are wanted")


def likely_times(n, m, s):
    # the numbers of seed 0, as the answer's generator draws them
    z, flat = randn(n), uniform(n)
    normal = m + s * z
    return {
        "m and s changed places": torch.sigmoid(s + m * z),
        "m moves the normal, not the time": m + torch.sigmoid(s * z),
        "m and s move the normal, not the time": m + s * torch.sigmoid(z),
        "the normal itself: its sigmoid is wanted": normal,
        "s multiplies the normal alone, not the mean": torch.sigmoid(s * (m + z)),
        "s multiplies, it doesn't divide": torch.sigmoid(m + z / s),
        "that takes a mean and a spread out: they go in": torch.sigmoid((z - m) / s),
        "m is added, not subtracted": torch.sigmoid(z * s - m),
        "the mean m is missing": torch.sigmoid(s * z),
        "the standard deviation s is missing": torch.sigmoid(m + z),
        "m and s are missing": torch.sigmoid(z),
        "clipped to 0 and 1: the sigmoid is wanted": normal.clamp(0, 1),
        "s is the standard deviation, not the variance": torch.sigmoid(m + abs(s)**0.5 * z),
        "s is the standard deviation already, not squared": torch.sigmoid(m + s**2 * z),
        "s is the standard deviation, not its logarithm": torch.sigmoid(m + math.exp(s) * z),
        "these are not normal numbers, but uniform ones": torch.sigmoid(m + s * flat),
        "these are uniform times": flat,
        "the sign of the sigmoid's argument is wrong: data is at 0": torch.sigmoid(-normal),
        "tanh goes from -1 to 1, times go from 0 to 1": torch.tanh(normal),
        "that is the softmax, whose times sum to 1: the sigmoid of each": normal.softmax(0),
        "that is the normal's distribution function: the sigmoid is wanted":
            torch.special.ndtr(normal),
        "that is log-normal: the sigmoid is wanted, not exp": normal.exp(),
        "all times are one: a normal number for each": torch.sigmoid(m + s * randn(1)).expand(n),
    }
