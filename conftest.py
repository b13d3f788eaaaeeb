"""What every test runs under; pytest reads it before anything imports torch."""

import os
import sys
import time
from pathlib import Path
from queue import Empty

import matplotlib

os.environ.setdefault("MINILDM_BUDGET", "smoke")     # lessons and recipes in seconds
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # kernels share the cores; one alone spins, twice as fast
if "PYTEST_XDIST_WORKER" in os.environ:              # a process a core already
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")         # parity tests compare random weights: nothing to fetch
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # for nbgrader
matplotlib.use("Agg")   # for this process only, not by MPLBACKEND: in the lessons' kernels figures must show


def notice_dead_kernels(kernel_class, slice_s: float = 2.0):
    """Let nbval fail a cell in whose midst the kernel dies; by itself it waits for the dead to answer."""
    get_message = kernel_class.get_message

    def get_or_fail(self, stream, timeout=None):
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            wait = slice_s if end is None else min(slice_s, max(0.0, end - time.monotonic()))
            try:
                return get_message(self, stream, timeout=wait)
            except Empty:
                if not self.is_alive():
                    raise RuntimeError("the kernel died in this cell") from None
                if end is not None and time.monotonic() >= end:
                    raise

    kernel_class.get_message = get_or_fail


try:
    from nbval.kernel import RunningKernel
except ImportError:     # without the extra `dev` there are no notebooks to run
    pass
else:
    notice_dead_kernels(RunningKernel)
