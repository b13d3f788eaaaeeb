"""The checks of lesson 11's second half: the sampler backwards, and the edit by two prompts."""

import torch

from minildm.course.exercises.compare import compare
from minildm.course.exercises.fakes import follows_generator, generator, randn, warped
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_00 import wave
from minildm.course.exercises.lesson_00_loop import silent
from minildm.course.exercises.lesson_11 import at, ddim_step
from minildm.diffusion import editing, samplers, schedules

# ---- backwards -----------------------------------------------------------------------------------


def step_back(denoise, schedule, x_s, s, t, sweeps):
    return editing.step_back(denoise, schedule, x_s, s, t, sweeps)[0]


BACKWARDS = [editing.step_back, editing.invert, editing.edit_by_inversion]


@check(reference=step_back, forbidden=BACKWARDS)
def check_step_back(answer):
    for schedule, s, t, shape, where in (
            (warped, 0.2, 0.35, (3, 2, 5, 4), "an odd schedule"),
            (schedules.flow, 0.3, 0.4, (2, 3, 4, 5), "flow"),
            (schedules.cosine, 0.5, 0.6, (4, 1, 3), "cosine")):
        x, s, t = randn(*shape), torch.tensor(s), torch.tensor(t)
        for sweeps in 0, 3, 1:
            back_case(answer, schedule, x, s, t, sweeps, f"{where}, {sweeps} sweeps")


def back_case(answer, schedule, x, s, t, sweeps, where):
    # a mistake in the plain step would drown those in the sweeps
    plain = step_back(wave, schedule, x, s, t, 0)
    likely = wrong_plain_steps(schedule, x, s, t)
    if sweeps:
        likely = wrong_sweeps(schedule, x, s, t, sweeps, plain)
    answer.case((wave, schedule, x, s, t, sweeps), step_back(wave, schedule, x, s, t, sweeps),
                likely, where=where)


def wrong_plain_steps(schedule, x, s, t):
    (a_s, sd_s), (a_t, sd_t) = at(schedule, s), at(schedule, t)
    x0, told_t = wave(x, s), wave(x, t)
    eps = (x - a_s * x0) / sd_s
    return {
        "that goes from t to s: here time rises, from s to t": ddim_step(schedule, x, told_t, t, s),
        "x_s has the time s, so denoise is told s": ddim_step(schedule, x, told_t, s, t),
        "the noise in x_s: take alpha(s) x0 out and divide by sigma(s)":
            a_t * x0 + sd_t * (x - a_t * x0) / sd_s,
        "x_s holds alpha(s) x0, not x0": a_t * x0 + sd_t * (x - x0) / sd_s,
        "the noise in x_s is divided by sigma(s)": a_t * x0 + sd_t * (x - a_s * x0),
        "the step ends at t: sigma(t) there": a_t * x0 + sd_s * eps,
        "the step ends at t: alpha(t) there": a_s * x0 + sd_t * eps,
        "alpha and sigma are the schedule's: they are not always 1 - t and t":
            (1 - t) * x0 + t * (x - (1 - s) * x0) / s,
        "that is the guess: the noise is missing": x0,
        "no sweep is asked for: the plain step alone": step_back(wave, schedule, x, s, t, 1),
    }


