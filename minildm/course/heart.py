"""A world in the plane where every answer is known: forty small round blobs along a heart.

The data's density is a mixture of Gaussians, so noised data has one as well, and the expected clean
data E[data | x_t], which is what a trained network aims at, is a sum that can be written down. So
one can tell what a solver does wrong from what a network has not learned.
"""

import torch
from torch import nn

from minildm.course.points import Blobs, heart, set_distance, shadows
from minildm.diffusion.schedules import Schedule
from minildm.nn.layers import sinusoid

HEART = Blobs(heart(), width=0.06)
LINES = 64          # on which crowds are compared


def draw_heart(n: int, generator=None):
    """n points of the data, (n, 2)."""
    return HEART.draw(n, generator)


def perfect(schedule: Schedule):
    """The heart's exact denoiser: denoise(x, t) = E[data | x_t = x], x (N, 2), t () or (N,)."""
    return HEART.denoiser(schedule)


class PointNetwork(nn.Module):
    """A small network for points: x (N, 2), t a number or (N,) -> (N, 2)."""

    def __init__(self, dim: int = 128):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 + 32, dim), nn.SiLU(), nn.Linear(dim, dim), nn.SiLU(),
            nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, 2))

    def forward(self, x, t, context=None):
        waves = sinusoid(t, 32).expand(len(x), -1)
        return self.layers(torch.cat([x, waves], dim=1))


class PointJumps(nn.Module):
    """A small network for jumps of points: x (N, 2), from t to s, each () or (N,) -> (N, 2)."""

    def __init__(self, dim: int = 128):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 + 64, dim), nn.SiLU(), nn.Linear(dim, dim), nn.SiLU(),
            nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, 2))

    def forward(self, x, t, s):
        begin, length = (sinusoid(time, 32).expand(len(x), -1) for time in (t, t - s))
        return self.layers(torch.cat([x, begin, length], dim=1))


class Crowd:
    """The heart as a crowd of n points, and how far another crowd of n is from it.

    The distance is the sliced Wasserstein distance of order 1 (Bonneel et al. 2015): the shadows of
    both crowds on a line are sorted, and the mean gap between them is averaged over 64 lines. The
    heart's own shadows are quantiles of 100 n points, as good as exact.
    """

    def __init__(self, n: int):
        self.n = n
        many = draw_heart(100 * n, torch.Generator().manual_seed(1234))
        # the middle one of each hundred
        self.shadows = self.shadows_of(many)[50::100]                      # (n, 64)

    def shadows_of(self, x):
        """Points x (n, 2) on each line, sorted, (n, 64)."""
        return shadows(x.float(), LINES)

    def distance(self, x) -> float:
        """From the heart to points x (n, 2)."""
        return (self.shadows_of(x) - self.shadows).abs().mean().item()

    def gap(self, a, b) -> float:
        """From points a to points b, both (n, 2)."""
        return set_distance(a.float(), b.float(), LINES)

    def floor(self, draws: int = 20):
        """The distance of `draws` fresh crowds of n points of the heart itself, (draws,)."""
        generator = torch.Generator().manual_seed(4321)
        found = []
        for _ in range(draws):
            fresh = draw_heart(self.n, generator)
            found.append(self.distance(fresh))
        return torch.tensor(found)
