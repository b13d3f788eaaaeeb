"""Named presets: a row of numbers each, and the few lines that turn a row into a trained model.

A model takes three moves:  images -> VAE,  images -> latents,  (latents, labels) -> denoiser.
A run folder makes each move resumable: run it again and it goes on from where it stopped.
"""

from dataclasses import asdict, dataclass, replace

import torch
from torch import nn

from minildm.data.sets import ImageSet
from minildm.diffusion import schedules
from minildm.diffusion.denoiser import Denoiser, logit_normal, uniform
from minildm.evaluation.classifier import Classifier, load_classifier
from minildm.images import to_float
from minildm.nn.dit import DiT, DiTConfig
from minildm.nn.unet import UNet, UNetConfig
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.recipes import clip
from minildm.training.loop import TrainConfig, fit
from minildm.training.losses import FinePatchDiscriminator, sharp_losses
from minildm.training.monitor import check_spread

SCHEDULES = {name: getattr(schedules, name) for name in ("linear", "scaled_linear", "cosine", "flow")}
NETWORKS = {UNetConfig: UNet, DiTConfig: DiT}
TIMES = {"uniform": uniform, "logit_normal": logit_normal, "two_thirds": logit_normal}   # then uniform
# what the network says -> on which schedule, trained at which times
OBJECTIVES = {"eps": ("linear", "uniform"), "x0": ("cosine", "uniform"), "v": ("cosine", "uniform"),
              "flow": ("flow", "logit_normal")}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a latent diffusion model but the data."""

    vae: VAEConfig
    vae_training: TrainConfig | None    # None: published, not trained by us
    network: UNetConfig | DiTConfig
    training: TrainConfig | None
    kl_weight: float = 1e-3
    perceptual_weight: float = 0.0  # this or the next not 0: the VAE's loss is `losses.sharp_losses`
    adversarial_weight: float = 0.0
    adversarial_start: int = 0      # steps of the VAE before its critic begins
    schedule: str = "flow"
    prediction_type: str = "flow"
    times: str = "logit_normal"
    shift: float = 1.0      # training times and sampling steps go through `schedules.shift`; 1 leaves them
    guidance_scale: float = 2.0
    num_inference_steps: int = 30
    text: clip.CLIPRecipe | None = None     # its text tower reads the captions; None: labels
    features: int = 0       # channels of what the eyes see, drawn along with the latents and then thrown away
    lead: float = 2.0       # `schedules.ahead`: these channels' sigma / alpha is so much smaller
    weak_step: int = 0      # the denoiser's average after so many steps is kept as a lesser denoiser, which
    weak_scale: float = 2.5     # `autoguidance` leads away from, so far, beside guidance_scale,
    weak_phi: float = 0.0       # and takes back so much of the contrast that this adds
    mirror: bool = False    # train on each picture's mirror image as well: right for photographs
    steps_offset: int | None = None     # published models: of the "leading" steps on their table of betas,
    set_alpha_to_one: bool = True       # which end at the data, or at the table's first entry
    measured: str = "not yet"  # on MNIST if nothing else is said, with seed and hardware


RECIPES = {
    "cpu": Recipe(  # a few minutes on 2 cores; a fourth latent channel would stay empty
        VAEConfig(1, 3, (32, 32), blocks=0, attention=False, groups=0, patch=2),
        TrainConfig(steps=1500, batch_size=32, lr=6e-3, warmup=100, decay="cosine", ema=0.98),
        UNetConfig(3, 3, (32, 64), (False, True), blocks=1, context_dim=128, heads=4, groups=8),
        TrainConfig(steps=850, batch_size=64, lr=2e-3, ema=0.99), kl_weight=5e-4, guidance_scale=2.1,
        num_inference_steps=20, measured="seed 0: 30.1 dB, label accuracy 0.998, FD 2.2 x floor, precision "
        "0.91, recall 0.79; training 3.9 minutes, all 4.9, on 2 cores of an AMD EPYC with AVX2"),
    "cpu-colour": Recipe(  # half an hour on 2 cores
        VAEConfig(3, 16, (96,), blocks=0, attention=False, groups=0, patch=4),
        TrainConfig(steps=4500, batch_size=32, lr=3e-3, warmup=100, decay="cosine", ema=0.98),
        DiTConfig(16, 16, dim=192, depth=8, heads=6, patch=2),
        TrainConfig(steps=9000, batch_size=64, lr=3e-3, warmup=100, ema=0.997), kl_weight=1e-3,
        shift=2.0, guidance_scale=1.4, num_inference_steps=20, features=4, weak_step=1000, weak_scale=2.4,
        weak_phi=0.3, mirror=True,
        measured="seed 0, CIFAR-10: 41.4 dB, label accuracy 0.90 (real 0.94), FD 12 x floor, precision 0.89, "
        "recall 0.74; training 27 minutes on 2 cores of an AMD EPYC with AVX-512 bf16"),
    "cpu-scenes": Recipe(  # captions to pictures
        VAEConfig(3, 8, (64,), blocks=0, attention=False, groups=0, patch=4),
        TrainConfig(steps=2500, batch_size=32, lr=4e-3, warmup=100, decay="cosine", ema=0.98),
        UNetConfig(8, 8, (48, 96), (True, True), blocks=1, context_dim=96, heads=4, groups=16),
        TrainConfig(steps=7000, batch_size=32, lr=1e-3, warmup=100, ema=0.998, save_every=500),
        kl_weight=5e-4, shift=3.0, guidance_scale=4.0, num_inference_steps=20, text=clip.RECIPES["scenes"],
        measured="seed 0, scenes: 500 prompts: colours 0.99, digits 0.91, place 0.99; combinations held out "
        "0.98, 0.90, 0.99; training 40 minutes, and 9.5 for CLIP, on 2 cores of an AMD EPYC with AVX2"),
    "gpu": Recipe(  # minutes on one GPU
        VAEConfig(1, 4, (64, 128), blocks=2, attention=False, groups=16, patch=2),
        TrainConfig(steps=6000, batch_size=512, lr=1e-3, decay="cosine", ema=0.999),
        DiTConfig(4, 4, dim=256, depth=8, heads=4, patch=2),
        TrainConfig(steps=12000, batch_size=512, lr=5e-4, ema=0.999)),
    "gpu-colour": Recipe(  # sized for 25 minutes of the denoiser
        VAEConfig(3, 16, (128, 256), blocks=2, attention=False, groups=0, patch=2),
        TrainConfig(steps=4000, batch_size=128, lr=1e-3, warmup=300, decay="cosine", ema=0.995),
        DiTConfig(16, 16, dim=384, depth=12, heads=6, patch=1),
        TrainConfig(steps=32_000, batch_size=256, lr=1e-3, warmup=500, ema=0.9995), kl_weight=5e-4,
        perceptual_weight=0.5, adversarial_weight=0.3, adversarial_start=2000,
        shift=2.0, guidance_scale=1.25, features=4, weak_step=3000, weak_scale=1.5, mirror=True,
        measured="in small, CIFAR-10, seed 0, 2,000 steps, weak_step 200: 45.1 dB, label accuracy 0.86, FD "
        "15 x floor, recall 0.77; training 3.3 minutes on one H200, half of them the denoiser's"),
    "gpu-scenes": Recipe(
        VAEConfig(3, 8, (96,), blocks=0, attention=False, groups=0, patch=4),
        TrainConfig(steps=4000, batch_size=128, lr=3e-3, decay="cosine", ema=0.99),
        UNetConfig(8, 8, (96, 192), (True, True), blocks=1, context_dim=96, heads=4),
        TrainConfig(steps=12000, batch_size=256, lr=1e-3, warmup=100, ema=0.999), kl_weight=5e-4,
        shift=3.0, guidance_scale=4.0, num_inference_steps=20, text=clip.RECIPES["scenes"]),
    "smoke": Recipe(  # seconds: to see that everything runs, not to look at
        VAEConfig(1, 4, (16,), blocks=1, attention=False, groups=4, patch=4),
        TrainConfig(steps=20, batch_size=32, lr=2e-3, ema=0.9),
        DiTConfig(4, 4, dim=32, depth=2, heads=2, patch=2),
        TrainConfig(steps=20, batch_size=32, lr=1e-3, ema=0.9), num_inference_steps=5),
    "smoke-scenes": Recipe(
        VAEConfig(3, 4, (16,), blocks=0, attention=False, groups=0, patch=4),
        TrainConfig(steps=20, batch_size=32, lr=2e-3, ema=0.9),
        UNetConfig(4, 4, (16,), (True,), blocks=1, context_dim=32, heads=2, groups=4),
        TrainConfig(steps=20, batch_size=32, lr=1e-3, ema=0.9),
        num_inference_steps=3, text=clip.RECIPES["scenes-smoke"]),
}
RECIPES["gpu-short-colour"] = replace(RECIPES["gpu-colour"], training=replace(
    RECIPES["gpu-colour"].training, steps=13_000, ema=0.999), weak_step=1300)     # for 10 minutes


def named(name: str, images: ImageSet) -> Recipe:
    """The row for a set: "cpu" is "cpu-scenes" for scenes, "cpu-colour" for colour images; else itself."""
    kind = "scenes" if images.truth is not None else "colour" if images.images.shape[1] == 3 else ""
    return RECIPES.get(f"{name}-{kind}") or RECIPES[name.removesuffix("-short")]


def variant(recipe: Recipe, backbone: str = "auto", objective: str = "flow") -> Recipe:
    """A row with a word changed: "unet" for its DiT, "dit" for its U-Net, of like cost; or the objective."""
    c = recipe.network
    if backbone == "unet" and isinstance(c, DiTConfig):
        c = UNetConfig(c.in_channels, c.out_channels, (c.dim // 4, c.dim // 2), (False, True), blocks=1,
                       context_dim=c.context_dim or c.dim, heads=c.heads, groups=8, num_classes=c.num_classes)
    elif backbone == "dit" and isinstance(c, UNetConfig):
        c = DiTConfig(c.in_channels, c.out_channels, dim=4 * c.channels[0], depth=6, heads=c.heads, patch=2,
                      num_classes=c.num_classes, context_dim=c.context_dim if recipe.text else 0,
                      cross_attention=recipe.text is not None)
    if objective == recipe.prediction_type:
        return replace(recipe, network=c)
    schedule, times = OBJECTIVES[objective]
    return replace(recipe, network=c, prediction_type=objective, schedule=schedule, times=times)


def for_data(recipe: Recipe, images: ImageSet) -> Recipe:
    """With the data's channels and classes; colour gets 16 latent channels or more. One of captions stays."""
    if recipe.text:
        return recipe
    channels, classes = images.images.shape[1], len(images.class_names)
    latent = recipe.vae.latent_channels if channels == 1 else max(16, recipe.vae.latent_channels)
    drawn = latent + recipe.features
    return replace(
        recipe, vae=replace(recipe.vae, in_channels=channels, latent_channels=latent),
        network=replace(recipe.network, in_channels=drawn, out_channels=drawn, num_classes=classes))


