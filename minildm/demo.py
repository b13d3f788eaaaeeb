"""The main job: from images to a trained latent diffusion model, its drawings and what they are
worth.
"""

import contextlib
import json
import os
import platform
import time
from pathlib import Path
from types import ModuleType

import torch

from minildm import budget, data, plotting
from minildm.evaluation.classifier import load_classifier
from minildm.evaluation.metrics import psnr
from minildm.evaluation.score import finite, format_scores, score
from minildm.latents import encode_all, padded
from minildm.recipes import cifar10, mnist, scenes
from minildm.recipes.classifier import classifier_for, short_training, train_classifier
from minildm.recipes.preflight import check_before_training
from minildm.recipes.stages import Options, Trained, mirrors
from minildm.samples import save_samples
from minildm.training import checkpoint, distributed

FALLBACK = (
    "MNIST was neither found nor downloaded: these are GLYPHS, digits drawn from fonts, not MNIST"
)


def hardware() -> str:
    """The machine in a few words, for the side of every measured number."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), name)
    return f"{os.cpu_count()} CPU cores, {name}"


def experiment_for(images: data.ImageSet) -> ModuleType:
    """The experiment that a set belongs to: that of captions, of colour, or of grey pictures."""
    if images.truth is not None:
        return scenes
    return cifar10 if images.images.shape[1] == 3 else mnist


def options_for(recipe_name: str, seed: int, words=("auto", "flow"), captions: bool = False,
                mirror: bool | None = None) -> Options:
    """What the command line says of an experiment; words are backbone and objective."""
    backbone, objective = words
    if recipe_name == "auto":
        recipe_name = budget(smoke="smoke", cpu="cpu", gpu="gpu")
    return Options(recipe_name, seed, backbone, objective, captions, mirror)


def load_for_training(name: str, size: int | None = None) -> tuple[data.ImageSet, str]:
    """The training set on the device, and a note when it is not the one that "auto" hoped for."""
    auto = name == "auto"
    name = data.default() if auto else name
    note = FALLBACK if auto and name == "glyphs" else ""
    found = data.load(name, **({"size": size} if size else {}))
    return found.to("cuda" if torch.cuda.is_available() else "cpu"), note


def announce(command: str, images: data.ImageSet, options: Options):
    """Say what is about to be trained, in one line."""
    side = images.images.shape[-1]
    mirror = "with" if mirrors(images, options) else "without"
    print(
        f"{command}: {len(images):,} images of {images.name}, {side} x {side}, "
        f"{mirror} mirror images, "
        f"recipe {options.budget}, {options.backbone} {options.objective}, seed {options.seed}, "
        f"{hardware()}"
    )


def train_model(name: str, out: Path, seed: int, recipe_name: str, words=("auto", "flow"),
                captions: bool = False, size: int | None = None, mirror: bool | None = None):
    """Train on a set and keep the model in OUT/model."""
    images, _ = load_for_training(name, size)
    options = options_for(recipe_name, seed, words, captions, mirror)
    announce("train", images, options)
    with locked(out):
        check_before_training(images, out)
        trained = experiment_for(images).train(images, options, out)
        if not distributed.is_first():
            return
        trained.model.save(out / "model")
    command = f"minildm sample --model {out / 'model'}"
    if captions or images.truth is not None:
        command += f' --prompt "{images.captions[0]}"'
    print(f"the model is in {out / 'model'}: {command}")


def judge_of(images: data.ImageSet, out: Path, mirror: bool | None = None):
    """The zoo's classifier of this set; where there is none, one trained here, in a minute or a
    few.
    """
    classifier = load_classifier(images.name)
    if classifier is None:
        print("training a classifier of this set, to measure with")
        config, training = classifier_for(images, mirror)
        training = short_training(images, config, training)
        classifier = train_classifier(images, training, out / "classifier", config=config)
    return classifier.to(images.images.device)


def measure(samples, labels, real: data.ImageSet, out: Path, mirror: bool | None = None) -> dict:
    """Scores of uint8 samples beside their floors, on as many as the real set allows."""
    n = min(len(samples), len(real) // 2)
    # a part by seed: samples come class by class in turn
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))
    pick = order[:n].to(samples.device)
    return score(samples[pick], labels[pick], real, judge_of(real, out, mirror))


@torch.no_grad()
def reconstruction_psnr(model, test: data.ImageSet) -> float | None:
    """Mean PSNR in dB of a set's images through the VAE and back, at their own size."""
    images = test.images.to(model.device)
    # in float32 and without features: the VAE alone is measured
    vae = model.vae
    side = padded(model.image_size, vae.config.factor * model.denoiser.network.multiple)
    latents = encode_all(vae, images, side=side).mean
    space = getattr(model.latent_space, "space", model.latent_space)       # without features
    return finite(psnr(space.decode(latents), data.to_float(images)))


