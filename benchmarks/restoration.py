"""Digits restored from four measurements, without a model, by one prior, and by a trained network:
python -m benchmarks restoration

Test digits are measured with noise; the zoo's model of digits, told no label, draws from the
posterior. Each number is kept in stored/restoration.json, which lesson 13 shows.
`python -m benchmarks.restoration 0 half SECONDS` measures seed 0's tasks whose name has "half".
"""

import json
import sys
import time
from functools import cached_property
from pathlib import Path

import torch

from benchmarks.claims import claims_of, machine
from minildm import LatentDiffusion, data, restoring
from minildm.course import restored
from minildm.course.restored import NOISE_SD, coverage, invented, judged, ranks
from minildm.course.restored_results import SUPER, Results
from minildm.diffusion.guidance import classifier_guidance
from minildm.diffusion.restoration import (
    consistent,
    likelihood,
    projected,
    remaining_error,
)
from minildm.diffusion.samplers import ddim, last
from minildm.evaluation.classifier import load_classifier

claim = claims_of("restoration")

STORED = Path(__file__).parent / "stored" / "restoration.json"
SEEDS = (0, 1, 2)
N, STEPS = 50, restoring.STEPS
MANY = 30           # steps of the ways that move along a path
SAMPLES = {SUPER: 16}       # of the other tasks FEW
FEW = 4
COPY_SD = 0.06      # root mean square of the VAE's copies' error on test digits
TRAINING = 240      # CPU seconds of the network for super-resolution
TASKS = restored.tasks()


class World:
    """The test digits of a seed, measured, and what restores them."""

    def __init__(self, seed: int):
        self.seed = seed
        some = data.load("mnist", "test").subset(N, seed)
        self.truth, self.labels = data.to_float(some.images), some.labels

    @cached_property
    def model(self):
        model = LatentDiffusion.load("mnist-unet")
        for module in (model.vae, model.denoiser):
            module.requires_grad_(False)
        return model

    @cached_property
    def classifier(self):
        return load_classifier("mnist")

    def measured(self, task: str):
        generator = torch.Generator().manual_seed(self.seed)
        return restoring.measure(TASKS[task], self.truth, NOISE_SD, generator)

    def judged(self, pictures) -> dict:
        return judged(pictures, self.truth, self.labels, self.classifier)


# ---- ways to restore: functions (world, task, y) -> pictures

def copied(world, task, y):
    latents = restoring.encoder_of(world.model)(world.truth)
    return world.model.decode(latents)


def without_model(world, task, y):
    return restored.interpolated(task, TASKS[task], y)


def drawn(world, task, y, denoise, eta: float):
    """By DDIM with a denoiser that knows of y, and a last look at the pixels."""
    schedule, noise = world.model.denoiser.schedule, world.model.noise(N, world.seed)
    generator = torch.Generator().manual_seed(world.seed)
    latents = last(ddim(denoise, schedule, noise, restoring.times(world.model, MANY), eta=eta,
                        generator=generator))
    pictures = world.model.decode(latents)
    return consistent(TASKS[task], pictures, y, NOISE_SD, restoring.DECODER_SD).clamp(-1, 1)


def by_projection(world, task, y):
    model = world.model
    denoise = projected(restoring.prior_of(model, N), restoring.encoder_of(model),
                        restoring.decoder_of(model), TASKS[task], y, NOISE_SD, 0.6)
    return drawn(world, task, y, denoise, eta=1)


def by_guidance(world, task, y):
    model = world.model
    prior, schedule = restoring.prior_of(model, N), model.denoiser.schedule
    log_prob = likelihood(prior, schedule, restoring.decoder_of(model), TASKS[task], y, NOISE_SD,
                          spread=0.6)
    return drawn(world, task, y, classifier_guidance(prior, log_prob, schedule, 0.3), eta=0)


def by_prior_alone(world, task, y):
    latents = last(ddim(restoring.prior_of(world.model, N), world.model.denoiser.schedule,
                        world.model.noise(N, world.seed), restoring.times(world.model, STEPS)))
    return world.model.decode(latents)


def by_training(world, task, y):
    pictures = data.to_float(data.load("mnist", "train").images)
    network = restored.train_upsampler(pictures, TRAINING, world.seed)
    return network(y).clamp(-1, 1)


WAYS = {"the VAE's copy": copied, "without a model": without_model, "projection": by_projection,
        "guidance": by_guidance, "the prior alone": by_prior_alone,
        "a network trained for it": by_training}


@torch.no_grad()
def measure_one(world: World, task: str, way: str) -> dict:
    """A way's scores on one task; the posterior's are of one draw, and of the mean of all."""
    y = world.measured(task)
    began = time.perf_counter(), time.process_time()
    if way != "posterior":
        scores = world.judged(WAYS[way](world, task, y))
    else:
        count = SAMPLES.get(task, FEW)
        found = restoring.restore(world.model, TASKS[task], y, NOISE_SD, samples=count,
                                  seed=world.seed)
        seconds = (time.process_time() - began[1]) / (count * N)
        scores = of_samples(world, task, found, count) | {"seconds per draw": seconds}
    return scores | {"seconds": time.perf_counter() - began[0],
                     "CPU seconds": time.process_time() - began[1]}


