"""The plane of lesson 08: three classes, each an arc of seven blobs on a circle, and its figures.

Here everything is known, so that a sampler's mistakes can be told from a network's. Points are
(N, 2), labels 0, 1, 2; the label `ANY` means no class.
"""

import torch

from minildm.course.curves import panel, show_curves
from minildm.course.figures import WIDTH, show
from minildm.course.tables import print_table

CLASSES, PER_CLASS, ANY = 3, 7, 3
BLOB = 0.09             # standard deviation of a blob
FAR = 4 * BLOB          # of a blob's own points, 3 in 10,000 are farther from its centre
LIMIT = 2.6             # of the axes


def make_centres():
    """The centres of each class's blobs, (3, 7, 2)."""
    turns = torch.arange(CLASSES)[:, None] + torch.linspace(0, 0.75, PER_CLASS)
    angle = turns * 2 * torch.pi / CLASSES
    return 1.5 * torch.stack([angle.cos(), angle.sin()], dim=2)


CENTRES = make_centres()


def draw_points(labels, generator):
    """One point of each label's class, (N, 2)."""
    blob = torch.randint(PER_CLASS, labels.shape, generator=generator)
    return CENTRES[labels, blob] + BLOB * torch.randn(len(labels), 2, generator=generator)


def strays(x, label: int) -> float:
    """The share of points that are farther than `FAR` from every blob of the class."""
    nearest = torch.cdist(x, CENTRES[label]).amin(1)
    return (nearest > FAR).float().mean().item()


def spread(x) -> float:
    """The root mean square distance of points from their mean."""
    return x.var(0, unbiased=False).sum().sqrt().item()


def sliced_distance(a, b) -> float:
    """The Wasserstein-1 distance of two sets of N points, as the mean over 32 directions.

    Along one direction it is the mean distance of the sorted projections.
    """
    angle = torch.arange(32) * torch.pi / 32
    directions = torch.stack([angle.cos(), angle.sin()])                   # (2, 32)
    sorted_a, sorted_b = ((x @ directions).sort(0).values for x in (a, b))
    return (sorted_a - sorted_b).abs().mean().item()


def panels(titles, height: float, limit: float = LIMIT):
    """A figure of square panels, up to `limit` each way, over the centres of all classes."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(titles), figsize=(WIDTH, height), squeeze=False)
    for ax, title in zip(axes[0], titles, strict=True):
        for k, centres in enumerate(CENTRES):
            ax.scatter(*centres.T, s=9, color=f"C{k}", zorder=2)
        ax.set(title=title, xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal",
               xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    return figure, axes[0]


def show_points(sets: dict, alt: str, height: float = 2.5):
    """Draw each named set of points in a panel of its own."""
    figure, axes = panels(sets, height)
    for ax, x in zip(axes, sets.values(), strict=True):
        ax.scatter(*x.T, s=2, alpha=0.3, color="k", zorder=3)
    show(figure, alt=alt)


def show_arrows(x, ends: dict, alt: str, limit: float = LIMIT):
    """Draw arrows from x to each named set of points, a panel for each."""
    figure, axes = panels(ends, 3.2, limit)
    for ax, to in zip(axes, ends.values(), strict=True):
        ax.quiver(*x.T, *(to - x).T, angles="xy", scale_units="xy", scale=1, width=0.004,
                  color="0.35", zorder=1)
    show(figure, alt=alt)


MEASURES = "strays, %", "spread", "distance to the data"


def measures(x, label: int, real) -> list[float]:
    """The three numbers of `MEASURES` for samples of a class, beside as many real points."""
    return [100 * strays(x, label), spread(x), sliced_distance(x, real)]


def show_measures(scales, curves: dict, of_data, alt: str):
    """Draw each measure against the guidance scale, a panel each, and print the means.

    curves: {name: (seeds, 3, scales)}. of_data: the measures of a second draw of data, dashed.
    """
    parts = []
    for k, title in enumerate(MEASURES):
        lines = {name: values[:, k] for name, values in curves.items()}
        lines["data"] = torch.full((len(scales),), of_data[k])
        parts.append(panel(scales, lines, dashed=["data"], xlabel="guidance scale w", title=title,
                           legend=k == 0))
    show_curves(*parts, alt=alt)
    rows = {"data": dict(zip(MEASURES, of_data, strict=True))}
    for name, values in curves.items():
        for i, scale in enumerate(scales):
            column = values[:, :, i].mean(0).tolist()
            rows[f"{name}, w = {scale:g}"] = dict(zip(MEASURES, column, strict=True))
    print_table(rows)
