"""The checks of lesson 14."""

import torch

from minildm.course.exercises.compare import fail
from minildm.course.exercises.fakes import randn, uniform
from minildm.course.exercises.harness import check
from minildm.course.exercises.likely_14 import (
    similarity,
    table,
    window_moments,
    wrong_discrepancies,
    wrong_fractions,
    wrong_moments,
    wrong_shares,
    wrong_tables,
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


class Stream:
    """An iterator over batches, which can be gone through once."""

    def __init__(self, batches):
        self.batches, self.done = iter(batches), False

    def __iter__(self):
        if self.done:
            fail("the batches are gone through twice: an iterator gives each once")
        return self

    def __next__(self):
        try:
            return next(self.batches)
        except StopIteration:
            self.done = True
            raise


def moments(batches):
    count, total, products = 0, 0, 0
    for x in batches:
        count = count + len(x)
        total = total + x.sum(0)
        products = products + x.T @ x
    mean = total / count
    cov = (products - count * torch.outer(mean, mean)) / (count - 1)
    return torch.cat([mean[None], cov])


@check(reference=moments)
def check_moments(answer):

    def as_a_stream(batches):
        result = answer(Stream(batches))
        # whoever sums in float64, against rounding, may return that
        is_double = isinstance(result, torch.Tensor) and result.dtype == torch.float64
        return result.float() if is_double else result

    streamed = answer.wrap(as_a_stream, names=["batches"])
    for sizes, width in ((4, 9, 2), 3), ((7, 1, 3, 6), 5), ((8,), 4):
        batches = [randn(n, width, seed=n) * (1 + n / 10) + n / 3 for n in sizes]
        batches = [x + torch.linspace(-1, 1, width) for x in batches]
        want = table(torch.cat(batches))
        where = f"batches of {', '.join(map(str, sizes))} rows, {width} columns"
        streamed.case((batches,), want, wrong_tables(batches), where=where)


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


def nearest(query, reference):
    q = (query.double() / 127.5 - 1).flatten(1)
    r = (reference.double() / 127.5 - 1).flatten(1)
    return (q[:, None] - r).norm(dim=2).amin(1).float()


@check(reference=nearest, forbidden=[metrics.nearest_neighbours, metrics.memorisation])
def check_nearest(answer):
    for n, m, height, width in (6, 9, 4, 5), (5, 3, 7, 2), (1, 8, 3, 6):
        # pictures that are alike: their differences are below 0 and above
        query = (90 + 130 * uniform(n, 1, height, width)).byte()
        reference = (60 + 160 * uniform(m, 1, height, width, seed=1)).byte()
        want = nearest(query, reference)
        likely = wrong_distances(query, reference)
        numbers = all_distances(query, reference).argmin(1)
        likely["these are the neighbours' numbers: their distances are wanted"] = numbers
        where = f"{n} and {m} pictures of {height} x {width}"
        answer.case((query, reference), want, likely, where=where)


def all_distances(query, reference):
    """Return the distance of each query to each reference, (N, M)."""
    q, r = query.float().flatten(1), reference.float().flatten(1)
    return (q[:, None] - r).norm(dim=2) / 127.5


def wrong_distances(query, reference):
    away = all_distances(query, reference)
    want = away.amin(1)
    wrapped = (query[:, None] - reference[None]).float().flatten(2)
    steps = (query[:, None].float() - reference[None]).flatten(2) / 127.5
    bytes_squared = (query[:, None] - reference[None]).square().flatten(2).float()
    pixels = query[0].numel()
    second = away.sort(1).values[:, min(1, len(reference) - 1)]
    return {
        "uint8 has no negative numbers: 3 - 5 is 254. Floats first": wrapped.norm(dim=2).amin(1),
        "uint8 has no negative numbers: 3 - 5 is 254. Floats come before the difference":
            wrapped.norm(dim=2).amin(1) / 127.5,
        "uint8 has no negative numbers: 3 - 5 is 254. Floats before you subtract":
            (wrapped / 127.5 - 1).norm(dim=2).amin(1),
        "squares of uint8 begin at 0 again beyond 255. Floats before you square":
            bytes_squared.sum(2).sqrt().amin(1),
        "in units of 0 to 255: pictures are in [-1, 1] here": want * 127.5,
        "the range is 2 wide, not 1": want / 2,
        "the root is missing": want.square(),
        "the root is missing, and it is the mean": want.square() / pixels,
        "the sum over pixels, not their mean": want / pixels**0.5,
        "the sum of squares, not of absolute values": steps.abs().sum(2).amin(1),
        "squares, not absolute values, and no mean": steps.abs().mean(2).amin(1),
        "all pixels count: this is the largest difference": steps.abs().amax(2).amin(1),
        "the nearest query of each reference: the other axis": away.amin(0),
        "the nearest, not the farthest": away.amax(1),
        "the nearest, not the mean of all": away.mean(1),
        "the nearest, not the median of all": away.median(1).values,
        "that is the second nearest: no query is among the references": second,
        "one distance for each query: this is the least of all": away.amin(),
        "one distance for each query: this is their mean": want.mean(),
        "all distances, in order: only the least of each row is wanted": away.sort(1).values,
        "all distances: only the least of each row is wanted": away,
        "that is the distance to the first reference, not to the nearest": away[:, 0],
        "that is the difference of the brightness": steps.mean(2).abs().amin(1),
    }
