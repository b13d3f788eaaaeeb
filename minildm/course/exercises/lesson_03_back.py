"""The checks of lesson 03's way back: who it was, one exact step, the latents' scale."""

import math

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from minildm.course.exercises.compare import fail
from minildm.course.exercises.fakes import randn, uniform, warped
from minildm.course.exercises.harness import check
from minildm.diffusion import schedules

# ---- who it was ----------------------------------------------------------------------------------

def posterior_weights(schedule, world, x, t):
    centres = schedule.alpha(t) * world.flatten(1)
    squared = torch.cdist(x.flatten(1), centres).square()
    return (-squared / (2 * schedule.sigma(t)**2)).softmax(1)


@check(reference=posterior_weights)
def check_posterior_weights(answer):
    cases = (warped, 0.6, (3, 2, 5), 4, 0.5), (schedules.flow, 0.45, (7,), 5, 1.5)
    for schedule, t, shape, number, size in cases:
        world = size * randn(number, *shape)
        weights_case(answer, schedule, torch.tensor(t), world, f"a world of {number}, data {shape}")
    far = 400 * randn(3, 6)
    x, t = 100 * randn(2, 6, seed=1), torch.tensor(0.1)
    want = posterior_weights(schedules.flow, far, x, t)
    answer.case((schedules.flow, far, x, t), want, where="data far apart")
    within_memory(answer)


