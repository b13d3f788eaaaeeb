"""The checks of lesson 01."""

import torch

from minildm.course.exercises.legacy import compare, fail, passed, randn
from minildm.nn.vae import Gaussian


def check_reparameterise(f):
    mean, logvar, noise = (randn(3, 4, seed=s).requires_grad_(s < 2) for s in range(3))
    got, name = f(mean, logvar, noise), "reparameterise"
    compare(name, got, mean + (logvar / 2).exp() * noise, {
        "exp(logvar) is the variance: std is its root": mean + logvar.exp() * noise,
        "logvar is a logarithm: exp of half of it": mean + logvar / 2 * noise,
        "the noise isn't multiplied by std": mean + noise,
        "std and mean have changed places": (logvar / 2).exp() + mean * noise})
    if got.requires_grad:
        got.sum().backward()
    for what, leaf in ("mean", mean), ("logvar", logvar):
        if leaf.grad is None:
            fail(name, f"right numbers, but no gradient reaches {what}: no detach(), no no_grad()")
    passed(name)


def check_kl(f):
    mean, logvar = randn(3, 4), randn(3, 4, seed=1)
    want, var = Gaussian(mean, logvar).kl(), logvar.exp()
    compare("kl", f(mean, logvar), want, {
        "the factor 1/2 is missing": 2 * want, "the sign: a divergence is never negative": -want,
        "the standard deviation stands in the variance's place": (mean**2 + var.sqrt() - 1 - logvar) / 2,
        "the mean isn't squared": (mean + var - 1 - logvar) / 2, "one for each value, not a sum": want.sum(),
        "one for each value, not their mean": want.mean()})
    passed("kl")


def check_vae_loss(f):
    (x, y), (mean, logvar) = randn(2, 5, 1, 6, 6), randn(2, 5, 3, seed=1)
    l1, l2, kl, w = (x - y).abs(), (x - y).square(), Gaussian(mean, logvar).kl(), 0.1
    compare("vae_loss", f(x, y, mean, logvar, w), l1.mean() + l2.mean() + w * kl.mean(), {
        "sums: a larger picture would weigh more. Means": l1.sum() + l2.sum() + w * kl.sum(),
        "the KL is summed over a picture's latents": l1.mean() + l2.mean() + w * kl.sum(1).mean(),
        "the KL is summed: its mean": l1.mean() + l2.mean() + w * kl.sum(),
        "the KL isn't weighted": l1.mean() + l2.mean() + kl.mean(),
        "L1 is missing": l2.mean() + w * kl.mean(), "L2 is missing": l1.mean() + w * kl.mean(),
        "the KL is missing": l1.mean() + l2.mean()})
    passed("vae_loss")


def check_normalise(f):
    z = (randn(64, 4, 3, 3) + 1) * torch.tensor([1, 3, 5, 0.5])[:, None, None]
    mean, std = (g((0, 2, 3), keepdim=True) for g in (z.mean, z.std))
    compare("normalise", f(z), (z - mean) / std, {
        "the mean isn't subtracted": z / std, "divided by the variance: by its root": (z - mean) / std**2,
        "one number for all channels: each has its own": (z - z.mean()) / z.std(),
        "each picture by itself: over the batch too": torch.nn.functional.instance_norm(z),
        "each position by itself: over h and w too": (z - z.mean(0)) / z.std(0),
        "brackets: subtract, then divide": z - mean / std}, tol=0.01)
    passed("normalise")
