"""The checks of lesson 05's second half: solvers of second order, and what networks may predict."""

import torch

from minildm.course.exercises.compare import compare, fail
from minildm.course.exercises.fakes import Network, randn, warped
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_05 import (
    WALKS,
    Counted,
    asked_once_per_step,
    curved,
    ends_of,
    path_case,
    whole_path,
)
from minildm.course.exercises.lesson_05_ddim import ddim, ddim_step
from minildm.diffusion import denoiser, samplers, schedules
from minildm.diffusion.schedules import log_snr

# ---- Heun ----------------------------------------------------------------------------------------

def heun(denoise, schedule, noise, ts):
    return whole_path(samplers.heun(denoise, schedule, noise, ts), noise)


@check(reference=heun, forbidden=[samplers.heun])
def check_heun(answer):
    for where, schedule, shape, times in WALKS:
        noise, ts, counted = randn(*shape, seed=3), torch.tensor(times), Counted()
        want = heun(curved, schedule, noise, ts)
        likely = wrong_heuns(schedule, noise, ts, want)
        path_case(answer, (counted, schedule, noise, ts), want, likely, where)
        # a step to the data asks once
        calls = 2 * (len(ts) - 1) - int(schedule.sigma(ts[-1]) == 0)
        if counted.asked != calls:
            fail(f"denoise was asked {counted.asked} times, {calls} are enough: twice per step, "
                 "and once where the step ends at sigma = 0")


def noise_in(schedule, x, x0, t):
    return (x - schedule.alpha(t) * x0) / schedule.sigma(t)


def change(schedule, x0, eps, t, s):
    """x0 d alpha + eps d sigma, with both constant from t to s."""
    d_alpha = schedule.alpha(s) - schedule.alpha(t)
    d_sigma = schedule.sigma(s) - schedule.sigma(t)
    return d_alpha * x0 + d_sigma * eps


def wrong_heuns(schedule, noise, ts, want) -> dict:
    """Where likely mistakes in Heun's method lead."""
    def walk(move):
        path = [noise]
        for t, s in zip(ts[:-1], ts[1:], strict=True):
            x, x0 = path[-1], curved(path[-1], t)
            end = ddim_step(schedule, x, x0, t, s)
            # nothing is asked at the data
            path.append(end if schedule.sigma(s) == 0 else move(x, x0, end, t, s))
        return torch.stack(path)

    def mean_change(x, x0, x0_end, eps_end, t, s):
        eps = (noise_in(schedule, x, x0, t) + eps_end) / 2
        return change(schedule, (x0 + x0_end) / 2, eps, t, s)

    def far(end, s):
        x0_end = curved(end, s)
        return x0_end, noise_in(schedule, end, x0_end, s)

    def guesses_only(x, x0, end, t, s):
        return ddim_step(schedule, x, (x0 + curved(end, s)) / 2, t, s)

    likely = ends_of(want) | {
        "that is DDIM: the second look is missing": ddim(curved, schedule, noise, ts),
        "the step begins at x again, not at its first end": walk(
            lambda x, x0, end, t, s: end + mean_change(x, x0, *far(end, s), t, s)),
        "the mean of both ends is wanted, not the far end alone": walk(
            lambda x, x0, end, t, s: x + change(schedule, *far(end, s), t, s)),
        "the sum of both ends: the mean is wanted": walk(
            lambda x, x0, end, t, s: x + 2 * mean_change(x, x0, *far(end, s), t, s)),
        "the noise is averaged too: with the mean guess alone, eps is not the mean of both":
            walk(guesses_only),
        "the second look is at the step's end, at time s": walk(
            lambda x, x0, end, t, s: x + mean_change(x, x0, *far(end, t), t, s)),
        "the second look is at the first end of the step, not at x again": walk(
            lambda x, x0, end, t, s: x + mean_change(x, x0, *far(x, s), t, s)),
    }
    return {cause: wrong for cause, wrong in likely.items() if wrong.isfinite().all()}


# ---- DPM-Solver++ 2M -----------------------------------------------------------------------------

def dpmpp_2m(denoise, schedule, noise, ts):
    return whole_path(samplers.dpmpp_2m(denoise, schedule, noise, ts), noise)


