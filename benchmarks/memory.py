"""What README's own composition needs, in a process of its own."""

import re
import subprocess
import sys
import time

from benchmarks.claims import ROOT, claims_of

claim = claims_of("memory")

MEASURE = """
import resource
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)       # KiB on Linux
"""


def readme_snippet() -> str:
    """README's Python block that composes a sampler and guidance."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    return next(block for block in blocks if "ddim(cfg(" in block)


def measure():
    began = time.perf_counter()
    command = [sys.executable, "-c", readme_snippet() + MEASURE]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    peak = float(done.stdout.split()[-1])
    seconds = time.perf_counter() - began
    yield claim("peak of README's composition, 100 digits, GiB", peak, seconds)
