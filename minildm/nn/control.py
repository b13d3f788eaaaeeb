"""Control by a picture: a trainable copy of an encoder, joined by layers that start at zero.

The network that draws stays as it is. The copy sees the same x_t plus a hint, a map of the picture
that is wanted: edges, segments, depth. Each of its outputs y goes through a layer Z whose weights
are zero at first, and is added to what the network itself found there:
    skip + weight * Z(y)                    ControlNet, Zhang et al. 2023, eq. 2, arXiv:2302.05543
So training starts from the network's own answer, exactly. Parameters have diffusers' names.

    net = ControlNet(unet)
    unet(x, t, context, control=net(x, t, context, hint))
"""

import copy

import torch.nn.functional as F
from torch import nn

from minildm import MinildmError
from minildm.devices import number_on
from minildm.nn.dit import DiT
from minildm.nn.layers import zero_
from minildm.nn.unet import UNet, run_encoder

WIDTHS = (16, 32, 96, 256)      # of the hint's layers, as published; each next one halves the sides


def zero_conv(before: int, after: int) -> nn.Conv2d:
    """A 1 x 1 convolution that answers zero until it is trained (ControlNet, 3.1)."""
    return zero_(nn.Conv2d(before, after, 1))


class HintEmbedding(nn.Module):
    """A hint in pixels as a map of the latents' size: (B, C, H, W) -> (B, out, h, w), at first 0.

    Between two widths the sides are halved: four widths lead to an eighth.
    """

    def __init__(self, channels: int, out: int, widths=WIDTHS):
        super().__init__()
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            self.blocks.append(nn.Conv2d(before, before, 3, padding=1))
            self.blocks.append(nn.Conv2d(before, after, 3, padding=1, stride=2))
        self.conv_out = zero_(nn.Conv2d(widths[-1], out, 3, padding=1))

    def forward(self, hint):
        h = F.silu(self.conv_in(hint.to(self.conv_in.weight.dtype)))
        for block in self.blocks:
            h = F.silu(block(h))
        return self.conv_out(h)


class ControlNet(nn.Module):
    """The control of a U-Net: x, t, context, hint (B, C, H, W) -> a tensor for each of its skips.

    The last is the middle block's. `weight` scales them all: 0 is the U-Net alone.
    """

    def __init__(self, unet: UNet, hint_channels: int = 3, widths=WIDTHS):
        super().__init__()
        self.config = c = unet.config
        # a copy, not a reference: these weights move, the U-Net's don't
        for name in ("conv_in", "time_embedding", "down_blocks", "mid_block", "class_embedding"):
            if hasattr(unet, name):
                self.add_module(name, copy.deepcopy(getattr(unet, name)).requires_grad_(True))
        self.controlnet_cond_embedding = HintEmbedding(hint_channels, c.channels[0], widths)
        *skips, middle = joint_widths(unet)
        self.controlnet_down_blocks = nn.ModuleList(zero_conv(n, n) for n in skips)
        self.controlnet_mid_block = zero_conv(middle, middle)

    embed = UNet.embed

    def forward(self, x, t, context, hint, weight: float = 1.0) -> list:
        emb = F.silu(self.time_embedding(number_on(x.device, t)))          # (B or 1, 4 C)
        h = self.conv_in(x.to(self.conv_in.weight.dtype))                  # (B, C, h, w)
        told = self.controlnet_cond_embedding(hint)
        check_sides(told, h, hint)
        found = run_encoder(self, h + told, emb, self.embed(context))
        joints = [*self.controlnet_down_blocks, self.controlnet_mid_block]
        return [weight * joint(y) for joint, y in zip(joints, found, strict=True)]


def joint_widths(unet: UNet) -> list[int]:
    """The channels of each skip connection of a U-Net, in order, and last the middle's."""
    widths = [unet.config.channels[0]]
    for width, level in zip(unet.config.channels, unet.down_blocks, strict=True):
        widths += [width] * (len(level.resnets) + hasattr(level, "downsamplers"))
    return [*widths, widths[-1]]


class ControlDiT(nn.Module):
    """The control of a DiT: the same arguments -> tokens (B, L, D) to add after its first blocks.

    A transformer has no skips, so the copy is of the first half of the blocks, and each copied
    block's output is added to that of its original (as in PixArt-delta: Chen et al. 2024,
    arXiv:2401.05252).
    """

    def __init__(self, dit: DiT, hint_channels: int = 3, widths=WIDTHS, depth: int | None = None):
        super().__init__()
        self.config = c = dit.config
        depth = depth or max(1, c.depth // 2)
        for name in ("pos_embed", "time_embedding", "class_embedding", "context_embedding"):
            if hasattr(dit, name):
                self.add_module(name, copy.deepcopy(getattr(dit, name)).requires_grad_(True))
        blocks = copy.deepcopy(dit.transformer_blocks[:depth]).requires_grad_(True)
        self.transformer_blocks = blocks
        self.hint_embedding = HintEmbedding(hint_channels, c.dim, widths)
        self.joints = nn.ModuleList(zero_(nn.Linear(c.dim, c.dim)) for _ in range(depth))

    embed = DiT.embed

    def forward(self, x, t, context, hint, weight: float = 1.0) -> list:
        c = F.silu(self.embed(number_on(x.device, t), context))            # (B or 1, D)
        told = self.hint_embedding(hint)                                   # (B, D, h, w) of latents
        check_sides(told, x, hint)
        told = F.avg_pool2d(told, self.config.patch)                       # of tokens
        tokens = self.pos_embed(x) + told.flatten(2).transpose(1, 2)       # (B, L, D)
        control = []
        for block, joint in zip(self.transformer_blocks, self.joints, strict=True):
            tokens = block(tokens, c, context)
            control.append(weight * joint(tokens))
        return control


def check_sides(told, h, hint):
    """Refuse a hint whose embedding does not fit the latents."""
    if told.shape[-2:] != h.shape[-2:]:
        times = hint.shape[-1] // told.shape[-1]
        raise MinildmError(
            f"the hint is {tuple(hint.shape[-2:])}, the latents {tuple(h.shape[-2:])}",
            "ControlNet", f"pass a hint {times} times as large as the latents, or other widths: "
            "each next one halves the sides")


def control_for(network, hint_channels: int = 3, widths=WIDTHS):
    """The control of a network, of its kind: `ControlNet` for a U-Net, `ControlDiT` for a DiT."""
    kind = ControlDiT if isinstance(network, DiT) else ControlNet
    return kind(network, hint_channels, widths)
