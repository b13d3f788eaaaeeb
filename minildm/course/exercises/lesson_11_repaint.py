"""The checks of lesson 11's RePaint: the joined step, the way back to t, the loop."""

import torch

from minildm.course.exercises.compare import compare
from minildm.course.exercises.fakes import follows_generator, generator, randn, uniform, warped
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_00 import wave
from minildm.course.exercises.lesson_11 import at, ddim_step
from minildm.diffusion import editing, samplers, schedules

# ---- the two parts agree -------------------------------------------------------------------------

def joined_step(denoise, schedule, x, t, s, latents, keep, noise_known, noise_new):
    (a_t, sd_t), (a_s, sd_s) = at(schedule, t), at(schedule, s)
    x0 = denoise(x, t)
    weight = a_t / a_s * (sd_s / sd_t)**2
    sd = sd_s * (1 - (a_t * sd_s / (a_s * sd_t))**2).clamp(min=0).sqrt()
    unknown = weight * x + (a_s - weight * a_t) * x0 + sd * noise_new
    known = a_s * latents + sd_s * noise_known
    return keep * known + (1 - keep) * unknown


@check(reference=joined_step, forbidden=[editing.repaint, samplers.ddpm])
def check_joined_step(answer):
    for schedule, t, s, shape, where in (
            (warped, 0.8, 0.35, (3, 2, 5, 4), "an odd schedule"),
            (schedules.flow, 0.5, 0.0, (2, 3, 4, 5), "flow, to t = 0"),
            (schedules.cosine, 1.0, 0.6, (4, 1, 3, 5), "cosine, from t = 1")):
        names = ("x", "latents", "known", "new")
        parts = {name: randn(*shape, seed=i) for i, name in enumerate(names)}
        keep = uniform(shape[0], 1, *shape[2:], seed=7)
        joined_case(answer, schedule, torch.tensor(t), torch.tensor(s), keep, parts, where)


def joined_case(answer, schedule, t, s, keep, parts, where):
    """One call of an answer with tensors of shape (B, C, H, W), a mask (B, 1, H, W)."""
    inputs = wave, schedule, parts["x"], t, s, parts["latents"], keep, parts["known"], parts["new"]
    answer.case(inputs, joined_step(*inputs), wrong_joins(*inputs[1:]), where=where)


def wrong_joins(schedule, x, t, s, latents, keep, known, new):
    """What likely mistakes in either part lead to, and in how the two are joined."""
    (a_t, sd_t), (a_s, sd_s) = at(schedule, t), at(schedule, s)
    noised = a_s * latents + sd_s * known
    drawn = wrong_draws(schedule, x, t, s, new)
    right = drawn.pop("right")
    swapped = wrong_draws(schedule, x, t, s, known)["right"]

    def mix(known=noised, unknown=right):
        return keep * known + (1 - keep) * unknown

    return {
        "kept and drawn changed places: keep is 1 where the latents stay": mix(right, noised),
        "that is the unknown part alone": right,
        "that is the known part alone": noised,
        "the known part has noise as well: as much as belongs to time s": mix(latents),
        "the known part is noised to time s, not t": mix(a_t * latents + sd_t * known),
        "the two parts have noise of their own: both got noise_known": mix(unknown=swapped),
        "the two parts have noise of their own: both got noise_new":
            mix(a_s * latents + sd_s * new),
        "the two noises changed places": mix(a_s * latents + sd_s * new, swapped),
        "denoise sees x as it is": joined_step(
            lambda _, t: wave(keep * latents + (1 - keep) * x, t), schedule, x, t, s, latents,
            keep, known, new),
        **{cause: mix(unknown=unknown) for cause, unknown in drawn.items()},
    }


def wrong_draws(schedule, x, t, s, new):
    """The unknown part with one mistake each, and the right one."""
    (a_t, sd_t), (a_s, sd_s) = at(schedule, t), at(schedule, s)
    ratio = a_t / a_s * sd_s / sd_t
    weight, sd, x0 = ratio * sd_s / sd_t, sd_s * (1 - ratio**2).sqrt(), wave(x, t)

    def mean_with(weight, x0=x0):
        return weight * x + (a_s - weight * a_t) * x0

    mean = mean_with(weight)
    return {
        "right": mean + sd * new,
        "the unknown part is drawn, not only its mean": mean,
        "the unknown part keeps x's noise, as DDIM does: DDPM draws new":
            ddim_step(schedule, x, x0, t, s),
        "the unknown part is the guess, noised to s: DDPM keeps a part of x": a_s * x0 + sd_s * new,
        "the new noise has the posterior's standard deviation, not sigma(s)": mean + sd_s * new,
        "the new noise is multiplied by a standard deviation: that is the variance":
            mean + sd**2 * new,
        "the new noise has a standard deviation, not 1": mean + new,
        "the ratio of the sigmas is squared in the mean": mean_with(ratio) + sd * new,
        "the guess has the weight alpha(s) - weight alpha(t)":
            weight * x + (1 - weight) * x0 + sd * new,
        "denoise is told the time of x: t, not s": mean_with(weight, wave(x, s)) + sd * new,
    }


