"""Memory that the first load of a folder takes for each of its pictures.

    python benchmarks/folder_memory.py              folders of 5,000 and 10,000 pictures
    python benchmarks/folder_memory.py 1000 2000    of these numbers

Writes pictures of 64 x 64 into a temporary folder, loads it in a process of its own, and prints one
JSON line. The bytes per picture are the slope between the first and the last folder, so that what
imports take does not count.
"""

import json
import resource
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64
GOAL = 200_000, 8 * 2**30       # pictures, and the bytes that loading them may take in all


def write_pictures(folder: Path, n: int):
    """Write n PNG files of random blocks, in ten classes."""
    draw = np.random.default_rng(0)
    for i in range(n):
        blocks = draw.integers(0, 256, (16, 16, 3), np.uint8)
        path = folder / f"class{i % 10}" / f"{i:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(blocks).resize((SIDE, SIDE), Image.Resampling.NEAREST).save(path)


def peak_of_loading(folder: Path) -> int:
    """The largest memory, in bytes, of this process while it loads a folder for the first time."""
    from minildm import data

    warnings.simplefilter("ignore")
    found = data.load(f"folder:{folder}", root=folder.parent)
    assert found.images.shape[1:] == (3, SIDE, SIDE)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(counts: list[int]):
    peaks = []
    for n in counts:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "pictures"
            write_pictures(folder, n)
            # a process's peak never falls: each folder needs its own
            child = [sys.executable, __file__, "--load", str(folder)]
            done = subprocess.run(child, check=True, stdout=subprocess.PIPE, text=True)
            peaks.append(int(done.stdout))
    slope = (peaks[-1] - peaks[0]) / (counts[-1] - counts[0])
    pictures, limit = GOAL
    whole = peaks[-1] + slope * (pictures - counts[-1])
    print(json.dumps({"pictures": counts, "peak_mb": [round(peak / 1e6) for peak in peaks],
                      "bytes_per_picture": round(slope), "pixels_per_picture": 3 * SIDE * SIDE,
                      "gib_at_200000": round(whole / 2**30, 2), "holds": whole <= limit}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        print(peak_of_loading(Path(sys.argv[2])))
    else:
        main([int(n) for n in sys.argv[1:]] or [5_000, 10_000])
