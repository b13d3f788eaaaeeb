"""The checks of lesson 02."""

import torch
import torch.nn.functional as F

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import compare, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.training import losses


def directions(matrix):
    """Its eigenvectors, columns, the smallest eigenvalue first."""
    return torch.linalg.eigh(matrix.T @ matrix).eigenvectors


def linear_copy(rows, c):
    mean = rows.mean(0)
    centred = rows - mean
    top = directions(centred)[:, -c:]
    return mean + centred @ top @ top.T


@check(reference=linear_copy)
def check_linear_copy(answer):
    # rows whose mean is far from 0: centring matters
    for n, d, c in (60, 6, 2), (25, 7, 3):
        rows = randn(n, d) @ randn(d, d, seed=1) + 3 * randn(d, seed=2)
        mean = rows.mean(0)
        centred = rows - mean
        basis = directions(centred)
        raw = directions(rows)[:, -c:]
        top, least, across = basis[:, -c:], basis[:, :c], basis[-c:].T
        answer.case((rows, c), linear_copy(rows, c), {
            "the directions that vary least: eigh puts the largest last":
                mean + centred @ least @ least.T,
            "the mean isn't added again": centred @ top @ top.T,
            "the mean isn't subtracted first": rows @ raw @ raw.T,
            "the rows that you project aren't centred": rows @ top @ top.T,
            "the mean is added, but wasn't subtracted": mean + rows @ top @ top.T,
            "the directions are those of rows that aren't centred": mean + centred @ raw @ raw.T,
            "eigenvectors are columns, you took rows": mean + centred @ across @ across.T,
            "these are the c numbers: the copies are wanted, so go back": centred @ top,
            "these are the c numbers, of rows that aren't centred": rows @ top,
            "one direction less than c":
                mean + centred @ top[:, 1:] @ top[:, 1:].T,
            "one direction more than c": linear_copy(rows, c + 1),
            "this is what the copy leaves out": centred - centred @ top @ top.T,
            "all directions were kept: c of them are wanted": rows,
            "one mean of all numbers: each column has its own":
                rows.mean() + (rows - rows.mean()) @ top @ top.T,
        }, tol=1e-3, where=f"{n} rows of {d}, c = {c}")


def mean_weight(sum_weight, pixels, latents):
    return sum_weight * latents / pixels


@check(reference=mean_weight)
def check_mean_weight(answer):
    # more pixels than latents, and fewer
    for weight, pixels, latents in (0.3, 3072, 256), (2e-4, 784, 98), (7.0, 48, 96):
        want = torch.tensor(weight * latents / pixels, dtype=torch.float64)
        answer.case((weight, pixels, latents), want, {
            "the wrong way round: a sum of KLs has `latents` terms": weight * pixels / latents,
            "divided by the pixels only": weight / pixels,
            "multiplied by the latents only": weight * latents,
            "multiplied by the pixels only": weight * pixels,
            "divided by the latents only": weight / latents,
            "divided by both: one sum's number of terms multiplies": weight / pixels / latents,
            "multiplied by both: one sum's number of terms divides": weight * pixels * latents,
            "unchanged: but one sum has more terms than the other": weight,
            "sum_weight is missing": latents / pixels,
            "sum_weight multiplies, it doesn't divide": latents / pixels / weight,
            "no root: the numbers of terms themselves": weight * (latents / pixels)**0.5,
            "no squares: the numbers of terms themselves": weight * (latents / pixels)**2,
            "the share of the latents in both together": weight * latents / (pixels + latents),
        }, tol=1e-5, where=f"{pixels} pixels, {latents} latents")


def perceptual(maps_a, maps_b):
    total = 0
    for a, b in zip(maps_a, maps_b, strict=True):
        difference = F.normalize(a, dim=1) - F.normalize(b, dim=1)
        total = total + difference.square().sum(1).mean()
    return total


