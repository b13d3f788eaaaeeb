"""The checks of lesson 05's DDIM: one step, and the loop."""

import torch

from minildm.course.exercises.fakes import randn, warped
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_05 import (
    WALKS,
    Counted,
    asked_once_per_step,
    curved,
    ends_of,
    path_case,
    posterior,
    whole_path,
)
from minildm.diffusion import samplers, schedules


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
        answer.case((schedule, x, x0, t, s), ddim_step(schedule, x, x0, t, s),
                    wrong_ddim_steps(schedule, x, x0, t, s), where=f"schedule: {name}")


def wrong_ddim_steps(schedule, x, x0, t, s) -> dict:
    """Where likely mistakes in a step of DDIM lead."""
    a, a_s, sd, sd_s = schedule.alpha(t), schedule.alpha(s), schedule.sigma(t), schedule.sigma(s)
    eps = (x - a * x0) / sd
    circle_s, circle_t = (1 - a_s**2).abs().sqrt(), (1 - a**2).abs().sqrt()
    return {
        "alpha and sigma are those of t: you go to s": x,
        "alpha is that of t: you go to s": a * x0 + sd_s * eps,
        "sigma is that of t: you go to s": a_s * x0 + sd * eps,
        "x0 isn't multiplied by alpha": x0 + sd_s * eps,
        "the noise isn't multiplied by sigma": a_s * x0 + eps,
        "not divided by sigma_t: this noise isn't of unit size": a_s * x0 + sd_s * sd * eps,
        "x0 isn't scaled in the noise: x - alpha_t x0": a_s * x0 + sd_s * (x - x0) / sd,
        "the noise is found with alpha and sigma of t, not of s":
            a_s * x0 + sd_s * (x - a_s * x0) / sd_s.clamp(min=1e-9),
        "sigma isn't always the root of 1 - alpha^2": a_s * x0 + circle_s * eps,
        "sigma isn't always the root of 1 - alpha^2, not at t either":
            a_s * x0 + circle_s * (x - a * x0) / circle_t.clamp(min=1e-9),
        "sigma isn't always t, nor alpha 1 - t": (1 - s) * x0 + s * (x - (1 - t) * x0) / t,
        "the sign of the noise is wrong": a_s * x0 - sd_s * eps,
        "x_t is no noise: take the data out of it": a_s * x0 + sd_s * x,
        "x and x0 changed places": ddim_step(schedule, x0, x, t, s),
        "t and s changed places": (x - a_s * x0) / sd_s.clamp(min=1e-9) * sd + a * x0,
        "alpha and sigma changed places": sd_s * x0 + a_s * eps,
        "that is the posterior's mean, DDPM's step": posterior(schedule, x, x0, t, s)[0],
        "that is the noise: x_s is wanted": eps,
        "the noise is missing": a_s * x0,
    }


def ddim(denoise, schedule, noise, ts):
    return whole_path(samplers.ddim(denoise, schedule, noise, ts), noise)


@check(reference=ddim, forbidden=[samplers.ddim, samplers.euler])
def check_ddim(answer):
    for where, schedule, shape, times in WALKS:
        noise, ts, counted = randn(*shape, seed=3), torch.tensor(times), Counted()
        want = ddim(curved, schedule, noise, ts)
        path_case(answer, (counted, schedule, noise, ts), want,
                  wrong_loops(schedule, noise, ts, want), where)
        asked_once_per_step(counted, 1, len(ts) - 1)


def wrong_loops(schedule, noise, ts, want) -> dict:
    """Where likely mistakes in the loop of DDIM lead."""
    def walk(step):
        path = [noise]
        for t, s in zip(ts[:-1], ts[1:], strict=True):
            path.append(step(path[-1], t, s))
        return torch.stack(path)

    first = curved(noise, ts[0])
    return ends_of(want) | {
        "denoise is asked anew in each step":
            walk(lambda x, t, s: ddim_step(schedule, x, first, t, s)),
        "denoise is asked at the time where x is, t, not at s":
            walk(lambda x, t, s: ddim_step(schedule, x, curved(x, s), t, s)),
        "each step goes on from where the last one ended":
            walk(lambda x, t, s: ddim_step(schedule, noise, curved(noise, t), t, s)),
        "times fall, from noise to data: these steps go up":
            ddim(curved, schedule, noise, ts.flip(0)),
        "these are the guesses: the path of x is wanted": torch.stack(
            [noise, *(curved(x, t) for x, t in zip(want[:-1], ts[:-1], strict=True))]),
    }
