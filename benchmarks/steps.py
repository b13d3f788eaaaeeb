"""Does a flow need fewer steps than diffusion, and why? In the plane, and on latents of digits.

What is measured goes to `stored/steps.json` as well, whose tables lesson 09 shows. A training that
has been measured is not run again: its numbers lie in build/steps, which may be deleted.

    python -m benchmarks steps          # about an hour on one core
"""

import json
import re
import time
from pathlib import Path

import torch

from benchmarks import steps_latents, steps_plane
from benchmarks.claims import BUILD, claims_of

STORED = Path(__file__).parent / "stored" / "steps.json"
FLOW, V, EPS = "flow on flow", "v on cosine", "eps on linear"
MOVED = "flow on flow, walked on linear's times"

claim = claims_of("steps")


def keep(name: str, function):
    """What function() returned, now or when it was last called by this name."""
    file = re.sub(r"\W+", "_", name) + ".json"
    path = BUILD / "steps" / file
    if not path.exists():
        began = time.process_time()
        found = {"result": function(), "seconds": time.process_time() - began}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
    return json.loads(path.read_text())["result"]


def mean(rows: dict, name: str, i: int) -> float:
    """The mean over seeds of a row's i-th number."""
    return torch.tensor(rows[name])[:, i].mean().item()


def table(steps, rows: dict, digits: int = 3) -> str:
    """Rows of numbers by steps as markdown: means over seeds, least and most in brackets."""
    lines = ["| steps | " + " | ".join(map(str, steps)) + " |", "| --- " * (len(steps) + 1) + "|"]
    for name, seeds in rows.items():
        cells = []
        for values in torch.tensor(seeds).T:
            cell = f"{values.mean():.{digits}f}"
            if len(values) > 1:
                cell += f" ({values.min():.{digits}f}–{values.max():.{digits}f})"
            cells.append(cell)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measure():
    began = time.perf_counter()
    plane = steps_plane.measured(keep)
    latents = steps_latents.measured(keep)
    STORED.parent.mkdir(exist_ok=True)
    STORED.write_text(json.dumps({"plane": plane, "latents": latents}, indent=1) + "\n")
    yield from judged(plane, latents, time.perf_counter() - began)


def judged(plane: dict, latents: dict, seconds: float):
    """The claims, each with the numbers that could have refuted it."""
    five, most = plane["steps"].index(5), plane["steps"].index(200)

    def ratio(where, rows, names, i):
        """The claim that one row's i-th number is so many times another's."""
        above, below = names
        seeds = min(len(rows[above]), len(rows[below]))
        value = mean(rows, above, i) / mean(rows, below, i)
        return claim(where, value, seconds, detail=f"seeds: {seeds}")

    rows = plane["rows"]
    yield ratio("plane, distance in 5 steps, eps on linear / flow on flow", rows, (EPS, FLOW), five)
    yield ratio("plane, distance in 5 steps, v on cosine / flow on flow", rows, (V, FLOW), five)
    yield ratio("plane, distance in 5 steps, the flow network on linear's times / eps on linear",
                rows, (MOVED, EPS), five)
    yield ratio("plane, distance in 200 steps, eps on linear / flow on flow", rows, (EPS, FLOW),
                most)
    # whether there is anything on digits to compare steps with
    fifty = latents["steps"].index(50)
    yield ratio("digits, Fréchet distance in 50 steps, eps on linear / flow on flow", latents["fd"],
                (EPS, FLOW), fifty)
