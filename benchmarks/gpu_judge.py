"""What a model's pictures are worth, and how long it takes to draw and to judge them."""

import math
import time

import torch
from PIL import Image

from benchmarks.gpu_peaks import wait
from benchmarks.gpu_trainings import made_up
from benchmarks.scenes import shares_right
from minildm import data
from minildm.data.scenes import captions, compose
from minildm.evaluation.classifier import load_classifier
from minildm.evaluation.pixels import label_free
from minildm.evaluation.score import score

SETS = {"mnist": "mnist", "scenes": "scenes", "colour": "cifar10"}
N = 1000                    # pictures that are judged
SCORES = ("label_accuracy", "fd_ratio", "precision", "recall", "diversity", "fd")


def load(bench, name: str) -> data.ImageSet:
    """A training set on the device; made-up pictures where everything is tiny."""
    images = made_up(name, 200) if bench.smoke else data.load(SETS[name])
    return images.to(bench.device)


def draw(bench, name: str, model, n: int):
    """n pictures uint8, and what was asked for: labels, or what the sentences say."""
    if name == "scenes":
        digits = made_up("mnist", 200) if bench.smoke else data.load("mnist", "test")
        _, truth = compose(digits.images, digits.labels, n, seed=11, held_out=False)
        return data.to_uint8(model.generate(captions(truth, seed=11))), truth
    labels = torch.arange(n) % 10
    return data.to_uint8(model.generate(labels)), labels


def judge(bench, name: str, model, images, n: int | None = None) -> dict:
    """Scores of pictures that a model draws, each by the functions that the demo's stand on."""
    began = time.perf_counter()
    drawn, asked = draw(bench, name, model, n or bench.choose(40, N))
    seconds = time.perf_counter() - began
    row = {"n": len(drawn), "seconds_of_sampling": seconds}
    if name == "scenes":
        # rules and classifier of scenes work on the CPU
        classifier = load_classifier("mnist")
        shares = shares_right(data.to_float(drawn).cpu(), asked, classifier)
        row |= {f"{what}_right": share for what, share in shares.items()}
    else:
        classifier = load_classifier(SETS[name]).to(bench.device)
        found = score(drawn, asked, images, classifier)
        row |= {key: found[key] for key in SCORES}
        row["real"] = {key: found[f"{key}_floor"] for key in SCORES if f"{key}_floor" in found}
    return row | without_labels(drawn, images)


def without_labels(drawn, images) -> dict:
    """Distance of thumbnails and contrast, which need no network, beside those of real pictures."""
    found = label_free(drawn, images.images)
    return {"fd_pixels_ratio": found["fd_pixels"] / max(found["fd_pixels_floor"], 1e-12),
            "contrast_ratio": found["contrast"] / found["contrast_real"]}


def sampling_row(bench, model) -> dict:
    """Seconds of drawing pictures, the networks' calls recorded and replayed, and as written."""
    n = bench.choose(10, N)
    labels, row, drawn = torch.arange(n) % 10, {"n": n}, []
    for record in True, False:
        wait(bench.device)
        began = time.perf_counter()
        drawn.append(model.generate(labels, record=record))
        wait(bench.device)
        row["seconds" if record else "seconds_as_written"] = time.perf_counter() - began
    row["difference"] = (drawn[0] - drawn[1]).abs().max().item()
    return row


def scoring_row(bench) -> dict:
    """Seconds to judge 50,000 pictures: MNIST's own, against the set that they are from."""
    images = load(bench, "mnist")
    n = bench.choose(40, 50_000)
    classifier = load_classifier("mnist").to(bench.device)
    began = time.perf_counter()
    score(images.images[:n], images.labels[:n], images, classifier)
    return {"n": n, "seconds": time.perf_counter() - began}


def save_pictures(path, images) -> None:
    """uint8 pictures (N, C, H, W) as one PNG, as many rows as columns, each pixel nine."""
    side = math.isqrt(len(images))
    rows = images[:side**2].cpu().unflatten(0, (side, side))                # (R, K, C, H, W)
    grid = rows.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)          # (R H, K W, C)
    grid = grid.expand(-1, -1, 3).contiguous().numpy()
    picture = Image.fromarray(grid)
    picture.resize((3 * grid.shape[1], 3 * grid.shape[0]), Image.NEAREST).save(path)
