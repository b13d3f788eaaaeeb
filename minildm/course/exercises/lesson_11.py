"""The checks of lesson 11's first half: a picture noised to a strength, a part of it kept."""

import torch

from minildm.course.exercises.fakes import randn, uniform, warped
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_00 import wave
from minildm.diffusion import editing, schedules

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
