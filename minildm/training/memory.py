"""Memory in training: how glibc hands it out, a third of a small step; and what helps where a
card has too little.
"""

import contextlib
import ctypes
import sys
import traceback

import torch

from minildm import MinildmError

# numbers of malloc.h
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4


def tune_allocator() -> None:
    """Let glibc keep large tensors' memory for the rest of the process (Linux only).

    Otherwise it gives the memory back and faults it in anew at each step.
    """
    # large tensors come from the heap, and the heap never shrinks
    _set_options({MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1})


@contextlib.contextmanager
def kept_memory(device_type: str):
    """Tune the allocator inside the block, where tensors are on the CPU.

    Afterwards it has the values that glibc's own adjustment reaches in a program with large arrays.
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
    # musl has no such function
    if hasattr(libc, "mallopt"):
        for option, value in values.items():
            libc.mallopt(option, value)


@contextlib.contextmanager
def explained_out_of_memory(config):
    """Turn CUDA's "out of memory" inside the block into a MinildmError that names three cures.

    `config` is a TrainConfig. What the block had allocated is free for the next, smaller run.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        # its frames hold the step's tensors, and a notebook keeps an error until the next
        traceback.clear_frames(error.__traceback__)
        raise MinildmError(f"the card's memory is too small for this training: {first_line(error)}",
                           f"batch_size={config.batch_size}, precision={config.precision!r}",
                           cures(config)) from None


def first_line(error: Exception) -> str:
    """How much was asked for, without the paragraphs that follow."""
    return str(error).split(". GPU")[0].splitlines()[0][:200] if str(error) else "out of memory"


def cures(config) -> str:
    """A smaller batch, a smaller network, a free card; and bf16, where it is not used."""
    smaller = max(1, config.batch_size // 2)
    found = [f"a smaller batch: batch_size={smaller}",
             "a smaller network: another recipe, as `--recipe cpu`",
             "a free card: `nvidia-smi` lists who uses it"]
    if config.precision == "float32":
        found.append("half the memory: precision='bf16'")
    return "; or ".join(found)
