"""The checks of lesson 14."""

import torch

from minildm.course.exercises.fakes import randn, uniform
from minildm.course.exercises.harness import check
from minildm.course.exercises.likely_14 import (
    similarity,
    window_moments,
    wrong_discrepancies,
    wrong_fractions,
    wrong_moments,
    wrong_shares,
)
from minildm.evaluation import metrics


def ssim_window(x, y, w):
    return similarity(*window_moments(x, y, w))


@check(reference=ssim_window, forbidden=[metrics.ssim])
def check_ssim_window(answer):
    # the constants tell only where pictures are dark and flat
    cases = [("bright windows", 2.0, 1.0, (11, 11)),
             ("dark windows, of other sizes", 0.06, 0.7, (9, 5)),
             ("flat windows with opposite patterns", 0.15, -0.6, (11, 11))]
    for where, size, share, shape in cases:
        x = size * uniform(*shape)
        own = size * uniform(*shape, seed=1)
        y = 0.4 * size + 0.5 * share * (x - size / 2) + 0.3 * own
        w = torch.exp(-randn(*shape, seed=2).square())
        w = w / w.sum()
        likely = wrong_moments(x, y, w) | wrong_fractions(*window_moments(x, y, w))
        answer.case((x, y, w), ssim_window(x, y, w), likely, where=where)


def mmd(aa, bb, ab):
    n, m = len(aa), len(bb)
    within_a = (aa.sum() - aa.trace()) / (n * (n - 1))
    within_b = (bb.sum() - bb.trace()) / (m * (m - 1))
    return within_a + within_b - 2 * ab.mean()


@check(reference=mmd, forbidden=[metrics.kernel_distance])
def check_mmd(answer):
    for n, m, width in (5, 7, 3), (9, 4, 2), (2, 3, 6):
        a, b = randn(n, width), randn(m, width, seed=1) + 0.7
        kernels = [(p @ q.T / width + 1)**3 for p, q in ((a, a), (b, b), (a, b))]
        likely = wrong_discrepancies(*kernels)
        answer.case(kernels, mmd(*kernels), likely, where=f"{n} and {m} pictures")


@check(reference=metrics.coverage, forbidden=[metrics.precision_recall])
def check_coverage(answer):
    # sizes, k, and fakes so placed that likely mistakes lead to other shares
    cases = [((41, 29, 2), 5, 0.8, 1.2, 2), ((37, 37, 2), 4, 0.8, 1.2, 1),
             ((17, 11, 2), 1, 0.5, 0.3, 3), ((23, 31, 3), 2, 0.6, 0.5, 5)]
    for (n, m, width), k, size, shift, seed in cases:
        real = randn(n, width)
        fake = size * randn(m, width, seed=seed) + shift
        want = torch.tensor(metrics.coverage(real, fake, k))
        likely = wrong_shares(real, fake, k)
        answer.case((real, fake, k), want, likely, where=f"{n} real, {m} fake, k = {k}")
    # the lesson's own points: one of them lies on a ball's edge
    real, fake = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[0.5], [9.0]])
    answer.case((real, fake, 1), torch.tensor(1.0), {
        "a point on a ball's edge is inside: <=": torch.tensor(2 / 3)}, where="the points by hand")
