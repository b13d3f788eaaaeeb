"""How the tests of the checks put an answer to one: it passes, or it is told why not."""

import functools
import math
import re
import textwrap

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minildm import exercises
from minildm.course.exercises.harness import EXERCISES, Failed, parameter_names

# what a lesson imports and its students use
IMPORTED = {"torch": torch, "F": F, "nn": nn, "math": math}


def written(name: str, body: str, helpers=None):
    """The function of a student who wrote body in the stub of exercise `name`.

    body: an expression, or lines of which one returns. helpers: what else the cell can see.
    """
    parameters = ", ".join(parameter_names(EXERCISES[name].reference))
    lines = body if "return" in body or "raise" in body else f"return {body}"
    source = f"def answer({parameters}):\n" + textwrap.indent(textwrap.dedent(lines), "    ")
    scope = {"__name__": "__main__", **IMPORTED, **(helpers or {})}
    exec(source, scope)
    return scope["answer"]


def changed(body: str, *pairs) -> str:
    """The body with each old text, which must be there, replaced: (old, new), ... or old, new, ..."""
    if pairs and isinstance(pairs[0], str):
        pairs = zip(pairs[::2], pairs[1::2], strict=True)
    for old, new in pairs:
        assert old in body, old
        body = body.replace(old, new)
    return body


def cases(table):
    """Rows of a table of answers, whose first is the exercise's name, as pytest wants them."""
    return [pytest.param(*row, id=f"{row[0]}-{i}") for i, row in enumerate(table)]


def right_and_wrong(right, wrong, helpers=None, answer=None):
    """Two tests for pytest: each answer of `right` passes, each of `wrong` hears what it should.

    right: rows (name, body); wrong: rows (name, pattern that is found in what is said, body).
    answer(name, body) makes the student's function, by default `written` with the helpers.
    """
    answer = answer or functools.partial(written, helpers=helpers)

    @pytest.mark.parametrize("name, body", cases(right))
    def right_answers_pass(name, body):
        passes(name, answer(name, body))

    @pytest.mark.parametrize("name, said, body", cases(wrong))
    def wrong_answers_are_told_what_is_wrong(name, said, body):
        assert re.search(said, told(name, answer(name, body)))

    return right_answers_pass, wrong_answers_are_told_what_is_wrong


def passes(name: str, answer):
    """Fail the test unless check_NAME takes the answer."""
    getattr(exercises, f"check_{name}")(answer)


def told(check, answer) -> str:
    """What a check, or that of an exercise's name, says of a wrong answer.

    A check that takes it, or that crashes, fails the test.
    """
    check = getattr(exercises, f"check_{check}") if isinstance(check, str) else check
    try:
        check(answer)
    except Failed as failed:
        message = str(failed)
        # the check stumbling over a result is no message for a student
        assert "of no use here" not in message, message
        return message
    raise AssertionError(f"{check.__name__} took a wrong answer")
