"""Anyone's images: a folder's files become a training set and a test set.

Sub-folders are classes, a folder without any is one class; train/ and test/ on top stay apart,
else a tenth is for test. What can't be read is named and skipped. Pictures go one by one into an
array that is made for them beforehand, so that reading needs little more memory than the set
itself.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from minildm import MinildmError
from minildm.data.cache import Part, Source, stamp
from minildm.data.pictures import OWN_SIZE, USUAL_SIZE, read_picture, read_size
from minildm.data.splits import choose_test, find_splits, printable

BESIDE = "it lies beside the classes' folders"
# files given to the threads at a time: what is decoded and waits for its turn takes memory
AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Row:
    """A file: its split, or "" without splits; its class, or "" in no sub-folder; path; stamp."""

    split: str
    label: str
    path: str
    stamp: tuple[int, int, int, int]


@dataclass(frozen=True)
class Listing:
    """The files of a folder, always in the same order, and notes about what was left out."""

    name: str
    rows: list[Row]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a file is no picture."""

    reason: str


def list_files(folder: Path) -> Listing:
    """List the files below a folder that are not hidden; raises MinildmError as find_splits."""
    splits, notes = find_splits(folder)
    rows = []
    for split, place in splits.items():
        unreadable = []
        for here, below, files in os.walk(place, followlinks=True, onerror=unreadable.append):
            real = Path(here).resolve()
            # changed in place, which is how os.walk is told where to go on
            below[:] = sorted(name for name in below if _enters(real, here, name))
            inside = Path(here).relative_to(place).parts
            label = inside[0] if inside else ""
            for name in sorted(files):
                path = os.path.join(here, name)
                # a file may vanish while its folder is listed
                if not name.startswith(".") and os.path.lexists(path):
                    rows.append(Row(split, label, path, stamp(path)))
        notes += [f"{printable(error.filename)} can't be entered: {error.strerror}"
                  for error in unreadable]
    return Listing(folder.name or "pictures", rows, tuple(notes))


def _enters(real: Path, here: str, name: str) -> bool:
    """Whether a sub-folder is walked: no hidden one, and no link to a folder above it."""
    # such a link would lead round and round
    return not name.startswith(".") and not real.is_relative_to(Path(here, name).resolve())


def source(listing: Listing, size: int | None = None) -> Source:
    """The source of a folder's pictures: it is another as soon as any file is another."""
    digest = hashlib.sha256()
    # row by row: the text of all rows would take more memory than the rows
    for row in listing.rows:
        digest.update(repr(row).encode("utf-8", "backslashreplace"))
    key = [listing.name, size, listing.notes, digest.hexdigest()]
    return Source(key, partial(read_files, listing, size))


def read_files(listing: Listing, size: int | None = None) -> dict[str, Part]:
    """Read both splits of what list_files found, pictures (N, C, side, side).

    C is 1 if every picture of both splits is grey, else 3. `side` is `size`; without one it is
    their own if they are square, alike and at most 64, else 32. Raises MinildmError if memory
    doesn't suffice, or if the test split has classes that the training split has not.
    """
    rows, errors, sizes = listing.rows, {}, []
    if size is None:
        sizes = list(_in_threads(_size_of, [row.path for row in rows], f"listing {listing.name}"))
        errors = {i: found for i, found in enumerate(sizes) if isinstance(found, Unreadable)}
        _leave_out_loose(rows, errors)
    side = size or usual_side(_of_readable(sizes, errors))
    pixels = _read_pixels(listing, side, errors)
    if size is None and usual_side(_of_readable(sizes, errors)) != side:
        # the one picture of another size was damaged: the others can keep theirs
        side = usual_side(_of_readable(sizes, errors))
        pixels = _read_pixels(listing, side, errors)
    notes = list(listing.notes)
    # who asked for a size knows it
    if size is None:
        notes += size_note(_of_readable(sizes, errors), side)
    return _make_parts(listing, pixels, errors, notes)


def usual_side(sizes: set[tuple[int, int]]) -> int:
    """The side that pictures of these sizes get when nobody asks for one."""
    if len(sizes) == 1:
        [(width, height)] = sizes
        if width == height <= OWN_SIZE:
            return width
    return USUAL_SIZE


def size_note(sizes: set[tuple[int, int]], side: int) -> list[str]:
    """A line that says what becomes of pictures larger than `side`, and how to keep more."""
    shortest = min((min(size) for size in sizes), default=0)
    if shortest <= side:
        return []
    width, height = min(sizes)
    what = f"{width}×{height} pictures" if len(sizes) == 1 else f"pictures of {len(sizes)} sizes"
    how = "resized" if all(w == h for w, h in sizes) else "cropped to squares and resized"
    choices = [str(choice) for choice in (64, 128) if choice <= shortest] or [str(shortest)]
    return [f"{what} are {how} to {side}; pass size={' or '.join(choices)} to keep more"]


def _of_readable(sizes: list, errors: dict) -> set[tuple[int, int]]:
    return {size for i, size in enumerate(sizes) if i not in errors}


def _size_of(path: str):
    return _attempt(read_size, path)


def _attempt(read: Callable, *arguments):
    """What `read` returns, or the reason why it could not."""
    try:
        return read(*arguments)
    # Pillow raises anything, and the other files may be good
    except Exception as error:
        return Unreadable(f"{type(error).__name__}: {error}".replace("\n", " "))


