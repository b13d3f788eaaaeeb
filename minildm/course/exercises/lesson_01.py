"""The checks of lesson 01 on the VAE's parts: network, sample, KL divergence, loss."""

import torch
import torch.nn.functional as F
from torch import nn

from minildm.course.exercises.answer import Answer, compare_gradients, copy_weights
from minildm.course.exercises.compare import compare, describe, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.nn.vae import Gaussian


class VAE(nn.Module):
    """Two convolutions down, two up, with `latents` numbers between them."""

    def __init__(self, latents, width=16):
        super().__init__()
        self.down1 = nn.Conv2d(1, width, 6, stride=4, padding=1)
        self.down2 = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.to_gaussian = nn.Linear(32 * width, 2 * latents)
        self.from_latent = nn.Linear(latents, 32 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1)
        self.up2 = nn.ConvTranspose2d(width, 1, 6, stride=4, padding=1)

    def encode(self, images):
        h = F.silu(self.down1(images))                             # (B, width, 8, 8)
        h = F.silu(self.down2(h))                                  # (B, 2 width, 4, 4)
        mean, logvar = self.to_gaussian(h.flatten(1)).chunk(2, dim=1)
        return mean, logvar

    def decode(self, z):
        h = F.silu(self.from_latent(z))
        h = h.unflatten(1, (-1, 4, 4))                             # (B, 2 width, 4, 4)
        h = F.silu(self.up1(h))
        return self.up2(h)


@check(reference=VAE)
def check_VAE(answer):
    # widths and numbers of latents that the lesson does not have
    for latents, width in ((5, 3), (2, 4)):
        wanted = VAE(latents, width)
        with torch.no_grad():
            for i, weight in enumerate(wanted.parameters()):
                # large enough that a nonlinearity left out is seen
                weight.copy_(randn(*weight.shape, seed=i) / weight[0].numel()**0.5 * 2)
        model = answer(latents, width)
        if not isinstance(model, nn.Module):
            fail(f"hand over the class: this made {describe(model)}")
        copy_weights(model, wanted)
        judge_encode(model, wanted, randn(3, 1, 32, 32))
        check_decode(model, wanted, randn(3, latents, seed=1))


def judge_encode(model, wanted, images):
    got = Answer(model.encode, ["images"])(images)
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        fail(f"encode returns mean and logvar, two tensors: this is {describe(got)}")
    mean, logvar = wanted.encode(images)
    # what encoders with a SiLU too few or too many give
    bare = wanted.to_gaussian(wanted.down2(wanted.down1(images)).flatten(1)).chunk(2, dim=1)
    once = wanted.to_gaussian(wanted.down2(F.silu(wanted.down1(images))).flatten(1))
    whole = F.silu(torch.cat([mean, logvar], dim=1)).chunk(2, dim=1)
    pairs = torch.cat([mean, logvar], dim=1)
    compare(got[0], mean, {
        "encode gives logvar first: mean comes first": logvar,
        "encode has no SiLU after the convolutions": bare[0],
        "encode has no SiLU after down2": once.chunk(2, dim=1)[0],
        "no SiLU after the last layer: a mean may be any number": whole[0],
        "mean is the first half of the numbers, not every second": pairs[:, ::2],
    }, where="the mean that encode returns")
    compare(got[1], logvar, {
        "logvar is the number itself, without exp": logvar.exp(),
        "encode returns log of the variance, not the standard deviation": (logvar / 2).exp(),
        "logvar is the other half of the numbers": mean,
    }, where="the logvar that encode returns")


def check_decode(model, wanted, z):
    got = Answer(model.decode, ["z"])(z)
    want = wanted.decode(z)
    square = wanted.from_latent(z).unflatten(1, (-1, 4, 4))
    compare(got, want, {
        "decode has no SiLU after from_latent": wanted.up2(F.silu(wanted.up1(square))),
        "decode has no SiLU after up1": wanted.up2(wanted.up1(F.silu(square))),
        "decode has no SiLU at all": wanted.up2(wanted.up1(square)),
        "no SiLU after the last layer: black is -1": F.silu(want),
        "no tanh at the end: the loss keeps pictures near [-1, 1]": want.tanh(),
        "no sigmoid at the end: black is -1, not 0": want.sigmoid(),
    }, where="what decode returns")


def reparameterise(mean, logvar, noise):
    return mean + (0.5 * logvar).exp() * noise


