"""The checks of lesson 05's first half: Bayes' posterior, and the loop of DDPM."""

import contextlib

import torch

from minildm.course.exercises.answer import Answer
from minildm.course.exercises.compare import Wrong, compare, describe, fail
from minildm.course.exercises.fakes import follows_generator, generator, randn, warped
from minildm.course.exercises.harness import check
from minildm.diffusion import samplers, schedules
from minildm.diffusion.schedules import Schedule, expand

# alpha^2 + sigma^2 = 1, but neither cosine nor a table of betas
circle = Schedule(alpha=lambda t: (1 - (0.1 + 0.8 * t)**2).sqrt(), sigma=lambda t: 0.1 + 0.8 * t)

# ---- Bayes ---------------------------------------------------------------------------------------

def posterior(schedule, x, x0, t, s):
    a_t, a_s = schedule.alpha(t), schedule.alpha(s)
    sd_t, sd_s = schedule.sigma(t), schedule.sigma(s)
    kept = a_t / a_s
    added = sd_t**2 - (kept * sd_s)**2
    mean = (kept * sd_s**2 * x + added * a_s * x0) / sd_t**2
    return mean, added * sd_s**2 / sd_t**2


@check(reference=posterior, forbidden=[samplers.ddpm, samplers.ancestral_sd])
def check_posterior(answer):
    pair = stacked(answer)
    steps = [("flow", schedules.flow, 0.7, 0.4, (3, 2)),
             ("cosine", schedules.cosine, 0.913, 0.87, (2, 3, 5, 4)),
             ("another circle", circle, 0.93, 0.21, (4, 5)),
             ("cosine, to t = 0, where sigma is 0", schedules.cosine, 0.3, 0.0, (3, 4))]
    for name, schedule, t, s, shape in steps:
        posterior_case(pair, schedule, torch.tensor(t), torch.tensor(s), shape, name)


def stacked(answer):
    """The answer as a function that returns mean and variance in one tensor (2, ...)."""
    def both(*inputs):
        pair = answer(*inputs)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            fail(f"return two things, mean and variance: this is {describe(pair)}")
        x = inputs[1]
        mean, variance = (torch.as_tensor(part) for part in pair)
        if mean.shape != x.shape:
            fail(f"the mean is {tuple(mean.shape)}: it has the shape of x, {tuple(x.shape)}")
        if variance.numel() not in (1, x.numel()):
            fail(f"the variance is {tuple(variance.shape)}: one number is wanted")
        return torch.stack([mean, variance.to(mean).expand(x.shape)])

    return Answer(both, answer.names)


def posterior_case(pair, schedule, t, s, shape, name):
    """One call of an answer, with the mistakes that one can make in mean and variance."""
    x, x0 = randn(*shape), randn(*shape, seed=1)
    a, a_s, sd, sd_s = schedule.alpha(t), schedule.alpha(s), schedule.sigma(t), schedule.sigma(s)
    mean, variance = posterior(schedule, x, x0, t, s)

    def both(mean, variance):
        return torch.stack([mean, torch.as_tensor(variance).expand(shape)])

    likely = {cause: both(wrong, variance)
              for cause, wrong in wrong_means(x, x0, a, a_s, sd, sd_s).items()}
    for cause, wrong in wrong_variances(a, a_s, sd, sd_s).items():
        likely[cause] = both(mean, wrong)
    # back from the data there is no step
    if sd_s > 0:
        likely["t and s changed places"] = both(*posterior(schedule, x, x0, s, t))
    pair.case((schedule, x, x0, t, s), both(mean, variance), likely, where=f"schedule: {name}")


def wrong_means(x, x0, a, a_s, sd, sd_s) -> dict:
    """Wrong means of the posterior, by mistake."""
    kept = a / a_s
    added = sd**2 - (kept * sd_s)**2
    keep, wide = kept * (sd_s / sd)**2, kept * sd_s / sd
    return {
        "x_t has data in it already: alpha_s x0 is too much": keep * x + a_s * x0,
        "the data's share of the mean is missing: alpha_s":
            keep * x + added / sd**2 * x0,
        "the factor alpha_t / alpha_s is missing at x":
            (sd_s / sd)**2 * x + added / sd**2 * a_s * x0,
        "the weights of x and x0 are variances, not standard deviations":
            wide * x + (a_s - wide * a) * x0,
        "x and x0 changed places": keep * x0 + (a_s - keep * a) * x,
        "the mean is not divided by the sum of both weights, sigma_t^2":
            kept * sd_s**2 * x + added * a_s * x0,
        "the weights are exchanged: the surer of the two counts more":
            (kept * added * x + sd_s**2 * a_s * x0) / sd**2,
        "that is DDIM's step, which keeps all the noise": a_s * x0 + sd_s * (x - a * x0) / sd,
        "that is x_s without x_t: alpha_s x0": a_s * x0,
        "that is x_t taken back, without x0: x / (alpha_t / alpha_s)": x / kept,
    }


