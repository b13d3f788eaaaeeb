"""The checks of lesson 03."""

import torch

from minildm.course.exercises.fakes import randn, uniform, warped
from minildm.course.exercises.harness import check
from minildm.diffusion import schedules


def alpha_bar(betas):
    return torch.cat([torch.ones(1), (1 - betas).cumprod(0)])


TABLES = schedules.from_betas, schedules.linear, schedules.scaled_linear


@check(reference=alpha_bar, forbidden=TABLES)
def check_alpha_bar(answer):
    # in the lesson betas rise; a table by another rule must not
    rising = torch.linspace(0.05, 0.4, 6)
    for where, betas in ("6 betas that rise", rising), ("9 betas in any order", 0.5 * uniform(9)):
        one = torch.ones(1)
        alphas = 1 - betas
        kept = alphas.cumprod(0)
        want = torch.cat([one, kept])
        answer.case((betas,), want, {
            "shares multiply: this is a sum":
                torch.cat([one, 1 - betas.cumsum(0)]),
            "shares multiply: these are single steps' shares": torch.cat([one, alphas]),
            "these are the betas' sums, not what is kept": torch.cat([one, betas.cumsum(0)]),
            "a root": want.sqrt(),
            "a square: alpha_bar is the variance's share already": want.square(),
            "each step keeps 1 - beta, without a root":
                torch.cat([one, alphas.sqrt().cumprod(0)]),
            "each step keeps 1 - beta, without a square":
                torch.cat([one, (1 - betas.square()).cumprod(0)]),
            "the product is of 1 - beta": torch.cat([one, betas.cumprod(0)]),
            "that is the noise's share: the data's is wanted": 1 - want,
            "the 1 in front is missing": kept,
            "the first entry is 1: before the first step all is there": torch.cat([one - 1, kept]),
            "the 1 stands at the end, not in front": torch.cat([kept, one]),
            "one place late: entry 1 is what the first step left":
                torch.cat([one, one, kept[:-1]]),
            "from the last step to the first: begin with the first":
                torch.cat([one, alphas.flip(0).cumprod(0)]),
            "that is an exponential of a sum: near 1 - beta for small ones only":
                torch.cat([one, (-betas.cumsum(0)).exp()]),
        }, where=where)


@check(reference=schedules.add_noise)
def check_add_noise(answer):
    # B = W in the first: who forgets to expand t gets a wrong result there, not torch's error
    for shape, name in ((4, 3, 5, 4), "warped"), ((5, 7), "flow"), ((3, 2, 6), "cosine"):
        schedule = warped if name == "warped" else getattr(schedules, name)
        x, noise = randn(*shape), randn(*shape, seed=1)
        t = 0.05 + 0.85 * uniform(shape[0], seed=2)
        each = t.reshape(-1, *[1] * (len(shape) - 1))
        a, sd = schedule.alpha(each), schedule.sigma(each)
        likely = {
            "alpha and sigma changed places": sd * x + a * noise,
            "alpha is missing": x + sd * noise,
            "sigma is missing": a * x + noise,
            "alpha is the root of alpha_bar already: no squares":
                a**2 * x + sd**2 * noise,
            "alpha is the root of alpha_bar already: no roots":
                a.abs().sqrt() * x + sd.sqrt() * noise,
            "sigma isn't always the root of 1 - alpha^2":
                a * x + (1 - a**2).abs().sqrt() * noise,
            "sigma isn't always 1 - alpha": a * x + (1 - a) * noise,
            "alpha isn't always 1 - t, nor sigma t": (1 - each) * x + each * noise,
            "noise is added, not subtracted": a * x - sd * noise,
            "data and noise changed places": a * noise + sd * x,
            "the noise is missing": a * x,
            "all pictures got the first one's time":
                schedule.alpha(t[0]) * x + schedule.sigma(t[0]) * noise,
            "all pictures got the mean time":
                schedule.alpha(t.mean()) * x + schedule.sigma(t.mean()) * noise,
            "time runs from 0, data, to 1, noise":
                schedule.alpha(1 - each) * x + schedule.sigma(1 - each) * noise,
        }
        if shape[-1] == shape[0]:
            by_column = schedule.alpha(t) * x + schedule.sigma(t) * noise
            likely["t (B,) met the last axis: each column has its own time"] = by_column
        want = a * x + sd * noise
        answer.case((schedule, x, noise, t), want, likely, where=f"data {shape}, schedule {name}")


def scale_factor(z):
    return 1 / z.std()


@check(reference=scale_factor)
def check_scale_factor(answer):
    # the mean is not 0, in no channel, and the spread above and below 1
    for shape, scale in ((6, 4, 2, 3), 3.0), ((3, 5, 4, 2), 0.05):
        z = scale * (randn(*shape) + 2 * randn(shape[1], 1, 1, seed=1))
        std = z.std()
        by_channel = z.std((0, 2, 3))
        answer.case((z,), 1 / std, {
            "the standard deviation: times it, latents get wider": std,
            "this is 1 / variance": 1 / z.var(),
            "this is the variance": z.var(),
            "this is the root of what is wanted: variance's root is std": 1 / std.sqrt(),
            "the mean counts, too: subtract it first": 1 / z.square().mean().sqrt(),
            "a number for each channel: one for all is wanted": 1 / by_channel,
            "the mean over channels: one std of all values": 1 / by_channel.mean(),
            "the mean of the channels' factors: one std of all values": (1 / by_channel).mean(),
            "the mean over pictures: one std of all values":
                1 / z.std((1, 2, 3)).mean(),
            "the spread is std's, not the mean absolute value": 1 / z.abs().mean(),
            "the spread is std's, not the mean absolute deviation":
                1 / (z - z.mean()).abs().mean(),
            "the spread is std's, not the largest value": 1 / z.abs().max(),
            "the spread is std's, not the range": 1 / (z.max() - z.min()),
            "that is one over the mean: variance is what counts": 1 / z.mean(),
            "that is Stable Diffusion's: measure these latents": torch.tensor(0.18215),
            "these are the scaled latents: the factor is wanted": z / std,
        }, also=[1 / z.std(correction=0)], where=f"latents {shape}")
