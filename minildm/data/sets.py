"""Pictures with labels: a whole set at once, as uint8 tensors that fit on the device.

    load("mnist", "train", pad=32).images       # (60000, 1, 32, 32) uint8
    to_float(images)                            # in [-1, 1]

mnist, fashion-mnist, cifar10 are found under the data folder or downloaded; folder:PATH is
anyone's images; glyphs are digits drawn from fonts; scenes are composed of digits. One set never
stands in for another. What was read once stays in `<root>/cache/`, with a checksum: the second
start takes a fraction of a second.
"""

import os
import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from minildm import MinildmError
from minildm.data import files, scenes
from minildm.data.cache import Part, Source, cached, sha256
from minildm.data.cifar import CifarFiles
from minildm.data.glyphs import FONTS, draw_glyphs
from minildm.data.idx import IdxFiles
from minildm.data.locks import waiting_lock
from minildm.data.pictures import FORMATS
from minildm.data.splits import SPLITS, printable
from minildm.data.wordings import DIGITS, fill_in
from minildm.images import pad_to

GLYPHS = {"train": 20_000, "test": 2_000}   # how many are drawn
SCENES = {"train": 40_000, "test": 4_000}
LARGEST = 2048                              # side that a folder's pictures may be resized to
CLOTHES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
           "ankle boot")
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Origin(Protocol):
    """Where the pictures of a set come from, under a data folder `root`."""

    def is_there(self, root: Path) -> bool:
        """Whether `source` can do without the network."""

    def fetch(self, root: Path) -> None:
        """Download what is missing; raises OSError."""

    def source(self, root: Path) -> Source:
        """What reads the set, and what tells whether it is still the same."""


class Drawn:
    """The origin of glyphs: they are drawn, so they are always there."""

    def is_there(self, root: Path) -> bool:
        return True

    def fetch(self, root: Path) -> None:
        """There is nothing to download."""

    def source(self, root: Path) -> Source:
        return Source([GLYPHS, FONTS], partial(draw_glyphs, GLYPHS))


@dataclass(frozen=True)
class DataSet:
    """A row of the table below: all that the package knows of a set by its name.

    `caption` is a sentence with {} for a class's name, or {a} for the name with its article.
    `digits` names the set that scenes are composed of, which then is in the place of an origin.
    """

    name: str
    class_names: tuple[str, ...]
    caption: str
    origin: Origin | None = None
    digits: str = ""


# a new set is a line here, and an origin if none of these can read it
DATA_SETS = {row.name: row for row in (
    DataSet("mnist", DIGITS, "the digit {}", IdxFiles("MNIST", DIGITS)),
    DataSet("fashion-mnist", CLOTHES, "a photo of {a}", IdxFiles("FashionMNIST", CLOTHES)),
    DataSet("cifar10", OBJECTS, "a photo of {a}", CifarFiles(OBJECTS)),
    DataSet("glyphs", DIGITS, "the digit {}", Drawn()),
    DataSet("scenes", DIGITS, "the digit {}", digits="mnist"),
    DataSet("scenes-glyphs", DIGITS, "the digit {}", digits="glyphs"),
)}
NAMES = (*DATA_SETS, "folder:PATH")
CLASSES = {name: row.class_names for name, row in DATA_SETS.items()}
# without an article, since a folder's classes may be names, or in the plural
OTHER_CAPTION = "a photo of {}"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split: images (N, C, H, W) uint8, and labels (N,) int64 into class_names.

    `skipped` names bad files. `truth` tells what stands in scenes, whose label is the left or upper
    digit; it is None for all others.
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
    def channels(self) -> int:
        """1 for grey, 3 for red, green and blue."""
        return self.images.shape[1]

    @property
    def size(self) -> int:
        """The side of the pictures, in pixels."""
        return self.images.shape[-1]

    @property
    def captions(self) -> list[str]:
        """A sentence an image: "the digit three", "a photo of a ship"."""
        if self.truth is not None:
            return scenes.captions(self.truth)
        known = DATA_SETS.get(self.name)
        template = known.caption if known else OTHER_CAPTION
        sentences = [fill_in(template, name) for name in self.class_names]
        return [sentences[label] for label in self.labels.tolist()]

    def to(self, device) -> "ImageSet":
        """The same set with its tensors on a device; `truth` stays where it is."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def subset(self, n: int, seed: int = 0) -> "ImageSet":
        """n images drawn by seed without replacement; all of them, shuffled, if there are fewer."""
        generator = torch.Generator().manual_seed(seed)
        # drawn on the CPU, so that every device picks the same
        pick = torch.randperm(len(self), generator=generator)[:n]
        truth = None if self.truth is None else self.truth[pick]
        pick = pick.to(self.labels.device)
        return replace(self, images=self.images[pick], labels=self.labels[pick], truth=truth)


def data_root(root=None) -> Path:
    """`root`, else MINILDM_DATA, else the checkout's data/ if it can be written, else
    ~/.cache/minildm.

    Raises MinildmError where the home folder is needed and nobody knows it.
    """
    given = root or os.environ.get("MINILDM_DATA")
    if given:
        return _expand(given)
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").exists() and os.access(checkout / "data", os.W_OK):
        return checkout / "data"
    try:
        return Path.home() / ".cache" / "minildm"
    except RuntimeError as error:         # a container whose user has no entry in the list of users
        raise MinildmError("this user's home folder is not known", "~/.cache/minildm",
                           "set MINILDM_DATA to a folder for data") from error


def load(name: str, split: str = "train", *, size: int | None = None, pad: int | None = None,
         root: str | Path | None = None, download: bool = True) -> ImageSet:
    """Load a whole set, "train" or "test", as uint8 tensors.

    size: side to which a folder's pictures are resized and cropped in the middle; by default
    their own if they are all alike, square and at most 64, else 32, and a warning says so. pad:
    side to pad to afterwards, 28 -> 32 say. root: see data_root. A folder without train/ and
    test/ gives a tenth of each class for test: see `splits.choose_test`. A bad file is skipped:
    named in `.skipped`, counted in one warning. Raises MinildmError for an unknown name, missing
    or damaged files, no network.
    """
    _check_arguments(name, split, size)
    root = data_root(root)
    row = DATA_SETS.get(name)
    if row and row.digits:
        return _compose(row, split, pad, root, download)
    if row:
        _make_there(row, root, download)
        slug, source = name, row.origin.source(root)
    else:
        folder = folder_path(name)
        slug = f"folder-{sha256([str(folder), size])[:16]}"
        source = files.source(files.list_files(folder), size)
    part = cached(root / "cache", slug, split, source)
    _warn(part, name, split)
    if not len(part.images):
        raise MinildmError(f"no {split} image can be read", printable(name),
                           f"it takes {', '.join(FORMATS)}")
    if row and part.class_names != row.class_names:
        names = printable(", ".join(part.class_names))[:99]
        raise MinildmError(f"its classes are {names}", root / name,
                           f"the sub-folders should be {', '.join(row.class_names)}; "
                           "folder:PATH loads any set")
    images = part.images if pad is None else pad_to(part.images, pad)
    return ImageSet(name, split, images, part.labels, part.class_names, part.skipped)


def available(name: str, root=None) -> bool:
    """Whether load(name) can do without the network; False for a name that does not exist."""
    row = DATA_SETS.get(name)
    if row and row.digits:
        return available(row.digits, root)
    if row:
        return row.origin.is_there(data_root(root))
    folder = folder_path(name)
    return folder is not None and os.path.isdir(folder)


def default() -> str:
    """The set that lessons use: "mnist", or with a warning "glyphs", if mnist can't be had."""
    try:
        load("mnist")
    except MinildmError as error:
        if available("mnist"):              # then it is damaged, and that must be said
            raise
        warnings.warn(f"{error.what}; glyphs, digits drawn from fonts, take its place",
                      stacklevel=2)
        return "glyphs"
    return "mnist"


