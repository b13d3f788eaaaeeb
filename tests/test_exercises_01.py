"""Lesson 01's checks: the solution passes; the wrong answers that students give are told what is wrong."""

import pytest
import torch

from minildm import exercises
from minildm.nn.vae import Gaussian


def loss(images, decoded, mean, logvar, kl_weight):
    l1, l2 = (decoded - images).abs().mean(), (decoded - images).square().mean()
    return l1 + l2 + kl_weight * kl(mean, logvar).mean()


def kl(mean, logvar):
    return Gaussian(mean, logvar).kl()


def l1(x, y):
    return (x - y).abs().mean()


def l2(x, y):
    return (x - y).square().mean()


EACH = 0, 2, 3


def test_solutions_pass():
    exercises.check_reparameterise(lambda mean, logvar, noise: mean + (0.5 * logvar).exp() * noise)
    exercises.check_kl(lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v))
    exercises.check_kl(lambda m, v: -0.5 * (1 + v - m.pow(2) - v.exp()))
    exercises.check_vae_loss(loss)
    exercises.check_normalise(lambda z: (z - z.mean(EACH, True)) / z.std(EACH, keepdim=True))
    exercises.check_normalise(lambda z: (z - z.mean(EACH)[:, None, None]) / z.std(EACH, False)[:, None, None])


WRONG = [
    ("reparameterise", "variance", lambda m, v, n: m + v.exp() * n),
    ("reparameterise", "logarithm", lambda m, v, n: m + 0.5 * v * n),
    ("reparameterise", "multiplied by std", lambda m, v, n: m + n),
    ("reparameterise", "changed places", lambda m, v, n: (0.5 * v).exp() + m * n),
    ("reparameterise", "should be", lambda m, v, n: m + (0.5 * v).exp() * torch.ones_like(n)),
    ("reparameterise", "reaches logvar", lambda m, v, n: m + (0.5 * v).exp().detach() * n),
    ("reparameterise", "reaches mean", lambda m, v, n: (m + (0.5 * v).exp() * n).detach()),
    ("kl", "1/2", lambda m, v: m**2 + v.exp() - 1 - v),
    ("kl", "never negative", lambda m, v: 0.5 * (1 + v - m**2 - v.exp())),
    ("kl", "standard deviation", lambda m, v: 0.5 * (m**2 + (v / 2).exp() - 1 - v)),
    ("kl", "isn't squared", lambda m, v: 0.5 * (m + v.exp() - 1 - v)),
    ("kl", "sum", lambda m, v: kl(m, v).sum()),
    ("kl", "their mean", lambda m, v: kl(m, v).mean()),
    ("kl", "shape", lambda m, v: kl(m, v).sum(1)),
    ("kl", "NaN", lambda m, v: 0.5 * (m**2 + v - 1 - v.log())),                 # logvar taken for a variance
    ("vae_loss", "Means", lambda x, y, m, v, w: ((x - y).abs() + (x - y)**2).sum() + w * kl(m, v).sum()),
    ("vae_loss", "latents", lambda x, y, m, v, w: l1(x, y) + l2(x, y) + w * kl(m, v).sum(1).mean()),
    ("vae_loss", "isn't weighted", lambda x, y, m, v, w: loss(x, y, m, v, 1)),
    ("vae_loss", "L1", lambda x, y, m, v, w: l2(x, y) + w * kl(m, v).mean()),
    ("vae_loss", "KL is missing", lambda x, y, m, v, w: loss(x, y, m, v, 0)),
    ("vae_loss", "differs", lambda x, y, m, v, w: loss(x, y, m, v, -w)),
    ("normalise", "subtracted", lambda z: z / z.std(EACH, keepdim=True)),
    ("normalise", "variance", lambda z: (z - z.mean(EACH, True)) / z.var(EACH, keepdim=True)),
    ("normalise", "all channels", lambda z: (z - z.mean()) / z.std()),
    ("normalise", "each picture", lambda z: torch.nn.functional.instance_norm(z)),
    ("normalise", "each position", lambda z: (z - z.mean(0)) / z.std(0)),
    ("normalise", "should be", lambda z: (z - z.mean(EACH, True)) / z.abs().amax(EACH, True)),
]


@pytest.mark.parametrize("name, said, answer", WRONG)
def test_wrong_answers_are_told_the_cause(name, said, answer):
    with pytest.raises(AssertionError, match=said):
        getattr(exercises, f"check_{name}")(answer)
