"""How good are the samples? Every score stands beside the score that real images get at the same N.

A small classifier of our own turns images into features. With Gaussians fitted to the features of real (r)
and generated (g) images, the Frechet distance is

    FD = |mu_r - mu_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^(1/2))     Heusel et al. 2017, eq. 6 (arXiv:1706.08500)

One number can't say whether samples are poor or merely alike, so precision and recall (Kynkaanniemi et al.
2019, arXiv:1904.06991) come with it. Images are float in [-1, 1]; whole sets, uint8, go to `score`.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError


@dataclass(frozen=True)
class ClassifierConfig:
    """The numbers that define a `Classifier`, and how far `augment` may move its training images."""

    channels_in: int = 1
    classes: int = 10
    width: int = 32           # channels of the first stage; each later stage doubles them
    feature_dim: int = 64
    rotation: float = 12.0    # degrees
    zoom: float = 0.12        # relative
    shift: int = 2            # pixels
    mirror: bool = False      # right for photographs, wrong for digits and letters


class Classifier(nn.Module):
    """Three stages of conv, norm, SiLU, each halving the sides, then a mean: (B, C, H, W) -> (B, classes)."""

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        widths = [config.channels_in, config.width, 2 * config.width, 4 * config.width]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(4, b), nn.SiLU(),
                          nn.Conv2d(b, b, 3, padding=1), nn.GroupNorm(4, b), nn.SiLU())
            for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.embed = nn.Sequential(nn.Linear(widths[-1], config.feature_dim), nn.SiLU())
        self.head = nn.Linear(config.feature_dim, config.classes)

    def features(self, images):
        """The last hidden layer's activations for float images: (B, C, H, W) -> (B, feature_dim)."""
        channels, *size = images.shape[1:]
        if not images.is_floating_point() or channels != self.config.channels_in or min(size) < 16:
            raise MinildmError(f"images are {images.dtype} {tuple(images.shape)}", "Classifier", "pass float "
                               f"(B, {self.config.channels_in}, H, W) in [-1, 1], sides of at least 16")
        x = images + 1  # black becomes 0, so the convolutions' zero padding continues a black border
        for stage in self.stages:
            x = stage(x)
        return self.embed(x.mean(dim=(2, 3)))

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


def check_range(images, where: str):
    """Refuse what is not float in [-1, 1]. Models overshoot a little, so only clear mistakes are errors."""
    if not images.is_floating_point():
        raise MinildmError(f"images are {images.dtype}, not float in [-1, 1]", where, "data.to_float(images)")
    low, high = images.min().item(), images.max().item()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise MinildmError("images hold NaN or infinity", where, "look for the first layer that puts it out")
    if low >= 0 and 0.5 < high <= 1:
        raise MinildmError("images lie in [0, 1], not in [-1, 1]", where, "pass images * 2 - 1")
    if max(-low, high) > 5:
        raise MinildmError(f"images lie in [{low:.3g}, {high:.3g}], not in [-1, 1]", where,
                           "pass images / 127.5 - 1, or decode the latents first")


def frechet_distance(a, b) -> float:
    """Distance of the Gaussians fitted to two feature sets (N, D), (M, D): Heusel et al. 2017, eq. 6.

    The trace of (S_a S_b)^(1/2) is the sum of the roots of the eigenvalues of S_a^(1/2) S_b S_a^(1/2), which
    is symmetric. Biased upwards at small N: compare only at the same N.
    """
    if a.shape[1:] != b.shape[1:] or a.ndim != 2 or min(len(a), len(b)) < 2:
        raise MinildmError(f"features are {tuple(a.shape)}, {tuple(b.shape)}", "frechet_distance",
                           "pass (N, D) and (M, D) of one D, with two rows or more")
    a, b = a.double(), b.double()
    cov_a, cov_b = a.T.cov().reshape(a.shape[1], -1), b.T.cov().reshape(a.shape[1], -1)       # (D, D)
    values, vectors = torch.linalg.eigh(cov_a)
    root_a = vectors * values.clamp(min=0).sqrt() @ vectors.T
    root_trace = torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp(min=0).sqrt().sum()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    return (shift + cov_a.trace() + cov_b.trace() - 2 * root_trace).clamp(min=0).item()


def precision_recall(real, fake, k: int = 3) -> tuple[float, float]:
    """Precision: the part of fake within the manifold of real; recall: the part of real within that of fake.

    A manifold is a union of balls, one about each feature, reaching its k-th nearest neighbour (Kynkaanniemi
    et al. 2019, eq. 1-3). Features are (N, D); the sizes of the sets matter: pass two of the same N.
    """
    if min(len(real), len(fake)) <= k:
        raise MinildmError(f"{len(real)} and {len(fake)} images", "precision_recall", f"pass {k + 1} or more")
    def distances(a, b):                                                                     # (1000, M)
        for chunk in a.float().split(1000):
            yield torch.cdist(chunk, b.float(), compute_mode="donot_use_mm_for_euclid_dist")  # d(x, x) = 0

    def within(points, centres):
        radii = [d.kthvalue(k + 1, dim=1).values for d in distances(centres, centres)]       # 1st: itself
        inside = [(d <= torch.cat(radii)).any(dim=1) for d in distances(points, centres)]
        return torch.cat(inside).float().mean().item()

    return within(fake, real), within(real, fake)


