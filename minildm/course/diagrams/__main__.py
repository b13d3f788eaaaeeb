"""Write every diagram as SVG: `python -m minildm.course.diagrams FOLDER`."""

import sys
from pathlib import Path

import matplotlib

from minildm.course.diagrams import ALL


def write(folder: Path):
    """Write FOLDER/name.svg for each diagram, its alternative text as the picture's description."""
    folder.mkdir(parents=True, exist_ok=True)
    # letters as letters, not as outlines; the same file from the same code
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "minildm"}):
        for name, draw in ALL.items():
            figure = draw()
            words = {"Title": name.replace("_", " "), "Description": figure.alt, "Date": None}
            figure.savefig(folder / f"{name}.svg", metadata=words)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m minildm.course.diagrams FOLDER")
    write(Path(sys.argv[1]))
