"""What every test runs under; pytest reads it before it imports torch."""

import os

os.environ.setdefault("MINILDM_BUDGET", "smoke")   # lessons and recipes in seconds
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # waiting threads don't spin: kernels and tests share the cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")       # the parity tests compare random weights; nothing is fetched

import matplotlib  # noqa: E402

matplotlib.use("Agg")   # here only: in the lessons' kernels figures must show, so not by MPLBACKEND
