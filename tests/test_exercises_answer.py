"""How a check calls an answer: on copies of its inputs; what goes wrong is told in words."""

import functools

import numpy as np
import pytest
import torch
from support.answers import told as said
from torch import nn

from minildm import exercises
from minildm.course.exercises import harness
from minildm.course.exercises.answer import compare_gradients, copy_weights
from minildm.course.exercises.compare import Wrong, compare
from minildm.course.exercises.fakes import Network, follows_generator, generator, randn, uniform
from minildm.course.exercises.report import Failed


def total(x, y, w):
    return w * (x + y)


@harness.check(reference=total)
def check_total(answer):
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


# ---- what an answer does to its inputs -----------------------------------------------------------

def adds_in_place(x, y, w):
    x += y
    return w * x


def test_a_changed_input_has_a_message_of_its_own():
    assert "changes its input `x` in place" in said(check_total, adds_in_place)
    message = said(check_total, lambda x, y, w: y.add_(x).mul_(w))
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


def switches_off(x, y, w):
    torch.set_grad_enabled(False)
    return w * (x + y)


def test_gradients_that_stay_switched_off_or_on_are_seen():
    assert "leaves gradients switched off" in said(check_total, switches_off)
    assert torch.is_grad_enabled()

    @harness.check(reference=lambda x: 2 * x)
    def check_quiet(answer):
        with torch.no_grad():
            answer.case((randn(3),), 2 * randn(3))

    def switches_on(x):
        torch.set_grad_enabled(True)
        return 2 * x

    assert "leaves gradients switched on" in said(check_quiet, switches_on)


def test_an_input_that_is_made_a_leaf_is_seen():
    message = said(check_total, lambda x, y, w: (w * (x + y.requires_grad_())).detach())
    assert "its input `y` require gradients" in message and "y.detach()" in message


def test_a_frozen_parameter_is_seen():
    class Frozen(Scale):
        def __init__(self, width):
            super().__init__(width)
            self.weight.requires_grad_(False)

    assert "`weight` is frozen" in said(check_scale, Frozen)


def test_the_sessions_random_numbers_stay(capsys):
    before = torch.get_rng_state()
    check_total(lambda x, y, w: torch.manual_seed(3) and w * (x + y))
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
    assert message in said(check_total, answer)


def by_name(*, w, x, y):
    return w * (x + y)


def loop(a, b, c):
    rows = [c * (p + q) for p, q in zip(a, b, strict=True)]
    return torch.stack(rows)


@pytest.mark.parametrize("answer", [by_name, loop, functools.partial(loop)])
def test_other_styles_pass(answer):
    check_total(answer)


def test_a_stumble_of_the_check_is_told_not_raised():
    @harness.check()
    def check_stumbles(answer):
        answer(3) + 1

    with pytest.raises(Failed, match="no use here: TypeError"):
        check_stumbles(lambda n: "three")


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
