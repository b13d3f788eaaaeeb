"""The trainings of `python -m benchmarks equal_cost`, as lesson 15 shows them."""

import torch

from minildm.course.arms import TWO_BY_TWO
from minildm.course.figures import show

T_95 = 4.303        # Student's t for two degrees of freedom: 95 % of three seeds' means
SPACES = "latents", "pixels"
ASKED = "x0", "flow"
WIDE = "wide pixels, x0", "wide pixels, flow"
# the appendix's rows
BESIDE = {"latents, flow": "latents alone",
          "latents and features, flow": "and features, as noisy",
          "latents and less noisy features, flow": "and features, half as noisy"}
COLOURS = {name: f"C{i}" for i, name in enumerate(TWO_BY_TWO)}


# ---- what is measured

def effects(fd, t: float = T_95):
    """What asking for the velocity costs in latents, in pixels, and how much more in pixels.

    fd (seeds, 2, 2) are distances by space and by what is asked for, x0 first. Differences are
    taken within a seed. -> (3, 2): the mean of each, and half the width of its interval.
    """
    latents, pixels = (fd[:, :, 1] - fd[:, :, 0]).T
    found = torch.stack([latents, pixels, pixels - latents])
    return torch.stack([found.mean(1), t * found.std(1) / len(fd)**0.5], dim=1)


def interval(values) -> tuple[float, float]:
    """The mean of three values, and half the width of its 95 % interval."""
    values = torch.as_tensor(values, dtype=torch.float64)
    return values.mean().item(), T_95 * values.std().item() / len(values)**0.5


def distances(kept: dict, arm: str, kind: str = "fd"):
    """An arm's distances, one for each seed."""
    found = {row["seed"]: row[kind] for row in kept["runs"] if row["arm"] == arm}
    return torch.tensor([found[seed] for seed in kept["facts"]["seeds"]], dtype=torch.float64)


def two_by_two(kept: dict, kind: str = "fd"):
    """The distances (seeds, 2, 2) by space and by what is asked for."""
    rows = [torch.stack([distances(kept, f"{space}, {asked}", kind=kind) for asked in ASKED], dim=1)
            for space in SPACES]
    return torch.stack(rows, dim=1)


def sweep_of(kept: dict, arm: str) -> dict[float, float]:
    """{learning rate: mean loss} of an arm's trainings of the sweep's seed, by rising rate."""
    rows = [row for row in kept["sweeps"] if row["arm"] == arm]
    return {row["lr"]: row["loss"] for row in sorted(rows, key=lambda row: row["lr"])}


def rates_of(kept: dict) -> dict[str, float]:
    """The learning rate of each arm: the best of its sweep."""
    return {arm: min(sweep_of(kept, arm), key=sweep_of(kept, arm).get) for arm in TWO_BY_TWO}


def seconds_of(kept: dict, arm: str) -> float:
    """The mean seconds of processor time that an arm's training took."""
    spent = [row["seconds"] for row in kept["runs"] if row["arm"] == arm]
    return sum(spent) / len(spent)


# ---- as tables and figures

def print_costs(kept: dict):
    """Print what each space's network costs, and what is in a token."""
    print(f"{'':10}{'numbers in a token':>20}{'width':>7}{'million multiply-adds':>23}")
    for space in (*SPACES, "wide pixels"):
        cost = kept["costs"][f"{space}, x0"]
        print(f"{space:12}{cost['in_token']:18}{cost['dim']:7}{cost['multiply_adds'] / 1e6:23.2f}")


def print_race(kept: dict, arms=tuple(TWO_BY_TWO)):
    """Print each arm's rate, minutes and three distances."""
    print(f"{'':20}{'rate':>7}{'seconds':>9}   Fréchet distance, mean ± 95 % (each seed)")
    for arm in arms:
        fd = distances(kept, arm)
        mean, half = interval(fd)
        each = ", ".join(f"{value:.1f}" for value in fd.tolist())
        rate = next(row["lr"] for row in kept["runs"] if row["arm"] == arm)
        print(f"{arm:20}{rate:7g}{seconds_of(kept, arm):9.0f}   {mean:.1f} ± {half:.1f} ({each})")


def print_judges(kept: dict, names: dict[str, str]):
    """Print arms by the judge, by thumbnails and by random features, each / its floor."""
    floor = kept["facts"]["floor"]
    words = {"fd": "judge", "coarse": "8 × 8 pixels", "random": "random network"}
    print(f"{'distance / floor':28}" + "".join(f"{word:>18}" for word in words.values()))
    for arm, name in names.items():
        cells = []
        for kind in words:
            mean, half = interval(distances(kept, arm, kind=kind) / floor[kind])
            cells.append(f"{mean:.1f} ± {half:.1f}")
        print(f"{name:28}" + "".join(f"{cell:>18}" for cell in cells))


def show_race(kept: dict, alt: str):
    """Left each arm's sweep of rates; right the distances of its three seeds."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    rates = set()
    for i, arm in enumerate(TWO_BY_TWO):
        sweep = sweep_of(kept, arm)
        rates |= set(sweep)
        left.plot(list(sweep), list(sweep.values()), "o-", color=COLOURS[arm], label=arm)
        fd = distances(kept, arm)
        right.plot([i] * len(fd), fd, "o", color=COLOURS[arm])
    right.axhline(kept["vae"]["fd"], color="black", linestyle="--", linewidth=1)
    right.text(3.4, kept["vae"]["fd"] + 3, "the VAE's copies", ha="right")
    left.set(xscale="log", xlabel="learning rate, thousandths", ylabel="mean loss", ylim=(0.8, 4))
    left.set_xticks(sorted(rates), [f"{rate * 1000:g}" for rate in sorted(rates)])
    left.set_xticks([], minor=True)
    left.legend()
    right.set_xticks(range(4), [arm.replace(", ", "\n") for arm in TWO_BY_TWO])
    right.set(xlim=(-0.5, 3.5), ylim=(0, None), ylabel="Fréchet distance, three seeds")
    show(figure, alt=alt)


def show_spectrum(spread: dict, zone: tuple[int, int], alt: str):
    """Variance along real patches' principal directions, a zone of directions shaded."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3))
    axes.axvspan(*zone, color="0.9")
    for name, values in spread.items():
        axes.plot(range(1, len(values) + 1), values, label=name,
                  color="black" if name == "real" else COLOURS.get(name))
    axes.axhline(1, color="grey", linestyle=":", label="noise")
    axes.set(xlabel="principal direction of real patches, strongest first",
             ylabel="variance along it", yscale="log")
    axes.legend()
    show(figure, alt=alt)
