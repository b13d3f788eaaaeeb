"""Edit pictures with a trained model: pixels and masks in, pictures out.

`diffusion.editing` works on latents; this file goes from a user's picture to those and back. What
is kept is the original's own pixels, pasted over what the VAE made of them.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from minildm import MinildmError
from minildm.data.pictures import FORMATS, read_picture, read_size
from minildm.diffusion import editing
from minildm.diffusion.guidance import guided
from minildm.diffusion.samplers import ddim, last
from minildm.images import pad_to, to_float
from minildm.model import DEFAULT, LatentDiffusion

SETTLED = 0.5       # inpainting looks at pixels from this time on
SWEEPS = 5          # of each inverted step: more change nothing that can be seen


class Edited(NamedTuple):
    """Float pictures in [-1, 1], (N, C, size, size): the edited ones, and what they came from."""

    images: torch.Tensor
    originals: torch.Tensor


# ---- from files

def check_files(picture: Path, mask: Path | None = None):
    """Refuse, before any model is loaded, what is no picture, and a mask of another size."""
    size = _size_of(picture)
    if mask is not None and (found := _size_of(mask)) != size:
        raise MinildmError(f"the mask is {found[0]}×{found[1]}, the picture {size[0]}×{size[1]}",
                           mask, "save the mask in the picture's size")


def _size_of(path: Path) -> tuple[int, int]:
    try:
        return read_size(path)
    # Pillow raises errors that have no common ancestor
    except Exception as error:
        raise _unreadable(path, error) from None


def _read(path: Path, side: int):
    try:
        return read_picture(path, side)
    except Exception as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> MinildmError:
    return MinildmError(f"this is no picture that can be read: {error}", path,
                        f"pass a file of one of {', '.join(FORMATS)}")


def open_picture(path: Path, model: LatentDiffusion) -> torch.Tensor:
    """A picture's file as the model wants it, uint8 (1, C, size, size).

    Another size is resized, the middle of the longer side kept; colours become grey for a model of
    grey pictures. Raises MinildmError for what is no picture.
    """
    picture = _read(path, model.image_size)
    channels = model.vae.config.in_channels
    pixels = np.array(picture.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(pixels).reshape(1, *pixels.shape[:2], channels).movedim(-1, 1)


def open_mask(path: Path, size: int) -> torch.Tensor:
    """A mask's file as bool (1, 1, size, size), True where it is white: there the picture is drawn.

    It is resized as `open_picture` resizes. Raises MinildmError for one that is all black or white.
    """
    grey = np.array(_read(path, size).convert("L"))
    return check_mask(torch.from_numpy(grey > 127)[None, None], path)


def box_mask(box, size: int) -> torch.Tensor:
    """A mask (1, 1, size, size) that is True at x0 <= x < x1, y0 <= y < y1, in model pixels."""
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= size and 0 <= y0 < y1 <= size):
        raise MinildmError(f"the box {x0} {y0} {x1} {y1} is not inside the picture", "edit",
                           f"0 <= x0 < x1 <= {size} and the same for y")
    mask = torch.zeros(1, 1, size, size, dtype=torch.bool)
    mask[..., y0:y1, x0:x1] = True
    return check_mask(mask, "--box")


def check_mask(mask, where) -> torch.Tensor:
    """Refuse a mask that asks for nothing, or for all."""
    if not mask.any():
        raise MinildmError("the mask is all black: nothing is to be drawn", where,
                           "paint white what is to be drawn anew")
    if mask.all():
        raise MinildmError("the mask is all white: nothing is kept", where,
                           "leave black what is to be kept, or draw a new picture: minildm sample")
    return mask


# ---- in the latent space

def latents_of(model: LatentDiffusion, images) -> torch.Tensor:
    """uint8 pictures (N, C, size, size) -> the means of their latents, float32 (N, c, h, w)."""
    return model.latent_space.encode(images.to(model.device)).mean.float()


def kept_positions(model: LatentDiffusion, mask) -> torch.Tensor:
    """Which latent positions are kept, (N, 1, h, w) 0 or 1: those with no pixel to be drawn."""
    space = model.latent_space
    side = space.shape[-1] * space.stride
    # what is padded is no part of the picture: kept
    drawn = pad_to(mask.to(torch.uint8), side).float()
    return 1 - F.max_pool2d(drawn, space.stride)


def agreeing(model: LatentDiffusion, denoise, originals, mask):
    """Correct each guess so that its pixels continue the kept ones: -> denoise(x, t).

    A latent position at the mask's edge has pixels of both kinds and is drawn anew, without a look
    at those that are kept. So the guess is decoded, the originals are pasted over it, and what this
    changes is encoded: a projection in pixels (Wang et al. 2022, arXiv:2212.00490).
    originals are float (N, C, size, size). It takes two more passes of the VAE per step; published
    models, whose VAEs are large, and latents with other channels stay as they are.
    """
    vae, space = model.vae, model.latent_space
    if model.sampling.published or space.shape[0] != vae.config.latent_channels:
        return denoise
    side = space.shape[-1] * space.stride
    # what is padded is black, and no part of the picture: kept
    originals, drawn_part = pad_to(originals, side), pad_to(mask.to(torch.uint8), side) > 0

    def answer(x, t):
        x0 = denoise(x, t)
        # early guesses under strong guidance are far off: corrected, they would drift away
        if t > SETTLED:
            return x0
        drawn = vae.decode(vae.denormalise(x0)).clamp(-1, 1)
        pasted = paste(originals, drawn, drawn_part)
        return x0 + vae.normalise(vae.encode(pasted).mean) - vae.normalise(vae.encode(drawn).mean)

    return answer


def denoisers(model: LatentDiffusion, wanted, guidance=DEFAULT, scale: float | None = None,
              negative: str = ""):
    """denoise(x, t) for labels or prompts, guided as `generate` guides."""
    context, null = model.conditions(wanted, negative)
    return guided(model.denoiser, context, null, model.guidance_of(guidance, scale))


def paste(originals, images, mask):
    """The originals' own pixels where the mask is False, the drawn ones where it is True."""
    return torch.where(mask.to(images.device), images, originals)


