"""How good are the samples? Every score stands beside the score that real images get at the same N.

A small classifier of our own turns images into features; `metrics` compares the features of samples with
those of real images, and `score` does it all. Images are float in [-1, 1]; whole sets, uint8, go to `score`.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError
from minildm.metrics import (  # noqa: F401  all of them can be imported from here
    coverage,
    diversity,
    frechet_distance,
    kernel_distance,
    label_accuracy,
    memorisation,
    nearest_neighbours,
    precision_recall,
    psnr,
    ssim,
    to_unit,
)


@dataclass(frozen=True)
class ClassifierConfig:
    """The numbers that define a `Classifier`, and how far `augment` may move its training images."""

    channels_in: int = 1
    classes: int = 10
    width: int = 32           # channels of the first stage
    growth: tuple[int, ...] = (1, 2, 4)  # of each stage, in widths
    feature_dim: int = 64
    rotation: float = 12.0    # degrees
    zoom: float = 0.12        # relative
    shift: int = 2            # pixels
    mirror: bool = False      # right for photographs, wrong for digits and letters
    pool: bool = False        # for photographs: halve by maxima, normalise over the batch, a stem, residuals


class Residual(nn.Sequential):
    """x + f(x), where f is what it holds."""

    def forward(self, x):
        return x + super().forward(x)


class Classifier(nn.Module):
    """Stages of two convolutions, each halving the sides, then a mean: (B, C, H, W) -> (B, classes)."""

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        widths = [config.channels_in, *(config.width * times for times in config.growth)]
        norm = nn.BatchNorm2d if config.pool else partial(nn.GroupNorm, 4)

        def block(a, b, halve=(), stride=1):
            return nn.Conv2d(a, b, 3, stride, padding=1), *halve, norm(b), nn.SiLU()

        def stage(a, b):
            if config.pool:
                return nn.Sequential(*block(a, b, [nn.MaxPool2d(2)]), Residual(*block(b, b)))
            return nn.Sequential(*block(a, b, stride=2), *block(b, b))

        self.stem = nn.Sequential()
        if config.pool:
            widths[0] = 2 * min(16, 9 * config.channels_in)         # a grey patch has nine numbers
            self.stem.extend([nn.Conv2d(config.channels_in, widths[0], 3, padding=1, bias=False), nn.SiLU()])
        self.stages = nn.ModuleList(stage(*pair) for pair in zip(widths[:-1], widths[1:], strict=True))
        self.embed = nn.Sequential(nn.Linear(widths[-1], config.feature_dim), nn.SiLU())
        self.head = nn.Linear(config.feature_dim, config.classes)

    @torch.no_grad()
    def whiten(self, images):
        """Fix the stem at the principal 3x3 patches of float images and their negatives, each answering with
        variance 1: the first layer needs no training (Jordan 2024, arXiv:2404.00498, 3.2).
        """
        patches = F.unfold(images, 3).mT.flatten(0, 1)                                        # (N, 9 C)
        values, vectors = torch.linalg.eigh(patches.T.cov())                                  # rising
        best = (vectors / (values + 5e-4).sqrt()).T.unflatten(1, (-1, 3, 3))[-len(self.stem[0].weight) // 2:]
        self.stem[0].weight.requires_grad_(False).copy_(torch.cat([best, -best]))

    def maps(self, images) -> list:
        """Each stage's activations for float images: (B, C, H, W) -> [(B, width, H/2, W/2), ...]."""
        channels, *size = images.shape[1:]
        if not images.is_floating_point() or channels != self.config.channels_in or min(size) < 16:
            raise MinildmError(f"images are {images.dtype} {tuple(images.shape)}", "Classifier", "pass float "
                               f"(B, {self.config.channels_in}, H, W) in [-1, 1], sides of at least 16")
        if self.config.pool:
            maps = [self.stem(images.contiguous(memory_format=torch.channels_last))]    # a quarter faster
        else:
            maps = [images + 1]     # black becomes 0, so the convolutions' padding continues a black border
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]

    def features(self, images):
        """The last hidden layer's activations for float images: (B, C, H, W) -> (B, feature_dim)."""
        return self.embed(self.maps(images)[-1].mean(dim=(2, 3)))

    def forward(self, images):
        return self.head(self.features(images))

    def loss(self, images, labels, generator=None):
        """Cross-entropy on augmented images; smoothed labels would blind features to blur and sameness."""
        logits = self(augment(images, self.config, generator)).float()
        return {"loss": F.cross_entropy(logits, labels),
                "accuracy": (logits.argmax(1) == labels).float().mean()}


def augment(images, config: ClassifierConfig, generator=None):
    """Each image rotated, zoomed, shifted by whole pixels and perhaps mirrored, all in one resampling."""
    (batch, _, height, width), device = images.shape, images.device
    spread = torch.rand(5, batch, generator=generator, device=device) * 2 - 1          # U(-1, 1)
    angle = spread[0] * math.radians(config.rotation)
    zoom = 1 + spread[1] * config.zoom
    flip = spread[2].sign() if config.mirror else torch.ones_like(zoom)
    dx = (spread[3] * (config.shift + 0.5)).round() * 2 / width
    dy = (spread[4] * (config.shift + 0.5)).round() * 2 / height
    # maps output to input coordinates, which run from -1 to 1 across the image: (B, 2, 3)
    theta = torch.stack([flip * zoom * angle.cos(), -zoom * angle.sin(), dx,
                         flip * zoom * angle.sin(), zoom * angle.cos(), dy], dim=1).view(batch, 2, 3)
    grid = F.affine_grid(theta.to(images.dtype), images.shape, align_corners=False)           # (B, H, W, 2)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


