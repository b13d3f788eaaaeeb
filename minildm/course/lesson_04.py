"""Plumbing of lesson 04: a world in the plane whose score is known, its figures, and counts.

The data of that world are forty small round Gaussians along a heart. Noised, they are Gaussians
still, so the density p_t, the expected data E[data | x_t] and the score are formulas. A network is
judged against nothing there: what it should say is known.
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from minildm.course.figures import WIDTH, show
from minildm.course.points import Blobs, heart
from minildm.diffusion.schedules import Schedule, add_noise, expand, log_snr

HEART = Blobs(heart(dtype=torch.float64), width=0.06)       # forty small round Gaussians


# ---- figures -------------------------------------------------------------------------------------

def show_plane(panels: dict, alt: str, height: float = 2.9, reach: float = 2.6):
    """Draw panels of the plane side by side: {title: {name of a layer: what it draws}}.

    Layers: "points" or "more" (N, 2), "path" (N, 2), "arrows" (x, v), "density" a function of
    points (N, 2), "mark" {legend: (2,)}.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, height), squeeze=False)
    side = torch.linspace(-reach, reach, 121, dtype=torch.float64)
    for ax, (title, layers) in zip(axes[0], panels.items(), strict=True):
        if "density" in layers:
            grid = torch.cartesian_prod(side, side)
            values = layers["density"](grid).reshape(121, 121).T
            ax.imshow(values, extent=(-reach, reach, -reach, reach), origin="lower", cmap="Greys")
        _draw_layers(ax, layers)
        ax.set(title=title, xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal",
               xticks=(-2, 0, 2), yticks=(-2, 0, 2))
    show(figure, alt=alt)


def _draw_layers(ax, layers: dict):
    """Draw what one panel of the plane has, the arrows and marks above all else."""
    if "points" in layers:
        ax.scatter(*layers["points"].T, s=2, alpha=0.5, color="#0072B2")
    if "more" in layers:
        ax.scatter(*layers["more"].T, s=5, color="#D55E00")
    if "path" in layers:
        ax.plot(*layers["path"].T, linewidth=0.7, color="#009E73")
    if "arrows" in layers:
        x, v = layers["arrows"]
        ax.quiver(*x.T, *v.T, angles="xy", scale_units="xy", scale=1, width=0.005, color="#D55E00")
    for i, (name, place) in enumerate(layers.get("mark", {}).items()):
        ax.plot(*place, "ox+"[i], color="k", markersize=8, markerfacecolor="none", label=name)
    if "mark" in layers:
        ax.legend(loc="lower left")


def lattice(n: int = 15, reach: float = 2.4):
    """n x n points of the plane, (n^2, 2)."""
    side = torch.linspace(-reach, reach, n, dtype=torch.float64)
    return torch.cartesian_prod(side, side)


def unit_arrows(v, length: float = 0.3):
    """Vectors (N, 2), each of this length: where to, not how far."""
    return length * F.normalize(v, dim=1)


def by_centre(x):
    """How many points (N, 2) are nearest to each of the heart's 40 centres, and how near, (N,)."""
    nearest = torch.cdist(x.double(), HEART.centres).min(1)
    return nearest.indices.bincount(minlength=len(HEART.centres)), nearest.values


# ---- latents in a plane --------------------------------------------------------------------------

def plane_through(latents):
    """The plane through three latents (3, c, h, w): its origin, and two unit vectors (2, c h w)."""
    a, b, c = latents.flatten(1)
    one = F.normalize(b - a, dim=0)
    rest = (c - a) - ((c - a) @ one) * one
    centre = (a + b + c) / 3
    return centre, torch.stack([one, F.normalize(rest, dim=0)])


def score_in_plane(score, schedule: Schedule, latents, t: float, places, seeds: int = 4):
    """The score's part in the plane through three latents, at places (N, 2) of it, in its units.

    score(x, t) -> (N, c, h, w). A place p is x_t = alpha (centre + p) + sigma times noise from
    which the part inside the plane is taken out; the mean over a few such noises is returned.
    """
    centre, axes = plane_through(latents)
    at = torch.tensor(t)
    total = torch.zeros_like(places)
    generator = torch.Generator().manual_seed(0)
    for _ in range(seeds):
        noise = torch.randn(1, centre.numel(), generator=generator)
        noise = noise - (noise @ axes.T) @ axes                            # across the plane
        x = schedule.alpha(at) * (centre + places @ axes) + schedule.sigma(at) * noise
        total += score(x.unflatten(1, latents.shape[1:]), at).flatten(1) @ axes.T
    return total / seeds


