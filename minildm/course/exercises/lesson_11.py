"""The checks of lesson 11's first half: a picture noised to a strength, a part of it kept."""

import torch

from minildm.course.exercises.fakes import randn, uniform, warped
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_00 import wave
from minildm.diffusion import editing, samplers, schedules

# ---- from a picture and noise --------------------------------------------------------------------


def at(schedule, t):
    """(alpha, sigma) at one time."""
    t = torch.as_tensor(t)
    return schedule.alpha(t), schedule.sigma(t)


def ddim_step(schedule, x, x0, t, s):
    (a_t, sd_t), (a_s, sd_s) = at(schedule, t), at(schedule, s)
    return a_s * x0 + sd_s * (x - a_t * x0) / sd_t


def draw(denoise, schedule, x, times):
    """DDIM from x at the first of the times to the last."""
    # eta 0: no new noise, so that one start has one end
    for t, s in zip(times[:-1], times[1:], strict=True):
        x = ddim_step(schedule, x, denoise(x, t), t, s)
    return x


def img2img(denoise, schedule, latents, noise, ts, strength):
    start = torch.tensor([float(strength)])
    alpha, sigma = at(schedule, start)
    x = alpha * latents + sigma * noise
    return draw(denoise, schedule, x, torch.cat([start, ts[ts < strength]]))


@check(reference=img2img, forbidden=[editing.img2img, editing.remaining_times])
def check_img2img(answer):
    odd = torch.tensor([1.0, 0.8, 0.55, 0.3, 0.1])
    to_data = torch.tensor([1.0, 0.7, 0.35, 0.0])
    # no strength is a time of its grid, but for the two ends
    strength_case(answer, warped, (3, 2, 5, 4), odd, 0.7)
    strength_case(answer, schedules.flow, (4, 1, 3, 5), to_data, 0.45)
    latents, noise = randn(2, 3, 4, 5), randn(2, 3, 4, 5, seed=1)
    fresh = draw(wave, schedules.flow, noise, to_data)
    answer.case((wave, schedules.flow, latents, noise, to_data, 1.0), fresh,
                where="strength 1 on flow: a picture from the noise alone")
    answer.case((wave, schedules.flow, latents, noise, to_data, 0.0), latents,
                where="strength 0: no step, the latents as they are")


def strength_case(answer, schedule, shape, ts, strength):
    latents, noise = randn(*shape), randn(*shape, seed=1)
    alpha, sigma = at(schedule, strength)
    later = torch.cat([torch.tensor([strength]), ts[ts < strength]])
    x = alpha * latents + sigma * noise

    def end(start=x, times=later):
        return draw(wave, schedule, start, times)

    below, above = ts[ts < strength], ts[ts > strength]
    answer.case((wave, schedule, latents, noise, ts, strength), end(), {
        "that is the noisy picture: draw from there": x,
        "that is a picture drawn from noise alone: start from the noised latents":
            end(noise, ts),
        "the start is at t = strength, but the whole grid is run through: leave out the times "
        "above it": end(x, ts),
        "the start is at t = strength itself, also where the grid has no such time":
            end(ddim_at(schedule, latents, noise, below[0]), below),
        "the start is at t = strength, not at the grid's time before it":
            end(ddim_at(schedule, latents, noise, above[-1]), torch.cat([above[-1:], below])),
        "x is noised to t = strength, so the first step begins there, not at the grid's next time":
            end(x, below),
        "the latents are multiplied by alpha": end(latents + sigma * noise),
        "the noise is multiplied by sigma": end(alpha * latents + noise),
        "alpha belongs to the latents, sigma to the noise": end(sigma * latents + alpha * noise),
        "no noise was added: only where there is noise can something new come": end(latents),
        "the noise stands alone: the latents are missing": end(sigma * noise),
        "alpha and sigma are the schedule's: they are not always 1 - t and t":
            end((1 - strength) * latents + strength * noise),
        "strength 1 forgets the picture, 0 keeps it: yours is turned round":
            img2img(wave, schedule, latents, noise, ts, 1 - strength),
        "denoise is asked anew in each step": frozen(schedule, x, later),
        "that is the last guess: on this grid the last x still has noise": guess(schedule, x, later)
    }, where=f"strength {strength}")


def ddim_at(schedule, latents, noise, t):
    alpha, sigma = at(schedule, t)
    return alpha * latents + sigma * noise


def frozen(schedule, x, times):
    """DDIM with the first guess in all steps."""
    x0 = wave(x, times[0])
    return draw(lambda x, t: x0, schedule, x, times)


def guess(schedule, x, times):
    """The guess in the last step, where it is not the result anyway."""
    return wave(draw(wave, schedule, x, times[:-1]), times[-2]) + 1e-3 * (times[-1] == 0)


# ---- a part is kept ------------------------------------------------------------------------------

def inpaint(denoise, latents, keep):
    def answer(x, t):
        return keep * latents + (1 - keep) * denoise(x, t)

    return answer


@check(reference=inpaint, forbidden=[editing.inpaint, editing.repaint])
def check_inpaint(answer):
    # a mask for all channels, one per picture, one for all pictures; soft values mix
    for shape, mask, t in (((3, 2, 5, 4), (3, 1, 5, 4), 0.6), ((4, 3, 2, 5), (2, 5), 0.25)):
        latents, x, keep = randn(*shape), randn(*shape, seed=1), uniform(*mask, seed=2)
        t = torch.tensor(t)
        kept = answer.wrap(answer(wave, latents, keep), "a function of x and t", ["x", "t"])
        kept.right = answer.right
        x0 = wave(x, t)
        kept.case((x, t), keep * latents + (1 - keep) * x0, {
            "that is the denoiser's answer alone: the mask has no say": x0,
            "kept and drawn changed places: keep is 1 where the latents stay":
                (1 - keep) * latents + keep * x0,
            "the kept part is the original's latents, not x": keep * x + (1 - keep) * x0,
            "the rest is what denoise says, not x": keep * latents + (1 - keep) * x,
            "denoise sees x as it is: the answer is replaced, not the question":
                wave(keep * latents + (1 - keep) * x, t),
            "denoise sees x as it is, and only its answer is mixed":
                keep * latents + (1 - keep) * wave(keep * latents + (1 - keep) * x, t),
            "denoise sees all of x: nothing of it is blanked":
                keep * latents + (1 - keep) * wave((1 - keep) * x, t),
            "the rest is missing: what denoise says where nothing is kept": keep * latents,
            "the kept part is missing": (1 - keep) * x0,
            "where latents are kept, denoise's answer must go: weigh it with 1 - keep":
                keep * latents + x0,
            "soft masks mix: keep is a weight, not a yes or no":
                torch.where(keep > 0.5, latents, x0),
            "any weight above 0 counted as kept: keep is a weight":
                torch.where(keep > 0, latents, x0),
        }, where=f"mask {mask}")
        answer.right = kept.right


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