def squared(a, b, dim=1, p=2.0):
    """The squared distance of maps whose vectors along dim have length one."""
    return (F.normalize(a, p, dim) - F.normalize(b, p, dim)).square().sum(1).mean()


def perceptual_mistakes(a, b) -> dict:
    """What one stage contributes, by mistake."""
    unit_a, unit_b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    difference = unit_a - unit_b
    square = difference.square()
    cosine = (unit_a * unit_b).sum(1).mean()
    plain = (a - b).square()
    return {
        "the vectors aren't of length one": plain.sum(1).mean(),
        "the vectors aren't of length one, and channels are summed": plain.mean(),
        "the mean over channels: their sum": square.mean(),
        "the sum over positions: their mean": square.sum(),
        "the sum over positions: only the batch is averaged": square.sum((1, 2, 3)).mean(),
        "of length one along the channels, dim=1, not over the whole map": squared(a, b, (1, 2, 3)),
        "of length one along the channels, dim=1, not the last axis": squared(a, b, -1),
        "of length one along the channels, dim=1, not the rows": squared(a, b, 2),
        "of length one along the channels, dim=1, not over the batch": squared(a, b, 0),
        "length one is by squares, not by absolute values": squared(a, b, p=1.0),
        "only one side is of length one":
            (unit_a - b).square().sum(1).mean(),
        "of length one first, then the difference":
            F.normalize(a - b, dim=1).square().sum(1).mean(),
        "the difference isn't squared": difference.abs().sum(1).mean(),
        "the difference isn't squared, so that its signs cancel": difference.sum(1).mean(),
        "the root of the sum: the squared distance is wanted": difference.norm(dim=1).mean(),
        "that is the similarity, not the distance": cosine,
        "1 - cosine is half of the squared distance": 1 - cosine,
    }


@check(reference=perceptual, forbidden=[losses.perceptual])
def check_perceptual(answer):
    # three stages before two: a mean of two stages could pass for the factor 1/2
    for batch, stages in (2, [(4, 3, 5), (9, 2, 7), (3, 6, 2)]), (3, [(5, 8, 6), (7, 4, 3)]):
        a = [randn(batch, *shape, seed=i) for i, shape in enumerate(stages)]
        b = [randn(batch, *shape, seed=i + 9).requires_grad_() for i, shape in enumerate(stages)]
        want = perceptual(a, b)
        likely = {
            "the stages are averaged: their sum": want / len(stages),
            "only the first stage is in it":
                perceptual(a[:1], b[:1]),
            "only the last stage is in it":
                perceptual(a[-1:], b[-1:]),
        }
        by_stage = [perceptual_mistakes(x, y) for x, y in zip(a, b, strict=True)]
        for cause in by_stage[0]:
            likely[cause] = sum(values[cause] for values in by_stage)
        got = answer.case((a, b), want, likely, where=f"{len(stages)} stages, {batch} pictures")
        compare_gradients(got, want, maps_b=b[0])


def hinge(real, fake):
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