def weights_case(answer, schedule, t, world, where):
    """One call of an answer, for three of the world's data with noise."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    x = alpha * world[:3] + sigma * randn(*world[:3].shape, seed=1)
    flat, rows = world.flatten(1), x.flatten(1)

    def weights(centres, variance, power=2):
        return (-torch.cdist(rows, centres)**power / (2 * variance)).softmax(1)

    want = weights(alpha * flat, sigma**2)
    products = torch.exp(-torch.cdist(rows, alpha * flat)**2 / (2 * sigma**2))
    answer.case((schedule, world, x, t), want, {
        "the weights of one x add up to 1: divide by their sum, or take a softmax": products,
        "each x has its own weights, of sum 1: the softmax runs over the world, axis 1":
            (-torch.cdist(rows, alpha * flat)**2 / (2 * sigma**2)).softmax(0),
        "the world's data is multiplied by alpha before it is compared": weights(flat, sigma**2),
        "the world's data is multiplied by alpha, not x divided by it: the noise would grow":
            (-torch.cdist(rows / alpha, flat)**2 / (2 * sigma**2)).softmax(1),
        "the distance is squared": weights(alpha * flat, sigma**2, power=1),
        "sigma^2, the variance, stands in the exponent, not sigma": weights(alpha * flat, sigma),
        "the noise's variance is missing: how sure one can be depends on it":
            weights(alpha * flat, 1),
        "the 2 of the Gaussian's exponent is missing": weights(alpha * flat, sigma**2 / 2),
        "the sign of the exponent is wrong: the farthest got most":
            weights(alpha * flat, -sigma**2),
        "alpha and sigma changed places": weights(sigma * flat, alpha**2),
        "the mean over pixels makes it far too unsure: sum the squares":
            weights(alpha * flat, sigma**2 * flat.shape[1]),
        "these are logarithms: weights are wanted": want.log(),
        "that is the best guess, the mean: the weights are wanted":
            (want @ flat).reshape(x.shape),
        "(K, B) is the other way round: a row for each x": want.T,
    }, where=where)


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor had that was made meanwhile."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numel = max(self.numel, result.numel())
        return result


def within_memory(answer):
    """Refuse an answer that makes a tensor of all differences, (B, K, D)."""
    world, x = randn(50, 300), randn(40, 300, seed=1)
    with Largest() as largest:
        answer(schedules.cosine, world, x, torch.tensor(0.5))
    if largest.numel >= 50 * 40 * 300:
        fail("right, but it makes a tensor (B, K, D) of all differences, which the lesson's "
             "pictures have no room for: torch.cdist, or |a|^2 - 2 a b + |b|^2")


# ---- one step back -------------------------------------------------------------------------------

def reverse_step(schedule, marginal, x_t, s, t, grid):
    keep = schedule.alpha(t) / schedule.alpha(s)
    added = schedule.sigma(t)**2 - (keep * schedule.sigma(s))**2
    return on_grid(torch.exp(-(x_t - keep * grid)**2 / (2 * added)) * marginal(grid, s), grid)


def on_grid(density, grid):
    """The density of area 1."""
    return density / (density.sum() * (grid[1] - grid[0]))


@check(reference=reverse_step)
def check_reverse_step(answer):
    cases = (schedules.cosine, 0.3, 0.45, 0.6, 401), (schedules.flow, 0.1, 0.7, -0.4, 301)
    for schedule, s, t, x_t, points in cases:
        step_case(answer, schedule, s, t, x_t, points)


def two_humps(schedule):
    """The exact density of noised data that is about 1 or, less often, about -1."""
    def marginal(x, t):
        a, width = schedule.alpha(t), schedule.sigma(t)**2 + 0.1
        humps = torch.exp(-(x - a)**2 / (2 * width)) + 0.6 * torch.exp(-(x + a)**2 / (2 * width))
        return humps / (1.6 * (2 * math.pi * width)**0.5)
    return marginal


def step_case(answer, schedule, s, t, x_t, points):
    """One call of an answer, for a marginal with two humps."""
    s, t, x_t = (torch.tensor(value).double() for value in (s, t, x_t))
    grid = torch.linspace(-4, 5, points, dtype=torch.float64)
    marginal = two_humps(schedule)
    prior = marginal(grid, s)

    def joint(keep, variance, prior=prior):
        return torch.exp(-(x_t - keep * grid)**2 / (2 * variance)) * prior

    def bayes(*arguments):
        return on_grid(joint(*arguments), grid)

    alpha_t, sd_s, sd_t = schedule.alpha(t), schedule.sigma(s), schedule.sigma(t)
    keep = alpha_t / schedule.alpha(s)
    added = sd_t**2 - (keep * sd_s)**2
    want = bayes(keep, added)
    where = f"from t = {t:.2f} to s = {s:.2f}, {points} points"
    answer.case((schedule, marginal, x_t, s, t, grid), want, {
        "the area is not 1: divide by the sum times the spacing": joint(keep, added),
        "the spacing is missing: these sum to 1, their area is not 1": want / want.sum(),
        "that is q(x_t | x_s) alone: the density of x_s, `marginal`, is missing":
            bayes(keep, added, 1),
        "that is `marginal` alone: q(x_t | x_s) is missing": on_grid(prior, grid),
        "`marginal` was asked at t: the density of x_s is at s":
            bayes(keep, added, marginal(grid, t)),
        "densities multiply: this is their sum": on_grid(joint(keep, added, 1) + prior, grid),
        **wrong_gaussians(bayes, keep, added, sd_s, sd_t, alpha_t),
    }, where=where)


def wrong_gaussians(bayes, keep, added, sd_s, sd_t, alpha_t):
    """Results of a wrong mean or variance of q(x_t | x_s)."""
    scaled = "the mean of x_t is x_s times alpha_t / alpha_s"
    return {
        "variance: that is all the noise at t, part of which was there at s":
            bayes(keep, sd_t**2),
        "variance: what was there at s has shrunk on the way, by the square of the factor":
            bayes(keep, sd_t**2 - sd_s**2),
        "variance: the factor is squared, too": bayes(keep, sd_t**2 - keep * sd_s**2),
        "the root of the variance stands where the variance belongs": bayes(keep, added.sqrt()),
        "the variance is squared: it is one already": bayes(keep, added**2),
        "the 2 of the Gaussian's exponent is missing": bayes(keep, added / 2),
        f"{scaled}: the division is missing": bayes(alpha_t, added),
        f"{scaled}: the factor is missing": bayes(1, added),
        f"{scaled}, not alpha_s / alpha_t": bayes(1 / keep, added),
    }


# ---- the latents' scale --------------------------------------------------------------------------

def latent_scale(mean, std):
    total = mean.var((0, 2, 3)) + std.square().mean((0, 2, 3))
    return total.rsqrt()


@check(reference=latent_scale)
def check_latent_scale(answer):
    # no channel's mean is 0, and the posterior's noise is neither negligible nor all there is
    for shape, width in ((6, 4, 2, 3), 3.0), ((3, 5, 4, 2), 0.05):
        mean = width * (randn(*shape) + 2 * randn(shape[1], 1, 1, seed=1))
        std = width * (0.2 + 1.5 * uniform(*shape, seed=2)) * torch.linspace(
            0.3, 1.2, shape[1])[:, None, None]
        scale_case(answer, mean, std)


def scale_case(answer, mean, std):
    over = (0, 2, 3)
    means, own = mean.var(over), std.square().mean(over)
    biased = mean.var(over, correction=0)
    total = means + own
    answer.case((mean, std), total.rsqrt(), {
        "the posterior's own noise is missing: samples vary more than means": means.rsqrt(),
        "the variance of the means is missing: that is the posterior's noise alone": own.rsqrt(),
        "variances add, standard deviations don't": 1 / (means.sqrt() + own.sqrt()),
        "variances add, standard deviations don't: square before the mean":
            1 / (means.sqrt() + std.mean(over)),
        "the mean of squares is wanted, not the square of the mean std":
            (means + std.mean(over).square()).rsqrt(),
        "the posterior's variance is the square of its std": (means + std.mean(over)).rsqrt(),
        "std's variance is not the posterior's: average its squares":
            (means + std.var(over)).rsqrt(),
        "the root is missing: this is 1 / variance": 1 / total,
        "that is the standard deviation: times it, latents get wider": total.sqrt(),
        "that is the variance: the factor is 1 divided by its root": total,
        "the channels' means count as spread: subtract them":
            (mean.square().mean(over) + own).rsqrt(),
        "one number for all channels: each has its own":
            (mean.var() + std.square().mean()).rsqrt(),
        "over pictures and positions: these are single positions":
            (mean.var(0) + std.square().mean(0)).rsqrt(),
    }, also=[(biased + own).rsqrt()], where=f"posteriors {tuple(mean.shape)}")
