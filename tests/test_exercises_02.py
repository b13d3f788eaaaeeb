"""Lesson 02's checks: the solution passes; the wrong answers that students give are told what is wrong."""

import pytest
import torch
import torch.nn.functional as F

from minildm import exercises


def linear_copy(rows, c, centre=True, back=True, order=(), decode=True):
    mean = rows.mean(0)
    centred = rows - mean if centre else rows
    basis = torch.linalg.eigh((rows - mean).T @ (rows - mean)).eigenvectors.flip(order)
    top = basis[:, -c:]
    return (mean if back else 0) + (centred @ top @ top.T if decode else centred @ top)


def by_svd(rows, c):
    u, s, v = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    return rows.mean(0) + u[:, :c] * s[:c] @ v[:c]


def uncentred(rows, c):
    u, s, v = torch.linalg.svd(rows, full_matrices=False)
    return u[:, :c] * s[:c] @ v[:c]


def unit(x):
    return F.normalize(x, dim=1)


def perceptual(a, b):
    return sum((unit(x) - unit(y)).square().sum(1).mean() for x, y in zip(a, b, strict=True))


def stages(of):
    return lambda a, b: sum(of(x, y) for x, y in zip(a, b, strict=True))


def hinge(real, fake):
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def gradient(loss, weight):
    return torch.autograd.grad(loss, weight, retain_graph=True)[0]


def largest(loss, weight):
    return gradient(loss, weight).abs().max()


def adaptive(rec, adv, weight):
    return (gradient(rec, weight).norm() / (gradient(adv, weight).norm() + 1e-6)).detach()


def forgets_to_retain(rec, adv, weight):
    return torch.autograd.grad(rec, weight)[0].norm() / gradient(adv, weight).norm()


def forgets_to_detach(rec, adv, weight):
    return adaptive(rec, adv, weight) * (rec / rec.detach())


def test_solutions_pass():
    exercises.check_linear_copy(linear_copy)
    exercises.check_linear_copy(by_svd)
    exercises.check_mean_weight(lambda w, pixels, latents: w * latents / pixels)
    exercises.check_perceptual(perceptual)
    exercises.check_perceptual(stages(lambda x, y: 2 - 2 * F.cosine_similarity(x, y, dim=1).mean()))
    exercises.check_hinge(hinge)
    exercises.check_hinge(lambda r, f: 0.5 * ((1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean()))
    exercises.check_adaptive_weight(adaptive)


WRONG = [
    ("linear_copy", "vary least", lambda rows, c: linear_copy(rows, c, order=(1,))),
    ("linear_copy", "isn't added", lambda rows, c: linear_copy(rows, c, back=False)),
    ("linear_copy", "isn't subtracted first", uncentred),
    ("linear_copy", "aren't centred", lambda rows, c: linear_copy(rows, c, centre=False, back=False)),
    ("linear_copy", "wasn't subtracted", lambda rows, c: linear_copy(rows, c, centre=False)),
    ("linear_copy", "c numbers", lambda rows, c: linear_copy(rows, c, back=False, decode=False)),
    ("linear_copy", "None", lambda rows, c: None),
    ("mean_weight", "wrong way round", lambda w, pixels, latents: w * pixels / latents),
    ("mean_weight", "pixels only", lambda w, pixels, latents: w / pixels),
    ("mean_weight", "latents only", lambda w, pixels, latents: w * latents),
    ("mean_weight", "divided by the latents", lambda w, pixels, latents: w / latents),
    ("mean_weight", "unchanged", lambda w, pixels, latents: w),
    ("perceptual", "length one", stages(lambda x, y: (x - y).square().sum(1).mean())),
    ("perceptual", "mean over channels", stages(lambda x, y: (unit(x) - unit(y)).square().mean())),
    ("perceptual", "sum over positions", stages(lambda x, y: (unit(x) - unit(y)).square().sum())),
    ("perceptual", "not the last axis", stages(
        lambda x, y: (F.normalize(x, dim=-1) - F.normalize(y, dim=-1)).square().sum(1).mean())),
    ("perceptual", "isn't squared", stages(lambda x, y: (unit(x) - unit(y)).abs().sum(1).mean())),
    ("perceptual", "root", stages(lambda x, y: (unit(x) - unit(y)).norm(dim=1).mean())),
    ("perceptual", "averaged", lambda a, b: perceptual(a, b) / len(a)),
    ("perceptual", "should be", lambda a, b: perceptual(a[:1], b[:1])),
    ("hinge", "changed places", lambda real, fake: hinge(fake, real)),
    ("hinge", "1/2", lambda real, fake: 2 * hinge(real, fake)),
    ("hinge", "relu", lambda real, fake: ((1 - real).mean() + (1 + fake).mean()) / 2),
    ("hinge", "margin", lambda real, fake: (F.relu(-real).mean() + F.relu(fake).mean()) / 2),
    ("hinge", "each score", lambda real, fake: (F.relu(1 - real.mean()) + F.relu(1 + fake.mean())) / 2),
    ("hinge", "real side", lambda real, fake: F.relu(1 - real).mean() / 2),
    ("hinge", "all patches", lambda real, fake: (F.relu(1 - real) + F.relu(1 + fake)) / 2),
    ("adaptive_weight", "upside down", lambda rec, adv, w: adaptive(adv, rec, w)),
    ("adaptive_weight", "ratio of the losses", lambda rec, adv, w: rec / adv),
    ("adaptive_weight", "squared", lambda rec, adv, w: adaptive(rec, adv, w)**2),
    ("adaptive_weight", "largest", lambda rec, adv, w: largest(rec, w) / largest(adv, w)),
    ("adaptive_weight", "sums", lambda rec, adv, w: gradient(rec, w).sum() / gradient(adv, w).sum()),
    ("adaptive_weight", "retain_graph", forgets_to_retain),
    ("adaptive_weight", "detach", forgets_to_detach),
    ("adaptive_weight", "float", lambda rec, adv, w: adaptive(rec, adv, w).item()),
]


@pytest.mark.parametrize("name, said, answer", WRONG)
def test_wrong_answers_are_told_the_cause(name, said, answer):
    with pytest.raises(AssertionError, match=said):
        getattr(exercises, f"check_{name}")(answer)
