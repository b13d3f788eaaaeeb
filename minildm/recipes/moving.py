"""Films of a digit that moves and bounces: an image denoiser learns to draw all frames at once.

    the zoo's VAE of digits -> latents of frames -> image denoiser -> temporal layers in it

First the image network learns single frames. Then the temporal layers are put in, and all weights
learn films; every sixth step is one of single frames again, so that with closed gates the network
stays an image denoiser. Nothing else in the package knows of films: schedule, target, guidance and
samplers are those of pictures.
"""

from dataclasses import dataclass, replace
from functools import partial

import torch

from minildm.data import moving
from minildm.data.sets import ImageSet
from minildm.diffusion.denoiser import Denoiser, logit_normal
from minildm.diffusion.films import film_loss
from minildm.diffusion.guidance import Cfg, Interval
from minildm.diffusion.schedules import flow
from minildm.films import NOTHING, VOCABULARY, FilmLatents, FilmWords, words_of
from minildm.images import to_float
from minildm.latents import VAELatents
from minildm.model import LatentDiffusion
from minildm.nn.unet import UNetConfig
from minildm.nn.video import VideoUNet, VideoUNetConfig
from minildm.recipes.stages import USUAL, Options, Trained, seeded
from minildm.spec import Sampling, shifted_times
from minildm.training.loop import TrainConfig, fit

IMAGE_EVERY = 6     # each so many steps of the films' training is one of single frames
FRAME_SHIFT = 2.0   # of single frames' times towards the noise
# of films' times: twelve frames say the same thing, so that it is lost at more noise only
SHIFT = 3.0
SHOWN = 0.25, 0.4   # share of films whose first frames are given, by stage of their training
# AdamW fell to the same loss of single frames in 650 steps as Muon beside it in 240
MUON = {"lr": 5e-3, "betas": (0.9, 0.99), "weight_decay": 0.0, "muon": 0.012,
        "muon_on": "matrices"}


def network_config(width: int, groups: int) -> VideoUNetConfig:
    """A U-Net of one level on squares of 2 x 2 latent positions, which all see each other."""
    image = UNetConfig(12, 12, (width,), (False,), blocks=1, context_dim=64, heads=4,
                       groups=groups, num_classes=len(VOCABULARY))
    return VideoUNetConfig(image, moving.FRAMES, patch=2, heads=4)


@dataclass(frozen=True)
class FilmSizes:
    """One row of the experiment: how many films, the network, and how long each stage trains."""

    films: int
    network: VideoUNetConfig
    images: TrainConfig             # of single frames
    training: tuple[TrainConfig, ...]   # of films, one after the other


SIZES = {
    "smoke": FilmSizes(40, network_config(16, 4),
                       TrainConfig(steps=4, batch_size=8, **MUON),
                       (TrainConfig(steps=4, batch_size=2, **MUON),)),
    # the zoo's model: 400 steps of frames and 2,250 of films, 41 minutes on one CPU core
    "cpu": FilmSizes(6000, network_config(72, 12),
                     TrainConfig(steps=400, batch_size=96, decay="none", ema=0.99, **MUON),
                     (TrainConfig(steps=1250, batch_size=16, decay="none", ema=0.995, **MUON),
                      TrainConfig(steps=1000, batch_size=16, ema=0.995, **MUON))),
    # not measured yet
    "gpu": FilmSizes(20_000, network_config(96, 16),
                     TrainConfig(steps=2000, batch_size=512, decay="none", ema=0.999, **MUON),
                     (TrainConfig(steps=10_000, batch_size=64, ema=0.999, **MUON),)),
}
SIZES["gpu-short"] = SIZES["gpu"]


def train(digits: ImageSet, options: Options = USUAL, run_dir=None,
          sizes: FilmSizes | None = None) -> Trained:
    """Train a model of moving digits (an ImageSet of grey ones), going on where run_dir stopped."""
    sizes = sizes or SIZES[options.budget]
    with seeded(options.seed):
        network = VideoUNet(sizes.network)
    films, truth = moving.compose(digits.images, digits.labels, sizes.films, seed=options.seed)
    space = film_space(sizes.network, films)
    # the means alone: the encoder's noise would be another one in each frame, and flicker
    latents, words = space.encode(films).mean, words_of(truth)
    denoiser = film_denoiser(network)
    pictures = as_pictures(denoiser)
    folders = {"images": None, **{f"films{i}": None for i in range(len(sizes.training))}}
    if run_dir:
        folders = {name: f"{run_dir}/{name}" for name in folders}

    # single frames first: twelve times as many pictures as films
    conditioner = FilmWords()
    loss = partial(frame_loss, pictures, conditioner)
    frames, labels = latents.flatten(0, 1), words[:, :1].repeat_interleave(moving.FRAMES, 0)
    fit(network, loss, (frames, labels), seeds(sizes.images, options), folders["images"],
        options.bar)

    def both(shown, z, words, generator, step):
        if step % IMAGE_EVERY == 0:
            labels = words[:, :1].repeat_interleave(z.shape[1], 0)
            return frame_loss(pictures, conditioner, z.flatten(0, 1), labels, generator)
        told = conditioner.drop(words, generator)
        return film_loss(denoiser, z.float(), told, generator, sizes.network.noise_share, shown)

    history = {}
    for i, config in enumerate(sizes.training):
        loss = partial(both, SHOWN[min(i, len(SHOWN) - 1)])
        history = fit(network, loss, (latents, words), seeds(config, options, i),
                      folders[f"films{i}"], options.bar)
    return Trained(film_model(space, denoiser), {}, history)


def seeds(config: TrainConfig, options: Options, stage: int = 0) -> TrainConfig:
    """The configuration with the seed asked for; stages see films in orders of their own."""
    return replace(config, seed=options.seed + 1000 * stage)


def film_space(config: VideoUNetConfig, films) -> FilmLatents:
    """The zoo's VAE of digits, its latents' scale measured anew on frames of these films."""
    vae = LatentDiffusion.load("mnist-unet").vae
    vae.fit_latent_stats(to_float(films[:400, ::3].flatten(0, 1)))
    space = VAELatents(vae, films.shape[-1], config.multiple)
    return FilmLatents(space, config.frames, config.noise_share)


def film_denoiser(network) -> Denoiser:
    """The network on the flow schedule, with more of the training's times near the noise."""
    return Denoiser(network, flow, "flow", partial(shifted_times, draw=logit_normal, by=SHIFT))


def film_model(space: FilmLatents, denoiser: Denoiser, facts: dict | None = None):
    """All parts as one model."""
    return LatentDiffusion(
        latent_space=space, denoiser=denoiser, conditioner=FilmWords(),
        guidance=Interval(Cfg(2.0), 0.3, 0.95), sampling=Sampling(20, time_shift=SHIFT),
        class_names=FilmWords().class_names, facts=facts)


def frame_loss(pictures: Denoiser, conditioner: FilmWords, z, labels, generator):
    """The loss on single frames (B, c, h, w), each told its label (B, 1) and no movement."""
    words = torch.cat([labels, labels.new_full((len(labels), 2), NOTHING)], 1)
    told = conditioner.drop(words, generator)
    return pictures.loss(z.float(), told, generator)


def as_pictures(denoiser: Denoiser) -> Denoiser:
    """The image network alone, with the times of single frames."""
    return Denoiser(denoiser.network.pictures, denoiser.schedule, denoiser.prediction_type,
                    partial(shifted_times, draw=logit_normal, by=FRAME_SHIFT))
