"""The steps that experiments share:  images -> VAE -> latents -> denoiser, told labels or
sentences.

A run folder makes each step resumable: run it again and it goes on from where it stopped. A step
that stands on another's outcome (a denoiser on a VAE's latents) refuses to go on where that has
changed.
"""

import contextlib
import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from minildm import MinildmError
from minildm.conditioners import Conditioner
from minildm.data.sets import ImageSet
from minildm.diffusion.denoiser import Denoiser
from minildm.evaluation.classifier import Classifier, load_classifier, pca_features
from minildm.images import to_float
from minildm.latents import Latents, LatentSpace, sample_latents
from minildm.model import LatentDiffusion
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.spec import Sampling, make_denoiser, network_class
from minildm.training.loop import TrainConfig, changes_at, fit, generator_for
from minildm.training.losses import FinePatchDiscriminator, sharp_losses
from minildm.training.monitor import check_spread

# what a network predicts -> the name of the schedule that it is trained on
SCHEDULE_OF = {"eps": "linear", "x0": "cosine", "v": "cosine", "flow": "flow"}
SAMPLE = 10_000     # pictures that scales and bases are measured on


@dataclass(frozen=True)
class Options:
    """What one may choose about an experiment, as on the command line."""

    budget: str = "cpu"         # a row of the experiment's SIZES
    seed: int = 0
    backbone: str = "auto"      # dit, unet; auto is the row's own
    objective: str = "flow"     # what the network predicts: flow, eps, x0, v
    captions: bool = False      # draw prompts in the place of labels
    mirror: bool | None = None  # learn mirror images as well; None: the experiment's own habit
    bar: bool = True            # print how far it is


USUAL = Options()


@dataclass(frozen=True)
class VAELoss:
    """Weights of the VAE's loss; with the second or third it is `losses.sharp_losses`."""

    kl_weight: float = 1e-3
    perceptual_weight: float = 0.0
    adversarial_weight: float = 0.0
    adversarial_start: int = 0      # steps of the VAE before its critic begins


PLAIN = VAELoss()      # L1 + L2 and KL


@dataclass(frozen=True)
class Sizes:
    """One row of an experiment: its networks, and how long each is trained."""

    vae: VAEConfig
    vae_training: TrainConfig
    network: object                 # DiTConfig, UNetConfig: of a network in `minildm.nn`
    training: TrainConfig
    vae_loss: VAELoss = PLAIN


class Trained(NamedTuple):
    """What an experiment returns: the model, and what each step logged, a list by name."""

    model: LatentDiffusion
    vae_history: dict
    history: dict


@contextlib.contextmanager
def seeded(seed: int):
    """Inside the block networks are built by this seed; the global generator comes back as it was.
    """
    # no devices: networks are built on the CPU, and other cards of a shared machine stay untouched
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        yield


def stage_folders(run_dir) -> dict:
    """Where each step of an experiment keeps its run; None keeps nothing."""
    return {
        stage: Path(run_dir) / stage if run_dir else None for stage in ("vae", "text", "denoiser")
    }


def mirrors(images: ImageSet, options: Options) -> bool:
    """Whether mirror images are learned as well: if asked, else of CIFAR-10's photographs alone.

    A mirrored digit, letter or road sign is another one, or none.
    """
    return images.name == "cifar10" if options.mirror is None else options.mirror


def shortened(sizes: Sizes, steps: int, ema: float) -> Sizes:
    """The same networks, the denoiser trained for fewer steps and averaged over fewer."""
    return replace(sizes, training=replace(sizes.training, steps=steps, ema=ema))


def fit_to(config: TrainConfig, images: ImageSet, seed: int) -> TrainConfig:
    """A training by this seed whose batches are no larger than the set."""
    return replace(config, seed=seed, batch_size=min(config.batch_size, len(images)))


def build(sizes: Sizes, device) -> tuple[AutoencoderKL, nn.Module]:
    """VAE and network with fresh weights, drawn by the training's seed."""
    with seeded(sizes.training.seed):
        vae = AutoencoderKL(sizes.vae)
        network = network_class(sizes.network)(sizes.network)
    return vae.to(device), network.to(device)


def denoiser_for(network, space: LatentSpace, options: Options, sampling: Sampling) -> Denoiser:
    """A denoiser of a latent space that predicts what is asked for, on the schedule that suits it.
    """
    schedule = SCHEDULE_OF[options.objective]
    return make_denoiser(network, space, schedule, options.objective, sampling)


def facts_of(sizes: Sizes) -> dict:
    """How long a model trained: kept beside its weights."""
    return {"vae_steps": sizes.vae_training.steps, "denoiser_steps": sizes.training.steps}


