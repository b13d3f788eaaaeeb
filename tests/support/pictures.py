"""Small sets of random pictures."""

import torch

from minildm.data import ImageSet


def pictures(n=64, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, channels, 16, 16), generator=generator, dtype=torch.uint8)
    return ImageSet("toy", "train", images, torch.arange(n) % 3, ("a", "b", "c"))
