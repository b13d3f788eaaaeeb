"""A world of points in the plane whose perfect denoiser is a formula, and how sets of points look.

The data is a mixture of equal Gaussians of one width, so everything about its noised versions is
known exactly: a sampler's faults are its own. Points are (N, D), D = 2 for pictures.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from minildm.course.figures import COLOURS, WIDTH, show
from minildm.diffusion.schedules import Schedule, add_noise


def heart(n: int = 40, dtype=torch.float32):
    """n points along a heart, mean 0 and variance 1: (n, 2)."""
    u = torch.arange(n, dtype=dtype) * 2 * torch.pi / n
    up = 13 * u.cos() - 5 * (2 * u).cos() - 2 * (3 * u).cos() - (4 * u).cos()
    points = torch.stack([16 * u.sin()**3, up], dim=1)
    return (points - points.mean(0)) / points.std()


@dataclass(frozen=True)
class Blobs:
    """Data: one of the centres (K, ...), all equally likely, plus noise of a standard deviation.

    The centres may be points of the plane, or latents: then this is a world of K pictures. Times
    are a number or (N,), one per x.
    """

    centres: torch.Tensor
    width: float

    def draw(self, n: int, generator=None):
        """n data points, (n, ...)."""
        pick = torch.randint(len(self.centres), (n,), generator=generator)
        chosen = self.centres[pick]
        noise = torch.randn(chosen.shape, generator=generator, dtype=chosen.dtype)
        return chosen + self.width * noise

    def noised(self, schedule: Schedule, n: int, t, generator=None):
        """n data points with the noise of time t: how x_t is really distributed."""
        x0 = self.draw(n, generator)
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        return add_noise(schedule, x0, noise, t)

    def exponents(self, schedule: Schedule, x, t):
        """-|x - alpha centre|^2 / 2 variance of x_t = x (N, ...) for each centre, and the variance.

        (N, K), and (1, 1) or (N, 1).
        """
        alpha, sigma = _columns(schedule, t)
        variance = (alpha * self.width)**2 + sigma**2           # of x_t, around its centre
        x, centres = x.flatten(1), self.centres.to(x).flatten(1)
        # |x - alpha c|^2 written out, as alpha may differ from row to row
        squared = (x.square().sum(1, keepdim=True) - 2 * alpha * (x @ centres.T)
                   + alpha**2 * centres.square().sum(1))
        return -squared / (2 * variance), variance

    def weights(self, schedule: Schedule, x, t):
        """The probability of each centre, given x_t = x (N, ...): (N, K)."""
        return torch.softmax(self.exponents(schedule, x, t)[0], dim=1)

    def log_density(self, schedule: Schedule, x, t):
        """log p_t at points x (N, D): (N,)."""
        exponents, variance = self.exponents(schedule, x, t)
        of_each = exponents - x.shape[1] / 2 * (2 * torch.pi * variance).log()
        return of_each.logsumexp(1) - math.log(len(self.centres))

    def pull(self, schedule: Schedule, t):
        """How far the clean point is drawn from its centre towards x_t / alpha, () or (N, 1)."""
        alpha, sigma = _columns(schedule, t)
        return alpha * self.width**2 / ((alpha * self.width)**2 + sigma**2)

    def denoiser(self, schedule: Schedule) -> Callable:
        """The function denoise(x, t) -> E[data | x_t = x], both (N, ...)."""
        def denoise(x, t, context=None):
            alpha, _ = _columns(schedule, t)
            flat = x.flatten(1)
            centre = self.weights(schedule, x, t) @ self.centres.to(flat).flatten(1)
            # within its blob, the data is drawn towards x
            guess = centre + self.pull(schedule, t) * (flat - alpha * centre)
            return guess.reshape(x.shape)

        return denoise

    def spread(self, schedule: Schedule, x, t):
        """Var[data | x_t = x], averaged over the coordinates: (N,)."""
        p, pull = self.weights(schedule, x, t), self.pull(schedule, t)
        alpha, _ = _columns(schedule, t)
        centres = self.centres.to(x).flatten(1)
        # of the centres, then of a point around its own
        between = p @ centres.square() - (p @ centres).square()
        own = (1 - alpha * pull) * self.width**2
        return ((1 - alpha * pull)**2 * between.mean(1, keepdim=True) + own).expand(len(x), 1)[:, 0]


def _columns(schedule: Schedule, t):
    """alpha and sigma at a time or at (N,), as (1, 1) or (N, 1)."""
    t = torch.as_tensor(t).reshape(-1, 1)
    return schedule.alpha(t), schedule.sigma(t)


def jump_and_noise(denoise: Callable, schedule: Schedule, noise, ts, generator=None):
    """A sampler that fails: take the guess, noise it to the next time, and so on."""
    x = noise
    for i in range(len(ts) - 1):
        guess = denoise(x, ts[i])
        fresh = torch.randn(x.shape, generator=generator)
        x = add_noise(schedule, guess, fresh, ts[i + 1])
    return x


def set_distance(a, b, directions: int = 24) -> float:
    """How far two sets (N, 2) of one size are apart: the sliced Wasserstein distance.

    Both are projected onto `directions` lines and sorted there; the gaps of the sorted numbers are
    averaged. It is 0 only for equal sets.
    """
    return (shadows(a, directions) - shadows(b, directions)).abs().mean().item()


def shadows(x, directions: int):
    """Points x (N, 2) on each of so many lines through 0, sorted there: (N, directions)."""
    angles = torch.arange(directions) * torch.pi / directions
    lines = torch.stack([angles.cos(), angles.sin()]).to(x)                 # (2, directions)
    return (x @ lines).sort(0).values


def slope(counts, errors) -> float:
    """The slope of errors (n,) over counts (n,) on logarithmic axes, by least squares."""
    x, y = torch.as_tensor(counts).double().log(), torch.as_tensor(errors).double().log()
    x = x - x.mean()
    return ((x * y).sum() / x.square().sum()).item()


# ---- pictures

def panels(titles, limit: float = 2.6):
    """A square panel per title, from -limit to limit: -> (figure, axes)."""
    import matplotlib.pyplot as plt

    n = len(titles)
    figure, axes = plt.subplots(1, n, figsize=(WIDTH, WIDTH / n + 0.3), squeeze=False)
    for each, title in zip(axes[0], titles, strict=True):
        each.set(title=title, xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal",
                 xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    return figure, axes[0]


def show_points(sets: dict, alt: str):
    """Draw each named set of points (N, 2) in a panel of its own."""
    figure, axes = panels(list(sets))
    for each, points in zip(axes, sets.values(), strict=True):
        each.scatter(*points.T, s=2, alpha=0.4, color=COLOURS["data"])
    show(figure, alt=alt)


def show_arrows(world: Blobs, pairs: dict, alt: str):
    """Draw arrows from points to others, {title: (begin (N, 2), end (N, 2))}, over the centres."""
    figure, axes = panels(list(pairs))
    for each, (begin, end) in zip(axes, pairs.values(), strict=True):
        each.scatter(*world.centres.T, s=6, color=COLOURS["noise"])
        each.quiver(*begin.T, *(end - begin).T, angles="xy", scale_units="xy", scale=1,
                    width=0.006, color=COLOURS["network"])
    show(figure, alt=alt)


def show_paths(world: Blobs, paths: dict, alt: str, limit: float = 2.6):
    """Draw paths {title: (steps, N, 2)} over the centres, with a cross where each begins."""
    figure, axes = panels(list(paths), limit)
    for each, path in zip(axes, paths.values(), strict=True):
        each.scatter(*world.centres.T, s=6, color=COLOURS["noise"])
        each.plot(path[:, :, 0], path[:, :, 1], linewidth=1.2)
        each.scatter(*path[0].T, marker="x", color="black", s=24, zorder=3)
    show(figure, alt=alt)