@check(reference=reparameterise, forbidden=[Gaussian])
def check_reparameterise(answer):
    # vectors, as in the lesson, and feature maps, as in a real VAE
    for shape in (3, 5), (2, 4, 3, 7):
        mean = randn(*shape).requires_grad_()
        logvar = randn(*shape, seed=1).requires_grad_()
        noise = randn(*shape, seed=2)
        std = (logvar / 2).exp()
        want = mean + std * noise
        got = answer.case((mean, logvar, noise), want, {
            "exp(logvar) is the variance: std is its root": mean + logvar.exp() * noise,
            "logvar is a logarithm: exp of half of it": mean + logvar / 2 * noise,
            "logvar is not the standard deviation: exp of half of it": mean + logvar * noise,
            "logvar is log(std^2), and std grows with it: the sign is wrong": mean + noise / std,
            "half of logvar, not twice": mean + (2 * logvar).exp() * noise,
            "the noise isn't multiplied by std": mean + noise,
            "the noise is added to std": mean + std + noise,
            "the noise is missing": mean + std,
            "the mean is missing": std * noise,
            "the mean isn't scaled by std: the noise alone is": (mean + noise) * std,
            "the noise is subtracted": mean - std * noise,
            "std and mean have changed places": std + mean * noise,
        }, where=f"shape {shape}")
        compare_gradients(got, want, mean=mean, logvar=logvar)


def kl(mean, logvar):
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar)


@check(reference=kl, forbidden=[Gaussian])
def check_kl(answer):
    for shape in (3, 5), (2, 3, 4, 7):
        mean = randn(*shape).requires_grad_()
        # wide enough to tell exp(logvar), its root and 1 + logvar apart
        logvar = (1.5 * randn(*shape, seed=1)).requires_grad_()
        want = kl(mean, logvar)
        square, var, std = mean.square(), logvar.exp(), (logvar / 2).exp()
        got = answer.case((mean, logvar), want, {
            "the factor 1/2 is missing": 2 * want,
            "the sign: a divergence is never negative": -want,
            "the standard deviation stands in the variance's place":
                (square + std - 1 - logvar) / 2,
            "logvar is a logarithm, exp(logvar) the variance": (square + logvar - 1 - logvar) / 2,
            "the mean isn't squared": (mean + var - 1 - logvar) / 2,
            "the mean is missing": (var - 1 - logvar) / 2,
            "log of the variance is logvar, half of it is log of std":
                (square + var - 1 - logvar / 2) / 2,
            "the -1 is missing: of N(0, 1) itself it must be 0": want + 0.5,
            "+1 in place of -1: of N(0, 1) itself it must be 0": want + 1,
            "-logvar is missing": (square + var - 1) / 2,
            "+logvar in place of -logvar": want + logvar,
            "1/2 is for all terms: brackets": square / 2 + var - 1 - logvar,
            "the other way round, KL(N(0, 1) || q)":
                ((1 + square) / var - 1 + logvar) / 2,
            "one for each value, not a sum": want.sum(),
            "one for each value, not their mean": want.mean(),
        }, where=f"shape {shape}")
        compare_gradients(got, want, mean=mean, logvar=logvar)


def vae_loss(images, copies, mean, logvar, kl_weight):
    error = (copies - images).square().mean()
    return error + kl_weight * kl(mean, logvar).mean()


@check(reference=vae_loss)
def check_vae_loss(answer):
    # means and sums differ by other factors in each case; a weight below 1 and one above
    for shape, latent, weight in ((5, 1, 6, 4), 3, 0.1), ((2, 3, 7, 5), 11, 2.5):
        x = randn(*shape)
        y = randn(*shape, seed=1).requires_grad_()
        mean = randn(shape[0], latent, seed=2).requires_grad_()
        logvar = randn(shape[0], latent, seed=3).requires_grad_()
        want = vae_loss(x, y, mean, logvar, weight)
        likely = likely_losses(x, y, mean, logvar, weight)
        got = answer.case((x, y, mean, logvar, weight), want, likely,
                          where=f"shape {shape}, weight {weight}")
        compare_gradients(got, want, copies=y, mean=mean, logvar=logvar)


def likely_losses(x, y, mean, logvar, weight):
    square = (x - y).square()
    error, latents = square.mean(), kl(mean, logvar)
    term = weight * latents.mean()
    return {
        "sums: a larger picture would weigh more. Means": square.sum() + weight * latents.sum(),
        "the KL is summed over a picture's latents": error + weight * latents.sum(1).mean(),
        "the KL is summed: its mean": error + weight * latents.sum(),
        "the errors are summed: their mean": square.sum() + term,
        "the errors are summed over a picture: their mean": square.sum((1, 2, 3)).mean() + term,
        "the KL isn't weighted": error + latents.mean(),
        "the weight is for the KL alone": weight * (error + latents.mean()),
        "the weight is for the KL, not for the errors": weight * error + latents.mean(),
        "the KL is added, not subtracted": error - term,
        "the error is squared, not absolute": square.sqrt().mean() + term,
        "the mean of squares, without a root": error.sqrt() + term,
        "the errors aren't squared": (y - x).mean() + term,
        "the error is squared once, before the mean": (y - x).mean().square() + term,
        "the factor 1/2 belongs to the KL alone": error / 2 + term,
        "mean and logvar changed places": error + weight * kl(logvar, mean).mean(),
        "the KL is missing": error,
        "the error is missing": term,
    }