def wrong_sweeps(schedule, x, s, t, sweeps, plain):
    (a_s, sd_s), (a_t, sd_t) = at(schedule, s), at(schedule, t)

    def swept(change, n=sweeps):
        x_t = plain
        for _ in range(n):
            x_t = change(x_t, wave(x_t, t))
        return x_t

    # the right one, and three that mix up the two ends
    def from_x_s(x_t, x0):
        return x + (a_t - a_s) * x0 + (sd_t - sd_s) * (x_t - a_t * x0) / sd_t

    def from_x_t(x_t, x0):
        return x_t + (a_t - a_s) * x0 + (sd_t - sd_s) * (x_t - a_t * x0) / sd_t

    def noise_of_x_s(x_t, x0):
        return a_t * x0 + sd_t * (x - a_s * x0) / sd_s

    def levels_of_s(x_t, x0):
        return x + (a_t - a_s) * x0 + (sd_t - sd_s) * (x_t - a_s * x0) / sd_s

    return {
        "that is the plain step: the sweeps are missing": plain,
        "one sweep too few": swept(from_x_s, sweeps - 1),
        "one sweep too many": swept(from_x_s, sweeps + 1),
        "every sweep starts from x_s again: yours goes on from x_t, step after step":
            swept(from_x_t),
        "in a sweep denoise sees x_t, and is told t": swept(
            lambda x_t, _: from_x_s(x_t, wave(x_t, s))),
        "denoise's answer at t goes with the noise of x_t, not of x_s": swept(noise_of_x_s),
        "the noise in x_t: take alpha(t) x0 out and divide by sigma(t)": swept(levels_of_s),
        "a sweep asks about the x_t found so far, not about the first one again":
            swept(lambda x_t, _: from_x_s(plain, wave(plain, t))),
        "the sign of the step is wrong: from s to t, alpha(t) - alpha(s)": swept(
            lambda x_t, x0: x - (a_t - a_s) * x0 - (sd_t - sd_s) * (x_t - a_t * x0) / sd_t),
        "alpha's part of the step is missing": swept(
            lambda x_t, x0: x + (sd_t - sd_s) * (x_t - a_t * x0) / sd_t),
        "sigma's part of the step is missing": swept(lambda x_t, x0: x + (a_t - a_s) * x0),
    }


def invert(denoise, schedule, latents, ts, sweeps):
    x, times = latents, ts.flip(0)
    for s, t in zip(times[:-1], times[1:], strict=True):
        x = step_back(denoise, schedule, x, s, t, sweeps)
    return x


@check(reference=invert, forbidden=BACKWARDS)
def check_invert(answer):
    for schedule, ts, shape, sweeps in (
            (warped, [0.9, 0.75, 0.6, 0.5, 0.45], (3, 2, 5, 4), 0),
            (schedules.flow, [1.0, 0.8, 0.65, 0.5], (2, 3, 4, 5), 2),
            (schedules.cosine, [0.8, 0.6], (4, 1, 3), 1)):
        x, ts = randn(*shape), torch.tensor(ts)
        forwards = x
        for t, s in zip(ts[:-1], ts[1:], strict=True):
            forwards = ddim_step(schedule, forwards, wave(forwards, t), t, s)
        answer.case((wave, schedule, x, ts, sweeps), invert(wave, schedule, x, ts, sweeps), {
            "that is the way from noise to data: begin at the grid's last time": forwards,
            "the first step's end is missing: go on until the grid's first time":
                invert(wave, schedule, x, ts[1:], sweeps),
            "the step from the grid's last time is missing":
                invert(wave, schedule, x, ts[:-1], sweeps),
            "the sweeps are not handed on": invert(wave, schedule, x, ts, 0),
            "that is one step over the whole way": step_back(wave, schedule, x, ts[-1], ts[0],
                                                             sweeps),
        }, where=f"{len(ts) - 1} steps, {sweeps} sweeps")


# ---- from one prompt to another ------------------------------------------------------------------

def flow_edit(source, target, latents, ts, draws, generator):
    return moved(source, target, latents, ts, draws, generator)


def moved(source, target, latents, ts, draws, generator, fresh=False, seen=None, change=None,
          by=None, mean=True, step=None):
    """FlowEdit; the words replace a right part by a likely mistake."""
    edited = latents
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        total = torch.zeros_like(latents)
        for _ in range(draws):
            noise = torch.randn(latents.shape, generator=generator)
            x = (1 - t) * latents + t * noise
            other = torch.randn(latents.shape, generator=generator) if fresh else noise
            start = (1 - t) * latents + t * other
            y = seen(edited, start, other, t) if seen else start + edited - latents
            from_x0, to_x0 = source(x, t), target(y, t)
            total = total + (change or velocities)(x, y, from_x0, to_x0, t)
        edited = edited + (step or (lambda t, s: s - t))(t, s) * total / (draws if mean else 1)
    return edited


