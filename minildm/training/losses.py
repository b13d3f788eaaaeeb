"""Losses besides the plain ones: what makes copies sharp.

Of all pictures that a latent may stand for, a pixel loss wants the average: a blur. So, as in VQGAN (Esser et
al. 2021, arXiv:2012.09841, eq. 5-7), and with every term a mean over values, positions or patches,

    L = |x - x'| + w_p L_perceptual + w_a lambda L_adversarial + w_k KL,  lambda = |grad L_rec|/|grad L_adv|

The features are any function's, images (B, C, H, W) in [-1, 1] -> a list of maps (B, c, h, w), one a stage:
`Classifier.feature_maps` or `vgg_maps`. Nothing here holds an optimizer: `training` gives each part its own.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError
from minildm.images import check_range


def perceptual(maps, images, copies):
    """LPIPS's distance with all channel weights 1 (Zhang et al. 2018, eq. 1, arXiv:1801.03924): a scalar.

    At each position the squared distance of unit feature vectors; the mean of positions, the sum of stages.
    Gradients reach the copies only. Images that are not in [-1, 1] are refused; copies may overshoot.
    """
    check_range(images, "perceptual")
    with torch.no_grad():
        wanted = [F.normalize(stage.float(), dim=1) for stage in maps(images)]
    got = [F.normalize(stage.float(), dim=1) for stage in maps(copies)]
    return sum((a - b).square().sum(1).mean() for a, b in zip(wanted, got, strict=True))


def vgg_maps(vgg):
    """torchvision's VGG-16 as a feature function, by LPIPS's five layers: relu1_2, 2_2, 3_3, 4_3, 5_3.

    Grey images become three channels, and [-1, 1] what ImageNet's networks know. The network is frozen.
    """
    layers = vgg.eval().requires_grad_(False).features[:30]
    if len(layers) < 30 or layers[28].out_channels != 512:
        raise MinildmError("this is not a VGG-16", "vgg_maps", 'torchvision.models.vgg16(weights="DEFAULT")')

    def maps(images):
        mean, std = images.new_tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
        x, found = ((images + 1) / 2 - mean) / std, []                             # (B, 3, H, W)
        for i, layer in enumerate(layers):
            x = layer(x)
            if i in (3, 8, 15, 22, 29):
                found.append(x)
        return found
    return maps


class PatchDiscriminator(nn.Module):
    """A score for every patch, high where it looks real: (B, C, H, W) -> (B, 1, H / 2^layers, W / 2^layers).

    After Isola et al. 2017 (arXiv:1611.07004, 6.1.2), with GroupNorm, which does not mix real and fake as a
    batch's norm would. Two layers see patches of 26 pixels, one layer 12: enough for pictures of 32.
    A fine one judges grain: its first layer does not halve, and no norm hides how strong the grain is. It has
    scores for twice as many places along each side; of two layers, for patches of 14 pixels.
    """

    def __init__(self, channels: int = 3, width: int = 64, layers: int = 2, groups: int = 8, fine=False):
        super().__init__()
        widths, blocks = [channels, *(width * 2**i for i in range(layers))], []
        for a, b in pairwise(widths):
            kernel, stride = (3, 1) if fine and not blocks else (4, 2)
            norm = [nn.GroupNorm(groups, b)] if blocks and not fine else []        # none on what pixels give
            blocks += [nn.Conv2d(a, b, kernel, stride, padding=1), *norm, nn.LeakyReLU(0.2)]
        last = widths[-1]
        norm = [] if fine else [nn.GroupNorm(groups, last)]
        blocks += [nn.Conv2d(last, last, 3, padding=1), *norm, nn.LeakyReLU(0.2)]
        self.blocks = nn.Sequential(*blocks, nn.Conv2d(last, 1, 3, padding=1))

    def forward(self, images):
        return self.blocks(images)


def hinge_critic(real, fake):
    """The critic's loss of its scores, 1 while it can't tell, 0 when sure (Lim & Ye 2017, eq. 3, halved)."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def hinge_generator(fake):
    """The other side's loss of the critic's scores (Lim & Ye 2017, eq. 4, arXiv:1705.02894)."""
    return -fake.mean()


def adaptive_weight(reconstruction, adversarial, last_layer, largest: float = 1e4):
    """How much larger reconstruction's gradient at the last layer is than the critic's (VQGAN, eq. 7).

    Two losses and the decoder's last weight -> a scalar without gradient, at most `largest`. Weighted by it,
    the two pull equally hard, whatever their scales.
    """
    norms = [torch.autograd.grad(loss, last_layer, retain_graph=True)[0].norm()
             for loss in (reconstruction, adversarial)]
    return (norms[0] / (norms[1] + 1e-6)).clamp(max=largest).detach()


def sharp_losses(vae, critic, maps, weights, images, generator=None, step: int = 1) -> dict:
    """All terms of one batch by name: "loss" is the VAE's, "critic" the critic's, if there is one.

    `weights` is anything with kl_weight, perceptual_weight, adversarial_weight and adversarial_start: the
    last step without the critic, whose terms are 0 till then, with no gradient. `lambda` is the adaptive
    weight, here at most 1: beside a critic that can't tell, and so has no slope, it would go to hundreds and
    follow noise. `real` and `fake` are the parts of patches that the critic judges rightly.
    """
    posterior = vae.encode(images)
    copies = vae.decode(posterior.sample(generator)).float()
    terms = {"l1": (copies - images).abs().mean(), "kl": posterior.kl().mean()}
    reconstruction = terms["l1"]
    if weights.perceptual_weight:
        terms["perceptual"] = perceptual(maps, images, copies)
        reconstruction = reconstruction + weights.perceptual_weight * terms["perceptual"]
    loss = reconstruction + weights.kl_weight * terms["kl"]
    if critic is None:
        return {"loss": loss, **terms}
    if step <= weights.adversarial_start:
        nothing = dict.fromkeys(("critic", "adversarial", "lambda", "real", "fake"), loss.new_zeros(()))
        return {"loss": loss, **terms, **nothing}
    real, fake = critic(torch.cat([images, copies.detach()])).float().chunk(2)
    adversarial = hinge_generator(critic(copies).float())
    balance = adaptive_weight(reconstruction, adversarial, vae.decoder.conv_out.weight, largest=1)
    return {"loss": loss + weights.adversarial_weight * balance * adversarial, **terms,
            "critic": hinge_critic(real, fake), "adversarial": adversarial, "lambda": balance,
            "real": (real > 0).float().mean(), "fake": (fake < 0).float().mean()}
