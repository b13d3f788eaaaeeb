"""The checks of lesson 05."""

import torch

from minildm.course.exercises.legacy import compare, passed, randn
from minildm.diffusion import schedules

T, S, X, X0 = torch.tensor(0.7), torch.tensor(0.4), randn(3, 2), randn(3, 2, seed=1)  # a step: T to S


def check_posterior(f):
    a, a_s, sd, sd_s = (part(t) for part in schedules.cosine for t in (T, S))
    keep, beta = a / a_s * (sd_s / sd)**2, (1 - (a / a_s)**2).expand(X.shape)
    mean, variance = keep * X + (a_s - keep * a) * X0, (sd_s / sd)**2 * beta
    passed(compare("posterior", f(schedules.cosine, X, X0, T, S), torch.stack([mean, variance]), {
        "the variance is wanted, not its root": torch.stack([mean, variance.sqrt()]),
        "the variance is the forward step's: knowing x0 makes it smaller": torch.stack([mean, beta]),
        "x_t has data in it: alpha_s x0 is too much": torch.stack([keep * X + a_s * X0, variance])}))


def check_ddim_step(f):
    flow = schedules.flow
    a, a_s, sd, sd_s = (part(t) for part in flow for t in (T, S))
    passed(compare("ddim_step", f(flow, X, X0, T, S), a_s * X0 + sd_s * (eps := (X - a * X0) / sd), {
        "alpha and sigma are those of t: you go to s": X, "x0 isn't multiplied by alpha": X0 + sd_s * eps,
        "not divided by sigma_t: this noise isn't of unit size": a_s * X0 + sd_s * sd * eps,
        "sigma isn't always the root of 1 - alpha^2": a_s * X0 + (1 - a_s**2).sqrt() * eps}))


def check_eps_to_v(f):
    (a, sd), eps = (part(T) for part in schedules.cosine), X
    passed(compare("eps_to_v", f(schedules.cosine, x := a * X0 + sd * eps, eps, T), a * eps - sd * X0, {
        "the sign is wrong: noise has the plus": sd * X0 - a * eps, "x isn't x0": a * eps - sd * x,
        "alpha and sigma changed places": sd * eps - a * X0, "this is flow's velocity": eps - X0}))


def check_sample(f):
    def run(x, t, *ts):
        return run(x * t + x * ts[0] + t, *ts) if ts else x

    got = f(lambda x, x0, t, s: x0 + x * s + t, lambda x, t: x * t, X, 4)
    passed(compare("sample", got, run(X, 1, .75, .5, .25, 0), {
        "the last step, to 0, is missing": run(X, 1, .75, .5, .25), "begin at 1": run(X, .75, .5, .25, 0),
        "n steps pass n + 1 times": run(X, 1, 2 / 3, 1 / 3, 0), "too many": run(X, 1, .8, .6, .4, .2, 0)}))


def check_look_ahead(f):
    x0, before, (a, b, c) = X, X0, torch.tensor([-1.0, 0.2, 1.1])
    half = (c - b) / (b - a) / 2
    passed(compare("look_ahead", f(x0, before, a, b, c), x0 + half * (x0 - before), {
        "half a step: this goes a whole one": x0 + 2 * half * (x0 - before),
        "upside down: the step to come over the step before": x0 + (x0 - before) / half / 4,
        "back, not ahead: the sign": x0 - half * (x0 - before),
        "start from x0, not from before": before + half * (x0 - before),
        "the steps are not equally long: their ratio is missing": x0 + (x0 - before) / 2,
        "half way between both is in the past": (x0 + before) / 2,
        "this step's length over both together": x0 + (c - b) / (c - a) / 2 * (x0 - before)}))
