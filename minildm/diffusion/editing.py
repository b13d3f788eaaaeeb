"""Change a picture that exists, with a denoiser that was trained to draw new ones.

Nothing here is trained. An edit either starts the sampler from something else than noise, or hands
it a denoiser that knows a part of the answer:
  img2img       noise the picture up to a strength, and draw from there (SDEdit)
  inpaint       denoise(x, t) whose answer is the original wherever it is kept (DDNM, RePaint)
  windowed      one denoiser for a canvas of any size, window by window (MultiDiffusion)
  invert        the sampler backwards: the noise that a picture comes from (DDIM inversion)
  flow_edit     move along the difference of two prompts' velocities (FlowEdit)
All of them work on latents (B, C, H, W), and `denoise` is whatever guidance made of the model:

    filled = last(ddim(inpaint(denoise, latents, keep), flow, noise, time_grid(20)))
"""

from collections.abc import Callable

import torch

from minildm import MinildmError
from minildm.diffusion.samplers import (
    Step,
    ancestral_sd,
    ddim,
    distinct,
    intervals,
    last,
    levels,
    normal_noise,
)
from minildm.diffusion.schedules import Schedule, add_noise, time_grid

T_FIRST = 0.02      # `inversion_grid`: where the clean data are taken to be


# ---- from a picture and noise

def remaining_times(ts, strength: float):
    """The part of a grid (n + 1,) from 1 down to 0 that an edit of this strength still runs.

    It starts at t = strength itself, whether the grid has that time or not: (m + 1,), at most as
    many steps. Strength 1 is the whole grid, 0 no step: one time, 0.
    """
    if not 0 <= strength <= 1:
        raise MinildmError(f"a strength of {strength}", "remaining_times",
                           "0 keeps the picture, 1 forgets it: choose between them")
    start = torch.full((1,), float(strength), dtype=ts.dtype, device=ts.device)
    return distinct(torch.cat([start, ts[ts < strength]]))


def img2img(denoise: Callable, schedule: Schedule, latents, noise, ts, strength: float,
            sampler: Callable = ddim, **words):
    """Draw again from where the picture is covered with noise up to t = strength.

    (SDEdit: Meng et al. 2022, algorithm 1, arXiv:2108.01073.) latents and noise (B, C, H, W) ->
    latents. Strength 0 returns the latents as they are. At strength 1 nothing of them is left,
    on a table of betas too, whose alpha(1) is a little above 0.
    """
    times = remaining_times(ts, strength)
    if len(times) == 1:
        return latents.clone()
    start = noise if strength == 1 else add_noise(schedule, latents, noise, times[0])
    return last(sampler(denoise, schedule, start, times, **words))


# ---- a part is kept

def as_mask(keep, latents):
    """keep in latents' dtype, once it is known to fit: (H, W), (B, 1, H, W) or as latents are.

    1 is kept, 0 is drawn, and values between mix.
    """
    shape = tuple(keep.shape)
    try:
        fits = torch.broadcast_shapes(shape, latents.shape) == latents.shape
    except RuntimeError:
        fits = False
    if not fits:
        size = tuple(latents.shape[-2:])
        raise MinildmError(f"the mask is {shape}, the latents are {tuple(latents.shape)}",
                           "inpaint", f"pass one of {size}, or (B, 1, *{size})")
    return keep.to(latents)


def inpaint(denoise: Callable, latents, keep) -> Callable:
    """Answer with the original latents where `keep` is 1, and with the denoiser's x0 elsewhere.

    The guess of the data, not x_t, is what is replaced (as in Wang et al. 2022, arXiv:2212.00490,
    for the mask's operator). A sampler that keeps its noise, like ddim, then carries the kept part
    along alpha latents + sigma noise by itself, and ends at exactly the latents.
    """
    kept = as_mask(keep, latents)

    def answer(x, t):
        return kept * latents + (1 - kept) * denoise(x, t)

    return answer