def demo(name: str, out: Path, num: int, seed: int, recipe_name: str, words=("auto", "flow"),
         size: int | None = None, mirror: bool | None = None):
    """Train, draw `num` pictures, measure: samples.png, samples.npz, metrics.json, losses.png,
    model/.
    """
    began = time.perf_counter()
    real, note = load_for_training(name, size)
    options = options_for(recipe_name, seed, words, mirror=mirror)
    if note:
        print(note)
    announce("demo", real, options)
    # two commands in one folder would write the same files
    with locked(out):
        test = check_before_training(real, out, num, size)
        seconds = {"data": time.perf_counter() - began}
        trained = experiment_for(real).train(real, options, out)
        if distributed.is_first():
            trained.model.save(out / "model")   # measured below, kept whatever happens there
        seconds["vae"] = sum(trained.vae_history["seconds"])
        seconds["denoiser"] = sum(trained.history["seconds"])
        images, labels = draw(trained, real, num, seed, seconds)
        # what remains is for one process
        if not distributed.is_first():
            return
        keep_drawings(trained, images, labels, real, out)
        facts = {"data": real.name, "recipe": options.budget, "backbone": options.backbone,
                 "objective": options.objective, "seed": seed, "num": num, "hardware": hardware()}
        clock = time.perf_counter()
        with distributed.alone():
            scores = measure(images, labels, real, out, mirror)
        scores["psnr"] = reconstruction_psnr(trained.model, test) if test is not None else None
        seconds["measuring"] = time.perf_counter() - clock
        seconds["total"] = time.perf_counter() - began
        facts["scores"] = scores
        facts["seconds"] = {key: round(value, 1) for key, value in seconds.items()}
        trained.model.save(out / "model", facts)
        write_json(out / "metrics.json", facts)
    report(scores, seconds, out)
    if note:
        print(note)


def locked(out: Path):
    """A lock on OUT for a block; one process holds it for all that share a training."""
    return checkpoint.lock(out) if distributed.is_first() else contextlib.nullcontext()


def draw(trained: Trained, real: data.ImageSet, num: int, seed: int, seconds: dict):
    """Draw every class in turn, num pictures: uint8 images and labels."""
    clock = time.perf_counter()
    labels = (torch.arange(num) % len(real.class_names)).to(real.images.device)
    images = data.to_uint8(distributed.generate(trained.model, labels, seed=seed))
    seconds["sampling"] = time.perf_counter() - clock
    return images, labels


def keep_drawings(trained: Trained, images, labels, real: data.ImageSet, out: Path):
    """Write uint8 images with their labels, and the losses that led to them, to OUT."""
    save_samples(out / "samples.npz", images, labels)
    plotting.save_grid(out / "samples.png", images.cpu(), labels.cpu(), real.class_names)
    plotting.plot_losses(trained.vae_history, out / "losses-vae.png", title="VAE")
    plotting.plot_losses(trained.history, out / "losses.png", title="denoiser")


def report(scores: dict, seconds: dict, out: Path):
    """Print what was measured, and where the pictures are."""
    print(format_scores(scores))
    decibels = "-" if scores["psnr"] is None else f"{scores['psnr']:.2f}"
    print(f"reconstruction  {decibels:>10} dB PSNR")
    print(", ".join(f"{key} {value:.0f} s" for key, value in seconds.items()))
    print(f"look at {out / 'samples.png'}")


def write_json(path: Path, facts: dict):
    """Write a file whole, in the place of a link too; NaN, which JSON has not, is refused."""
    part = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    # a rename replaces a link itself: nothing outside of the folder is written
    part.write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n")
    os.replace(part, path)
