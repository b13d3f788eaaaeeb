"""From a lesson as committed to its page, and to the notebook that a student opens. Nothing is executed.

The page is the student's version with the stored outputs. Under each exercise stands its solution, folded.
"""

import copy

from nbformat.v4 import new_code_cell, new_markdown_cell
from student import student_version

from docs.site.links import Links

GREEN = 'style="color: #1a7f37"'        # of a passed check; the page has a green for each of its two themes

SET_UP = """# Google Colab has no minildm yet: this cell installs it, and does nothing anywhere else.
import sys

if "google.colab" in sys.modules:
    %pip install -q git+{repository}
    import os

    import torch
    os.environ["MINILDM_BUDGET"] = "gpu" if torch.cuda.is_available() else "cpu"
"""


def set_up_cell(links: Links):
    cell = new_code_cell(SET_UP.format(repository=links.repository).strip())
    cell.id = "set-up"                   # the same on each build
    return cell


def for_student(lesson, links: Links):
    """The notebook behind the buttons: without solutions and outputs, with a first cell for Colab."""
    lesson = student_version(lesson)
    if links.on_github:
        lesson.cells.insert(1, set_up_cell(links))
    return lesson


def solved(source: str) -> str:
    """An answer without its markers."""
    marks = "### BEGIN SOLUTION", "### END SOLUTION"
    return "\n".join(line for line in source.split("\n") if line.strip() not in marks)


def folded(cell):
    """The solution of a cell as a drop-down, like the helps that lessons have."""
    body = f"````python\n{solved(cell.source)}\n````" if cell.cell_type == "code" else cell.source
    text = f'<details class="solution"><summary>Solution</summary>\n\n{body}\n\n</details>'
    return new_markdown_cell(text, id=f"{cell.id}-solution"[-64:])


def heading_of(source: str, before: str) -> str:
    """The last heading in a cell's text, or the one that held before it."""
    lines = [line.lstrip("# ") for line in source.split("\n") if line.startswith("#")]
    return lines[-1] if lines else before


def describe_figures(lesson) -> int:
    """Give each figure that has no alternative text the heading it stands under; how many had none."""
    heading, without = "", 0
    for cell in lesson.cells:
        if cell.cell_type == "markdown":
            heading = heading_of(cell.source, heading)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                words = output.metadata.setdefault("image/png", {})
                without += not words.get("alt")
                words.setdefault("alt", f"Figure of “{heading}”, not described yet.")
    return without


def for_page(lesson, links: Links, name: str):
    """The notebook that Sphinx reads: stubs, their solutions folded, the stored outputs, buttons."""
    describe_figures(lesson := copy.deepcopy(lesson))
    page, cells = student_version(lesson), []
    for whole, cell in zip(lesson.cells, page.cells, strict=True):
        if whole.cell_type == "code":
            cell.outputs, cell.execution_count = whole.outputs, whole.execution_count
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = output.data["text/html"].replace(GREEN, 'class="check-passed"')
        cells.append(cell)
        if whole.metadata.get("nbgrader", {}).get("solution"):
            cells.append(folded(whole))
    page.cells = [cells[0], new_markdown_cell(links.bar(name), id="ways-to-open"), *cells[1:]]
    return page