def velocities(x, y, from_x0, to_x0, t):
    return (y - to_x0) / t - (x - from_x0) / t


@check(reference=flow_edit, forbidden=[editing.flow_edit, editing.edit_by_inversion,
                                       samplers.ddim, samplers.euler])
def check_flow_edit(answer):
    for ts, draws, shape in (([1.0, 0.7, 0.45, 0.1], 1, (3, 2, 5, 4)),
                             ([0.8, 0.5, 0.0], 3, (2, 3, 4, 5))):
        latents, ts = randn(*shape, seed=3), torch.tensor(ts)
        got = follows_generator(answer, lambda source, latents=latents, ts=ts, draws=draws: (
            wave, silent, latents, ts, draws, source))
        want = flow_edit(wave, silent, latents, ts, draws, generator())
        likely = wrong_edits(latents, ts, draws)
        compare(got, want, likely, inputs={"latents": latents}, where=f"{draws} draws per step")


def wrong_edits(latents, ts, draws):
    """Where likely mistakes lead, with the noise of seed 0."""
    def wrong(source=wave, target=silent, **words):
        return moved(source, target, latents, ts, draws, generator(), **words)

    found = {
        "source and target changed places": wrong(silent, wave),
        "both sides are asked about the same prompt: the target's is missing": wrong(wave, wave),
        "source and target share the noise of a draw: it cancels in their difference":
            wrong(fresh=True),
        "the target sees the source's x plus the edit so far, edited - latents":
            wrong(seen=lambda edited, start, noise, t: start),
        "the target sees x + (edited - latents), the whole edit: yours is shrunk by 1 - t":
            wrong(seen=lambda edited, start, noise, t: (1 - t) * edited + t * noise),
        "the target sees noise as well: x plus the edit so far":
            wrong(seen=lambda edited, start, noise, t: edited),
        "the edit is subtracted: the target sees x + (edited - latents)":
            wrong(seen=lambda edited, start, noise, t: start - edited + latents),
        "the sign is wrong: target minus source, times s - t, which is negative": wrong(
            step=lambda t, s: t - s),
        "that moves by the difference of the guesses: the velocity is (x - x0) / t":
            wrong(change=lambda x, y, from_x0, to_x0, t: to_x0 - from_x0),
        "the velocity is divided by t": wrong(
            change=lambda *parts: parts[-1] * velocities(*parts)),
        "the velocity is divided by t, the time of x, not by s": wrong_division(latents, ts, draws),
        "the source's velocity is missing": wrong(
            change=lambda x, y, from_x0, to_x0, t: (y - to_x0) / t),
        "the velocities are of two places: x at the target is not x at the source": wrong(
            change=lambda x, y, from_x0, to_x0, t: (x - to_x0) / t - (x - from_x0) / t),
        "the start is the picture's latents, not 0": wrong() - latents,
    }
    if draws > 1:
        found["the mean over the draws is wanted, not the sum"] = wrong(mean=False)
        found["all draws of a step got the same noise: each has its own"] = once(latents, ts, draws)
    return found


def wrong_division(latents, ts, draws):
    """The edit with velocities divided by s, or nothing that can be reached where s is 0."""
    ends = dict(zip(ts[:-1].tolist(), ts[1:].tolist(), strict=True))

    def change(x, y, from_x0, to_x0, t):
        return velocities(x, y, from_x0, to_x0, t) * t / (ends[t.item()] or 1e-3)

    return moved(wave, silent, latents, ts, draws, generator(), change=change)


def once(latents, ts, draws):
    """The edit with one noise per step, whatever the number of draws."""
    return moved(wave, silent, latents, ts, 1, generator())
