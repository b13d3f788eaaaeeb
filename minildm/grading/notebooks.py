"""Code cells of a notebook's file, which is JSON and need not be trusted: it is read, never run."""

import json
from pathlib import Path
from typing import NamedTuple

LARGEST = 50_000_000        # bytes of a notebook that is read


class Cell(NamedTuple):
    """A code cell: its source, and what nbgrader says of it, {} if nothing."""

    source: str
    tags: dict


def read_cells(path: Path) -> list[Cell]:
    """The code cells in order. Raises an error for what is no notebook of version 4."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has more than {LARGEST // 10**6} MB: clear its outputs")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise ValueError("it has no cells: save it in the notebook format, version 4")
    return [as_cell(cell) for cell in cells if cell.get("cell_type") == "code"]


def as_cell(cell: dict) -> Cell:
    source = cell.get("source", "")
    # the format allows a list of lines
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    tags = (cell.get("metadata") or {}).get("nbgrader") or {}
    return Cell(text, tags if isinstance(tags, dict) else {})
