"""A row of sizes fitted to a set: channels, classes, the other backbone, sentences in labels'
place.
"""

from dataclasses import fields, replace

import torch
import torch.nn.functional as F

from minildm import MinildmError
from minildm.data.sets import ImageSet
from minildm.images import pad_to, to_float
from minildm.latents import padded
from minildm.nn.dit import DiTConfig
from minildm.nn.unet import UNetConfig
from minildm.recipes.stages import Options, Sizes, fit_to, spread_out

KEEP_DB = (
    32.0  # PSNR that a linear code of patches should keep; a VAE is 4 dB better on photographs
)
DRAWN = 0.5  # share of black and white, where anything is, from which pictures count as drawings


def fit_sizes(sizes: Sizes, images: ImageSet, options: Options, features: int = 0,
              context_dim: int = 0) -> Sizes:
    """Sizes for a set: its channels and classes, batches and seed, the backbone that is asked for.

    `features` are channels drawn beside the latents; with a context_dim the network is told
    sentences.
    """
    in_channels = images.images.shape[1]
    channels = latent_channels(images.images, sizes.vae.latent_channels, sizes.vae.factor)
    told = {"num_classes": len(images.class_names)}
    if context_dim:
        told = {"num_classes": 0, "context_dim": context_dim}
    network = swap_backbone(sizes.network, options.backbone)
    if context_dim and "cross_attention" in {field.name for field in fields(network)}:
        told["cross_attention"] = True
    drawn = channels + features
    return replace(
        sizes,
        vae=replace(sizes.vae, in_channels=in_channels, latent_channels=channels),
        vae_training=fit_to(sizes.vae_training, images, options.seed),
        network=replace(network, in_channels=drawn, out_channels=drawn, **told),
        training=fit_to(sizes.training, images, options.seed))


def latent_channels(images, least: int, stride: int = 4) -> int:
    """How many latent channels a set needs: `least` for drawings, more for what has texture.

    Of uint8 images (N, C, H, W), stride x stride patches are compressed by their principal
    components; the answer is how many keep KEEP_DB of PSNR, at most half of a patch's numbers.
    Drawings, whose pixels are nearly all black or white, are no linear matter: a VAE of 3 channels
    keeps 30 dB of MNIST, where 3 components keep 18.
    """
    images = spread_out(images, 2000)
    pixels = to_float(pad_to(images, padded(images.shape[-1], stride)))
    patches = F.pixel_unshuffle(pixels, stride).movedim(1, -1).flatten(0, 2)           # (M, C s^2)
    # flat patches, the black around a digit, say nothing about texture
    varied = patches[patches.std(dim=1) > 0.02]
    if not len(varied) or (varied.abs() > 0.9).float().mean() > DRAWN:
        return least
    variances = torch.linalg.eigvalsh(patches.T.cov()).flip(0).clamp(min=0)  # falling
    lost = (variances.sum() - variances.cumsum(0)).clamp(min=0) / len(
        variances
    )  # of 1, 2, ... kept
    psnr = 10 * torch.log10(4 / lost.clamp(min=1e-12))  # values span 2
    # the first count that keeps so much
    enough = int((psnr < KEEP_DB).sum()) + 1
    return max(least, min(enough, len(variances) // 2))


def swap_backbone(config, backbone: str):
    """The configuration of the other backbone, of like cost, if another is asked for."""
    if backbone == "unet" and isinstance(config, DiTConfig):
        return UNetConfig(
            config.in_channels,
            config.out_channels,
            (config.dim // 4, config.dim // 2),
            (False, True),
            blocks=1,
            context_dim=config.context_dim or config.dim,
            heads=config.heads,
            groups=8,
            num_classes=config.num_classes,
        )
    if backbone == "dit" and isinstance(config, UNetConfig):
        return DiTConfig(
            config.in_channels,
            config.out_channels,
            dim=4 * config.channels[0],
            depth=6,
            heads=config.heads,
            patch=2,
            num_classes=config.num_classes,
        )
    if backbone in ("auto", "unet", "dit"):
        return config
    raise MinildmError(f"there is no backbone {backbone!r}", "recipes", "choose auto, unet or dit")


def size_of(table: dict[str, Sizes], budget: str) -> Sizes:
    """A row of an experiment's table."""
    if budget not in table:
        raise MinildmError(
            f"there is no size {budget!r}", "recipes", f"choose from {', '.join(table)}"
        )
    return table[budget]
