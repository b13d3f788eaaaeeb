"""Pictures with labels: a whole set at once, as uint8 tensors that fit on the device.

    load("mnist", "train", pad=32).images     # (60000, 1, 32, 32) uint8;  to_float(images) is in [-1, 1]

mnist, fashion-mnist, cifar10 are found under the data folder or downloaded; folder:PATH is anyone's images;
glyphs are digits drawn from fonts; scenes are composed of digits. One set never stands in for another. What
was read once stays in `<root>/cache/`, with a checksum: the second start takes a fraction of a second.
"""

import hashlib
import json
import os
import socket
import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from minildm import MinildmError
from minildm.data import scenes
from minildm.data.files import FORMATS, SPLITS, list_files, read_files
from minildm.data.glyphs import FONTS, draw_glyphs
from minildm.data.wordings import DIGITS, with_article
from minildm.images import pad_to
from minildm.training import checkpoint

NAMES = ("mnist", "fashion-mnist", "cifar10", "glyphs", "scenes", "scenes-glyphs", "folder:PATH")
TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10"}
CLASSES = {
    "mnist": DIGITS, "glyphs": DIGITS, "scenes": DIGITS, "scenes-glyphs": DIGITS,
    "fashion-mnist": ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
                      "ankle boot"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
GLYPHS = {"train": 20_000, "test": 2_000}  # how many are drawn
SCENES = {"train": 40_000, "test": 4_000}
DELETE = "delete it: the next start downloads it, if there is a network"
VERSION = 1  # raise it when reading or drawing changes: cached copies are then made anew


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split: images (N, C, H, W) uint8, labels (N,) int64 into class_names; `skipped` names bad files.

    Of scenes `truth` is what stands in them, the label the left or upper digit.
    """

    name: str
    split: str
    images: torch.Tensor
    labels: torch.Tensor
    class_names: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    truth: scenes.Truth | None = None

    def __len__(self):
        return len(self.images)

    @property
    def captions(self) -> list[str]:
        """A sentence an image: "the digit three", "a photo of a ship"; for a folder "a photo of {class}"."""
        if self.truth is not None:
            return scenes.captions(self.truth)
        start = "the digit " if CLASSES.get(self.name) is DIGITS else "a photo of "
        say = with_article if self.name in ("fashion-mnist", "cifar10") else str
        sentences = [start + say(name) for name in self.class_names]
        return [sentences[label] for label in self.labels.tolist()]

    def to(self, device) -> "ImageSet":
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def subset(self, n: int, seed: int = 0) -> "ImageSet":
        """n images drawn by seed without replacement; all of them, shuffled, if there are fewer."""
        generator = torch.Generator().manual_seed(seed)
        pick = torch.randperm(len(self), generator=generator)[:n]
        truth = None if self.truth is None else self.truth[pick]
        pick = pick.to(self.labels.device)
        return replace(self, images=self.images[pick], labels=self.labels[pick], truth=truth)


def data_root(root=None) -> Path:
    """`root`, else MINILDM_DATA, else the checkout's data/ if it can be written, else ~/.cache/minildm."""
    if root or os.environ.get("MINILDM_DATA"):
        return Path(root or os.environ["MINILDM_DATA"]).expanduser().resolve()
    checkout = Path(__file__).resolve().parents[2]
    writable = (checkout / "pyproject.toml").exists() and os.access(checkout / "data", os.W_OK)
    return checkout / "data" if writable else Path.home() / ".cache" / "minildm"


def load(name: str, split: str = "train", *, size=None, pad=None, root=None, download=True) -> ImageSet:
    """A whole set, "train" or "test", as uint8 tensors.

    size: side that a folder's images are resized and cropped to; by default their own if they are all alike,
    square and at most 64, else 32. pad: side to pad to afterwards, 28 -> 32 say. A bad file in a folder is
    skipped: named in `.skipped`, counted in one warning. root: see data_root.
    Raises MinildmError for an unknown name, missing or damaged files, no network.
    """
    if split not in SPLITS:
        raise MinildmError(f"there is no split {split!r}", name, "choose train or test")
    if size is not None and (size < 1 or not _folder_path(name)):
        raise MinildmError(f"size={size} is not possible", name, "it is for folder:PATH, from 1; pad=32 pads")
    root, slug, folder = data_root(root), name, _folder_path(name)
    if name.startswith("scenes") and name in NAMES:
        digits, seed = load(_digits_of(name), split, root=root, download=download), SPLITS.index(split)
        held_out = False if split == "train" else None
        images, truth = scenes.compose(digits.images, digits.labels, SCENES[split], seed, held_out)
        images = images if pad is None else pad_to(images, pad)
        return ImageSet(name, split, images, truth.digits[:, 0], DIGITS, truth=truth)
    if folder:
        slug = f"folder-{_sha256([str(folder), size])[:16]}"
        source = list_files(folder)
        read = partial(read_files, source, folder.name, size)
    elif name == "cifar10" and (root / "cifar10" / "train").is_dir():
        source = list_files(root / "cifar10")
        read = partial(read_files, source, name, 32)
    elif name == "cifar10":
        source, read = "archive", partial(_read_cifar_archive, root, download)
    elif name in TORCHVISION:
        if not available(name, root):
            _torchvision(name, root, download)
        source = _idx_paths(name, root)
        read = partial(_read_idx, source, CLASSES[name])
    elif name == "glyphs":
        source, read = [GLYPHS, FONTS], partial(draw_glyphs, GLYPHS)
    else:
        raise MinildmError(f"there is no data set {name!r}", fix=f"choose one of {', '.join(NAMES)}")
    images, labels, class_names, skipped = _cached(root / "cache", slug, split, source, read)
    if skipped:
        warnings.warn(f"{name} {split}: {len(skipped)} skipped; the first: {skipped[0]}", stacklevel=2)
    if not len(images):
        raise MinildmError(f"no {split} image can be read", folder or name, f"it takes {', '.join(FORMATS)}")
    if name in CLASSES and tuple(class_names) != CLASSES[name]:
        raise MinildmError(f"its classes are {', '.join(class_names)[:99]}", root / name,
                           f"the sub-folders should be {', '.join(CLASSES[name])}; folder:PATH loads any set")
    images = images if pad is None else pad_to(images, pad)
    return ImageSet(name, split, images, labels, tuple(class_names), tuple(skipped))


def available(name: str, root=None) -> bool:
    """Whether load(name) can do without the network; False for a name that does not exist."""
    root, folder = data_root(root), _folder_path(name)
    if folder:
        return folder.is_dir()
    if name.startswith("scenes") and name in NAMES:
        return available(_digits_of(name), root)
    if name == "cifar10":
        places = "cifar10/train", "cifar-10-batches-py/test_batch", "cifar-10-python.tar.gz"
        return any((root / place).exists() for place in places)
    return name == "glyphs" or name in TORCHVISION and all(path.is_file() for path in _idx_paths(name, root))


def default() -> str:
    """What lessons use: "mnist", downloaded if need be, else "glyphs", which need no network."""
    try:
        load("mnist")
    except MinildmError:
        if available("mnist"):          # then it is damaged, and that must be said
            raise
        return "glyphs"
    return "mnist"


def _folder_path(name):
    """PATH of folder:PATH, None for any other name."""
    return Path(name[7:]).expanduser().resolve() if name.startswith("folder:") and name[7:] else None


def _digits_of(name):
    """The set that scenes are made of."""
    return "glyphs" if name == "scenes-glyphs" else "mnist"


def _sha256(thing) -> str:
    """Of what JSON can hold; a path in it stands for its name, size and time of change."""
    text = json.dumps(thing, default=lambda path: [str(path), path.stat().st_size, path.stat().st_mtime_ns])
    return hashlib.sha256(text.encode()).hexdigest()


def _cached(folder, slug, split, source, read):
    """Images, labels, class names, skipped: the cached copy if whole and of this source, else read()."""
    key, place = _sha256([VERSION, source]), folder / f"{slug}-{split}"
    if place.exists():
        try:
            tensors, meta = checkpoint.load(place)
            if meta["key"] == key:
                return tensors["images"], tensors["labels"], meta["class_names"], meta["skipped"]
        except MinildmError as error:
            warnings.warn(f"{place}: {error.what}; reading the images again", stacklevel=3)
    sets = read()
    try:
        for part, (images, labels, class_names, skipped) in sets.items():
            checkpoint.save(folder / f"{slug}-{part}", dict(images=images, labels=labels),
                            dict(key=key, class_names=class_names, skipped=skipped))
    except MinildmError as error:                        # on a full or read-only disk: the next start is slow
        warnings.warn(f"no copy of {slug} kept: {error.what}", stacklevel=3)
    return sets[split]


def _torchvision(name, root, download):
    """Train and test set as torchvision downloads and reads them, or an error that says what else helps."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)                         # a network that swallows packets counts as none
    try:
        if not download and not available(name, root):
            raise RuntimeError("download=False")
        from torchvision import datasets
        Set = getattr(datasets, TORCHVISION[name])
        return [Set(root, train=split == "train", download=True) for split in SPLITS]
    except (OSError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1][:150]
        raise MinildmError(f"{name} is missing or damaged, and can't be downloaded: {reason}", root,
                           f"set MINILDM_DATA to a folder that holds {name} (layout: data/README.md), "
                           "or choose glyphs, which needs no download") from error
    finally:
        socket.setdefaulttimeout(timeout)


def _read_cifar_archive(root, download):
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    files = [(f"{CIFAR10.base_folder}/{file}", md5) for file, md5 in CIFAR10.train_list + CIFAR10.test_list]
    for file, md5 in [(CIFAR10.filename, CIFAR10.tgz_md5), *files]:      # as published: safe to unpickle
        if (root / file).exists() and not check_integrity(root / file, md5):
            raise MinildmError(f"{file} is damaged: its MD5 differs", root / file, DELETE)
    parts = _torchvision("cifar10", root, download)
    return {split: (torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets),
                    CLASSES["cifar10"], []) for split, part in zip(SPLITS, parts, strict=True)}


def _idx_paths(name, root):
    """Images and labels of train, then of test."""
    raw = root / TORCHVISION[name] / "raw"
    return [raw / f"{part}-{kind}-ubyte"
            for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def _read_idx(paths, class_names):
    """idx files: bytes 0, 0, 8 (uint8), the number of axes, their sizes as big-endian int32, the data."""
    arrays = []
    for path, axes in zip(paths, (3, 1, 3, 1), strict=True):
        try:
            raw = path.read_bytes()
            if raw[:4] != bytes([0, 0, 8, axes]):
                raise ValueError("it does not start as it should")
            shape = np.frombuffer(raw, ">i4", axes, offset=4)
            array = np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)
            if axes == 1 and (len(array) != len(arrays[-1]) or array.max() >= len(class_names)):
                raise ValueError(f"{len(array)} labels up to {array.max()} for {len(arrays[-1])} images")
        except (OSError, ValueError) as error:
            raise MinildmError(f"{path.name} is damaged: {error}", path, DELETE) from error
        arrays.append(torch.from_numpy(array.copy()))
    train, train_labels, test, test_labels = arrays
    return {"train": (train[:, None], train_labels.long(), class_names, []),
            "test": (test[:, None], test_labels.long(), class_names, [])}
