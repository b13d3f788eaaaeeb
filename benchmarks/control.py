"""How well a drawn picture follows a map and its prompt:  python -m benchmarks control

A control of the zoo's model of scenes is trained for each seed, 3 minutes of one core, and draws
100 test scenes from their maps and sentences. Beside it: the model alone, the VAE's copy of the
scenes themselves (a ceiling), and the model's own network with the map as further channels of its
input, all of it trained on for as many steps. Each number is kept in stored/control.json, which
lesson 12 shows.
`python -m benchmarks.control 0 edges` measures one seed's group again.
"""

import json
import sys
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from benchmarks.claims import claims_of, machine
from minildm import LatentDiffusion, data, edits
from minildm.course.controlling import Beside, draw, judged, some_scenes, told_beside
from minildm.data.maps import edges, segment_iou, segments
from minildm.diffusion.controlled import controlled
from minildm.evaluation.classifier import load_classifier
from minildm.recipes.control import SIZES, fresh_control, train_control

claim = claims_of("control")

STORED = Path(__file__).parent / "stored" / "control.json"
SEEDS = (0, 1, 2)
N, TRAINING = 100, 12_000


class Models:
    """What draws and what judges, each loaded when first asked for."""

    @cached_property
    def scenes(self):
        return LatentDiffusion.load("scenes")

    @cached_property
    def classifier(self):
        return load_classifier("mnist")

    @cached_property
    def training(self):
        return some_scenes(data.load("mnist", "train"), TRAINING, seed=1)

    @cached_property
    def digits(self):
        return data.load("mnist", "test")


# ---- maps, and networks that are told them

def edges_of(scenes):
    return edges(scenes.pixels)


def segments_of(scenes):
    return segments(scenes.pixels, scenes.truth)


MAPS = {"edges": edges_of, "segments": segments_of}


# ---- the measurement

def trained(models, kind: str, arm: str, seed: int):
    """(network, how it is joined, seconds of a core that its training took)."""
    hints, sizes = MAPS[kind](models.training), SIZES["cpu"]
    sizes = replace(sizes, training=replace(sizes.training, seed=seed))
    model, scenes = models.scenes, models.training
    if arm == "beside":
        net, join = Beside(model.denoiser.network, hints.shape[1]).requires_grad_(True), told_beside
    else:
        net, join = fresh_control(model, hints.shape[1], sizes), controlled
    began = time.process_time()
    train_control(net, model, scenes.images, scenes.truth, hints, sizes, join, bar=False)
    return net, join, time.process_time() - began


def measured(models, kind: str, arm: str, seed: int) -> dict:
    """Scores of one arm: "copy", "none", "control" or "beside"."""
    test = some_scenes(models.digits, N, seed=11 + seed)
    denoiser, spent = models.scenes.denoiser, {}
    if arm in ("control", "beside"):
        net, join, seconds = trained(models, kind, arm, seed)
        denoiser, spent = join(denoiser, net, MAPS[kind](test)), {"training": seconds}
    if arm == "copy":
        drawn = models.scenes.decode(edits.latents_of(models.scenes, test.images))
    else:
        drawn = draw(models.scenes, denoiser, test.prompts, seed=seed)
    scores = {**judged(drawn, test, models.classifier), **spent}
    scores["iou"] = segment_iou(drawn, test.pixels).mean().item()
    if arm in ("control", "beside"):
        silent = draw(models.scenes, denoiser, [""] * N, scale=1.0, seed=seed)
        without = judged(silent, test, models.classifier)
        scores |= {f"{name}, no prompt": without[name] for name in ("edges", "digit", "colour")}
        scores["iou, no prompt"] = segment_iou(silent, test.pixels).mean().item()
    return scores


GROUPS = {"edges": ("copy", "none", "control", "beside"), "segments": ("control",)}


# ---- what is kept, and the rows of RESULTS.md

def stored() -> dict:
    return json.loads(STORED.read_text()) if STORED.exists() else {}


def keep(kind: str, arm: str, seed: int, found: dict):
    """Put one result into the file, beside what is there."""
    kept = stored()
    kept |= {"n": N, "hardware": machine(), "day": time.strftime("%Y-%m-%d")}
    short = {key: float(f"{value:.4g}") for key, value in found.items()}
    kept.setdefault(kind, {}).setdefault(arm, {})[str(seed)] = short
    STORED.parent.mkdir(exist_ok=True)
    STORED.write_text(json.dumps(kept, indent=1) + "\n")


def sweep(seed: int, kinds=tuple(GROUPS), arms=None):
    """Measure and keep what is not there yet of these kinds."""
    models = Models()
    for kind in kinds:
        for arm in arms or GROUPS[kind]:
            if str(seed) in stored().get(kind, {}).get(arm, {}):
                continue
            began = time.perf_counter()
            found = measured(models, kind, arm, seed)
            keep(kind, arm, seed, found | {"seconds": time.perf_counter() - began})
            print(f"{kind}, {arm}, seed {seed}: {found}", flush=True)


def measure():
    STORED.unlink(missing_ok=True)
    for seed in SEEDS:
        sweep(seed)
    yield from claims()


def mean(kind: str, arm: str, score: str) -> float:
    values = [found[score] for found in stored()[kind][arm].values()]
    return sum(values) / len(values)


def claims():
    """The rows of RESULTS.md, from what is stored."""
    runs = stored()["edges"]["control"]
    seconds = sum(run["seconds"] for run in runs.values())
    at = f"{len(runs) * N} scenes, {len(runs)} training{'s' if len(runs) > 1 else ''}"
    none, ceiling = mean("edges", "none", "edges"), mean("edges", "copy", "edges")
    yield claim("edges of the drawn picture, F1", mean("edges", "control", "edges"), seconds,
                detail=f"{at} (no control {none:.3f}, the VAE's copy {ceiling:.3f})")
    kept = mean("edges", "control", "all") / mean("edges", "none", "all")
    yield claim("prompt obeyed / without control", kept, seconds, detail=at)
    spent = max(run["training"] for run in runs.values())
    yield claim("minutes of training on one core", spent / 60, seconds, detail="the longest")


if __name__ == "__main__":
    sweep(int(sys.argv[1]), tuple(sys.argv[2:3]) or tuple(GROUPS), tuple(sys.argv[3:]) or None)