def folder_path(name: str) -> Path | None:
    """The path in "folder:PATH", None for any other name."""
    path = name.removeprefix("folder:")
    return _expand(path) if path and path != name else None


def _expand(path) -> Path:
    try:
        return Path(path).expanduser().resolve()
    except (RuntimeError, OSError, ValueError) as error:
        raise MinildmError(f"this path can't be followed: {error}", printable(path)[:200],
                           "write it in full, without ~") from error


def _check_arguments(name: str, split: str, size: int | None):
    if split not in SPLITS:
        raise MinildmError(f"there is no split {split!r}", name, "choose train or test")
    if name not in DATA_SETS and folder_path(name) is None:
        raise MinildmError(f"there is no data set {printable(name)!r}",
                           fix=f"choose one of {', '.join(NAMES)}")
    if size is not None and (name in DATA_SETS or not 1 <= size <= LARGEST):
        raise MinildmError(f"size={size} is not possible", name,
                           f"it is for folder:PATH, from 1 to {LARGEST}; pad=32 pads")


def _make_there(row: DataSet, root: Path, download: bool):
    """Download a set that is not there, one process at a time; raises MinildmError if that fails.
    """
    if row.origin.is_there(root):
        return
    try:
        if not download:
            raise OSError("download=False")
        with waiting_lock(root / f"download-{row.name}"):
            # another process may have downloaded it while this one waited
            if not row.origin.is_there(root):
                row.origin.fetch(root)
    except OSError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1][:150]
        raise MinildmError(f"{row.name} is missing, and can't be downloaded: {reason}", root,
                           f"set MINILDM_DATA to a folder that holds {row.name} (layout: "
                           "data/README.md), or choose glyphs, which needs no download") from error


def _compose(row: DataSet, split: str, pad: int | None, root: Path, download: bool) -> ImageSet:
    digits = load(row.digits, split, root=root, download=download)
    # training never sees the held-out combinations; the test split has all of them
    held_out = False if split == "train" else None
    images, truth = scenes.compose(digits.images, digits.labels, SCENES[split], SPLITS.index(split),
                                   held_out)
    images = images if pad is None else pad_to(images, pad)
    return ImageSet(row.name, split, images, truth.digits[:, 0], row.class_names, truth=truth)


def _warn(part: Part, name: str, split: str):
    """One warning for the files that were skipped, and one for each note."""
    name = printable(name)
    if part.skipped:
        warnings.warn(f"{name} {split}: {len(part.skipped)} skipped; the first: {part.skipped[0]}",
                      stacklevel=3)
    for note in part.notes:
        warnings.warn(f"{name}: {note}", stacklevel=3)
