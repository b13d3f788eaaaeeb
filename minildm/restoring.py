"""Restore pictures from measurements with a trained model.

    operator = operators.average(4)             # or any other linear map and its transpose
    y = restoring.measure(operator, pictures, noise_sd=0.05)
    restored = restoring.restore(model, operator, y, noise_sd=0.05, samples=16)
    restored.mean, restored.spread              # the best guess, and how sure it is

`diffusion.restoration` works on latents; this file goes from there to pixels.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from minildm import MinildmError
from minildm.diffusion.guidance import guided
from minildm.diffusion.operators import Operator
from minildm.diffusion.restoration import consistent, posterior
from minildm.diffusion.samplers import last
from minildm.diffusion.schedules import shift
from minildm.images import crop_to, pad_to
from minildm.model import LatentDiffusion
from minildm.training.loop import generator_for

DECODER_SD = 0.04   # how far the zoo's decoder of digits stays off a picture, per pixel
STEPS = 15
TIME_SHIFT = 0.5    # more steps where little noise is left
AT_ONCE = 100       # pictures


class Restored(NamedTuple):
    """Draws from p(picture | measurement): float (samples, N, C, size, size) in [-1, 1]."""

    samples: torch.Tensor

    @property
    def mean(self):
        """The guess of least squared error, (N, C, size, size)."""
        return self.samples.mean(0)

    @property
    def spread(self):
        """The standard deviation of each pixel over the samples."""
        return self.samples.std(0)


def measure(operator: Operator, pictures, noise_sd: float, generator=None):
    """A x + noise, for float pictures (N, C, H, W) in [-1, 1]."""
    y = operator.apply(pictures)
    return y + noise_sd * torch.randn(y.shape, generator=generator, device=y.device)


def decoder_of(model: LatentDiffusion) -> Callable:
    """Latents -> pictures (N, C, size, size), not clamped, with a gradient."""
    def decode(z):
        drawn = model.vae.decode(model.vae.denormalise(z)).float()
        return crop_to(drawn, model.image_size)

    return decode


def encoder_of(model: LatentDiffusion) -> Callable:
    """Float pictures in [-1, 1] -> the means of their latents."""
    side = model.latent_space.side

    def encode(pictures):
        return model.vae.normalise(model.vae.encode(pad_to(pictures, side)).mean)

    return encode


def prior_of(model: LatentDiffusion, n: int) -> Callable:
    """denoise(x, t) for n pictures of which the model is told nothing: no label, no words."""
    null = model.conditioner.null(n)
    return guided(model.denoiser, null, null)


def times(model: LatentDiffusion, n: int):
    """The times of n steps, (n + 1,), from 1 down to 0."""
    return shift(model.times(n), TIME_SHIFT)


@torch.no_grad()
def restore(model: LatentDiffusion, operator: Operator, y, noise_sd: float, *, samples: int = 1,
            seed: int = 0, num_inference_steps: int = STEPS, decoder_sd: float = DECODER_SD,
            iterations: int = 5) -> Restored:
    """Draw pictures from the posterior given y (N, ...) = operator.apply(picture) + noise.

    noise_sd is the noise's standard deviation, 0 for none. The last word is the measurement's:
    `consistent`. Draw s of picture k is the same whatever else is restored beside it.
    """
    if samples < 1 or noise_sd < 0:
        raise MinildmError(f"{samples} samples, noise of {noise_sd}", "restore",
                           "ask for one sample or more, and for noise of 0 or more")
    # each draw is a row: all draws of all pictures, a part at once
    numbers = [(k, s) for s in range(samples) for k in range(len(y))]
    drawn = []
    for first in range(0, len(numbers), AT_ONCE):
        part = numbers[first:first + AT_ONCE]
        rows = y[[k for k, _ in part]]
        drawn.append(_restored(model, operator, rows, noise_sd, num_inference_steps, decoder_sd,
                               iterations, _noise_of(part, seed)))
    return Restored(torch.cat(drawn).unflatten(0, (samples, len(y))))


def _restored(model, operator, y, noise_sd, steps, decoder_sd, iterations, draw):
    """One draw for each row of y."""
    decode, n = decoder_of(model), len(y)
    noise = draw(torch.empty(n, *model.latent_shape, device=y.device))
    latents = last(posterior(prior_of(model, n), model.denoiser.schedule, decode, operator, y,
                             noise, times(model, steps), noise_sd, decoder_sd, iterations, draw))
    pictures = decode(latents).clamp(-1, 1)
    return consistent(operator, pictures, y, noise_sd, decoder_sd).clamp(-1, 1)


def _noise_of(numbers: list[tuple[int, int]], seed: int) -> Callable:
    """draw(like): each row's noise is from a generator of its own, of (seed, picture, sample)."""
    generators = [generator_for(seed, "restore", k, s) for k, s in numbers]

    def draw(like):
        rows = [torch.randn(like.shape[1:], generator=g) for g in generators]
        return torch.stack(rows).to(like)

    return draw
