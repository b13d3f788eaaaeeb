"""The heart of `course.heart` seen by an instrument that tells one coordinate alone, with noise."""

import torch

from minildm.course.figures import COLOURS, show
from minildm.course.heart import HEART
from minildm.course.points import panels

FIRST = torch.tensor([1.0, 0.0])


def see_first(x):
    """The measurement: points (N, 2) -> (N, 2), the first coordinate, and 0 for the second."""
    return x * FIRST


def exact_posterior(y: float, sd: float, n: int, generator=None):
    """n draws of p(point | y), (n, 2): choose a blob by Bayes, then a point of it, given y."""
    variance = HEART.width**2
    distance = (HEART.centres[:, 0] - y).square()
    chances = torch.softmax(-distance / (2 * (variance + sd**2)), dim=0)
    centre = HEART.centres[torch.multinomial(chances, n, replacement=True, generator=generator)]
    # the second coordinate is not seen: it is as wide as the blob
    gain = FIRST * variance / (variance + sd**2)
    mean = centre + gain * (y - centre)
    spread = (variance * (1 - gain)).sqrt()
    return mean + spread * torch.randn(n, 2, generator=generator)


def upper(points) -> float:
    """The share of points (N, 2) in the heart's upper half."""
    return (points[:, 1] > 0).float().mean().item()


def show_posteriors(sets: dict, y: float, alt: str):
    """Draw each named set of points (N, 2) over the heart, with a line where y is."""
    figure, axes = panels(list(sets), limit=2.2)
    for each, points in zip(axes, sets.values(), strict=True):
        each.axvline(y, color=COLOURS["condition"], linewidth=1.2)
        each.scatter(*HEART.centres.T, s=4, color=COLOURS["noise"])
        each.scatter(*points.T, s=3, alpha=0.3, color=COLOURS["data"])
    show(figure, alt=alt)