@check(reference=dpmpp_2m, forbidden=[samplers.dpmpp_2m, samplers.dpmpp_2m_sde])
def check_dpmpp_2m(answer):
    cases = (("5 steps to the data", schedules.cosine, (3, 2), (0.95, 0.8, 0.5, 0.3, 0.1, 0.0)),
             ("an odd schedule, 4 steps", warped, (2, 3, 5, 4), (0.9, 0.65, 0.5, 0.4, 0.2)),
             ("one step", schedules.flow, (2, 5), (0.7, 0.25)))
    for where, schedule, shape, times in cases:
        noise, ts, counted = randn(*shape, seed=3), torch.tensor(times), Counted()
        want = dpmpp_2m(curved, schedule, noise, ts)
        likely = wrong_2ms(schedule, noise, ts, want)
        path_case(answer, (counted, schedule, noise, ts), want, likely, where)
        asked_once_per_step(counted, 1, len(ts) - 1)
    # alpha(1) is -4e-8 on cosine; what stands in for its logarithm hardly matters
    noise, ts = randn(3, 2, seed=3), torch.tensor((1.0, 0.7, 0.4, 0.1))
    want = dpmpp_2m(curved, schedules.cosine, noise, ts)
    answer.case((curved, schedules.cosine, noise, ts), want, tol=0.1,
                where="cosine, from t = 1, where alpha is 0 up to rounding")


# what the guess x0 becomes, from the one before; old and new are the steps' lengths
WRONG_LINES = {
    "half a step ahead: this goes a whole one":
        lambda x0, before, old, new: x0 + new / old * (x0 - before),
    "upside down: the step to come over the step before":
        lambda x0, before, old, new: x0 + old / new / 2 * (x0 - before),
    "the steps are not equally long in ell: their ratio is missing":
        lambda x0, before, old, new: x0 + (x0 - before) / 2,
    "back, not ahead: the sign": lambda x0, before, old, new: x0 - new / old / 2 * (x0 - before),
    "start from x0, not from the guess before":
        lambda x0, before, old, new: before + new / old / 2 * (x0 - before),
    "divide by the length of the step before":
        lambda x0, before, old, new: x0 + new / 2 * (x0 - before),
    "half way between both guesses is in the past":
        lambda x0, before, old, new: (x0 + before) / 2,
}


def wrong_2ms(schedule, noise, ts, want) -> dict:
    """Where likely mistakes in DPM-Solver++ 2M lead."""
    half_log = log_snr(schedule, ts) / 2

    def walk(ahead, clock=half_log, remember_ahead=False):
        path, before = [noise], None
        for i, (t, s) in enumerate(zip(ts[:-1], ts[1:], strict=True)):
            x0 = used = curved(path[-1], t)
            # at first there is no past, and a step to the data has no end in ell
            if i > 0 and schedule.sigma(s) > 0:
                used = ahead(x0, before, clock[i] - clock[i - 1], clock[i + 1] - clock[i])
            path.append(ddim_step(schedule, path[-1], used, t, s))
            before = used if remember_ahead else x0
        return torch.stack(path)

    def right(x0, before, old, new):
        return x0 + new / old / 2 * (x0 - before)

    likely = ends_of(want) | {
        "that is DDIM: nothing is extrapolated": ddim(curved, schedule, noise, ts),
        **{cause: walk(line) for cause, line in WRONG_LINES.items()},
        "the line is over ell = log(alpha / sigma), not over t": walk(right, ts),
        "the line is over ell, the logarithm of the ratio":
            walk(right, schedule.alpha(ts) / schedule.sigma(ts)),
        "remember the guess itself, not the extrapolated one":
            walk(right, remember_ahead=True),
    }
    return {cause: wrong for cause, wrong in likely.items() if wrong.isfinite().all()}


# ---- what a network may predict ------------------------------------------------------------------

KINDS = "eps", "x0", "v", "flow"
KIND_CASES = ("an odd one", warped, 0.61, (4, 5)), ("flow", schedules.flow, 0.23, (2, 3, 5, 4))


def to_x0(kind, said, x, alpha, sigma):
    return denoiser.to_x0(kind, said, x, alpha, sigma)


def from_x0(kind, x0, x, alpha, sigma):
    eps = (x - alpha * x0) / sigma
    return denoiser.target(kind, x0, eps, alpha, sigma)


