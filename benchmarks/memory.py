"""What README's own composition needs, in a process of its own."""

import re
import subprocess
import sys
import time

from benchmarks.claims import ROOT, claims_of

claim = claims_of("memory")

SETTING = """
import resource
import torch
from minildm import LatentDiffusion
model = LatentDiffusion.load("mnist")
labels = torch.arange(100) % 10
null = torch.full_like(labels, 10)
noise = model.noise(100)
{snippet}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)       # KiB on Linux
"""


def readme_snippet() -> str:
    """README's Python block that composes a sampler and guidance."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    return next(block for block in blocks if "ddim(cfg(" in block)


def measure():
    began = time.perf_counter()
    code = SETTING.format(snippet=readme_snippet())
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    peak = float(done.stdout.split()[-1])
    seconds = time.perf_counter() - began
    yield claim("peak of README's composition, 100 digits, GiB", peak, seconds)
