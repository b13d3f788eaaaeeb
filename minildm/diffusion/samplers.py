"""From noise to data, one step at a time. Each sampler is a generator, so that you can watch.

A sampler is handed `denoise(x, t) -> x0`, a schedule, noise (B, C, H, W) and a grid of times (n +
1,) from 1 (noise) down to 0 (data). At each step it asks where the clean data is, and moves some of
the way:
    for step in ddim(denoise, schedule, noise, ts): ...

All follow the probability flow, one equation for every schedule (score SDE: Yang Song et al. 2021,
eq. 13, arXiv:2011.13456):
    dx = x0 d alpha + eps d sigma,   with x0 = denoise(x, t) and eps = (x - alpha x0) / sigma
euler and ddim take x0 and eps as constant through a step, heun averages them over it, dpmpp_2m
extrapolates what x0 did in the last one; ddpm, and the others with eta > 0, replace a part of eps
by new noise. None divides by alpha, so all start at pure noise, t = 1; all end at the data, t = 0,
with what x0 is there.

They run without gradients, unless they are given `differentiable=True`. Those that draw noise ask
`noise_sampler(i)` for step i's, a tensor like x; by default it is torch.randn with `generator`.

Times are best left on the CPU, beside an x on CUDA as well: what is computed of them there are
numbers that go along with the work on x, and nobody waits.
"""

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

from minildm import MinildmError
from minildm.devices import to_device
from minildm.diffusion.schedules import Schedule, log_snr


class Step(NamedTuple):
    """After step i: the time reached, the sample there, and the clean data it was moved towards."""

    i: int
    t: torch.Tensor
    x: torch.Tensor
    x0: torch.Tensor


def without_gradients(sampler: Callable) -> Callable:
    """Run a sampler under torch.no_grad, which the caller may leave out by `differentiable=True`.

    With gradients, the graph of every step stays in memory until the sample itself is gone.
    """
    @functools.wraps(sampler)
    def run(*args, differentiable: bool = False, **words):
        # torch lifts no_grad between the steps of a generator, where the caller's code runs
        chosen = sampler if differentiable else torch.no_grad()(sampler)
        return chosen(*args, **words)

    return run


def distinct(ts):
    """The grid without times that repeat: between two equal times there is no step."""
    # CUDA is waited for once here, before any step, and in no step
    changes = ts[1:] != ts[:-1]
    return torch.cat([ts[:1], ts[1:][changes]])


def intervals(ts):
    """(i, t, s) of each step: its number, and the times at which it starts and ends."""
    for i in range(len(ts) - 1):
        yield i, ts[i], ts[i + 1]


def beside(value, x):
    """A coefficient that multiplies x, a number or (C, 1, 1), on x's device."""
    # CUDA takes a number of the CPU's as it is
    return value if value.ndim == 0 else to_device(value, x.device)


def levels(schedule: Schedule, t, x):
    """(alpha, sigma) at one time, to multiply x by."""
    return beside(schedule.alpha(t), x), beside(schedule.sigma(t), x)


def normal_noise(x, generator) -> Callable:
    """The default `noise_sampler`: standard normal noise of x's shape, whatever the step."""
    def draw(i):
        return torch.randn(x.shape, generator=generator, device=x.device)

    return draw


def ancestral_sd(a_t, sd_t, a_s, sd_s):
    """The standard deviation of x_s given x_t and x0, the square root of beta tilde.

    (Ho et al. 2020, eq. 7, arXiv:2006.11239; DDIM, eq. 16 with eta 1, arXiv:2010.02502.)
    """
    return sd_s * (1 - (a_t * sd_s / (a_s * sd_t)) ** 2).clamp(min=0).sqrt()


@without_gradients
def ddpm(denoise: Callable, schedule: Schedule, noise, ts, generator=None, noise_sampler=None):
    """Ancestral sampling: draw x_s from q(x_s | x_t, x0) for any two times s < t.

    (Ho et al. 2020, eq. 6-7, arXiv:2006.11239.)
    """
    x, draw = noise, noise_sampler or normal_noise(noise, generator)
    for i, t, s in intervals(distinct(ts)):
        x0 = denoise(x, t)
        (a_t, sd_t), (a_s, sd_s) = levels(schedule, t, x), levels(schedule, s, x)
        keep = (a_t / a_s) * (sd_s / sd_t) ** 2                     # how much of x_t the mean keeps
        mean = keep * x + (a_s - keep * a_t) * x0
        x = mean + ancestral_sd(a_t, sd_t, a_s, sd_s) * draw(i)
        yield Step(i, s, x, x0)


