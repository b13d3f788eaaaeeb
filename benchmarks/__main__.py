"""Measure claims and write them into RESULTS.md:  python -m benchmarks NAME ...

Each NAME is a file of this folder; without one, all are measured, which takes hours. A JSON line is
printed for each claim, and the exit code is 1 where one misses its bar. Most need MNIST, some
CIFAR-10: see data/README.md.
"""

import contextlib
import importlib
import sys

from benchmarks.claims import ROOT, write_table

# in the order of the table
BENCHMARKS = (
    "demo", "vae", "memory", "zoo", "prior", "sharp", "copies", "metrics", "clip",
    "captions", "scenes", "pointing", "guidance", "guidance_scales", "editing", "control",
    "restoration", "cifar", "equal_cost", "fashion", "steps", "quality", "samplers", "fewstep",
    "dit", "parity", "published_speed", "peers", "gpu", "kill", "lessons", "unit", "video",
    "monitor")


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        known = ", ".join(BENCHMARKS)
        print(f"benchmarks: no {', '.join(unknown)}; there are {known}", file=sys.stderr)
        return 2
    missed = False
    for name in names or BENCHMARKS:
        measure = importlib.import_module(f"benchmarks.{name}").measure
        with contextlib.redirect_stdout(sys.stderr):        # stdout is for the JSON lines
            claims = list(measure())
        for row in claims:
            print(row.json(), flush=True)
            missed = missed or not row.holds
        write_table(ROOT / "RESULTS.md", claims, BENCHMARKS)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
