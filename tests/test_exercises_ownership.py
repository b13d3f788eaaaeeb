"""Whose answer it is: the package's functions, and answers that only call them, are refused."""

import functools

import pytest
from support.answers import told

from minildm import exercises
from minildm.course.exercises import harness
from minildm.course.exercises.fakes import randn
from minildm.diffusion import schedules
from minildm.evaluation import metrics
from minildm.evaluation.metrics import psnr
from minildm.nn import layers


def scaled_sum(x, y, w):
    return w * (x + y)


@harness.check(reference=scaled_sum, forbidden=[metrics.psnr])
def check_weighted(answer):
    for shape in (3, 5), (2, 7, 4):
        x, y = randn(*shape), randn(*shape, seed=1)
        answer.case((x, y, 0.3), 0.3 * (x + y))


def forwards(x, y, w):
    return metrics.psnr(x, y)


def with_work(x, y, w):
    error = 1 - psnr(x, y)
    return w * error


def by_helper(x, y, w):
    return w * with_work(x, y, w) * 2


def imports(x, y, w):
    from minildm.evaluation import metrics as m

    return w * m.psnr(x, y) + 0


def closure():
    mine = schedules.expand
    return lambda x, y, w: mine(x, y)


def from_yours(x, y, w):
    return exercises.yours("weighted")(x, y, w)


@functools.wraps(psnr)
def wrapped(*inputs):
    return 1


class OfPackage(layers.Upsample):
    pass


@pytest.mark.parametrize("answer", [
    psnr, functools.partial(psnr), wrapped, forwards, with_work, by_helper, imports, closure(),
    from_yours,
    lambda *inputs: psnr(*inputs[:2]), lambda x, y, w: schedules.expand(x, y), OfPackage,
])
def test_an_answer_of_the_packages_is_refused(answer):
    assert "the package's `" in told(check_weighted, answer)


def test_an_answer_may_use_other_parts_of_the_package():
    def uses(x, y, w):
        w = schedules.expand(w, x)
        return w * (x + y)

    check_weighted(uses)
