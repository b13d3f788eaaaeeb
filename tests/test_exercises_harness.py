"""How checks run: copies, messages, `yours`, whose answer it is, on exercises of this file's own."""

import functools
import sys

import numpy as np
import pytest
import torch
from torch import nn

from minildm import MinildmError, exercises
from minildm.course.exercises import harness
from minildm.course.exercises.answer import compare_gradients, copy_weights
from minildm.course.exercises.compare import Wrong, compare
from minildm.course.exercises.fakes import Network, follows_generator, generator, randn, uniform
from minildm.course.exercises.report import Failed


def scaled_sum(x, y, w):
    return w * (x + y)


@harness.check(reference=scaled_sum)
def check_scaled_sum(answer):
    for shape in (3, 5), (2, 7, 4):
        x, y = randn(*shape), randn(*shape, seed=1)
        want = 0.3 * (x + y)
        answer.case((x, y, 0.3), want, {"the weight is missing": x + y}, where=f"shape {shape}")


def drawn(n, generator):
    return torch.randn(n, generator=generator)


@harness.check(reference=drawn)
def check_drawn(answer):
    got = follows_generator(answer, lambda generator: (5, generator))
    compare(got, randn(5))


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.weight


@harness.check(reference=Scale)
def check_scale(answer):
    for width in 3, 5:
        source = Scale(width)
        with torch.no_grad():
            source.weight.copy_(randn(width))
        module = answer.wrap(answer(width), "a module", ["x"])
        copy_weights(module.function, source)
        x = randn(2, width, seed=1)
        module.case((x,), source(x))


@harness.check(reference=lambda x: 2 * x)
def check_made(answer):
    for value in 1.5, 2.5:
        inner = answer.wrap(answer(value))
        inner.case((torch.tensor(2.0),), torch.tensor(2 * value))


@harness.check(reference=lambda x: x.square().sum())
def check_energy(answer):
    for n in 3, 4:
        x = randn(n).requires_grad_()
        want = x.square().sum()
        got = answer.case((x,), want)
        compare_gradients(got, want, x=x)


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


# ---- what an answer does to its inputs -----------------------------------------------------------

def adds_in_place(x, y, w):
    x += y
    return w * x


def test_a_changed_input_has_a_message_of_its_own():
    assert "changes its input `x` in place" in said(check_scaled_sum, adds_in_place)
    message = said(check_scaled_sum, lambda x, y, w: y.add_(x).mul_(w))
    assert "changes its input `y` in place" in message
    assert "in place" in said(check_energy, lambda x: x.mul_(x).sum())


def changes_list(parts):
    parts.append(parts[0])
    return parts[0]


def changes_part(parts):
    parts[1].zero_()
    return parts[0]


@pytest.mark.parametrize("answer", [changes_list, changes_part])
def test_a_changed_list_is_seen(answer):
    @harness.check(reference=lambda parts: parts[0])
    def check_parts(answer):
        parts = [randn(3), randn(4)]
        answer.case((parts,), parts[0])

    assert "`parts` in place" in said(check_parts, answer)


def test_the_sessions_random_numbers_stay(capsys):
    before = torch.get_rng_state()
    check_scaled_sum(lambda x, y, w: torch.manual_seed(3) and w * (x + y))
    assert torch.equal(before, torch.get_rng_state())


# ---- odd results and odd calls -------------------------------------------------------------------

@pytest.mark.parametrize("answer, message", [
    (lambda x, y, w: None, "`return` missing"),
    (lambda x, y, w: [1.0, 2.0], "a list of 2"),
    (lambda x, y, w: 0.5, "a float"),
    (lambda x, y, w: (w * (x + y)).numpy(), "a numpy array"),
    (lambda x, y, w: "sum", "a str"),
    (lambda x, y, w: torch.sum, "a function"),
    (lambda x, y, w: (w * (x + y)).double(), "torch.float64"),
    (lambda x, y, w: w * (x + y) * torch.nan, "NaN"),
    (lambda x, y, w: w * (x + y) + 0j, "complex"),
    (lambda x, y, w: (w * (x + y)).to("meta"), "on meta"),
    (lambda x, y: x + y, "is called with (x, y, w)"),
    (lambda x, y, w: 1 / 0, "ZeroDivisionError"),
    (torch.ones(3), "hand over the function itself"),
    (None, "hand over the function itself"),
], ids=range(14))
def test_odd_answers_get_a_sentence(answer, message):
    assert message in said(check_scaled_sum, answer)


