"""The checks of lesson 05."""

import torch

from minildm.course.exercises.compare import fail
from minildm.course.exercises.fakes import randn, warped
from minildm.course.exercises.harness import check
from minildm.diffusion import samplers, schedules
from minildm.diffusion.schedules import Schedule, expand

# alpha^2 + sigma^2 = 1, as the posterior wants it, but neither cosine nor a table of betas
circle = Schedule(alpha=lambda t: (1 - (0.1 + 0.8 * t)**2).sqrt(), sigma=lambda t: 0.1 + 0.8 * t)


def posterior(schedule, x, x0, t, s):
    a_t, a_s = schedule.alpha(t), schedule.alpha(s)
    sd_t, sd_s = schedule.sigma(t), schedule.sigma(s)
    keep = a_t / a_s * (sd_s / sd_t)**2
    mean = keep * x + (a_s - keep * a_t) * x0
    variance = (sd_s / sd_t)**2 * (1 - (a_t / a_s)**2)
    return torch.stack([mean, variance.expand(x.shape)])


def variance_mistakes(a, a_s, sd, sd_s) -> dict:
    """Wrong variances of the posterior, by mistake."""
    factor = (sd_s / sd)**2
    forward = 1 - (a / a_s)**2
    right = factor * forward
    return {
        "the variance is wanted, not its root": right.sqrt(),
        "the variance is wanted, not its logarithm": right.log(),
        "the variance is the forward step's: knowing x0 makes it smaller": forward,
        "sigma_s^2 is the variance without x_t: knowing x_t makes it smaller": sd_s**2,
        "the variance's ratio of sigmas is of squares": factor.sqrt() * forward,
        "the variance's ratio of sigmas is upside down": forward / factor,
        "the variance's ratio of alphas is of squares": factor * (1 - a / a_s),
        "the variance's ratio of alphas is upside down": factor * (1 - (a_s / a)**2),
    }


@check(reference=posterior, forbidden=[samplers.ddpm])
def check_posterior(answer):
    # all with alpha^2 + sigma^2 = 1, for which the lesson's formula of the variance holds
    steps = [("cosine", schedules.cosine, 0.7, 0.4, (3, 2)),
             ("DDPM's betas", schedules.linear, 0.413, 0.386, (2, 3, 5, 4)),
             ("another circle", circle, 0.93, 0.21, (4, 5))]
    for name, schedule, t, s, shape in steps:
        t, s = torch.tensor(t), torch.tensor(s)
        x, x0 = randn(*shape), randn(*shape, seed=1)
        a, a_s = schedule.alpha(t), schedule.alpha(s)
        sd, sd_s = schedule.sigma(t), schedule.sigma(s)
        keep = a / a_s * (sd_s / sd)**2
        wide = a / a_s * sd_s / sd
        want = posterior(schedule, x, x0, t, s)
        mean, variance = want
        wrong_means = {
            "x_t has data in it: alpha_s x0 is too much": keep * x + a_s * x0,
            "x0 isn't multiplied by what is left for it": keep * x + x0,
            "x0's factor is alpha_s - keep alpha_t": keep * x + (1 - keep) * x0,
            "x0's factor is alpha_s - keep alpha_t, not alpha_s (1 - keep)":
                keep * x + a_s * (1 - keep) * x0,
            "keep has the ratio of sigmas squared": wide * x + (a_s - wide * a) * x0,
            "x and x0 changed places": keep * x0 + (a_s - keep * a) * x,
            "that is DDIM's step, which has no variance": ddim_step(schedule, x, x0, t, s),
            "that is x_s without x_t: alpha_s x0": a_s * x0,
        }
        likely = {cause: torch.stack([wrong, variance]) for cause, wrong in wrong_means.items()}
        for cause, wrong in variance_mistakes(a, a_s, sd, sd_s).items():
            likely[cause] = torch.stack([mean, wrong.expand(shape)])
        answer.case((schedule, x, x0, t, s), want, likely | {
            "t and s changed places": posterior(schedule, x, x0, s, t),
            "first the mean, then the variance": torch.stack([variance, mean]),
            "the variance is missing": mean,
            "the mean is missing": variance,
        }, where=f"schedule: {name}")


def ddim_step(schedule, x, x0, t, s):
    eps = (x - schedule.alpha(t) * x0) / schedule.sigma(t)
    return schedule.alpha(s) * x0 + schedule.sigma(s) * eps


