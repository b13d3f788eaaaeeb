"""What edits keep and change, 50 of each kind a seed:  python -m benchmarks editing

The zoo's model of scenes edits composed pictures, by FlowEdit, by inversion and by noising; rules
read from the result whether everything is as asked, and the ink's overlap with the original says
what was kept. Inpainting is judged along its seam, inversion by its way back, and strength on
digits. Each number is kept in stored/editing.json, which lesson 11 shows.
`python -m benchmarks.editing 0 colour digit` measures one seed's groups again.
"""

import itertools
import json
import sys
import time
from functools import cached_property
from pathlib import Path

import torch

from benchmarks.claims import claims_of, machine
from minildm import LatentDiffusion, data, edits
from minildm.course.edit_results import Results
from minildm.course.edited import Task, judged, overlap, readable_scenes, seam, task_of
from minildm.data.scenes import agreement, captions, detect
from minildm.diffusion import editing
from minildm.diffusion.guidance import cfg
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import flow, shift, time_grid
from minildm.evaluation.classifier import in_batches, load_classifier
from minildm.images import to_float

claim = claims_of("editing")

STORED = Path(__file__).parent / "stored" / "editing.json"
SEEDS = (0, 1, 2, 3)
N, STEPS = 50, 20
STRENGTHS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
ROUND_STEPS, ROUND_SWEEPS, ROUND_SCALES = (10, 20, 50), (0, 1, 3), (1, 2, 4)
ROUND_SCENES = 4


class Models:
    """What draws and what judges, each loaded when first asked for."""

    @cached_property
    def scenes(self):
        return LatentDiffusion.load("scenes")

    @cached_property
    def numbers(self):
        return LatentDiffusion.load("mnist-unet")

    @cached_property
    def classifier(self):
        return load_classifier("mnist")

    @cached_property
    def digits(self):
        return data.load("mnist", "test")

    def denoiser(self, prompts, scale: float):
        context, null = self.scenes.conditions(prompts)
        return cfg(self.scenes.denoiser, context, null, scale)


# ---- ways to edit: functions (models, task, latents, seed) -> latents

def by_flow_edit(target_scale: float, draws: int):
    def way(models, task, latents, seed):
        source = models.denoiser(task.source, 1.0)
        target = models.denoiser(task.target, target_scale)
        generator = torch.Generator().manual_seed(seed)
        return last(editing.flow_edit(source, target, flow, latents, models.scenes.times(STEPS),
                                      draws=draws, generator=generator))

    return way


def by_inversion(target_scale: float):
    def way(models, task, latents, seed):
        source = models.denoiser(task.source, 1.0)
        target = models.denoiser(task.target, target_scale)
        # the model's own times, but for the end, which is near 0.02
        ts = shift(time_grid(STEPS, 1.0, 0.007), models.scenes.sampling.time_shift)
        return editing.edit_by_inversion(source, target, flow, latents, ts, sweeps=3)

    return way


def by_noising(strength: float):
    def way(models, task, latents, seed):
        target = models.denoiser(task.target, 4.0)
        return editing.img2img(target, flow, latents, models.scenes.noise(len(latents), seed),
                               models.scenes.times(STEPS), strength)

    return way


def copied(models, task, latents, seed):
    return latents


WAYS = {
    "copy": copied,
    "strength 0.8": by_noising(0.8),
    "strength 0.9": by_noising(0.9),
    "inversion, redrawn at 1": by_inversion(1.0),
    "inversion, redrawn at 2": by_inversion(2.0),
    "FlowEdit, scale 1": by_flow_edit(1.0, 1),
    "FlowEdit, scale 1, 2 draws": by_flow_edit(1.0, 2),
    "FlowEdit, scale 1.5": by_flow_edit(1.5, 1),
    "FlowEdit, scale 2": by_flow_edit(2.0, 1),
}


def edited_scenes(kind: str):
    """A group: one kind of edit, by the ways named."""
    @torch.no_grad()
    def measured(models, seed: int, name: str) -> dict:
        task: Task = task_of(models.digits, models.classifier, kind, N, seed)
        began = time.perf_counter()
        latents = edits.latents_of(models.scenes, task.images)
        drawn = models.scenes.decode(WAYS[name](models, task, latents, seed))
        seconds = time.perf_counter() - began
        return judged(drawn, task, models.classifier) | {"seconds": seconds}

    return measured


