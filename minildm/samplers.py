"""From noise to data, one step at a time. Each sampler is a generator, so that you can watch.

A sampler is handed `denoise(x, t) -> x0`, a schedule and a grid of times from 1 (noise) down to 0 (data).
At each step it asks where the clean data is, and moves some of the way:
    for step in ddim(denoise, schedule, noise, ts): ...
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

from minildm.schedules import Schedule


class Step(NamedTuple):
    """After step i: the time reached, the sample there, and the clean data that the step believed in."""

    i: int
    t: torch.Tensor
    x: torch.Tensor
    x0: torch.Tensor


def ddpm(denoise: Callable, schedule: Schedule, noise, ts, generator=None):
    """Ancestral sampling: draw x_s from q(x_s | x_t, x0) (Ho et al. 2020, eq. 6-7, any two times s < t)."""
    x = noise
    for i, (t, s) in enumerate(zip(ts[:-1], ts[1:], strict=True)):
        x0 = denoise(x, t)
        a_t, sd_t, a_s, sd_s = schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s)
        keep = (a_t / a_s) * (sd_s / sd_t) ** 2                            # how much of x_t the mean keeps
        sd = sd_s * (1 - (a_t * sd_s / (a_s * sd_t)) ** 2).clamp(min=0).sqrt()  # beta tilde, eq. 7
        mean = keep * x + (a_s - keep * a_t) * x0
        fresh = torch.randn(x.shape, generator=generator, device=x.device)
        x = mean + sd * fresh
        yield Step(i, s, x, x0)


def ddim(denoise: Callable, schedule: Schedule, noise, ts, eta: float = 0.0, generator=None):
    """Keep the noise you have instead of drawing new (Song et al. 2021, eq. 12 and 16, arXiv:2010.02502).

    eta 0 is deterministic, eta 1 is `ddpm`. On the flow schedule eta 0 is Euler's method.
    """
    x = noise
    for i, (t, s) in enumerate(zip(ts[:-1], ts[1:], strict=True)):
        x0 = denoise(x, t)
        a_t, sd_t, a_s, sd_s = schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s)
        eps = (x - a_t * x0) / sd_t                                        # the noise that x holds
        sd = eta * sd_s * (1 - (a_t * sd_s / (a_s * sd_t)) ** 2).clamp(min=0).sqrt()   # eq. 16
        x = a_s * x0 + (sd_s**2 - sd**2).clamp(min=0).sqrt() * eps         # eq. 12
        if eta:
            x = x + sd * torch.randn(x.shape, generator=generator, device=x.device)
        yield Step(i, s, x, x0)


def last(steps: Iterable[Step]):
    """Run a sampler to its end and return the sample (B, C, H, W)."""
    for step in steps:
        x = step.x
    return x