def label_accuracy(logits, labels) -> float:
    """The fraction of logits (N, classes) that are largest at their label (N,)."""
    return (logits.argmax(dim=1) == labels.to(logits.device)).float().mean().item()


def psnr(a, b) -> float:
    """10 log10(2^2 / MSE) in dB of each image, then their mean; overshoot past [-1, 1] is clipped."""
    if a.shape != b.shape:
        raise MinildmError(f"images are {tuple(a.shape)} and {tuple(b.shape)}", "psnr", "pass equal shapes")
    check_range(a, "psnr")
    check_range(b, "psnr")
    mse = (a.float().clamp(-1, 1) - b.float().clamp(-1, 1)).square().flatten(1).mean(dim=1)   # (B,)
    return (10 * torch.log10(4 / mse)).mean().item()


def nearest_neighbours(query, reference, k: int = 1):
    """The k nearest reference images of each query by pixel L2: ascending distances (N, k), indices (N, k).

    Images are uint8 or float (N, C, H, W), distances in units of [-1, 1]. One matrix product a chunk finds
    candidates, by |q - r|^2 = |q|^2 + |r|^2 - 2 q r; their distances are then taken exactly.
    """
    if query.shape[1:] != reference.shape[1:] or k > len(reference):
        raise MinildmError(f"images are {tuple(query.shape)} and {tuple(reference.shape)}, k = {k}",
                           "nearest_neighbours", "pass images of one size, no more neighbours than images")
    q, found, where = _unit(query, "nearest_neighbours").flatten(1), [], []
    for start in range(0, len(reference), 5000):
        r = _unit(reference[start:start + 5000], "nearest_neighbours").to(q.device).flatten(1)
        order = r.square().sum(dim=1) - 2 * q @ r.T                               # (N, chunk), less |q|^2
        nearest = order.topk(min(k, len(r)), largest=False).indices               # (N, k)
        found.append(torch.stack([(row - r[i]).norm(dim=1) for row, i in zip(q, nearest, strict=True)]))
        where.append(nearest + start)
    best = torch.cat(found, dim=1).topk(k, largest=False)
    return best.values, torch.cat(where, dim=1).gather(1, best.indices)


def _unit(images, where: str):
    """Images, uint8 or float, as float in [-1, 1]."""
    if images.dtype == torch.uint8:
        return images.float() / 127.5 - 1
    check_range(images, where)
    return images.float()


@torch.no_grad()
def in_batches(function, images):
    """A feature function over a whole set of images, uint8 or float: (N, C, H, W) -> (N, ...), by batches."""
    return torch.cat([function(_unit(batch, "in_batches")) for batch in images.split(500)])


def score(images, labels, reference, classifier: Classifier, seed: int = 0) -> dict:
    """Judge uint8 images (N, C, H, W) and the labels (N,) they were drawn for against an `ImageSet`.

    The reference is split by seed into a draw of N, the floor, judged exactly as the images are, and up to
    10,000 others that both are compared with (N of them for precision and recall). The floor holds as many of
    each label as `labels` does, as far as there are: left to chance, its FD varies by a factor of five.
    """
    n, here = len(images), next(classifier.parameters()).device
    if images.dtype != torch.uint8 or images.shape[1:] != reference.images.shape[1:] or len(labels) != n:
        raise MinildmError(f"images are {images.dtype} {tuple(images.shape)} with {len(labels)} labels, the "
                           f"reference's {tuple(reference.images.shape)}", "score",
                           "pass data.to_uint8(samples), cropped to the reference's size, and a label each")
    if len(reference.images) < 2 * n:
        raise MinildmError(f"{n} images for a reference of {len(reference.images)}", "score",
                           "judge at most half as many images as the reference has")
    order = torch.randperm(len(reference.images), generator=torch.Generator().manual_seed(seed))
    theirs = reference.labels.cpu()[order]
    counts = labels.cpu().bincount(minlength=int(theirs.max()) + 1)
    rank = F.one_hot(theirs).cumsum(0).gather(1, theirs[:, None]).flatten()        # 1st, 2nd ... of its class
    order = order[(rank > counts[theirs]).int().argsort(stable=True)].to(reference.images.device)
    floor, rest = order[:n], order[n:n + 10_000]
    real = in_batches(classifier.features, reference.images[rest].to(here))                   # (M, D)
    result = {"n": n}
    drawn = reference.images[floor], reference.labels[floor]
    for end, (pictures, wanted) in ("", (images, labels)), ("_floor", drawn):
        features = in_batches(classifier.features, pictures.to(here))                         # (N, D)
        result["fd" + end] = frechet_distance(features, real)
        result["precision" + end], result["recall" + end] = precision_recall(real[:n], features)
        result["label_accuracy" + end] = label_accuracy(classifier.head(features), wanted)
    return result | {"fd_ratio": result["fd"] / max(result["fd_floor"], 1e-12)}


def format_scores(scores: dict) -> str:
    """The result of `score` as a table: each score beside its floor."""
    return "\n".join([
        f"{'N = ' + str(scores['n']):<16}{'images':>10}{'real':>10}",
        *(f"{name.replace('_', ' '):<16}{scores[name]:>10.4g}{scores[name + '_floor']:>10.4g}"
          for name in ("fd", "precision", "recall", "label_accuracy")),
        f"{'fd / floor':<16}{scores['fd_ratio']:>10.4g}{1:>10}"])
