"""A kernel that dies is noticed at once, one that is slow is waited for."""

import importlib.util
import shutil
import subprocess
import sys
import time
from pathlib import Path
from queue import Empty

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def notice_dead_kernels():
    spec = importlib.util.spec_from_file_location("conftest_of_the_root", ROOT / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.notice_dead_kernels


def kernel(answers: list, alive: bool):
    """A kernel that gives these answers, None for silence."""
    class Kernel:
        def get_message(self, stream, timeout=None):
            answer = answers.pop(0) if answers else None
            if answer is None:
                time.sleep(timeout)
                raise Empty
            return answer

        def is_alive(self):
            return alive

    return Kernel


def test_a_slow_kernel_is_waited_for_and_a_dead_one_is_not(notice_dead_kernels):
    slow, silent, dead = kernel([None, None, "done"], True), kernel([], True), kernel([], False)
    for one in slow, silent, dead:
        notice_dead_kernels(one, slice_s=0.01)
    assert slow().get_message("shell", timeout=9) == "done"
    assert kernel(["done"], False)().get_message("shell") == "done"
    began = time.monotonic()
    with pytest.raises(Empty):
        silent().get_message("iopub", timeout=0.1)
    assert 0.1 <= time.monotonic() - began < 5
    for timeout in 300, None:
        with pytest.raises(RuntimeError, match="the kernel died"):
            dead().get_message("shell", timeout=timeout)


@pytest.mark.slow
def test_nbval_names_the_cell_in_which_the_kernel_died(tmp_path):
    shutil.copy(ROOT / "conftest.py", tmp_path)
    cells = [new_code_cell(source) for source in ("1 + 1", "import os; os._exit(1)", "2 + 2")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "toy.ipynb")
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env",
                           "--nbval-cell-timeout=300", "-q", "toy.ipynb"], cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 1 and "the kernel died in this cell" in done.stdout
    assert time.monotonic() - began < 120
