"""DiTs against U-Nets: the trainings of `python -m benchmarks dit`, as lesson 10 shows them.

A row of the table is one training: network, learning rate, seed, held-out loss. A network's rate is
the best for the sweep's seed; what is compared are the other seeds at that rate.
"""

import torch

from minildm.course.figures import show

STYLES = {"DiT": {"color": "C0", "marker": "o"}, "U-Net": {"color": "C1", "marker": "s"}}
T_95 = 4.303        # Student's t for two degrees of freedom: 95 % of three seeds' means


def sweep_of(race: dict, name: str) -> dict[float, float]:
    """{learning rate: held-out loss} of a network, for the sweep's seed, by rising rate."""
    rows = [row for row in race["runs"]
            if row["network"] == name and row["seed"] == race["facts"]["sweep_seed"]]
    return {row["lr"]: row["loss"] for row in sorted(rows, key=lambda row: row["lr"])}


def at_best_rate(race: dict, name: str) -> tuple[float, torch.Tensor]:
    """A network's best rate by the sweep, and the losses (3,) of the other seeds at that rate."""
    sweep = sweep_of(race, name)
    rate = min(sweep, key=sweep.get)
    losses = {row["seed"]: row["loss"] for row in race["runs"]
              if (row["network"], row["lr"]) == (name, rate)}
    return rate, torch.tensor([losses[seed] for seed in race["facts"]["seeds"]])


def interval(values) -> tuple[float, float]:
    """The mean of three values, and half the width of its 95 % interval."""
    values = torch.as_tensor(values, dtype=torch.float64)
    return values.mean().item(), T_95 * values.std().item() / len(values)**0.5


def pairs_of(race: dict) -> list[tuple[str, str]]:
    """(DiT, U-Net) of nearly equal cost, from small to large."""
    names = sorted(race["networks"], key=lambda name: race["networks"][name]["multiply_adds"])
    dits = [name for name in names if name.startswith("DiT")]
    pairs = zip(dits, [name for name in names if name not in dits], strict=True)
    # a race that is still going on: what it has so far
    return [pair for pair in pairs if all(has_seeds(race, name) for name in pair)]


def has_seeds(race: dict, name: str) -> bool:
    """Tell whether all seeds of a network were trained at its best rate."""
    try:
        at_best_rate(race, name)
    except (KeyError, ValueError):
        return False
    return True


def gaps_of(race: dict) -> dict[str, tuple[float, float]]:
    """By how much a DiT's loss is above its U-Net's, with the half width of the interval."""
    gaps = {}
    for dit, unet in pairs_of(race):
        difference = at_best_rate(race, dit)[1] - at_best_rate(race, unet)[1]
        gaps[f"{dit} minus {unet}"] = interval(difference)
    return gaps


def gain_of_size(race: dict) -> torch.Tensor:
    """By how much more the DiT's loss falls from smallest to largest than the U-Net's: (3,)."""
    pairs = pairs_of(race)
    (dit, unet), (large_dit, large_unet) = pairs[0], pairs[-1]
    losses = {name: at_best_rate(race, name)[1] for name in (dit, unet, large_dit, large_unet)}
    return (losses[dit] - losses[large_dit]) - (losses[unet] - losses[large_unet])


def table_of(race: dict) -> str:
    """The networks in plain columns: cost, best rate, loss of three seeds, seconds a training."""
    facts = race["facts"]
    lines = [f"{facts['steps']} steps of {facts['batch']}; loss on {facts['held_out']:,} test "
             f"latents, seeds {facts['seeds']}, ± 95 %",
             "network         parameters   million multiply-adds   best rate   held-out loss   "
             "seconds"]
    for pair in pairs_of(race):
        for name in pair:
            rate, losses = at_best_rate(race, name)
            cost = race["networks"][name]
            mean, half = interval(losses)
            spent = [row["seconds"] for row in race["runs"] if row["network"] == name]
            lines.append(f"{name:14} {cost['parameters']:11,} {cost['multiply_adds'] / 1e6:23.2f} "
                         f"{rate:11g}   {mean:.3f} ± {half:.3f} "
                         f"{sum(spent) / len(spent):9.0f}")
    return "\n".join(lines)


def show_race(race: dict, alt: str):
    """Two panels: the sweep of each network's rate, and the loss at the best one against cost."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
    for pair in pairs_of(race):
        for name in pair:
            # the larger of two sizes is drawn with a full line
            line = "-" if pair == pairs_of(race)[-1] else "--"
            sweep = sweep_of(race, name)
            left.plot(list(sweep), list(sweep.values()), line, label=name, markersize=4,
                      **STYLES[name.split(" ")[0]])
    for place, kind in enumerate(STYLES):
        names = [pair[place] for pair in pairs_of(race)]
        costs = [race["networks"][name]["multiply_adds"] / 1e6 for name in names]
        means, halves = zip(*(interval(at_best_rate(race, name)[1]) for name in names), strict=True)
        right.errorbar(costs, means, halves, capsize=3, label=kind, **STYLES[kind])
    left.set(xscale="log", xlabel="learning rate (one seed)", ylabel="held-out loss")
    rates = sorted({row["lr"] for row in race["runs"]})
    left.set_xticks(rates, [f"{rate:g}" for rate in rates], minor=False)
    left.set_xticks([], minor=True)
    right.set(xlabel="million multiply-adds a latent (best rate, three seeds)")
    left.legend()
    right.legend()
    show(figure, alt=alt)
