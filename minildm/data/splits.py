"""Which pictures of a folder are for training, and which for test."""

import os
from collections import Counter
from pathlib import Path

import torch

from minildm import MinildmError

SPLITS = ("train", "test")
# what the folders are called that people bring, in any case of letters
FOLDERS = {"train": "train", "training": "train", "test": "test", "testing": "test",
           "val": "validation", "valid": "validation", "validation": "validation"}


def printable(text: str) -> str:
    """The text with escapes in place of what no terminal can show: names need not be UTF-8."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def find_splits(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The folders of "train" and "test", or of "" where there are none; and notes on what is left
    out.

    Names count in any case of letters. A validation folder is the test split if there is no
    other, else it is left out. Raises MinildmError if there is no such folder, one of the two is
    missing, or one is there twice.
    """
    if not os.path.isdir(folder):
        raise MinildmError("there is no such folder", printable(folder),
                           "check the spelling; unpack an archive first")
    try:
        below = sorted(entry.name for entry in os.scandir(folder)
                       if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise MinildmError(f"this folder can't be listed: {error.strerror}", printable(folder),
                           "make it readable") from error
    found = {}
    for name in below:
        kind = FOLDERS.get(name.lower())
        if kind in found:
            raise MinildmError(f"{found[kind]}/ and {name}/ both say {kind}", printable(folder),
                               "put their classes into one of them")
        if kind:
            found[kind] = name
    if not found:
        return {"": folder}, []
    notes = []
    validation = found.pop("validation", None)
    if validation and "test" in found:
        notes.append(f"{validation}/ is left out: {found['test']}/ is for test")
    elif validation:
        found["test"] = validation
        notes.append(f"{validation}/ is taken for the test split")
    _check_both(found, folder)
    others = [name for name in below if name.lower() not in FOLDERS]
    if others:
        names = printable(", ".join(others))[:200]
        notes.append(f"left out, beside {found['train']}/ and {found['test']}/: {names}")
    return {split: folder / found[split] for split in SPLITS}, notes


def _check_both(found: dict[str, str], folder: Path):
    for split, other in (("train", "test"), ("test", "train")):
        if split in found and other not in found:
            raise MinildmError(f"there is {found[split]}/ but not {other}/", printable(folder),
                               "add it, or move the classes one level up: a tenth of them becomes "
                               f"test; rename it if {found[split]} is a class")


def choose_test(labels: dict[int, str], n: int) -> set[int]:
    """Which of the readable pictures are for test: a tenth of each class, by a fixed seed.

    `labels` has the class of each readable file of n. A class of 2 to 11 pictures gives one, a
    class of one none. Where each class has one picture, a tenth of all and at least one is for
    test, if there are two: their classes then have none to train on.
    """
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).tolist()
    order = [i for i in order if i in labels]
    # the second of each class, then every tenth: so the first always is for training
    seen, chosen = Counter(), set()
    for i in order:
        if seen[labels[i]] % 10 == 1:
            chosen.add(i)
        seen[labels[i]] += 1
    return chosen or set(order[1::10])