@check(reference=hinge, forbidden=[losses.hinge_critic])
def check_hinge(answer):
    # scores on both sides of both margins
    for shape, gap in ((6, 1, 4, 3), 1.5), ((3, 2, 5, 7), 0.4):
        real = (2 * randn(*shape) + gap).requires_grad_()
        fake = (2 * randn(shape[0] + 2, *shape[1:], seed=1) - gap).requires_grad_()
        want = hinge(real, fake)
        of_real, of_fake = F.relu(1 - real), F.relu(1 + fake)
        without_relu = (1 - real).mean() + (1 + fake).mean()
        got = answer.case((real, fake), want, {
            "the sides have changed places": hinge(fake, real),
            "the factor 1/2 is missing": 2 * want,
            "without relu what is right already pulls on": without_relu / 2,
            "without relu what is right already pulls on, and 1/2 is missing": without_relu,
            "relu of the mean: each score by itself, then the mean":
                (F.relu(1 - real.mean()) + F.relu(1 + fake.mean())) / 2,
            "the margin 1 is missing":
                (F.relu(-real).mean() + F.relu(fake).mean()) / 2,
            "the margin is 1":
                (F.relu(0.5 - real).mean() + F.relu(0.5 + fake).mean()) / 2,
            "the signs are wrong":
                (F.relu(1 + real).mean() + F.relu(1 - fake).mean()) / 2,
            "the real side's sign is wrong":
                (F.relu(1 + real).mean() + of_fake.mean()) / 2,
            "the fake side's sign is wrong":
                (of_real.mean() + F.relu(1 - fake).mean()) / 2,
            "only the real side": of_real.mean() / 2,
            "only the real side, and 1/2 is missing": of_real.mean(),
            "only the fake side": of_fake.mean() / 2,
            "only the fake side, and 1/2 is missing": of_fake.mean(),
            "the sides are added, not subtracted": (of_real.mean() - of_fake.mean()) / 2,
            "means, not sums": (of_real.sum() + of_fake.sum()) / 2,
            "the hinge isn't squared":
                (of_real.square().mean() + of_fake.square().mean()) / 2,
            "that is the loss of the other side, which wants fakes to score high": -fake.mean(),
            "that is cross-entropy's soft hinge: relu":
                (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2,
            "each side has its own mean": torch.cat([of_real, of_fake]).mean(),
        }, where=f"scores of shape {shape}")
        compare_gradients(got, want, real=real, fake=fake)


def adaptive_weight(reconstruction, adversarial, last_layer):
    norms = []
    for loss in reconstruction, adversarial:
        gradient, = torch.autograd.grad(loss, last_layer, retain_graph=True)
        norms.append(gradient.norm())
    return (norms[0] / (norms[1] + 1e-6)).detach()


@check(reference=adaptive_weight, forbidden=[losses.adaptive_weight])
def check_adaptive_weight(answer):
    # gradients of very different lengths, far above the small number that guards the division
    for n, width, scale in (5, 3, 0.1), (7, 4, 2.0):
        weight = randn(2, width).requires_grad_()
        before = randn(n, width, seed=1).requires_grad_()
        out = before @ weight.T
        rec = 3 * out.abs().mean()
        adv = scale * out.square().sum()
        of_rec, = torch.autograd.grad(rec, weight, retain_graph=True)
        of_adv, = torch.autograd.grad(adv, weight, retain_graph=True)
        want = of_rec.norm() / of_adv.norm()
        try:
            got = answer(rec, adv, weight)
            # the training step that follows
            torch.autograd.grad(rec + adv, weight)
        except RuntimeError:
            fail("no backward pass can follow: each gradient needs retain_graph=True")
        compare(got, want, {
            "upside down: reconstruction's gradient is divided by the critic's": 1 / want,
            "the ratio of the losses: of their gradients": (rec / adv).detach(),
            "the squared lengths' ratio: take norms": want.square(),
            "the ratio of largest values: take norms":
                of_rec.abs().max() / of_adv.abs().max(),
            "the ratio of sums: take norms": of_rec.sum() / of_adv.sum(),
            "the ratio of means: take norms":
                of_rec.abs().mean() / of_adv.abs().mean(),
            "the norm of the ratio: the ratio of the norms": (of_rec / of_adv).norm(),
            "the mean of the ratio: the ratio of the norms": (of_rec / of_adv).mean(),
            "that is the gradient's length alone: divide by the critic's": of_rec.norm(),
            "that is the critic's gradient's length alone": of_adv.norm(),
            "a product of the lengths: their ratio": of_rec.norm() * of_adv.norm(),
            "the critic's length isn't a term of a sum":
                of_rec.norm() / (of_adv.norm() + of_rec.norm()),
        }, tol=1e-3)
        if isinstance(got, torch.Tensor) and got.requires_grad:
            fail("a weight, not a term: detach it")
        if weight.grad is not None or before.grad is not None:
            fail("it left a gradient in last_layer.grad or elsewhere: the next step adds to it")
