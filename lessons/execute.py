"""Run lessons and keep their outputs, as they are committed: `python lessons/execute.py 01 05`, or all.

A lesson runs from top to bottom at MINILDM_BUDGET; then what differs from run to run is taken out of the
file, and its figures are reduced to as many colours as keep it within its size.
"""

import base64
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import nbclient
import nbformat
from PIL import Image

SIZE = 600_000                                                   # bytes a lesson may have
NOISE = "metadata.language_info.version metadata.widgets cell.metadata.execution"


def fewer_colours(png: str, colours: int) -> str:
    """A base64 PNG with a palette of so many colours; the original if that is smaller."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    buffer = io.BytesIO()
    picture.quantize(colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return min(png, base64.b64encode(buffer.getvalue()).decode(), key=len)


def shrink(lesson):
    """The lesson with its figures in 128 colours, or in as few as keep it within SIZE."""
    for colours in (128, 64, 32, 16):
        for output in (o for cell in lesson.cells for o in cell.get("outputs", [])):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = fewer_colours(output.data["image/png"], colours)
        if len(nbformat.writes(lesson).encode()) < 0.97 * SIZE:
            break
    return lesson


def execute(path: Path):
    began = time.perf_counter()
    lesson = nbformat.read(path, 4)
    nbclient.NotebookClient(lesson, timeout=3600, record_timing=False,
                            resources={"metadata": {"path": path.parent}}).execute()
    nbformat.write(shrink(lesson), path)
    keep = ["--keep-output", "--keep-count", "--keep-id"]
    subprocess.run(["nbstripout", *keep, "--extra-keys", NOISE, path], check=True)
    seconds = time.perf_counter() - began
    print(f"{path.name}: {seconds:.0f} s, {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("CI", "1")                             # no progress bars in the outputs
    for name in sys.argv[1:] or [""]:
        for lesson in sorted(Path(__file__).parent.glob(f"{name}*.ipynb")):
            execute(lesson)
