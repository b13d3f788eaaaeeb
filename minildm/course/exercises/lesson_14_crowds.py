"""The checks of lesson 14 on crowds: Fréchet and kernel distance, precision and recall."""

import torch

from minildm.course.exercises.compare import compare, describe, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_14 import mmd
from minildm.course.exercises.likely_14 import wrong_discrepancies, wrong_manifolds
from minildm.evaluation import metrics

# ---- Fréchet distance ----------------------------------------------------------------------------

def root_of(matrix):
    """The symmetric root of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def frechet(a, b):
    cov_a, cov_b = a.T.cov(), b.T.cov()
    root = root_of(cov_a)
    common = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    return shift + cov_a.trace() + cov_b.trace() - 2 * common


@check(reference=frechet, forbidden=[metrics.frechet_distance])
def check_frechet(answer):
    # the last has fewer rows than columns: its covariance has eigenvalues of 0
    cases = [("40 and 25 rows, 3 columns", 40, 25, 3), ("30 and 60 rows, 5 columns", 30, 60, 5),
             ("4 rows of 6 columns, no full rank", 4, 50, 6)]
    for where, n, m, width in cases:
        mixing = randn(width, width, seed=3).double()
        a = randn(n, width).double() @ mixing + 0.5
        b = 1.3 * randn(m, width, seed=1).double() + torch.linspace(-1, 1, width).double()
        answer.case((a, b), frechet(a, b), wrong_frechet(a, b), where=where)


def wrong_frechet(a, b):
    cov_a, cov_b = a.T.cov(), b.T.cov()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    traces = cov_a.trace() + cov_b.trace()
    root = root_of(cov_a)
    middle = root @ cov_b @ root
    common = torch.linalg.eigvalsh(middle).clamp(min=0).sqrt().sum()
    want = shift + traces - 2 * common
    n, m = len(a), len(b)
    biased = _distance(shift, cov_a * (n - 1) / n, cov_b * (m - 1) / m)
    deviations = (a.std(0) - b.std(0)).square().sum()
    wrong = {
        "that is the distance of the means alone": shift,
        "the means are missing": traces - 2 * common,
        "the distance of the means is squared": shift.sqrt() + traces - 2 * common,
        "the last term counts twice": shift + traces - common,
        "the last term is missing": shift + traces,
        "the last term is subtracted": shift + traces + 2 * common,
        "no root: the Fréchet distance is squared already": want.clamp(min=0).sqrt(),
        "covariances divide by n - 1 (`x.T.cov()`)": biased,
        "variances alone: how features go together counts as well": shift + deviations,
        "the root of each entry is no root of a matrix":
            shift + traces - 2 * (cov_a @ cov_b).clamp(min=0).sqrt().trace(),
        "the root of the product is missing": shift + traces - 2 * (cov_a @ cov_b).trace(),
        "the product of the two roots is no root of the product":
            shift + traces - 2 * (root @ root_of(cov_b)).trace(),
        "the first covariance counts twice": shift + 2 * cov_a.trace() - 2 * common,
        "the means' mean square: its sum is wanted": shift / a.shape[1] + traces - 2 * common,
    }
    return {cause: value for cause, value in wrong.items() if abs(value - want) > 1e-3 * abs(want)}


def _distance(shift, cov_a, cov_b):
    root = root_of(cov_a)
    common = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return shift + cov_a.trace() + cov_b.trace() - 2 * common


# ---- kernel distance -----------------------------------------------------------------------------

def kernel_distance(a, b):
    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1)**3

    return mmd(kernel(a, a), kernel(b, b), kernel(a, b))


@check(reference=kernel_distance, forbidden=[metrics.kernel_distance])
def check_kernel_distance(answer):
    for n, m, width in (6, 9, 3), (11, 5, 4):
        a = randn(n, width).double()
        b = 0.8 * randn(m, width, seed=1).double() + 0.6
        likely = wrong_kernels(a, b)
        answer.case((a, b), kernel_distance(a, b), likely, where=f"{n} and {m} rows of {width}")


def wrong_kernels(a, b):
    width = a.shape[1]

    def three(kernel):
        return kernel(a, a), kernel(b, b), kernel(a, b)

    right = three(lambda x, y: (x @ y.T / width + 1)**3)
    wrong = {
        "the product is divided by the number of features": three(lambda x, y: (x @ y.T + 1)**3),
        "1 is added before the cube": three(lambda x, y: (x @ y.T / width)**3),
        "1 is added before the cube, not after": three(lambda x, y: (x @ y.T / width)**3 + 1),
        "the third power is wanted": three(lambda x, y: (x @ y.T / width + 1)**2),
        "the third power is missing": three(lambda x, y: x @ y.T / width + 1),
        "divided by the number of rows: the number of features is wanted":
            three(lambda x, y: (x @ y.T / len(x) + 1)**3),
        "the root of the number of features: no root": three(
            lambda x, y: (x @ y.T / width**0.5 + 1)**3),
        "that is a kernel of distances: products are wanted": three(
            lambda x, y: (-torch.cdist(x, y).square() / (2 * width)).exp()),
    }
    found = {cause: mmd(*kernels) for cause, kernels in wrong.items()}
    return found | wrong_discrepancies(*right)


EDGE = "a point on a ball's edge is inside: <="

# ---- manifolds -----------------------------------------------------------------------------------

def precision_recall(real, fake, k):
    def within(points, centres):
        radii = torch.cdist(centres, centres).kthvalue(k + 1, dim=1).values
        return (torch.cdist(points, centres) <= radii).any(dim=1).float().mean()

    return within(fake, real), within(real, fake)


@check(reference=precision_recall, forbidden=[metrics.precision_recall, metrics.coverage])
def check_precision_recall(answer):
    # sizes, k, and fakes so placed that likely mistakes lead to other shares
    cases = [((41, 29, 2), 5, 0.8, 1.2, 2), ((37, 37, 2), 4, 0.8, 1.2, 1),
             ((17, 11, 2), 1, 0.5, 0.3, 3), ((23, 31, 3), 2, 1.6, 0.5, 5)]
    for (n, m, width), k, size, shift, seed in cases:
        real = randn(n, width)
        fake = size * randn(m, width, seed=seed) + shift
        pair = answer(real, fake, k)
        where = f"{n} real, {m} fake, k = {k}"
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            fail(f"return precision and recall, two numbers: this is {describe(pair)}")
        precision, recall = precision_recall(real, fake, k)
        swapped = {"precision comes first, then recall": recall}
        compare(_number(pair[0]), precision, wrong_manifolds(real, fake, k) | swapped,
                where=f"precision of {where}")
        compare(_number(pair[1]), recall, wrong_manifolds(fake, real, k),
                where=f"recall of {where}")
        answer.right += 1
    # the lesson's own points: one of them lies on a ball's edge
    some, others = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[0.5], [9.0]])
    for real, fake in (some, others), (others, some):
        for value, want in zip(answer(real, fake, 1), precision_recall(real, fake, 1), strict=True):
            compare(_number(value), want, {EDGE: torch.tensor(0.5)}, where="the points by hand")


def _number(value):
    """A share that may be a number of Python's or a tensor of any float type."""
    return value.float() if isinstance(value, torch.Tensor) else value
