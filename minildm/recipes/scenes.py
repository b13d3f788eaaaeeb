"""Captions to pictures: one or two coloured digits, placed as a sentence says.

    scenes -> CLIP -> VAE -> latents -> U-Net that attends to the sentence's tokens -> guidance

The text tower stays as it is, as Stable Diffusion's does. A fifth of the sentences leave something out, so
that a word alone means something, too; a tenth are empty, which is what guidance leads away from.
"""

from minildm import MinildmError
from minildm.data.sets import ImageSet
from minildm.diffusion.guidance import Cfg
from minildm.images import pad_to
from minildm.latents import VAELatents
from minildm.model import LatentDiffusion
from minildm.nn.unet import UNetConfig
from minildm.nn.vae import VAEConfig
from minildm.recipes.conditions import sentences_of_scenes
from minildm.recipes.fitting import SCHEDULE_OF, fit_sizes, size_of
from minildm.recipes.stages import (
    USUAL,
    Options,
    Sizes,
    Trained,
    VAELoss,
    build,
    shortened,
    stage_folders,
    train_denoiser,
    train_vae,
)
from minildm.spec import Sampling, make_denoiser
from minildm.training.loop import TrainConfig

SIZES = {
    # seconds: to see that everything runs, not to look at
    "smoke": Sizes(
        VAEConfig(3, 4, (16,), blocks=0, attention=False, groups=0, patch=4),
        TrainConfig(steps=20, batch_size=32, lr=2e-3, ema=0.9),
        UNetConfig(4, 4, (16,), (True,), blocks=1, context_dim=32, heads=2, groups=4),
        TrainConfig(steps=20, batch_size=32, lr=1e-3, ema=0.9)),
    # 2 cores of an AMD EPYC with AVX2, seed 0: of 500 prompts colours 0.99, digits 0.91, place 0.99;
    # combinations held out 0.98, 0.90, 0.99; training 40 minutes, and 9.5 for CLIP
    "cpu": Sizes(
        VAEConfig(3, 8, (64,), blocks=0, attention=False, groups=0, patch=4),
        TrainConfig(steps=2500, batch_size=32, lr=4e-3, warmup=100, decay="cosine", ema=0.98),
        UNetConfig(8, 8, (48, 96), (True, True), blocks=1, context_dim=96, heads=4, groups=16),
        TrainConfig(steps=7000, batch_size=32, lr=1e-3, warmup=100, ema=0.998, save_every=500),
        VAELoss(kl_weight=5e-4)),
    # not measured yet
    "gpu": Sizes(
        VAEConfig(3, 8, (96,), blocks=0, attention=False, groups=0, patch=4),
        TrainConfig(steps=4000, batch_size=128, lr=3e-3, decay="cosine", ema=0.99),
        UNetConfig(8, 8, (96, 192), (True, True), blocks=1, context_dim=96, heads=4),
        TrainConfig(steps=12000, batch_size=256, lr=1e-3, warmup=100, ema=0.999),
        VAELoss(kl_weight=5e-4)),
}
SIZES["gpu-short"] = shortened(SIZES["gpu"], steps=5000, ema=0.998)
# a shift of 3: places are decided while there is much noise
SAMPLING = {"smoke": Sampling(3)}
GUIDANCE = {"smoke": 2.0}


def train(images: ImageSet, options: Options = USUAL, run_dir=None,
          sizes: Sizes | None = None) -> Trained:
    """Train a model of scenes, going on where run_dir stopped. `sizes` takes the place of a row."""
    if options.mirror:
        raise MinildmError("scenes can't be mirrored: left would be called right", "recipes.scenes",
                           "leave out mirror")
    sizes = sizes or size_of(SIZES, options.budget)
    folders = stage_folders(run_dir)
    device = images.images.device

    # sentences, and a text tower that knows what they mean
    told = sentences_of_scenes(images, options, folders["text"])
    sizes = fit_sizes(sizes, images, options, context_dim=told.dim)
    vae, network = build(sizes, device)
    latent_space = VAELatents(vae, images.images.shape[-1], network.multiple)

    # pictures -> latents
    pictures = pad_to(images.images, latent_space.side)
    vae_history = train_vae(vae, pictures, sizes.vae_training, sizes.vae_loss, folders["vae"], options.bar)
    latents = latent_space.encode(images.images)

    # latents -> a denoiser of them, told the tokens' states
    sampling = SAMPLING.get(options.budget, Sampling(20, time_shift=3.0))
    denoiser = make_denoiser(network, latent_space, SCHEDULE_OF[options.objective], options.objective,
                             sampling)
    history = train_denoiser(denoiser, told.conditioner, latents, told.asked, sizes.training,
                             folders["denoiser"], options.bar, told.wordings, (vae, *told.frozen))

    model = LatentDiffusion(
        latent_space=latent_space, denoiser=denoiser, conditioner=told.conditioner,
        guidance=(Cfg(GUIDANCE.get(options.budget, 4.0)),), sampling=sampling,
        class_names=images.class_names,
        facts={"vae_steps": sizes.vae_training.steps, "denoiser_steps": sizes.training.steps})
    return Trained(model, vae_history, history)
