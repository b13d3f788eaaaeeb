"""What results.json of a GPU says, as rows of RESULTS.md with that card's name."""

import math

from benchmarks.claims import Claim, claims_of

RECIPES = {"colour denoiser": "gpu-colour", "mnist denoiser": "gpu",
           "scenes denoiser": "gpu-scenes"}
WAYS = ("compile", "graph", "eager")
SCORES = {"label_accuracy": "label accuracy", "fd_ratio": "Fréchet distance / floor",
          "precision": "precision", "recall": "recall"}


def claims_from(found: dict) -> list[Claim]:
    """The claims that the rows of one machine come to; rows that are missing make none."""
    claim = claims_of("gpu", found["hardware"], found["day"])
    stages = found["stages"]
    return [*steps_claims(claim, stages.get("steps", {})),
            *bits_claims(claim, stages.get("bits", {})),
            *run_claims(claim, "MNIST", stages.get("mnist", {}).get("run", {})),
            *run_claims(claim, "CIFAR-10", stages.get("colour", {}).get("run", {})),
            *scenes_claims(claim, stages.get("scenes", {}).get("run", {})),
            *published_claims(claim, stages.get("published", {})),
            *memory_claims(claim, stages.get("memory", {}))]


def steps_claims(claim, rows: dict):
    for job, recipe in RECIPES.items():
        how, row = fastest(rows, job)
        if not how:
            continue
        took = row["took"]
        yield claim(f"ms of a training step, {recipe}", row["ms"], took,
                    detail=step_detail(how, row))
        if how != "eager":
            yield claim("ms of the host, a replayed step", row["host_ms"], took, detail=recipe)
        profiled = rows.get(f"{job}, {how}, profile", {})
        if "busy_share" in profiled:
            yield claim("share of a step in which the card computes", profiled["busy_share"],
                        profiled["took"], detail=recipe)
        peer = rows.get(f"{job}, diffusers' loop", {})
        if "ms" in peer:
            yield claim("time of diffusers' training loop / ours, the same network",
                        peer["ms"] / row["ms"], peer["took"], detail=recipe)


def fastest(rows: dict, job: str) -> tuple[str, dict]:
    """The fastest way of execution that was measured as such, and its row; "" where none was."""
    best = "", {}
    for how in WAYS:
        row = rows.get(f"{job}, {how}", {})
        # a row that says something ran in another way than its name
        counts = "ms" in row and "said" not in row
        if counts and row["ms"] < best[1].get("ms", math.inf):
            best = how, row
    return best


def step_detail(how: str, row: dict) -> str:
    """How the step was executed, and what share of the card's peak that is."""
    detail = {"compile": "recorded and compiled", "graph": "recorded", "eager": "eager"}[how]
    return f"{detail}, {row['mfu']:.0%} of peak" if "mfu" in row else detail


def bits_claims(claim, rows: dict):
    for name in "DiT", "U-Net":
        row = rows.get(f"{name}, graph", {})
        for key, text in (("from_eager", "replayed = eager, bit for bit"),
                          ("resumed", "resumed = uninterrupted, bit for bit")):
            if key in row:
                same = row[key] == 0
                shown = "yes" if same else f"no: {row[key]:.1e}"
                yield claim(text, 0, row["took"], detail=name, shown=shown, holds=same)


def run_claims(claim, name: str, row: dict):
    """Of a whole run with labels: how long it took, and what it is worth."""
    if "fd_ratio" not in row:
        return
    seconds = row["seconds"]
    if name == "MNIST":
        yield claim("MNIST, seconds from pictures to model", seconds, seconds)
    else:
        seen = f"{row['pictures_seen'] / 1e6:.1f} million pictures seen"
        yield claim(f"{name}, minutes from pictures to model", seconds / 60, seconds, detail=seen)
    for key, text in SCORES.items():
        # photographs have no bar of precision
        if name == "MNIST" or key != "precision":
            yield claim(f"{name}, {text}", row[key], seconds, detail=f"N = {row['n']:,}")
    if name == "CIFAR-10" and "contrast_ratio" in row:
        yield claim("CIFAR-10, contrast / real", row["contrast_ratio"], seconds)
        yield claim("CIFAR-10, Fréchet distance of thumbnails / floor", row["fd_pixels_ratio"],
                    seconds)


def scenes_claims(claim, row: dict):
    for what in "colour", "digit", "place":
        if f"{what}_right" in row:
            yield claim(f"scenes, {what} right", row[f"{what}_right"], row["seconds"],
                        detail=f"{row['seconds']:.0f} s of training, {row['n']:,} prompts")


def published_claims(claim, rows: dict):
    for name, row in rows.items():
        if "ratio" in row:
            yield claim("diffusers' time / ours, Stable Diffusion 1.5", row["ratio"], row["took"],
                        detail=f"bf16, {name}, {row['ours_ms']:.1f} ms")


def memory_claims(claim, rows: dict):
    for name, row in rows.items():
        if "cures" in row:
            works = "a smaller run then works" in row
            yield claim("cures named where memory is too small", row["cures"], row["took"],
                        detail=name.split(", ")[-1], holds=works and row["cures"] >= 3)
