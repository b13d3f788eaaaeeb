"""The checks of lesson 09 on straightness and on the times of training."""

import math

import torch

from minildm.course.exercises.compare import close, compare, fail
from minildm.course.exercises.fakes import follows_generator, randn, uniform
from minildm.course.exercises.harness import check


def straightness(path, ts):
    dt = ts.diff()                                          # (K,)
    chord = (path[-1] - path[0]) / dt.sum()                 # (N, D)
    velocity = path.diff(dim=0) / dt[:, None, None]         # (K, N, D)
    off = (velocity - chord).square().sum(2).mean(1)        # (K,)
    return (off * dt).sum() / dt.sum() / chord.square().sum(1).mean()


# times of journeys, their number, the dimensions of a point
TRAVELS = ([1.0, 0.7, 0.6, 0.2], 5, 2), ([0.9, 0.85, 0.5, 0.45, 0.3, 0.0], 4, 3)


@check(reference=straightness)
def check_straightness(answer):
    for times, count, width in TRAVELS:
        ts = torch.tensor(times)
        # journeys of unequal length, each the longer the later
        size = torch.linspace(0.5, 2, count)[:, None]
        path = randn(len(ts), count, width, seed=2) * size
        answer.case((path, ts), straightness(path, ts), likely_straightness(path, ts),
                    where=f"{count} journeys of {len(times) - 1} steps")
        line = randn(1, count, width) + ts[:, None, None] * randn(1, count, width, seed=1)
        got = answer(line, ts)
        compare(got, torch.tensor(0.0), where="a straight line at constant speed has S = 0")
        # the same line at another speed in each step: straight, and yet S is not 0
        way = (ts - ts[0]).square()[:, None, None]
        bent = line[0] + way * (line[-1] - line[0])
        compare(answer(bent, ts), straightness(bent, ts), {
            "a straight line whose speed changes isn't straight for S: velocities are compared":
                torch.tensor(0.0),
        }, where="a straight line whose speed changes")


def likely_straightness(path, ts):
    dt = ts.diff()
    share = dt / dt.sum()
    moved = path.diff(dim=0)
    velocity = moved / dt[:, None, None]
    whole = path[-1] - path[0]
    chord = whole / dt.sum()

    def way(velocity=velocity, chord=chord, weight=share):
        off = (velocity - chord).square().sum(2).mean(1)
        return (off * weight).sum() / chord.square().sum(1).mean()

    ones = torch.ones_like(dt)
    return {
        "each step counts alike: weigh it by its duration": way(weight=ones / len(dt)),
        "each step counts alike, and they are summed: weigh it by its duration": way(weight=ones),
        "the weights are the steps' shares of the time: they must sum to 1": way(weight=dt.abs()),
        "the sign: durations are negative here, divide by their sum": way(weight=dt),
        "weighed by its share of the time, and then a mean over steps": way() / len(dt),
        "the chord is divided by the time it takes: it is a velocity": way(chord=whole),
        "the velocity of a step is divided by its duration": way(velocity=moved),
        "the velocity of a step is divided by its own duration, not by the mean one":
            way(velocity=moved / dt.mean()),
        "steps and chord are velocities: divide both by their time": way(moved, whole),
        "the chord is from end to end, not the mean velocity of the steps":
            way(chord=velocity.mean(0)),
        "the chord has the sign of the steps: the last place minus the first": way(chord=-chord),
        **wrong_ratios(velocity, chord, share),
    }


def wrong_ratios(velocity, chord, share):
    """{cause: a wrong S of right velocities (K, N, D) and chords (N, D)}."""
    count, width = chord.shape
    each = (velocity - chord).square().sum(2)               # (K, N)
    length = chord.square().sum(1)                          # (N,)

    def mean(values):
        return (values.mean(1) * share).sum()

    want = mean(each) / length.mean()
    from_mean = (velocity - chord.mean(0)).square().sum(2)
    squares = velocity.square().sum(2)
    return {
        "not divided by the chord's square": mean(each),
        "divided by the velocity's square: by the chord's": mean(each) / squares.mean(),
        "the chord is each journey's own, not their mean": mean(from_mean) / length.mean(),
        "the chord is not subtracted": mean(squares) / length.mean(),
        "a sum over the journeys, not their mean": count * want,
        "a sum over the journeys below, their mean above": want / count,
        "squares are summed over the axes of a point, above as below": want / width,
        "squares are summed over the axes of a point, below as above": want * width,
        "squares are wanted, not distances": mean(each.sqrt()) / length.sqrt().mean(),
        "the root is too much: S is a ratio of squares": want.sqrt(),
        "each journey was divided by its own chord: mean by mean": mean(each / length),
    }


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
