"""What every test runs under; pytest reads it before anything imports torch."""

import os
import sys
from pathlib import Path

import matplotlib

os.environ.setdefault("MINILDM_BUDGET", "smoke")     # lessons and recipes in seconds
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # kernels share the cores; one alone spins, twice as fast
if "PYTEST_XDIST_WORKER" in os.environ:              # a process a core already
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")         # parity tests compare random weights: nothing to fetch
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # for nbgrader
matplotlib.use("Agg")   # for this process only, not by MPLBACKEND: in the lessons' kernels figures must show
