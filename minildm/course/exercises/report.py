"""What a student sees of a check: one green line, or one line that says what is wrong.

A red check does not show its own source, which holds the solution. Where the student's code raised
an exception, their lines are shown, without frames of the package and of torch.
"""

import os
import sys
import traceback
from pathlib import Path

import torch

HIDDEN = Path(__file__).parents[2], Path(torch.__file__).parent     # the package and torch
CELL = "ipykernel_", "<ipython-input"                               # in the file names of cells


class Failed(AssertionError):
    """A check that is not passed.

    Its text is all that a notebook, nbgrader's feedback or a terminal show.
    """

    def __init__(self, name: str, message: str, error: Exception | None = None):
        """error: the exception that the student's own code raised, if one did."""
        self.lines = [f"✗ {name}: {message}", *own_lines(error)]
        super().__init__("\n".join(self.lines))

    def _render_traceback_(self):
        """IPython's hook: the lines that stand in the place of a traceback."""
        return self.lines


def own_lines(error: Exception | None) -> list[str]:
    """The student's lines through which error came, the last of them where it arose."""
    if error is None:
        return []
    lines = []
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if any(path.is_relative_to(folder) for folder in HIDDEN):
            continue
        in_cell = any(mark in frame.filename for mark in CELL)
        file = "your cell" if in_cell else path.name
        lines.append(f"    line {frame.lineno} of {file}, in {frame.name}:  {frame.line}")
    return lines


def show_one_line_in_scripts():
    """Let a plain script, too, end with the lines of a Failed in the place of a traceback."""
    # whoever has set a hook of their own, IPython among them, keeps it
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = print_failed


def print_failed(kind, error, trace):
    if isinstance(error, Failed):
        print(error, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def show_passed(name: str):
    """Print the mark, green in a terminal and in a notebook, whose stored text is plain."""
    line = f"✓ {name}"
    if "NO_COLOR" in os.environ:
        print(line)
    elif in_notebook():
        from IPython.display import display

        html = f'<span style="color: #1a7f37">{line}</span>'
        display({"text/plain": line, "text/html": html}, raw=True)
    elif sys.stdout.isatty():
        print(f"\033[32m{line}\033[0m")
    else:
        print(line)


def in_notebook() -> bool:
    """Tell whether a Jupyter kernel runs this."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")
