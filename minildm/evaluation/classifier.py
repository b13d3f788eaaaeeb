"""A small classifier of our own, whose features stand for what a picture shows."""

import math
from dataclasses import asdict, dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from minildm import ZOO, MinildmError
from minildm.images import to_unit
from minildm.training import checkpoint


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


def save_classifier(folder, classifier: Classifier, measured: dict):
    """As fp16, with its config and what it measured."""
    tensors = {name: t.half() for name, t in classifier.state_dict().items()}
    checkpoint.save(folder, tensors, {"classifier": asdict(classifier.config), "measured": measured})


def load_classifier(name: str = "mnist") -> Classifier | None:
    """The zoo's classifier of a data set; None where the zoo has none."""
    folder = ZOO / f"{name}-classifier"
    if not folder.is_dir():
        return None
    tensors, meta = checkpoint.load(folder)
    model = Classifier(checkpoint.from_dict(ClassifierConfig, meta["classifier"]))
    model.load_state_dict({key: t.float() for key, t in tensors.items()})
    return model.eval()
