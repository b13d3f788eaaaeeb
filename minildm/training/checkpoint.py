"""Folders that are either whole or refused: checkpoints of a run, and finished models.

A folder holds `state.safetensors` (tensors), `state.json` (the rest) and `manifest.json` (sizes,
sha256). It is written under another name, flushed and renamed into place: a crash at any moment
leaves the old folder or the new one. The checksums are there because safetensors loads 298 of 300
files with one flipped bit without a word. No pickle: loading never runs code.
"""

import contextlib
import hashlib
import json
import os
import platform
import re
import sys
from pathlib import Path

import safetensors.torch
import torch

from minildm import MinildmError, __version__
from minildm.training import disk
from minildm.training.configs import differences, from_dict  # noqa: F401  (offered here too)
from minildm.training.disk import lock  # noqa: F401  (offered here too)
from minildm.training.untrusted import MOST_TENSORS, decode_tensors, read_json

FORMAT = 1
TENSORS, META, MANIFEST = "state.safetensors", "state.json", "manifest.json"
FILES = {TENSORS, META, MANIFEST}

MOST_META = 64_000_000      # bytes
# A reader beside a process that saves all the time looks again so often before it gives up.
TRIES = 100

# What each kind of folder has in its `state.json`, and no other kind.
KINDS = {
    "model": "a diffusion model", "recipe": "a diffusion model",
    "classifier": "a classifier",
    "identity": "a step of a training run",
    "key": "a cached copy of a data set",
}


# --- writing

def save(folder: str | Path, tensors: dict[str, torch.Tensor], meta: dict) -> None:
    """Write `folder` whole or not at all; `meta` is anything JSON (RFC 8259) can hold.

    An older folder is replaced if `save` wrote it and nothing was added since. MinildmError is
    raised otherwise, and when the disk is full or cannot be written; what was there before is
    then still there.
    """
    folder = Path(folder)
    files = _encode(folder, tensors, meta)
    new = folder.with_name(f".tmp-{os.getpid()}-{folder.name}")
    old = _set_aside(folder)
    for place in (folder, old):
        refuse_foreign(place)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clean_litter(folder)
        _put_back(folder)
        new.mkdir()
        # the manifest is written last: no checkpoint without it
        for name in (TENSORS, META, MANIFEST):
            disk.write(new / name, files[name])
        disk.sync_folder(new)
        if os.path.lexists(folder):         # a folder cannot be renamed onto another
            disk.remove(old)
            disk.move(folder, old, last=MANIFEST)
        disk.move(new, folder, last=MANIFEST)
        disk.sync_folder(folder.parent)
    except OSError as error:
        size = sum(len(content) for content in files.values()) / 1e6
        kept = "; the last save is intact" if folder.exists() or steps(folder.parent) else ""
        raise MinildmError(f"could not save: {error.strerror or error}{kept}", folder,
                           f"free {size:.1f} MB of disk, or save where you may write") from error
    finally:
        _put_back(folder)
        disk.remove(new)
    disk.remove(old)


