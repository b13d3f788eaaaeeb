"""The checks of lesson 08's exact world: the density of blobs, and their denoiser."""

import torch

from minildm.course.exercises.fakes import randn, warped
from minildm.course.exercises.harness import check
from minildm.diffusion import schedules

TWO_PI = 2 * torch.pi


def log_density(x, t, schedule, centres, width):
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    variance = alpha**2 * width**2 + sigma**2
    distance = (x[:, None] - alpha * centres).square().sum(2)              # (N, K)
    log_each = -distance / (2 * variance) - x.shape[1] / 2 * torch.log(TWO_PI * variance)
    return log_each.logsumexp(1) - torch.tensor(len(centres)).log()


def exact_x0(x, t, schedule, centres, width):
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    variance = alpha**2 * width**2 + sigma**2
    distance = (x[:, None] - alpha * centres).square().sum(2)              # (N, K)
    chances = (-distance / (2 * variance)).softmax(1)
    middle = chances @ centres
    return middle + alpha * width**2 / variance * (x - alpha * middle)


# schedule, time, points (N, D), centres (K, D), width
BLOBS = [
    (schedules.flow, 0.4, (6, 2), (5, 2), 0.3),
    (warped, 0.37, (4, 3), (7, 3), 0.6),
    (schedules.cosine, 0.8, (5, 2), (3, 2), 1.2),
]


def blobs():
    """Inputs of both functions, and the parts of a right answer that wrong ones are made of."""
    for schedule, t, points, centres, width in BLOBS:
        t = torch.tensor(t)
        x, middles = 1.5 * randn(*points), 2 * randn(*centres, seed=1)
        yield (x, t, schedule, middles, width), schedule.alpha(t), schedule.sigma(t)


def logs(x, centres, variance, scale, half=0.5):
    """log of each blob's density at each point, (N, K); `scale` multiplies the centres."""
    distance = (x[:, None] - scale * centres).square().sum(2)
    return -half * distance / variance - x.shape[1] / 2 * torch.log(TWO_PI * variance)


@check(reference=log_density)
def check_log_density(answer):
    for inputs, alpha, sigma in blobs():
        x, _, _, centres, width = inputs
        variance = alpha**2 * width**2 + sigma**2
        each, share = logs(x, centres, variance, alpha), torch.tensor(len(centres)).log()
        norm = torch.log(TWO_PI * variance)
        want = each.logsumexp(1) - share

        def total(variance=variance, scale=alpha, half=0.5, x=x, centres=centres, share=share):
            return logs(x, centres, variance, scale, half).logsumexp(1) - share

        answer.case(inputs, want, {
            "each blob has a share of 1 / K: log K is missing": each.logsumexp(1),
            "logarithms are not summed: their exponentials are": each.sum(1) - share,
            "the mean of logarithms is not the logarithm of the mean": each.mean(1),
            "the nearest blob is not all: sum the densities": each.amax(1) - share,
            "that is the density: its logarithm is wanted": each.exp().mean(1),
            "one number for each point: sum over the blobs": each.logsumexp(0) - share,
            "the normalisation, log(2 pi variance), is missing": want + x.shape[1] / 2 * norm,
            "the normalisation is that of one dimension": want + (x.shape[1] - 1) / 2 * norm,
            "the data's own width is in the variance, too": total(sigma**2),
            "the width shrinks with alpha": total(width**2 + sigma**2),
            "alpha is squared in the variance": total(alpha * width**2 + sigma**2),
            "a variance is the square of a width": total(alpha**2 * width + sigma**2),
            "a variance is the square of sigma": total(alpha**2 * width**2 + sigma),
            "variances add, standard deviations do not": total((alpha * width + sigma)**2),
            "the blobs' centres shrink: alpha times the centre": total(scale=1.0),
            "the factor 1/2 is missing": total(half=1.0),
            "the exponent is negative": total(half=-0.5),
        }, where=f"{len(centres)} blobs in {x.shape[1]} dimensions")


@check(reference=exact_x0)
def check_exact_x0(answer):
    for inputs, alpha, sigma in blobs():
        x, _, _, centres, width = inputs
        variance = alpha**2 * width**2 + sigma**2

        def chances(variance=variance, scale=alpha, half=0.5, x=x, centres=centres):
            return logs(x, centres, torch.as_tensor(variance), scale, half).softmax(1)

        def guess(chances, pull=alpha * width**2 / variance, scale=alpha, x=x, centres=centres):
            middle = chances @ centres
            return middle + pull * (x - scale * middle)

        right = chances()
        nearest = torch.nn.functional.one_hot(right.argmax(1), len(centres)).float()
        over_points = logs(x, centres, variance, alpha).softmax(0)
        answer.case(inputs, guess(right), {
            "that is the mean of the centres: within a blob, x says more": right @ centres,
            "all blobs count alike: weigh them by their chances":
                guess(torch.full_like(right, 1 / len(centres))),
            "the nearest blob is not all: the mean over the blobs is wanted": guess(nearest),
            "softmax is over the blobs, for each point": guess(over_points),
            "the chances know the noise alone: the blob's width counts as well":
                guess(chances(sigma**2)),
            "the blob's width shrinks with alpha": guess(chances(width**2 + sigma**2)),
            "the blobs' centres shrink: alpha times the centre": guess(chances(scale=1.0)),
            "the factor 1/2 is missing": guess(chances(half=1.0)),
            "the nearest blob is the likeliest: the exponent is negative":
                guess(chances(half=-0.5)),
            "what is left over, x - alpha mu, is pulled by alpha width^2 / variance: alpha is "
            "missing": guess(right, pull=width**2 / variance),
            "the pull is alpha width^2 / variance: not alpha^2":
                guess(right, pull=alpha**2 * width**2 / variance),
            "the width is squared": guess(right, pull=alpha * width / variance),
            "x is compared with alpha times the centre": guess(right, scale=1.0),
            "that is the answer for sigma 0: the variance has sigma^2 in it":
                guess(right, pull=1 / alpha),
            "that is the noise, not the data": (x - alpha * guess(right)) / sigma,
        }, where=f"{len(centres)} blobs in {x.shape[1]} dimensions")
