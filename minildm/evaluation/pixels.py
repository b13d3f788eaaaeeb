"""How near samples are to real pictures, without a classifier and so without a classifier's taste.

A network that was trained with a classifier's features may please that classifier and nobody else.
These three numbers know no labels:
    fd_pixels    Frechet distance of pictures averaged to 8 x 8: colours, and what is where
    fd_random    the same in the features of a network with random weights: textures
    contrast     mean standard deviation inside a picture: too low is grey or blurred, too high is
                 what too much guidance draws
A small distance in any of them does not mean that there is an object: they are meant to stand
beside a distance of trained features. For that of any other network, Inception, say, or DINOv2,
pass it instead of `thumbnails`:
    frechet_distance(in_batches(network, images), in_batches(network, real))
"""

import torch
import torch.nn.functional as F

from minildm import MinildmError
from minildm.evaluation.classifier import in_batches
from minildm.evaluation.metrics import frechet_distance
from minildm.evaluation.score import REFERENCE, check_measurable

SIDE = 8            # of a thumbnail
WIDTHS = 32, 64     # channels of the network with random weights


def thumbnails(images):
    """Float images (B, C, H, W) averaged to 8 x 8, as features (B, 64 C)."""
    return F.adaptive_avg_pool2d(images, SIDE).flatten(1)


def random_features(images):
    """Float images (N, C, H, W) -> mean and spread of 64 random filters' answers, (N, 128).

    Two convolutions of stride 2 with weights that nothing has trained: what a channel answers to is
    an accidental texture of 7 x 7 pixels, always the same.
    """
    generator = torch.Generator().manual_seed(0)
    for width in WIDTHS:
        shape = width, images.shape[1], 3, 3
        # weights of this size keep the answers' scale through a ReLU (He et al. 2015)
        scale = (2 / (9 * images.shape[1]))**0.5
        weight = torch.randn(shape, generator=generator) * scale
        images = F.relu(F.conv2d(images, weight.to(images), stride=2, padding=1))
    return torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1)


def inner_contrast(images):
    """The standard deviation inside each float image (B, C, H, W), over pixels and channels: (B,).

    A black and white picture in equal parts has 1.
    """
    return images.flatten(1).std(dim=1, unbiased=False)


def label_free(images, reference, seed: int = 0) -> dict:
    """Judge uint8 images (N, C, H, W) against real uint8 images (M, C, H, W) of the same size.

    -> dict(fd_pixels, fd_pixels_floor, fd_random, fd_random_floor, contrast, contrast_real). The
    real ones are split by seed into N, the floor, and up to 10,000 others, which images and floor
    are compared with. So M must be 2 N, or N + 10,000; MinildmError says so, and what else can't be
    compared.
    """
    n, device = len(images), images.device
    if {images.dtype, reference.dtype} != {torch.uint8} or images.shape[1:] != reference.shape[1:]:
        raise MinildmError(f"images are {images.dtype} {tuple(images.shape)}, the reference's "
                           f"{reference.dtype} {tuple(reference.shape)}", "label_free",
                           "pass uint8 images (N, C, H, W) of one size: data.to_uint8(samples)")
    if n < 2:
        raise MinildmError(f"{n} images have no spread", "label_free", "draw two or more")
    check_measurable(n, len(reference), min(images.shape[-2:]))
    order = torch.randperm(len(reference), generator=torch.Generator().manual_seed(seed))
    order = order[:n + REFERENCE].to(reference.device)
    real = reference[order].to(device)
    floor, found = real[:n], {}
    for name, features in ("fd_pixels", thumbnails), ("fd_random", random_features):
        others = in_batches(features, real[n:])
        found[name] = frechet_distance(in_batches(features, images), others)
        found[f"{name}_floor"] = frechet_distance(in_batches(features, floor), others)
    found["contrast"] = in_batches(inner_contrast, images).mean().item()
    found["contrast_real"] = in_batches(inner_contrast, floor).mean().item()
    return found
