"""The zoo's models, trained where minutes are seconds: a small MNIST model, and one of scenes.

Lessons draw with them on a laptop, so their networks stay small; what a GPU adds is steps. Of some
trainings the best one is named: it is in models.tar, as `zoo-mnist` and `zoo-scenes`.
"""

import shutil
import time
from dataclasses import replace
from unittest import mock

import torch

from benchmarks.gpu_judge import draw, load, save_pictures, without_labels
from benchmarks.gpu_runs import Watch
from benchmarks.gpu_trainings import executed, fit_replaced, scaled
from benchmarks.guidance import share_of_red
from benchmarks.scenes import shares_right
from minildm import data
from minildm.data.scenes import captions, compose
from minildm.demo import hardware
from minildm.diffusion.guidance import Cfg, Interval
from minildm.evaluation.classifier import load_classifier
from minildm.evaluation.score import score
from minildm.nn.unet import UNetConfig
from minildm.nn.vae import VAEConfig
from minildm.recipes import conditions, mnist, scenes
from minildm.recipes.stages import Options, Sizes, VAELoss
from minildm.training.loop import TrainConfig

N = 1000
EXECUTION = "graph"     # small networks: a compiler would take longer than the training
GUIDANCE = Interval(Cfg(2.1), 0.3, 0.9)
MNIST = Sizes(
    VAEConfig(1, 3, (32, 32), blocks=0, attention=False, groups=0, patch=2),
    TrainConfig(steps=2200, batch_size=32, lr=6e-3, warmup=100, decay="cosine", ema=0.98),
    UNetConfig(3, 3, (48, 96), (False, True), blocks=1, context_dim=128, heads=4, groups=8),
    TrainConfig(steps=4000, batch_size=128, lr=2e-3, ema=0.998),
    VAELoss(kl_weight=5e-4))
# of the denoiser: steps, learning rate
MNIST_CANDIDATES = ((8000, 2e-3), (4000, 2e-3), (8000, 4e-3), (4000, 4e-3))
# of the denoiser: steps, the share of sentences that leave something out
SCENES_CANDIDATES = ((12_000, 0.2), (12_000, 0.4))
SCENES_BATCH = 128


def run(bench) -> None:
    for steps, lr in bench.choose(((4, 2e-3),), MNIST_CANDIDATES):
        bench.measure(f"mnist, {steps} steps, lr {lr:g}", 15 + steps / 200,
                      lambda steps=steps, lr=lr: mnist_row(bench, steps, lr))
    for steps, partial in bench.choose(((4, 0.2),), SCENES_CANDIDATES):
        bench.measure(f"scenes, {steps} steps, partial {partial:g}", 50 + steps / 250,
                      lambda steps=steps, partial=partial: scenes_row(bench, steps, partial))
    keep_best(bench, "mnist", mnist_merit)
    keep_best(bench, "scenes", scenes_merit)


def train_one(bench, recipe, images, sizes, options):
    """A trained model, and the seconds of its parts."""
    # each training as the card runs it fastest without a compiler
    sizes = replace(sizes, vae_training=executed_here(bench, sizes.vae_training),
                    training=executed_here(bench, sizes.training))
    watch = Watch(bench.device, ())
    watch.begin()
    with fit_replaced(watch.fit):
        trained = recipe.train(images, options, sizes=sizes)
    seconds = dict(watch.parts)
    if "clip" in seconds:
        seconds["text"] = seconds.pop("clip")       # as the recipes' folders call it
    return trained.model, seconds


def executed_here(bench, config: TrainConfig) -> TrainConfig:
    return executed(config, EXECUTION if bench.device.type == "cuda" else "auto")


def keep(bench, name: str, model, row: dict, seconds: dict) -> dict:
    """Save a model beside what it measured; the row, with the folder in it."""
    folder = bench.work / "candidates" / name
    shutil.rmtree(folder, ignore_errors=True)
    facts = {"data": name.split("-")[0], "seed": 0, "num": N, "hardware": hardware(),
             "scores": row, "seconds": seconds}
    model.save(folder, facts)
    size = sum(file.stat().st_size for file in folder.iterdir())
    return {**row, "seconds": seconds, "folder": str(folder), "bytes": size}


