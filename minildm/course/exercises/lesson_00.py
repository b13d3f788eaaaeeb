"""The checks of lesson 00 but for its loop: bytes, PSNR, the error of a guess."""

import torch

from minildm.course.exercises.fakes import randn, warped
from minildm.course.exercises.harness import check
from minildm.diffusion import schedules
from minildm.evaluation import metrics
from minildm.images import to_uint8 as package_to_uint8


def to_uint8(x):
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


@check(reference=to_uint8, forbidden=[package_to_uint8])
def check_to_uint8(answer):
    for shape in (1, 1, 4, 6), (3, 2, 5, 7):
        count = torch.Size(shape).numel()
        # no fraction near 1/2: two right formulas may round it to two bytes
        fraction = 0.15 * (torch.arange(count) % 6) - 0.4
        grey = (torch.linspace(-30, 290, count).round() + fraction).reshape(shape)
        x = grey / 127.5 - 1
        want = grey.round().clamp(0, 255).byte()
        answer.case((x,), want, {
            "255 + 1 is 0 in uint8, so white turns black: clamp first": grey.round().long().byte(),
            "the fraction was cut off: round": grey.clamp(0, 255).byte(),
            "-1 is black, not grey: add 1 first":
                (x * 127.5).round().clamp(0, 255).byte(),
            "the range is 2 wide: times 127.5":
                (2 * grey).round().clamp(0, 255).byte(),
            "black is 0, not 1: the range is 0 to 255": want.clamp(min=1),
            "the pictures go from -1 to 1, not from 0 to 1":
                (x * 255).round().clamp(0, 255).byte(),
        }, tol=0)


@check(reference=metrics.psnr)
def check_psnr(answer):
    # grey and in channels; the values stay inside (-1, 1), so the peak can't be taken from them
    for shape in (4, 1, 5, 6), (3, 2, 7, 4):
        # each picture has an error of its own
        share = torch.linspace(0.8, 0.2, shape[0]).reshape(-1, 1, 1, 1)
        a = randn(*shape).tanh() * share
        b = randn(*shape, seed=1).tanh() * share
        error = a - b
        mse = error.square().mean((1, 2, 3))
        sums = error.square().sum((1, 2, 3))
        signal = a.square().mean((1, 2, 3))

        def decibel(ratio):
            return (10 * ratio.log10()).mean()

        answer.case((a, b), decibel(4 / mse), {
            "the peak is 2, from -1 to 1, and it is squared": decibel(1 / mse),
            "the peak isn't squared": decibel(2 / mse),
            "the peak is 2 here, not 255": decibel(255**2 / mse),
            "base 10": (10 * (4 / mse).log()).mean(),
            "the logarithm has base 10, not 2": (10 * (4 / mse).log2()).mean(),
            "the sign is wrong: a smaller error has a larger PSNR": decibel(mse / 4),
            "10, not 20: mse is a square already": 2 * decibel(4 / mse),
            "mse is a mean over the values, not a sum": decibel(4 / sums),
            "a root was taken: mse stays a square": decibel(4 / mse.sqrt()),
            "errors are squared, not absolute":
                decibel(4 / error.abs().mean((1, 2, 3))),
            "the peak is the range of all pictures, not the signal's own power":
                decibel(signal / mse),
            "the errors were averaged first: the mean of the pictures' PSNRs":
                decibel(4 / mse.mean()),
            "the sum over the pictures: their mean": shape[0] * decibel(4 / mse),
        }, where=f"pictures of shape {shape}")


def guess_error(denoise, alpha, sigma, data, noise, t):
    x = alpha(t) * data + sigma(t) * noise
    x0 = denoise(x, t)
    return (x0 - data).square().mean()


def wave(x, t):
    """A fake denoiser that depends on x, not linearly, and on t."""
    return torch.sin(x) * (0.3 + t) + 0.2 * x.flip(-1)


@check(reference=guess_error)
def check_guess_error(answer):
    # the odd schedule first: on it alpha is not 1 - sigma, and sigma is not t
    for name, (alpha, sigma), t, shape in (("an odd one", warped, 0.61, (3, 2, 5, 4)),
                                           ("flow", schedules.flow, 0.3, (4, 1, 3, 5))):
        data, noise, t = randn(*shape), randn(*shape, seed=1), torch.tensor(t)
        x = alpha(t) * data + sigma(t) * noise
        error = wave(x, t) - data
        swapped = sigma(t) * data + alpha(t) * noise
        answer.case((wave, alpha, sigma, data, noise, t), error.square().mean(), {
            "the guess is for the clean picture: compare it with data, not with x":
                (wave(x, t) - x).square().mean(),
            "the guess is for the clean picture: compare it with data, not with the noise":
                (wave(x, t) - noise).square().mean(),
            "x itself is not the guess: ask denoise": (x - data).square().mean(),
            "denoise must see x, not the clean data": (wave(data, t) - data).square().mean(),
            "denoise must see x, not the noise alone": (wave(noise, t) - data).square().mean(),
            "alpha multiplies the data, sigma the noise":
                (wave(swapped, t) - data).square().mean(),
            "the data must be multiplied by alpha(t)":
                (wave(data + sigma(t) * noise, t) - data).square().mean(),
            "the noise must be multiplied by sigma(t)":
                (wave(alpha(t) * data + noise, t) - data).square().mean(),
            "alpha and sigma are given: they are not always 1 - t and t":
                (wave((1 - t) * data + t * noise, t) - data).square().mean(),
            "alpha and sigma are functions of t: sigma is not always 1 - alpha":
                (wave(alpha(t) * data + (1 - alpha(t)) * noise, t) - data).square().mean(),
            "errors are squared: a mean of signed errors lets them cancel": error.mean(),
            "errors are squared, not absolute": error.abs().mean(),
            "the mean of the squares, without a root": error.square().mean().sqrt(),
            "a mean over all values, not a sum": error.square().sum(),
            "a mean over the pictures too, not their sum": error.square().mean() * shape[0],
        }, where=f"schedule: {name}")
