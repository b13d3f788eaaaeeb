"""A small classifier of our own, whose features stand for what a picture shows.

Two networks share one way from pictures to classes: stages that each halve the sides, the mean over
positions, a hidden layer (the features), a linear head.
  Classifier         strided convolutions and GroupNorm, for digits and other drawings
  PhotoClassifier    a whitened stem, max-pooling, BatchNorm and residuals, for photographs
`build_classifier` chooses between them; `save_classifier` and `load_classifier` keep them in the
zoo.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from minildm import ZOO, MinildmError
from minildm.devices import cuda_bf16
from minildm.images import check_range, to_float, to_unit
from minildm.nn import bounds
from minildm.training import checkpoint

SMALLEST = 16           # side of an image: three stages leave 2 x 2 positions of it
GROUPS = 4              # of GroupNorm
BATCH = 500             # images that a feature function gets at once
PCA_SAMPLE = 10_000     # images from which principal components are estimated


@dataclass(frozen=True)
class ClassifierConfig:
    """The numbers that define a classifier, and how far `augment` may move its training images."""

    channels_in: int = 1
    classes: int = 10
    width: int = 32           # channels of the first stage
    growth: tuple[int, ...] = (1, 2, 4)  # of each stage, in widths
    feature_dim: int = 64
    rotation: float = 12.0    # degrees
    zoom: float = 0.12        # relative
    shift: int = 2            # pixels
    mirror: bool = False      # right for photographs, wrong for digits and letters
    pool: bool = False        # the network for photographs: see `build_classifier`

    def __post_init__(self):
        at = "ClassifierConfig"
        bounds.check_int(at, 1, bounds.WIDTH, channels_in=self.channels_in, width=self.width,
                         feature_dim=self.feature_dim)
        bounds.check_int(at, 1, bounds.ENTRIES, classes=self.classes)
        bounds.check_ints(at, bounds.LEVELS, bounds.DEPTH, growth=self.growth)
        bounds.check_int(at, 0, bounds.SIDE, shift=self.shift)
        bounds.check_float(at, 0, 360, rotation=self.rotation, zoom=self.zoom)
        bounds.check_bool(at, mirror=self.mirror, pool=self.pool)
        if not self.pool:
            bounds.check_divides(at, GROUPS, "groups", self.width)


class Classifier(nn.Module):
    """Stages that each halve the sides, a mean, a head: (B, C, H, W) -> logits (B, classes)."""

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        widths = [self.stem_width(), *(config.width * times for times in config.growth)]
        self.stem = self.make_stem()
        self.stages = nn.ModuleList(self.make_stage(a, b) for a, b in pairwise(widths))
        self.embed = nn.Sequential(nn.Linear(widths[-1], config.feature_dim), nn.SiLU())
        self.head = nn.Linear(config.feature_dim, config.classes)

    def stem_width(self) -> int:
        """Channels of what the first stage receives."""
        return self.config.channels_in

    def make_stem(self) -> nn.Sequential:
        return nn.Sequential()

    def make_stage(self, a: int, b: int) -> nn.Sequential:
        """Convolution of stride 2, then another: (B, a, H, W) -> (B, b, H / 2, W / 2)."""
        return nn.Sequential(
            nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(GROUPS, b), nn.SiLU(),
            nn.Conv2d(b, b, 3, padding=1), nn.GroupNorm(GROUPS, b), nn.SiLU())

    def enter(self, images):
        """What the first stage receives of float images in [-1, 1]."""
        # black becomes 0, so the zeros with which convolutions pad continue a black border
        return images + 1

    def feature_maps(self, images) -> list:
        """Each stage's activations for float images: (B, C, H, W) -> [(B, width, H/2, W/2), ...].

        Images with a side under 16 are enlarged first, each pixel to a square of pixels.
        """
        channels = self.config.channels_in
        if not images.is_floating_point() or images.ndim != 4 or images.shape[1] != channels:
            raise MinildmError(f"images are {images.dtype} {tuple(images.shape)}", "Classifier",
                               f"pass float (B, {channels}, H, W) in [-1, 1]")
        x = self.enter(enlarged(images))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def features(self, images):
        """The last hidden layer of float images: (B, C, H, W) -> (B, feature_dim)."""
        return self.embed(self.feature_maps(images)[-1].mean(dim=(2, 3)))

    def forward(self, images):
        return self.head(self.features(images))

    def loss(self, images, labels, generator=None):
        """Cross-entropy on augmented images: dict(loss, accuracy)."""
        # no smoothed labels: they would blind the features to blur and to samples all alike
        logits = self(augment(images, self.config, generator)).float()
        return {"loss": F.cross_entropy(logits, labels),
                "accuracy": (logits.argmax(1) == labels).float().mean()}


class Residual(nn.Sequential):
    """x + f(x), where f is what it holds."""

    def forward(self, x):
        return x + super().forward(x)


class PhotoClassifier(Classifier):
    """The same for photographs: halve by maxima, normalise over the batch, a fixed stem, residuals.

    (After Jordan 2024, arXiv:2404.00498.)
    """

    def stem_width(self) -> int:
        # a whitened patch and its negative each; a grey patch has nine numbers
        return 2 * min(16, 9 * self.config.channels_in)

    def make_stem(self) -> nn.Sequential:
        conv = nn.Conv2d(self.config.channels_in, self.stem_width(), 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.SiLU())

    def make_stage(self, a: int, b: int) -> nn.Sequential:
        """Convolution, max-pooling, a residual convolution: (B, a, H, W) -> (B, b, H/2, W/2)."""
        return nn.Sequential(
            nn.Conv2d(a, b, 3, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(b), nn.SiLU(),
            Residual(nn.Conv2d(b, b, 3, padding=1), nn.BatchNorm2d(b), nn.SiLU()))

    def enter(self, images):
        # channels last is a quarter faster here, and without gain in the other network
        return self.stem(images.contiguous(memory_format=torch.channels_last))

    @torch.no_grad()
    def whiten(self, images):
        """Fix the stem at the principal 3 x 3 patches of float images and at their negatives.

        Each answers with variance 1, so the first layer needs no training (Jordan 2024, 3.2).
        """
        patches = F.unfold(images, 3).mT.flatten(0, 1)                     # (N, 9 C)
        values, vectors = torch.linalg.eigh(patches.T.cov())               # ascending
        filters = (vectors / (values + 5e-4).sqrt()).T.unflatten(1, (-1, 3, 3))
        half = len(self.stem[0].weight) // 2
        best = filters[-half:]
        self.stem[0].weight.requires_grad_(False).copy_(torch.cat([best, -best]))


def build_classifier(config: ClassifierConfig) -> Classifier:
    """The network that a config describes, with fresh weights."""
    return PhotoClassifier(config) if config.pool else Classifier(config)


def enlarged(images):
    """Images whose sides are 16 or more; of smaller ones, each pixel becomes a square of pixels."""
    side = min(images.shape[-2:])
    if side >= SMALLEST:
        return images
    return F.interpolate(images, scale_factor=float(math.ceil(SMALLEST / side)), mode="nearest")


def augment(images, config: ClassifierConfig, generator=None):
    """Rotate, zoom, shift by whole pixels and perhaps mirror each image, all in one resampling."""
    (batch, _, height, width), device = images.shape, images.device
    spread = torch.rand(5, batch, generator=generator, device=device) * 2 - 1          # U(-1, 1)
    angle = spread[0] * math.radians(config.rotation)
    zoom = 1 + spread[1] * config.zoom
    # five numbers an image are drawn whether they are used or not, so that one dial moves no other
    flip = spread[2].sign() if config.mirror else torch.ones_like(zoom)
    dx = (spread[3] * (config.shift + 0.5)).round() * 2 / width
    dy = (spread[4] * (config.shift + 0.5)).round() * 2 / height
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    # maps output to input coordinates, which run from -1 to 1 across the image
    rows = torch.stack([flip * cos, -sin, dx, flip * sin, cos, dy], dim=1)
    theta = rows.view(batch, 2, 3)
    # what lies outside continues the border: black stays black, and photographs get no frame
    grid = F.affine_grid(theta.to(images.dtype), images.shape, align_corners=False)   # (B, H, W, 2)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


@torch.no_grad()
def in_batches(function: Callable, images):
    """Apply a feature function to a whole set of images, uint8 or float, by batches.

    (N, C, H, W) -> (N, ...). The function, of any network, takes float images in [-1, 1].
    """
    uint8 = images.dtype == torch.uint8
    if not uint8:
        # once for all: on CUDA the CPU waits for each answer
        check_range(images, "in_batches")
    features, done = None, 0
    for batch in images.split(BATCH):
        found = function(to_float(batch) if uint8 else batch.float())
        # filled in place: parts, joined at the end, would hold everything twice
        if features is None:
            features = found.new_empty(len(images), *found.shape[1:])
        features[done:done + len(batch)] = found
        done += len(batch)
    return features


@torch.no_grad()
def pca_features(classifier: Classifier, images, channels: int, side: int):
    """The last feature map of uint8 images (N, C, H, W) as principal components beside latents.

    -> (N, channels, side, side), each number of unit variance. A denoiser that must draw what a
    picture shows, and not its latent alone, learns sooner to draw it (Kouzelis et al. 2025,
    arXiv:2504.16064). Where a position of the map covers r x r of the latent's it has r^2
    components a channel; where the sides don't divide, or the map has fewer numbers than that, the
    map is interpolated to the latent's side.
    """
    sample = images[::max(1, len(images) // PCA_SAMPLE)]              # a set may be sorted by class
    width, height = classifier.feature_maps(to_unit(images[:1], "pca_features"))[-1].shape[1:3]
    r = side // height
    divides = side % height == 0 and channels * r**2 <= width
    if channels > width:
        raise MinildmError(f"{channels} channels of a map with {width}", "pca_features",
                           "take fewer")
    if not divides:
        r = 1

    def positions(batch):
        with cuda_bf16(images.device):
            found = classifier.feature_maps(batch)[-1].float()          # (B, c, h, w)
        if not divides:
            found = F.interpolate(found, size=(side, side), mode="bilinear")
        return found.movedim(1, 3)                                      # (B, h, w, c)

    places = in_batches(positions, sample).flatten(0, 2)
    mean, std = places.mean(0), places.std(0) + 1e-6
    values, vectors = torch.linalg.eigh(((places - mean) / std).T.cov())    # ascending
    n = channels * r**2
    # fewer places than components leave variances of 0, which would be divided by
    scale = values[-n:].clamp(min=1e-6).sqrt()
    basis = vectors[:, -n:] / scale / std[:, None]                          # (c, n)

    def components(batch):
        numbers = (positions(batch) - mean) @ basis                         # (B, h, w, n)
        return F.pixel_shuffle(numbers.movedim(3, 1), r)

    return in_batches(components, images)


def save_classifier(folder, classifier: Classifier, measured: dict):
    """Save a classifier as fp16, with its config and what it measured."""
    tensors = {name: t.half() for name, t in classifier.state_dict().items()}
    meta = {"classifier": asdict(classifier.config), "measured": measured}
    checkpoint.save(folder, tensors, meta)


def load_classifier(name: str = "mnist") -> Classifier | None:
    """The zoo's classifier of a data set; None where the zoo has none."""
    # nothing is said where none is: the caller trains one
    folder = ZOO / f"{name}-classifier"
    if not folder.is_dir():
        return None
    tensors, meta = checkpoint.load(folder)
    model = build_classifier(checkpoint.from_dict(ClassifierConfig, meta["classifier"]))
    model.load_state_dict({key: t.float() for key, t in tensors.items()})
    return model.eval()
