"""The trainings of `python -m benchmarks equal_cost`, as lesson 15 shows them."""

import torch

from minildm.course.arms import TWO_BY_TWO
from minildm.course.figures import show

T_95 = 4.303        # Student's t for two degrees of freedom: 95 % of three seeds' means
SPACES = "latents", "pixels"
ASKED = "x0", "flow"
COLOURS = {name: f"C{i}" for i, name in enumerate((*TWO_BY_TWO, "wide pixels, flow"))}


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
    """Print each arm's rate, seconds and three distances."""
    print(f"{'':20}{'rate':>7}{'seconds':>9}   Fréchet distance, mean ± 95 % (each seed)")
    for arm in arms:
        fd = distances(kept, arm)
        mean, half = interval(fd)
        each = ", ".join(f"{value:.1f}" for value in fd.tolist())
        rate = next(row["lr"] for row in kept["runs"] if row["arm"] == arm)
        print(f"{arm:20}{rate:7g}{seconds_of(kept, arm):9.0f}   {mean:.1f} ± {half:.1f} ({each})")


def print_judges(kept: dict):
    """Print arms by the judge, by thumbnails and by random features, each / its floor."""
    floor = kept["facts"]["floor"]
    words = {"fd": "judge", "coarse": "8 × 8 pixels", "random": "random network"}
    print(f"{'distance / floor':18}" + "".join(f"{word:>18}" for word in words.values()))
    copies = [f"{kept['vae'][kind] / floor[kind]:.1f}" for kind in words]
    print(f"{'the VAE copies':18}" + "".join(f"{cell:>18}" for cell in copies))
    for arm in TWO_BY_TWO:
        cells = []
        for kind in words:
            mean, half = interval(distances(kept, arm, kind) / floor[kind])
            cells.append(f"{mean:.0f} ± {half:.0f}")
        print(f"{arm:18}" + "".join(f"{cell:>18}" for cell in cells))


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


# ---- the claims

def verdict(mean: float, half: float) -> str:
    """What an interval says of the claim that a difference is above 0."""
    if abs(mean) <= half:
        return "not resolved"
    return "holds" if mean > 0 else "refuted here"


def claims(kept: dict, silent: float, left: dict[str, float]) -> list[tuple]:
    """The rows of the lesson's table.

    silent: the share of a velocity's way in silent directions; left: the mean variance of what
    each network drew in the directions that save least.
    """
    seeds = f"N = 1,000, {len(kept['facts']['seeds'])} seeds, 95 %"
    a, b, c, d = (distances(kept, arm) for arm in TWO_BY_TWO)
    differences = {
        "Asked for the data, latents lead pixels": c - a,
        "Asked for the velocity, latents lead pixels": d - b,
        "In pixels it is better to ask for the data": d - c,
        "In latents it is better to ask for the data": b - a,
        "The velocity costs more in pixels than in latents": (d - c) - (b - a),
    }
    rows = []
    for claim, values in differences.items():
        mean, half = interval(values)
        rows.append((claim, f"a distance of {mean:+.1f} between them", f"{seeds}: ± {half:.1f}",
                     verdict(mean, half)))
    rows.append(("In directions that the last layer can't write, a velocity leaves the noise as it "
                 "was drawn, but for a constant", f"{silent:.0e} of the way lies in them",
                 "exact, today's network", "holds" if silent < 1e-6 else "refuted here"))
    excess = {name: value - left["real"] for name, value in left.items()}
    ratio = excess["wide pixels, flow"] / excess["pixels, flow"]
    rank = "holds" if ratio < 0.2 else "holds partly" if ratio < 0.7 else "refuted here"
    rows.append(("The noise in the drawings comes from the width: at 192 most of it is gone",
                 f"{ratio:.0%} of the surplus at width 128", "100 pictures, one seed", rank))
    return rows
