"""Other processes, and the lessons' own code, run for what they measure."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.claims import BUILD, ROOT

PYTEST = ["-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"]     # as the Makefile calls it
LESSONS = sorted((ROOT / "lessons").glob("*.ipynb"))


def timed(command: list[str], **environment) -> float:
    """Seconds of a Python command that must succeed; what it prints goes to stderr."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=sys.stderr, cwd=ROOT,
                   env=os.environ | environment)
    return time.perf_counter() - began


def run_demo(name: str, fresh: bool = True, seed: int = 0) -> tuple[dict, float, float]:
    """`minildm demo` on a set: its metrics.json, its seconds, its peak memory in GiB.

    `fresh` begins from nothing; otherwise a run that is there is read again.
    """
    out = demo_folder(name, seed)
    if fresh or not (out / "process.json").exists():
        shutil.rmtree(out, ignore_errors=True)
        budget = os.environ.get("MINILDM_BUDGET", "auto")
        command = ["-m", "minildm", "demo", "--data", name, "--out", str(out), "--recipe", budget,
                   "--seed", str(seed)]
        seconds = timed(command)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20      # KiB on Linux
        (out / "process.json").write_text(json.dumps({"seconds": seconds, "peak": peak}))
    process = json.loads((out / "process.json").read_text())
    facts = json.loads((out / "metrics.json").read_text())
    return facts, process["seconds"], process["peak"]


def demo_folder(name: str, seed: int = 0) -> Path:
    """Where `run_demo` keeps what it drew and measured."""
    return BUILD / (f"benchmark-demo-{name}" + (f"-seed{seed}" if seed else ""))


def run_lesson(number: str) -> tuple[dict, float]:
    """The names that a lesson's code leaves, and its seconds: so table and lesson can't differ."""
    import matplotlib
    import matplotlib.pyplot as plt
    import nbformat

    matplotlib.use("agg")
    path = next(path for path in LESSONS if path.name.startswith(number))
    lesson = nbformat.read(path, 4)
    began, names = time.perf_counter(), {}
    for cell in lesson.cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            plt.close("all")
    return names, time.perf_counter() - began
