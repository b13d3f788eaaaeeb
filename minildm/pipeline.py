"""Latent diffusion from end to end: label -> noise -> latent -> picture (Rombach et al. 2022).

    pipe = LatentDiffusion.load("mnist")
    images = pipe.generate([3, 1, 4])

Picture k of seed s is the same whatever else is drawn beside it: its noise depends on (s, k) alone.
"""

from dataclasses import asdict
from pathlib import Path

import torch

from minildm import MinildmError, checkpoint
from minildm.data import ImageSet, crop_to, pad_to
from minildm.denoiser import Denoiser
from minildm.guidance import cfg
from minildm.recipes import ZOO, Recipe, build, encode_all, for_data, from_dict, train_denoiser, train_vae
from minildm.samplers import ddim, last
from minildm.schedules import time_grid
from minildm.training import gains_from_bf16, generator_for
from minildm.vae import AutoencoderKL


class LatentDiffusion:
    """A VAE and a denoiser of its latents, with what they were trained on."""

    def __init__(self, recipe: Recipe, vae: AutoencoderKL, denoiser: Denoiser, class_names, image_size: int):
        self.recipe, self.vae, self.denoiser = recipe, vae.eval(), denoiser.eval()
        self.class_names, self.image_size = tuple(class_names), image_size

    @property
    def device(self):
        return self.vae.latent_mean.device

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of one latent."""
        side = padded(self.image_size, self.recipe) // self.vae.config.factor
        return self.vae.config.latent_channels, side, side

    def noise(self, n: int, seed: int = 0, first: int = 0):
        """Starting noise of pictures first .. first + n - 1 of a seed, (n, c, h, w)."""
        generators = [generator_for(seed, "image", first + k) for k in range(n)]
        return torch.stack([torch.randn(self.latent_shape, generator=g) for g in generators]).to(self.device)

    @torch.no_grad()
    def decode(self, latents):
        """Normalised latents -> images (B, C, size, size) in [-1, 1]."""
        images = self.vae.decode(self.vae.denormalise(latents)).float().clamp(-1, 1)
        return crop_to(images, self.image_size)

    @torch.no_grad()
    def generate(self, labels, num_inference_steps: int | None = None, guidance_scale: float | None = None,
                 seed: int = 0, sampler=ddim, batch_size: int = 250):
        """Draw one picture a label: labels (N,) -> float images (N, C, size, size) in [-1, 1]."""
        labels = torch.as_tensor(labels, device=self.device)
        null = torch.full_like(labels, self.denoiser.network.null_class)
        if len(labels) and not (0 <= labels.min() and labels.max() < len(self.class_names)):
            raise MinildmError(f"labels {labels.min()}..{labels.max()} are not all classes", "generate",
                               f"use 0..{len(self.class_names) - 1}: {', '.join(self.class_names)}")
        ts = time_grid(num_inference_steps or self.recipe.num_inference_steps).to(self.device)
        scale = self.recipe.guidance_scale if guidance_scale is None else guidance_scale
        images = []
        with torch.autocast(self.device.type, torch.bfloat16, enabled=gains_from_bf16(self.device)):
            for first in range(0, len(labels), batch_size):
                part = slice(first, first + batch_size)
                noise = self.noise(len(labels[part]), seed, first)
                denoise = cfg(self.denoiser, labels[part], null[part], scale)
                images.append(self.decode(last(sampler(denoise, self.denoiser.schedule, noise, ts))))
        return torch.cat(images)

    def save(self, folder, measured: dict | None = None):
        """One folder: weights as fp16, the recipe, class names, and what was measured."""
        tensors = {f"vae.{k}": t.half() for k, t in self.vae.state_dict().items()}
        tensors |= {f"denoiser.{k}": t.half() for k, t in self.denoiser.state_dict().items()}
        checkpoint.save(folder, tensors, {"recipe": asdict(self.recipe), "class_names": self.class_names,
                                          "image_size": self.image_size, "measured": measured or {}})

    @classmethod
    def load(cls, folder, device="cpu") -> "LatentDiffusion":
        """From a folder that `save` wrote, or by name from the zoo of trained models."""
        path = Path(folder) if Path(folder).is_dir() else ZOO / str(folder)
        if not path.is_dir():
            raise MinildmError(f"there is no model {str(folder)!r}", ZOO,
                               "pass a folder that holds one, or train it: minildm demo")
        tensors, meta = checkpoint.load(path)
        recipe = from_dict(Recipe, meta["recipe"])
        vae, denoiser = build(recipe)
        for module, name in (vae, "vae."), (denoiser, "denoiser."):
            own = {k.removeprefix(name): t.float() for k, t in tensors.items() if k.startswith(name)}
            module.load_state_dict(own)
        return cls(recipe, vae.to(device), denoiser.to(device), meta["class_names"], meta["image_size"])


def padded(size: int, recipe: Recipe) -> int:
    """The side that the networks see: the next multiple of what VAE and denoiser divide by (28 -> 32)."""
    multiple = recipe.vae.factor * recipe.network.multiple
    return -(-size // multiple) * multiple


def train(recipe: Recipe, data: ImageSet, run_dir=None, bar: bool = True):
    """Train both stages on a set, going on where run_dir stopped: (pipeline, VAE's metrics, denoiser's)."""
    recipe = for_data(recipe, data)
    vae, denoiser = (module.to(data.images.device) for module in build(recipe))
    images = pad_to(data.images, padded(data.images.shape[-1], recipe))
    stage = {name: Path(run_dir) / name if run_dir else None for name in ("vae", "denoiser")}
    vae_metrics = train_vae(vae, images, recipe, stage["vae"], bar)
    labels = data.labels
    if recipe.mirror:
        images, labels = torch.cat([images, images.flip(-1)]), labels.repeat(2)
    latents = encode_all(vae.eval(), images)
    metrics = train_denoiser(denoiser, latents, labels, recipe, stage["denoiser"], bar)
    pipe = LatentDiffusion(recipe, vae, denoiser, data.class_names, data.images.shape[-1])
    return pipe, vae_metrics, metrics
