"""What the bug hunt runs on: a small network of latents that trains in seconds, and its loop.

The healthy run is here, with the zoo's VAE and its latents of the digits. Each patient of the
lesson, and of the benchmark of the monitor, is this run with one thing wrong.
"""

import copy
import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from minildm.diffusion.denoiser import logit_normal
from minildm.nn.layers import sinusoid

NULL = 10           # the label that means "any digit"
BATCH, LR, DECAY = 64, 3e-3, 0.98


class SmallNetwork(nn.Module):
    """A residual network of whole latents: x (B, 3, 8, 8), t () or (B,), labels (B,) -> like x."""

    multiple, null_context = 1, NULL

    def __init__(self, width: int = 256, depth: int = 3, numbers: int = 192, dropout: float = 0.0):
        super().__init__()
        self.of_x = nn.Linear(numbers, width)
        self.of_t = nn.Linear(64, width)
        self.of_label = nn.Embedding(NULL + 1, width)
        self.modulations = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, numbers)
        # it begins by saying (nearly) nothing
        nn.init.zeros_(self.out.weight)

    def forward(self, x, t, labels):
        t = torch.as_tensor(t, dtype=torch.float32).expand(len(x))
        told = F.silu(self.of_t(sinusoid(t, 64)) + self.of_label(labels))     # (B, width)
        h = self.of_x(x.flatten(1))
        for modulation, layer in zip(self.modulations, self.layers, strict=True):
            scale, shift = modulation(told).chunk(2, dim=1)
            normed = F.layer_norm(h, h.shape[1:]) * (1 + scale) + shift
            h = h + self.dropout(F.silu(layer(normed)))
        return self.out(F.layer_norm(h, h.shape[1:])).reshape(x.shape)


def fresh(seed: int = 0, **words) -> SmallNetwork:
    """A small network whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallNetwork(**words)


def velocity_loss(network, latents, labels, generator, share: float = 0.1):
    """Flow matching's loss, with a share of the labels replaced by the null."""
    # the order of the draws is part of a run
    t = logit_normal(len(latents), generator)
    noise = torch.randn(latents.shape, generator=generator)
    dropped = torch.rand(len(labels), generator=generator) < share
    told = torch.where(dropped, NULL, labels)
    x = torch.lerp(latents, noise, t[:, None, None, None])
    return (network(x, t, told) - (noise - latents)).square().mean()


def fit(network, latents, labels, steps: int, generator, loss=velocity_loss, lr: float = LR):
    """Train; -> (the averaged network, the losses). The network keeps its last weights."""
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr, fused=True)
    losses = []
    for i in range(1, steps + 1):
        rows = torch.randint(len(latents), (BATCH,), generator=generator)
        value = loss(network, latents[rows], labels[rows], generator)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        # a ramp: at first the average knows little
        share = 1 - min(DECAY, (1 + i) / (10 + i))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), share)
        losses.append(value.item())
    return average.eval(), losses


@torch.no_grad()
def draw(network, x, labels, steps: int = 20, start: float = 1.0, scale: float = 1.0):
    """Euler's method from x at time `start` to the data, with guidance away from the null."""
    null = torch.full_like(labels, network.null_context)
    times = torch.linspace(start, 0, steps + 1)
    for t, s in pairwise(times):
        velocity = network(x, t, labels)
        # at 1 the null has no say: one call instead of two
        if scale != 1:
            untold = network(x, t, null)
            velocity = untold + scale * (velocity - untold)
        x = x + (s - t) * velocity
    return x


@torch.no_grad()
def in_units(vae, unit: float):
    """The same VAE, whose raw latents are `unit` times as large, their scale not yet measured.

    The copies are the same: the encoder's last layer multiplies, the decoder's first one divides.
    """
    other = copy.deepcopy(vae)
    # the encoder's last layer makes means, then log variances
    half = vae.config.latent_channels
    other.quant_conv.weight[:half] *= unit
    other.quant_conv.bias[:half] *= unit
    other.quant_conv.bias[half:] += 2 * math.log(unit)         # of the log variances
    other.post_quant_conv.weight /= unit
    other.latent_mean.zero_()
    other.latent_std.fill_(1)
    return other


def compiled_checkpoint(network, parts=("up_blocks", "mid_block")) -> dict:
    """The tensors of a network by name, as a training saves them that had compiled some parts."""
    found = {}
    for name, tensor in network.state_dict().items():
        part, rest = name.split(".", 1)
        inside = "_orig_mod." if part in parts else ""
        found[f"network.{part}.{inside}{rest}"] = tensor.clone()
    return found
