"""Folders that are either whole or refused: checkpoints of a run, and finished models.

A folder holds `state.safetensors` (tensors), `state.json` (the rest) and `manifest.json` (sizes and sha256).
It is written under another name, flushed to the disk and renamed into place: a crash at any moment leaves the
old folder or the new one, never half of each. The checksums are there because safetensors loads 298 of 300
files with one flipped bit without a word. No pickle: loading never runs code.
"""

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import time
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args

import safetensors.torch
import torch

from minildm import MinildmError, __version__

FORMAT = 1
TENSORS, META, MANIFEST = "state.safetensors", "state.json", "manifest.json"


def save(folder: str | Path, tensors: dict[str, torch.Tensor], meta: dict) -> None:
    """Write `folder` whole or not at all, replacing an older one; `meta` is anything JSON can hold.

    Raises MinildmError when the disk is full or cannot be written; what was there before is then still there.
    """
    folder = Path(folder)
    new, old = (folder.with_name(f".{kind}-{folder.name}") for kind in (f"tmp-{os.getpid()}", "old"))
    versions = {"minildm": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
    # cloned, since safetensors refuses tensors that share memory, as tied weights do
    clones = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
    files = {TENSORS: safetensors.torch.save(clones),
             META: json.dumps({**meta, "format": FORMAT, "versions": versions}, indent=1).encode()}
    entries = {name: _entry(content) for name, content in files.items()}
    manifest = {"files": entries, "self": _entry(json.dumps(entries).encode())}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _put_back(folder)
        for litter in folder.parent.glob(".tmp-*"):         # of a crash, not of a save under way elsewhere
            if litter == new or time.time() - litter.stat().st_mtime > 3600:
                shutil.rmtree(litter, ignore_errors=True)
        new.mkdir()
        for name, content in files.items():
            _write(new / name, content)
        _write(new / MANIFEST, json.dumps(manifest, indent=1).encode())     # last: no checkpoint without it
        _sync_folder(new)
        if folder.exists():                         # a folder cannot be renamed onto another
            shutil.rmtree(old, ignore_errors=True)
            os.replace(folder, old)
        os.replace(new, folder)
        _sync_folder(folder.parent)
    except OSError as error:
        size = sum(map(len, files.values())) / 1e6
        raise MinildmError(f"could not save: {error.strerror or error}; the last save is intact", folder,
                           f"free {size:.1f} MB of disk, or save where you may write") from error
    finally:
        _put_back(folder)
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: str | Path) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors (on the CPU) and the meta of a saved folder; MinildmError names a damaged file."""
    files = verify(folder)
    meta = json.loads(files[META])
    if meta["format"] != FORMAT:
        raise MinildmError(f"written as format {meta['format']}, not {FORMAT}", folder, "update minildm")
    return safetensors.torch.load(files[TENSORS]), meta


def verify(folder: str | Path) -> dict[str, bytes]:
    """The bytes of the files, checked against the manifest; MinildmError names the one that is damaged."""
    folder = Path(folder)
    _put_back(folder)
    if not (folder / MANIFEST).is_file():
        inside = folder / "model"
        raise MinildmError(f"there is no checkpoint here, no {MANIFEST}", folder,
                           f"take {inside}" if inside.is_dir() else "check the path, or use an earlier step")
    files = {}
    for name in (MANIFEST, TENSORS, META):
        try:
            content = (folder / name).read_bytes()
            if name == MANIFEST:
                manifest = json.loads(content)
                expected = {MANIFEST: manifest["self"], **manifest["files"]}
                content = json.dumps(manifest["files"]).encode()    # what its own checksum covers
            if _entry(content) != expected[name]:
                raise ValueError(f"{len(content)} of {expected[name]['size']} bytes, or another checksum")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MinildmError(f"{name} is damaged: {error}", folder / name,
                               "use a copy of this folder, or an earlier step") from None
        files[name] = content
    return files


def steps(run_dir: str | Path) -> list[Path]:
    """The `step-000123` folders of a run, newest first, whether they verify or not."""
    found = [path for path in Path(run_dir).glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def latest(run_dir: str | Path) -> Path | None:
    """The newest step that verifies, or None; says so when it falls back to an older one."""
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
        raise MinildmError("no step here is whole: " + "; ".join(damaged), run_dir, "delete it to start over")
    return None


def prune(run_dir: str | Path, keep: int = 2) -> None:
    """Delete steps older than the newest `keep` good ones, and what crashed saves left; only under `lock`."""
    good = 0
    for folder in steps(run_dir):
        if good >= keep:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        with contextlib.suppress(MinildmError):
            verify(folder)
            good += 1
    for litter in [*Path(run_dir).glob(".tmp-*"), *Path(run_dir).glob(".old-*")]:
        shutil.rmtree(litter, ignore_errors=True)


@contextlib.contextmanager
def lock(run_dir: str | Path):
    """Hold a run's folder until the block or process ends; a second one gets MinildmError with our pid."""
    Path(run_dir).mkdir(parents=True, exist_ok=True)
    with open(Path(run_dir) / "lock", "a+") as file:
        try:
            if os.name == "nt":
                import msvcrt
                file.seek(1 << 30)                  # a locked byte is unreadable: take one past the pid
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            pid = Path(file.name).read_text().strip() or "?"
            raise MinildmError(f"process {pid} is using this run folder", run_dir,
                               "wait for it, stop it, or give this run another folder") from None
        file.truncate(0)
        print(os.getpid(), file=file, flush=True)
        yield


def differences(a: dict, b: dict) -> list[str]:
    """Every field in which two configurations differ, as `model.width: 64 != 96`."""
    def flat(config, prefix=""):
        for key, value in config.items():
            yield from flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]

    a, b = (dict(flat(json.loads(json.dumps(config)))) for config in (a, b))    # JSON: a tuple is a list
    return [f"{key}: {a.get(key, 'absent')!r} != {b.get(key, 'absent')!r}" for key in {**a, **b}
            if key not in a or key not in b or a[key] != b[key]]


def _put_back(folder: Path) -> None:
    """Undo a replacement cut off between its two renames."""
    old = folder.with_name(f".old-{folder.name}")
    if old.exists() and not folder.exists():
        with contextlib.suppress(OSError):          # another process did, or saved
            os.replace(old, folder)


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder as durable as its files; Windows has no such call."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def _entry(content: bytes) -> dict:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def from_dict(kind, values: dict):
    """A dataclass back from the JSON of its asdict: nested ones too, lists as tuples.

    Of a field that may be one of several dataclasses it is the one that has all the names.
    """
    def value(kinds, given):
        if isinstance(given, list):
            return tuple(given)
        if not isinstance(given, dict):
            return given
        fitting = [k for k in get_args(kinds) or [kinds]
                   if is_dataclass(k) and given.keys() <= names(k)]
        if not fitting:
            raise MinildmError(f"no configuration has these numbers: {', '.join(given)}", kind.__name__,
                               "it was saved by another version: train it again")
        return from_dict(fitting[0], given)

    def names(kind):
        return {f.name for f in fields(kind)}

    return kind(**{f.name: value(f.type, values[f.name]) for f in fields(kind) if f.name in values})
