"""What lesson 13 and its benchmark restore, what they compare with, and how they judge it."""

import time

import torch
import torch.nn.functional as F
from torch import nn

from minildm.diffusion import operators
from minildm.diffusion.operators import Operator
from minildm.evaluation.classifier import in_batches
from minildm.training.loop import generator_for

NOISE_SD = 0.05     # of the measurements, where pictures go from -1 to 1
SIDE = 28
SURE = 0.9          # a classifier's probability above which a digit counts as a clear one


def tasks() -> dict[str, Operator]:
    """The four measurements of a digit, by name; their masks are always the same."""
    generator = torch.Generator().manual_seed(0)
    seen = torch.rand(SIDE, SIDE, generator=generator) < 0.5
    generator = torch.Generator().manual_seed(0)
    coefficients = operators.random_coefficients(0.3, SIDE, generator)
    return {
        "half the pixels": operators.keep_pixels(seen),
        "blur": operators.blur(1.6, SIDE),
        "k-space": operators.fourier(coefficients),
        "4x super-resolution": operators.average(4),
    }


# ---- without a prior

def interpolated(name: str, operator: Operator, y):
    """What one would do without a model of digits: a picture from y, (N, 1, 28, 28)."""
    if name == "4x super-resolution":
        return F.interpolate(y, scale_factor=4, mode="bicubic").clamp(-1, 1)
    if name == "half the pixels":
        return neighbours(operator.transpose(y), operator.apply(torch.ones(1, 1, SIDE, SIDE)))
    if name == "blur":
        return deconvolved(operator, y)
    # black is 0 for this one, as a scanner's air
    return operator.transpose(y + operator.apply(torch.ones(1, 1, SIDE, SIDE))).clamp(0, 2) - 1


def neighbours(y, seen):
    """Each unseen pixel is the mean of the seen ones around it, the near ones counting most."""
    kernel = operators.gaussian_kernel(0.7, 5).roll((2, 2), (0, 1))[None, None]
    weighed, weights = F.conv2d(y * seen, kernel, padding=2), F.conv2d(seen, kernel, padding=2)
    around = torch.where(weights > 0, weighed / weights.clamp(min=1e-6), -1)
    return torch.where(seen > 0, y, around).clamp(-1, 1)


def deconvolved(operator: Operator, y, spread: float = 0.6):
    """Wiener's filter: the mean of x given y, for pixels of this spread around black."""
    def matrix(d):
        return operator.transpose(operator.apply(d)) + (NOISE_SD / spread) ** 2 * d

    black = -torch.ones_like(y)
    right = operator.transpose(y - operator.apply(black))
    return (black + operators.conjugate_gradients(matrix, right, 40)).clamp(-1, 1)


class Upsampler(nn.Module):
    """A network for one task alone: measured means (N, 1, 7, 7) -> pictures (N, 1, 28, 28).

    It works on the small picture, and ends with 16 numbers per position that are put side by side.
    """

    def __init__(self, width: int = 48, blocks: int = 3):
        super().__init__()
        self.enter = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Sequential(
            nn.SiLU(), nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)) for _ in range(blocks))
        self.leave = nn.Conv2d(width, 16, 3, padding=1)

    def forward(self, y):
        x = self.enter(y)
        for block in self.blocks:
            x = x + block(x)
        return F.pixel_shuffle(self.leave(F.silu(x)), 4)


@torch.enable_grad()
def train_upsampler(pictures, seconds: float, seed: int = 0, batch: int = 128) -> Upsampler:
    """Train on float pictures (N, 1, 28, 28), by squared error, for so many CPU seconds."""
    generator = generator_for(seed, "upsampler")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Upsampler()
    operator = operators.average(4)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    began, share = time.process_time(), 0.0
    while share < 1:
        share = (time.process_time() - began) / seconds
        # the rate falls to 0 as the time runs out
        optimizer.param_groups[0]["lr"] = 2e-3 * max(1 - share, 0.01)
        x = pictures[torch.randint(len(pictures), (batch,), generator=generator)]
        y = operator.apply(x)
        y = y + NOISE_SD * torch.randn(y.shape, generator=generator)
        loss = (network(y) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.requires_grad_(False)


# ---- how good it is

def psnr(pictures, truth):
    """Peak signal-to-noise ratio in dB, 10 log10(2^2 / mean squared error): (N,)."""
    error = (pictures - truth).square().mean((1, 2, 3))
    return 10 * torch.log10(4 / error)


def judged(pictures, truth, labels, classifier) -> dict[str, float]:
    """The mean PSNR, and the share of pictures that are read as the true digit."""
    right = in_batches(classifier, pictures.clamp(-1, 1)).argmax(1) == labels
    return {"psnr": psnr(pictures, truth).mean().item(), "read": right.float().mean().item()}


def ranks(samples, truth):
    """The place of the truth among the samples, by the distance to the mean of all others: (N,).

    samples (S, N, ...), truth (N, ...). 0: nearest, S: farthest. Draws from the true posterior
    cannot be told from the truth, so that every place is equally likely.
    """
    crowd = torch.cat([truth[None], samples]).flatten(2)                   # (S + 1, N, pixels)
    others = (crowd.sum(0) - crowd) / (len(crowd) - 1)
    distances = (crowd - others).norm(dim=2)
    return (distances[1:] < distances[0]).sum(0)


def coverage(places, samples: int, share: float) -> tuple[float, float]:
    """The share of truths among the nearest `share` of all places, and what it should be."""
    count = round(share * (samples + 1))
    return (places < count).float().mean().item(), count / (samples + 1)


def invented(samples, labels, classifier):
    """Which samples (S, N, ...) clearly show another digit than the true one: bool (S, N)."""
    logits = in_batches(classifier, samples.flatten(0, 1))
    sure, read = logits.softmax(1).unflatten(0, samples.shape[:2]).max(2)
    return (read != labels) & (sure > SURE)