@torch.no_grad()
def in_batches(function, images):
    """A feature function over a whole set of images, uint8 or float: (N, C, H, W) -> (N, ...), by batches."""
    return torch.cat([function(to_unit(batch, "in_batches")) for batch in images.split(500)])


@torch.no_grad()
def components(classifier: Classifier, images, channels: int, side: int):
    """What its last stage says of uint8 images (N, C, H, W), laid out to stand beside latents of this side.

    A denoiser that must draw what a picture shows, and not its latent alone, learns sooner to draw it
    (Kouzelis et al. 2025, arXiv:2504.16064). A place of the map covers r x r of the latent's, so it has r^2
    numbers a channel: its principal components, each of unit variance -> (N, channels, side, side).
    """
    def look(batch):
        return classifier.maps(batch)[-1].movedim(1, 3)                                   # (B, h, w, c)

    some = in_batches(look, images[::max(1, len(images) // 10_000)])    # a set may be sorted by class
    places, r = some.flatten(0, 2), side // some.shape[1]
    n = channels * r**2
    if side % some.shape[1] or n > places.shape[1]:
        raise MinildmError(f"{channels} channels at {side} x {side} of a map {tuple(some.shape[1:])}",
                           "components", f"take fewer, or sides that are multiples of {some.shape[1]}")
    mean, std = places.mean(0), places.std(0) + 1e-6
    values, vectors = torch.linalg.eigh(((places - mean) / std).T.cov())                  # rising
    basis = vectors[:, -n:] / values[-n:].sqrt() / std[:, None]                           # (c, n)
    return in_batches(lambda batch: F.pixel_shuffle(((look(batch) - mean) @ basis).movedim(3, 1), r), images)


def score(images, labels, reference, classifier: Classifier, seed: int = 0) -> dict:
    """Judge uint8 images (N, C, H, W) and the labels (N,) they were drawn for against an `ImageSet`.

    The reference is split by seed into a draw of N, the floor, judged exactly as the images are, and up to
    10,000 others that both are compared with. Precision and recall want sets of one size: if these others are
    fewer than N, they take as many of the images, else N of the others. The floor holds as many of each label
    as `labels` does, as far as there are: left to chance, its FD varies by a factor of five.
    """
    n, here = len(images), next(classifier.parameters()).device
    if images.dtype != torch.uint8 or images.shape[1:] != reference.images.shape[1:] or len(labels) != n:
        raise MinildmError(f"images are {images.dtype} {tuple(images.shape)} with {len(labels)} labels, the "
                           f"reference's {tuple(reference.images.shape)}", "score",
                           "pass data.to_uint8(samples), cropped to the reference's size, and a label each")
    if len(reference.images) < n + min(n, 10_000):
        raise MinildmError(f"{n} images for a reference of {len(reference.images)}", "score", "judge at most "
                           "half as many images as the reference has, or 10,000 less than all")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(reference.images), generator=generator)
    theirs = reference.labels.cpu()[order]
    counts = labels.cpu().bincount(minlength=int(theirs.max()) + 1)
    rank = F.one_hot(theirs).cumsum(0).gather(1, theirs[:, None]).flatten()        # 1st, 2nd ... of its class
    order = order[(rank > counts[theirs]).int().argsort(stable=True)].to(reference.images.device)
    floor, rest = order[:n], order[n:n + 10_000]
    real = in_batches(classifier.features, reference.images[rest].to(here))                   # (M, D)
    some = torch.randperm(n, generator=generator)[:len(real)].to(here)
    result = {"n": n}
    drawn = reference.images[floor], reference.labels[floor]
    for end, (pictures, wanted) in ("", (images, labels)), ("_floor", drawn):
        features = in_batches(classifier.features, pictures.to(here))                         # (N, D)
        result["fd" + end] = frechet_distance(features, real)
        result["kd" + end] = kernel_distance(features, real)
        pair = precision_recall(real[:n], features[some])
        result["precision" + end], result["recall" + end] = pair
        result["diversity" + end] = diversity(features, wanted)
        result["label_accuracy" + end] = label_accuracy(classifier.head(features), wanted)
    return result | {"fd_ratio": result["fd"] / max(result["fd_floor"], 1e-12)}


def format_scores(scores: dict) -> str:
    """The result of `score` as a table: each score beside its floor."""
    return "\n".join([
        f"{'N = ' + str(scores['n']):<16}{'images':>10}{'real':>10}",
        *(f"{name.replace('_', ' '):<16}{scores[name]:>10.4g}{scores[name + '_floor']:>10.4g}"
          for name in ("fd", "kd", "precision", "recall", "diversity", "label_accuracy")),
        f"{'fd / floor':<16}{scores['fd_ratio']:>10.4g}{1:>10}"])
