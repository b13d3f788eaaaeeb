"""Figures of crowds, pairs, fields and journeys in the plane, the heart in grey behind them."""

import torch

from minildm.course.figures import COLOURS, WIDTH, show
from minildm.course.heart import draw_heart

VIEW = 2.7      # the plane is shown from -2.7 to 2.7


def planes(titles):
    """A figure with one square panel for each title."""
    import matplotlib.pyplot as plt

    titles = list(titles)
    count = len(titles)
    side = min(WIDTH / count, 4.0)
    size = side * count, side + 0.25            # with room for the titles
    figure, axes = plt.subplots(1, count, figsize=size, squeeze=False)
    ground = draw_heart(1500, torch.Generator().manual_seed(0))
    for each, title in zip(axes[0], titles, strict=True):
        each.scatter(*ground.T, s=1, color="0.85", zorder=0)
        each.set(xlim=(-VIEW, VIEW), ylim=(-VIEW, VIEW), aspect="equal", xticks=[], yticks=[])
        each.set_title(title)
    return figure, axes[0]


def show_crowds(crowds: dict, alt: str):
    """Draw named crowds of points, {title: (N, 2)}, side by side."""
    figure, axes = planes(crowds)
    for each, crowd in zip(axes, crowds.values(), strict=True):
        each.scatter(*crowd.T, s=1.5, alpha=0.5, color=COLOURS["network"])
    show(figure, alt=alt)


def show_pairs(starts, ends, crowd, titles, alt: str):
    """Draw lines from starts (N, 2) to ends (N, 2); beside them a crowd."""
    figure, (left, right) = planes(titles)
    # x and y of both ends of all lines, each (2, N)
    lines = torch.stack([starts, ends]).permute(2, 0, 1)
    left.plot(*lines, color=COLOURS["data"], linewidth=0.5)
    left.scatter(*ends.T, s=6, color=COLOURS["noise"])
    right.scatter(*crowd.T, s=1.5, alpha=0.5, color=COLOURS["data"])
    show(figure, alt=alt)


def show_field(velocity, t: float, here, ends, titles, alt: str):
    """Draw lines from a place `here` to ends (N, 2) and their mean; beside it, the field at time t.

    The arrows lead where points go, from noise to data: against the velocity.
    """
    figure, (left, right) = planes(titles)
    lines = torch.stack([here.expand(len(ends), 2), ends])
    left.plot(*lines.permute(2, 0, 1), color=COLOURS["data"], linewidth=0.5)
    left.plot(*here, "o", color="black", markersize=4)
    left.plot(*ends.mean(0), "o", color=COLOURS["loss"], markersize=6)
    # on a lattice
    ticks = torch.linspace(-2.1, 2.1, 15)
    places = torch.cartesian_prod(ticks, ticks)
    arrows = -velocity(places, torch.tensor(t))
    right.quiver(*places.T, *arrows.T, color=COLOURS["network"], angles="xy", scale_units="xy",
                 scale=4.5, width=0.005)
    show(figure, alt=alt)


def show_journeys(journeys: dict, alt: str, dashed: dict | None = None):
    """Draw named journeys {title: path (K + 1, N, 2)}, an arrow half way along each.

    `dashed` has other journeys for some of the panels, drawn over them.
    """
    figure, axes = planes(journeys)
    for each, (title, path) in zip(axes, journeys.items(), strict=True):
        each.plot(path[:, :, 0], path[:, :, 1], color=COLOURS["network"], linewidth=0.6, alpha=0.7)
        each.scatter(*path[0].T, s=4, color=COLOURS["noise"])
        # the way at the middle time, as an arrow of one length
        middle = len(path) // 2
        way = path[middle + 1] - path[middle - 1]
        way = 0.2 * way / way.norm(dim=1, keepdim=True).clamp(min=1e-9)
        each.quiver(*path[middle].T, *way.T, color="black", angles="xy", scale_units="xy",
                    scale=1, width=0.004, headwidth=6, headlength=6)
        if dashed and title in dashed:
            over = dashed[title]
            each.plot(over[:, :, 0], over[:, :, 1], color=COLOURS["loss"], linewidth=0.6,
                      linestyle=(0, (4, 4)))
    show(figure, alt=alt)
