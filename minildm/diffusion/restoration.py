"""Guess a picture from a measurement of it: y = A x + noise, with a denoiser that knows pictures.

By Bayes' rule p(x | y) ~ p(x) p(y | x). The prior p(x) is the trained model; nothing is trained
here. A picture is decode(z) of a latent z, so the score that draws from the posterior is
    grad log p(z_t | y) = grad log p(z_t) + grad log p(y | z_t)
and its second term needs all z that may become z_t. There are three ways round it:
  likelihood     p(y | z_t) taken at the denoiser's guess, its gradient as guidance (DPS)
  projected      the guess, corrected so that its picture is measured as y (DDNM), as a denoiser
  posterior      the guess as the middle of a Gaussian, from which z is drawn, given y; the draw is
                 noised to the next time (decoupled: DAPS, DiffPIR)
`consistent` ends all of them: what the measurement says of the pixels, beside what was drawn.
"""

from collections.abc import Callable

import torch

from minildm import MinildmError
from minildm.diffusion.operators import Operator, conjugate_gradients
from minildm.diffusion.samplers import Step, distinct, intervals, levels
from minildm.diffusion.schedules import Schedule, expand

EXACT = 60          # iterations of `consistent`: pictures of digits need a third of them


# ---- data consistency

def consistent(operator: Operator, picture, y, noise_sd: float, picture_sd: float):
    """The mean of x given y = A x + noise, if x was the picture up to an error of picture_sd.

    Both errors are white Gaussians. That is least squares, and one linear system:
        (A'A / noise_sd^2 + 1 / picture_sd^2) d = A'(y - A picture) / noise_sd^2.
    Without noise it is picture + A+(y - A picture), (DDNM, eq. 10, arXiv:2212.00490).
    """
    missing = y - operator.apply(picture)
    if noise_sd == 0:
        if operator.inverse is None:
            raise MinildmError("no noise, and an operator without inverse", "consistent",
                               "pass a noise_sd above 0, or give the operator its pseudo-inverse")
        return picture + operator.inverse(missing)
    # multiplied by noise_sd^2, so that no number is large
    ratio = (noise_sd / picture_sd) ** 2

    def matrix(d):
        return operator.transpose(operator.apply(d)) + ratio * d

    return picture + conjugate_gradients(matrix, operator.transpose(missing), EXACT)


def remaining_error(operator: Operator, pictures, noise_sd: float, picture_sd: float,
                    draw: Callable = torch.randn_like):
    """Draw the error that `consistent` leaves: a picture plus such a draw is a draw of x given y.

    pictures give the shape. The trick is that of `posterior`: solve with noise in the place of both
    things that are known. `draw(like)` is asked for noise of a tensor's shape.
    """
    noise = noise_sd * draw(operator.apply(pictures))
    return consistent(operator, picture_sd * draw(pictures), noise, noise_sd, picture_sd)


# ---- the gradient of log p(y | z_t), approximated

def likelihood(denoise: Callable, schedule: Schedule, decode: Callable, operator: Operator, y,
               noise_sd: float, spread: float = 0.0) -> Callable:
    """log p(y | x_t) at the denoiser's guess, but for a constant: -> log_prob(x, t), (B,).

    (DPS: Chung et al. 2023, eq. 11, arXiv:2209.14687.) x_t's data is taken to be its mean. With a
    spread it has a variance as well, spread^2 sigma^2 / (alpha^2 + sigma^2) per number of y (in the
    manner of PiGDM: Song et al. 2023, eq. 7). Without, the gradient is too long wherever the guess
    is less sure than the measurement. `guidance.classifier_guidance` adds it to the score.
    """
    def log_prob(x, t):
        at = expand(t, x)
        alpha, sigma = schedule.alpha(at), schedule.sigma(at)
        unsure = spread**2 * sigma**2 / (alpha**2 + sigma**2)
        missing = y - operator.apply(decode(denoise(x, t)))
        each = missing**2 / (2 * (noise_sd**2 + unsure))
        return -each.flatten(1).sum(1)

    return log_prob


# ---- the guess, corrected in pixels

def projected(denoise: Callable, encode: Callable, decode: Callable, operator: Operator, y,
              noise_sd: float, picture_sd: float) -> Callable:
    """A denoiser whose guesses are measured as y: decode, `consistent`, encode.

    (DDNM: Wang et al. 2023, algorithm 1, arXiv:2212.00490, whose denoiser works in pixels.) The
    encoder was trained on real pictures: what it makes of a corrected one is a rough answer.
    """
    def answer(x, t):
        drawn = decode(denoise(x, t))
        return encode(consistent(operator, drawn, y, noise_sd, picture_sd))

    return answer


# ---- the guess as a Gaussian, and a draw from it given y

def latents_given(decode: Callable, operator: Operator, y, target, guess, variance: float,
                  target_variance: float, iterations: int = 5):
    """The z of least |A decode(z) - y|^2 / variance + |z - target|^2 / target_variance.

    One step of Gauss and Newton: the decoder is taken as a line through the guess, J its slope,
        (J'A'A J / variance + 1 / target_variance) d
            = J'A'(y - A decode(guess)) / variance + (target - guess) / target_variance.
    """
    with torch.enable_grad():
        z = guess.detach().requires_grad_()
        picture = decode(z)
        # J'w is linear in w: its own gradient, with respect to w, is the product with J
        w = torch.zeros_like(picture, requires_grad=True)
        pulled, = torch.autograd.grad(picture, z, w, create_graph=True)

    def slope(d):
        return torch.autograd.grad(pulled, w, d, retain_graph=True)[0]

    def slope_back(d):
        return torch.autograd.grad(picture, z, d, retain_graph=True)[0]

    def matrix(d):
        measured = operator.transpose(operator.apply(slope(d)))
        return slope_back(measured) / variance + d / target_variance

    missing = y - operator.apply(picture.detach())
    right = slope_back(operator.transpose(missing)) / variance + (target - guess) / target_variance
    return guess + conjugate_gradients(matrix, right, iterations)


@torch.no_grad()
def posterior(denoise: Callable, schedule: Schedule, decode: Callable, operator: Operator, y, noise,
              ts, noise_sd: float, decoder_sd: float, iterations: int = 5,
              draw: Callable = torch.randn_like):
    """Draw latents given y, from noise: guess, draw the data given guess and y, noise again.

    (DAPS: Zhang et al. 2024, algorithm 1, arXiv:2407.01521, with its Langevin steps replaced.) What
    became x_t is taken to be Gaussian around the guess, of variance sigma^2 / (alpha^2 + sigma^2):
    that of data of variance 1. decode(z) misses a picture by decoder_sd. Such a Gaussian, given y,
    is drawn from exactly by solving for its mean with noise added to the guess and to y.
    `draw(like)` is asked for noise of a tensor's shape. Yields Steps; x0 is the draw.
    """
    x = noise
    variance = noise_sd**2 + operator.gain * decoder_sd**2
    for i, t, s in intervals(distinct(ts)):
        (a_t, sd_t), (a_s, sd_s) = levels(schedule, t, x), levels(schedule, s, x)
        guess = denoise(x, t)
        spread = sd_t**2 / (a_t**2 + sd_t**2)
        target = guess + spread.sqrt() * draw(guess)
        seen = y + variance**0.5 * draw(y)
        x0 = latents_given(decode, operator, seen, target, guess, variance, spread, iterations)
        x = a_s * x0 + sd_s * draw(x)
        yield Step(i, s, x, x0)
