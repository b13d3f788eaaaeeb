"""The trainings of `python -m benchmarks equal_cost`, as lesson 15 shows them."""

import torch

T_95 = 4.303        # Student's t for two degrees of freedom: 95 % of three seeds' means
SPACES = "latents", "pixels"
ASKED = "x0", "flow"


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


def distances(kept: dict, arm: str, steps: int | None = None, kind: str = "fd"):
    """An arm's distances after so many steps, one for each seed."""
    steps = steps or kept["facts"]["steps"]
    found = {row["seed"]: row[kind] for row in kept["runs"]
             if (row["arm"], row["steps"]) == (arm, steps)}
    return torch.tensor([found[seed] for seed in kept["facts"]["seeds"]], dtype=torch.float64)


def two_by_two(kept: dict, kind: str = "fd"):
    """The distances (seeds, 2, 2) by space and by what is asked for."""
    rows = [torch.stack([distances(kept, f"{space}, {asked}", kind=kind) for asked in ASKED], dim=1)
            for space in SPACES]
    return torch.stack(rows, dim=1)
