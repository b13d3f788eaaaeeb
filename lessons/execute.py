"""Run lessons and keep their outputs, as they are committed: `python lessons/execute.py 01 05`, or all.

A lesson runs from top to bottom at MINILDM_BUDGET; then what differs from run to run is taken out of the
file, and its figures are packed without loss: every pixel keeps its colour.
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

SIZE = 1_500_000                                                 # bytes a lesson may have
NOISE = "metadata.language_info.version metadata.widgets cell.metadata.execution"


def pack(png: str) -> str:
    """A base64 PNG with the same pixels in fewer bytes; the original if that is smaller."""
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    packed = picture
    if picture.mode == "RGBA" and picture.getextrema()[3] == (255, 255):
        packed = picture.convert("RGB")                          # opaque everywhere: alpha says nothing
    if packed.mode == "RGB" and packed.getcolors(256):
        packed = packed.quantize(len(packed.getcolors(256)), dither=Image.Dither.NONE)
    if packed.convert(picture.mode).tobytes() != picture.tobytes():
        packed = picture                                         # more colours than a palette has
    buffer = io.BytesIO()
    words = {"dpi": picture.info["dpi"]} if "dpi" in picture.info else {}
    packed.save(buffer, "PNG", optimize=True, **words)
    return min(png, base64.b64encode(buffer.getvalue()).decode(), key=len)


def shrink(lesson):
    """The lesson with its figures packed."""
    for output in (o for cell in lesson.cells for o in cell.get("outputs", [])):
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = pack(output.data["image/png"])
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
    size = path.stat().st_size
    remark = f", more than {SIZE / 1000:.0f} kB: fewer or smaller figures" if size > SIZE else ""
    print(f"{path.name}: {seconds:.0f} s, {size / 1000:.0f} kB{remark}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("CI", "1")                             # no progress bars in the outputs
    for name in sys.argv[1:] or [""]:
        for lesson in sorted(Path(__file__).parent.glob(f"{name}*.ipynb")):
            execute(lesson)