# ---- a part of the picture, the way back, and strength

@torch.no_grad()
def inpainting(models, seed: int, name: str) -> dict:
    """The lower half of a digit is drawn anew, its own caption asked: seam, and what is read."""
    images, shown = readable_scenes(models.digits, models.classifier, N, seed)
    originals = to_float(images)
    middle = ((shown.boxes[:, 0, 1] + shown.boxes[:, 0, 3]) / 2).round()
    mask = (torch.arange(32) >= middle[:, None])[:, None, :, None].expand(-1, 1, 32, 32)
    if name == "originals":
        drawn = originals
    elif name == "copy":
        copies = models.scenes.decode(edits.latents_of(models.scenes, images))
        drawn = edits.paste(originals, copies, mask)
    else:
        scale, *alone = name.removeprefix("scale ").split(", ")
        drawn = (inpainted_in_latents if alone else edits.inpaint)(
            models.scenes, images, mask, captions(shown, seed), seed=seed,
            guidance_scale=float(scale), num_inference_steps=STEPS).images
    right = agreement(detect(drawn, models.classifier), shown)["all"]
    exact = (drawn == originals)[~mask.expand_as(drawn)].all().item()
    return {"seam": seam(drawn, mask), "all": right.float().mean().item(), "exact": exact}


def inpainted_in_latents(model, images, mask, prompts, seed, guidance_scale, num_inference_steps):
    """`edits.inpaint` without its look at pixels: what replacing latents alone does."""
    originals, latents = to_float(images), edits.latents_of(model, images)
    denoise = editing.inpaint(edits.denoisers(model, prompts, scale=guidance_scale), latents,
                              edits.kept_positions(model, mask))
    z = last(ddim(denoise, flow, model.noise(len(images), seed), model.times(num_inference_steps)))
    return edits.Edited(edits.paste(originals, model.decode(z), mask), originals)


@torch.no_grad()
def round_trip(models, seed: int, name: str) -> dict:
    """Mean squared error of latents after inversion at one scale and the way back at another."""
    steps, sweeps, there, back = map(int, name.split(", "))
    images, shown = readable_scenes(models.digits, models.classifier, ROUND_SCENES, seed)
    latents, words = edits.latents_of(models.scenes, images), captions(shown, seed)
    grid = editing.inversion_grid(steps)
    noise = last(editing.invert(models.denoiser(words, there), flow, latents, grid, sweeps))
    again = last(ddim(models.denoiser(words, back), flow, noise, grid))
    return {"error": (again - latents).square().mean().item()}


@torch.no_grad()
def strength(models, seed: int, name: str) -> dict:
    """Test digits noised to a strength, and drawn as another digit: which is read, what overlaps."""
    some = models.digits.subset(N, seed)
    generator = torch.Generator().manual_seed(seed)
    wanted = (some.labels + torch.randint(1, 10, (N,), generator=generator)) % 10
    drawn = edits.img2img(models.numbers, some.images, wanted, float(name), seed=seed,
                          num_inference_steps=STEPS).images
    read = in_batches(models.classifier, drawn).argmax(1)
    return {"as asked": (read == wanted).float().mean().item(),
            "as before": (read == some.labels).float().mean().item(),
            "overlap": overlap(drawn, to_float(some.images)).mean().item()}


TRIPS = [f"{steps}, {sweeps}, {scale}, {scale}" for steps, sweeps, scale in itertools.product(
    ROUND_STEPS, ROUND_SWEEPS, ROUND_SCALES)]
