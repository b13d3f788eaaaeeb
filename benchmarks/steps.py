"""Lesson 09's own scores: flow and eps, trained on MNIST's latents for equally many steps."""

from benchmarks.claims import claims_of
from benchmarks.commands import run_lesson

claim = claims_of("steps")


def measure():
    names, seconds = run_lesson("09")
    at, column, seeds = names["ladder"].index, names["column"], f"seeds: {len(names['seeds'])}"
    ratio = column("flow, Euler")[at(10)] / column("eps, DDIM")[at(50)]
    yield claim("Fréchet distance, flow in 10 Euler steps / eps in 50 of DDIM", ratio,
                seconds, detail=seeds)
    ratio = names["quick"] / names["exact"]
    yield claim("Fréchet distance, eps, DPM-Solver++ in 20 steps / DDIM in 100", ratio,
                seconds, detail=seeds)
