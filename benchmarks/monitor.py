"""Healthy runs and broken ones before the monitor:  python -m benchmarks monitor

Ten healthy runs of a small network on MNIST's latents, each with a seed of its own, are trained
with the bounds of `training.monitor` and looked over by `training.checkup`. With each seed ten
mistakes are made: four train a network of their own, six come after the healthy training. Counted
are healthy runs that were warned, and broken ones whose own number, the one that names the mistake,
left its bound first. Kept in stored/monitor.json, which A1 shows.
`python -m benchmarks.monitor 0 1` runs two seeds again.
"""

import copy
import json
import sys
import time
from pathlib import Path

import torch

from benchmarks.claims import claims_of, machine
from minildm import LatentDiffusion, data
from minildm.conditioners import Labels
from minildm.course.hunting import counts
from minildm.course.patients import fit, fresh, in_units
from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.guidance import Cfg
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import flow, linear, time_grid
from minildm.evaluation.classifier import load_classifier
from minildm.training.checkup import judge, look_over
from minildm.training.monitor import violations

claim = claims_of("monitor")

STORED = Path(__file__).parent / "stored" / "monitor.json"
SEEDS = range(10)
STEPS, DIGITS, SEEN = 400, 6000, 200
# a mistake, and the number that names it
NAMED = {
    "the velocity is read as v": "misread",
    "another schedule in drawing": "misread",
    "the average is not loaded": "average_gap",
    "a checkpoint is loaded in part": "loaded_part",
    "another null label": "null_off",
    "the grid of times is reversed": "drawn_std",
    "labels shuffled against pictures": "label_gain",
    "latents not scaled": "latent_std",
    "pictures in [0, 1]": "least_pixel",
    "dropout in drawing": "two_calls",
}
UNITS = 5.5         # the standard deviation of raw latents, where they are not scaled


class WrongNull(Labels):
    """Labels that guidance leads away from the digit 0, not from no digit."""

    @property
    def null_label(self) -> int:
        return 0


class Bench:
    """The pictures, the zoo's VAE and its latents, and the judge."""

    def __init__(self):
        self.zoo = LatentDiffusion.load("mnist-unet")
        self.judge = load_classifier("mnist").requires_grad_(False)
        self.names = tuple("0123456789")
        self.train = data.load("mnist").subset(DIGITS, seed=0)
        self.test = data.load("mnist", "test").subset(SEEN, seed=0)
        self.latents = self.encoded(data.to_float(self.train.images))

    @torch.no_grad()
    def encoded(self, pictures, vae=None):
        vae = vae or self.zoo.vae
        parts = [vae.encode(data.pad_to(part, 32)).mean for part in pictures.split(500)]
        return vae.normalise(torch.cat(parts))

    def trained(self, seed: int, latents=None, labels=None, **words):
        """A network of this seed: its average, and the network with its last weights."""
        network = fresh(seed, **words)
        latents = self.latents if latents is None else latents
        average, losses = fit(network, latents, self.train.labels if labels is None else labels,
                              STEPS, torch.Generator().manual_seed(seed))
        size = latents.std().item()
        # a velocity's mean square is that of noise and data together
        history = {"unexplained": [loss / (1 + size**2) for loss in losses],
                   "data_std": [size] * STEPS}
        self.warned = [violation.bound.metric for violation in violations(history)]
        return average, network.eval()

    def model(self, network, schedule=flow, kind="flow", conditioner=None):
        return LatentDiffusion(
            latent_space=copy.deepcopy(self.zoo.latent_space),
            denoiser=Denoiser(network, schedule, kind), guidance=Cfg(2.0),
            conditioner=conditioner or Labels(self.names), class_names=self.names)

    def looked(self, model, average, seed: int, images=None, draw=None, saved=None) -> dict:
        """The numbers of a model, and the bounds that it leaves, in their order."""
        images = self.test.images if images is None else images
        saved = saved or average.state_dict()
        numbers = look_over(model, images, self.test.labels, self.judge, saved, draw, seed)
        left = [violation.bound.metric for violation in judge(numbers)]
        short = {name: float(f"{n:.4g}") for name, n in numbers.items()}
        return {"training": self.warned, "left": left, **short}


# ---- the mistakes, each with the healthy network (average, last) of the seed at hand

