"""What lesson 03 measures noise with: waves in rings, a world of numbers, distances.

Nothing here is about how data are noised, which is the lesson's own and its students'. Pictures are
(B, C, N, N); a wave of radius r has r cycles across the picture.
"""

import torch

from minildm.course.curves import panel, show_curves
from minildm.diffusion.schedules import at_ratio
from minildm.evaluation import spectra
from minildm.evaluation.metrics import power_spectrum

# ---- distributions of numbers --------------------------------------------------------------------

def ks_distance(a, b) -> float:
    """Kolmogorov and Smirnov's: the largest gap between two samples' cumulative distributions."""
    both = torch.cat([a, b]).sort().values
    shares = [torch.searchsorted(c.sort().values, both, right=True) / len(c) for c in (a, b)]
    return (shares[0] - shares[1]).abs().max().item()


def walk(x, betas, generator):
    """x after 0, 1, ..., T noisy steps of DDPM (eq. 2), betas (T,): (T + 1, *x.shape)."""
    steps = [x]
    for beta in betas.to(x):
        fresh = torch.randn(x.shape, generator=generator)
        steps.append((1 - beta).sqrt() * steps[-1] + beta.sqrt() * fresh)
    return torch.stack(steps)


def rms(steps):
    """Root mean square of all values of each step, (T,)."""
    return steps.flatten(1).square().mean(1).sqrt()


def normal(x, mean, variance):
    """The density of a Gaussian at x."""
    return torch.exp(-(x - mean)**2 / (2 * variance)) / (2 * torch.pi * variance)**0.5


class Bumps:
    """A world of numbers near one of three values, whose noised density is known exactly."""

    means = torch.tensor([-1.25, -0.2, 1.1], dtype=torch.float64)
    shares = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64)
    std = 0.15                                                             # of each bump

    def __init__(self, schedule):
        self.schedule = schedule

    def density(self, x, t):
        """q(x_t) at the points x (n,)."""
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        each = normal(x[:, None], alpha * self.means, (self.std * alpha)**2 + sigma**2)
        return (self.shares * each).sum(1)

    def draw(self, n: int, generator):
        """n numbers of this world, without noise."""
        which = self.shares.multinomial(n, replacement=True, generator=generator)
        spread = torch.randn(n, generator=generator, dtype=torch.float64)
        return self.means[which] + self.std * spread


def moments(density, grid):
    """Mean and variance of densities (..., n) on an equally spaced grid (n,)."""
    spacing = grid[1] - grid[0]
    mean = (grid * density).sum(-1) * spacing
    square = (grid - mean[..., None])**2
    return mean, (square * density).sum(-1) * spacing


def gaussian_gap(density, grid):
    """The total variation distance of densities (..., n) from the Gaussians with their moments.

    Half the area between the two: 0 for equal densities, 1 for disjoint ones.
    """
    mean, variance = moments(density, grid)
    gaussian = normal(grid, mean[..., None], variance[..., None])
    return 0.5 * (density - gaussian).abs().sum(-1) * (grid[1] - grid[0])


def plot_steps_back(densities: dict, grid):
    """Draw densities of x_s for sizes of step {h: (n,)} back from t = 0.5, each by its Gaussian."""
    panels = []
    for h, density in densities.items():
        gaussian = normal(grid, *moments(density, grid))
        title = f"to s = {0.5 - h:.2f}: gap {gaussian_gap(density, grid):.4f}"
        panels.append(panel(grid, {"exact": density, "Gaussian": gaussian}, dashed=["Gaussian"],
                            title=title, xlabel="x_s", xlim=(-2, 2),
                            ylabel="" if panels else "density", legend=not panels))
    show_curves(*panels, alt="Density of x_s (line), its Gaussian (dashed), three sizes of step: "
                "the largest has separate bumps where the Gaussian has none, the middle one is "
                "flatter than it, the smallest lies on it.")


def plot_gaps(sizes, densities, grid, put_in):
    """Draw how Gaussian steps back are, densities (sizes, x_t, n), against their size.

    Right the variance of x_s over what the schedule put in, (sizes,).
    """
    gap, variance = gaussian_gap(densities, grid), moments(densities, grid)[1]
    mean = gap.mean(1)
    # the slope between the steps of 0.1 and 0.01
    slope = (mean[3] / mean[6]).log() / (sizes[3] / sizes[6]).log()
    law = mean[3] * (sizes / sizes[3])**1.5
    lines = {f"measured, slope {slope:.2f}": mean, "slope 1.5": law}
    show_curves(panel(sizes, lines, dashed=["slope 1.5"], xscale="log", yscale="log",
                      xlabel="size of the step back from t = 0.5", ylabel="gap to a Gaussian"),
                panel(sizes, {"variance": (variance / put_in[:, None]).T}, xscale="log",
                      xlabel="size of the step", ylim=(0, 1.8), ylabel="variance / put in"),
                alt="Left: the gap to a Gaussian falls with the step along a line of slope 1.5. "
                "Right: the variance over what the step puts in; it spreads widely for large "
                "steps and is 1 for small ones.")
    words = [f"{h:g}: {g:.4f}" for h, g in zip(sizes.tolist(), mean.tolist(), strict=True)]
    print("mean gap by size of step:", ", ".join(words))


