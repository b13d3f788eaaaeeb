"""What all diagrams are drawn with: boxes, arrows and labels on a page measured in inches.

One visual language: a rounded box is something that computes, a square one a tensor; the colour of
its edge says what it is (`figures.COLOURS`), a grey line under its name its shape. Solid arrows
carry values, dashed ones gradients.
"""

import math
from typing import NamedTuple

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from minildm.course.figures import COLOURS, DPI, TEXT, WIDTH

INK, FAINT = "#222222", "#595959"


class Box(NamedTuple):
    """A drawn box by its middle and its sides, in inches, for arrows to start and end at."""

    x: float
    y: float
    width: float
    height: float

    def at(self, across: float, up: float) -> tuple[float, float]:
        """A point of the box: (-1, -1) is its lower left corner, (1, 1) its upper right."""
        return self.x + across * self.width / 2, self.y + up * self.height / 2

    @property
    def left(self):
        return self.at(-1, 0)

    @property
    def right(self):
        return self.at(1, 0)

    @property
    def top(self):
        return self.at(0, 1)

    @property
    def bottom(self):
        return self.at(0, -1)


def page(height: float, width: float = WIDTH):
    """Make an empty page of so many inches: -> (figure, axes), a unit of the axes is an inch."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.axis("off")
    return figure, axes


def colour(kind: str) -> str:
    """The colour of a kind of thing; anything else is drawn in ink."""
    return COLOURS.get(kind, INK)


def fill(kind: str, strength: float = 0.15) -> tuple:
    """The kind's colour thinned with white, so that text on it is read easily."""
    red, green, blue = to_rgb(colour(kind) if kind in COLOURS else "white")
    return tuple(1 - strength * (1 - part) for part in (red, green, blue))


def box(axes, x, y, name: str, kind="", shape="", width=1.0, height=0.5, tensor=False) -> Box:
    """Draw a box around (x, y) with a name and, in grey below it, a shape or a remark."""
    drawn = Box(x, y, width, height)
    corner = 0.0 if tensor else 0.08
    style = f"round,pad=0,rounding_size={corner}" if corner else "square,pad=0"
    axes.add_patch(FancyBboxPatch(
        drawn.at(-1, -1), width, height, boxstyle=style, facecolor=fill(kind),
        edgecolor=colour(kind), linewidth=1.4, gid="box", zorder=2))
    # the name takes the upper half where a shape stands below it
    lines = name.count("\n") + 1
    lift = 0.085 * (shape.count("\n") + 1) if shape else 0
    label(axes, x, y + lift, name, size=TEXT + 0.5)
    if shape:
        label(axes, x, y - 0.085 * lines, shape, ink=FAINT)
    return drawn


def frame(axes, left, bottom, right, top, name: str = "", kind="") -> Box:
    """Draw a dashed frame around a group of boxes, its name inside the upper left corner."""
    drawn = Box((left + right) / 2, (bottom + top) / 2, right - left, top - bottom)
    axes.add_patch(FancyBboxPatch(
        (left, bottom), drawn.width, drawn.height, boxstyle="round,pad=0,rounding_size=0.1",
        facecolor="none", edgecolor=colour(kind), linewidth=1, linestyle=(0, (4, 3)),
        gid="frame", zorder=1))
    if name:
        label(axes, left + 0.08, top - 0.14, name, kind=kind, align="left")
    return drawn


def label(axes, x, y, text: str, kind="", size=TEXT, align="center", ink=None):
    """Write text around (x, y), or from x on with align "left", up to x with "right"."""
    shade = ink or (darker(kind) if kind else INK)
    return axes.text(x, y, text, size=size, color=shade, ha=align, va="center", zorder=4)


def darker(kind: str) -> tuple:
    """The kind's colour, dark enough for text on white."""
    return tuple(0.7 * part for part in to_rgb(colour(kind)))


def arrow(axes, *points, kind="", gradient=False, head=True, width=1.3):
    """Draw an arrow along points; a dashed one for a gradient, a line where head is False."""
    axes.add_patch(FancyArrowPatch(
        path=Path(points), arrowstyle="-|>" if head else "-", mutation_scale=11,
        color=colour(kind), linewidth=width, linestyle=(0, (3, 2)) if gradient else "-",
        shrinkA=0, shrinkB=0, joinstyle="miter", gid="arrow", zorder=3))


def operator(axes, x, y, sign: str, radius=0.13) -> Box:
    """Draw a small circle with a sign in it: a sum, a product."""
    axes.add_patch(Circle((x, y), radius, facecolor="white", edgecolor=INK, linewidth=1.3,
                          gid="box", zorder=2))
    label(axes, x, y, sign, size=11)
    return Box(x, y, 2 * radius, 2 * radius)


def dot(axes, x, y, kind="", radius=0.055):
    """Draw a point."""
    axes.add_patch(Circle((x, y), radius, facecolor=colour(kind), edgecolor="none", zorder=5))


def curve(axes, xs, ys, kind="", width=1.6, dashed=False):
    """Draw a smooth line through many points."""
    style = (0, (3, 2)) if dashed else "-"
    axes.plot(xs, ys, color=colour(kind), linewidth=width, linestyle=style, zorder=2)


def chain(axes, *boxes):
    """Draw an arrow from each box to the next on its right."""
    for before, after in zip(boxes, boxes[1:], strict=False):
        arrow(axes, before.right, after.left)


def circle_points(x, y, radius, begin, end, n=60):
    """Points of an arc from angle begin to angle end, in degrees: -> (xs, ys)."""
    angles = [math.radians(begin + (end - begin) * i / n) for i in range(n + 1)]
    xs = [x + radius * math.cos(angle) for angle in angles]
    ys = [y + radius * math.sin(angle) for angle in angles]
    return xs, ys
