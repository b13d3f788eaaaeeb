"""Lessons as committed: run from top to bottom, short cells, much to look at, no traces of a machine."""

import json
import re
from pathlib import Path
from statistics import median

import listings
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

LESSONS = sorted(Path(__file__).parents[1].glob("lessons/*.ipynb"))
MACHINE_PATH = re.compile(r"(?<![\w.~])/(home|work|root|tmp|Users|private|mnt|var)/\w")
SHOWN = {"text/plain", "text/html", "text/markdown", "text/latex", "image/png"}   # what needs no live kernel


def twice(values):
    return sorted({v for v in values if values.count(v) > 1})


def problems(text: str) -> list[str]:
    """What is wrong with a lesson, given as the text of its file, in words; empty if nothing is."""
    ids = [c["id"] for c in json.loads(text)["cells"]]    # as they stand: nbformat would mend them in reading
    notebook = nbformat.reads(text, 4)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    outputs = [o for c in code for o in c.outputs]
    kinds = {kind for o in outputs for kind in o.get("data", {})}
    texts = [c.source for c in notebook.cells] + [o.get("text", "") for o in outputs] + [
        value for o in outputs for kind, value in o.get("data", {}).items() if kind.startswith("text/")]
    lines = [len(c.source.splitlines()) for c in code] or [0]
    grade_ids = [c.metadata.nbgrader.grade_id for c in notebook.cells if "nbgrader" in c.metadata]
    size = len(text.encode()) / 1000
    found = {
        "kernelspec is not python3": notebook.metadata.get("kernelspec", {}).get("name") != "python3",
        "counts are not 1, 2, 3, ...": [c.execution_count for c in code] != list(range(1, len(code) + 1)),
        "cell ids twice": twice(ids),
        "grade ids twice": twice(grade_ids),
        "widget state": "widgets" in notebook.metadata,
        "outputs that need a live kernel": sorted(kinds - SHOWN),
        "error outputs": [o.ename for o in outputs if o.output_type == "error"],
        "stderr outputs": [o.text for o in outputs if o.get("name") == "stderr"],
        "paths of a machine": sorted({m.group() for text in texts for m in MACHINE_PATH.finditer(text)}),
        "more than 1500 kB": size > 1500 and round(size),
        "a cell of more than 40 lines": max(lines) > 40 and max(lines),
        "median cell longer than 8 lines": median(lines) > 8 and median(lines),
        "under 60 % of the code cells show something": sum(bool(c.outputs) for c in code) < 0.6 * len(code),
    }
    return [f"{what}: {value}" for what, value in found.items() if value]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson_is_tidy(path):
    nbformat.validate(nbformat.read(path, 4))
    assert problems(path.read_text()) == []


def stored_listings(path) -> list[str]:
    """What `show_source` printed when the lesson was executed, with its headers."""
    outputs = [o for c in nbformat.read(path, 4).cells if c.cell_type == "code" for o in c.outputs]
    parts = [part for o in outputs for part in listings.split_listings(o.get("text", ""))]
    return [part for part in parts if listings.HEADER.match(part.split("\n")[0])]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_stored_listings_are_todays_code(path):
    """Red after a change of code that a lesson shows: `python lessons/listings.py` brings them up to date."""
    for stored in stored_listings(path):
        header, body = stored.split("\n", 1)
        file, line = re.fullmatch(r"# (.+), line (\d+)", header).groups()
        code = (path.parents[1] / file).read_text().splitlines()[int(line) - 1:]
        shown = body.rstrip("\n").splitlines()
        assert [text.rstrip() for text in code[:len(shown)]] == [text.rstrip() for text in shown], header


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_the_tool_finds_what_a_lesson_shows(path):
    """It knows a lesson's imports alone: what is shown is named by them, not by a variable."""
    assert listings.refresh(nbformat.read(path, 4)) == 0


def test_listings_are_told_from_what_else_a_cell_prints():
    text = ("before\n# a/b.py, line 3\n@wraps\ndef f(x,\n      y):\n    return x\n\n    # why\n"
            "after: 1\n# c.py, line 1\nclass C:\n    x = 1\n")
    parts = listings.split_listings(text)
    assert [part.split("\n")[0] for part in parts] == ["before", "# a/b.py, line 3", "after: 1",
                                                       "# c.py, line 1"]
    assert parts[1].endswith("# why\n") and "".join(parts) == text


# ---- the lint itself -------------------------------------------------------------------------------------

def good():
    cells = [new_code_cell(f"print({i})", execution_count=i, outputs=[new_output("stream", text=f"{i}\n")])
             for i in (1, 2, 3)]
    cells[1].metadata["nbgrader"] = {"grade_id": "ex1"}
    picture = new_output("display_data", data={"image/png": "ab/tmp/cd", "text/plain": "<Figure>"})
    cells[2].outputs.append(picture)
    return new_notebook(cells=[new_markdown_cell("# See https://example.org/home/page"), *cells],
                        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def broken(change):
    notebook = good()
    change(notebook, notebook.cells[1])
    return problems(json.dumps(notebook))


def test_a_good_notebook_passes():
    nbformat.validate(good())
    assert problems(json.dumps(good())) == []


@pytest.mark.filterwarnings("ignore:Non-unique cell id")
@pytest.mark.parametrize("named, change", {
    "kernelspec": lambda nb, cell: nb.metadata.kernelspec.update(name="my-env"),
    "counts": lambda nb, cell: cell.update(execution_count=None),
    "cell ids": lambda nb, cell: cell.update(id=nb.cells[2].id),
    "grade ids": lambda nb, cell: cell.metadata.update(nbgrader=nb.cells[2].metadata.nbgrader),
    "widget state": lambda nb, cell: nb.metadata.update(widgets={}),
    "live kernel": lambda nb, cell: cell.outputs.append(
        new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}})),
    "error outputs": lambda nb, cell: cell.outputs.append(new_output("error", ename="ValueError")),
    "stderr": lambda nb, cell: cell.outputs.append(new_output("stream", name="stderr", text="Warning")),
    "paths": lambda nb, cell: cell.outputs.append(new_output("stream", text="saved\n/home/ada/runs")),
    "1500 kB": lambda nb, cell: cell.outputs.append(
        new_output("display_data", data={"image/png": "A" * 1_600_000})),
    "40 lines": lambda nb, cell: cell.update(source="x = 1\n" * 41),
    "median": lambda nb, cell: [c.update(source="x = 1\n" * 9) for c in nb.cells],
    "show something": lambda nb, cell: [c.update(outputs=[]) for c in nb.cells[1:3]],
}.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_the_lint_names_what_is_wrong(named, change):
    found = broken(change)
    assert len(found) == 1 and named in found[0]
