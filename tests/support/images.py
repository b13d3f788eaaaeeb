"""Files of pictures for tests: noise, image files, and small sets in MNIST's form."""

import struct

import numpy as np
from PIL import Image


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save_image(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(path, **options)


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    path.write_bytes(header + array.tobytes())


def write_mnist(root, folder="MNIST", seed=0):
    """Twenty train and ten test images of noise; returns the train images."""
    images = noise(30, 28, 28, seed=seed)
    for part, its in (("train", images[:20]), ("t10k", images[20:])):
        write_idx(root / folder / "raw" / f"{part}-images-idx3-ubyte", its)
        labels = np.arange(len(its), dtype=np.uint8) % 10
        write_idx(root / folder / "raw" / f"{part}-labels-idx1-ubyte", labels)
    return images[:20]
