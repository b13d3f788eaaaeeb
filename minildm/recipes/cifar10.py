"""Colour pictures with labels, from data to model: CIFAR-10 in half an hour on two cores.

The half hour counts on a stored classifier that was taught by CIFAR-10's labels, in 8.9 minutes
more (`cifar10-small-classifier`): its features are drawn beside the latents. So the figures below
are not of pictures alone, and their judge is a classifier of the same kind.

    images and their mirror images -> VAE -> latents, features beside them -> denoiser
    -> classifier-free guidance, and away from what the denoiser said early in its training

Any colour set will do. What is special to photographs, and was tuned on CIFAR-10, it does not get:
mirror images, a classifier's features beside the latents, and the guide.
"""

import copy
from typing import NamedTuple

from minildm.data.sets import ImageSet
from minildm.diffusion.guidance import Autoguidance, Cfg
from minildm.images import pad_to
from minildm.latents import FeatureLatents, VAELatents
from minildm.model import LatentDiffusion
from minildm.nn.dit import DiTConfig
from minildm.nn.vae import VAEConfig
from minildm.recipes.conditions import condition
from minildm.recipes.fitting import fit_sizes, size_of
from minildm.recipes.stages import (
    USUAL,
    Options,
    Sizes,
    Trained,
    VAELoss,
    build,
    denoiser_for,
    facts_of,
    feature_extractor,
    features_of,
    mirrors,
    shortened,
    stage_folders,
    train_denoiser,
    train_vae,
)
from minildm.spec import Sampling
from minildm.training.loop import TrainConfig

SIZES = {
    # seconds: to see that everything runs, not to look at
    "smoke": Sizes(
        VAEConfig(3, 16, (16,), blocks=1, attention=False, groups=4, patch=4),
        TrainConfig(steps=20, batch_size=32, lr=2e-3, ema=0.9),
        DiTConfig(16, 16, dim=32, depth=2, heads=2, patch=2),
        TrainConfig(steps=20, batch_size=32, lr=1e-3, ema=0.9),
    ),
    # 2 cores of an AMD EPYC with AVX-512 bf16, seed 0: 41.4 dB, label accuracy 0.90 (real 0.94),
    # FD 12 x floor, precision 0.89, recall 0.74; training 27 minutes, and the classifier's 9. Four
    # seeds: 8 to 14 x floor
    "cpu": Sizes(
        VAEConfig(3, 16, (96,), blocks=0, attention=False, groups=0, patch=4),
        TrainConfig(steps=4500, batch_size=32, lr=3e-3, warmup=100, decay="cosine", ema=0.98),
        DiTConfig(16, 16, dim=192, depth=8, heads=6, patch=2),
        TrainConfig(steps=9000, batch_size=64, lr=3e-3, warmup=100, ema=0.997),
    ),
    # sized for 25 minutes of the denoiser. Of 2,000 steps, a guide of 200, seed 0, one H200: 45.1
    # dB, label accuracy 0.86, FD 15 x floor, recall 0.77; training 3.3 minutes
    "gpu": Sizes(
        VAEConfig(3, 16, (128, 256), blocks=2, attention=False, groups=0, patch=2),
        TrainConfig(steps=4000, batch_size=128, lr=1e-3, warmup=300, decay="cosine", ema=0.995),
        DiTConfig(16, 16, dim=384, depth=12, heads=6, patch=1),
        TrainConfig(steps=32_000, batch_size=256, lr=1e-3, warmup=500, ema=0.9995),
        VAELoss(
            kl_weight=5e-4, perceptual_weight=0.5, adversarial_weight=0.3, adversarial_start=2000
        ),
    ),
}
SIZES["gpu-short"] = shortened(SIZES["gpu"], steps=13_000, ema=0.999)       # for 10 minutes
FEATURES = 4                    # channels of a classifier's features drawn beside the latents


class Guide(NamedTuple):
    """The denoiser's average after `step` becomes the guide; the scales of both guidances."""

    step: int
    cfg: float
    scale: float
    phi: float = 0.0


GUIDES = {"smoke": Guide(5, 1.4, 2.4, 0.3), "cpu": Guide(1000, 1.4, 2.4, 0.3),
          "gpu": Guide(3000, 1.25, 1.5), "gpu-short": Guide(1300, 1.25, 1.5)}
SAMPLING = {"smoke": Sampling(5, time_shift=2.0), "cpu": Sampling(20, time_shift=2.0)}


def train(images: ImageSet, options: Options = USUAL, run_dir=None, sizes: Sizes | None = None,
          guide: Guide | None = None) -> Trained:
    """Train a model of a colour set, going on where run_dir stopped.

    `sizes` and `guide` take the place of the rows of the budget.
    """
    sizes = sizes or size_of(SIZES, options.budget)
    folders = stage_folders(run_dir)
    tuned = images.name == "cifar10"
    guide = guide or (GUIDES[options.budget] if tuned else None)
    mirror = mirrors(images, options)

    # what the network is told: labels, or sentences in a text tower's words
    told = condition(images, options, folders["text"], mirror)
    sizes = fit_sizes(sizes, images, options, FEATURES if tuned else 0, told.dim)
    vae, network = build(sizes, images.images.device)
    latent_space = VAELatents(vae, images.images.shape[-1], network.multiple)

    # pictures -> latents, and for photographs what a classifier sees in them
    pictures = pad_to(images.images, latent_space.side)
    if tuned:
        features = features_of(feature_extractor(pictures))
        latent_space = FeatureLatents(latent_space, FEATURES, features=features)
    vae_history = train_vae(vae, pictures, sizes.vae_training, sizes.vae_loss, folders["vae"],
                            options.bar)
    latents = latent_space.encode(images.images, mirror)

    # latents -> a denoiser of them, whose early average is kept as the guide
    sampling = SAMPLING.get(options.budget, Sampling(30, time_shift=2.0))
    denoiser = denoiser_for(network, latent_space, options, sampling)
    early = copy.deepcopy(denoiser) if guide else None
    history = train_denoiser(denoiser, told.conditioner, latents, told.asked, sizes.training,
                             folders["denoiser"], options.bar, told.wordings, (vae, *told.frozen),
                             (guide.step, early) if guide else None)

    guidance = guidance_of(guide, early, vae.config.latent_channels)
    model = LatentDiffusion(
        latent_space=latent_space, denoiser=denoiser, conditioner=told.conditioner,
        guidance=guidance, sampling=sampling, class_names=images.class_names, facts=facts_of(sizes))
    return Trained(model, vae_history, history)


def guidance_of(guide: Guide | None, early, latent_channels: int) -> tuple:
    """Towards the label, and away from the guide; without one, towards the label by the usual 2."""
    if guide is None:
        return (Cfg(2.0),)
    # contrast is taken back of the latents alone: of features it means nothing
    away = Autoguidance(early, guide.scale, guide.phi, channels=latent_channels)
    return Cfg(guide.cfg), away