@check(reference=ddim_step, forbidden=[samplers.ddim, samplers.euler])
def check_ddim_step(answer):
    # on flow the root of 1 - alpha^2 is no sigma; a step to t = 0 must not divide by sigma_s
    steps = [("flow", schedules.flow, 0.7, 0.4, (3, 2)),
             ("cosine", schedules.cosine, 0.913, 0.37, (2, 3, 5, 4)),
             ("an odd one", warped, 0.53, 0.51, (4, 5)),
             ("cosine, to 0", schedules.cosine, 0.21, 0.0, (3, 4))]
    for name, schedule, t, s, shape in steps:
        t, s = torch.tensor(t), torch.tensor(s)
        x, x0 = randn(*shape), randn(*shape, seed=1)
        a, a_s = schedule.alpha(t), schedule.alpha(s)
        sd, sd_s = schedule.sigma(t), schedule.sigma(s)
        eps = (x - a * x0) / sd
        circle_s, circle_t = (1 - a_s**2).abs().sqrt(), (1 - a**2).abs().sqrt()
        answer.case((schedule, x, x0, t, s), a_s * x0 + sd_s * eps, {
            "alpha and sigma are those of t: you go to s": x,
            "alpha is that of t: you go to s": a * x0 + sd_s * eps,
            "sigma is that of t: you go to s": a_s * x0 + sd * eps,
            "x0 isn't multiplied by alpha": x0 + sd_s * eps,
            "the noise isn't multiplied by sigma": a_s * x0 + eps,
            "not divided by sigma_t: this noise isn't of unit size": a_s * x0 + sd_s * sd * eps,
            "x0 isn't scaled in the noise: x - alpha_t x0":
                a_s * x0 + sd_s * (x - x0) / sd,
            "the noise is found with alpha and sigma of t, not of s":
                a_s * x0 + sd_s * (x - a_s * x0) / sd_s.clamp(min=1e-9),
            "sigma isn't always the root of 1 - alpha^2": a_s * x0 + circle_s * eps,
            "sigma isn't always the root of 1 - alpha^2, not at t either":
                a_s * x0 + circle_s * (x - a * x0) / circle_t.clamp(min=1e-9),
            "sigma isn't always t, nor alpha 1 - t":
                (1 - s) * x0 + s * (x - (1 - t) * x0) / t,
            "the sign of the noise is wrong": a_s * x0 - sd_s * eps,
            "x_t is no noise: take the data out of it": a_s * x0 + sd_s * x,
            "x and x0 changed places": ddim_step(schedule, x0, x, t, s),
            "t and s changed places":
                (x - a_s * x0) / sd_s.clamp(min=1e-9) * sd + a * x0,
            "alpha and sigma changed places": sd_s * x0 + a_s * eps,
            "that is the posterior's mean, DDPM's step": posterior(schedule, x, x0, t, s)[0],
            "that is the noise: x_s is wanted": eps,
            "the noise is missing": a_s * x0,
        }, where=f"schedule: {name}")


def eps_to_v(schedule, x, eps, t):
    a, sd = schedule.alpha(t), schedule.sigma(t)
    x0 = (x - sd * eps) / a
    return a * eps - sd * x0


@check(reference=eps_to_v)
def check_eps_to_v(answer):
    # the odd schedule first, so that what holds for alpha^2 + sigma^2 = 1 alone is named
    cases = [("an odd one", warped, 0.61, (4, 5)),
             ("cosine", schedules.cosine, 0.7, (3, 2)),
             ("flow", schedules.flow, 0.23, (2, 3, 5, 4))]
    for name, schedule, t, shape in cases:
        t = torch.tensor(t)
        a, sd = schedule.alpha(t), schedule.sigma(t)
        x0, eps = randn(*shape, seed=1), randn(*shape)
        x = a * x0 + sd * eps
        answer.case((schedule, x, eps, t), a * eps - sd * x0, {
            "the sign is wrong: noise has the plus": sd * x0 - a * eps,
            "both have the plus: data has the minus": a * eps + sd * x0,
            "x isn't x0": a * eps - sd * x,
            "alpha and sigma changed places": sd * eps - a * x0,
            "this is flow's velocity": eps - x0,
            "x0 = (x - sigma eps) / alpha: the division is missing": a * eps - sd * a * x0,
            "x0 = (x - sigma eps) / alpha: the sigma is missing":
                a * eps - sd * (x - eps) / a,
            "x0 = (x - sigma eps) / alpha: minus, not plus":
                a * eps - sd * (x + sd * eps) / a,
            "x0 = (x - alpha eps) / sigma has them the wrong way round":
                a * eps - sd * (x - a * eps) / sd,
            "that is right where alpha^2 + sigma^2 = 1 only": (eps - sd * x) / a,
            "alpha is missing": eps - sd * x0,
            "sigma is missing": a * eps - x0,
            "that is x0": x0,
            "eps and x changed places": eps_to_v(schedule, eps, x, t),
            "v = alpha noise - sigma data, without squares":
                a**2 * eps - sd**2 * x0,
        }, where=f"schedule: {name}")


