"""The checks of lesson 04 on drawing: the score, a Langevin chain, DDPM's loop."""

import torch

from minildm.course.exercises.compare import close, compare, fail
from minildm.course.exercises.fakes import follows_generator, generator, randn, warped
from minildm.course.exercises.harness import check
from minildm.diffusion import samplers, schedules

# ---- the score -----------------------------------------------------------------------------------

def score(denoise, schedule, x, t):
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    eps = (x - alpha * denoise(x, t)) / sigma
    return -eps / sigma


def wave(x, t):
    """A denoiser that is no exact one of anything."""
    return torch.sin(1.7 * x) * (0.4 + t) + 0.2 * x.flip(-1)


@check(reference=score)
def check_score(answer):
    for shape, schedule, at in ((5, 2), warped, 0.35), ((2, 3, 4, 2), schedules.flow, 0.8):
        x, t = randn(*shape), torch.tensor(at)
        alpha, sigma, x0 = schedule.alpha(t), schedule.sigma(t), wave(x, t)
        # the noise that x holds if x0 is the data
        eps = (x - alpha * x0) / sigma
        answer.case((wave, schedule, x, t), -eps / sigma, {
            "the sign: the score points away from the noise": eps / sigma,
            "that is the expected noise: the score is minus it, divided by sigma": eps,
            "divide by sigma once more: that is minus the expected noise": -eps,
            "divided by sigma once too often": -eps / sigma**2,
            "multiplied by sigma: divide": -eps * sigma,
            "alpha is missing: x = alpha x0 + sigma eps": -(x - x0) / sigma**2,
            "the data is divided by alpha, not multiplied": -(x - x0 / alpha) / sigma**2,
            "that is the expected data": x0,
            "that is the way from x to the expected data": x0 - x,
            "sigma isn't always the root of 1 - alpha^2":
                (alpha * x0 - x) / (1 - alpha**2),
            "the score is a vector at each x: this is its sum": (-eps / sigma).sum(),
        }, where=f"x {shape}")


# ---- Langevin ------------------------------------------------------------------------------------

def langevin(score, x, step, n, generator):
    for _ in range(n):
        noise = torch.randn(x.shape, generator=generator)
        x = x + step / 2 * score(x) + step**0.5 * noise
    return x


def slope(x):
    """A score that pulls to 1, not linear."""
    return torch.tanh(1 - x) - 0.3 * x.flip(-1)


def chain(x, step, n, pull=0.5, noise=None, fresh=True, frozen=False):
    """A Langevin chain with a likely mistake; pull and noise are its two factors."""
    source, start = generator(), x
    factor = step**0.5 if noise is None else noise
    one = torch.randn(x.shape, generator=generator())
    for _ in range(n):
        added = torch.randn(x.shape, generator=source) if fresh else one
        x = x + pull * step * slope(start if frozen else x) + factor * added
    return x


@check(reference=langevin)
def check_langevin(answer):
    for shape, step, n in ((4, 2), 0.3, 5), ((3, 1, 2), 0.05, 8):
        x = 2 * randn(*shape, seed=7)
        got = answer(slope, x, step, n, generator())
        if isinstance(got, torch.Tensor) and close(got, chain(x, step, n, 0.5, 0.0)):
            fail("the noise is missing: that only climbs")
        got = follows_generator(answer, lambda source, given=(x, step, n): (slope, *given, source))
        compare(got, langevin(slope, x, step, n, generator()), {
            "half of the step goes along the score: the 2 is missing": chain(x, step, n, 1.0),
            "that is the same chain in steps of twice the size: the noise has variance `step`":
                chain(x, step, n, 1.0, (2 * step)**0.5),
            "the noise has variance `step`, so its factor is the root":
                chain(x, step, n, 0.5, step),
            "the noise has variance `step`, not twice it":
                chain(x, step, n, 0.5, (2 * step)**0.5),
            "the noise has variance `step`: it isn't scaled": chain(x, step, n, 0.5, 1.0),
            "the score isn't scaled by the step": chain(x, step, n, 1 / step),
            "the score isn't scaled by half of the step": chain(x, step, n, 0.5 / step),
            "uphill: the score points to where data is denser": chain(x, step, n, -0.5),
            "the score is missing: that is a walk without aim": chain(x, step, n, 0.0),
            "each step asks for the score where it is, not where the chain began":
                chain(x, step, n, frozen=True),
            "all steps got the same noise: each has its own": chain(x, step, n, fresh=False),
            "one step too few": chain(x, step, n - 1),
            "one step too many": chain(x, step, n + 1),
            "a quarter of the step goes along the score: half of it": chain(x, step, n, 0.25),
        }, inputs={"x": x}, where=f"{n} steps of {step}")


