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
    rows, seeds = plane["rows"], f"{len(plane['rows'][EPS])} seeds"

    def ratio(a, b, i):
        return mean(rows, a, i) / mean(rows, b, i)

    yield claim("plane, distance in 5 steps, eps on linear / flow on flow", ratio(EPS, FLOW, five),
                seconds, detail=seeds)
    yield claim("plane, distance in 5 steps, v on cosine / flow on flow", ratio(V, FLOW, five),
                seconds, detail=seeds)
    yield claim("plane, distance in 5 steps, the flow network on linear's times / eps on linear",
                ratio(MOVED, EPS, five), seconds, detail=seeds)
    yield claim("plane, distance in 200 steps, eps on linear / flow on flow",
                ratio(EPS, FLOW, most), seconds, detail=seeds)
    fd, at = latents["fd"], latents["steps"].index
    if EPS not in fd:
        return
    # the first tells whether there is anything to compare with
    seeds = f"seeds: {len(fd[EPS])}"
    yield claim("digits, Fréchet distance in 50 steps, eps on linear / flow on flow",
                mean(fd, EPS, at(50)) / mean(fd, FLOW, at(50)), seconds, detail=seeds)
    yield claim("digits, Fréchet distance, flow in 10 steps / eps in 50",
                mean(fd, FLOW, at(10)) / mean(fd, EPS, at(50)), seconds, detail=seeds)