def _in_threads(work: Callable, items: list, title: str) -> Iterator:
    """The results of work(item) in order; few are waiting for their turn at any time."""
    with (ThreadPoolExecutor(os.cpu_count()) as pool,
          tqdm(total=len(items), desc=printable(title), disable=None) as bar):
        for start in range(0, len(items), AT_ONCE):
            for result in pool.map(work, items[start:start + AT_ONCE]):
                bar.update()
                yield result


class Pixels:
    """Pictures in one array (n, C, side, side), grey until the first coloured one comes."""

    def __init__(self, n: int, side: int):
        self.array = _zeros(n, 1, side)

    def put(self, i: int, picture: np.ndarray):
        """Store a picture (side, side, 3) at place i; all before it must have been stored."""
        channels = picture.transpose(2, 0, 1)
        n, present, side, _ = self.array.shape
        if present == 1 and (channels != channels[:1]).any():
            grey, self.array = self.array, _zeros(n, 3, side)
            # numpy repeats the one channel: a grey picture has three that are equal
            self.array[:i] = grey[:i]
        self.array[i] = channels[:self.array.shape[1]]

    def take(self, places: list[int]) -> torch.Tensor:
        """Those at increasing places, moved to the front; what lay there is overwritten."""
        for to, place in enumerate(places):
            self.array[to] = self.array[place]
        return torch.from_numpy(self.array[:len(places)])


def _zeros(n: int, channels: int, side: int) -> np.ndarray:
    # the system gives zeros page by page, when they are written to: what stays empty costs nothing
    try:
        return np.zeros((n, channels, side, side), np.uint8)
    except (MemoryError, ValueError) as error:
        raise MinildmError(f"{n} pictures of {side}×{side} don't fit into memory",
                           fix="choose a smaller size, or fewer pictures") from error


def _read_pixels(listing: Listing, side: int, errors: dict) -> Pixels:
    """Decode every file that is not in `errors` yet; adds to it what fails."""
    def read(path):
        return np.asarray(read_picture(path, side))

    places = [i for i in range(len(listing.rows)) if i not in errors]
    pixels = Pixels(len(listing.rows), side)
    paths = [listing.rows[i].path for i in places]
    results = _in_threads(partial(_attempt, read), paths, f"reading {listing.name}")
    for i, result in zip(places, results, strict=True):
        if isinstance(result, Unreadable):
            errors[i] = result
        else:
            pixels.put(i, result)
    return pixels


def _make_parts(listing: Listing, pixels: Pixels, errors: dict, notes: list) -> dict[str, Part]:
    """Give each picture its class and split; a class without a readable picture is left out."""
    rows = listing.rows
    _leave_out_loose(rows, errors)
    readable = [i for i in range(len(rows)) if i not in errors]
    labels = {i: rows[i].label or listing.name for i in readable}
    class_names = tuple(sorted(set(labels.values())))
    empty = sorted({row.label for row in rows} - {"", *class_names})
    if empty and class_names:
        names = printable(", ".join(empty))[:200]
        notes.append(f"left out, since no picture in it can be read: {names}")
    split_of = _split_of(rows, labels)
    _check_splits(rows, labels, split_of, listing.name)
    # numbers follow the alphabet, so that they are the same on every machine
    number = {name: k for k, name in enumerate(class_names)}
    parts = {}
    # test first, as a copy: then the training pictures can move up within the array
    for split in ("test", "train"):
        mine = [i for i in readable if split_of[i] == split]
        images = pixels.take(mine) if split == "train" else torch.from_numpy(pixels.array[mine])
        numbers = torch.tensor([number[labels[i]] for i in mine], dtype=torch.long)
        skipped = [printable(f"{rows[i].path}: {errors[i].reason}") for i in sorted(errors)
                   if (rows[i].split or "train") == split]
        parts[split] = Part(images, numbers, class_names, tuple(skipped), tuple(notes))
    return parts


def _leave_out_loose(rows: list[Row], errors: dict):
    """Where sub-folders have pictures, those beside them have no class; else they are one."""
    readable = [i for i in range(len(rows)) if i not in errors]
    if any(rows[i].label for i in readable):
        for i in readable:
            if not rows[i].label:
                errors[i] = Unreadable(BESIDE)


def _split_of(rows: list[Row], labels: dict[int, str]) -> dict[int, str]:
    """The split of each readable picture: its folder's, or else that of `choose_test`."""
    if rows and rows[0].split:
        return {i: rows[i].split for i in labels}
    test = choose_test(labels, len(rows))
    return {i: "test" if i in test else "train" for i in labels}


def _check_splits(rows: list[Row], labels: dict, split_of: dict, name: str):
    """Refuse split folders of which one is empty, or has classes that training does not show."""
    if not labels or not rows[0].split:
        return
    seen = {"train": set(), "test": set()}
    for i, label in labels.items():
        seen[split_of[i]].add(label)
    for split, classes in seen.items():
        if not classes:
            raise MinildmError(f"no {split} image can be read, though there is a folder for them",
                               name, "put pictures into it, or move the classes one level up: "
                               "a tenth of them becomes test")
    unseen = printable(", ".join(sorted(seen["test"] - seen["train"])))
    if unseen:
        raise MinildmError(f"test/ has classes that train/ has not: {unseen[:99]}", name,
                           "give both the same sub-folders")