def build(recipe: Recipe) -> tuple[AutoencoderKL, Denoiser]:
    """Networks with fresh weights, drawn by the recipe's seed without touching the global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.training.seed)
        vae, network = AutoencoderKL(recipe.vae), NETWORKS[type(recipe.network)](recipe.network)
    return vae, denoiser_of(recipe, network)


def denoiser_of(recipe: Recipe, network: nn.Module) -> Denoiser:
    """The network with the recipe's schedule, prediction type and training times."""
    def times(*arguments):
        return schedules.shift(TIMES[recipe.times](*arguments), recipe.shift)

    schedule = SCHEDULES[recipe.schedule]
    if recipe.features:
        lead = torch.ones(recipe.network.in_channels)
        lead[-recipe.features:] = recipe.lead
        schedule = schedules.ahead(schedule, lead)
    return Denoiser(network, schedule, recipe.prediction_type, times,
                    delay=0.0 if recipe.steps_offset is None else 1 / 1000)


def train_vae(vae: AutoencoderKL, images, recipe: Recipe, run_dir=None, bar: bool = True, maps=None) -> dict:
    """Train on uint8 images (N, C, H, W), then measure the latents' scale. Returns the metrics.

    A perceptual weight wants feature maps, `maps(images)`, by default the zoo's, not CIFAR-10's judge's.
    """
    config, parts, critic = recipe.vae, nn.ModuleDict({"loss": vae}), None
    if recipe.perceptual_weight and maps is None:
        maps = eyes(images).maps
    if recipe.adversarial_weight:
        with torch.random.fork_rng():
            torch.manual_seed(recipe.vae_training.seed)
            critic = FinePatchDiscriminator(config.in_channels)
        parts["critic"] = critic.to(images.device)

    def loss(batch, generator, step):
        if recipe.perceptual_weight or critic:
            return sharp_losses(vae, critic, maps, recipe, to_float(batch), generator, step)
        return vae.loss(to_float(batch), generator, recipe.kl_weight)

    weights = "kl_weight", "perceptual_weight", "adversarial_weight", "adversarial_start"
    identity = {"vae": asdict(config), **{name: getattr(recipe, name) for name in weights}}
    history = fit(parts, loss, (images,), recipe.vae_training, run_dir, bar, identity)
    vae.fit_latent_stats(to_float(images[::max(1, len(images) // 10_000)]))    # a set may be sorted by class
    return history


def eyes(images) -> Classifier:
    """The zoo's classifier that losses see pictures (N, C, H, W) with; of colour, not the one that judges."""
    model = load_classifier("cifar10-small" if images.shape[1] == 3 else "mnist")
    return model.to(images.device).requires_grad_(False)


@torch.no_grad()
def encode_all(vae: AutoencoderKL, images, batch_size: int = 500):
    """uint8 images -> normalised latents' mean and std, (N, c, h, w): encoded once, sampled every step."""
    posteriors = [vae.encode(to_float(batch)) for batch in images.split(batch_size)]
    scale = vae.latent_std[:, None, None]
    mean = torch.cat([vae.normalise(p.mean) for p in posteriors])
    return mean, torch.cat([p.std / scale for p in posteriors])


def train_denoiser(denoiser: Denoiser, latents, labels, recipe: Recipe, run_dir=None, bar=True,
                   weak: Denoiser | None = None) -> dict:
    """Train on the latents of `encode_all` and their labels (N,). Returns the metrics.

    `weak`, another of the same form, is left with the average after the recipe's `weak_step` steps.
    """
    check_spread(*latents, bar)

    def loss(mean, std, labels, generator, step):
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        late = recipe.times == "two_thirds" and 3 * step > 2 * recipe.training.steps
        return denoiser.loss(mean + std * noise, labels, generator, times=uniform if late else None)

    return fit(denoiser, loss, (*latents, labels), recipe.training, run_dir, bar, identity_of(recipe),
               snapshot=weak and (recipe.weak_step, weak))


def identity_of(recipe: Recipe) -> dict:
    """What a denoiser's run must not change when it goes on."""
    words = "schedule", "prediction_type", "times", "shift", "features", "lead", "weak_step"
    return {"network": asdict(recipe.network), **{word: getattr(recipe, word) for word in words}}

