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
    hardware, stages = found["hardware"], found["stages"]
    plain = claims_of("gpu", hardware, found["day"])
    card = hardware.removeprefix("NVIDIA ").split()[0].strip(",")

    def claim(name, value, seconds, detail="", **others):
        # the card is in the name, so that another's row stands beside this one
        return plain(name, value, seconds, detail=f"{detail}, {card}" if detail else card, **others)

    return [*steps_claims(claim, stages.get("steps", {})),
            *bits_claims(claim, stages.get("bits", {})),
            *run_claims(claim, "MNIST", stages.get("mnist", {}).get("run", {})),
            *run_claims(claim, "CIFAR-10", with_borrowed(stages.get("colour", {}))),
            *scenes_claims(claim, stages.get("scenes", {}).get("run", {})),
            *drawing_claims(claim, stages),
            *published_claims(claim, stages.get("published", {})),
            *memory_claims(claim, stages.get("memory", {}))]


def steps_claims(claim, rows: dict):
    for job, recipe in RECIPES.items():
        how, row = fastest(rows, job)
        if not how:
            continue
        took = row["took"]
        yield claim(f"ms of a training step, {recipe}", row["ms"], took,
                    shown=f"{row['ms']:.2f}, {how_executed(how, row)}")
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


def how_executed(how: str, row: dict) -> str:
    """How the step was executed, and what share of the card's peak that is."""
    words = {"compile": "recorded and compiled", "graph": "recorded", "eager": "eager"}[how]
    return f"{words}, {row['mfu']:.0%} of peak" if "mfu" in row else words


def bits_claims(claim, rows: dict):
    for name in "DiT", "U-Net":
        row = rows.get(f"{name}, graph", {})
        for key, text in (("from_eager", "replayed = eager, bit for bit"),
                          ("resumed", "resumed = uninterrupted, bit for bit")):
            if key in row:
                same = row[key] == 0
                shown = "yes" if same else f"no: {row[key]:.1e}"
                yield claim(text, 0, row["took"], detail=name, shown=shown, holds=same)


def with_borrowed(rows: dict) -> dict:
    """The row of CIFAR-10's run; the time of the classifier whose features it borrows counts."""
    row, classifier = rows.get("run", {}), rows.get("classifier of the features", {})
    if "seconds" in row and "seconds" in classifier:
        row = {**row, "seconds": row["seconds"] + classifier["seconds"]}
    return row


def run_claims(claim, name: str, row: dict):
    """Of a whole run with labels: how long it took, and what it is worth."""
    if "fd_ratio" not in row:
        return
    seconds = row["seconds"]
    if name == "MNIST":
        yield claim("MNIST, seconds from pictures to model", seconds, seconds)
    else:
        minutes = seconds / 60
        seen = f"{row['pictures_seen'] / 1e6:.1f} million pictures seen"
        yield claim(f"{name}, minutes from pictures to model", minutes, seconds,
                    shown=f"{minutes:.2f}, {seen}")
    for key, text in SCORES.items():
        # photographs have no bar of precision
        judged = name == "MNIST" or key != "precision"
        # too few pictures leave some scores unknown
        if judged and row[key] is not None:
            yield claim(f"{name}, {text}", row[key], seconds, detail=f"N = {row['n']:,}")
    if name == "CIFAR-10" and "contrast_ratio" in row:
        yield claim("CIFAR-10, contrast / real", row["contrast_ratio"], seconds)
        yield claim("CIFAR-10, Fréchet distance of thumbnails / floor", row["fd_pixels_ratio"],
                    seconds)


def scenes_claims(claim, row: dict):
    for what in "colour", "digit", "place":
        if f"{what}_right" in row:
            share, seconds = row[f"{what}_right"], row["seconds"]
            yield claim(f"scenes, {what} right", share, seconds, detail=f"{row['n']:,} prompts",
                        shown=f"{share:.3f} after {seconds:.0f} s")


def drawing_claims(claim, stages: dict):
    """How long it takes to draw and to judge."""
    row = stages.get("mnist", {}).get("scoring", {})
    if "seconds" in row:
        yield claim("seconds to judge 50,000 pictures", row["seconds"], row["seconds"])
    row = stages.get("colour", {}).get("sampling", {})
    if "seconds" in row:
        speed = row["seconds_as_written"] / row["seconds"]
        rate = row["n"] / row["seconds"]
        yield claim("drawing, time as written / recorded", speed, row["seconds"],
                    detail="CIFAR-10", shown=f"{speed:.2f}, {rate:.0f} pictures a second")


def published_claims(claim, rows: dict):
    for name, row in rows.items():
        if "ratio" in row:
            ratio = row["ratio"]
            yield claim("diffusers' time / ours, Stable Diffusion 1.5", ratio, row["took"],
                        detail=f"bf16, {name}", shown=f"{ratio:.3f}, ours {row['ours_ms']:.2f} ms")


def memory_claims(claim, rows: dict):
    for name, row in rows.items():
        if "cures" in row:
            works = "a smaller run then works" in row
            yield claim("cures named where memory is too small", row["cures"], row["took"],
                        detail=name.split(", ")[-1], holds=works and row["cures"] >= 3)
