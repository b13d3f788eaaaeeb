"""Bring the listings of package code that lessons have stored up to date, without executing the lessons.

    python lessons/listings.py        # all lessons; `tests/test_notebooks.py` says when it is needed

A cell that calls `show_source` has stored what the function looked like on that day. Its arguments are
looked up among the lesson's own imports, and the stored text is replaced by today's; whatever else the
cell printed stays.
"""

import ast
import contextlib
import io
import re
import sys
from pathlib import Path

import nbformat

HEADER = re.compile(r"^# [\w/]+\.py, line \d+$")


def split_listings(text: str) -> list[str]:
    """A cell's printed text as parts: each listing with its header, and what stands between them."""
    parts, inside = [""], False
    for line in text.splitlines(keepends=True):
        if HEADER.match(line.rstrip("\n")):
            parts, inside, begun = [*parts, line], True, False
        elif inside and begun and line.strip() and not re.match(r"[\s)]", line):
            parts, inside = [*parts, line], False        # after a body, a line that is not indented
        else:
            parts[-1] += line
            # a listing begins with decorators and `def` or `class`; its body is indented
            begun = inside and (begun or line.startswith((" ", "def ", "class ")))
    return [part for part in parts if part]


def calls_of(source: str) -> list[str]:
    """The arguments of the cell's `show_source` calls, in order."""
    nodes = ast.walk(ast.parse(source))
    calls = [n for n in nodes if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "show_source"]
    return [ast.unparse(n.args[0]) for n in sorted(calls, key=lambda n: (n.lineno, n.col_offset))]


def imports_of(lesson) -> dict:
    """The names that the lesson's import statements make."""
    names = {}
    for cell in lesson.cells:
        if cell.cell_type == "code":
            for node in ast.parse(cell.source).body:
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    exec(ast.unparse(node), names)
    return names


def listing(obj) -> str:
    from minildm import plotting

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        plotting.show_source(obj)
    return printed.getvalue()


def refresh(lesson) -> int:
    """Replace the stored listings of a lesson; how many differed."""
    names, changed = imports_of(lesson), 0
    for cell in lesson.cells:
        if cell.cell_type != "code" or "show_source(" not in cell.source:
            continue
        wanted = [listing(eval(argument, names)) for argument in calls_of(cell.source)]
        for output in cell.outputs:
            parts = split_listings(output.get("text", ""))
            for i, part in enumerate(parts):
                if HEADER.match(part.split("\n")[0]) and wanted:
                    new = wanted.pop(0)
                    changed += new != part
                    parts[i] = new
            if parts:
                output["text"] = "".join(parts)
    return changed


def main() -> int:
    for path in sorted(Path(__file__).parent.glob("*.ipynb")):
        lesson = nbformat.read(path, 4)
        if changed := refresh(lesson):
            nbformat.write(lesson, path)
            print(f"{path.name}: {changed} listings brought up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
