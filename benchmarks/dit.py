"""Lesson 10's own race of DiTs and U-Nets."""

from benchmarks.claims import claims_of
from benchmarks.commands import run_lesson

claim = claims_of("dit")


def measure():
    names, seconds = run_lesson("10")
    best, macs, seeds = names["best"], names["macs"], len(names["seeds"])
    keys = list(names["racers"])
    for dit, unet in zip(keys[:3], keys[3:], strict=True):
        ratio, cost = best[dit][0] / best[unet][0], macs[dit] / macs[unet]
        detail = f"{dit} / {unet}, {cost:.2f} of its multiply-adds, {seeds} seeds"
        yield claim("held-out loss, DiT / U-Net", ratio, seconds, detail=detail)
