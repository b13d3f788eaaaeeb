"""Lesson 11's checks of inversion and FlowEdit: right answers in any style pass; wrong ones are told why."""

import re

import pytest
from support.answers import cases, changed, passes, told, written

from minildm.course.exercises import lesson_11_back
from minildm.diffusion import editing, samplers
from minildm.diffusion.schedules import add_noise, flow

HELPERS = {"step_back": lesson_11_back.step_back, "ddim": samplers.ddim, "last": samplers.last,
           "add_noise": add_noise, "flow": flow}
BACK = """
    a_s, sd_s = schedule.alpha(s), schedule.sigma(s)
    a_t, sd_t = schedule.alpha(t), schedule.sigma(t)
    x0 = denoise(x_s, s)
    eps = (x_s - a_s * x0) / sd_s
    x_t = a_t * x0 + sd_t * eps
    for _ in range(sweeps):
        x0 = denoise(x_t, t)
        eps = (x_t - a_t * x0) / sd_t
        x_t = x_s + (a_t - a_s) * x0 + (sd_t - sd_s) * eps
    return x_t
"""
WHOLE = """
    x, times = latents, ts.flip(0)
    for s, t in zip(times[:-1], times[1:]):
        x = step_back(denoise, schedule, x, s, t, sweeps)
    return x
"""
EDIT = """
    edited = latents
    for t, s in zip(ts[:-1], ts[1:]):
        total = torch.zeros_like(latents)
        for _ in range(draws):
            noise = torch.randn(latents.shape, generator=generator)
            x = (1 - t) * latents + t * noise
            y = x + edited - latents
            total = total + (y - target(y, t)) / t - (x - source(x, t)) / t
        edited = edited + (s - t) * total / draws
    return edited
"""

RIGHT = [
    ("step_back", BACK),
    ("step_back", """
        alpha, sigma = schedule
        def parts(x, time):
            x0 = denoise(x, time)
            return x0, (x - alpha(time) * x0) / sigma(time)
        x0, eps = parts(x_s, s)
        for sweep in range(sweeps + 1):
            x_t = x_s + (alpha(t) - alpha(s)) * x0 + (sigma(t) - sigma(s)) * eps
            if sweep < sweeps:
                x0, eps = parts(x_t, t)
        return x_t
     """),
    ("step_back", """
        x, time = x_s, s
        for _ in range(1 + sweeps):
            x0 = denoise(x, time)
            noise = (x - schedule.alpha(time) * x0) / schedule.sigma(time)
            x = (x_s + (schedule.alpha(t) - schedule.alpha(s)) * x0
                 + (schedule.sigma(t) - schedule.sigma(s)) * noise)
            time = t
        return x
     """),
    ("invert", WHOLE),
    ("invert", """
        x = latents
        for i in reversed(range(1, len(ts))):
            x = step_back(denoise, schedule, x, ts[i], ts[i - 1], sweeps)
        return x
     """),
    ("flow_edit", EDIT),
    ("flow_edit", """
        move = torch.zeros_like(latents)
        for t, s in zip(ts, ts[1:]):
            speeds = []
            for _ in range(draws):
                noise = torch.randn(latents.shape, generator=generator)
                x = add_noise(flow, latents, noise, t)
                speeds.append((move - target(x + move, t) + source(x, t)) / t)
            move = move + (s - t) * torch.stack(speeds).mean(0)
        return latents + move
     """),
    ("flow_edit", """
        z = latents.clone()
        for i in range(len(ts) - 1):
            t, share = ts[i], (ts[i] - ts[i + 1]) / ts[i] / draws
            step = 0
            for _ in range(draws):
                x = torch.lerp(latents, torch.randn(latents.shape, generator=generator), t)
                step = step + (z - latents) - target(z - latents + x, t) + source(x, t)
            z -= share * step
        return z
     """),
]


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    passes(name, written(name, body, HELPERS))


