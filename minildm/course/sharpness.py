"""What lesson 02 and its benchmark share: photographs, judges, and a decoder trained by any loss.

Every run begins from one VAE and trains a copy of its decoder; the encoder stays as it is. So all
losses get the same latents, and whatever differs is what the loss asks the decoder to draw.
"""

import copy

import torch
from torch import nn

from minildm.course.figures import show
from minildm.course.plotting import show_images
from minildm.data import available, load
from minildm.evaluation.classifier import (
    Classifier,
    ClassifierConfig,
    in_batches,
    load_classifier,
)
from minildm.evaluation.metrics import frechet_distance
from minildm.images import crop_to, to_float
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.training.counted import BatchOrder, generator_for
from minildm.training.loop import TrainConfig, fit, lr_at

KL_WEIGHT = 1e-4                # of means
RACE = TrainConfig(400, batch_size=8, lr=1e-3, betas=(0.5, 0.95), warmup=20, clip=0, ema=0,
                   precision="float32")


def photographs(device) -> tuple:
    """CIFAR-10, or digits where it can't be had: its name, the training set, the shuffled test set.
    """
    name = next(name for name in ("cifar10", "mnist", "glyphs") if available(name))
    train, test = (load(name, split, pad=32).to(device) for split in ("train", "test"))
    # a folder's pictures come class by class
    return name, train, test.subset(len(test))


def fresh(make, *arguments, seed: int = 0, **named):
    """A network with weights drawn by the seed, whatever ran before."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make(*arguments, **named)


def two_classifiers(name: str, photos, steps: int) -> tuple:
    """One whose feature maps a loss may use, and another, trained apart, to judge the result.

    The zoo's where it has them, else small ones, trained here for so many steps.
    """
    # where there is no second one, a loss must not share the judge's: it gets a new one
    zoo = [f"{name}-small", name] if name == "cifar10" else [None, "mnist"]
    found = []
    for seed, folder in enumerate(zoo):
        classifier = load_classifier(folder) if folder else None
        classifier = classifier or _small_classifier(photos, steps, seed)
        found.append(classifier.to(photos.images.device).eval().requires_grad_(False))
    return tuple(found)


def _small_classifier(photos, steps: int, seed: int) -> Classifier:
    config = ClassifierConfig(photos.channels, len(photos.class_names), width=16)
    model = fresh(Classifier, config, seed=seed).to(photos.images.device)

    def loss(images, labels, generator):
        return model.loss(to_float(images), labels, generator)

    settings = TrainConfig(steps, 128, lr=3e-3, ema=0.98, seed=seed)
    fit(model, loss, (photos.images, photos.labels), settings, bar=False)
    return model


class Judge:
    """Scores copies of `pictures`: the Fréchet distance of a classifier's features to `others`."""

    def __init__(self, classifier: Classifier, pictures, others):
        self.classifier, self.pictures = classifier, pictures
        self.reference = self.features(others)
        self.floor = self.distance(pictures)

    def features(self, images):
        # the zoo's classifier of digits has seen them without the border of their canvas
        side = 32 if images.shape[1] == 3 else 28
        return in_batches(self.classifier.features, crop_to(images, side))

    def distance(self, images) -> float:
        return frechet_distance(self.features(images.clamp(-1, 1)), self.reference)


def new_vae(channels: int, seed: int = 0) -> AutoencoderKL:
    """A VAE f4 c8, not yet trained. Patches of 4 x 4 pixels become channels at its door."""
    # two residual blocks of 8 x 8 positions are all that it has: patches save most of the time
    config = VAEConfig(channels, 8, (64,), blocks=0, attention=False, groups=0, patch=4)
    return fresh(AutoencoderKL, config, seed=seed)


def squared_error_vae(photos, steps: int, seed: int = 0) -> tuple:
    """A VAE f4 c8, trained with squared error and a small KL term, and the training's history."""
    vae = new_vae(photos.channels, seed).to(photos.images.device)

    def loss(batch, generator):
        images = to_float(batch)
        posterior = vae.encode(images)
        error = (vae.decode(posterior.sample(generator)).float() - images).square().mean()
        kl = posterior.kl().mean()
        return {"loss": error + KL_WEIGHT * kl, "squared error": error, "KL": kl}

    settings = TrainConfig(steps, 32, lr=3e-3, ema=0.98, decay="none", seed=seed)
    history = fit(vae, loss, (photos.images,), settings, bar=False)
    return vae.requires_grad_(False), history


@torch.no_grad()
def copies_of(vae, images):
    """What encoder and decoder make of images, from the means of the latents."""
    parts = [vae.decode(vae.encode(part).mean).clamp(-1, 1) for part in images.split(200)]
    return torch.cat(parts)


@torch.no_grad()
def latents_for(vae, images, generator):
    """Drawn latents as `vae.decoder` takes them."""
    return vae.post_quant_conv(vae.encode(images).sample(generator))