# ---- the edits

@torch.no_grad()
def img2img(model: LatentDiffusion, images, wanted, strength: float = 0.6, *, seed: int = 0,
            num_inference_steps: int | None = None, guidance_scale: float | None = None) -> Edited:
    """Draw uint8 pictures (N, C, size, size) again from so much noise, as labels or prompts say."""
    denoise = denoisers(model, wanted, scale=guidance_scale)
    latents = latents_of(model, images)
    drawn = editing.img2img(denoise, model.denoiser.schedule, latents,
                            model.noise(len(images), seed), model.times(num_inference_steps),
                            strength)
    return Edited(model.decode(drawn), to_float(images))


@torch.no_grad()
def inpaint(model: LatentDiffusion, images, mask, wanted, *, seed: int = 0,
            num_inference_steps: int | None = None, guidance_scale: float | None = None) -> Edited:
    """Draw what the mask, bool (N or 1, 1, size, size), is True for; every other pixel is kept."""
    if mask.dtype != torch.bool or mask.shape[-2:] != images.shape[-2:]:
        raise MinildmError(f"the mask is {mask.dtype} {tuple(mask.shape)}", "inpaint",
                           f"pass bool (N, 1, {images.shape[-2]}, {images.shape[-1]})")
    latents, originals = latents_of(model, images), to_float(images.to(model.device))
    guess = agreeing(model, denoisers(model, wanted, scale=guidance_scale), originals, mask)
    denoise = editing.inpaint(guess, latents, kept_positions(model, mask).to(model.device))
    drawn = last(ddim(denoise, model.denoiser.schedule, model.noise(len(images), seed),
                      model.times(num_inference_steps)))
    return Edited(paste(originals, model.decode(drawn), mask), originals)


@torch.no_grad()
def outpaint(model: LatentDiffusion, images, shift: tuple[int, int], wanted, **words) -> Edited:
    """Move uint8 pictures by (right, down) pixels and draw what comes into sight."""
    right, down = shift
    size = images.shape[-1]
    if (right, down) == (0, 0) or max(abs(right), abs(down)) >= size:
        raise MinildmError(f"moved by {right}, {down}", "outpaint",
                           f"move by 1 to {size - 1} pixels, so that a part stays in sight")
    moved = torch.roll(images, (down, right), dims=(-2, -1))
    mask = torch.zeros_like(images[:1, :1], dtype=torch.bool)
    # what `roll` brought back on the other side is new
    if right:
        mask[..., slice(0, right) if right > 0 else slice(right, None)] = True
    if down:
        mask[..., slice(0, down) if down > 0 else slice(down, None), :] = True
    return inpaint(model, moved, mask, wanted, **words)


@torch.no_grad()
def edit(model: LatentDiffusion, images, source, wanted, *, seed: int = 0,
         num_inference_steps: int | None = None, source_scale: float = 1.0,
         guidance_scale: float = 1.0) -> Edited:
    """Change what the source prompts (or labels) say of the pictures into what `wanted` says.

    FlowEdit where the model's paths are straight, inversion elsewhere. Scale 1, the default for
    both prompts, changes the picture least; a larger one obeys more.
    """
    from_here = denoisers(model, source, scale=source_scale)
    to_there = denoisers(model, wanted, scale=guidance_scale)
    schedule, latents = model.denoiser.schedule, latents_of(model, images)
    if model.spec.schedule == "flow":
        generator = torch.Generator(model.device).manual_seed(seed)
        steps = editing.flow_edit(from_here, to_there, schedule, latents,
                                  model.times(num_inference_steps), generator=generator)
        drawn = last(steps)
    else:
        n = num_inference_steps or model.sampling.num_inference_steps
        drawn = editing.edit_by_inversion(from_here, to_there, schedule, latents,
                                          editing.inversion_grid(n), SWEEPS)
    return Edited(model.decode(drawn), to_float(images))
