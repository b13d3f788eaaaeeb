"""How checks run: copies, messages, `yours`, whose answer it is, on exercises of this file's own."""

import sys

import pytest
import torch

from minildm import MinildmError, exercises
from minildm.course.exercises import harness
from minildm.course.exercises.fakes import Network, randn
from minildm.course.exercises.report import Failed


def scaled_sum(x, y, w):
    return w * (x + y)


@harness.check(reference=scaled_sum)
def check_scaled_sum(answer):
    for shape in (3, 5), (2, 7, 4):
        x, y = randn(*shape), randn(*shape, seed=1)
        want = 0.3 * (x + y)
        answer.case((x, y, 0.3), want, {"the weight is missing": x + y}, where=f"shape {shape}")


@pytest.fixture(autouse=True)
def fresh_session():
    """Nothing answered, as when a notebook begins."""
    for exercise in harness.EXERCISES.values():
        exercise.passed, exercise.failed = None, False


def said(check, answer):
    with pytest.raises(Failed) as caught:
        check(answer)
    return str(caught.value)


# ---- one line ------------------------------------------------------------------------------------

def test_a_right_answer_prints_a_plain_mark(capsys):
    check_scaled_sum(lambda x, y, w: w * x + w * y)
    assert capsys.readouterr().out == "✓ scaled_sum\n"


def test_the_mark_is_green_in_a_terminal(capsys, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    check_scaled_sum(lambda x, y, w: w * x + w * y)
    assert capsys.readouterr().out == "\033[32m✓ scaled_sum\033[0m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    check_scaled_sum(lambda x, y, w: w * x + w * y)
    assert capsys.readouterr().out == "✓ scaled_sum\n"


def test_a_wrong_answer_is_one_line_and_ipython_shows_no_other():
    with pytest.raises(AssertionError) as caught:
        check_scaled_sum(lambda x, y, w: x + y)
    assert str(caught.value) == "✗ scaled_sum: the weight is missing"
    assert caught.value._render_traceback_() == ["✗ scaled_sum: the weight is missing"]
    assert caught.value.__cause__ is None and caught.value.__context__ is None


def unwritten(x, y, w):
    raise NotImplementedError()


def own_error(x, y, w):
    total = torch.add(x, y)
    return weight * total  # noqa: F821


def torch_error(x, y, w):
    return w * torch.cat([x, y[:, :1]])


def not_for_bytes(x, y, w):
    raise NotImplementedError("not for bytes")


def test_an_answer_not_written_says_so():
    assert said(check_scaled_sum, unwritten) == "✗ scaled_sum: not written yet"
    assert "raised NotImplementedError: not for bytes" in said(check_scaled_sum, not_for_bytes)


def test_an_error_of_the_students_points_at_their_line_alone():
    lines = said(check_scaled_sum, own_error).splitlines()
    assert lines[0] == "✗ scaled_sum: your code raised NameError: name 'weight' is not defined"
    assert len(lines) == 2 and "return weight * total" in lines[1] and "own_error" in lines[1]
    lines = said(check_scaled_sum, torch_error).splitlines()
    assert len(lines) == 2 and "return w * torch.cat" in lines[1]


def test_frames_of_the_check_stay_hidden():
    """The network of a check holds its source; the student's line that calls it is theirs."""
    @harness.check()
    def check_asks(answer):
        answer(Network(), randn(3, 2))

    def asks(network, x):
        return network(x, 0.5, "no tensor")

    text = said(check_asks, asks)
    assert "return network(x" in text and "reshape" not in text.split("\n", 1)[1]


def test_a_script_ends_with_the_line_alone(capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    said(check_scaled_sum, wrong)
    sys.excepthook(Failed, Failed("sum", "it is wrong"), None)
    assert capsys.readouterr().err == "✗ sum: it is wrong\n"
    sys.excepthook(ValueError, ValueError("another"), None)
    assert capsys.readouterr().err == "ValueError: another\n"


def test_a_hook_that_is_set_already_stays(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", print)
    said(check_scaled_sum, wrong)
    assert sys.excepthook is print


@pytest.mark.slow
def test_a_notebook_shows_the_line_alone_and_the_mark_in_colour(tmp_path):
    nbclient = pytest.importorskip("nbclient")
    from nbformat.v4 import new_code_cell, new_notebook

    cells = ["from minildm import exercises",
             "exercises.check_to_uint8(lambda x: x)",
             "def f(x):\n    y = 2 * x\n    return z\nexercises.check_to_uint8(f)",
             "f = lambda x: (127.5 * x.clamp(-1, 1) + 127.5).round().byte()\n"
             "exercises.check_to_uint8(f)"]
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(notebook, allow_errors=True, kernel_name="python3")
    client.execute(cwd=tmp_path)
    red, error, green = [cell.outputs[0] for cell in notebook.cells[1:]]
    assert len(red.traceback) == 1 and red.traceback[0].startswith("✗ to_uint8:")
    assert error.traceback[0].endswith("name 'z' is not defined")
    assert error.traceback[1:] == ["    line 3 of your cell, in f:  return z"]
    assert green.data["text/plain"] == "✓ to_uint8" and "color" in green.data["text/html"]


# ---- yours ---------------------------------------------------------------------------------------

def right(x, y, w):
    return w * x + w * y


def also_right(x, y, w):
    return (x + y) * w


def wrong(x, y, w):
    return x + y


def test_yours_is_the_packages_until_an_answer_passes(capsys):
    assert exercises.yours("scaled_sum") is scaled_sum
    line = "scaled_sum: the package's, until yours has passed its check\n"
    assert capsys.readouterr().out == line
    said(check_scaled_sum, wrong)
    assert exercises.yours("scaled_sum") is scaled_sum
    check_scaled_sum(right)
    capsys.readouterr()
    assert exercises.yours("scaled_sum") is right
    assert capsys.readouterr().out == ""


def test_yours_is_the_last_that_passed(capsys):
    check_scaled_sum(right)
    check_scaled_sum(also_right)
    assert exercises.yours("scaled_sum") is also_right
    said(check_scaled_sum, wrong)
    capsys.readouterr()
    assert exercises.yours("scaled_sum") is also_right
    line = "scaled_sum: your answer that passed before, as the last one did not\n"
    assert capsys.readouterr().out == line


def test_a_function_redefined_after_its_check_is_not_yours():
    answer = right
    check_scaled_sum(answer)

    def answer(x, y, w):
        return 0

    assert exercises.yours("scaled_sum") is right


def test_yours_of_no_exercise_names_those_there_are():
    with pytest.raises(MinildmError, match="no exercise 'sum'"):
        exercises.yours("sum")


def test_every_check_has_a_reference_that_passes_it_in_two_cases_or_more():
    for name, exercise in harness.EXERCISES.items():
        if exercise.reference is None or not exercise.body.__module__.startswith("minildm"):
            continue
        answer = harness.Answer(exercise.reference, harness.parameter_names(exercise.reference))
        with torch.random.fork_rng():
            exercise.body(answer)
        assert answer.calls >= 2, name
        assert getattr(exercises, f"check_{name}").__wrapped__ is exercise.body