def head_start(critic, hinge_critic, copier, photos, steps: int, seed: int = 0) -> list[float]:
    """Train a critic alone, on photographs and what `copier` makes of them; return its losses."""
    optimizer = torch.optim.AdamW(critic.parameters(), lr=2e-3, betas=RACE.betas)
    device = photos.images.device
    order, losses = BatchOrder(len(photos), 32, seed, device), []
    for i in range(1, steps + 1):
        images = to_float(photos.images[order(i)])
        loss = hinge_critic(critic(images), critic(copier(images)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def judged_rightly(critic, images, copies) -> float:
    """The share of patches that a critic judges rightly, half of them real: 0.5 is guessing."""
    real = in_batches(critic, images) > 0
    fake = in_batches(critic, copies.clamp(-1, 1)) < 0
    return (real.float().mean() + fake.float().mean()).item() / 2


def train_decoder(vae, photos, play, config: TrainConfig = RACE, critic=None) -> tuple:
    """A copy of the VAE whose decoder, alone, was trained by `play`, and what each step returned.

    `play(decoder, critic, optimizers, images, latents)` takes one step. The critic, if there is
    one, is copied as well. Batches and noise depend on the seed and the step alone.
    """
    vae, critic = copy.deepcopy(vae), copy.deepcopy(critic)
    vae.decoder.requires_grad_(True)
    players = [part for part in (vae.decoder, critic) if part is not None]
    optimizers = [torch.optim.AdamW(part.parameters(), config.lr, config.betas,
                                    weight_decay=config.weight_decay) for part in players]
    device = photos.images.device
    order, history = BatchOrder(len(photos), config.batch_size, config.seed, device), []
    for i in range(1, config.steps + 1):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = lr_at(config, i)
        images = to_float(photos.images[order(i)])
        latents = latents_for(vae, images, generator_for(config.seed, "noise", i, device=device))
        history.append(play(vae.decoder, critic, optimizers, images, latents))
    return vae.requires_grad_(False), history


def alone(loss):
    """The step of a decoder without a critic, by a loss of (images, copies)."""

    def play(decoder, critic, optimizers, images, latents):
        value = loss(images, decoder(latents))
        optimizers[0].zero_grad()
        value.backward()
        optimizers[0].step()
        return value.item()

    return play


def against(step, loss, weight: float):
    """The step of a decoder and a critic: `adversarial_step` with its last two arguments given."""

    def play(decoder, critic, optimizers, images, latents):
        return step(decoder, critic, optimizers, images, latents, loss, weight)

    return play


def receptive_field(network: nn.Module, images) -> torch.Tensor:
    """Which pixels the middle score of a fully convolutional network depends on, (H, W)."""
    probe = images[:1].clone().requires_grad_()
    scores = network(probe)
    middle = scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2]
    gradient, = torch.autograd.grad(middle, probe)
    return gradient[0].abs().sum(0)


def crops(images, places, side: int = 20, zoom: int = 8):
    """Enlarged squares of some images, at places (picture, top, left): (N, C, side zoom, ...)."""
    cut = [images[i, :, top:top + side, left:left + side] for i, top, left in places]
    return torch.stack(cut).repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)


def show_crops(versions: dict, places, alt: str, gain: float = 2.0):
    """Draw crops at x8, a column for each version; below each crop, what differs from the first.

    Grey is no difference; the others are shown `gain` times as large as they are.
    """
    original = next(iter(versions.values()))
    cut = [crops(images.clamp(-1, 1), places) for images in versions.values()]
    off = [crops(gain * (images - original), places) for images in versions.values()]
    rows, names = [], []
    # two rows per place: what is seen, and what is wrong with it
    for k in range(len(places)):
        rows += [part[k] for part in cut] + [part[k].clamp(-1, 1) for part in off]
        names += [f"{'abcdefgh'[k]}", "minus original"]
    labels = [*versions] + [""] * (len(rows) - len(versions))
    show_images(torch.stack(rows), labels, cols=len(versions), row_names=names, alt=alt)


def show_spoiled(spoiled: dict, original, feature_maps, distance):
    """Draw, for each way to spoil pictures, the squared error and the perceptual distance."""
    import matplotlib.pyplot as plt

    errors = [(images - original).square().mean().item() for images in spoiled.values()]
    seen = [distance(feature_maps, original, images).item() for images in spoiled.values()]
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.3), sharey=True)
    for each, values, label, colour in zip(axes, (errors, seen), (
            "squared error of pixels", "perceptual distance"), ("C0", "C1"), strict=True):
        bars = each.barh(list(spoiled), values, color=colour)
        each.bar_label(bars, fmt="%.3f", padding=3)
        each.set(xlabel=label, xlim=(0, 1.25 * max(values)))
    words = [f"{name}: {error:.3f} and {far:.3f}"
             for name, error, far in zip(spoiled, errors, seen, strict=True)]
    alt = f"Squared error and perceptual distance of spoiled pictures. {'; '.join(words)}."
    show(figure, alt=alt)
