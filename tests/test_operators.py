"""Operators: <A x, y> = <x, A' y>, A A+ A = A, and what each measures of a known picture."""

import pytest
import torch
from support.tensors import random
from torch.testing import assert_close

from minildm import MinildmError
from minildm.diffusion import operators
from minildm.diffusion.operators import Operator, conjugate_gradients, dot

MASK = torch.rand(12, 12, generator=torch.Generator().manual_seed(0)) < 0.5
OPERATORS = {
    "identity": operators.identity(),
    "keep_pixels": operators.keep_pixels(MASK),
    "average": operators.average(4),
    "blur": operators.blur(0.8, 12),
    "fourier": operators.fourier(MASK),
    "fourier, a mask of both halves": operators.fourier(MASK | MASK.flip(0, 1).roll((1, 1), (0, 1))),
}
ALL = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


@ALL
@pytest.mark.parametrize("channels", [1, 3])
def test_the_transpose_has_the_same_inner_products(operator, channels):
    x = random(3, channels, 12, 12).double()
    y = random(*operator.apply(x).shape, seed=1).double()
    assert_close(dot(operator.apply(x), y), dot(x, operator.transpose(y)), rtol=1e-6, atol=1e-5)
    assert operator.transpose(y).shape == x.shape


@ALL
def test_the_pseudo_inverse_gives_the_same_measurement(operator):
    x = random(3, 1, 12, 12)
    y = operator.apply(x)
    assert_close(operator.apply(operator.inverse(y)), y, atol=2e-3, rtol=1e-3)


@ALL
def test_the_pseudo_inverse_is_the_shortest_picture(operator):
    """A+ y has nothing in it that A does not see: it stays when A+ A is applied once more."""
    shortest = operator.inverse(operator.apply(random(2, 1, 12, 12)))
    again = operator.inverse(operator.apply(shortest))
    assert_close(again, shortest, atol=2e-3, rtol=1e-3)


@ALL
def test_the_gain_is_the_mean_square_of_the_singular_values(operator):
    unit = torch.eye(144).reshape(144, 1, 12, 12)
    matrix = operator.apply(unit).flatten(1)                                # (pixels, numbers)
    used = (matrix.abs().sum(0) > 1e-6).sum()                               # rows of y that see anything
    assert_close(matrix.square().sum() / used, torch.tensor(operator.gain), rtol=0.5, atol=1e-3)


def test_averages_of_a_picture():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert operators.average(2).apply(x).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    with pytest.raises(MinildmError, match="divides"):
        operators.average(3).apply(x)


def test_a_blur_keeps_the_mean_and_is_no_shift():
    x = torch.zeros(1, 1, 11, 11)
    x[0, 0, 5, 5] = 1
    blurred = operators.blur(1.5, 11).apply(x)
    assert_close(blurred.sum(), torch.tensor(1.0))
    assert blurred.argmax() == 60
    assert_close(blurred, blurred.flip(2), atol=1e-6, rtol=0)
    assert_close(blurred, blurred.mT, atol=1e-6, rtol=0)


def test_all_of_k_space_is_the_picture():
    operator, x = operators.fourier(torch.ones(6, 6)), random(2, 1, 6, 6)
    assert_close(operator.transpose(operator.apply(x)), x)
    assert_close(operator.apply(x).square().sum(), x.square().sum())


def test_the_mask_of_k_space_has_the_lowest_frequencies():
    mask = operators.random_coefficients(0.0, 8)
    assert mask.sum() == 9 and mask[0, 0] and mask[-1, 1]


def test_conjugate_gradients_solve_in_as_many_steps_as_there_are_numbers():
    root = random(6, 6).double()
    matrix, b = root @ root.T + torch.eye(6).double(), random(2, 1, 1, 6, seed=1).double()
    x = conjugate_gradients(lambda d: d @ matrix, b, 6)
    assert_close(x @ matrix, b, atol=1e-8, rtol=1e-8)
    # a row that is solved stays solved
    assert_close(conjugate_gradients(lambda d: d @ matrix, b, 40), x, atol=1e-8, rtol=1e-8)
    assert not conjugate_gradients(lambda d: d @ matrix, 0 * b, 3).any()


def test_an_operator_of_ones_own():
    double = Operator(lambda x: 2 * x, lambda y: 2 * y)
    assert double.inverse is None and double.gain == 1
