"""Losses besides the plain ones: what makes reconstructions sharp.

Of all pictures that a latent may stand for, a pixel loss wants the average: a blur. So, as in VQGAN
(Esser et al. 2021, arXiv:2012.09841, eq. 5-7), and with every term a mean over values, positions or
patches,

    L = |x - x'| + w_p L_perceptual + w_a lambda L_adversarial + w_k KL
    lambda = |grad L_rec| / |grad L_adv|

Features are any function's, images (B, C, H, W) in [-1, 1] -> a list of maps (B, c, h, w), one a
stage: a classifier's or `vgg_feature_maps`. Nothing here holds an optimizer: `training.loop` gives
each part its own.
"""

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError
from minildm.devices import DeviceCopies, readable
from minildm.images import check_range

# --- perceptual

def perceptual(feature_maps, images, reconstructions):
    """LPIPS's distance with all channel weights 1 (Zhang et al. 2018, eq. 1, arXiv:1801.03924).

    It is a scalar: at each position the squared distance of unit feature vectors; the mean over
    positions, the sum over stages. Gradients reach the reconstructions only. On a CPU,
    MinildmError for images that are not in [-1, 1]; reconstructions may overshoot.
    """
    # a look at numbers on a GPU would make the host wait for them
    if readable(images):
        check_range(images, "perceptual")
    with torch.no_grad():
        wanted = [F.normalize(stage.float(), dim=1) for stage in feature_maps(images)]
    # in float32: under bf16 the difference of two nearly equal unit vectors is mostly rounding
    got = [F.normalize(stage.float(), dim=1) for stage in feature_maps(reconstructions)]
    distance = 0
    for a, b in zip(wanted, got, strict=True):
        distance = distance + (a - b).square().sum(1).mean()
    return distance


def vgg_feature_maps(vgg):
    """Make a feature function of torchvision's VGG-16, by LPIPS's layers relu1_2, 2_2, ..., 5_3.

    Grey images become three channels, and [-1, 1] what ImageNet's networks know. The network is
    frozen. MinildmError if it is another network.
    """
    layers = vgg.eval().requires_grad_(False).features[:30]
    if len(layers) < 30 or layers[28].out_channels != 512:
        raise MinildmError("this is not a VGG-16", "vgg_feature_maps",
                           'torchvision.models.vgg16(weights="DEFAULT")')

    mean = DeviceCopies(torch.tensor([0.485, 0.456, 0.406])[:, None, None])
    std = DeviceCopies(torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def feature_maps(images):
        x = ((images + 1) / 2 - mean.like(images)) / std.like(images)
        # (B, 3, H, W), of grey ones as well
        found = []
        for i, layer in enumerate(layers):
            x = layer(x)
            # the last ReLU of each of the five blocks
            if i in (3, 8, 15, 22, 29):
                found.append(x)
        return found
    return feature_maps


# --- adversarial

class PatchDiscriminator(nn.Module):
    """A score for every patch, high where it looks real: (B, C, H, W) -> (B, 1, H / 2^layers, ...).

    After Isola et al. 2017 (arXiv:1611.07004, 6.1.2), with GroupNorm, which does not mix real and
    fake as a batch's norm would. Two layers see patches of 26 pixels, one layer 12: enough for
    pictures of 32.
    """

    def __init__(self, channels: int = 3, width: int = 64, layers: int = 2, groups: int = 8):
        super().__init__()
        # no norm in the first: what pixels give has a scale that means something
        blocks = [nn.Conv2d(channels, width, 4, 2, padding=1), nn.LeakyReLU(0.2)]
        for _ in range(layers - 1):
            blocks += [nn.Conv2d(width, 2 * width, 4, 2, padding=1)]
            blocks += [nn.GroupNorm(groups, 2 * width), nn.LeakyReLU(0.2)]
            width = 2 * width
        blocks += [nn.Conv2d(width, width, 3, padding=1)]
        blocks += [nn.GroupNorm(groups, width), nn.LeakyReLU(0.2)]
        blocks += [nn.Conv2d(width, 1, 3, padding=1)]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, images):
        return self.blocks(images)