def by_name(*, w, x, y):
    return w * (x + y)


def loop(a, b, c):
    rows = [c * (p + q) for p, q in zip(a, b, strict=True)]
    return torch.stack(rows)


@pytest.mark.parametrize("answer", [by_name, loop, functools.partial(loop)])
def test_other_styles_pass(answer):
    check_scaled_sum(answer)


def test_a_stumble_of_the_check_is_told_not_raised():
    @harness.check()
    def check_stumbles(answer):
        answer(3) + 1

    assert "no use here: TypeError" in said(check_stumbles, lambda n: "three")


# ---- randomness ----------------------------------------------------------------------------------

@pytest.mark.parametrize("answer, message", [
    (lambda n, g: torch.randn(n), "global generator"),
    (lambda n, g: torch.randn(n, generator=generator(3)), "another seed gives the same"),
    (lambda n, g: torch.randn(n, generator=g.manual_seed(0)), "another seed gives the same"),
    (lambda n, g: torch.from_numpy(np.random.rand(n)), "one seed, two results"),
    (lambda n, g: None, "`return` missing"),
], ids=range(5))
def test_only_the_generator_may_be_drawn_from(answer, message):
    assert message in said(check_drawn, answer)
    check_drawn(lambda n, g: torch.randn(n, generator=g))


# ---- functions and modules that an answer returns, gradients -------------------------------------

class Own(nn.Module):
    """Another name for the parameter, another way."""

    def __init__(self, width):
        super().__init__()
        self.by = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return torch.einsum("bd,d->bd", x, self.by)


class Unscaled(Own):
    def forward(self, x):
        return x + 0 * self.by


class Wide(Own):
    def __init__(self, width):
        super().__init__(width + 1)


class Two(Own):
    def __init__(self, width):
        super().__init__(width)
        self.bias = nn.Parameter(torch.zeros(width))


def test_modules_are_checked_with_the_same_weights():
    check_scale(Own)
    assert exercises.yours("scale") is Own
    assert "that is `x`, unchanged" in said(check_scale, Unscaled)
    assert "`by` is (4,), (3,) is wanted" in said(check_scale, Wide)
    assert "2 parameters, 1 are wanted" in said(check_scale, Two)


def test_functions_that_are_returned_are_called_with_care():
    check_made(lambda w: lambda x: w * x)
    assert "return a function: this is a float" in said(check_made, lambda w: 2 * w)
    assert "`return` missing" in said(check_made, lambda w: lambda x: None)
    assert "in place" in said(check_made, lambda w: lambda x: x.mul_(w))


def test_gradients_must_reach_the_leaves_and_be_right():
    check_energy(lambda x: (x * x).sum())
    assert "no gradient flows" in said(check_energy, lambda x: (x * x).sum().item())
    assert "no gradient flows" in said(check_energy, lambda x: (x * x).sum().detach())
    half = said(check_energy, lambda x: (x * x.detach()).sum())
    assert "the gradient to x is not: it is 0.5 times" in half


def test_a_fake_network_wants_one_time_per_picture_and_records():
    network, x, t = Network(), randn(3, 2, 4, 5), uniform(3)
    assert network(x, t).shape == x.shape
    assert not torch.equal(network(x, t), network(x, t / 2))
    assert not torch.equal(network(x, t), network(x, t, torch.arange(3)))
    assert len(network.calls) == 5
    with pytest.raises(Wrong, match="times of shape"):
        network(x, t[:, None, None, None])


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
