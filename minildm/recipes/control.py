"""Control by maps: scenes, a trained model of them, and a map of each -> a control network.

    scenes -> maps, latents, sentences -> a copy of the model's encoder, trained by the model's loss

The model's own weights stay as they are: one model has as many controls as one likes.
"""

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
    "cpu": ControlSizes((16, 32, 64), TrainConfig(
        steps=900, batch_size=32, lr=2e-3, warmup=50, decay="cosine", ema=0.99)),
}


def train_control(model: LatentDiffusion, images, truth, hints, sizes: ControlSizes,
                  run_dir=None, bar: bool = True) -> tuple[nn.Module, dict]:
    """Train a control of a model of scenes. Returns the control network and the metrics.

    uint8 scenes (N, 3, 32, 32), what stands in them, and their maps (N, C, 32, 32).
    """
    each = [captions(truth, seed, partial=PARTIAL) for seed in range(SENTENCES)]
    asked = told(model.text_encoder, model.tokenizer, list(zip(*each, strict=True)),
                 torch.arange(len(images)))
    denoiser = model.denoiser.requires_grad_(False)
    with seeded(sizes.training.seed):
        net = control_for(denoiser.network, hints.shape[1], sizes.widths)
    mean, std = model.latent_space.encode(images)

    def loss(mean, std, hint, meaning, generator):
        z = sample_latents(mean, std, generator)
        words = draw_wording(asked.wordings, meaning, generator)
        context = asked.conditioner.embed(asked.conditioner.drop(words, generator))
        return controlled(denoiser, net, hint).loss(z, context, generator)

    identity = {"hint": hints.shape[1], "widths": list(sizes.widths), "base": checksum(denoiser)}
    history = fit(net, loss, (mean, std, hints, asked.asked), sizes.training, run_dir, bar, identity)
    return net.eval(), history
