"""Lesson 15's arms: one transformer in latents or in pixels, asked for the data or the velocity.

All of them learn and draw along x_t = (1 - t) data + t noise, and all are judged by the velocity.
Two things differ: the space that `data` lies in, and what the network's answer means. `velocity_of`
is the one line that knows the second. benchmarks/equal_cost.py runs these functions.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from minildm.diffusion.denoiser import drop_context, logit_normal
from minildm.diffusion.schedules import add_noise, expand, flow, time_grid
from minildm.images import to_float
from minildm.latents import encode_all, sample_latents
from minildm.nn.dit import DiT, DiTConfig

LOW = 0.05          # the least that a velocity is divided by (Li & He 2025)
WARMUP = 50         # steps
AVERAGE = 0.98      # of the weights' running average
CLIP = 1.0          # norm of the gradient

# a name, the space, what the network is asked for
TWO_BY_TWO = {"latents, x0": ("latents", "x0"), "latents, flow": ("latents", "flow"),
              "pixels, x0": ("pixels", "x0"), "pixels, flow": ("pixels", "flow")}


# ---- what the student writes as well

def to_velocity(x0, x, t, low=LOW):
    """The velocity at x (B, C, H, W), given the expected data x0; t (B,) counts as `low` at least.
    """
    return (x - x0) / expand(t, x).clamp(min=low)


def velocity_of(network, predicts: str, x, t, labels):
    """What a network that predicts "x0" or "flow" says of the velocity at x."""
    answer = network(x, t, labels)
    return to_velocity(answer, x, t) if predicts == "x0" else answer


def velocity_loss(network, predicts: str, data, labels, generator, drop: float = 0.1):
    """The mean squared error of the velocity, whatever the network predicts."""
    t = logit_normal(len(data), generator, data.device)
    noise = torch.randn(data.shape, generator=generator, device=data.device)
    labels = drop_context(labels, network.null_context, drop, generator)
    x = add_noise(flow, data, noise, t)
    # noise - data, except at times below LOW: there a perfect x0 would otherwise be called wrong
    wanted = to_velocity(data, x, t)
    return (velocity_of(network, predicts, x, t, labels) - wanted).square().mean()


def clipped_step(network, average, optimizer, loss, decay: float) -> float:
    """Move the weights against the clipped gradient of `loss`, then their average towards them."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), CLIP)
    optimizer.step()
    with torch.no_grad():
        for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)
    return loss.item()


def race(network, loss: Callable, step: Callable, batch: Callable, stops, lr: float, generator):
    """Train to the last stop; at each yield (steps, mean loss since the last, averaged network).

    batch(generator) -> (data, labels); loss(network, data, labels, generator) -> a number with its
    graph; step is `clipped_step`.
    """
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr, betas=(0.9, 0.95))
    losses = []
    for i in range(stops[-1]):
        optimizer.param_groups[0]["lr"] = lr * min(1, (i + 1) / WARMUP)
        data, labels = batch(generator)
        now = loss(network, data, labels, generator)
        decay = min(AVERAGE, (i + 1) / (i + 10))
        losses.append(step(network, average, optimizer, now, decay))
        if i + 1 in stops:
            yield i + 1, sum(losses) / len(losses), average
            losses = []


@torch.no_grad()
def draw_arm(network, predicts: str, noise, labels, steps: int):
    """Euler's steps along the velocity, from noise at t = 1 to data at t = 0."""
    x, times = noise, time_grid(steps).to(noise.device)
    for t, to in zip(times[:-1], times[1:], strict=True):
        x = x + (to - t) * velocity_of(network, predicts, x, t.expand(len(x)), labels)
    return x


def silent_share(weight, patches):
    """The share of the variance of patches (N, values) that a layer's weight (values, D) can't say.

    The layer's answers lie in the span of its columns, up to a bias: at most D directions.
    """
    width = weight.shape[1]
    silent = torch.linalg.svd(weight).U[:, width:]                  # (values, values - D)
    centred = patches - patches.mean(0)
    return (centred @ silent).square().sum() / centred.square().sum()


# ---- what is given

@dataclass(frozen=True)
class Space:
    """Where an arm works: the shape of its data, how a batch is drawn, and the way back."""

    shape: tuple[int, int, int]
    batch: Callable         # generator -> (data, labels)
    decode: Callable        # data -> pictures in [-1, 1]
    encode: Callable | None = None      # and back

    def noise(self, n: int, seed: int, device="cpu"):
        """The noise that n pictures are drawn from."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(n, *self.shape, generator=generator).to(device)


def pixel_space(images, labels, size: int) -> Space:
    """Pixels, each channel of mean 0 and variance 1."""
    some = to_float(images[:5000])
    shift, scale = some.mean((0, 2, 3), keepdim=True), some.std((0, 2, 3), keepdim=True)

    def batch(generator):
        picked = choose(len(images), size, generator, images.device)
        return (to_float(images[picked]) - shift) / scale, labels[picked]

    return Space(tuple(images.shape[1:]), batch, lambda x: (x * scale + shift).clamp(-1, 1),
                 lambda pictures: (pictures - shift) / scale)


def latent_space(vae, images, labels, size: int) -> Space:
    """A VAE's latents, drawn anew for each batch."""
    mean, std = encode_all(vae.eval(), images)

    def batch(generator):
        picked = choose(len(images), size, generator, images.device)
        return sample_latents(mean[picked], std[picked], generator), labels[picked]

    @torch.no_grad()
    def decode(z):
        parts = [vae.decode(vae.denormalise(part)) for part in z.split(250)]
        return torch.cat(parts).clamp(-1, 1)

    @torch.no_grad()
    def encode(pictures):
        parts = [vae.normalise(vae.encode(part).mean) for part in pictures.split(250)]
        return torch.cat(parts)

    return Space(tuple(mean.shape[1:]), batch, decode, encode)


def choose(n: int, size: int, generator, device):
    """The numbers of a batch."""
    return torch.randint(n, (size,), generator=generator, device=device)


def patches_of(x, side: int = 4):
    """Data (N, C, H, W) as side x side patches each: (N side side, p p C), as a DiT writes them."""
    squares = x.unflatten(3, (side, -1)).unflatten(2, (side, -1))           # (N, C, h, p, w, q)
    return squares.permute(0, 2, 4, 3, 5, 1).flatten(3, 5).flatten(0, 2)


def config_for(shape, side: int = 4, dim: int = 128, depth: int = 4, heads: int = 4) -> DiTConfig:
    """A DiT that reads data of a shape as side x side tokens."""
    channels, size, _ = shape
    return DiTConfig(channels, channels, dim=dim, depth=depth, heads=heads, patch=size // side,
                     num_classes=10)


def make_network(shape, seed: int, **sizes) -> DiT:
    """The network of `config_for`, its weights drawn by a seed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return DiT(config_for(shape, **sizes))


def multiply_adds(config: DiTConfig, size: int) -> float:
    """Multiply-adds of one call for one picture, counted on the meta device."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        label = torch.zeros(1, dtype=torch.long)
        DiT(config)(torch.empty(1, config.in_channels, size, size), torch.empty(1), label)
    return counter.get_total_flops() / 2