# each group: how it is measured, and what of it
GROUPS = {
    "colour": (edited_scenes("colour"), (
        "copy", "FlowEdit, scale 1, 2 draws", "FlowEdit, scale 1", "strength 0.8", "strength 0.9",
        "inversion, redrawn at 1", "inversion, redrawn at 2", "FlowEdit, scale 1.5")),
    "one of two": (edited_scenes("one of two"), (
        "copy", "FlowEdit, scale 1", "FlowEdit, scale 1, 2 draws", "inversion, redrawn at 2")),
    "digit": (edited_scenes("digit"), ("FlowEdit, scale 2", "FlowEdit, scale 1")),
    "inpainting": (inpainting, (
        "originals", "copy", "scale 2", "scale 1", "scale 4", "scale 2, latents alone")),
    "round trip": (round_trip, (*TRIPS, "50, 3, 1, 2", "50, 3, 1, 4")),
    "strength": (strength, tuple(map(str, STRENGTHS))),
}


# ---- what is kept, and the rows of RESULTS.md

def stored() -> dict:
    return json.loads(STORED.read_text()) if STORED.exists() else {}


def keep(group: str, name: str, seed: int, found: dict):
    """Put one result into the file, beside what is there."""
    kept = stored()
    kept |= {"n": N, "steps": STEPS, "hardware": machine(), "day": time.strftime("%Y-%m-%d")}
    short = {key: float(f"{value:.4g}") for key, value in found.items()}
    kept.setdefault(group, {}).setdefault(name, {})[str(seed)] = short
    STORED.parent.mkdir(exist_ok=True)
    STORED.write_text(json.dumps(kept, indent=1) + "\n")


def sweep(seed: int, groups=tuple(GROUPS), until: float = float("inf")):
    """Measure and keep what is not there yet of these groups; begin nothing new after `until`."""
    models = Models()
    for group in groups:
        measure_one, names = GROUPS[group]
        for name in names:
            done = str(seed) in stored().get(group, {}).get(name, {})
            if done or time.perf_counter() > until:
                continue
            began = time.perf_counter()
            found = measure_one(models, seed, name)
            found.setdefault("seconds", time.perf_counter() - began)
            keep(group, name, seed, found)
            print(f"{group}, {name}, seed {seed}: {found}, {time.perf_counter() - began:.0f} s",
                  flush=True)


def measure():
    STORED.unlink(missing_ok=True)
    for seed in SEEDS:
        sweep(seed)
    yield from claims()


def spent(group: str) -> float:
    """Seconds of a group's edits, as far as they were timed."""
    runs = [run for seeds in stored()[group].values() for run in seeds.values()]
    return sum(run.get("seconds", 0) for run in runs)


def claims():
    """The rows of RESULTS.md, from what is stored."""
    kept = Results(stored())

    def at(group, name):
        count = len(kept.values(group, name, "all"))
        return f"{count * N} scenes, {count} seeds"

    colour, pair, digit = "FlowEdit, scale 1, 2 draws", "FlowEdit, scale 1", "FlowEdit, scale 2"
    yield claim("another colour: all as asked and ink overlaps by more than 0.6",
                kept.mean("colour", colour, "both"), spent("colour"),
                detail=at("colour", colour))
    yield claim("another colour: mean overlap of the ink", kept.mean("colour", colour, "overlap"),
                spent("colour"), detail=f"{at('colour', colour)} (the VAE's copy "
                                        f"{kept.mean('colour', 'copy', 'overlap'):.3f})")
    yield claim("one of two digits: all as asked", kept.mean("one of two", pair, "all"),
                spent("one of two"), detail=at("one of two", pair))
    yield claim("another digit, same place and colour", kept.mean("digit", digit, "all"),
                spent("digit"), detail=at("digit", digit))
    there, plain = kept.trip(50, 3, 1), kept.trip(50, 0, 1)
    yield claim("round trip of inversion, mean squared", there, spent("round trip"), shown=f"{there:.1e}",
                detail=f"50 steps, 3 sweeps, scale 1 (plain {plain:.1e})")
    ratio = kept.mean("inpainting", "scale 2", "seam") / kept.mean("inpainting", "originals", "seam")
    yield claim("inpainting: seam / real pictures'", ratio, spent("inpainting"),
                detail=at("inpainting", "scale 2"))
    yield claim("inpainting: the completed digit read as asked",
                kept.mean("inpainting", "scale 2", "all"), spent("inpainting"),
                detail=at("inpainting", "scale 2"))


if __name__ == "__main__":
    sweep(int(sys.argv[1]), tuple(sys.argv[2:]) or tuple(GROUPS))
