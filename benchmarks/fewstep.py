"""One to four steps against the teacher's twenty, on MNIST's latents:  python -m benchmarks fewstep

The zoo's `mnist-unet`, guided, is the teacher. Two students take over its network and are trained
for equal seconds of a core, guidance baked in: by consistency distillation (the zoo's `mnist-fast`
is seed 0's), and by shortcuts. All draw the same 1,000 digits from the same noise; each number is
kept in stored/fewstep.json, which lesson 17 shows.
`python -m benchmarks.fewstep consistency 0` trains and measures one student of one seed again.
"""

import copy
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.claims import BUILD, claims_of, machine
from minildm import LatentDiffusion, data
from minildm.diffusion.fewstep import JumpNetwork, consistency, jump, shortcut_loss
from minildm.diffusion.guidance import Cfg, guided
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import expand, flow, time_grid
from minildm.evaluation.classifier import load_classifier
from minildm.evaluation.score import score
from minildm.images import to_uint8
from minildm.latents import sample_latents
from minildm.recipes.fewstep import GUIDANCE, TRAINING, distil, with_average

claim = claims_of("fewstep")

STORED = Path(__file__).parent / "stored" / "fewstep.json"
SEEDS = (0, 1, 2)
N = 1000
DIGITS = 12_000         # of the training set, on whose latents the students are trained
STEPS, MANY = (1, 2, 4), 20
# a step of shortcuts takes two calls of the average where consistency takes one
JUMPS = replace(TRAINING, steps=TRAINING.steps * 6 // 7)
KEPT = "fd_ratio", "label_accuracy", "precision", "recall", "diversity", "diversity_floor"


class Bench:
    """The teacher, what it learned, and what judges."""

    def __init__(self):
        self.model = LatentDiffusion.load("mnist-unet")
        self.images = data.load("mnist").subset(DIGITS, seed=0)
        self.reference, self.classifier = data.load("mnist", "test"), load_classifier("mnist")
        self.labels = torch.arange(N) % 10

    def noise(self, seed: int):
        return self.model.noise(N, seed=seed)

    def judged(self, latents) -> dict:
        drawn = to_uint8(self.model.decode(latents))
        found = score(drawn, self.labels, self.reference, self.classifier)
        return {name: float(f"{found[name]:.4g}") for name in KEPT}


def taught(bench: Bench, labels, guidance=GUIDANCE):
    """The teacher as denoise(x, t), told these labels."""
    context, null = bench.model.conditions(labels)
    return guided(bench.model.denoiser, context, null, guidance)


# ---- what is measured of a seed: {steps: scores}, and the seconds of training

@torch.no_grad()
def teacher(bench: Bench, seed: int, guidance=GUIDANCE, steps=(*STEPS, MANY)):
    found = {}
    for k in steps:
        end = last(ddim(taught(bench, bench.labels, guidance), flow, bench.noise(seed),
                        time_grid(k)))
        found[str(k)] = bench.judged(end)
    return found, 0.0


def unguided(bench: Bench, seed: int):
    return teacher(bench, seed, Cfg(1.0), (1, MANY))


def by_consistency(bench: Bench, seed: int):
    began = time.process_time()
    student = distil(bench.model, bench.images, config=replace(TRAINING, seed=seed), bar=False)
    seconds = time.process_time() - began
    student.save(BUILD / f"fewstep-{seed}")

    def end(x, t):
        return student.denoiser(x, t, bench.labels)

    found, ways = {}, {"": consistency, " kept": ddim}
    for k in STEPS:
        for name, sampler in ways.items():
            if k == 1 and name:
                continue
            words = {} if name else {"generator": torch.Generator().manual_seed(seed)}
            drawn = last(sampler(end, flow, bench.noise(seed), time_grid(k), **words))
            found[f"{k}{name}"] = bench.judged(drawn)
    return found, seconds


def by_shortcut(bench: Bench, seed: int):
    began = time.process_time()
    mean, std = bench.model.latent_space.encode(bench.images.images)
    student = JumpNetwork(copy.deepcopy(bench.model.denoiser.network)).requires_grad_(True)

    def loss(average, mean, std, labels, generator):
        denoise = taught(bench, labels)
        return shortcut_loss(
            lambda x, t, s: student(x, t, s, labels), lambda x, t, s: average(x, t, s, labels),
            lambda x, t: (x - denoise(x, t)) / expand(t, x), sample_latents(mean, std, generator),
            generator)

    average = with_average(student, loss, (mean, std, bench.images.labels),
                           replace(JUMPS, seed=seed), bar=False)
    seconds = time.process_time() - began

    def network(x, t, s):
        return average(x, t, s, bench.labels)

    return {str(k): bench.judged(jump(network, bench.noise(seed), time_grid(k)))
            for k in STEPS}, seconds


ARMS = {"teacher": teacher, "unguided": unguided, "consistency": by_consistency,
        "shortcut": by_shortcut}


# ---- what is kept, and the rows of RESULTS.md

def stored() -> dict:
    return json.loads(STORED.read_text()) if STORED.exists() else {}


def keep(arm: str, seed: int, scores: dict, seconds: float):
    """Put one arm's result of one seed into the file, beside what is there."""
    kept = stored() | {"n": N, "digits": DIGITS, "guidance": GUIDANCE.scale,
                       "training": {"consistency": TRAINING.steps, "shortcut": JUMPS.steps,
                                    "batch": TRAINING.batch_size},
                       "hardware": machine(), "day": time.strftime("%Y-%m-%d")}
    row = {"seconds": round(seconds), "steps": scores}
    kept.setdefault(arm, {})[str(seed)] = row
    STORED.write_text(json.dumps(kept, indent=1) + "\n")


def measure_one(arm: str, seed: int, bench: Bench):
    scores, seconds = ARMS[arm](bench, seed)
    keep(arm, seed, scores, seconds)
    for k, found in scores.items():
        print(f"{arm}, seed {seed}, {k}: {found}", flush=True)
    print(f"{arm}, seed {seed}: {seconds:.0f} s of training", flush=True)


def measure():
    STORED.unlink(missing_ok=True)
    bench = Bench()
    for arm in ARMS:
        for seed in SEEDS:
            measure_one(arm, seed, bench)
    yield from claims()


def means(arm: str, steps: int, name: str) -> float:
    values = [row["steps"][str(steps)][name] for row in stored()[arm].values()]
    return sum(values) / len(values)


def claims():
    """The rows of RESULTS.md, from what is stored."""
    rows = stored()["consistency"].values()
    seconds = sum(row["seconds"] for row in rows)
    detail = f"guidance {stored()['guidance']:g} baked in, seeds: {len(rows)}"

    def row(name, value):
        return claim(name, value, seconds, detail=detail)

    one = means("consistency", 1, "fd_ratio")
    yield row("one step: Fréchet distance / floor, N = 1,000", one)
    yield row("one step: label accuracy", means("consistency", 1, "label_accuracy"))
    yield row("one step: recall", means("consistency", 1, "recall"))
    yield row("four steps: Fréchet distance / one step's",
              means("consistency", 4, "fd_ratio") / one)
    # of two cores, both of which a training keeps busy
    yield row("minutes of training on two cores", seconds / len(rows) / 120)


if __name__ == "__main__":
    measure_one(sys.argv[1], int(sys.argv[2]), Bench())