def as_v(bench, seed, average, last_weights):
    return bench.looked(bench.model(average, kind="v"), average, seed)


def other_schedule(bench, seed, average, last_weights):
    return bench.looked(bench.model(average, schedule=linear), average, seed)


def not_averaged(bench, seed, average, last_weights):
    return bench.looked(bench.model(last_weights), average, seed)


def in_part(bench, seed, average, last_weights):
    """The layers have another name in the checkpoint: what fits is loaded, and nothing said."""
    network = fresh(seed + 100).eval()
    saved = {name.replace("layers", "blocks"): t for name, t in average.state_dict().items()}
    network.load_state_dict(saved, strict=False)
    return bench.looked(bench.model(network), average, seed, saved=saved)


def wrong_null(bench, seed, average, last_weights):
    model = bench.model(average, conditioner=WrongNull(bench.names))
    return bench.looked(model, average, seed)


def reversed_grid(bench, seed, average, last_weights):
    model = bench.model(average)

    def draw(labels):
        times = time_grid(20, 1e-3, 1.0)
        guess = model.denoiser
        return last(ddim(lambda x, t: guess(x, t, labels), flow, model.noise(len(labels), seed),
                         times))

    return bench.looked(model, average, seed, draw=draw)


def shuffled(bench, seed, average, last_weights):
    order = torch.randperm(DIGITS, generator=torch.Generator().manual_seed(seed))
    average, _ = bench.trained(seed, labels=bench.train.labels[order])
    return bench.looked(bench.model(average), average, seed)


def unscaled(bench, seed, average, last_weights):
    """The same VAE in other units, whose scale nobody measured."""
    vae = in_units(bench.zoo.vae, UNITS)
    average, _ = bench.trained(seed, bench.encoded(data.to_float(bench.train.images), vae))
    model = bench.model(average)
    model.latent_space.vae = vae
    return bench.looked(model, average, seed)


def unit_range(bench, seed, average, last_weights):
    wrong = data.to_float(bench.train.images) / 2 + 0.5
    average, _ = bench.trained(seed, bench.encoded(wrong))
    images = data.to_float(bench.test.images) / 2 + 0.5
    return bench.looked(bench.model(average), average, seed, images)


def with_dropout(bench, seed, average, last_weights):
    average, _ = bench.trained(seed, dropout=0.2)
    model = bench.model(average)
    model.denoiser.train()
    return bench.looked(model, average, seed)


MISTAKES = dict(zip(NAMED, (as_v, other_schedule, not_averaged, in_part, wrong_null, reversed_grid,
                            shuffled, unscaled, unit_range, with_dropout), strict=True))


# ---- what is kept, and the rows of RESULTS.md

def stored() -> dict:
    return json.loads(STORED.read_text()) if STORED.exists() else {}


def measure_one(bench: Bench, seed: int):
    began = time.process_time()
    average, last_weights = bench.trained(seed)
    found = {"healthy": bench.looked(bench.model(average), average, seed)}
    for name, mistake in MISTAKES.items():
        found[name] = mistake(bench, seed, average, last_weights)
    for name, row in found.items():
        print(f"seed {seed}, {name}: {row}", flush=True)
    kept = stored() | {"steps": STEPS, "digits": DIGITS, "seen": SEEN, "named": NAMED,
                       "hardware": machine(), "day": time.strftime("%Y-%m-%d")}
    seconds = round(time.process_time() - began, 1)
    kept.setdefault("runs", {})[str(seed)] = {"seconds": seconds, **found}
    STORED.write_text(json.dumps(kept, indent=1) + "\n")


def measure():
    STORED.unlink(missing_ok=True)
    bench = Bench()
    for seed in SEEDS:
        measure_one(bench, seed)
    yield from claims()


def claims():
    kept = stored()
    table = counts(kept)
    seconds = sum(run["seconds"] for run in kept["runs"].values())
    runs = len(kept["runs"])
    named = sum(first == n for name, (n, _, first) in table.items() if name != "healthy")
    detail = f"{runs} runs each"
    yield claim("healthy runs warned", table["healthy"][1], seconds, detail=detail)
    yield claim("mistakes of ten named in every run", named, seconds, detail=detail)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in sys.argv[1:]:
        measure_one(Bench(), int(each))
