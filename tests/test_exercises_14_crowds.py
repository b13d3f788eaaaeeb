"""Lesson 14's checks of crowds and copies: right answers in any style pass; wrong ones hear why."""

import pytest
import torch
from support.answers import changed, right_and_wrong

from minildm import data
from minildm.course.exercises import lesson_14_copies, lesson_14_crowds
from minildm.course.exercises.lesson_14 import mmd
from minildm.evaluation import metrics

HELPERS = {"data": data, "metrics": metrics, "mmd": mmd}


FRECHET = """
    cov_a, cov_b = a.T.cov(), b.T.cov()
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    common = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    return shift + cov_a.trace() + cov_b.trace() - 2 * common
"""
KERNEL = """
    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1)**3
    return mmd(kernel(a, a), kernel(b, b), kernel(a, b))
"""
MANIFOLDS = """
    def within(points, centres):
        radii = torch.cdist(centres, centres).kthvalue(k + 1, dim=1).values
        return (torch.cdist(points, centres) <= radii).any(dim=1).float().mean()
    return within(fake, real), within(real, fake)
"""
CLOSE = """
    q, r = (x.float().flatten(1) / 127.5 - 1 for x in (query, training))
    near = torch.cdist(q, r).topk(k, largest=False).values
    return near[:, 0] / near.mean(1)
"""
SHARE = """
    limit = torch.quantile(held_out, alarm)
    p, q = ((x < limit).float().mean() for x in (samples, held_out))
    error = (p * (1 - p) / len(samples) + q * (1 - q) / len(held_out)).sqrt()
    return p - q, p - q - 1.96 * error, p - q + 1.96 * error
"""

RIGHT = [
    ("frechet", FRECHET),
    ("frechet", """
        n, m = len(a), len(b)
        da, db = a - a.mean(0), b - b.mean(0)
        sa, sb = da.T @ da / (n - 1), db.T @ db / (m - 1)
        roots = torch.linalg.eigvals(sa @ sb).real.clamp(min=0).sqrt()
        return (((a.mean(0) - b.mean(0))**2).sum() + (sa + sb).trace() - 2 * roots.sum()).item()
     """),
    ("frechet", """
        a, b = a.double(), b.double()
        sa, sb = torch.cov(a.T), torch.cov(b.T)
        u, s, _ = torch.linalg.svd(sa)
        half = u @ s.clamp(min=0).sqrt().diag() @ u.T
        inner = torch.linalg.svdvals(half @ sb @ half).sqrt().sum()
        return torch.dist(a.mean(0), b.mean(0))**2 + sa.diag().sum() + sb.diag().sum() - 2 * inner
     """),
    ("kernel_distance", KERNEL),
    ("kernel_distance", """
        d = a.shape[1]
        aa, bb, ab = ((x @ y.mT / d + 1).pow(3) for x, y in ((a, a), (b, b), (a, b)))
        n, m = len(a), len(b)
        aa, bb = aa - aa.diag().diag(), bb - bb.diag().diag()
        return (aa.sum() / n / (n - 1) + bb.sum() / m / (m - 1) - 2 * ab.mean()).item()
     """),
    ("precision_recall", MANIFOLDS),
    ("precision_recall", """
        apart = torch.cdist(real, fake)
        ball_r = torch.cdist(real, real).sort(1).values[:, k]
        ball_f = torch.cdist(fake, fake).sort(1).values[:, k]
        inside = [bool((apart[:, j] <= ball_r).any()) for j in range(len(fake))]
        precision = sum(inside) / len(inside)
        recall = (apart <= ball_f[None]).any(1).double().mean().item()
        return [precision, recall]
     """),
    ("closeness", CLOSE),
    ("closeness", """
        q, r = data.to_float(query).flatten(1), data.to_float(training).flatten(1)
        rows = [(one - r).norm(dim=1).sort().values[:k] for one in q]
        return torch.stack([row[0] / row.mean() for row in rows])
     """),
    ("share_of_copies", SHARE),
    ("share_of_copies", """
        limit = held_out.double().quantile(alarm).item()
        n, m = samples.numel(), held_out.numel()
        p, q = (samples < limit).sum().item() / n, (held_out < limit).sum().item() / m
        half = 1.96 * math.sqrt(p * (1 - p) / n + q * (1 - q) / m)
        return torch.tensor([p - q, p - q - half, p - q + half])
     """),
]