def _encode(folder: Path, tensors: dict, meta: dict) -> dict[str, bytes]:
    """Turn tensors and meta into the three files' bytes, by name."""
    if len(tensors) > MOST_TENSORS:
        raise MinildmError(f"{len(tensors)} tensors are more than {MOST_TENSORS}", folder,
                           "save fewer, larger ones")
    clones = {}
    for name, tensor in tensors.items():
        # cloned, since safetensors refuses tensors that share memory, as tied weights do
        clone = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        clones[name.replace("_orig_mod.", "")] = clone      # torch.compile's prefix
    versions = {"minildm": __version__, "torch": str(torch.__version__),
                "python": platform.python_version()}
    try:
        text = json.dumps({**meta, "format": FORMAT, "versions": versions}, indent=1,
                          allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise MinildmError(f"not saved: {META} cannot hold this: {error}", folder,
                           "None stands for a number that is not finite") from None
    files = {TENSORS: safetensors.torch.save(clones), META: text.encode()}
    entries = {name: _entry(content) for name, content in files.items()}
    manifest = {"files": entries, "self": _entry(json.dumps(entries).encode())}
    return {**files, MANIFEST: json.dumps(manifest, indent=1).encode()}


def _entry(content: bytes) -> dict:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def is_ours(folder: Path) -> bool:
    """Say whether `save` wrote all that is in a folder, so that it may replace or remove it."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    try:
        entries = list(folder.iterdir())
    except FileNotFoundError:               # another process moved it meanwhile
        return True
    names = {path.name for path in entries if path.is_file()}
    if len(names) < len(entries) or not names <= FILES:
        return False
    # of what a crash left, the name says whose it is
    named = re.fullmatch(r"step-\d+|\.tmp-\d+-.+|\.old-.+", folder.name)
    return bool(named) or not names or {TENSORS, MANIFEST} <= names


def refuse_foreign(folder: Path) -> None:
    """Raise MinildmError if something stands there that `save` did not write."""
    if os.path.lexists(folder) and not is_ours(folder):
        raise MinildmError("this is not only a saved model: it would be lost", folder,
                           "save under another name, or move this away first")


def _set_aside(folder: Path) -> Path:
    """The name under which the older folder waits until the new one is in place."""
    return folder.with_name(f".old-{folder.name}")


def _put_back(folder: Path) -> None:
    """Undo a replacement that was cut off between its two renames."""
    old = _set_aside(folder)
    if (old / MANIFEST).is_file() and not (folder / MANIFEST).exists() and is_ours(old):
        with contextlib.suppress(OSError):          # another process did, or saved
            if folder.is_dir() and is_ours(folder):
                disk.remove(folder)
            disk.move(old, folder, last=MANIFEST)


def _clean_litter(folder: Path) -> None:
    """Remove what crashed saves of this folder left, not what a living process is writing."""
    for path in folder.parent.glob(".tmp-*"):
        match = re.fullmatch(r"\.tmp-(\d{1,9})-(.+)", path.name)
        if not match or match[2] != folder.name or not is_ours(path):
            continue
        pid = int(match[1])
        if pid == os.getpid() or disk.process_is_gone(pid):
            disk.remove(path)


# --- reading

def load(folder: str | Path,
         wants: tuple[str, ...] = ()) -> tuple[dict[str, torch.Tensor], dict]:
    """Read the tensors (on the CPU) and the meta of a saved folder.

    MinildmError names a damaged file; it says what the folder is if its meta lacks a key of `wants`.
    """
    folder = Path(folder)
    files = verify(folder)
    meta = read_json(files[META], folder / META)
    if not isinstance(meta, dict):
        raise MinildmError(f"{META} holds no names", folder / META, "use another copy of this folder")
    if meta.get("format") != FORMAT:
        raise MinildmError(f"written as format {meta.get('format')}, not {FORMAT}", folder,
                           "update minildm")
    missing = ", ".join(key for key in wants if key not in meta)
    if missing:
        wanted = KINDS.get(wants[0], f"a folder with {wants[0]!r}")
        raise MinildmError(f"this is {describe_kind(meta)}, not {wanted}: it has no {missing}",
                           folder, f"give the folder of {wanted}")
    return decode_tensors(files[TENSORS], folder / TENSORS), meta


def describe_kind(meta: dict) -> str:
    """Say in words what a folder with this meta is."""
    for key, words in KINDS.items():
        if key in meta:
            return words
    return "a folder of tensors"


def verify(folder: str | Path) -> dict[str, bytes]:
    """Read the files and check them against the manifest; MinildmError names the damaged one.

    This changes nothing on the disk. When a save replaces the folder meanwhile, it is read again.
    """
    folder = Path(folder)
    for _ in range(TRIES):
        before = _stamps(folder)
        try:
            return _read_files(folder)
        except MinildmError:
            if _stamps(folder) == before:
                raise
    raise MinildmError("this folder is replaced faster than it can be read", folder,
                       "read it when the other process has saved")


def _stamps(folder: Path) -> list:
    """What changes when the folder is replaced: identity and time of it and of the one set aside."""
    stamps = []
    for place in (folder, _set_aside(folder)):
        try:
            found = os.stat(place)
            stamps.append((found.st_ino, found.st_ctime_ns, found.st_mtime_ns))
        except OSError:
            stamps.append(None)
    return stamps


def _read_files(folder: Path) -> dict[str, bytes]:
    place = folder
    if not (folder / MANIFEST).exists():
        # a save was killed between its renames: the older folder is whole, under another name
        place = _set_aside(folder)
    if not (place / MANIFEST).exists():
        inside = folder / "model"
        cure = f"take {inside}" if inside.is_dir() else "check the path, or use an earlier step"
        raise MinildmError(f"there is no checkpoint here, no {MANIFEST}", folder, cure)
    files, expected = {}, {}
    for name, most in ((MANIFEST, MOST_META), (TENSORS, None), (META, MOST_META)):
        try:
            content = disk.read(place / name, most)
            if name == MANIFEST:
                manifest = json.loads(content)
                expected = {MANIFEST: manifest["self"], **manifest["files"]}
                content = json.dumps(manifest["files"]).encode()    # what its own checksum covers
            if _entry(content) != expected[name]:
                raise ValueError(f"{len(content)} of {expected[name]['size']} bytes, "
                                 "or another checksum")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise MinildmError(f"{name} is damaged: {error}", folder / name,
                               "use a copy of this folder, or an earlier step") from None
        files[name] = content
    return files


# --- the steps of a run

def steps(run_dir: str | Path) -> list[Path]:
    """List the `step-000123` folders of a run, newest first, whether they verify or not."""
    found = [path for path in Path(run_dir).glob("step-*")
             if re.fullmatch(r"step-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def latest(run_dir: str | Path) -> Path | None:
    """Find the newest step that verifies, or None; say so when it falls back to an older one."""
    damaged = []
    for folder in steps(run_dir):
        try:
            verify(folder)
        except MinildmError as error:
            damaged.append(f"{folder.name}: {error.what}")
        else:
            for line in damaged:
                print(f"{line}; falling back to {folder.name}", file=sys.stderr)
            return folder
    if damaged:
        raise MinildmError("no step here is whole: " + "; ".join(damaged), run_dir,
                           "delete it to start over")
    return None


def repair(run_dir: str | Path) -> None:
    """Undo or clean what crashed saves of this run left; only for who holds its `lock`."""
    for path in [*Path(run_dir).glob(".old-step-*"), *Path(run_dir).glob(".tmp-*-step-*")]:
        match = re.fullmatch(r"\.(?:old|tmp-\d+)-(step-\d+)", path.name)
        if not match:
            continue
        _put_back(path.with_name(match[1]))
        if is_ours(path):
            disk.remove(path)


def prune(run_dir: str | Path, keep: int = 2) -> None:
    """Remove the steps older than the newest `keep` good ones; only for who holds the `lock`.

    A step to which somebody added a file stays.
    """
    good = 0
    for folder in steps(run_dir):
        if good < keep:
            with contextlib.suppress(MinildmError):
                verify(folder)
                good += 1
        elif is_ours(folder):
            disk.remove(folder)
    repair(run_dir)
