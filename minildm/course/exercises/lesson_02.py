"""The checks of lesson 02."""

import torch
import torch.nn.functional as F

from minildm.course.exercises.legacy import compare, fail, passed, randn
from minildm.training.losses import adaptive_weight, hinge_critic, perceptual


def check_linear_copy(f):
    rows = randn(60, 6) @ randn(6, 6, seed=1) + 3 * randn(6, seed=2)
    c, mean = 2, rows.mean(0)
    centred = rows - mean
    basis = torch.linalg.eigh(centred.T @ centred).eigenvectors     # columns, the smallest value first
    raw = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -c:]
    top, least, across = basis[:, -c:], basis[:, :c], basis[-c:].T
    compare("linear_copy", f(rows, c), mean + centred @ top @ top.T, {
        "the directions that vary least: eigh puts the largest last": mean + centred @ least @ least.T,
        "the mean isn't added again": centred @ top @ top.T,
        "the mean isn't subtracted first": rows @ raw @ raw.T,
        "the rows that you project aren't centred": rows @ top @ top.T,
        "the mean is added, but wasn't subtracted": mean + rows @ top @ top.T,
        "eigenvectors are columns, you took rows": mean + centred @ across @ across.T,
        "these are the c numbers: the copies are wanted, so go back": centred @ top}, tol=1e-3)
    passed("linear_copy")


def check_mean_weight(f):
    got = {sizes: f(0.5, *sizes) for sizes in ((3072, 256), (1024, 256), (48, 96))}      # pixels, latents
    compare("mean_weight", torch.tensor([float(v) for v in got.values()]),
            torch.tensor([0.5 * latents / pixels for pixels, latents in got]), {
        "the wrong way round: a sum of KLs has `latents` terms": torch.tensor([0.5 * p / n for p, n in got]),
        "divided by the pixels only": torch.tensor([0.5 / p for p, _ in got]),
        "multiplied by the latents only": torch.tensor([0.5 * n for _, n in got]),
        "divided by the latents only": torch.tensor([0.5 / n for _, n in got]),
        "unchanged: but one sum has more terms than the other": torch.tensor([0.5] * 3)}, tol=1e-6)
    passed("mean_weight")


def check_perceptual(f):
    a, b = ([randn(4, 5, 8, 8, seed=s), randn(4, 7, 4, 4, seed=s + 1)] for s in (0, 2))
    images = torch.zeros(1, 1, 1, 1)
    want = perceptual(lambda x: a if x is images else b, images, images + 1)

    def total(of, normal=lambda x: F.normalize(x, dim=1)):
        return sum(of(normal(x) - normal(y)) for x, y in zip(a, b, strict=True))

    compare("perceptual", f(a, b), want, {
        "the vectors aren't of length one": total(lambda d: d.square().sum(1).mean(), lambda x: x),
        "the mean over channels: their sum": total(lambda d: d.square().mean()),
        "the sum over positions: their mean": total(lambda d: d.square().sum()),
        "of length one along the channels, dim=1, not over the whole map":
            total(lambda d: d.square().sum(1).mean(), lambda x: x / x.square().sum((1, 2, 3), True).sqrt()),
        "of length one along the channels, dim=1, not the last axis":
            total(lambda d: d.square().sum(1).mean(), lambda x: F.normalize(x, dim=-1)),
        "the difference isn't squared": total(lambda d: d.abs().sum(1).mean()),
        "the root of the sum: the squared distance is wanted": total(lambda d: d.norm(dim=1).mean()),
        "the stages are averaged: their sum": want / 2})
    passed("perceptual")


def check_hinge(f):
    real, fake = 2 * randn(6, 1, 4, 4) + 1.5, 2 * randn(6, 1, 4, 4, seed=1) - 1.5
    want = hinge_critic(real, fake)
    compare("hinge", f(real, fake), want, {
        "the sides have changed places": hinge_critic(fake, real),
        "the factor 1/2 is missing": 2 * want,
        "without relu what is right already pulls on": (1 - real).mean() / 2 + (1 + fake).mean() / 2,
        "the margin 1 is missing": (F.relu(-real).mean() + F.relu(fake).mean()) / 2,
        "relu of the mean: each score by itself, then the mean":
            (F.relu(1 - real.mean()) + F.relu(1 + fake.mean())) / 2,
        "only the real side": F.relu(1 - real).mean() / 2, "only the fake side": F.relu(1 + fake).mean() / 2,
        "one number, the mean of all patches": (F.relu(1 - real) + F.relu(1 + fake)) / 2})
    passed("hinge")


def check_adaptive_weight(f):
    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(randn(2, 3))
        layer.bias.zero_()
    out = layer(randn(5, 3, seed=1))
    rec, adv = out.abs().mean(), 0.01 * out.square().sum()
    want = adaptive_weight(rec, adv, layer.weight)
    of_rec, of_adv = (torch.autograd.grad(x, layer.weight, retain_graph=True)[0] for x in (rec, adv))
    try:
        got = f(rec, adv, layer.weight)
        (rec + adv).backward()
    except RuntimeError as error:
        fail("adaptive_weight", f"retain_graph=True lets another backward pass follow: {str(error)[:45]} ...")
    compare("adaptive_weight", got.detach() if isinstance(got, torch.Tensor) else got, want, {
        "upside down: reconstruction's gradient is divided by the critic's": 1 / want,
        "the ratio of the losses: of their gradients": (rec / adv).detach(),
        "the squared lengths' ratio: take norms": want**2,
        "the ratio of largest values: take norms": of_rec.abs().max() / of_adv.abs().max(),
        "the ratio of sums: take norms": of_rec.sum() / of_adv.sum()}, tol=0.01)
    if got.requires_grad:
        fail("adaptive_weight", "a weight, not a term: detach it")
    passed("adaptive_weight")