@torch.no_grad()
def repaint(denoise: Callable, schedule: Schedule, noise, ts, latents, keep, rounds: int = 5,
            generator=None):
    """Inpaint with new noise, each step taken `rounds` times, so that the two parts can agree.

    (RePaint: Lugmayr et al. 2022, algorithm 1, with jumps of one step, arXiv:2201.09865.) A step
    joins the known part, noised from the latents, with the unknown part, drawn as `ddpm` does.
    Before it is repeated, x_s is noised back to x_t. rounds 1 is the plain replacement.
    """
    if rounds < 1:
        raise MinildmError(f"{rounds} rounds", "repaint", "take each step at least once")
    kept, x, draw = as_mask(keep, latents), noise, normal_noise(noise, generator)
    for i, t, s in intervals(distinct(ts)):
        (a_t, sd_t), (a_s, sd_s) = levels(schedule, t, x), levels(schedule, s, x)
        ratio = a_t / a_s
        for left in reversed(range(rounds)):
            x0 = denoise(x, t)
            known = a_s * latents + sd_s * draw(i)
            weight = ratio * (sd_s / sd_t) ** 2                      # as in `samplers.ddpm`
            unknown = weight * x + (a_s - weight * a_t) * x0
            unknown = unknown + ancestral_sd(a_t, sd_t, a_s, sd_s) * draw(i)
            x = kept * known + (1 - kept) * unknown
            if left:
                # q(x_t | x_s): shrink what is there, and fill up to sigma_t
                added = (sd_t**2 - (ratio * sd_s) ** 2).clamp(min=0).sqrt()
                x = ratio * x + added * draw(i)
        yield Step(i, s, x, x0)


def starts(length: int, size: int, stride: int) -> list[int]:
    """Where windows of `size` begin, `stride` apart, the last one flush with the end."""
    if not 1 <= stride <= size <= length:
        raise MinildmError(f"windows of {size}, {stride} apart, on a side of {length}", "windowed",
                           "1 <= stride <= size <= the canvas's side, or some of it is never seen")
    return [*range(0, length - size, stride), length - size]


def windowed(denoiser: Callable, size: int, stride: int) -> Callable:
    """A denoiser for a canvas larger than its training size: windows answer, overlaps are averaged.

    (MultiDiffusion: Bar-Tal et al. 2023, eq. 5, arXiv:2302.08113.) denoiser(x, t, context) is asked
    once, for all windows of `size` x `size` positions. context holds one row per picture, which all
    of its windows share, or one per window: those of the first picture, row by row, then the next.
    The times are numbers or (B,).
    """
    def denoise(x, t, context):
        b, _, height, width = x.shape
        rows, columns = starts(height, size, stride), starts(width, size, stride)
        corners = [(y, z) for y in rows for z in columns]
        n = len(corners)
        crops = [x[:, :, y:y + size, z:z + size] for y, z in corners]
        crops = torch.stack(crops, dim=1).flatten(0, 1)                    # (B n, C, size, size)
        t = torch.as_tensor(t)
        each = t if t.ndim == 0 else t.repeat_interleave(n)
        if len(context) == b:
            context = context.repeat_interleave(n, dim=0)
        answers = denoiser(crops, each, context).unflatten(0, (b, n))
        total, count = torch.zeros_like(x), torch.zeros_like(x[:1, :1])
        for k, (y, z) in enumerate(corners):
            total[:, :, y:y + size, z:z + size] += answers[:, k]
            count[:, :, y:y + size, z:z + size] += 1
        return total / count

    return denoise


# ---- backwards

def inversion_grid(n: int, first: float = T_FIRST):
    """The times (n + 1,) of an inversion and of the way back: from 1 down to `first`, not to 0.

    The last step of a sampler ends at x0 = denoise(x, t) and forgets x's noise, so that there is no
    way back over it. The data are therefore taken as they were at a small t.
    """
    return time_grid(n, 1.0, first)


def step_back(denoise: Callable, schedule: Schedule, x_s, s, t, sweeps: int = 0):
    """One step of DDIM backwards, from x_s to (x_t, x0), with the sweeps of `invert`."""
    (a_t, sd_t), (a_s, sd_s) = levels(schedule, t, x_s), levels(schedule, s, x_s)
    x0 = denoise(x_s, s)
    eps = (x_s - a_s * x0) / sd_s
    x_t = a_t * x0 + sd_t * eps
    for _ in range(sweeps):
        x0 = denoise(x_t, t)
        eps = (x_t - a_t * x0) / sd_t
        x_t = x_s + (a_t - a_s) * x0 + (sd_t - sd_s) * eps
    return x_t, x0