def train_vae(vae: AutoencoderKL, images, config: TrainConfig, weights: VAELoss = PLAIN,
              run_dir=None, bar: bool = True, feature_maps=None) -> dict:
    """Train on uint8 images (N, C, H, W), then measure the latents' scale. Returns the metrics.

    A perceptual weight needs `feature_maps(images)`, by default those of `feature_extractor`.
    """
    critic = None
    parts = nn.ModuleDict({"loss": vae})
    if weights.perceptual_weight and feature_maps is None:
        feature_maps = feature_extractor(images).feature_maps
    if weights.adversarial_weight:
        with seeded(config.seed):
            critic = FinePatchDiscriminator(vae.config.in_channels)
        parts["critic"] = critic.to(images.device)
    sharp = weights.perceptual_weight or critic is not None

    @changes_at(weights.adversarial_start + 1)
    def loss(batch, generator, step):
        batch = to_float(batch)
        if sharp:
            return sharp_losses(vae, critic, feature_maps, weights, batch, generator, step)
        return vae.loss(batch, generator, weights.kl_weight)

    identity = {"vae": asdict(vae.config), **asdict(weights)}
    history = fit(parts, loss, (images,), config, run_dir, bar, identity)
    vae.fit_latent_stats(to_float(spread_out(images)))
    return history


def train_denoiser(denoiser: Denoiser, conditioner: Conditioner, latents: Latents, asked,
                   config: TrainConfig, run_dir=None, bar: bool = True, wordings=None,
                   frozen: tuple[nn.Module, ...] = (), snapshot=None) -> dict:
    """Train on a space's latents and what is asked for with each: labels (N,). Returns the metrics.

    With wordings (M, W, L), token ids, `asked` (N,) says which of the M meanings a picture has,
    and each step draws one of its W sentences. `frozen` are the networks whose outcome this one
    stands on: a run goes on only while they are the same. snapshot=(step, other): see `fit`.
    """
    mean, std = latents
    known = std.shape[1]            # features beside the latents have no spread
    check_spread(spread_out(mean[:, :known]).float(), spread_out(std).float(), bar)

    def loss(mean, std, asked, generator):
        z = sample_latents(mean, std, generator)
        if wordings is not None:
            asked = draw_wording(wordings, asked, generator)
        context = conditioner.embed(conditioner.drop(asked, generator))
        return denoiser.loss(z, context, generator)

    identity = {**identity_of(denoiser), "stands on": [checksum(module) for module in frozen]}
    return fit(
        denoiser, loss, (mean, std, asked), config, run_dir, bar, identity, snapshot=snapshot
    )


def draw_wording(wordings, meaning, generator=None):
    """One sentence of each meaning: wordings (M, W, L), meaning (B,) -> token ids (B, L)."""
    which = torch.randint(
        wordings.shape[1], meaning.shape, generator=generator, device=meaning.device
    )
    return wordings[meaning, which]


def identity_of(denoiser: Denoiser) -> dict:
    """What a denoiser's run must not change when it goes on: its network, schedule, target and
    times.
    """
    half = torch.tensor(0.5)
    schedule = [denoiser.schedule.alpha(half).flatten().tolist(),
                denoiser.schedule.sigma(half).flatten().tolist()]
    # schedules and times are functions: they are known by their values
    times = denoiser.times(3, generator_for(0, "identity")).tolist()
    config = denoiser.network.config
    return {"network": {"class": network_class(config).__name__, **asdict(config)},
            "prediction_type": denoiser.prediction_type,
            "schedule": [[round(value, 6) for value in row] for row in schedule],
            "times": [round(value, 6) for value in times]}


def checksum(module: nn.Module) -> str:
    """The sha256 of a network's parameters, by which a run knows what it stands on."""
    digest = hashlib.sha256()
    for name, parameter in module.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def spread_out(images, n: int = SAMPLE):
    """At most n pictures from all over a set, which may be sorted by class."""
    return images[::max(1, -(-len(images) // n))]


def feature_extractor(images) -> Classifier:
    """The zoo's classifier whose features losses compare; for colour not the one that scores
    samples.
    """
    name = "cifar10-small" if images.shape[1] == 3 else "mnist"
    model = load_classifier(name)
    if model is None:
        raise MinildmError(
            f"the zoo holds no {name}-classifier, whose features this needs",
            "recipes",
            "install the package with its zoo, or take a recipe without features",
        )
    return model.to(images.device).requires_grad_(False)


def features_of(extractor: Classifier):
    """The extractor's features as `latents.FeatureLatents` wants them."""
    def features(images, channels: int, side: int, mirror: bool):
        if mirror:
            images = torch.cat([images, images.flip(-1)])
        return pca_features(extractor, images, channels, side)

    return features