def of_samples(world: World, task: str, found, count: int) -> dict:
    """Scores of draws and of their mean, and how well the draws are calibrated."""
    mean, one = world.judged(found.mean), [world.judged(draw) for draw in found.samples]
    wrong = invented(found.samples, world.labels, world.classifier)
    places = ranks(found.samples, world.truth)
    inner, outer = coverage(places, count, 0.5), coverage(places, count, 0.9)
    # with what the decoder can't draw, a draw as well: as far as its copies are off
    flat = found.samples.flatten(0, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(world.seed)
        error = remaining_error(TASKS[task], flat, NOISE_SD, COPY_SD)
    places = ranks((flat + error).unflatten(0, found.samples.shape[:2]), world.truth)
    full = coverage(places, count, 0.5), coverage(places, count, 0.9)
    read = world.classifier(found.samples.flatten(0, 1)).softmax(1).unflatten(0, (count, N))
    voted = read.mean(0).argmax(1) == world.labels
    return {
        "samples": count, "psnr": sum(s["psnr"] for s in one) / count,
        "read": sum(s["read"] for s in one) / count, "mean psnr": mean["psnr"],
        "mean read": mean["read"], "vote": voted.float().mean().item(),
        "invented": wrong.float().mean().item(),
        "inner with error": full[0][0], "outer with error": full[1][0],
        "inner": inner[0], "inner wanted": inner[1], "outer": outer[0], "outer wanted": outer[1]}


# ---- what is kept, and the rows of RESULTS.md

def ways_of(task: str) -> list[str]:
    trained = task == SUPER
    return ["posterior", *(way for way in WAYS if trained or way != "a network trained for it")]


def stored() -> dict:
    return json.loads(STORED.read_text()) if STORED.exists() else {}


def keep(task: str, way: str, seed: int, found: dict):
    """Put one result into the file, beside what is there."""
    kept = stored()
    kept |= {"n": N, "steps": STEPS, "hardware": machine(), "day": time.strftime("%Y-%m-%d")}
    short = {key: float(f"{value:.4g}") for key, value in found.items()}
    kept.setdefault(task, {}).setdefault(way, {})[str(seed)] = short
    STORED.write_text(json.dumps(kept, indent=1) + "\n")


def sweep(seed: int, part: str = "", limit: float = float("inf")):
    """Measure what is not there yet; begin nothing new after so many seconds."""
    world, until = World(seed), time.perf_counter() + limit
    for task in TASKS:
        for way in ways_of(task):
            done = str(seed) in stored().get(task, {}).get(way, {})
            if part not in task or done or time.perf_counter() > until:
                continue
            found = measure_one(world, task, way)
            keep(task, way, seed, found)
            print(f"{task}, {way}, seed {seed}: {found}", flush=True)


def claims():
    """The rows of RESULTS.md, from what is stored."""
    kept = Results(stored())

    def seconds(task):
        return sum(kept.values(task, "posterior", "seconds"))

    def at(task):
        count = kept.seeds(task)
        return f"{kept.pictures(task)} digits, {count} seed{'s' if count > 1 else ''}"

    for task in ("half the pixels", "blur", "k-space"):
        mean = kept.mean(task, "posterior", "mean psnr")
        yield claim(f"{task}: PSNR, dB", kept.mean(task, "posterior", "psnr"), seconds(task),
                    detail=f"a draw, {at(task)} (the mean of {FEW} {mean:.2f})")
    yield claim("super-resolution: read as the true digit", kept.mean(SUPER, "posterior", "read"),
                seconds(SUPER), detail=f"draws, {at(SUPER)} (the mean of 16 "
                                       f"{kept.mean(SUPER, 'posterior', 'mean read'):.3f})")
    trained = "a network trained for it"
    if kept.seeds(SUPER, trained):
        gap = kept.mean(SUPER, trained, "psnr") - kept.mean(SUPER, "posterior", "mean psnr")
        yield claim("super-resolution: mean of 16 below a trained network, dB", gap, seconds(SUPER),
                    detail=at(SUPER))
    for task in TASKS:
        yield claim("truth within the spread, points off", kept.off(task), seconds(task),
                    detail=f"{task}, {at(task)}")
    slowest = max(kept.mean(task, "posterior", "seconds per draw") for task in TASKS)
    yield claim("CPU seconds per draw", slowest, sum(map(seconds, TASKS)), detail="the slowest task")


def measure():
    STORED.unlink(missing_ok=True)
    for seed in SEEDS:
        sweep(seed)
    yield from claims()


if __name__ == "__main__":
    seed, part, seconds = [*sys.argv[1:], *["0", "", "inf"][len(sys.argv) - 1:]]
    sweep(int(seed), part, float(seconds))