def plot_bumps(bumps: Bumps, times, grid):
    """Draw the density of a world of numbers at some times."""
    lines = {f"t = {t}": bumps.density(grid, torch.tensor(t)) for t in times}
    show_curves(panel(grid, lines, xlabel="x_t", ylabel="density", xlim=(-3, 3)), width=6,
                alt="Density of a number: three narrow bumps at t = 0, wider ones at 0.25, and "
                "one hill from 0.5 on.")


def nearest_label(world, labels, x):
    """The label of the world's picture that is nearest to each x (B,)."""
    return labels[torch.cdist(x.flatten(1), world.flatten(1)).argmin(1)]


def crossing(levels, shares, level: float):
    """Where a falling curve of shares over levels (n,) goes through a level, interpolated."""
    i = max(int((shares < level).float().argmax()), 1)
    part = ((shares[i - 1] - level) / (shares[i - 1] - shares[i])).clamp(0, 1)
    return torch.lerp(levels[i - 1], levels[i], part)


# ---- equal ratios --------------------------------------------------------------------------------

def at_ratios(clocks, ratios, x, noise, add_noise, time_at):
    """x (1, C, H, W) with one noise on each schedule at each log-SNR (R,): (S, R, C, H, W).

    Divided by the root of alpha^2 + sigma^2, as on a schedule where that is 1.
    """
    rows = []
    for schedule in clocks:
        t = time_at(schedule, ratios)
        size = torch.hypot(schedule.alpha(t), schedule.sigma(t)).float()
        many = [len(t), *[1] * (x.ndim - 1)]
        noisy = add_noise(schedule, x.repeat(many), noise.repeat(many), t)
        rows.append(noisy / size.reshape(many))
    return torch.stack(rows)


def package_time_at(schedule, wanted):
    """The package's answer to: at which time is the log-SNR `wanted`?"""
    return at_ratio(schedule, (-wanted / 2).exp())


# ---- waves ---------------------------------------------------------------------------------------

def spectrum(images):
    """Power per ring about the mean grey, (N / 2 + 1,), in units in which white noise has 1."""
    return images.shape[-1]**2 * power_spectrum(images - images.mean())


def plot_spectrum(power, noise: dict):
    """Draw the power of pictures (N / 2 + 1,) and of noise at some times, {t: variance}."""
    cycles = range(1, len(power))
    lines = {"digits": power[1:]}
    for t, variance in noise.items():
        lines[f"noise, t = {t}"] = torch.as_tensor(variance).expand(len(cycles))
    show_curves(panel(cycles, lines, dashed=["digits"], yscale="log", ylim=(0.008, 200),
                      xlabel="cycles across the picture (coarse to fine)", ylabel="power"),
                width=6, height=3.2,
                alt="Power of digits on a log scale falls from coarse to fine waves by a factor of "
                "a thousand; noise is a flat line for each t, higher for later t.")


def above(images, power, noise: float):
    """The images with only those rings whose power (N / 2 + 1,) exceeds the noise, and the mean."""
    side = images.shape[-1]
    ring = spectra.ring_of(side).clamp(max=side // 2)
    strong = (power[ring] > noise) | (ring == 0)
    return torch.fft.ifft2(torch.fft.fft2(images) * strong).real


def measure_filter(vae, scale, images, generator):
    """Show what an autoencoder does to waves of each radius, with the range of five groups.

    Left the response of the scaled latents, right coherence and power of the copies. Prints them at
    coarse and fine waves.
    """
    cycles = range(1, 16)

    def encode(x):
        return vae.encode(x).mean * scale

    copies = vae.decode(vae.encode(images).mean)
    # 1 to 15 cycles of five groups of pictures, (5, 15) each
    moved = torch.stack([spectra.response(encode, group, generator)[:15]
                         for group in images.chunk(5)])
    ratios = [spectra.power_and_coherence(*pair)
              for pair in zip(images.chunk(5), copies.chunk(5), strict=True)]
    power, coherence = (torch.stack(values)[:, 1:16] for values in zip(*ratios, strict=True))
    axis = {"xlabel": "cycles across the picture", "xticks": range(1, 16, 2)}
    show_curves(panel(cycles, {"response": moved}, ylabel="shift of latent / of picture",
                      ylim=(0, None), **axis),
                panel(cycles, {"coherence": coherence, "power / original's": power}, ylim=(0, 1.1),
                      **axis),
                alt="Left: the latent's response rises to a peak at 4 to 6 cycles and falls to "
                "under a sixth of it beyond 12. Right: coherence and power of the copies are 1 up "
                "to 7 cycles and fall together beyond.")
    parts = {"response at 1 cycle": moved[:, :1], "at 4 to 6": moved[:, 3:6],
             "at 13 to 15": moved[:, 12:], "beyond 8: coherence": coherence[:, 8:],
             "power": power[:, 8:]}
    for name, values in parts.items():
        each = values.mean(1)
        print(f"{name} {each.mean():.2f} ({each.min():.2f} to {each.max():.2f})", end="; ")
