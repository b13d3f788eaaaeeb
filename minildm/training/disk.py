"""Files that survive a crash, on file systems that do not all keep what POSIX promises.

Network drives and containers answer "not supported" to flushing a folder, to locking, or to renaming one.
None of these is worth a training: we go on without, and say so once.
"""

import contextlib
import errno
import functools
import os
import shutil
import stat
import sys
from pathlib import Path

from minildm import MinildmError

NOT_SUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK,
                 errno.EBADF}
IN_USE = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}


@functools.cache
def say_once(text: str) -> None:
    print(text, file=sys.stderr)


def write(path: Path, content: bytes) -> None:
    """Write a new file, and return when the disk has it."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        sync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder as durable as its files; Windows has no such call."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            sync(handle)
        finally:
            os.close(handle)


def sync(handle: int) -> None:
    """Return when the disk has what was written to an open file or folder."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
        say_once("this file system cannot flush all it is told to: "
                 "a power cut may cost the last save")


def move(source: Path, target: Path, last: str) -> None:
    """Rename a folder of files, or copy it where renaming is not possible (EXDEV, on overlays).

    The file `last` says that a folder is whole: the copy gets it last, the source loses it first.
    """
    try:
        os.replace(source, target)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    say_once("this file system cannot rename folders: saves are copied instead")
    names = [path.name for path in source.iterdir() if path.name != last]
    try:
        target.mkdir()
        for name in [*names, last]:
            write(target / name, (source / name).read_bytes())
        sync_folder(target)
    except BaseException:
        remove(target)
        raise
    (source / last).unlink()
    remove(source)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder; what is not there, or cannot go, stays as it is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


def read(path: Path, most: int | None = None) -> bytes:
    """Read a plain file of at most `most` bytes; OSError for a pipe or a device, which may never end."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a plain file")
    if most is not None and found.st_size > most:
        raise OSError(errno.EFBIG, f"it has {found.st_size} bytes, more than {most}")
    return path.read_bytes()


def open_in_run(path: Path, mode: str):
    """Open a text file of a run folder for writing, creating it where there is none.

    A link is refused, because it may lead out of the folder to someone else's file; so is a pipe.
    """
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_NOINHERIT"):
        flags |= getattr(os, name, 0)
    try:
        # Windows has no O_NOFOLLOW, so links are looked for as well
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link")
        handle = os.open(path, flags, 0o666)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "it is not a plain file")
    except OSError as error:
        raise MinildmError(f"{path.name} cannot be written: {error.strerror or error}", path,
                           "remove it, or give this run another folder") from None
    return os.fdopen(handle, mode, buffering=1)


@contextlib.contextmanager
def lock(run_dir: str | Path):
    """Hold a run's folder until the block or the process ends.

    MinildmError names the process that holds it already, or says why nothing can be written there.
    """
    run_dir = Path(run_dir)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MinildmError(f"this folder cannot be made: {error.strerror or error}", run_dir,
                           "give this run a folder where you may write") from None
    with open_in_run(run_dir / "lock", "r+") as file:
        try:
            _lock(file)
        except OSError as error:
            if error.errno in IN_USE:
                file.seek(0)
                pid = file.read().strip() or "?"
                raise MinildmError(f"process {pid} is using this run folder", run_dir,
                                   "wait for it, stop it, or choose another folder") from None
            if error.errno not in NOT_SUPPORTED:
                raise MinildmError(f"this folder cannot be locked: {error.strerror}", run_dir,
                                   "give this run a folder where you may write") from None
            say_once("this file system cannot lock: do not start two trainings in one folder")
        # the pid is for people: a full disk will be told of by the check of its room
        with contextlib.suppress(OSError):
            file.truncate(0)
            file.seek(0)
            print(os.getpid(), file=file, flush=True)
        yield


def _lock(file) -> None:
    if os.name == "nt":
        import msvcrt
        file.seek(1 << 30)      # a locked byte is unreadable: take one past the pid
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)
    else:
        import fcntl
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def process_is_gone(pid: int) -> bool:
    """True where a process can be asked for and there is none; os.kill would end one on Windows."""
    if os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:             # another user's
        return False
    return False


def check_room(folder: Path, size: int, copies: int) -> None:
    """Refuse a folder in which `copies` saves of `size` bytes cannot be written, before a training."""
    probe = folder / f".tmp-{os.getpid()}-step-0"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise MinildmError(f"nothing can be saved here: {error.strerror or error}", folder,
                           "give this run a folder where you may write") from None
    try:
        usage = shutil.disk_usage(folder)
    except OSError:             # some file systems do not tell
        return
    needed = size * copies
    if usage.total and usage.free < needed:
        raise MinildmError(
            f"{copies} checkpoints of {size / 1e6:.1f} MB need {needed / 1e6:.1f} MB of disk, "
            f"{usage.free / 1e6:.1f} MB are free", folder, "free some, or choose another folder")