class Walk:
    """A denoiser and a step that depend on all their arguments; it counts how often it is asked."""

    def __init__(self):
        self.asked = 0

    def denoise(self, x, t):
        self.asked += 1
        return torch.cos(x) * expand(t, x)

    def step(self, x, x0, t, s):
        return x0 + x * expand(s, x) + 0.5 * expand(t, x)

    def along(self, x, ts):
        """x after the steps from one time to the next."""
        for t, s in zip(ts[:-1], ts[1:], strict=True):
            x = self.step(x, self.denoise(x, t), t, s)
        return x


def sample(step, denoise, noise, n):
    x = noise
    ts = torch.linspace(1, 0, n + 1)
    for i in range(n):
        x = step(x, denoise(x, ts[i]), ts[i], ts[i + 1])
    return x


@check(reference=sample, forbidden=[samplers.ddim, samplers.ddpm, samplers.euler])
def check_sample(answer):
    # one step, too, and numbers of steps of which 1 / n is no power of 2
    for n, shape in (4, (3, 2)), (1, (2, 5)), (7, (3, 2, 5, 4)), (49, (2, 3)):
        x, walk, counted = randn(*shape), Walk(), Walk()
        ts = torch.linspace(1, 0, n + 1)
        inner = torch.linspace(1, 0, n + 2)
        once = walk.denoise(x, ts[0])
        stale, frozen = x, x
        for t, s in zip(ts[:-1], ts[1:], strict=True):
            stale = walk.step(stale, once, t, s)
            frozen = walk.step(x, walk.denoise(x, t), t, s)
        answer.case((counted.step, counted.denoise, x, n), walk.along(x, ts), {
            "the last step, to 0, is missing": walk.along(x, ts[:-1]),
            "begin at 1": walk.along(x, ts[1:]),
            "n steps pass n + 1 times":
                walk.along(x, torch.linspace(1, 0, max(n, 2))),
            "too many": walk.along(x, inner),
            "from 1 down to 0, not up": walk.along(x, ts.flip(0)),
            "the last step ends at 0, not at 1 / n":
                walk.along(x, torch.linspace(1, 1 / n, n + 1)),
            "denoise is asked anew in each step": stale,
            "each step goes on from where the last one ended": frozen,
            "the last guess: the last step's x is wanted":
                walk.denoise(walk.along(x, ts[:-1]), ts[-2]),
            "one step only":
                walk.along(x, ts[[0, -1]]),
            "that is the first guess": once,
        }, where=f"{n} steps")
        if counted.asked != n:
            fail(f"denoise was asked {counted.asked} times in {n} steps: once in each")


def look_ahead(x0, before, lam_before, lam, lam_next):
    slope = (x0 - before) / (lam - lam_before)
    return x0 + slope * (lam_next - lam) / 2


@check(reference=look_ahead, forbidden=[samplers.dpmpp_2m])
def check_look_ahead(answer):
    # steps of unequal lengths, shorter and longer than the one before
    for times, shape in ((-1.0, 0.2, 1.1), (3, 2)), ((0.4, 0.7, 2.3), (2, 3, 5, 4)):
        x0, before = randn(*shape), randn(*shape, seed=1)
        a, b, c = torch.tensor(times)
        old, new = b - a, c - b
        way = x0 - before
        half = new / old / 2
        answer.case((x0, before, a, b, c), x0 + half * way, {
            "half a step: this goes a whole one": x0 + 2 * half * way,
            "half a step, not a quarter": x0 + half / 2 * way,
            "upside down: the step to come over the step before": x0 + way / half / 4,
            "upside down, and a whole step": x0 + old / new * way,
            "back, not ahead: the sign": x0 - half * way,
            "start from x0, not from before": before + half * way,
            "the steps are not equally long: their ratio is missing": x0 + way / 2,
            "divide by the step before": x0 + new * way / 2,
            "multiply by the step to come": x0 + way / old / 2,
            "half way between both is in the past": (x0 + before) / 2,
            "this step's length over both together":
                x0 + new / (c - a) / 2 * way,
            "the step to come is lam_next - lam, not lam_next - lam_before":
                x0 + (c - a) / old / 2 * way,
            "these are the differences of lam, not lam itself": x0 + c / b / 2 * way,
            "x0 and before changed places": before - half * way,
            "that is the change: x0 is where it starts": half * way,
            "that is the slope": way / old,
            "the start is x0, once": (1 + half) * x0 + half * before,
        }, where=f"lam {times}")
