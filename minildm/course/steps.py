"""Stored scores of samplers by their steps."""

import torch

# as lessons call them, and as the package does
SAMPLERS = {"DDPM": "ddpm", "DDIM": "ddim", "2M": "dpmpp_2m"}
STUDENT = 2.776         # t for 95 % and four degrees of freedom: two rows of three seeds


def by_sampler(rows: list[dict], key: str = "fd") -> dict:
    """{name: (steps, scores (seeds, steps))}; a single step is the same for all samplers."""
    found = {name: {} for name in SAMPLERS}
    for row in rows:
        for name, sampler in SAMPLERS.items():
            if key in row and (row["sampler"] == sampler or row["steps"] == 1):
                found[name][row["steps"]] = row[key]
    lines = {}
    for name, scores in found.items():
        steps = sorted(scores)
        lines[name] = steps, torch.tensor([scores[k] for k in steps]).T
    return lines


def score_at(rows: list[dict], name: str, steps: int, key: str = "fd"):
    """The scores of one sampler with so many steps: (seeds,)."""
    known, values = by_sampler(rows, key)[name]
    return values[:, known.index(steps)]


def difference(a, b) -> tuple[float, float]:
    """mean(a) - mean(b) of three seeds each, and half the width of its 95 % interval."""
    width = STUDENT * ((a.var() + b.var()) / 3).sqrt()
    return (a.mean() - b.mean()).item(), width.item()


def three(values) -> str:
    """The mean of the seeds, and the least and the most of them."""
    return f"{values.mean():.2f} ({values.min():.2f} to {values.max():.2f})"