class FinePatchDiscriminator(nn.Module):
    """A patch discriminator that judges grain: (B, C, H, W) -> (B, 1, H / 2^(layers-1), ...).

    Its first layer does not halve, and no norm hides how strong the grain is. It has scores for
    twice as many places along each side; of two layers, for patches of 14 pixels.
    """

    def __init__(self, channels: int = 3, width: int = 64, layers: int = 2):
        super().__init__()
        blocks = [nn.Conv2d(channels, width, 3, 1, padding=1), nn.LeakyReLU(0.2)]
        for _ in range(layers - 1):
            blocks += [nn.Conv2d(width, 2 * width, 4, 2, padding=1), nn.LeakyReLU(0.2)]
            width = 2 * width
        blocks += [nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2)]
        blocks += [nn.Conv2d(width, 1, 3, padding=1)]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, images):
        return self.blocks(images)


def hinge_critic(real, fake):
    """The critic's loss: 1 if it can't tell, 0 if it is sure (Lim & Ye 2017, eq. 3, halved)."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def hinge_generator(fake):
    """The other side's loss of the critic's scores (Lim & Ye 2017, eq. 4, arXiv:1705.02894)."""
    return -fake.mean()


def adaptive_weight(reconstruction, adversarial, last_layer, largest: float = 1e4):
    """The ratio of two losses' gradient norms at the last layer, the first over the second.

    VQGAN, eq. 7. Two losses and the decoder's last weight -> a scalar without gradient, at most
    `largest`. Weighted by it, the two pull equally hard, whatever their scales.
    """
    norms = []
    for loss in (reconstruction, adversarial):
        gradient = torch.autograd.grad(loss, last_layer, retain_graph=True)[0]
        norms.append(gradient.norm())
    return (norms[0] / (norms[1] + 1e-6)).clamp(max=largest).detach()


# --- all together

def sharp_losses(vae, critic, feature_maps, weights, images, generator=None, step: int = 1) -> dict:
    """All terms of one batch by name: "loss" is the VAE's, "critic" the critic's, if there is one.

    `weights` is anything with kl_weight, perceptual_weight, adversarial_weight and
    adversarial_start: the last step without the critic, whose terms are 0 till then, without a
    gradient.
    """
    posterior = vae.encode(images)
    reconstructions = vae.decode(posterior.sample(generator)).float()
    terms = {"l1": (reconstructions - images).abs().mean(), "kl": posterior.kl().mean()}
    reconstruction = terms["l1"]
    if weights.perceptual_weight:
        terms["perceptual"] = perceptual(feature_maps, images, reconstructions)
        reconstruction = reconstruction + weights.perceptual_weight * terms["perceptual"]
    loss = reconstruction + weights.kl_weight * terms["kl"]
    if critic is None:
        return {"loss": loss, **terms}
    # logged as 0 until then, so that each step's row has the same names
    if step <= weights.adversarial_start:
        nothing = loss.new_zeros(())
        return {"loss": loss, **terms, "critic": nothing, "adversarial": nothing,
                "lambda": nothing, "real": nothing, "fake": nothing}
    last_layer = vae.decoder.conv_out.weight
    judged = adversarial_terms(critic, images, reconstructions, reconstruction, last_layer)
    pull = weights.adversarial_weight * judged["lambda"] * judged["adversarial"]
    return {"loss": loss + pull, **terms, **judged}


def adversarial_terms(critic, images, reconstructions, reconstruction_loss, last_layer) -> dict:
    """The terms of both sides: "critic" and "adversarial", their losses, and "lambda" between them.

    `lambda` is the adaptive weight, here at most 1: beside a critic that can't tell, and so has no
    slope, it would go to hundreds and follow noise. `real` and `fake` are the shares of patches
    that the critic judges rightly.
    """
    # detached: the critic's loss must not reach the VAE; both sets at once cost one pass less
    real, fake = critic(torch.cat([images, reconstructions.detach()])).float().chunk(2)
    adversarial = hinge_generator(critic(reconstructions).float())
    return {
        "critic": hinge_critic(real, fake),
        "adversarial": adversarial,
        "lambda": adaptive_weight(reconstruction_loss, adversarial, last_layer, largest=1),
        "real": (real > 0).float().mean(),
        "fake": (fake < 0).float().mean(),
    }