def mixture(schedule, t, shape):
    """Data, noise, their mixture at t, alpha and sigma."""
    x0, eps, t = randn(*shape, seed=1), randn(*shape), torch.tensor(t)
    a, sd = schedule.alpha(t), schedule.sigma(t)
    return x0, eps, a * x0 + sd * eps, a, sd


@check(reference=to_x0, forbidden=[denoiser.to_x0])
def check_to_x0(answer):
    for name, schedule, t, shape in KIND_CASES:
        x0, eps, x, a, sd = mixture(schedule, t, shape)
        for kind in KINDS:
            said = denoiser.target(kind, x0, eps, a, sd)
            likely = {
                "that is the noise": eps,
                "alpha and sigma changed places": (x - a * said) / sd,
                "that is right where alpha^2 + sigma^2 = 1 only": a * x - sd * said,
                "that is what the network said: the data is wanted": said,
            }
            if kind == "eps":
                likely["x is a sum: solve it for the data, dividing by alpha"] = x - sd * eps
            if kind == "flow":
                likely["that is right where alpha + sigma = 1 only"] = x - sd * said
            answer.case((kind, said, x, a, sd), x0, {
                f"{kind}: {cause}": wrong for cause, wrong in likely.items()},
                tol=1e-3, where=f"{kind}, schedule: {name}")


@check(reference=from_x0, forbidden=[denoiser.target])
def check_from_x0(answer):
    for name, schedule, t, shape in KIND_CASES:
        x0, eps, x, a, sd = mixture(schedule, t, shape)
        for kind in KINDS:
            want = denoiser.target(kind, x0, eps, a, sd)
            likely = {
                "x is no noise: solve for it": denoiser.target(kind, x0, x, a, sd),
                "the noise is (x - alpha x0) / sigma: the division is missing":
                    denoiser.target(kind, x0, sd * eps, a, sd),
                "the noise is (x - alpha x0) / sigma: the alpha is missing":
                    denoiser.target(kind, x0, (x - x0) / sd, a, sd),
                "the sign is wrong: noise has the plus": -want,
                "alpha and sigma changed places": sd * eps - a * x0,
                "that is flow's velocity, noise - data": eps - x0,
                "that is v, alpha noise - sigma data": a * eps - sd * x0,
                "that is the noise": eps,
                "that is the data": x0,
            }
            answer.case((kind, x0, x, a, sd), want, {
                f"{kind}: {cause}": wrong for cause, wrong in likely.items()},
                tol=1e-3, where=f"{kind}, schedule: {name}")


def from_flow(network, schedule):
    def denoise(x, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        total = alpha + sigma
        at = sigma / total
        return to_x0("flow", network(x / total, at), x / total, 1 - at, at)

    return denoise


@check(reference=from_flow)
def check_from_flow(answer):
    cases = (("cosine", schedules.cosine, 0.3, (3, 2, 5, 4)), ("flow", schedules.flow, 0.6, (3, 2)),
             ("an odd one", warped, 0.8, (2, 4)))
    for name, schedule, t, shape in cases:
        network, x, t = Network(), randn(*shape), torch.tensor(t)
        denoise = answer.wrap(answer(network, schedule), "a function denoise(x, t)", ("x", "t"))
        want = from_flow(Network(), schedule)(x, t)
        compare(denoise(x, t), want, wrong_schedules(schedule, x, t), tol=1e-3, inputs={"x": x},
                where=f"asked on {name}")


def wrong_schedules(schedule, x, t) -> dict:
    """Where likely mistakes in a change of schedule lead."""
    alpha, sigma, network = schedule.alpha(t), schedule.sigma(t), Network()
    total = alpha + sigma
    at = sigma / total
    said = network(x / total, at)
    return {
        "the network is asked at the time of flow, sigma / (alpha + sigma), not at t":
            x / total - at * network(x / total, t),
        "x is too large or too small for flow: divide it by alpha + sigma":
            x - at * network(x, at),
        "the network says noise - data: the data is wanted": said,
        "that is x on flow's line: subtract the noise's share of what the network said": x / total,
        "the x of flow's line belongs to this velocity, not the x of the other schedule":
            x - at * said,
        "the alpha and sigma of flow's line belong to this velocity":
            (x / total - sigma * said) / total,
        "alpha and sigma changed places":
            x / total - alpha / total * network(x / total, alpha / total),
        "the sign is wrong: what the network said is subtracted": x / total + at * said,
    }
