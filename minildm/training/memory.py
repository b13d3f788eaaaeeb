"""How glibc hands out large tensors' memory: a third of a small training step on the CPU."""

import contextlib
import ctypes
import sys

# numbers of malloc.h
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4


def tune_allocator() -> None:
    """Let glibc keep large tensors' memory for the rest of the process (Linux only).

    Otherwise it gives the memory back and faults it in anew at each step.
    """
    _set_options({MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1})      # from the heap, which never shrinks


@contextlib.contextmanager
def kept_memory(device_type: str):
    """Tune the allocator inside the block, where tensors are on the CPU.

    Afterwards it has the values that glibc's own adjustment arrives at in a program with large arrays.
    """
    if device_type != "cpu":
        yield
        return
    tune_allocator()
    try:
        yield
    finally:
        _set_options({MMAP_MAX: 65_536, MMAP_THRESHOLD: 2**25, TRIM_THRESHOLD: 2**26})


def _set_options(values: dict[int, int]) -> None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):        # musl has none
        for option, value in values.items():
            libc.mallopt(option, value)
