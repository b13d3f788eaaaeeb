"""What was read once is kept in `<root>/cache/SET-SPLIT/`: two .npy files, and a JSON file with a
checksum.

A copy is used only if it was made from the same source and its sha256 agrees. The arrays are
written from where they lie in memory and read to where they stay, so that a copy costs no second
set of pixels.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from minildm.data.locks import waiting_lock

VERSION = 2     # raise it when reading or drawing changes: cached copies are then made anew
META, ARRAYS = "meta.json", ("images", "labels")


@dataclass(frozen=True, eq=False)
class Part:
    """One split as it was read: images (N, C, H, W) uint8, labels (N,) int64, names, what went
    wrong.

    `skipped` has a line for each bad file of this split, `notes` a line for what holds of the
    whole set.
    """

    images: torch.Tensor
    labels: torch.Tensor
    class_names: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where a set comes from: a `key`, which changes when the source does, and its reader."""

    key: list
    read: Callable[[], dict[str, Part]]


def stamp(path: str | os.PathLike) -> tuple[int, int, int, int]:
    """Size, times of change and inode: they tell apart even two files that changed names."""
    try:
        status = os.stat(path)
    except OSError:                                 # a link to nothing
        status = os.lstat(path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def sha256(thing) -> str:
    """The sha256 of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(thing).encode()).hexdigest()


def cached(folder: Path, slug: str, split: str, source: Source) -> Part:
    """Read one split from its copy in `folder`, or from its source if no copy fits."""
    # without the lock first: a copy is only ever replaced whole
    key = sha256([VERSION, source.key])
    part, _ = _open_copy(folder / f"{slug}-{split}", key)
    if part is not None:
        return part
    with waiting_lock(folder / f"{slug}.lock"):
        # another process may have read it while this one waited
        part, damage = _open_copy(folder / f"{slug}-{split}", key)
        if part is not None:
            return part
        if damage:
            warnings.warn(f"{folder / slug}-{split}: {damage}; reading the images again",
                          stacklevel=3)
        parts = source.read()
        try:
            for name, part in parts.items():
                _keep(part, folder / f"{slug}-{name}", key)
        except OSError as error:                  # a full or read-only disk: the next start is slow
            reason = error.strerror or error
            warnings.warn(f"no copy of {slug} kept: {reason}", stacklevel=3)
    return parts[split]


def _open_copy(place: Path, key: str) -> tuple[Part | None, str]:
    """The copy in `place`, or None if there is none of this key; and what is damaged in it."""
    if not (place / META).is_file():
        return None, ""
    try:
        meta = json.loads((place / META).read_text("utf-8"))
        if meta["key"] != key:
            return None, ""
        arrays = [_read_array(place / f"{name}.npy") for name in ARRAYS]
        if _checksum(meta, arrays) != meta["sha256"]:
            raise ValueError("its checksum differs")
    except FileNotFoundError:                       # another process is replacing it
        return None, ""
    # numpy's and JSON's own complaints about broken headers and nesting
    except (OSError, ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        return None, f"the copy is damaged: {error}"
    images, labels = map(torch.from_numpy, arrays)
    names, skipped, notes = (tuple(meta[name]) for name in ("class_names", "skipped", "notes"))
    return Part(images, labels, names, skipped, notes), ""


def _read_array(path: Path):
    if path.exists() and not path.is_file():        # a pipe would never end
        raise ValueError(f"{path.name} is not a file")
    return np.load(path, allow_pickle=False)


def _checksum(meta: dict, arrays) -> str:
    """The sha256 of everything else in meta, and of the arrays with their shapes."""
    others = {name: value for name, value in meta.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(others, sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _keep(part: Part, place: Path, key: str):
    """Write a copy under another name, then rename it: there is never half a copy in `place`."""
    new = place.with_name(f".tmp-{place.name}-{os.getpid()}")
    meta = {"key": key, "class_names": list(part.class_names), "skipped": list(part.skipped),
            "notes": list(part.notes)}
    arrays = [tensor.numpy() for tensor in (part.images, part.labels)]
    meta["sha256"] = _checksum(meta, arrays)
    try:
        new.mkdir(parents=True, exist_ok=True)
        for name, array in zip(ARRAYS, arrays, strict=True):
            np.save(new / f"{name}.npy", array)
        (new / META).write_text(json.dumps(meta, indent=1), "utf-8")
        shutil.rmtree(place, ignore_errors=True)    # a folder cannot be renamed onto another
        os.replace(new, place)
    finally:
        shutil.rmtree(new, ignore_errors=True)