def wrong_variances(a, a_s, sd, sd_s) -> dict:
    """Wrong variances of the posterior, by mistake."""
    kept = a / a_s
    added = sd**2 - (kept * sd_s)**2
    right = added * sd_s**2 / sd**2
    found = {
        "the variance is the forward step's: knowing x0 makes it smaller": added,
        "sigma_s^2 is the variance without x_t: knowing x_t makes it smaller": sd_s**2,
        "variances of independent sources don't add here: precisions do": added + sd_s**2,
        "that is right where alpha^2 + sigma^2 = 1 only":
            (sd_s / sd)**2 * (1 - kept**2),
        "the noise that came in between is sigma_t^2 less what is left of sigma_s^2: "
        "that shrank, and variances shrink by the square":
            (sd**2 - kept * sd_s**2) * sd_s**2 / sd**2,
        "the noise that came in between is sigma_t^2 less what is left of sigma_s^2, which shrank "
        "on the way": (sd**2 - sd_s**2) * sd_s**2 / sd**2,
        "the ratio of sigmas is of squares": added * sd_s / sd,
    }
    if sd_s > 0:
        found["the variance is wanted, not its root"] = right.sqrt()
        found["that is the precision: the variance is 1 divided by it"] = 1 / right
    return {cause: wrong for cause, wrong in found.items() if (wrong - right).abs() > 1e-4}


# ---- loops ---------------------------------------------------------------------------------------

def curved(x, t):
    """A guess that depends on x and t, for loops: no constant could replace it."""
    return torch.cos(x) * (0.3 + expand(t, x))


def whole_path(steps, noise):
    return torch.stack([noise, *(step.x for step in steps)])


def ddpm(denoise, schedule, noise, ts, generator):
    return whole_path(samplers.ddpm(denoise, schedule, noise, ts, generator), noise)


# shapes, schedules and times: unequal steps, of which the last ends at the data or before
WALKS = (("flow, 4 steps", schedules.flow, (3, 2), (1.0, 0.8, 0.5, 0.3, 0.0)),
         ("an odd schedule, 3 steps", warped, (2, 3, 5, 4), (0.9, 0.65, 0.4, 0.2)),
         ("cosine, 1 step", schedules.cosine, (2, 5), (0.7, 0.25)))


class Counted:
    """The guess `curved`, counting how often it is asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self, x, t):
        self.asked += 1
        return curved(x, torch.as_tensor(t))


def ends_of(want) -> dict:
    """Parts of a path in place of all of it."""
    return {
        "the last step is missing": want[:-1],
        "the start, noise itself, is missing": want[1:],
        "that is the end alone: all of the path is wanted": want[-1],
    }


@contextlib.contextmanager
def first_steps_named():
    """Say of a path, whose first axis is its steps, that the first of them is wrong."""
    try:
        yield
    except Wrong as wrong:
        if "first of the batch" in str(wrong):
            fail("the path begins right, its first step ends in the wrong place")
        raise


def path_case(answer, inputs, want, likely, where):
    """`answer.case` for a whole path, (len(ts), ...)."""
    with first_steps_named():
        answer.case(inputs, want, likely, tol=1e-3, where=where)


def asked_once_per_step(counted, calls, n):
    if counted.asked != calls * n:
        fail(f"denoise was asked {counted.asked / calls:g} times in {n} steps: once in each")


@check(reference=ddpm, forbidden=[samplers.ddpm, samplers.ddim])
def check_ddpm(answer):
    for where, schedule, shape, times in WALKS:
        noise, ts, counted = randn(*shape, seed=3), torch.tensor(times), Counted()
        inputs, before = (counted, schedule, noise, ts), answer.calls
        got = follows_generator(answer, lambda source, inputs=inputs: (*inputs, source))
        want = ddpm(curved, schedule, noise, ts, generator())
        with first_steps_named():
            compare(got, want, wrong_walks(schedule, noise, ts, want), tol=1e-3,
                    inputs={"noise": noise}, where=where)
        asked_once_per_step(counted, answer.calls - before, len(ts) - 1)


def wrong_walks(schedule, noise, ts, want) -> dict:
    """Where likely mistakes in the loop of DDPM lead, with the noise of seed 0."""
    def walk(move, guess=curved):
        source, path = generator(), [noise]
        for t, s in zip(ts[:-1], ts[1:], strict=True):
            x = path[-1]
            mean, variance = posterior(schedule, x, guess(x, t), t, s)
            path.append(move(x, mean, variance, torch.randn(noise.shape, generator=source), t, s))
        return torch.stack(path)

    def drawn(x, mean, variance, fresh, t, s):
        return mean + variance.clamp(min=0).sqrt() * fresh

    first = curved(noise, ts[0])
    return ends_of(want) | {
        "the noise is multiplied by the standard deviation, not by the variance":
            walk(lambda x, mean, variance, fresh, t, s: mean + variance * fresh),
        "the noise is not scaled: its standard deviation is the posterior's":
            walk(lambda x, mean, variance, fresh, t, s: mean + fresh),
        "that is jump and noise again: alpha_s x0 + sigma_s fresh": walk(
            lambda x, mean, variance, fresh, t, s:
            schedule.alpha(s) * curved(x, t) + schedule.sigma(s) * fresh),
        "denoise is asked anew in each step": walk(drawn, lambda x, t: first),
        "denoise is asked at the time where x is, t, not at s": walk(
            lambda x, mean, variance, fresh, t, s: drawn(x, posterior(
                schedule, x, curved(x, s), t, s)[0], variance, fresh, t, s)),
        "each step goes on from where the last one ended": walk(
            lambda x, mean, variance, fresh, t, s: drawn(x, posterior(
                schedule, noise, curved(noise, t), t, s)[0], variance, fresh, t, s)),
    }