def show_latent_plane(pipe, latents, places, arrows, names, alt: str):
    """Draw arrows (N, 2) in the plane through three latents, and the latents decoded beside it."""
    import matplotlib.pyplot as plt

    centre, axes = plane_through(latents)
    corners = (latents.flatten(1) - centre) @ axes.T                       # (3, 2)
    # the plane, and the three pictures beside it
    figure, (ax, *sides) = plt.subplots(1, 4, figsize=(WIDTH, 3.4), width_ratios=(3, 1, 1, 1))
    # arrows of one length, whose colour says how long they were
    lengths = arrows.norm(dim=1, keepdim=True)
    step = 0.045 * (places.max() - places.min())
    ax.quiver(*places.T, *(step * arrows / lengths).T, lengths[:, 0], angles="xy",
              scale_units="xy", scale=1, width=0.005, cmap="cividis")
    for i, (place, name) in enumerate(zip(corners, names, strict=True)):
        ax.plot(*place, "o", color="#D55E00")
        ax.annotate(name, place, xytext=(6, 6), textcoords="offset points", color="#D55E00",
                    fontweight="bold", fontsize=10)
        with torch.no_grad():
            picture = pipe.decode(latents[i:i + 1])[0, 0]
        sides[i].imshow(picture, cmap="gray", vmin=-1, vmax=1)
        sides[i].set_title(name)
        sides[i].axis("off")
    ax.set(xlabel="along the first axis", ylabel="along the second", aspect="equal")
    show(figure, alt=alt)


# ---- what a network costs, and what it can do without --------------------------------------------

@torch.no_grad()
def multiply_adds(network, *inputs) -> dict:
    """Millions of multiply-adds of one forward pass, by kind; meta tensors are only counted.

    "attention" are the two products of queries, keys and values; maps to them are "linear".
    """
    # it counts two operations for a multiplication and an addition
    with FlopCounterMode(display=False) as counter:
        network(*inputs)
    found = {"convolutions": 0.0, "linear": 0.0, "attention": 0.0}
    for operation, flops in counter.get_flop_counts()["Global"].items():
        name = str(operation)
        kind = "attention"
        if "convolution" in name:
            kind = "convolutions"
        elif name in ("aten.mm", "aten.addmm"):
            kind = "linear"
        found[kind] += flops / 2e6
    return found


def print_costs(counts: dict, last: dict, last_name: str, unit: float = 1.0):
    """A table of two `multiply_adds`, with a column more, and their ratios in its last row.

    Numbers are millions of multiply-adds, or with unit 1e3 thousands of millions.
    """
    kinds = list(next(iter(counts.values())))
    print(" " * 9 + "".join(f"{name:>14}" for name in (*kinds, "all", last_name)))
    totals = []
    for key, count in counts.items():
        values = [*(count[kind] for kind in kinds), sum(count.values())]
        totals.append(values)
        cells = "".join(f"{value / unit:14,.2f}" for value in values)
        print(f"{key:9}{cells}{last[key]:>14}")
    small, large = totals
    ratios = "".join(f"{b / a:14,.1f}" for a, b in zip(small, large, strict=True))
    print(f"{'ratio':9}{ratios}")


def milliseconds(once: Callable, n: int):
    """How long n calls took, in ms, but for the first, which warms up: (n - 1,)."""
    spent = []
    for _ in range(n):
        began = time.perf_counter()
        once()
        spent.append(1000 * (time.perf_counter() - began))
    return torch.tensor(spent[1:])


def cut_skip(network):
    """Make a small U-Net's `up` see zeros in the place of its skip, and return it."""
    def without(block, inputs):
        h, emb = inputs
        # the skip's are the last c of 3 c channels
        keep = (torch.arange(h.shape[1]) < h.shape[1] - network.c).to(h)
        return h * keep[:, None, None], emb

    network.up.register_forward_pre_hook(without)
    return network


def stop_clock(network):
    """The network, told the time 0.5 whatever the time is."""
    clock = network.forward
    network.forward = lambda x, t, labels: clock(x, torch.full_like(t, 0.5), labels)
    return network


@torch.no_grad()
def errors_by_time(predict, schedule: Schedule, data, labels, times, generator):
    """Mean squared error of predict(x, t, labels) as noise at each time, on all of the data."""
    found = []
    for t in times:
        noise = torch.randn(data.shape, generator=generator)
        ts = t.expand(len(data))
        guess = predict(add_noise(schedule, data, noise, ts), ts, labels)
        found.append((guess - noise).square().mean())
    return torch.stack(found)


def noise_by_flow(denoiser, schedule: Schedule, x, t, labels):
    """The noise in x (N, c, h, w), noised by `schedule` to times t (N,), by a denoiser of `flow`.

    At the same ratio of noise to signal, flow has another time, sigma / (alpha + sigma), and
    another scale: its x_t is smaller by alpha + sigma.
    """
    alpha, sigma = (expand(level(t), x) for level in (schedule.alpha, schedule.sigma))
    total = alpha + sigma
    data = denoiser(x / total, (sigma / total).flatten(), labels)
    return (x - alpha * data) / sigma


def time_by_snr(schedule: Schedule, reach: float = 9.0, bins: int = 60):
    """The share of all times that a schedule spends at each log-SNR, per unit of it, (bins,).

    The bins cut -reach to reach; times outside are counted in the whole, but in no bin.
    """
    t = torch.linspace(0.001, 0.999, 9981)
    at = log_snr(schedule, t)
    return torch.histc(at[at.abs() < reach], bins, -reach, reach) / len(t) / (2 * reach / bins)
