"""The trainings of `python -m benchmarks equal_cost`, as lesson 15 shows them."""

import torch

T_95 = 4.303        # Student's t for two degrees of freedom: 95 % of three seeds' means


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


def effects_of(kept: dict, wide: str = "") -> dict[str, tuple[float, float]]:
    """What asking for the velocity costs in each space, and how much more in pixels."""
    gaps = {where: distances(kept, f"{where}, flow") - distances(kept, f"{where}, x0")
            for where in ("latents", "pixels")}
    return {"latents, distance of flow - of x0": interval(gaps["latents"]),
            "pixels, distance of flow - of x0": interval(gaps["pixels"]),
            "what flow costs in pixels - in latents": interval(gaps["pixels"] - gaps["latents"])}
