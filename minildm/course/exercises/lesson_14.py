"""The checks of lesson 14."""

import torch

from minildm.course.exercises.legacy import compare, fail, passed, randn
from minildm.evaluation.metrics import coverage, kernel_distance, nearest_neighbours


def as_tensor(got):
    return got if got is None else torch.as_tensor(got)


def check_ssim_window(f):
    x, y = (randn(11, 11, seed=s).sigmoid() * 2 for s in (0, 1))
    y, w = 0.5 * (x + y), torch.exp(-randn(11, 11, seed=2).square())
    w, even = w / w.sum(), torch.full_like(w, 1 / 121)

    def way(w=w, c1=4e-4, c2=3.6e-3, light=1, rest=1, centred=1):
        mx, my = (w * x).sum(), (w * y).sum()
        vx, vy, cov = ((w * p * q).sum() - centred * m for p, q, m in ((x, x, mx**2), (y, y, my**2),
                                                                       (x, y, mx * my)))
        return ((2 * mx * my + c1) / (mx**2 + my**2 + c1))**light * ((2 * cov + c2) / (vx + vy + c2))**rest

    passed(compare("ssim_window", as_tensor(f(x, y, w)), way(), {
        "the weights w aren't used everywhere: means, variances and the covariance are weighted": way(even),
        "a variance is the mean of squares minus the square of the mean": way(centred=0),
        "this is the first fraction only, of the means": way(rest=0),
        "this is the second fraction only, of the variances": way(light=0),
        "the range is 2: c1 = (0.01 * 2)^2, c2 = (0.03 * 2)^2": way(c1=1e-4, c2=9e-4),
        "c1 goes with the means, c2 with the variances": way(c1=3.6e-3, c2=4e-4),
        "the constants are missing: two black windows would be 0 / 0": way(c1=0, c2=0)}, tol=1e-5))


def check_moments(f):
    batches = [randn(n, 3, seed=n) * (1 + n / 10) + n for n in (4, 9, 2)]
    x = torch.cat(batches)
    means, right, n = torch.stack([b.mean(0) for b in batches]), x.mean(0), len(x)

    def way(mean=right, cov=None):
        return torch.cat([mean[None], x.T.cov() if cov is None else cov])

    passed(compare("moments", f(iter(batches)), way(), {
        "batches differ in size: the mean of their means isn't the mean": way(means.mean(0)),
        "a mean is wanted, this is the sum": way(x.sum(0)),
        "divide by n - 1, as cov does: one number went into the mean": way(cov=x.T.cov(correction=0)),
        "the mean isn't subtracted: products alone are no covariance": way(cov=x.T @ x / n),
        "the covariances of the batches were averaged: that forgets how far apart the batches lie":
            way(cov=torch.stack([b.T.cov() for b in batches]).mean(0))}))


def check_mmd(f):
    a, b = randn(5, 3), randn(7, 3, seed=1) + 0.5
    aa, bb, ab = ((p @ q.T / 3 + 1)**3 for p, q in ((a, a), (b, b), (a, b)))
    (off_a, all_a), (off_b, all_b) = ((k.sum() - k.trace(), k.sum()) for k in (aa, bb))
    own, cross = off_a / 20 + off_b / 42, ab.mean()
    passed(compare("mmd", as_tensor(f(aa, bb, ab)), torch.tensor(kernel_distance(a, b)), {
        "a picture was compared with itself: leave the diagonals out": all_a / 25 + all_b / 49 - 2 * cross,
        "the diagonals are out of the sum: n (n - 1) pairs are left": off_a / 25 + off_b / 49 - 2 * cross,
        "there are n (n - 1) pairs off the diagonal, yet the sum has it": all_a / 20 + all_b / 42 - 2 * cross,
        "the cross term counts twice": own - cross, "the sign of the cross term": own + 2 * cross,
        "sums of unlike many pairs can't be compared: means": off_a + off_b - 2 * ab.sum()}))


def check_coverage(f):
    real, fake, name = randn(40, 2), randn(30, 2, seed=1) * 0.6 + 0.8, "coverage"

    def share(points, centres, radii, axis):
        return (torch.cdist(points, centres) <= radii[:, None]).any(axis).float().mean()

    for k in 3, 5:
        r, less = torch.cdist(real, real).sort(1).values.T[[k, k - 1]]
        mine = torch.cdist(fake, fake).sort(1).values[:, k]
        near = torch.cdist(real, fake) <= r[:, None]
        compare(name, as_tensor(f(real, fake, k)), torch.tensor(coverage(real, fake, k)), {
            "one neighbour too few: the nearest to a point is that point": share(real, fake, less, 1),
            "this is precision, the share of fake": near.any(0).float().mean(),
            "this is recall: the balls are about the real ones here":
                (torch.cdist(fake, real) <= mine[:, None]).any(0).float().mean(),
            "one fake in the ball is enough: any, not all": near.all(1).float().mean()})
    passed(name)


def check_nearest(f):
    query, reference = ((randn(n, 1, 4, 4, seed=n).sigmoid() * 255).byte() for n in (6, 9))
    want, which = (x[:, 0] for x in nearest_neighbours(query, reference))
    other = nearest_neighbours(reference, query)[0][:, 0]
    wrapped = (query[:, None] - reference[None]).float().square().flatten(2).sum(2).sqrt()
    got = f(query.clone(), reference.clone())
    if isinstance(got, torch.Tensor) and torch.equal(got.long(), which) and not got.is_floating_point():
        fail("nearest", "these are the neighbours' numbers: their distances are wanted")
    passed(compare("nearest", got, want, {
        "uint8 has no negative numbers: 3 - 5 is 254. Floats first": wrapped.amin(1),
        "uint8 has no negative numbers: 3 - 5 is 254. to_float first": wrapped.amin(1) / 127.5,
        "in units of 0 to 255: pictures are in [-1, 1] here, so divide by 127.5": want * 127.5,
        "the range is 2 wide, not 1: divide by 127.5": want / 2, "the root is missing": want.square(),
        "the sum over pixels, not their mean": want / 4,
        "the nearest query of each reference: the other axis": other}))