def back(*swaps):
    return changed(BACK, *swaps)


def edit(*swaps):
    return changed(EDIT, *swaps)


SWEEP = "        x_t = x_s + (a_t - a_s) * x0 + (sd_t - sd_s) * eps"
WRONG = [
    ("step_back", "time rises", back(("denoise(x_s, s)", "denoise(x_s, t)"),
                                     ("eps = (x_s - a_s * x0) / sd_s", "eps = (x_s - a_t * x0) / sd_t"),
                                     ("x_t = a_t * x0 + sd_t * eps", "x_t = a_s * x0 + sd_s * eps"))),
    ("step_back", "told s", back(("denoise(x_s, s)", "denoise(x_s, t)"))),
    ("step_back", "divide by sigma(s)", back(("(x_s - a_s * x0) / sd_s", "(x_s - a_t * x0) / sd_s"))),
    ("step_back", "not x0", back(("(x_s - a_s * x0) / sd_s", "(x_s - x0) / sd_s"))),
    ("step_back", "divided by sigma(s)", back(("(x_s - a_s * x0) / sd_s", "x_s - a_s * x0"))),
    ("step_back", "sigma(t) there", back(("x_t = a_t * x0 + sd_t * eps", "x_t = a_t * x0 + sd_s * eps"))),
    ("step_back", "alpha(t) there", back(("x_t = a_t * x0 + sd_t * eps", "x_t = a_s * x0 + sd_t * eps"))),
    ("step_back", "not always 1 - t", back(("x_t = a_t * x0 + sd_t * eps",
                                            "x_t = (1 - t) * x0 + t * (x_s - (1 - s) * x0) / s"))),
    ("step_back", "the noise is missing", back(("x_t = a_t * x0 + sd_t * eps", "x_t = x0"))),
    ("step_back", "no sweep is asked for", back(("range(sweeps)", "range(max(1, sweeps))"))),
    ("step_back", "sweeps are missing", back(("range(sweeps)", "range(0)"))),
    ("step_back", "too few", back(("range(sweeps)", "range(max(0, sweeps - 1))"))),
    ("step_back", "too many", back(("range(sweeps)", "range(sweeps + 1 if sweeps else 0)"))),
    ("step_back", "starts from x_s again", back((SWEEP, SWEEP.replace("x_s +", "x_t +")))),
    ("step_back", "is told t", back(("denoise(x_t, t)", "denoise(x_t, s)"),
                                    )),
    ("step_back", "not of x_s", back((SWEEP, "        x_t = a_t * x0 + sd_t * (x_s - a_s * x0) / sd_s"))),
    ("step_back", "divide by sigma(t)", back(("eps = (x_t - a_t * x0) / sd_t",
                                              "eps = (x_t - a_s * x0) / sd_s"))),
    ("step_back", "not about the first one again", back(
        ("    for _", "    first = x_t\n    for _"), ("denoise(x_t, t)", "denoise(first, t)"),
        ("(x_t - a_t * x0)", "(first - a_t * x0)"))),
    ("step_back", "sign of the step", back((
        SWEEP, "        x_t = x_s - (a_t - a_s) * x0 - (sd_t - sd_s) * eps"))),
    ("step_back", "alpha's part", back((SWEEP, "        x_t = x_s + (sd_t - sd_s) * eps"))),
    ("step_back", "sigma's part", back((SWEEP, "        x_t = x_s + (a_t - a_s) * x0"))),
    ("step_back", "in place", back(("x0 = denoise(x_s, s)", "x0 = denoise(x_s, s)\n    x_s -= 0 * x_s + 1"))),
    ("step_back", "`x_s`, unchanged", "return x_s"),
    ("invert", "begin at the grid's last time", changed(
        WHOLE, ("ts.flip(0)", "ts"), ("step_back(denoise, schedule, x, s, t, sweeps)",
                                      "step_back(denoise, schedule, x, s, t, 0)"))),
    ("invert", "until the grid's first time", changed(WHOLE, ("times[:-1], times[1:]",
                                                              "times[:-2], times[1:-1]"))),
    ("invert", "step from the grid's last time", changed(WHOLE, ("times[:-1], times[1:]",
                                                                 "times[1:-1], times[2:]"))),
    ("invert", "not handed on", changed(WHOLE, ("sweeps)", "0)"))),
    ("invert", "one step over the whole way",
     "return step_back(denoise, schedule, latents, ts[-1], ts[0], sweeps) + 0"),
    ("invert", "`latents`, unchanged", "return latents"),
    ("flow_edit", "changed places", edit(
        ("target(y", "tmp(y"), ("source(x", "target(x"), ("tmp(y", "source(y"))),
    ("flow_edit", "target's is missing", edit(("target(y", "source(y"))),
    ("flow_edit", "share the noise", edit(
        ("y = x + edited - latents", "y = (1 - t) * latents + edited - latents\n"
         "            y = y + t * torch.randn(latents.shape, generator=generator)"))),
    ("flow_edit", "plus the edit so far, edited", edit(("y = x + edited - latents", "y = x"))),
    ("flow_edit", "shrunk by 1 - t", edit(("y = x + edited - latents", "y = (1 - t) * edited + t * noise"))),
    ("flow_edit", "sees noise as well", edit(("y = x + edited - latents", "y = edited"))),
    ("flow_edit", "edit is subtracted", edit(("y = x + edited - latents", "y = x - edited + latents"))),
    ("flow_edit", "target minus source", edit(("(y - target(y, t)) / t - (x - source(x, t)) / t",
                                               "(x - source(x, t)) / t - (y - target(y, t)) / t"))),
    ("flow_edit", "sign is wrong", edit(("(s - t)", "(t - s)"))),
    ("flow_edit", "difference of the guesses", edit(("(y - target(y, t)) / t - (x - source(x, t)) / t",
                                                     "target(y, t) - source(x, t)"))),
    ("flow_edit", "divided by t", edit(("(y - target(y, t)) / t - (x - source(x, t)) / t",
                                        "(y - target(y, t)) - (x - source(x, t))"))),
    ("flow_edit", "not by s", edit(("(y - target(y, t)) / t - (x - source(x, t)) / t",
                                    "(y - target(y, t)) / s - (x - source(x, t)) / s"))),
    ("flow_edit", "source's velocity is missing", edit((" - (x - source(x, t)) / t", ""))),
    ("flow_edit", "two places", edit(("(y - target(y, t)) / t", "(x - target(y, t)) / t"))),
    ("flow_edit", "not 0", edit(("return edited", "return edited - latents"))),
    ("flow_edit", "not the sum", edit((" / draws", ""))),
    ("flow_edit", "each has its own", edit(("for _ in range(draws):", "for _ in range(1):"),
                                           (" / draws", ""))),
    ("flow_edit", "global generator", edit((", generator=generator", ""))),
    ("flow_edit", "another seed", edit(
        ("generator=generator", "generator=torch.Generator().manual_seed(0)"))),
    ("flow_edit", "in place", edit(("edited = latents", "edited = latents\n    latents += 1"))),
]


@pytest.mark.parametrize("name, cause, body", cases(WRONG))
def test_wrong_answers_are_told_why(name, cause, body):
    message = told(name, written(name, body, HELPERS))
    assert re.search(re.escape(cause), message), message


@pytest.mark.parametrize("name, function", [
    ("invert", lambda denoise, schedule, latents, ts, sweeps: samplers.last(
        editing.invert(denoise, schedule, latents, ts, sweeps)) + 0),
    ("flow_edit", lambda source, target, latents, ts, draws, generator: samplers.last(
        editing.flow_edit(source, target, flow, latents, ts, 1.0, draws, generator)) * 1)])
def test_the_packages_own_is_not_taken(name, function):
    assert "package" in told(name, function)