def keep_best(bench, kind: str, merit) -> None:
    """Copy the best candidate's folder to where models are packed from."""
    rows = bench.rows.stages.get(bench.stage, {})
    found = {name: row for name, row in rows.items()
             if name.startswith(kind + ",") and "folder" in row}
    if found:
        best = max(found, key=lambda name: merit(found[name]))
        shutil.copytree(found[best]["folder"], bench.work / "models" / f"zoo-{kind}",
                        dirs_exist_ok=True)
        bench.rows.put(bench.stage, f"best of {kind}", {"is": best})


# ---- MNIST

def mnist_row(bench, steps: int, lr: float) -> dict:
    images = load(bench, "mnist")
    sizes = bench.choose(mnist.SIZES["smoke"], MNIST)
    sizes = replace(sizes, training=replace(sizes.training, steps=steps, lr=lr))
    model, seconds = train_one(bench, mnist, images, sizes, Options("cpu", bar=False))
    model.guidance = GUIDANCE
    row = {}
    for how, guidance in ("guided", model.guidance), ("unguided", ()):
        row |= mnist_scores(bench, model, images, how, guidance)
    row = keep(bench, f"mnist-{steps}-{lr:g}", model, row, seconds)
    save_pictures(bench.work / f"zoo-mnist-{steps}-{lr:g}.png", draw(bench, "mnist", model, 64)[0])
    return row


def mnist_scores(bench, model, images, how: str, guidance) -> dict:
    """Scores of 1,000 digits, each named after how they are guided."""
    labels = torch.arange(bench.choose(40, N)) % 10
    drawn = data.to_uint8(model.generate(labels, guidance=guidance))
    classifier = load_classifier("mnist").to(bench.device)
    found = score(drawn, labels, images, classifier)
    names = ("label_accuracy", "fd_ratio", "precision", "recall", "diversity")
    named = {f"{how}_{name}": found[name] for name in names}
    return named | {f"{how}_{name}": value for name, value in without_labels(drawn, images).items()}


def mnist_merit(row: dict) -> tuple:
    """Unguided digits must be the ones asked for; then the guided distance decides."""
    return row["unguided_label_accuracy"] >= 0.95, -(row["guided_fd_ratio"] or 1e9)


# ---- scenes

def scenes_row(bench, steps: int, partial: float) -> dict:
    images = load(bench, "scenes")
    sizes = scenes.SIZES[bench.choose("smoke", "cpu")]
    training = scaled(sizes.training, steps)
    training = replace(training, batch_size=bench.choose(16, SCENES_BATCH), save_every=0)
    sizes = replace(sizes, training=training)
    # the recipe of a CPU, whose networks lessons can draw with
    options = Options(bench.choose("smoke", "cpu"), bar=False)
    fitted = conditions.fitted

    def executed_clip(images, options):
        recipe = fitted(images, options)
        return replace(recipe, training=executed_here(bench, recipe.training))

    with (mock.patch.object(conditions, "PARTIAL", partial),
          mock.patch.object(conditions, "fitted", executed_clip)):
        model, seconds = train_one(bench, scenes, images, sizes, options)
    began = time.perf_counter()
    row = scenes_scores(bench, model)
    row["judging"] = time.perf_counter() - began
    row = keep(bench, f"scenes-{steps}-{partial:g}", model, row, seconds)
    save_pictures(bench.work / f"zoo-scenes-{steps}-{partial:g}.png",
                  draw(bench, "scenes", model, 64)[0])
    return row


def scenes_scores(bench, model) -> dict:
    """What is right of 500 pictures of each kind, and what negative prompts take away."""
    n, classifier = bench.choose(8, 500), load_classifier("mnist")
    digits = load(bench, "mnist") if bench.smoke else data.load("mnist", "test")
    row = {}
    for held_out in False, True:
        _, truth = compose(digits.images.cpu(), digits.labels.cpu(), n, seed=11, held_out=held_out)
        drawn = model.generate(captions(truth, seed=11)).cpu()
        shares = shares_right(drawn, truth, classifier)
        row |= {f"{what}{'_held_out' if held_out else ''}": share
                for what, share in shares.items() if what in ("colour", "digit", "place")}
    # prompts that name no colour: how many become red, and how many of these a word takes away
    base = share_of_red(model, classifier, "", bench.choose(8, 480))
    row["red"] = base
    for negative in "red", "a red digit":
        share = share_of_red(model, classifier, negative, bench.choose(8, 480))
        row[f"taken away by {negative}"] = 1 - share / base if base else 0.0
    return row


def scenes_merit(row: dict) -> float:
    """The least of what its bars ask for."""
    return min(row["colour"] - 0.95, row["digit"] - 0.9, row["taken away by red"] - 0.8)
