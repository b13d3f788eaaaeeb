"""From noise to data, one step at a time. Each sampler is a generator, so that you can watch.

A sampler is handed `denoise(x, t) -> x0`, a schedule and a grid of times from 1 (noise) down to 0 (data).
At each step it asks where the clean data is, and moves some of the way:
    for step in ddim(denoise, schedule, noise, ts): ...

From noise to data leads one equation, the probability flow, on every schedule (Song et al. 2021, eq. 13):
    dx = x0 d alpha + eps d sigma,   with x0 = denoise(x, t) and eps = (x - alpha x0) / sigma
and the deterministic samplers are ways of following it: euler and ddim take x0 and eps as constant through a
step, heun averages them over it, dpmpp_2m looks ahead along what x0 did in the last one.
None divides by alpha, so all start at pure noise, t = 1; all end at the data, t = 0, with what x0 is there.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

from minildm.diffusion.schedules import Schedule, log_snr


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


def euler(denoise: Callable, schedule: Schedule, noise, ts):
    """Euler's method on d(x / alpha) = eps d(sigma / alpha) (Karras et al. 2022, alg. 1, lines 1-5).

    That is k-diffusion's form; times alpha, it is dx = x0 d alpha + eps d sigma, and each step is DDIM's.
    """
    x = noise
    for i, (t, s) in enumerate(zip(ts[:-1], ts[1:], strict=True)):
        x0 = denoise(x, t)
        a_t, sd_t, a_s, sd_s = schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s)
        eps = (x - a_t * x0) / sd_t
        x = x + (a_s - a_t) * x0 + (sd_s - sd_t) * eps
        yield Step(i, s, x, x0)


def heun(denoise: Callable, schedule: Schedule, noise, ts):
    """An Euler step, then again with the mean of both ends' x0 and eps (Karras et al. 2022, alg. 1).

    Two calls a step, but for one that ends at the data, where eps is 0 / 0. Second order.
    """
    x = noise
    for i, (t, s) in enumerate(zip(ts[:-1], ts[1:], strict=True)):
        x0 = denoise(x, t)
        a_t, sd_t, a_s, sd_s = schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s)
        eps = (x - a_t * x0) / sd_t
        end = x + (a_s - a_t) * x0 + (sd_s - sd_t) * eps                   # Euler's
        if s > 0:
            x0_end = denoise(end, s)
            eps_end = (end - a_s * x0_end) / sd_s
            end = x + (a_s - a_t) * (x0 + x0_end) / 2 + (sd_s - sd_t) * (eps + eps_end) / 2
        x = end
        yield Step(i, s, x, x0)


def dpmpp_2m(denoise: Callable, schedule: Schedule, noise, ts, eta: float = 0.0, generator=None):
    """DDIM, with x0 half a step ahead along a line in lambda through the last two (Lu et al. 2022, alg. 2).

    lambda = log(alpha / sigma), arXiv:2211.01095. Second order for one call a step; the first step, and one
    that ends at the data, are DDIM's. eta 1 is `dpmpp_2m_sde`.
    """
    x, before, lam = noise, None, [log_snr(schedule, t) / 2 for t in ts]
    for i, (t, s) in enumerate(zip(ts[:-1], ts[1:], strict=True)):
        x0 = ahead = denoise(x, t)
        a_t, sd_t, a_s, sd_s = schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s)
        if i > 0:
            half_r = (lam[i + 1] - lam[i]) / (lam[i] - lam[i - 1]) / 2     # 1 / 2r; infinite at the data
            ahead = x0 + torch.where(sd_s > 0, half_r, 0) * (x0 - before)
        sd = eta * sd_s * (1 - (a_t * sd_s / (a_s * sd_t)) ** 2).clamp(min=0).sqrt()
        x = a_s * ahead + (sd_s**2 - sd**2).clamp(min=0).sqrt() * (x - a_t * ahead) / sd_t
        if eta:
            x = x + sd * torch.randn(x.shape, generator=generator, device=x.device)
        yield Step(i, s, x, x0)
        before = x0                                                        # at lam[i]


def dpmpp_2m_sde(denoise: Callable, schedule: Schedule, noise, ts, generator=None):
    """DPM-Solver++ 2M that draws new noise at each step, as `ddpm` does (Lu et al. 2022, eq. 19)."""
    return dpmpp_2m(denoise, schedule, noise, ts, 1.0, generator)


def last(steps: Iterable[Step]):
    """Run a sampler to its end and return the sample (B, C, H, W)."""
    for step in steps:
        x = step.x
    return x
