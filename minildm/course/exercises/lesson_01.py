"""The checks of lesson 01."""

import torch
import torch.nn.functional as F

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.nn.vae import Gaussian


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
    error = copies - images
    pixels = error.abs().mean() + error.square().mean()
    return pixels + kl_weight * kl(mean, logvar).mean()


@check(reference=vae_loss)
def check_vae_loss(answer):
    # means and sums differ by other factors in each case; a weight below 1 and one above
    for shape, latent, weight in ((5, 1, 6, 4), 3, 0.1), ((2, 3, 7, 5), 11, 2.5):
        x = randn(*shape)
        y = randn(*shape, seed=1).requires_grad_()
        mean = randn(shape[0], latent, seed=2).requires_grad_()
        logvar = randn(shape[0], latent, seed=3).requires_grad_()
        want = vae_loss(x, y, mean, logvar, weight)
        l1 = (x - y).abs()
        l2 = l1.square()
        pixels = l1.mean() + l2.mean()
        of_latents = kl(mean, logvar)
        term = weight * of_latents.mean()
        got = answer.case((x, y, mean, logvar, weight), want, {
            "sums: a larger picture would weigh more. Means":
                l1.sum() + l2.sum() + weight * of_latents.sum(),
            "the KL is summed over a picture's latents":
                pixels + weight * of_latents.sum(1).mean(),
            "the KL is summed: its mean": pixels + weight * of_latents.sum(),
            "the errors are summed: their means": l1.sum() + l2.sum() + term,
            "the errors are summed over a picture: their means":
                (l1 + l2).sum((1, 2, 3)).mean() + term,
            "the KL isn't weighted": pixels + of_latents.mean(),
            "the weight is for the KL alone": weight * pixels + weight * of_latents.mean(),
            "the weight is for the KL, not for the errors": weight * pixels + of_latents.mean(),
            "the KL is added, not subtracted": pixels - term,
            "L1 is missing": l2.mean() + term,
            "L2 is missing": l1.mean() + term,
            "L1 and L2 are added, not averaged": pixels / 2 + term,
            "L2 is squared errors' mean, without a root":
                l1.mean() + l2.mean().sqrt() + term,
            "L1 is of absolute errors":
                (y - x).mean() + l2.mean() + term,
            "mean and logvar changed places":
                pixels + weight * kl(logvar, mean).mean(),
            "the KL is missing": pixels,
            "the errors are missing": term,
        }, where=f"shape {shape}, weight {weight}")
        compare_gradients(got, want, copies=y, mean=mean, logvar=logvar)


EACH_CHANNEL = 0, 2, 3


def normalise(z):
    mean = z.mean(EACH_CHANNEL, keepdim=True)
    std = z.std(EACH_CHANNEL, keepdim=True)
    return (z - mean) / std


@check(reference=normalise)
def check_normalise(answer):
    for shape, centre in ((5, 4, 3, 2), 1.0), ((3, 2, 7, 5), -6.0):
        channels = shape[1]
        # channels that differ in spread, or one number for all would do
        spread = torch.linspace(0.3, 5, channels)
        z = (randn(*shape) + centre) * spread[:, None, None]
        mean = z.mean(EACH_CHANNEL, keepdim=True)
        std = z.std(EACH_CHANNEL, keepdim=True)
        # of n numbers or n - 1: both are a standard deviation
        biased = z.std(EACH_CHANNEL, keepdim=True, correction=0)
        centred = z - mean
        answer.case((z,), centred / std, {
            "the mean isn't subtracted": z / std,
            "divided by the variance: by its root": centred / std.square(),
            "std isn't divided by: it multiplies": centred * std,
            "the mean is subtracted, the standard deviation isn't divided by": centred,
            "one number for all channels: each has its own": (z - z.mean()) / z.std(),
            "each picture by itself: over the batch too": F.instance_norm(z),
            "each position by itself: over h and w too":
                (z - z.mean(0)) / z.std(0),
            "each pixel over its channels: each channel has its own":
                (z - z.mean(1, True)) / z.std(1, keepdim=True),
            "over all but the batch: each channel has its own": F.layer_norm(z, z.shape[1:]),
            "brackets: subtract, then divide": z - mean / std,
            "the mean is added": (z + mean) / std,
            "the standard deviation of one number for all channels": centred / z.std(),
            "the mean of one number for all channels": (z - z.mean()) / std,
            "a mean of squares is no variance: subtract the mean first":
                centred / z.square().mean(EACH_CHANNEL, True).sqrt(),
        }, also=[centred / biased], where=f"shape {shape}")
