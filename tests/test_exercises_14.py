"""Lesson 14's checks: the solution passes; the wrong answers that students give are told what is wrong."""

import pytest
import torch

from minildm import exercises


def ssim_window(x, y, w, c1=0.02**2, c2=0.06**2):
    mx, my = (w * x).sum(), (w * y).sum()
    vx, vy, cov = (w * (x - mx)**2).sum(), (w * (y - my)**2).sum(), (w * (x - mx) * (y - my)).sum()
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1) * (2 * cov + c2) / (vx + vy + c2)


def flat(x, w):
    return (w * x).sum().expand(11, 11)


def moments(batches, shift=1, centre=1):
    n, total, products = 0, 0, 0
    for x in batches:
        n, total, products = n + len(x), total + x.sum(0), products + x.T @ x
    mean = total / n
    products = products - centre * n * mean[:, None] * mean
    return torch.cat([mean[None], products / (n - shift)])


def by_batch(batches):
    batches = list(batches)
    means, covs = [b.mean(0) for b in batches], [b.T.cov() for b in batches]
    return torch.stack(means).mean(0), torch.stack(covs).mean(0)


def right(batches):
    return torch.cat(list(batches))


def mmd(aa, bb, ab, within=lambda k: (k.sum() - k.trace()) / (len(k) * (len(k) - 1)), cross=2):
    return within(aa) + within(bb) - cross * ab.mean()


def radii(x, k):
    return torch.cdist(x, x).sort(dim=1).values[:, k]


def within(points, centres, radius):
    return torch.cdist(points, centres) <= radius


def coverage(real, fake, k, more=0):
    return within(fake, real, radii(real, k + more)).any(dim=0).float().mean()


def nearest(query, reference, unit=lambda x: x.float() / 127.5 - 1):
    q, r = unit(query).flatten(1), unit(reference).flatten(1)
    return torch.cdist(q, r).amin(dim=1)


def test_solutions_pass():
    exercises.check_ssim_window(ssim_window)
    exercises.check_ssim_window(lambda x, y, w: ssim_window(x, y, w).item())
    exercises.check_moments(moments)
    exercises.check_mmd(mmd)
    exercises.check_coverage(coverage)
    exercises.check_coverage(lambda real, fake, k: coverage(real, fake, k).item())
    exercises.check_nearest(nearest)


def squares(x, y, w):
    mx, my = (w * x).sum(), (w * y).sum()
    vx, vy, cov = (w * x * x).sum(), (w * y * y).sum(), (w * x * y).sum()
    return (2 * mx * my + 4e-4) / (mx**2 + my**2 + 4e-4) * (2 * cov + 3.6e-3) / (vx + vy + 3.6e-3)


SSIM = [
    ("weights", lambda x, y, w: ssim_window(x, y, torch.full_like(w, 1 / 121))),
    ("minus the square", squares),
    ("range is 2", lambda x, y, w: ssim_window(x, y, w, 0.01**2, 0.03**2)),
    ("c1 goes with", lambda x, y, w: ssim_window(x, y, w, 0.06**2, 0.02**2)),
    ("constants are missing", lambda x, y, w: ssim_window(x, y, w, 0, 0)),
    ("first fraction", lambda x, y, w: ssim_window(flat(x, w), flat(y, w), w)),
    ("second fraction", lambda x, y, w: ssim_window(x - (w * x).sum(), y - (w * y).sum(), w)),
    ("should be", lambda x, y, w: (x - y).square().mean()),
    ("return", lambda *_: None),
]
MOMENTS = [
    ("differ in size", lambda b: torch.cat([by_batch(b := list(b))[0][None], right(b).T.cov()])),
    ("this is the sum", lambda b: torch.cat([(x := right(b)).sum(0)[None], x.T.cov()])),
    ("n - 1", lambda b: moments(b, shift=0)),
    ("no covariance", lambda b: moments(b, shift=0, centre=0)),
    ("were averaged", lambda b: torch.cat([right(b := list(b)).mean(0)[None], by_batch(b)[1]])),
    ("should be", lambda b: moments(list(b)[:1])),
    ("shape", lambda b: right(b).mean(0)),
]
MMD = [
    ("leave the diagonals out", lambda aa, bb, ab: mmd(aa, bb, ab, torch.mean)),
    ("pairs are left", lambda aa, bb, ab: mmd(aa, bb, ab, lambda k: (k.sum() - k.trace()) / k.numel())),
    ("yet the sum", lambda aa, bb, ab: mmd(aa, bb, ab, lambda k: k.sum() / (len(k) * (len(k) - 1)))),
    ("counts twice", lambda aa, bb, ab: mmd(aa, bb, ab, cross=1)),
    ("sign", lambda aa, bb, ab: mmd(aa, bb, ab, cross=-2)),
    ("means", lambda aa, bb, ab: aa.sum() - aa.trace() + bb.sum() - bb.trace() - 2 * ab.sum()),
    ("should be", lambda aa, bb, ab: mmd(aa, bb, ab).abs().sqrt()),
]
COVERAGE = [
    ("that point", lambda real, fake, k: coverage(real, fake, k, more=-1)),
    ("precision", lambda real, fake, k: within(fake, real, radii(real, k)).any(1).float().mean()),
    ("recall", lambda real, fake, k: within(real, fake, radii(fake, k)).any(1).float().mean()),
    ("not all", lambda real, fake, k: within(fake, real, radii(real, k)).all(0).float().mean()),
    ("should be", lambda real, fake, k: coverage(real, fake, k, more=3)),
    ("should be", lambda real, fake, k: coverage(real, fake, 3)),                              # k forgotten
]
NEAREST = [
    ("no negative", lambda q, r: (q[:, None] - r[None]).float().flatten(2).norm(dim=2).amin(1)),
    ("no negative", lambda q, r: (q[:, None] - r[None]).float().flatten(2).norm(dim=2).amin(1) / 127.5),
    ("0 to 255", lambda q, r: nearest(q, r, torch.Tensor.float)),
    ("2 wide", lambda q, r: nearest(q, r, lambda x: x.float() / 255)),
    ("root", lambda q, r: nearest(q, r)**2),
    ("not their mean", lambda q, r: nearest(q, r) / 4),
    ("other axis", lambda q, r: nearest(r, q)),
    ("distances are wanted", lambda q, r: torch.cdist(q.flatten(1).float(), r.flatten(1).float()).argmin(1)),
]
WRONG = [(name, *row) for name, rows in [("ssim_window", SSIM), ("moments", MOMENTS), ("mmd", MMD),
                                         ("coverage", COVERAGE), ("nearest", NEAREST)] for row in rows]


@pytest.mark.parametrize("name, said, answer", WRONG)
def test_wrong_answers_are_told_the_cause(name, said, answer):
    with pytest.raises(AssertionError, match=said):
        getattr(exercises, f"check_{name}")(answer)
