"""MNIST and sets in its form: four idx files, images and labels of training and of test.

An idx file is the bytes 0, 0, 8 (for uint8), the number of axes, their sizes as big-endian int32,
and the data; it has no checksum. So the published files are known here by their MD5. One of them
with a flipped bit, in another's place or under another set's name is refused. Files that are none
of the published ones are somebody's own: they are checked for their form, and a note says that
they are not the published set.
"""

import gzip
import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from minildm import MinildmError
from minildm.data import download
from minildm.data.cache import Part, Source, stamp

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
         "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
PUBLISHED = {       # MD5 of the unpacked files, in the order of FILES
    "MNIST": ("6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624",
              "2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637"),
    "FashionMNIST": ("f4a8712d7a061bf5bd6d2ca38dc4d50a", "9018921c3c673c538a1fc5bad174d6f9",
                     "8181f5470baa50b63fa0f6fddb340f0a", "15d484375f8d13e6eb1aabb0c3f46965"),
}
SIDE = 28
DELETE = "delete it: the next start downloads it, if there is a network"


@dataclass(frozen=True)
class IdxFiles:
    """Four idx files in `<root>/<folder>/raw`; torchvision calls the set by the same name."""

    folder: str
    class_names: tuple[str, ...]

    def paths(self, root: Path) -> list[Path]:
        return [root / self.folder / "raw" / file for file in FILES]

    def is_there(self, root: Path) -> bool:
        return all(path.is_file() for path in self.paths(root))

    def fetch(self, root: Path):
        """Download what is missing, each file whole or not at all; raises OSError."""
        from torchvision import datasets

        published = getattr(datasets, self.folder)
        packed = dict(published.resources)
        clock = download.Clock(download.LIMIT)
        for path in self.paths(root):
            if path.is_file():
                continue
            file = f"{path.name}.gz"
            urls = [mirror + file for mirror in published.mirrors]
            content = download.fetch(urls, packed[file], clock)
            download.put(gzip.decompress(content), path)

    def source(self, root: Path) -> Source:
        paths = self.paths(root)
        key = [[str(path), stamp(path)] for path in paths]
        return Source(key, partial(read, paths, self.folder, self.class_names))


def read(paths: list[Path], folder: str, class_names: tuple[str, ...]) -> dict[str, Part]:
    """Read and check both splits; raises MinildmError that names the damaged or misplaced file."""
    contents = []
    for path in paths:
        try:
            contents.append(path.read_bytes())
        except OSError as error:
            raise MinildmError(f"{path.name} can't be read: {error.strerror}", path,
                               "make it readable, or delete it") from error
    # form first: a file that is cut off is better called so than "not the published one"
    arrays = [_array(content, path) for content, path in zip(contents, paths, strict=True)]
    for images, labels in ((0, 1), (2, 3)):
        _check_labels(arrays[images], arrays[labels], len(class_names), paths[labels])
    notes = _check_published(contents, paths, folder)
    return {"train": _part(arrays[0], arrays[1], class_names, notes),
            "test": _part(arrays[2], arrays[3], class_names, notes)}


def _part(images, labels, class_names, notes) -> Part:
    # copied, since what was read from bytes can't be written to
    pixels = torch.from_numpy(images.copy())[:, None]       # (N, 1, 28, 28)
    return Part(pixels, torch.from_numpy(labels.astype(np.int64)), class_names, (), notes)


def _array(content: bytes, path: Path):
    """The data of one file; raises MinildmError if it has another form than its name says."""
    axes = 3 if "idx3" in path.name else 1
    head = 4 + 4 * axes
    try:
        if content[:4] != bytes([0, 0, 8, axes]):
            raise ValueError("it does not start as it should")
        shape = tuple(np.frombuffer(content, ">i4", axes, offset=4).tolist())
        if min(shape) < 1:
            raise ValueError("it is empty")
        if axes == 3 and shape[1:] != (SIDE, SIDE):
            raise ValueError(f"its images are {shape[1]}×{shape[2]}, not {SIDE}×{SIDE}")
        return np.frombuffer(content, np.uint8, offset=head).reshape(shape)
    except ValueError as error:
        raise MinildmError(f"{path.name} is damaged: {error}", path, DELETE) from error


def _check_labels(images, labels, classes: int, path: Path):
    if len(labels) != len(images) or labels.max() >= classes:
        raise MinildmError(f"{path.name} is damaged: {len(labels)} labels up to {labels.max()} for "
                           f"{len(images)} images of {classes} classes", path, DELETE)


def _check_published(contents: list[bytes], paths: list[Path], folder: str) -> tuple[str, ...]:
    """Compare the files with the published ones; returns a note if they are somebody's own.

    Raises MinildmError if one is published under another name, or if some are published and some
    are not.
    """
    known = {}
    for name, checksums in PUBLISHED.items():
        for file, checksum in zip(FILES, checksums, strict=True):
            known[checksum] = (name, file)
    # all four decide: one stranger among published files is damage, four are a set of their own
    strangers = []
    for content, path in zip(contents, paths, strict=True):
        found = known.get(hashlib.md5(content, usedforsecurity=False).hexdigest())
        if found is None:
            strangers.append(path)
        elif found != (folder, path.name):
            raise MinildmError(f"{path.name} is {found[0]}'s {found[1]} under another name", path,
                               f"move it to {found[0]}/raw/{found[1]}")
    if len(strangers) == len(paths):
        return (f"the files in {folder}/raw are not the published ones, but somebody's own",)
    if strangers:
        raise MinildmError(f"{strangers[0].name} is damaged: it is not the published file, as the "
                           "others beside it are", strangers[0], DELETE)
    return ()
