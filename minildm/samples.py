"""samples.npz and pictures: written whole or not at all, and read only after a look.

A samples.npz holds `images`, uint8 (N, H, W) or (N, H, W, 3), and `labels`, integers (N,). Files of
others are read, too, so nothing in one is believed: an array's first bytes say its shape and type,
which are compared with the set before the array is unpacked. Pickled objects are refused.
"""

import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from minildm import MinildmError
from minildm.course import plotting

MOST = 100_000          # pictures in one file; also the largest --num of the command line
ZOOM = 4                # screen pixels of a film's pixel in a GIF
DURATION = 125          # milliseconds of a frame
LARGE = 256             # a picture of so many pixels a side is saved pixel by pixel
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0,
           (2, 0): np.lib.format.read_array_header_2_0}


# ---- writing

def save_samples(path: Path, images, labels):
    """Write images uint8 (N, C, H, W) and labels int (N,) to a samples.npz.

    Raises MinildmError where it can't be written; what was there before is then still there.
    """
    # the layout of picture libraries: colours last, grey without an axis of its own
    pixels = images[:, 0] if images.shape[1] == 1 else images.permute(0, 2, 3, 1)
    arrays = {"images": pixels.cpu().numpy(), "labels": labels.cpu().numpy()}
    plotting.write_whole(path, lambda part: np.savez_compressed(part, **arrays))


def save_pictures(path: Path, images, names, cols: int | None = None):
    """Write images (N, C, H, W), float in [-1, 1], to one PNG, small ones with their names.

    Films (N, F, C, H, W) become a strip; to a .gif they are written moving, the strip beside it.
    """
    if path.suffix == ".gif":
        save_gif(path, images, cols)
        path = path.with_suffix(".png")
    if images.ndim == 5:
        plotting.show_images(images.flatten(0, 1), cols=images.shape[1], row_names=names, path=path)
        return
    if images.shape[-1] < LARGE:
        plotting.show_images(images, names, cols, path=path)
        return
    montage = Image.fromarray(plotting.grid(images).squeeze())
    plotting.write_whole(path, montage.save)


def save_gif(path: Path, films, cols: int | None = None):
    """Write films (N, F, C, H, W) side by side to one moving GIF, eight frames per second."""
    if films.ndim != 5:
        raise MinildmError("pictures do not move", path, "pass --out with a name that ends in .png")
    first, *others = [Image.fromarray(plotting.grid(frame, cols).squeeze()) for frame in
                      films.repeat_interleave(ZOOM, -1).repeat_interleave(ZOOM, -2).unbind(1)]
    plotting.write_whole(path, lambda part: first.save(
        part, format="GIF", save_all=True, append_images=others, duration=DURATION, loop=0))


# ---- reading

def load_samples(path: Path, reference) -> tuple[torch.Tensor, torch.Tensor]:
    """Read a samples.npz that imitates an `ImageSet`: images uint8 (N, C, H, W), labels int64 (N,).

    Raises MinildmError for a file that is none, and for what is not of the set's kind.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # all that is wrong is found before anything large is unpacked
            n = check_images(*header(archive, "images.npy"), reference, path)
            check_labels(*header(archive, "labels.npy"), n, path)
            images = array(archive, "images.npy")
            labels = array(archive, "labels.npy")
    except MinildmError:
        raise
    # zipfile, zlib, numpy and the file system raise errors that have no common ancestor
    except Exception as error:
        reason = f"this is no samples.npz: {error}"
        raise MinildmError(reason, path, "minildm demo writes one") from None
    check_classes(labels, reference.class_names, path)
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    images = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return images.contiguous(), torch.from_numpy(labels.astype(np.int64))


def header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Read the shape and the type of an array in the archive, from its first bytes."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        if version not in HEADERS:
            raise ValueError(f"{name} is of version {version}")
        shape, _, dtype = HEADERS[version](file)
    return shape, dtype


def array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Unpack an array whose header was found good."""
    with archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def check_images(shape, dtype, reference, path) -> int:
    """Refuse images that are not uint8 and of the reference's size; return how many there are."""
    channels, height, width = reference.images.shape[1:]
    one = (height, width, channels)
    if channels == 1:
        one = (height, width)
    wanted = ", ".join(map(str, one))
    if dtype != np.uint8 or shape[1:] not in (one, (height, width, channels)):
        fix = f"save images as uint8 (N, {wanted}), the size of {reference.name}"
        if shape[1:] == (channels, height, width):
            fix = "save images.transpose(0, 2, 3, 1): colours come last"
        if shape[1:] == (channels * height * width,):
            fix = f"save images.reshape(-1, {wanted})"
        raise MinildmError(f"its images are {dtype} {shape}", path, fix)
    if not 1 <= shape[0] <= MOST:
        raise MinildmError(f"it holds {shape[0]:,} images", path, f"save 1 to {MOST:,}")
    return shape[0]


def check_labels(shape, dtype, n: int, path):
    """Refuse labels that are not one integer an image."""
    if dtype.kind in "iu" and shape == (n,):
        return
    fix = f"save {n} integers, the class of each image"
    if shape == (n, 1):
        fix = "save labels[:, 0]"
    elif len(shape) == 2 and shape[0] == n:
        fix = "save labels.argmax(1), for these look one-hot"
    raise MinildmError(f"its labels are {dtype} {shape}, of {n} images", path, fix)


def check_classes(labels, class_names, path):
    """Refuse labels that are no classes of the set."""
    low, high = int(labels.min()), int(labels.max())
    last = len(class_names) - 1
    if 0 <= low and high <= last:
        return
    fix = f"save labels from 0 to {last}"
    if low == 1 and high == last + 1:
        fix = "save labels - 1, for these count from 1"
    what = f"its labels go from {low} to {high}, the classes from 0 to {last}"
    raise MinildmError(what, path, fix)
