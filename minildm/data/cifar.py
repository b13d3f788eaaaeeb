"""CIFAR-10 as it is published: an archive of six pickled batches, or these unpacked."""

import hashlib
import pickle
import tarfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from minildm import MinildmError
from minildm.data import download, files
from minildm.data.cache import Part, Source, stamp

ARCHIVE = "cifar-10-python.tar.gz"
BATCHES = "cifar-10-batches-py"
DELETE = "delete it: the next start downloads it, if there is a network"


@dataclass(frozen=True)
class CifarFiles:
    """CIFAR-10 under a root, looked for in this order: folders of images, batches, the archive."""

    class_names: tuple[str, ...]

    def is_there(self, root: Path) -> bool:
        return any((root / place).exists()
                   for place in ("cifar10/train", f"{BATCHES}/test_batch", ARCHIVE))

    def fetch(self, root: Path):
        """Download the archive whole or not at all; raises OSError."""
        from torchvision.datasets import CIFAR10

        content = download.fetch([CIFAR10.url], CIFAR10.tgz_md5, download.Clock(download.LIMIT))
        download.put(content, root / ARCHIVE)

    def source(self, root: Path) -> Source:
        if (root / "cifar10" / "train").is_dir():
            return files.source(files.list_files(root / "cifar10"), size=32)
        places = [root / ARCHIVE, *sorted((root / BATCHES).glob("*"))]
        key = [[str(place), stamp(place)] for place in places if place.exists()]
        return Source(key, partial(read, root, self.class_names))


def read(root: Path, class_names: tuple[str, ...]) -> dict[str, Part]:
    """Read both splits; raises MinildmError for a file whose MD5 is not the published one."""
    from torchvision.datasets import CIFAR10

    archive = _Archive(root / ARCHIVE, CIFAR10.tgz_md5)
    parts = {}
    for split, batches in (("train", CIFAR10.train_list), ("test", CIFAR10.test_list)):
        images, labels = [], []
        for file, md5 in batches:
            # the checksum comes before the pickle: loading another pickle could run anything
            batch = pickle.loads(_content(root, file, md5, archive), encoding="latin1")
            images.append(np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32))
            labels += batch["labels"]
        pixels = torch.from_numpy(np.concatenate(images))
        parts[split] = Part(pixels, torch.tensor(labels, dtype=torch.long), class_names)
    return parts


def _content(root: Path, file: str, md5: str, archive: "_Archive") -> bytes:
    """The bytes of one batch, unpacked or in the archive."""
    path = root / BATCHES / file
    if not path.exists():
        return archive.read(f"{BATCHES}/{file}")
    content = _read_file(path)
    if _md5(content) != md5:
        raise MinildmError(f"{BATCHES}/{file} is damaged: its MD5 differs", path, DELETE)
    return content


class _Archive:
    """The published archive, which is checked as a whole when something is first read from it."""

    def __init__(self, path: Path, md5: str):
        self.path, self.md5 = path, md5
        self.members = None

    def read(self, name: str) -> bytes:
        if self.members is None:
            self.members = self._unpack()
        if name not in self.members:
            raise MinildmError(f"{name} is missing, in {ARCHIVE} too", self.path, DELETE)
        return self.members[name]

    def _unpack(self) -> dict[str, bytes]:
        if not self.path.exists():
            raise MinildmError(f"the batches are not whole, and there is no {ARCHIVE}", self.path,
                               f"delete {BATCHES}: the next start downloads it, if there is "
                               "a network")
        if _md5(_read_file(self.path)) != self.md5:
            raise MinildmError(f"{ARCHIVE} is damaged: its MD5 differs", self.path, DELETE)
        # nothing is unpacked to the disk: other processes may be reading there
        with tarfile.open(self.path) as tar:
            return {member.name: tar.extractfile(member).read()
                    for member in tar if member.isfile()}


def _read_file(path: Path) -> bytes:
    if not path.is_file():                              # a pipe would never end
        raise MinildmError(f"{path.name} is not a file", path, DELETE)
    return path.read_bytes()


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
