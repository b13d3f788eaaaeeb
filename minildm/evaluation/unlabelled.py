"""Features in which no label has a say, for a Frechet distance that no classifier's taste decides.

A judge that was trained on labels sees objects, and a model that learned from a related classifier
may please it for that reason. These two see what is left: colours and their places, and textures.
Neither knows what a picture shows, so a small distance here does not mean that there is an object.
"""

import torch
import torch.nn.functional as F

SIDE = 8            # pixels that a picture is averaged to
WIDTHS = 32, 64     # channels of the network with random weights


def coarse_pixels(images):
    """Float images (N, C, H, W), averaged to 8 x 8 pixels, as features (N, 64 C)."""
    return F.adaptive_avg_pool2d(images, SIDE).flatten(1)


def random_features(images):
    """Float images (N, C, H, W) -> mean and spread of 64 random filters' answers, (N, 128).

    Two convolutions with weights that nothing has trained, each halving the sides: what one of
    their channels answers to is an accidental texture of 7 x 7 pixels, always the same.
    """
    generator = torch.Generator().manual_seed(0)
    for width in WIDTHS:
        shape = width, images.shape[1], 3, 3
        # weights of this size keep the answers' scale through a ReLU (He et al. 2015)
        scale = (2 / (9 * images.shape[1]))**0.5
        weight = torch.randn(shape, generator=generator) * scale
        images = F.relu(F.conv2d(images, weight.to(images), stride=2, padding=1))
    return torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1)
