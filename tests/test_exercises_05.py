"""Lesson 05's checks: the solution passes; the wrong answers that students give are told what is wrong."""

import pytest
import torch

from minildm import exercises
from minildm.diffusion.samplers import ddim, ddpm, last
from minildm.diffusion.schedules import time_grid


def posterior(sch, x, x0, t, s, sd=lambda v: v):
    """Mean and variance in the package's own words: the mean and spread of many ddpm steps give the same."""
    (a, a_s), (b, b_s) = ([part(at) for at in (t, s)] for part in sch)
    keep = a / a_s * (b_s / b)**2
    variance = b_s**2 - (keep * b)**2
    return torch.stack([keep * x + (a_s - keep * a) * x0, sd(variance).expand(x.shape)])


def ddim_step(sch, x, x0, t, s):
    return last(ddim(lambda *_: x0, sch, x, torch.stack([t, s])))


def eps_to_v(sch, x, eps, t):
    a, sd = sch.alpha(t), sch.sigma(t)
    return a * eps - sd * (x - sd * eps) / a


def sample(step, denoise, noise, n, ts=None):
    x, ts = noise, time_grid(n) if ts is None else ts
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        x = step(x, denoise(x, t), t, s)
    return x


def restart(step, denoise, noise, n):
    for t, s in zip(time_grid(n)[:-1], time_grid(n)[1:], strict=True):
        x = step(noise, denoise(noise, t), t, s)
    return x


def look_ahead(x0, before, a, b, c):
    return x0 + (c - b) / (b - a) / 2 * (x0 - before)


def test_solutions_pass():
    exercises.check_look_ahead(look_ahead)
    exercises.check_posterior(posterior)
    exercises.check_ddim_step(ddim_step)
    exercises.check_eps_to_v(eps_to_v)
    exercises.check_sample(sample)


def test_the_posterior_is_what_ddpm_draws_from():
    sch, x, x0, t, s = exercises.schedules.cosine, torch.full((200_000,), 0.5), 1.0, *torch.tensor([0.7, 0.4])
    drawn = last(ddpm(lambda *_: x0, sch, x, torch.stack([t, s]), torch.Generator().manual_seed(0)))
    mean, variance = posterior(sch, x[:1], x0, t, s)
    assert abs(drawn.mean() - mean) < 0.005 and abs(drawn.var() - variance) < 0.005


def pair(mean, variance):
    return torch.stack([mean, variance.expand(mean.shape)])


def keep(sch, t, s):
    return sch.alpha(t) / sch.alpha(s) * (sch.sigma(s) / sch.sigma(t))**2


def eps_of(sch, x, x0, t):
    return (x - sch.alpha(t) * x0) / sch.sigma(t)


POSTERIOR = [
    ("root", lambda sch, x, x0, t, s: posterior(sch, x, x0, t, s, torch.sqrt)),
    ("forward step", lambda sch, x, x0, t, s: pair(posterior(sch, x, x0, t, s)[0],
                                                   1 - (sch.alpha(t) / sch.alpha(s))**2)),
    ("too much", lambda sch, x, x0, t, s: pair(keep(sch, t, s) * x + sch.alpha(s) * x0,
                                               posterior(sch, x, x0, t, s)[1])),
    ("should be", lambda sch, x, x0, t, s: pair(sch.alpha(s) * x0, sch.sigma(s)**2)),          # forgets x_t
    ("should be", lambda sch, x, x0, t, s: posterior(sch, x, x0, s, t)),                       # times swapped
    ("should be", lambda sch, x, x0, t, s: posterior(sch, x0, x, t, s)),
    ("shape", lambda sch, x, x0, t, s: posterior(sch, x, x0, t, s)[0]),
    ("return", lambda *_: None),
]
DDIM_STEP = [
    ("those of t", lambda sch, x, x0, t, s: sch.alpha(t) * x0 + sch.sigma(t) * eps_of(sch, x, x0, t)),
    ("isn't multiplied", lambda sch, x, x0, t, s: x0 + sch.sigma(s) * eps_of(sch, x, x0, t)),
    ("unit size", lambda sch, x, x0, t, s: sch.alpha(s) * x0 + sch.sigma(s) * (x - sch.alpha(t) * x0)),
    ("1 - alpha", lambda sch, x, x0, t, s: sch.alpha(s) * x0
        + (1 - sch.alpha(s)**2).sqrt() * eps_of(sch, x, x0, t)),
    ("should be", lambda sch, x, x0, t, s: sch.alpha(s) * x0 + sch.sigma(s) * torch.randn(x.shape)),   # fresh
    ("should be", lambda sch, x, x0, t, s: ddim_step(sch, x, x0, s, t)),
]
EPS_TO_V = [
    ("sign", lambda sch, x, eps, t: -eps_to_v(sch, x, eps, t)),
    ("isn't x0", lambda sch, x, eps, t: sch.alpha(t) * eps - sch.sigma(t) * x),
    ("changed places", lambda sch, x, eps, t: sch.sigma(t) * eps - (x - sch.sigma(t) * eps)),
    ("flow", lambda sch, x, eps, t: eps - (x - sch.sigma(t) * eps) / sch.alpha(t)),
    ("should be", lambda sch, x, eps, t: sch.alpha(t) * eps - sch.sigma(t) * (x - sch.sigma(t) * eps)),
]
SAMPLE = [
    ("last step", lambda step, denoise, noise, n: sample(step, denoise, noise, n, time_grid(n)[:-1])),
    ("begin at 1", lambda step, denoise, noise, n: sample(step, denoise, noise, n, time_grid(n)[1:])),
    (r"n \+ 1 times", lambda step, denoise, noise, n: sample(step, denoise, noise, n - 1)),
    ("too many", lambda step, denoise, noise, n: sample(step, denoise, noise, n + 1)),
    ("should be", lambda step, denoise, noise, n: sample(step, denoise, noise, n, time_grid(n).flip(0))),
    ("should be", restart),
    ("should be", lambda step, denoise, noise, n: denoise(noise, torch.tensor(1.0))),
]
LOOK_AHEAD = [
    ("whole one", lambda x0, before, a, b, c: look_ahead(x0, before, a, b, 2 * c - b)),
    ("upside down", lambda x0, before, a, b, c: x0 + (b - a) / (c - b) / 2 * (x0 - before)),
    ("sign", lambda x0, before, a, b, c: look_ahead(x0, before, a, b, 2 * b - c)),
    ("not from before", lambda x0, before, a, b, c: look_ahead(x0, before, a, b, c) - x0 + before),
    ("ratio is missing", lambda x0, before, a, b, c: x0 + (x0 - before) / 2),
    ("in the past", lambda x0, before, a, b, c: (x0 + before) / 2),
    ("both together", lambda x0, before, a, b, c: x0 + (c - b) / (c - a) / 2 * (x0 - before)),
    ("should be", lambda x0, before, a, b, c: x0),
]
ANSWERS = {"posterior": POSTERIOR, "ddim_step": DDIM_STEP, "look_ahead": LOOK_AHEAD, "eps_to_v": EPS_TO_V,
           "sample": SAMPLE}
WRONG = [(name, *row) for name, rows in ANSWERS.items() for row in rows]


@pytest.mark.parametrize("name, said, answer", WRONG)
def test_wrong_answers_are_told_the_cause(name, said, answer):
    with pytest.raises(AssertionError, match=said):
        getattr(exercises, f"check_{name}")(answer)
