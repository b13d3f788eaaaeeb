"""Curves in panels side by side, seeds as a mean with a band: what most figures of a lesson are.

    show_curves(panel(steps, {"ours": losses}, xlabel="step"), alt="The loss falls to 0.1.")
"""

from dataclasses import dataclass, field

import torch

from minildm.course.figures import WIDTH, show


@dataclass
class Panel:
    """Named lines over x (N,), and what `axes.set` takes; see `panel`."""

    x: object
    lines: dict
    dashed: tuple = ()      # names of lines that are dashed and black: laws, limits, references
    dots: tuple = ()        # names of lines that are drawn as points, in the last line's colour
    legend: bool = True
    labels: dict = field(default_factory=dict)


def panel(x, lines: dict, dashed=(), dots=(), legend=True, **labels) -> Panel:
    """Make a panel of lines {name: y (N,), y (seeds, N) or a pair (x, y)}.

    A name that begins with "_" is left out of the legend. `labels` goes to `axes.set`: xlabel,
    ylabel, title, xlim, yscale.
    """
    return Panel(x, lines, tuple(dashed), tuple(dots), legend, labels)


def show_curves(*panels: Panel, alt: str, height: float = 2.8, width: float = WIDTH):
    """Draw the panels from left to right in one figure and show it with its alternative text."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(panels), figsize=(width, height), squeeze=False)
    for each, one in zip(axes[0], panels, strict=True):
        draw(each, one)
    show(figure, alt=alt)


def draw(axes, panel: Panel):
    """Draw the lines of one panel: the mean of the seeds, and a band from least to most."""
    colour = -1
    for name, line in panel.lines.items():
        x, y = line if isinstance(line, tuple) else (panel.x, line)
        x, y = torch.as_tensor(x), torch.atleast_2d(torch.as_tensor(y).double())
        if name in panel.dashed:
            axes.plot(x, y.mean(0), "k--", linewidth=1.2, label=name)
        elif name in panel.dots:
            # measured points belong to the line before them
            axes.plot(x, y.mean(0), "o", color=f"C{colour}", markersize=4, label=name)
        else:
            colour += 1
            axes.plot(x, y.mean(0), color=f"C{colour}", label=name)
            axes.fill_between(x, y.amin(0), y.amax(0), color=f"C{colour}", alpha=0.3, linewidth=0)
    axes.set(**panel.labels)
    # a single line is named by its axis
    if panel.legend and len(panel.lines) > 1:
        axes.legend()