# ---- DDPM ----------------------------------------------------------------------------------------

def draw_ddpm(predict, schedule, noise, ts, generator):
    x = noise
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        sigma_t, sigma_s = schedule.sigma(t), schedule.sigma(s)
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = sigma_t**2 - keep**2 * sigma_s**2
        mean = (x - added / sigma_t * predict(x, t)) / keep
        std = added.sqrt() * sigma_s / sigma_t
        x = mean + std * torch.randn(x.shape, generator=generator, device=x.device)
    return x


# alpha^2 + sigma^2 is not 1, and sigma is 0 at the end
odd = schedules.Schedule(lambda t: 1.2 - t**2, lambda t: 1.5 * t)


def predicted(x, t):
    """A network's guess of the noise that is no exact one of anything."""
    return torch.sin(x + 2 * t) * (0.6 + t) + 0.2 * x.flip(-1)


def walked(schedule, x, ts, spread=None, pull=None, divide=True, fresh=True, at_end=False,
           sign=-1.0):
    """DDPM's loop with a likely mistake, with the noise of seed 0.

    spread and pull are functions of (sigma_t, sigma_s, keep, added): the noise's standard
    deviation, and what multiplies the guess.
    """
    source, one = generator(), torch.randn(x.shape, generator=generator())
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        sigma_t, sigma_s = schedule.sigma(t), schedule.sigma(s)
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = sigma_t**2 - keep**2 * sigma_s**2
        given = sigma_t, sigma_s, keep, added
        factor = pull(*given) if pull else added / sigma_t
        guess = predicted(x, s if at_end else t)
        mean = (x + sign * factor * guess) / (keep if divide else 1)
        std = spread(*given) if spread else added.sqrt() * sigma_s / sigma_t
        x = mean + std * (torch.randn(x.shape, generator=source) if fresh else one)
    return x


@check(reference=draw_ddpm, forbidden=[samplers.ddpm, samplers.ddim, samplers.ancestral_sd])
def check_draw_ddpm(answer):
    cases = (((3, 2, 4, 5), odd, torch.tensor([0.95, 0.6, 0.5, 0.2, 0.0])),
             ((2, 3, 2), schedules.linear, torch.linspace(1, 0, 7)))
    for shape, schedule, ts in cases:
        x = randn(*shape, seed=8)
        given = schedule, x, ts
        got = answer(predicted, *given, generator())
        # without noise no seed matters, so this is asked before seeds are
        without = walked(*given, spread=lambda a, b, k, v: 0 * v)
        if isinstance(got, torch.Tensor) and close(got, without):
            fail("no new noise: the mean alone is no sample")
        got = follows_generator(answer, lambda source, given=given: (predicted, *given, source))
        want = draw_ddpm(predicted, *given, generator())
        compare(got, want, likely_loops(*given), tol=1e-3, inputs={"noise": x},
                where=f"{len(ts) - 1} steps")
        answer.right += 1


def likely_loops(schedule, x, ts):
    """{cause: result} of DDPM's loop with a likely mistake."""
    def loop(**wrong):
        return walked(schedule, x, ts, **wrong)

    return {
        "the new noise has the variance v sigma_s^2 / sigma_t^2: that is v alone":
            loop(spread=lambda a, b, k, v: v.sqrt()),
        "the new noise's variance in the place of its standard deviation":
            loop(spread=lambda a, b, k, v: v * b**2 / a**2),
        "sigma_s and sigma_t changed places in the new noise":
            loop(spread=lambda a, b, k, v: v.sqrt() * a / b.clamp(min=1e-6)),
        "the new noise isn't scaled": loop(spread=lambda a, b, k, v: 1.0),
        "the new noise is that of time s": loop(spread=lambda a, b, k, v: b),
        "the guess is multiplied by v / sigma_t, not by sigma_t: that would take all of it":
            loop(pull=lambda a, b, k, v: a),
        "the guess is multiplied by v / sigma_t: that is v": loop(pull=lambda a, b, k, v: v),
        "the guess is multiplied by v / sigma_t, not by its root":
            loop(pull=lambda a, b, k, v: v.sqrt()),
        "the guess is multiplied by v / sigma_t: that is the step of the score, v / sigma_t^2":
            loop(pull=lambda a, b, k, v: v / a**2),
        "divide by k: the data was shrunk by it": loop(divide=False),
        "noise is taken away: the sign": loop(sign=1.0),
        "all steps got the same noise: each has its own": loop(fresh=False),
        "the network is asked at time t, where x is, not at s": loop(at_end=True),
        "one step is missing: the grid has len(ts) - 1 steps": walked(schedule, x, ts[:-1]),
        "that is `noise`, the start": x,
    }