def noise_again(schedule, x, s, t, noise):
    (a_s, sd_s), (a_t, sd_t) = at(schedule, s), at(schedule, t)
    ratio = a_t / a_s
    return ratio * x + (sd_t**2 - (ratio * sd_s)**2).clamp(min=0).sqrt() * noise


@check(reference=noise_again, forbidden=[editing.repaint])
def check_noise_again(answer):
    for schedule, s, t, shape, where in (
            (warped, 0.35, 0.8, (3, 2, 5, 4), "an odd schedule"),
            (schedules.flow, 0.0, 0.4, (4, 2, 3), "flow, from t = 0"),
            (schedules.cosine, 0.6, 0.9, (2, 1, 3, 4), "cosine")):
        x, noise = randn(*shape), randn(*shape, seed=1)
        s, t = torch.tensor(s), torch.tensor(t)
        (a_s, sd_s), (a_t, sd_t) = at(schedule, s), at(schedule, t)
        ratio = a_t / a_s
        added = (sd_t**2 - (ratio * sd_s)**2).sqrt()
        answer.case((schedule, x, s, t, noise), ratio * x + added * noise, {
            "x has been noised to s already: shrink it by alpha(t) / alpha(s), not alpha(t)":
                a_t * x + added * noise,
            "x is data no more: sigma(t) would be too much noise": ratio * x + sd_t * noise,
            "that noises x as if it were data": a_t * x + sd_t * noise,
            "x has to shrink, by alpha(t) / alpha(s)": x + added * noise,
            "variances subtract, standard deviations don't":
                ratio * x + (sd_t - ratio * sd_s) * noise,
            "the noise of x shrinks with it: subtract (ratio sigma(s))^2":
                ratio * x + (sd_t**2 - sd_s**2).clamp(min=0).sqrt() * noise,
            "the ratio is squared with sigma(s): both are standard deviations":
                ratio * x + (sd_t**2 - ratio * sd_s**2).clamp(min=0).sqrt() * noise,
            "the root is missing: that is the variance": ratio * x + added**2 * noise,
            "the ratio is upside down: alpha falls with time": x / ratio + added * noise,
            "the noise is missing": ratio * x,
            "the noise is added, not subtracted": ratio * x - added * noise,
            "that goes from t to s: here time rises, from s to t": a_s / a_t * x + added * noise,
        }, where=where)


def repaint(denoise, schedule, noise, ts, latents, keep, rounds, generator):
    return repainted(denoise, schedule, noise, ts, latents, keep, rounds, generator)


def repainted(denoise, schedule, noise, ts, latents, keep, rounds, generator, extra=False,
              order=(0, 1)):
    """RePaint's loop; `extra` and `order` are likely mistakes."""
    def fresh():
        return torch.randn(noise.shape, generator=generator)

    x = noise
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        for left in reversed(range(rounds)):
            drawn = fresh(), fresh()
            known, new = (drawn[i] for i in order)
            x = joined_step(denoise, schedule, x, t, s, latents, keep, known, new)
            if left or extra:
                x = noise_again(schedule, x, s, t, fresh())
    return x


@check(reference=repaint, forbidden=[editing.repaint, samplers.ddpm])
def check_repaint(answer):
    for schedule, ts, rounds, shape in ((warped, [0.9, 0.6, 0.4, 0.1], 3, (3, 2, 5, 4)),
                                        (schedules.flow, [1.0, 0.5, 0.0], 1, (2, 3, 4, 5))):
        ts, keep = torch.tensor(ts), uniform(shape[0], 1, *shape[2:], seed=7)
        fixed = wave, schedule, randn(*shape, seed=3), ts, randn(*shape, seed=4), keep
        got = follows_generator(answer, lambda source, fixed=fixed, rounds=rounds: (
            *fixed, rounds, source))
        compare(got, repaint(*fixed, rounds, generator()), {
            "the known part's noise is drawn first, then the new part's":
                repainted(*fixed, rounds, generator(), order=(1, 0)),
            "after a step's last round x stays at s": repainted(*fixed, rounds, generator(), True),
            "each step is taken once only": repaint(*fixed, 1, generator()),
            "one round too few": repaint(*fixed, rounds - 1, generator()),
            "one round too many": repaint(*fixed, rounds + 1, generator()),
        }, inputs={"noise": fixed[2], "latents": fixed[4]}, where=f"{rounds} rounds")