@without_gradients
def ddim(denoise: Callable, schedule: Schedule, noise, ts, eta: float = 0.0, generator=None,
         noise_sampler=None):
    """Keep the noise that x holds instead of drawing new.

    (DDIM: Jiaming Song et al. 2021, eq. 12 and 16, arXiv:2010.02502.) eta 0 is deterministic, eta 1
    is `ddpm`. On the flow schedule eta 0 is Euler's method.
    """
    x, draw = noise, noise_sampler or normal_noise(noise, generator)
    for i, t, s in intervals(distinct(ts)):
        x0 = denoise(x, t)
        (a_t, sd_t), (a_s, sd_s) = levels(schedule, t, x), levels(schedule, s, x)
        eps = (x - a_t * x0) / sd_t                                        # the noise that x holds
        sd = eta * ancestral_sd(a_t, sd_t, a_s, sd_s)                      # eq. 16
        x = a_s * x0 + (sd_s**2 - sd**2).clamp(min=0).sqrt() * eps         # eq. 12
        # eta 0 must not move the generator
        if eta:
            x = x + sd * draw(i)
        yield Step(i, s, x, x0)


@without_gradients
def euler(denoise: Callable, schedule: Schedule, noise, ts):
    """Euler's method on d(x / alpha) = eps d(sigma / alpha).

    (Karras et al. 2022, algorithm 1, lines 1-5, arXiv:2206.00364.) That is k-diffusion's form;
    multiplied by alpha it is dx = x0 d alpha + eps d sigma, and each step is DDIM's.
    """
    x = noise
    for i, t, s in intervals(distinct(ts)):
        x0 = denoise(x, t)
        (a_t, sd_t), (a_s, sd_s) = levels(schedule, t, x), levels(schedule, s, x)
        eps = (x - a_t * x0) / sd_t
        x = x + (a_s - a_t) * x0 + (sd_s - sd_t) * eps
        yield Step(i, s, x, x0)


@without_gradients
def heun(denoise: Callable, schedule: Schedule, noise, ts):
    """Take an Euler step, then take it again with the mean of both ends' x0 and eps. Second order.

    (Karras et al. 2022, algorithm 1, arXiv:2206.00364.) Two calls a step, but for one that ends at
    the data, where eps is 0 / 0.
    """
    x, ts = noise, distinct(ts)
    # asked once: if these times are on CUDA, each question makes the CPU wait
    noisy = (ts > 0).cpu()
    for i, t, s in intervals(ts):
        x0 = denoise(x, t)
        (a_t, sd_t), (a_s, sd_s) = levels(schedule, t, x), levels(schedule, s, x)
        eps = (x - a_t * x0) / sd_t
        end = x + (a_s - a_t) * x0 + (sd_s - sd_t) * eps                   # Euler's
        # at the data there is no noise left to predict
        if noisy[i + 1]:
            x0_end = denoise(end, s)
            eps_end = (end - a_s * x0_end) / sd_s
            end = x + (a_s - a_t) * (x0 + x0_end) / 2 + (sd_s - sd_t) * (eps + eps_end) / 2
        x = end
        yield Step(i, s, x, x0)


@without_gradients
def dpmpp_2m(denoise: Callable, schedule: Schedule, noise, ts, eta: float = 0.0, generator=None,
             noise_sampler=None):
    """DDIM, with x0 extrapolated half a step ahead, along a line in lambda through the last two.

    lambda = log(alpha / sigma) (DPM-Solver++: Lu et al. 2022, algorithm 2, arXiv:2211.01095).
    Second order for one call a step; the first step, and one that ends at the data, are DDIM's. eta
    1 is `dpmpp_2m_sde`.
    """
    x, draw, ts = noise, noise_sampler or normal_noise(noise, generator), distinct(ts)
    lam, x0_before = [log_snr(schedule, t) / 2 for t in ts], None
    for i, t, s in intervals(ts):
        x0 = x0_ahead = denoise(x, t)
        (a_t, sd_t), (a_s, sd_s) = levels(schedule, t, x), levels(schedule, s, x)
        if i > 0:
            half_r = (lam[i + 1] - lam[i]) / (lam[i] - lam[i - 1]) / 2     # 1 / 2r
            # infinite at the data, NaN where lambda does not change: no line there, a step of DDIM
            half_r = torch.where(half_r.isfinite(), half_r, 0)
            x0_ahead = x0 + beside(half_r, x) * (x0 - x0_before)
        sd = eta * ancestral_sd(a_t, sd_t, a_s, sd_s)
        x = a_s * x0_ahead + (sd_s**2 - sd**2).clamp(min=0).sqrt() * (x - a_t * x0_ahead) / sd_t
        if eta:
            x = x + sd * draw(i)
        yield Step(i, s, x, x0)
        x0_before = x0                                                     # at lam[i]


def dpmpp_2m_sde(denoise: Callable, schedule: Schedule, noise, ts, generator=None,
                 noise_sampler=None, differentiable: bool = False):
    """DPM-Solver++ 2M that draws new noise at each step, as `ddpm` does (eq. 19)."""
    return dpmpp_2m(denoise, schedule, noise, ts, 1.0, generator, noise_sampler,
                    differentiable=differentiable)


def last(steps: Iterable[Step]):
    """Run a sampler to its end and return the sample (B, C, H, W); no step at all is refused."""
    x = None
    for step in steps:
        x = step.x
    if x is None:
        raise MinildmError("the sampler took no step", "last",
                           "pass two or more times, from 1 down to 0")
    return x