@torch.no_grad()
def invert(denoise: Callable, schedule: Schedule, latents, ts, sweeps: int = 0):
    """DDIM backwards: from the latents, at the grid's last time, to the noise at its first.

    (DDIM: Jiaming Song et al. 2021, section 4.3, arXiv:2010.02502.) ts (n + 1,) falls, as for every
    sampler, and must end above 0: `inversion_grid`. Yields a Step per step, its t rising.
    A step of DDIM leads from x_t to x_s by what the denoiser says at x_t, which is not known yet;
    with sweeps 0 what it says at x_s, at time s, stands in its place, and the way back misses by
    the change. Each sweep puts the x_t found so far in its place: a fixed point is a step of DDIM
    turned round (Pan et al. 2023, arXiv:2309.04907).
    """
    ts = distinct(ts)
    if ts[-1] <= 0:
        raise MinildmError("the grid ends at 0, where no noise is left to go back from", "invert",
                           "pass inversion_grid(n)")
    x = latents
    for i, (t, s) in enumerate(zip(ts[:-1].flip(0), ts[1:].flip(0), strict=True)):
        x, x0 = step_back(denoise, schedule, x, s, t, sweeps)
        yield Step(i, t, x, x0)


def edit_by_inversion(source: Callable, target: Callable, schedule: Schedule, latents, ts,
                      sweeps: int = 0):
    """Go back to the noise with the source's denoiser, and draw from there with the target's.

    Both are denoise(x, t), with their own conditions. ts as `invert` takes them.
    """
    noise = last(invert(source, schedule, latents, ts, sweeps))
    return last(ddim(target, schedule, noise, ts))


@torch.no_grad()
def flow_edit(source: Callable, target: Callable, schedule: Schedule, latents, ts,
              strength: float = 1.0, draws: int = 1, generator=None):
    """Move the latents along the difference of two denoisers' velocities, without going back.

    (FlowEdit: Kulikov et al. 2024, algorithm 1, arXiv:2412.08629, with n_max / T = strength and
    n_avg = draws.) At each time the source is noised anew, the edit so far is added, and both are
    asked; on the flow schedule a velocity is (x - x0) / t. ts falls from 1 to 0, and strength
    leaves out its beginning: less changes. Yields Steps; x0 is the target's guess.
    """
    points = torch.tensor([0.25, 0.75])
    if not torch.allclose(schedule.alpha(points) + schedule.sigma(points), torch.ones(2)):
        raise MinildmError("flow_edit moves along straight paths, and this schedule's are not",
                           "flow_edit", "use edit_by_inversion, or a model of the flow schedule")
    edited, draw = latents, normal_noise(latents, generator)
    for i, t, s in intervals(remaining_times(ts, strength)):
        change = torch.zeros_like(latents)
        for _ in range(draws):
            x_source = add_noise(schedule, latents, draw(i), t)
            x_target = x_source + (edited - latents)
            x0 = target(x_target, t)
            change += (x_target - x0) - (x_source - source(x_source, t))
        edited = edited + (s - t) / t * change / draws
        yield Step(i, s, edited, x0)


# ---- between two

def slerp(a, b, share: float):
    """Spherical interpolation (Shoemake 1985): from a at share 0 to b at 1, (B, C, H, W).

    Between two independent noises a straight mean has less than their length, sqrt(1/2) of it half
    way, and no network has seen so little noise; this keeps to the arc.
    """
    axes = tuple(range(1, a.ndim))
    length_a = a.square().sum(axes, keepdim=True).sqrt()
    length_b = b.square().sum(axes, keepdim=True).sqrt()
    cosine = ((a * b).sum(axes, keepdim=True) / (length_a * length_b)).clamp(-1, 1)
    angle = cosine.arccos()
    # parallel ones have no arc between them: a straight line, whose limit this is
    straight = angle < 1e-4
    angle = torch.where(straight, 1.0, angle)
    part_a = torch.where(straight, 1 - share, torch.sin((1 - share) * angle) / torch.sin(angle))
    part_b = torch.where(straight, torch.as_tensor(share, dtype=a.dtype),
                         torch.sin(share * angle) / torch.sin(angle))
    return part_a * a + part_b * b
