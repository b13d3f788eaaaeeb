"""A lock that waits: processes that start together take turns at what only one of them should do.

Where the file system has no flock (some network file systems answer ENOSYS or ENOLCK), a second
file, made only if it is not there, is the lock. One that a crash left counts as free after
`STALE` seconds.
"""

import contextlib
import os
import sys
import time
from pathlib import Path

from minildm import MinildmError

STALE = 900        # seconds; longer than any download or reading that makes progress should hold on
POLL = 0.1          # seconds


@contextlib.contextmanager
def waiting_lock(path: str | Path, patience: float = STALE):
    """Hold the lock file `path` for a block, after waiting at most `patience` seconds for others.

    Where the file cannot be made (a read-only folder) the block runs without a lock. Raises
    MinildmError when another process does not let go in time.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+")
    except OSError:
        yield                               # nobody can write here, so nobody can spoil anything
        return
    with file, contextlib.ExitStack() as stack:
        # polled, since a system call that waits can't be given up, nor say what it waits for
        began = time.monotonic()
        told = False
        while not _taken(file, path, stack):
            waited = time.monotonic() - began
            if waited > patience:
                raise MinildmError(f"another process has held this for {waited:.0f} s", path,
                                   "wait for it, stop it, or delete this file if none is running")
            if waited > 5 and not told:
                told = True
                print(f"waiting for another process: {path}", file=sys.stderr)
            time.sleep(POLL)
        yield


def _taken(file, path: Path, stack: contextlib.ExitStack) -> bool:
    """Try to take the lock; what gives it back is put on `stack`."""
    try:
        return _flock(file)
    except OSError:                         # no flock on this file system
        return _create(path.with_name(path.name + ".held"), stack)


def _flock(file) -> bool:
    """Whether the system's lock could be had; it ends with the process, even by a kill."""
    try:
        if os.name == "nt":
            import msvcrt
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _create(held: Path, stack: contextlib.ExitStack) -> bool:
    """Whether this process could make the file `held`, which it deletes at the end."""
    with contextlib.suppress(OSError):
        if time.time() - held.stat().st_mtime > STALE:
            held.unlink()                   # its process was killed
    try:
        os.close(os.open(held, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    except OSError:                         # as in waiting_lock: better no lock than no data
        return True
    stack.callback(held.unlink, missing_ok=True)
    return True
