"""A lock that waits lets one through at a time, with and without the operating system's help."""

import errno
import fcntl
import os
import threading
import time

import pytest

from minildm import MinildmError
from minildm.data import locks
from minildm.data.locks import waiting_lock


def unsupported(*args):
    raise OSError(errno.ENOSYS, "Function not implemented")


def overlaps(path, n=4):
    """How many of n threads were ever inside the lock together."""
    inside, most = [], []

    def work():
        with waiting_lock(path):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == n
    return max(most)


@pytest.mark.parametrize("flock", [True, False])
def test_one_at_a_time(tmp_path, monkeypatch, flock):
    monkeypatch.setattr(locks, "POLL", 0.005)
    if not flock:
        monkeypatch.setattr(fcntl, "flock", unsupported)
    assert overlaps(tmp_path / "lock") == 1
    assert not (tmp_path / "lock.held").exists()


@pytest.mark.parametrize("flock", [True, False])
def test_patience_ends_with_an_error_that_names_the_file(tmp_path, monkeypatch, flock):
    if not flock:
        monkeypatch.setattr(fcntl, "flock", unsupported)
    with waiting_lock(tmp_path / "lock"):
        with pytest.raises(MinildmError, match="another process") as caught:
            with waiting_lock(tmp_path / "lock", patience=0.2):
                pytest.fail("two inside")
    assert caught.value.where == str(tmp_path / "lock")


def test_what_a_crash_left_counts_as_free_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", unsupported)
    held = tmp_path / "lock.held"
    held.touch()
    with pytest.raises(MinildmError):
        with waiting_lock(tmp_path / "lock", patience=0.1):
            pytest.fail("it is held")
    long_ago = time.time() - locks.STALE - 1
    os.utime(held, (long_ago, long_ago))
    with waiting_lock(tmp_path / "lock", patience=0.1):
        assert held.exists()


def test_where_nothing_can_be_written_the_block_runs(tmp_path):
    (tmp_path / "file").touch()
    with waiting_lock(tmp_path / "file" / "lock"):
        pass
