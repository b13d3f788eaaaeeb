"""Plumbing of lesson 14: crowds of pictures, honest and forged, and figures of how they score."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from minildm.course.curves import panel, show_curves
from minildm.course.figures import WIDTH, show
from minildm.recipes.classifier import classification_accuracy
from minildm.training.loop import TrainConfig

# ---- one picture ---------------------------------------------------------------------------------

def blurred(images):
    """Float pictures (N, 1, H, W), each pixel the mean of the 3 x 3 about it."""
    return F.avg_pool2d(F.pad(images, (1, 1, 1, 1), value=-1), 3, stride=1)


def gaussian_window(size: int = 11, sigma: float = 1.5):
    """Weights (size, size) that sum to 1, those of the SSIM."""
    bell = torch.exp(-(torch.arange(size) - size // 2).square() / (2 * sigma**2))
    return bell[:, None] * bell / bell.sum()**2


def windows(image, size: int = 11):
    """All windows of a picture (H, W), as intensities from 0 to 2: (places, size, size)."""
    return (image + 1).unfold(0, size, 1).unfold(1, size, 1).flatten(0, 1)


# ---- crowds --------------------------------------------------------------------------------------

def draw_rows(labels, count: int, balanced: bool, generator):
    """Indices of `count` rows: as many of each label, or each by chance."""
    order = torch.randperm(len(labels), generator=generator)
    if not balanced:
        return order[:count]
    per_class = -(-count // 10)
    rows = [order[labels[order] == label][:per_class] for label in range(10)]
    return torch.stack(rows, 1).flatten()[:count]


def draws_by_size(features, labels, balanced: bool, sizes, repeats: int, generator) -> dict:
    """{size: several sets (size, D) of some of the features}, as far as there are that many."""
    sizes = [size for size in sizes if size <= len(features)]
    return {size: [features[draw_rows(labels, size, balanced, generator)] for _ in range(repeats)]
            for size in sizes}


def forge(pictures, training, generator) -> dict:
    """Sets of as many digits as `pictures` (N, 1, 28, 28) uint8, each made to deceive a score.

    The pictures' labels are 0, 1, ... 9, 0, 1 and so on; training is an ImageSet to steal from.
    """
    n = len(pictures)
    stolen = training.images[draw_rows(training.labels, n, True, generator)]
    ten = stolen[:10].repeat(-(-n // 10), 1, 1, 1)[:n]
    odd = torch.stack([255 - stolen[0], stolen[1].roll(9, 1), stolen[2].flip(1),
                       stolen[3].roll(9, 2), stolen[4] // 4, (stolen[5] > 0).byte() * 255,
                       stolen[6].mT, stolen[7].maximum(stolen[8])])
    few = pictures.clone()
    some = torch.randperm(n, generator=generator)[:n // 20]
    few[some] = stolen[some]
    return {"ten digits": ten, "ten and strays": torch.cat([ten[:-len(odd)], odd])[:n],
            "mislabelled": pictures.roll(1, 0), "all copied": stolen, "5 % copied": few}


def plant(values, copies: int):
    """Values (N,) of some pictures, the first `copies` in a hundred replaced by a copy's: 0."""
    values = values.clone()
    values[:copies * len(values) // 100] = 0
    return values


def errors_of_pupils(lessons, exam, steps: int, pupils: int) -> list[float]:
    """Errors on an exam of classifiers, each of another seed, that saw only an ImageSet."""
    config = TrainConfig(steps=steps, batch_size=min(100, len(lessons) // 3), lr=2e-3,
                         weight_decay=0.05, warmup=20, ema=0.97)
    return [1 - classification_accuracy(lessons, exam, replace(config, seed=seed))
            for seed in range(pupils)]


def mean_and_spread(rows: list[dict]) -> dict:
    """{score: (mean, standard deviation)} of some sets' scores."""
    table = {name: torch.tensor([row[name] for row in rows]).double() for name in rows[0]}
    return {name: (values.mean().item(), values.std().item()) for name, values in table.items()}


# ---- figures -------------------------------------------------------------------------------------

def show_maps(versions: dict, maps: dict, alt: str):
    """Pictures above, maps of their likeness to the original below; {name: (H, W)} each."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(maps), figsize=(WIDTH, 2.9))
    for (top, bottom), (name, values) in zip(axes.T, maps.items(), strict=True):
        top.imshow(versions[name], cmap="gray", vmin=-1, vmax=1)
        drawn = bottom.imshow(values, vmin=-1, vmax=1, cmap="cividis")
        top.set(title=name, xticks=[], yticks=[])
        bottom.set(title=f"{values.mean():.2f}", xticks=[], yticks=[])
    figure.colorbar(drawn, ax=axes, shrink=0.8)
    show(figure, alt=alt)


def show_by_size(score: str, draws: dict, distance, alt: str):
    """A score of sets of several sizes against 1 / N, and its means and spreads as a table.

    draws: {kind: {N: some sets (N, D)}}; distance: what the score says of one set.
    """
    lines = {}
    for kind, by_size in draws.items():
        values = torch.tensor([[float(distance(x)) for x in sets] for sets in by_size.values()])
        lines[kind] = 1 / torch.tensor(list(by_size)), values.T            # (repeats, sizes)
        cells = [f"{mean:6.2f} ± {spread:4.2f}" for mean, spread in
                 zip(values.mean(1), values.std(1), strict=True)]
        print(f"{score}, {kind:20}" + "  ".join(cells))
    show_curves(panel(None, lines, xlabel="1 / N", ylabel=f"{score} to the reference"), width=6.5,
                height=3, alt=alt)


def ring(count: int, generator, share: float = 1.0, spread: float = 0.08):
    """Points (count, 2) about a part of the unit circle."""
    angle = 2 * torch.pi * share * torch.rand(count, generator=generator)
    radius = 1 + spread * torch.randn(count, generator=generator)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def toys(generator) -> dict:
    """Rings of fakes (150, 2): right, half of it, too wide, and half with four strays."""
    strays = 3 * torch.tensor([[1.0, 1], [-1, 1], [1, -1], [-1, -1]])
    half = ring(146, generator, 0.5)
    return {"all of it": ring(150, generator), "half of it": ring(150, generator, 0.5),
            "too wide": ring(150, generator, spread=0.4),
            "half, 4 strays": torch.cat([half, strays])}


def show_balls(truth, fakes: dict, titles: list, alt: str, k: int = 3):
    """The balls of real points, and fakes on them, a panel for each set."""
    import matplotlib.pyplot as plt

    radii = torch.cdist(truth, truth).kthvalue(k + 1, 1).values
    figure, axes = plt.subplots(1, len(fakes), figsize=(WIDTH, 2.6), sharey=True)
    for ax, points, title in zip(axes, fakes.values(), titles, strict=True):
        for centre, radius in zip(truth.tolist(), radii.tolist(), strict=True):
            ax.add_patch(plt.Circle(centre, radius, color="0.8", linewidth=0))
        inside = (torch.cdist(points, truth) <= radii).any(1)
        ax.scatter(*points[inside].T, s=4, color="#0072B2", label="inside")
        ax.scatter(*points[~inside].T, s=9, marker="x", color="#D55E00", label="outside")
        ax.set(title=title, aspect="equal", xlim=(-3.3, 3.3), ylim=(-3.3, 3.3))
    axes[0].legend(loc="lower left", fontsize=9)
    show(figure, alt=alt)


# a larger number is worse (+1) or better (-1)
WORSE = {"FD": 1, "KD": 1, "precision": -1, "recall": -1, "coverage": -1, "diversity": -1,
         "label accuracy": -1, "copies": 1}


def noticed(scores: dict, real: dict, limit: float = 4.0) -> dict:
    """By score: how many spreads of real sets a set is worse by; {score: bool} beyond the limit."""
    return {name: WORSE[name] * (value - real[name][0]) > limit * max(real[name][1], 1e-4)
            for name, value in scores.items()}


def show_scores(table: dict, real: dict, alt: str, limit: float = 4.0):
    """A table of sets and their scores; what a score notices is shaded and marked."""
    import matplotlib.pyplot as plt

    names = list(real)
    figure, ax = plt.subplots(figsize=(WIDTH, 0.34 * len(table) + 0.9))
    ax.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(table) - 0.5, -0.5))
    for i, scores in enumerate(table.values()):
        seen = noticed(scores, real, limit)
        for j, name in enumerate(names):
            if seen[name]:
                ax.add_patch(plt.Rectangle((j - 0.5, i - 0.5), 1, 1, color="#F5C9A6"))
            text = f"{scores[name]:.2f}" + (" !" if seen[name] else "")
            ax.text(j, i, text, ha="center", va="center", fontsize=9,
                    fontweight="bold" if seen[name] else "normal")
    ax.set_xticks(range(len(names)), names, fontsize=9)
    ax.set_yticks(range(len(table)), list(table), fontsize=9)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    show(figure, alt=alt)
