"""How results are compared with what is wanted, and what is said of those that differ."""

import numpy as np
import pytest
import torch

from minildm.course.exercises.compare import Wrong, close, compare, equal
from minildm.course.exercises.fakes import randn

WANT = randn(3, 5, 4)


@pytest.mark.parametrize("got, message", [
    (-WANT, "sign"),
    (2 * WANT, "2 times"),
    (WANT + 0.5, "plus 0.5"),
    (WANT.square(), "the square"),
    (WANT.abs(), "absolute"),
    (1 - WANT, "1 minus"),
    (WANT.flip(1), "reverse order along axis 1"),
    (WANT.roll(1, 2), "one place late along axis 2"),
    (WANT[:1].expand(3, 5, 4), "the first of the batch's"),
    (WANT.mean(0, True).expand(3, 5, 4), "the mean over the batch"),
    (WANT.mean(), "that is the mean over everything"),
    (WANT.sum((1, 2)), "that is the sum over axis 1, 2"),
    (WANT[None], "axis of length 1"),
    (WANT.transpose(0, 1), "axes have changed places"),
    (WANT.flatten(1), "in the right order"),
    (WANT[:, :-1], "the end of axis 1 is missing"),
    (torch.cat([WANT[:1], WANT]), "the beginning of axis 0 is too much"),
    (torch.cat([WANT[:1], WANT[1:] + 1]), "the first of the batch only"),
    (WANT + torch.eye(5)[:, :4], "12 of 60 values"),
    (WANT.exp().log().half(), "float16"),
], ids=range(20))
def test_what_is_off_has_a_name(got, message):
    with pytest.raises(Wrong, match=message):
        compare(got, WANT, tol=1e-3)


def test_the_wrong_term_of_a_sum_is_named():
    x, y = WANT, randn(3, 5, 4, seed=1)
    with pytest.raises(Wrong, match="the factor of `y` is -2, 3 is wanted"):
        compare(0.5 * x - 2 * y, 0.5 * x + 3 * y, inputs={"x": x, "y": y})
    each = torch.tensor([1.0, 2, 3])[:, None, None]
    with pytest.raises(Wrong, match="the factor of `x` is 1, 2 is wanted"):
        compare(each * x + y, 2 * each * x + y, inputs={"x": x, "y": y})
    with pytest.raises(Wrong, match="differs"):
        compare(x * y, x + y, inputs={"x": x, "y": y})


def test_a_missing_mean_or_sum_is_named():
    for got, message in (WANT, "the mean over everything"), (WANT.mean((1, 2)) * 3, "the sum over"):
        with pytest.raises(Wrong, match=message):
            compare(got, WANT.mean() if got is WANT else (WANT.mean((1, 2)) * 3).sum())


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_tolerance_is_relative_to_what_is_wanted(scale):
    compare(scale * (WANT + 1e-5), scale * WANT)
    with pytest.raises(Wrong):
        compare(scale * (WANT + 1e-3), scale * WANT)


def test_nothing_is_close_to_nan():
    nan = torch.tensor([1.0, torch.nan])
    assert not close(nan, nan)
    assert not close(torch.tensor([torch.inf]), torch.tensor([1.0]))


def test_one_number_may_be_a_float_or_a_tensor_of_any_shape():
    for got in 0.5, torch.tensor([0.5]), torch.tensor(0.5, dtype=torch.float64), np.float32(0.5):
        compare(got, torch.tensor(0.5))
    with pytest.raises(Wrong, match="one number is wanted"):
        compare([0.5], torch.tensor(0.5))


def test_exact_things_are_equal_in_any_container():
    for got in [1, 2], (1, 2), torch.tensor([1, 2]), np.array([1, 2]):
        equal(got, (1, 2))
    equal(torch.tensor(True), True)
    equal(1 / 3, 0.333333333)


@pytest.mark.parametrize("got, want, message", [
    ("ab", ("a", "b"), "a str, a tuple is wanted"),
    (None, 1, "return"),
    ((1, 3), (1, 2), r"four: \(1, 3\) should be \(1, 2\)"),
    ((1,), (1, 2), "should be"),
    (1, True, "should be"),
    (2, 4, "half"),
    (float("nan"), 1.0, "should be"),
])
def test_what_is_not_exactly_equal_is_told(got, want, message):
    with pytest.raises(Wrong, match=message):
        equal(got, want, {"half": 2}, where="four")
