"""The main job: from images to a trained latent diffusion model, its drawings and what they are worth."""

import json
import os
import platform
import time
from dataclasses import replace
from pathlib import Path

import torch

from minildm import budget, data, plotting
from minildm import model as pipeline
from minildm.evaluation.metrics import psnr
from minildm.evaluation.score import format_scores, score
from minildm.recipes import classifier as classifiers
from minildm.recipes import stages as recipes
from minildm.recipes.stages import Recipe
from minildm.samples import save_samples

FALLBACK = "MNIST was neither found nor downloaded: these are GLYPHS, digits drawn from fonts, not MNIST"


def hardware() -> str:
    """The machine in a few words, for the side of every measured number."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), name)
    return f"{os.cpu_count()} CPU cores, {name}"


def recipe_for(name: str, seed: int, images: data.ImageSet, words,
               captions: bool = False) -> tuple[str, Recipe]:
    """A recipe for a set by name, "auto" by budget, with this seed; words are backbone and objective."""
    if name == "auto":
        name = budget(smoke="smoke", cpu="cpu", gpu="gpu")
    recipe = recipes.variant(recipes.named(name, images), *words)
    if captions:
        recipe = pipeline.with_captions(recipe, images)

    def fitted(config):
        return replace(config, seed=seed, batch_size=min(config.batch_size, len(images)))

    return name, replace(recipe, vae_training=fitted(recipe.vae_training), training=fitted(recipe.training),
                         text=recipe.text and replace(recipe.text, training=fitted(recipe.text.training)))


def load_for_training(name: str) -> tuple[data.ImageSet, str]:
    """The training set on the device, and a note when it is not the one that "auto" hoped for."""
    auto = name == "auto"
    name = data.default() if auto else name
    note = FALLBACK if auto and name == "glyphs" else ""
    found = data.load(name)
    return found.to("cuda" if torch.cuda.is_available() else "cpu"), note


def train_model(name: str, out: Path, seed: int, recipe_name: str, words, captions: bool = False):
    """Train on a set and keep the model in OUT/model."""
    images, _ = load_for_training(name)
    _, recipe = recipe_for(recipe_name, seed, images, words, captions)
    pipe, _, _ = pipeline.train(recipe, images, out)
    pipe.save(out / "model")
    print(f"the model is in {out / 'model'}: minildm sample --model {out / 'model'}")


def classifier_for(images: data.ImageSet, out: Path):
    """The zoo's classifier of this set; where there is none, one trained here, in a minute or a few."""
    classifier = recipes.load_classifier(images.name)
    if classifier is None:
        print("training a classifier of this set, to measure with")
        kind, recipe = classifiers.classifier_for(images)
        steps = budget(smoke=20, cpu=150 if kind.pool else 600, gpu=2400)
        config = replace(recipe, steps=steps, batch_size=min(recipe.batch_size, len(images)))
        classifier = classifiers.train_classifier(images, config, out / "classifier")
    return classifier.to(images.images.device)


def measure(samples, labels, real: data.ImageSet, out: Path) -> dict:
    """Scores of uint8 samples beside their floors, on as many as the real set allows."""
    n = min(len(samples), len(real) // 2)
    pick = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))[:n].to(samples.device)
    return score(samples[pick], labels[pick], real, classifier_for(real, out))


@torch.no_grad()
def reconstruction_psnr(pipe, name: str, limit: int = 2000) -> float:
    """Mean PSNR in dB of test images through the VAE and back, at their own size."""
    test = data.load(name, "test").subset(limit).to(pipe.device)
    side = pipeline.padded(pipe.image_size, pipe.recipe)
    real = data.to_float(data.pad_to(test.images, side))
    back = torch.cat([pipe.vae.decode(pipe.vae.encode(batch).mean) for batch in real.split(250)]).clamp(-1, 1)
    return psnr(data.crop_to(back, pipe.image_size), data.crop_to(real, pipe.image_size))


def demo(name: str, out: Path, num: int, seed: int, recipe_name: str, words):
    """Train, draw `num` pictures, measure: samples.png, samples.npz, metrics.json, losses.png, model/."""
    began = time.perf_counter()
    real, note = load_for_training(name)
    recipe_name, recipe = recipe_for(recipe_name, seed, real, words)
    if note:
        print(note)
    print(f"demo: {len(real):,} images of {real.name}, recipe {recipe_name}, {' '.join(words)}, "
          f"seed {seed}, {hardware()}")
    seconds = {"data": time.perf_counter() - began}

    pipe, vae_metrics, metrics = pipeline.train(recipe, real, out)
    pipe.save(out / "model")                # measured below, kept whatever happens there
    seconds |= {"vae": sum(vae_metrics["seconds"]), "denoiser": sum(metrics["seconds"])}

    classes, clock = len(real.class_names), time.perf_counter()
    labels = (torch.arange(num) % classes).to(real.images.device)
    images = data.to_uint8(pipe.generate(labels, seed=seed))
    seconds["sampling"] = time.perf_counter() - clock
    save_samples(out / "samples.npz", images, labels)
    plotting.save_grid(out / "samples.png", images.cpu(), labels.cpu(), real.class_names)
    plotting.plot_losses(vae_metrics, out / "losses-vae.png", title="VAE")
    plotting.plot_losses(metrics, out / "losses.png", title="denoiser")

    clock = time.perf_counter()
    scores = measure(images, labels, real, out)
    scores["psnr"] = reconstruction_psnr(pipe, real.name)
    seconds["measuring"] = time.perf_counter() - clock
    seconds["total"] = time.perf_counter() - began
    facts = {"data": real.name, "recipe": recipe_name, "backbone": words[0], "objective": words[1],
             "seed": seed, "num": num, "hardware": hardware(), "scores": scores,
             "seconds": {key: round(value, 1) for key, value in seconds.items()}}
    pipe.save(out / "model", facts)
    (out / "metrics.json").write_text(json.dumps(facts, indent=2) + "\n")

    print(format_scores(scores))
    print(f"reconstruction  {scores['psnr']:>10.2f} dB PSNR")
    print(", ".join(f"{key} {value:.0f} s" for key, value in seconds.items()))
    print(f"look at {out / 'samples.png'}")
    if note:
        print(note)
