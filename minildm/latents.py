"""Where a denoiser works: a space that pictures are encoded into and decoded from.

`VAELatents` is the space of a VAE: pictures are padded to what the networks divide by, encoded
once for training, and cut to their size again. `FeatureLatents` wraps another space and lays
features of the picture beside its latents, which a denoiser then draws along and `decode` drops
(Kouzelis et al. 2025, arXiv:2504.16064). Latents are kept in 16 bits, a mean and a standard
deviation each.
"""

import contextlib
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch

from minildm.devices import cuda_bf16, room
from minildm.diffusion.schedules import Schedule, shift_channels
from minildm.images import crop_to, pad_to, to_float
from minildm.nn.vae import AutoencoderKL

PIXELS = 512**2     # encoded or decoded at once: one picture of Stable Diffusion's


class Latents(NamedTuple):
    """Gaussians of N pictures: mean (N, c, h, w), std (N, k, h, w); from k on all is exact."""

    mean: torch.Tensor
    std: torch.Tensor


class LatentSpace(Protocol):
    """Pictures to latents and back. A latent's channels have about unit variance."""

    image_size: int                     # side of the pictures
    shape: tuple[int, int, int]         # (c, h, w) of one latent
    stride: int                         # pixels that a latent position stands for, along one side

    def noise(self, generator=None) -> torch.Tensor:
        """Standard normal noise of one latent, on the CPU."""

    def encode(self, images, mirror: bool = False) -> Latents:
        """uint8 images (N, C, size, size) -> their latents, then their mirror images' if asked."""

    def decode(self, latents) -> torch.Tensor:
        """Latents (N, c, h, w) -> float images (N, C, size, size) in [-1, 1]."""


def sample_latents(mean, std, generator=None):
    """Draw one latent of each Gaussian, float32 (N, c, h, w): mean + std * noise."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    known = std.shape[1]            # the channels after these are known exactly
    drawn = mean[:, :known].float() + std.float() * noise[:, :known]
    return torch.cat([drawn, mean[:, known:].float()], dim=1)


@torch.no_grad()
def encode_all(vae: AutoencoderKL, images, dtype=torch.float32, side: int | None = None,
               mirror: bool = False) -> Latents:
    """Encode a set of uint8 images (N, C, H, W) -> normalised mean and std, (N, c, h, w).

    With a side, images are padded to it. With mirror, N more follow: those of the mirror images.
    What is kept in 16 bits is computed on CUDA with products in bf16, all else in float32.
    """
    side = side or images.shape[-1]
    at_once = max(1, PIXELS * room(images.device) // side**2)
    rounded = contextlib.nullcontext() if dtype == torch.float32 else cuda_bf16(images.device)
    n, position = len(images), side // vae.config.factor
    copies = 2 if mirror else 1
    shape = copies * n, vae.config.latent_channels, position, position
    # filled in place: a list of parts, joined at the end, would hold everything twice
    mean = torch.empty(shape, dtype=dtype, device=images.device)
    std = torch.empty_like(mean)
    scale = vae.latent_std[:, None, None]
    for copy in range(copies):
        for first in range(0, n, at_once):
            batch = pad_to(images[first:first + at_once], side)
            with rounded:
                posterior = vae.encode(to_float(batch.flip(-1) if copy else batch))
            place = slice(copy * n + first, copy * n + first + len(batch))
            mean[place] = vae.normalise(posterior.mean)
            std[place] = posterior.std / scale
    return Latents(mean, std)


class VAELatents:
    """The latents of a VAE, whose sides divide by `multiple`, as the denoiser's network wants."""

    def __init__(self, vae: AutoencoderKL, image_size: int, multiple: int = 1):
        self.vae = vae.eval()
        self.image_size = image_size
        self.stride = vae.config.factor
        # the next multiple of what both networks divide by: 28 -> 32
        self.side = padded(image_size, self.stride * multiple)

    @property
    def shape(self) -> tuple[int, int, int]:
        position = self.side // self.stride
        return self.vae.config.latent_channels, position, position

    def noise(self, generator=None) -> torch.Tensor:
        return torch.empty(self.shape).normal_(generator=generator)

    def encode(self, images, mirror: bool = False) -> Latents:
        # fp16, not bf16: latents are near 1, where it has eight times the precision
        return encode_all(self.vae, images, torch.float16, self.side, mirror)

    @torch.no_grad()
    def decode(self, latents) -> torch.Tensor:
        """As many at once as fit in memory."""
        at_once = max(1, PIXELS * room(latents.device) // self.image_size**2)
        parts = self.vae.denormalise(latents).split(at_once)
        images = torch.cat([self.vae.decode(part).float().clamp(-1, 1) for part in parts])
        return crop_to(images, self.image_size)


class FeatureLatents:
    """Another space's latents with `channels` of the picture's features beside them.

    The features' channels run `feature_shift` times ahead of the others on the schedule (Pan et
    al. 2025, arXiv:2512.04926). `features(images, channels, side, mirror)` -> (N, channels, side,
    side) is needed to encode, not to draw.
    """

    def __init__(self, space: LatentSpace, channels: int, feature_shift: float = 2.0,
                 features: Callable | None = None):
        self.space = space
        self.channels = channels
        self.feature_shift = feature_shift
        self.features = features

    @property
    def vae(self) -> AutoencoderKL:
        return self.space.vae

    @property
    def image_size(self) -> int:
        return self.space.image_size

    @property
    def stride(self) -> int:
        return self.space.stride

    @property
    def shape(self) -> tuple[int, int, int]:
        c, h, w = self.space.shape
        return c + self.channels, h, w

    def noise(self, generator=None) -> torch.Tensor:
        return torch.empty(self.shape).normal_(generator=generator)

    def encode(self, images, mirror: bool = False) -> Latents:
        mean, std = self.space.encode(images, mirror)
        side = self.shape[-1]
        seen = pad_to(images, side * self.stride)
        features = self.features(seen, self.channels, side, mirror)
        # a feature is known exactly: `std` ends where the features begin
        return Latents(torch.cat([mean, features.to(mean)], dim=1), std)

    def decode(self, latents) -> torch.Tensor:
        return self.space.decode(latents[:, :self.space.shape[0]])

    def shift_schedule(self, schedule: Schedule) -> Schedule:
        """The schedule on which the features run ahead of the latents."""
        shifts = torch.ones(self.shape[0])
        shifts[-self.channels:] = self.feature_shift
        return shift_channels(schedule, shifts)


def padded(size: int, multiple: int) -> int:
    """The next multiple: 28 of 8 -> 32."""
    return -(-size // multiple) * multiple
