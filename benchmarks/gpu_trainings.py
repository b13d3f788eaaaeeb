"""The trainings of the recipes, caught on the way: networks, losses and numbers as they really are.

A recipe calls `fit` for each of its networks. Here another function stands in its place: one that
only notes what it was given, or one that also looks at the run from outside.
"""

import contextlib
import functools
from dataclasses import dataclass, fields, replace
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from minildm.data.scenes import compose
from minildm.data.sets import CLASSES, ImageSet
from minildm.diffusion.denoiser import Denoiser
from minildm.nn.clip import CLIP
from minildm.recipes import cifar10, classifier, clip, mnist, scenes, stages
from minildm.recipes.stages import Options
from minildm.training.loop import TrainConfig

RECIPES = {"mnist": mnist, "scenes": scenes, "colour": cifar10}
PICTURES = 4096     # made up, to take steps on


@dataclass
class Training:
    """What a recipe passes to `fit`."""

    model: nn.Module
    loss_fn: object
    data: tuple
    config: TrainConfig


@contextlib.contextmanager
def fit_replaced(fit):
    """Inside the block the recipes call this function in the place of `fit`."""
    with contextlib.ExitStack() as stack:
        for module in (stages, clip, classifier):
            stack.enter_context(mock.patch.object(module, "fit", fit))
        yield


@contextlib.contextmanager
def recorded():
    """Inside the block recipes train nothing; what they would have trained is in the dict."""
    found = {}

    def note(model, loss_fn, data, config, *args, **others):
        found[kind_of(model)] = Training(model, loss_fn, data, config)
        return {}

    # latents of an untrained VAE are allowed to be noise
    unchecked = mock.patch.object(stages, "check_spread", lambda *args: None)
    with fit_replaced(note), unchecked:
        yield found


@contextlib.contextmanager
def noted():
    """Inside the block what the loop says, of a recording that failed say, goes into the dict."""
    said = {}

    def note(text, *args, **others):
        said.setdefault("said", []).append(text)

    with mock.patch.object(tqdm, "write", note):
        yield said


def kind_of(model) -> str:
    """What a model is, as rows name it."""
    if isinstance(model, nn.ModuleDict):
        return "vae"
    if isinstance(model, Denoiser):
        return "denoiser"
    return "clip" if isinstance(model, CLIP) else "classifier"


@functools.cache
def trainings_of(name: str, device: torch.device, smoke: bool) -> dict[str, Training]:
    """The trainings of a recipe at its GPU size, on made-up pictures of its set's form."""
    recipe, options = RECIPES[name], Options("smoke" if smoke else "gpu", bar=False)
    images = made_up(name, 64 if smoke else PICTURES).to(device)
    sizes = recipe.SIZES[options.budget]
    # the critic takes part from the first step on
    sizes = replace(sizes, vae_loss=replace(sizes.vae_loss, adversarial_start=0))
    with recorded() as found:
        recipe.train(images, options, sizes=sizes)
        if name == "colour":
            training = None
            if smoke:
                training = replace(classifier.COLOUR_CLASSIFIER, batch_size=16)
            classifier.train_classifier(images, training, bar=False)
    return found


def made_up(name: str, n: int) -> ImageSet:
    """Random smooth pictures in the place of a set, seed 0."""
    generator = torch.Generator().manual_seed(0)

    def blobs(count: int, channels: int, side: int):
        coarse = torch.randn(count, channels, 4, 4, generator=generator)
        smooth = F.interpolate(coarse, size=(side, side), mode="bilinear")
        return (128 + 80 * smooth).clamp(0, 255).to(torch.uint8)

    labels = torch.arange(n) % 10
    if name == "scenes":
        digits = blobs(100, 1, 28)
        images, truth = compose(digits, torch.arange(100) % 10, n, held_out=False)
        return ImageSet("scenes", "train", images, truth.digits[:, 0], CLASSES["scenes"],
                        truth=truth)
    if name == "colour":
        return ImageSet("cifar10", "train", blobs(n, 3, 32), labels, CLASSES["cifar10"])
    return ImageSet("mnist", "train", blobs(n, 1, 28), labels, CLASSES["mnist"])


def executed(config: TrainConfig, execution: str) -> TrainConfig:
    """The same training, executed in this way, where this version knows ways."""
    known = "execution" in {field.name for field in fields(config)}
    if known:
        return replace(config, execution=execution)
    if execution in ("eager", "auto"):
        return config
    raise NotImplementedError(f"this version executes no {execution}")


def scaled(config: TrainConfig, steps: int) -> TrainConfig:
    """The same training of other steps: warm-up and average take the same share of the run."""
    share = steps / config.steps
    forgotten = min(1.0, (1 - config.ema) / share)      # of the average, with each step
    warmup = max(1, round(config.warmup * min(1.0, share)))
    return replace(config, steps=steps, ema=1 - forgotten, warmup=warmup)
