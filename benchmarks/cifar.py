"""The demo on CIFAR-10, four seeds, and the classifier that judges it, on 2 cores without a GPU.

The distance differs much from seed to seed, so its bars are on the median of four trainings and on
the worst of them. Beside the judge's distance stand two in which no label has a say: the recipe
draws features of a classifier that was taught by the same labels as the judge, and may please it
for that reason. That classifier's own training, 8.9 minutes, is not in the demo's minutes.

Each seed takes half an hour, and is kept in stored/cifar.json: run it again, and it goes on.
"""

import json
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.claims import claims_of, machine
from benchmarks.commands import demo_folder, run_demo
from minildm import ZOO, data
from minildm.evaluation.pixels import label_free

claim = claims_of("cifar")

SEEDS = 0, 1, 2, 3
STORED = Path(__file__).parent / "stored" / "cifar.json"


def run(seed: int) -> dict:
    """One demo: its scores and seconds, with the distances in which no label has a say."""
    facts, seconds, _ = run_demo("cifar10", fresh=False, seed=seed)
    drawn = np.load(demo_folder("cifar10", seed) / "samples.npz")["images"]
    # a file of pictures has its channels last
    drawn = torch.as_tensor(drawn).movedim(-1, 1)
    found = label_free(drawn, data.load("cifar10").images)
    ratios = {f"{name}_ratio": found[name] / found[f"{name}_floor"]
              for name in ("fd_pixels", "fd_random")}
    return {"seed": seed, "hardware": machine(), "seconds": seconds, "spent": facts["seconds"],
            **facts["scores"], **ratios}


def runs() -> list[dict]:
    """All seeds' runs, those that are missing made now."""
    kept = json.loads(STORED.read_text()) if STORED.exists() else []
    done = {row["seed"] for row in kept}
    for seed in SEEDS:
        if seed not in done:
            kept.append(run(seed))
            STORED.write_text(json.dumps(kept, indent=1) + "\n")
    return kept


def measure():
    kept = runs()
    first = kept[0]
    judge = json.loads((ZOO / "cifar10-classifier" / "state.json").read_text())["measured"]
    yield claim("test accuracy of the classifier", judge["test_accuracy"], 60 * judge["minutes"])
    yield claim("PSNR of test images at f4 c16, dB", first["psnr"], first["spent"]["vae"])
    for part in "vae", "denoiser":
        spent = first["spent"][part]
        yield claim(f"minutes of training the {part}", spent / 60, spent)
    seconds = sum(row["seconds"] for row in kept)
    for name, key, of in (
            ("label accuracy, worst of 4 seeds", "label_accuracy", min),
            ("Fréchet distance / floor, N = 1,000, median of 4 seeds", "fd_ratio", median),
            ("Fréchet distance / floor, N = 1,000, worst of 4 seeds", "fd_ratio", max),
            ("the same in 8 × 8 pixels, median of 4 seeds", "fd_pixels_ratio", median),
            ("the same in a random network, median of 4 seeds", "fd_random_ratio", median),
            ("recall, worst of 4 seeds", "recall", min)):
        yield claim(name, of(row[key] for row in kept), seconds)
