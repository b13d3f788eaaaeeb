"""Checks of command-line options: what is refused before torch is imported, and with which words.

Each names the option, the value, and what is allowed. None of them leaves a file behind.
"""

import os
import tempfile
from pathlib import Path

from minildm import MinildmError

# below an output folder: the longest name of a file, and the folders that a run writes into
DEEPEST = "denoiser/.tmp-0000000000-step-000000000/state.safetensors"
STAGES = ("vae", "text", "denoiser", "classifier", "model")


def check(option: str, good: bool, allowed: str, value):
    """Refuse an option's value, naming what is allowed."""
    if not good:
        what = f"{option} {shorten(str(value), 80)}: not allowed"
        raise MinildmError(what, "command line", f"{option} takes {allowed}")


def shorten(text: str, length: int) -> str:
    """Cut the middle out of a text that is longer."""
    half = length // 2
    return text if len(text) <= length else f"{text[:half]} ... {text[-half:]}"


def check_path(option: str, path: Path):
    """Refuse a name that no file could have, like one of 300 bytes."""
    try:
        os.lstat(path)
    # whether it must exist is for others to say
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        check(option, False, f"a path that can exist here: {reason}", path)


def expanded(option: str, path: Path) -> Path:
    """The path with ~ replaced; where the home folder is not known that is refused."""
    check_path(option, path)
    try:
        return Path(path).expanduser()
    except RuntimeError:
        check(option, False, "a path without ~, for that home folder is not known", path)


SETS = "mnist", "fashion-mnist", "cifar10", "glyphs"       # what every command takes


def check_data(name: str, extra: tuple[str, ...] = ()):
    """Refuse a name that is no set, and a folder that is not there."""
    names = (*extra, *SETS)
    kind, _, path = name.partition(":")
    is_folder = kind == "folder" and bool(path)
    check("--data", name in names or is_folder, ", ".join(names) + " or folder:PATH", name)
    if is_folder:
        folder = expanded("--data", Path(path))
        check("--data", folder.is_dir(), "folder:PATH of a folder that exists", name)


def check_writable(option: str, folder: Path):
    """Refuse a place where no folder can be made and removed again.

    Permissions alone do not say it: /proc allows everything and takes nothing.
    """
    # the folders below the nearest one that exists are made by the command itself
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".minildm-", dir=folder))
    except OSError as error:
        allowed = f"a place that can be written; this cannot: {error.strerror}"
        check(option, False, allowed, folder)


def check_out_folder(path: Path):
    """Refuse a folder that a run could not write, before the training and not after it."""
    path = expanded("--out", path)
    check_path("--out", path / DEEPEST)
    check_writable("--out", path.absolute())
    # a stage's folder may be of an earlier run, perhaps somebody else's
    for stage in STAGES:
        if (path / stage).is_dir():
            check_writable("--out", path / stage)


def check_out_picture(path: Path):
    """Refuse a name that is no picture's, or a place where none can be written."""
    check("--out", path.suffix in (".png", ".gif"), "a file name that ends in .png, of films also "
          "in .gif", path)
    path = expanded("--out", path)
    check("--out", not path.is_dir(), "the name of a file, not of a folder", path)
    check_writable("--out", path.absolute().parent)


def check_size(size: int | None, data: str):
    """Refuse a side that is too small or too large, and one of pictures that have their own."""
    check("--size", size is None or 8 <= size <= 256, "8 to 256", size)
    of_a_folder = size is None or data.startswith("folder:")
    check("--size", of_a_folder, "its place beside --data folder:PATH", size)


def check_seed(seed: int):
    check("--seed", 0 <= seed < 2**31, "0 to 2147483647", seed)


def check_not_empty(argv: list[str]):
    """Refuse `--out ''`, a script's unset variable: as a path it would mean this very folder."""
    # after parsing it is too late: Path("") is Path(".")
    for option in ("--out", "--model", "--samples"):
        separate = any(pair == (option, "") for pair in zip(argv, argv[1:], strict=False))
        check(option, not separate and f"{option}=" not in argv, "a path, which '' is not", "''")
