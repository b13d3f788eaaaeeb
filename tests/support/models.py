"""Small models whose weights are loud enough for labels, words and guides to matter."""

import copy

import torch

from minildm.conditioners import Labels
from minildm.diffusion.guidance import Cfg
from minildm.latents import FeatureLatents, VAELatents
from minildm.model import LatentDiffusion
from minildm.nn.dit import DiT, DiTConfig
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.recipes.stages import seeded
from minildm.spec import Sampling, make_denoiser

NAMES = ("a", "b", "c")
GUIDANCE = (Cfg(2.0),)
SAMPLING = Sampling(5)


@torch.no_grad()
def louder(module, scale=0.05, seed=0):
    """A fresh network predicts zero whatever it is told: move its weights."""
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p += scale * torch.randn(p.shape, generator=generator)
    return module


def small_model(size=14, features=0, schedule="flow", prediction_type="flow", guidance=GUIDANCE,
                sampling=SAMPLING):
    """A model of labels a, b, c and grey pictures."""
    drawn = 4 + features
    with seeded(0):
        vae = AutoencoderKL(VAEConfig(1, 4, (16,), blocks=1, attention=False, groups=4, patch=4))
        network = DiT(DiTConfig(drawn, drawn, dim=32, depth=2, heads=2, patch=2, num_classes=3))
    space = VAELatents(vae, size, network.multiple)
    if features:
        space = FeatureLatents(space, features)
    denoiser = louder(make_denoiser(network, space, schedule, prediction_type, sampling))
    return LatentDiffusion(latent_space=space, denoiser=denoiser, conditioner=Labels(NAMES),
                           guidance=guidance, sampling=sampling, class_names=NAMES)


def guide_of(model, scale=0.1):
    """A guide for a model: its denoiser, with other weights."""
    return louder(copy.deepcopy(model.denoiser), scale, seed=1)
