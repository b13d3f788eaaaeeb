"""Control by maps: scenes, a trained model of them, and a map of each -> a control network.

    scenes -> maps, latents, sentences -> a copy of the model's encoder, trained by the model's loss

The model's own weights stay as they are: one model has as many controls as one likes.
"""

import warnings
from dataclasses import dataclass

import torch
from torch import nn

from minildm.data.scenes import captions
from minildm.diffusion.controlled import controlled
from minildm.latents import sample_latents
from minildm.model import LatentDiffusion
from minildm.nn.control import control_for
from minildm.recipes.conditions import PARTIAL, SENTENCES, told
from minildm.recipes.stages import checksum, draw_wording, seeded
from minildm.training.loop import TrainConfig, fit


@dataclass(frozen=True)
class ControlSizes:
    """One row of the recipe: the widths of the hint's layers, and how long is trained."""

    widths: tuple[int, ...]
    training: TrainConfig


SIZES = {
    # seconds: to see that everything runs
    "smoke": ControlSizes((8, 8, 16), TrainConfig(steps=5, batch_size=16, lr=1e-3, ema=0.5)),
    # 2 cores of an AMD EPYC with AVX2, seed 0: of 100 scenes the edges' F1 is 0.991, 0.782 without
    # control, and as many prompts are obeyed; 3 minutes of one core
    "cpu": ControlSizes((16, 32, 64), TrainConfig(
        steps=300, batch_size=32, lr=2e-3, warmup=50, decay="cosine", ema=0.99)),
}


def fresh_control(model: LatentDiffusion, hint_channels: int, sizes: ControlSizes) -> nn.Module:
    """An untrained control of a model's network, which draws as before with it."""
    with seeded(sizes.training.seed):
        return control_for(model.denoiser.network, hint_channels, sizes.widths)


def train_control(net: nn.Module, model: LatentDiffusion, images, truth, hints,
                  sizes: ControlSizes, join=controlled, run_dir=None, bar: bool = True) -> dict:
    """Train a control of a model of scenes. Returns the metrics.

    uint8 scenes (N, 3, 32, 32), what stands in them, and their maps (N, C, 32, 32).
    `join(denoiser, net, hint)` is the denoiser that hears the hints.
    """
    each = [captions(truth, seed, partial=PARTIAL) for seed in range(SENTENCES)]
    with warnings.catch_warnings():
        # the longest sentences lose their last word
        warnings.filterwarnings("ignore", message=".* tokens, .* fit")
        asked = told(model.text_encoder, model.tokenizer, list(zip(*each, strict=True)),
                     torch.arange(len(images)))
    denoiser = model.denoiser.requires_grad_(False)
    mean, std = model.latent_space.encode(images)

    def loss(mean, std, hint, meaning, generator):
        z = sample_latents(mean, std, generator)
        words = draw_wording(asked.wordings, meaning, generator)
        context = asked.conditioner.embed(asked.conditioner.drop(words, generator))
        return join(denoiser, net, hint).loss(z, context, generator)

    identity = {"hint": hints.shape[1], "widths": list(sizes.widths), "base": checksum(denoiser)}
    tensors = mean, std, hints, asked.asked
    history = fit(net, loss, tensors, sizes.training, run_dir, bar, identity)
    net.eval()
    return history