WRONG = [
    *(("frechet", said, changed(FRECHET, *pairs)) for said, *pairs in [
        ("means alone", "shift + cov_a.trace() + cov_b.trace() - 2 * common", "shift"),
        ("means are missing", "return shift + ", "return "),
        ("means is squared", "shift = (a.mean(0) - b.mean(0)).square().sum()",
         "shift = (a.mean(0) - b.mean(0)).norm()"),
        ("counts twice", "2 * common", "common"),
        ("last term is missing", " - 2 * common", ""),
        ("is subtracted", "- 2 * common", "+ 2 * common"),
        ("squared already", "return shift + cov_a.trace() + cov_b.trace() - 2 * common",
         "return (shift + cov_a.trace() + cov_b.trace() - 2 * common).clamp(min=0).sqrt()"),
        ("n - 1", "a.T.cov(), b.T.cov()", "a.T.cov(correction=0), b.T.cov(correction=0)"),
        ("root of the product is missing", ".clamp(min=0).sqrt().sum()", ".sum()"),
        ("root of the product", "torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()",
         "(cov_a @ cov_b).trace()"),
        ("no root of a matrix", "torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()",
         "(cov_a @ cov_b).clamp(min=0).sqrt().trace()"),
        ("mean square", "b.mean(0)).square().sum()", "b.mean(0)).square().mean()"),
        ("first covariance", "cov_b.trace()", "cov_a.trace()"),
        ("differs|should be|NaN|raised", "values.clamp(min=0).sqrt()", "values"),
        ("axis|raised|shape|should be|differs", "a.T.cov(), b.T.cov()", "a.cov(), b.cov()"),
        ("NaN|should be|differs|raised", "values.clamp(min=0)", "values.log()"),
        ("should be|differs|NaN", ".clamp(min=0).sqrt().sum()\\n".replace("\\n", "\n"),
         ".clamp(min=0).sum().sqrt()\n"),
        ("in place", "shift =", "a -= a.mean(0)\n    shift ="),
        ("None", "return shift + cov_a.trace() + cov_b.trace() - 2 * common", "shift.item()\n    return"),
        ("shape", ".square().sum()", ".square()"),
    ]),
    ("frechet", "means alone", "(a.mean(0) - b.mean(0)).square().sum()"),
    ("frechet", "variances alone",
     "(a.mean(0) - b.mean(0)).square().sum() + (a.std(0) - b.std(0)).square().sum()"),
    ("frechet", "package", "metrics.frechet_distance(a, b)"),
    *(("kernel_distance", said, changed(KERNEL, *pairs)) for said, *pairs in [
        ("number of features", " / x.shape[1]", ""),
        ("before the cube", " / x.shape[1] + 1)", " / x.shape[1])"),
        ("before the cube", " + 1)**3", ")**3 + 1"),
        ("third power", "**3", "**2"),
        ("third power is missing", "**3", ""),
        ("number of rows", "x.shape[1]", "x.shape[0]"),
        ("no root", "x.shape[1]", "x.shape[1]**0.5"),
        ("raised|shape|should be", "mmd(kernel(a, a), kernel(b, b), kernel(a, b))",
         "mmd(kernel(a, a), kernel(b, b), kernel(b, a)[:3])"),
        ("raised|shape|differs|should", "x @ y.T", "x * y"),
        ("aa|bb|should be|differs|missing", "kernel(b, b)", "kernel(a, a)"),
        ("with itself", "mmd(kernel(a, a), kernel(b, b), kernel(a, b))",
         "kernel(a, a).mean() + kernel(b, b).mean() - 2 * kernel(a, b).mean()"),
    ]),
    ("kernel_distance", "package", "metrics.kernel_distance(a, b)"),
    *(("precision_recall", said, changed(MANIFOLDS, *pairs)) for said, *pairs in [
        ("too few", "k + 1", "k"),
        ("too many", "k + 1", "k + 2"),
        ("comes first|other set", "within(fake, real), within(real, fake)",
         "within(real, fake), within(fake, real)"),
        ("recall|coverage|differs|should|other set", "within(real, fake)", "within(fake, real)"),
        ("coverage|raised", "any(dim=1)", "any(dim=0)"),
        ("in all", "any(dim=1)", "all(dim=1)"),
        ("all pairs", ".any(dim=1)", ""),
        ("each ball", ".any(dim=1)", ".sum(dim=1)"),
        ("number of points", ".float().mean()", ".float().sum()"),
        ("outside|should|square", "<= radii", "> radii"),
        ("mean radius", ".values\n", ".values.mean()\n"),
        ("k is an argument", "k + 1", "4"),
        ("not its square", "<= radii", "<= radii**2"),
        ("edge is inside", "<= radii", "< radii"),
        ("two numbers", "return within(fake, real), within(real, fake)", "return within(fake, real)"),
        ("raised|other|axis|precision", "<= radii", "<= radii[:, None]"),
    ]),
    ("precision_recall", "package", "metrics.precision_recall(real, fake, k)"),
    *(("closeness", said, changed(CLOSE, *pairs)) for said, *pairs in [
        ("of the nearest", " / near.mean(1)", ""),
        ("upside down", "near[:, 0] / near.mean(1)", "near.mean(1) / near[:, 0]"),
        ("a ratio", "near[:, 0] / near.mean(1)", "near.mean(1) - near[:, 0]"),
        ("not of all", "near.mean(1)", "torch.cdist(q, r).mean(1)"),
        ("among them", "near.mean(1)",
         "torch.cdist(q, r).sort(1).values[:, 1:k + 1].mean(1)"),
        ("k - 1", "near.mean(1)", "near[:, :-1].mean(1)"),
        ("not their sum", "near.mean(1)", "near.sum(1)"),
        ("median", "near.mean(1)", "near.median(1).values"),
        ("not the k-th", "near.mean(1)", "near[:, -1]"),
        ("farthest", "largest=False", "largest=True"),
        ("their mean|one number", "return near[:, 0] / near.mean(1)",
         "return (near[:, 0] / near.mean(1)).mean()"),
        ("own neighbours", "near.mean(1)", "near.mean()"),
        ("roots", "torch.cdist(q, r)", "(torch.cdist(q, r)**2)"),
        ("absolute", "torch.cdist(q, r)", "torch.cdist(q, r, p=1)"),
        ("other axis|raised|shape", "torch.cdist(q, r)", "torch.cdist(r, q)"),
        ("for others|raised|k", "topk(k,", "topk(3,"),
        ("differs|wrong|values", "x.float().flatten(1) / 127.5 - 1",
         "(x.float() / 127.5 - 1).flatten(1).round()"),
    ]),
    ("closeness", "no negative", """
        away = (query[:, None] - training[None]).float().flatten(2).norm(dim=2)
        near = away.topk(k, largest=False).values
        return near[:, 0] / near.mean(1)
     """),
    ("closeness", "package", """
        near, _ = metrics.nearest_neighbours(query, training, k)
        return near[:, 0] / near.mean(1)
     """),
    *(("share_of_copies", said, changed(SHARE, *pairs)) for said, *pairs in [
        ("subtract their share", "p - q", "p"),
        ("not from the samples", "quantile(held_out", "quantile(samples"),
        ("other way round", "x < limit", "x > limit"),
        ("at the limit itself", "x < limit", "x <= limit"),
        ("not above|below", "held_out, alarm", "held_out, 1 - alarm"),
        ("both variances", " + q * (1 - q) / len(held_out)", ""),
        ("variance of a share", "p * (1 - p) / len(samples) + q * (1 - q) / len(held_out)",
         "p * (1 - p) + q * (1 - q)"),
        ("root of the variance", ".sqrt()", ""),
        ("this is one", "1.96 * ", ""),
        ("own number", "len(samples) + q * (1 - q) / len(held_out)",
         "len(held_out) + q * (1 - q) / len(samples)"),
        ("other way round", "p - q", "q - p"),
        ("what was meant|held-out|share", "return p - q,", "return p - alarm,"),
        ("three numbers", "return p - q, p - q - 1.96 * error, p - q + 1.96 * error", "return p - q"),
        ("lower end", "p - q - 1.96 * error, p - q + 1.96 * error",
         "p - q + 1.96 * error, p - q - 1.96 * error"),
        ("numbers of pictures|should be|times", ".float().mean()", ".float().sum()"),
        ("not standard errors", "error = (p * (1 - p) / len(samples) + q * (1 - q) / len(held_out)).sqrt()",
         "error = (p * (1 - p) / len(samples)).sqrt() + (q * (1 - q) / len(held_out)).sqrt()"),
        ("should be|differs|share", "torch.quantile(held_out, alarm)", "held_out.median()"),
        ("should be|differs|share", "torch.quantile(held_out, alarm)", "held_out.min()"),
        ("should be|differs|share", "torch.quantile(held_out, alarm)", "0.5"),
        ("should be|differs|share|first", "alarm)", "0.02)"),
    ]),
]

test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)


def test_the_references_are_the_packages():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(40, 5, generator=g).double(), torch.randn(30, 5, generator=g).double() + 0.4
    for name in "kernel_distance", "frechet":
        packages = {"frechet": metrics.frechet_distance}.get(name, metrics.kernel_distance)
        assert getattr(lesson_14_crowds, name)(a, b).item() == pytest.approx(packages(a, b), rel=1e-6)
    pair = [share.item() for share in lesson_14_crowds.precision_recall(a, b, 3)]
    assert pair == pytest.approx(list(metrics.precision_recall(a, b, 3)))


def test_closeness_is_the_packages_distances_in_a_ratio():
    g = torch.Generator().manual_seed(0)
    query, training = (torch.randint(256, (n, 1, 4, 3), generator=g).byte() for n in (5, 9))
    near, _ = metrics.nearest_neighbours(query, training, 4)
    torch.testing.assert_close(lesson_14_copies.closeness(query, training, 4), near[:, 0] / near.mean(1))
