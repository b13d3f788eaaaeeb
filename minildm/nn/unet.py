"""The U-Net: what is the noise in this picture? Asked at every scale at once.

Down: look closely, then halve the picture and look again. Up: the same in reverse, with each level handed
what the way down saw there (the skip connections). Time is added in every residual block; the context (words,
or a class as a context of one token) is attended to by every position
(Ronneberger et al. 2015; Ho et al. 2020; Rombach et al. 2022).
Stable Diffusion 1.5's network is `UNetConfig()`: 859,520,964 parameters. Ours differ in numbers only.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError
from minildm.nn.layers import (
    Downsample,
    ResidualBlock,
    SpatialTransformer,
    TimeEmbedding,
    Upsample,
    zero_,
)


@dataclass(frozen=True)
class UNetConfig:
    in_channels: int = 4
    out_channels: int = 4
    channels: tuple[int, ...] = (320, 640, 1280, 1280)   # one width a level, each level half the size
    attention: tuple[bool, ...] = (True, True, True, False)  # levels with transformers; the middle has one
    blocks: int = 2                                      # residual blocks a level down, one more going up
    context_dim: int = 768                               # width of the context's tokens; 0 for no context
    heads: int = 8
    groups: int = 32                                     # of GroupNorm
    num_classes: int = 0                                 # > 0: contexts may be labels; this one is "none"
    dropout: float = 0.0

    @property
    def multiple(self) -> int:
        """Height and width of the input must be multiples of this."""
        return 2 ** (len(self.channels) - 1)


class Stage(nn.Module):
    """One level: residual blocks, each with its transformer where there are any, then a change of size."""

    def __init__(self, pairs, config: UNetConfig, attention: bool):
        super().__init__()
        c = config
        self.resnets = nn.ModuleList(
            ResidualBlock(i, o, 4 * c.channels[0], c.groups, dropout=c.dropout) for i, o in pairs)
        if attention:
            self.attentions = nn.ModuleList(
                SpatialTransformer(o, c.context_dim, c.heads, c.groups, c.dropout) for _, o in pairs)

    def block(self, i, x, emb, context):
        x = self.resnets[i](x, emb)
        return self.attentions[i](x, context) if hasattr(self, "attentions") else x


class Middle(nn.Module):
    """Residual, transformer, residual at the smallest size."""

    def __init__(self, channels: int, config: UNetConfig):
        super().__init__()
        c = config
        self.attentions = nn.ModuleList(
            [SpatialTransformer(channels, c.context_dim, c.heads, c.groups, c.dropout)])
        self.resnets = nn.ModuleList(
            ResidualBlock(channels, channels, 4 * c.channels[0], c.groups, dropout=c.dropout)
            for _ in range(2))

    def forward(self, x, emb, context):
        return self.resnets[1](self.attentions[0](self.resnets[0](x, emb), context), emb)


class UNet(nn.Module):
    """x (B, C, H, W), t in [0, 1] or (B,), context (B, L, D) or labels (B,) -> prediction (B, C, H, W).

    H and W must be multiples of 2^(levels - 1).
    """

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = c = config
        width, levels = c.channels, range(len(c.channels))
        if len(c.attention) != len(width):
            raise MinildmError(f"{len(width)} widths, {len(c.attention)} entries in attention", "UNetConfig",
                               "give one a level each")
        if c.num_classes and not c.context_dim:
            raise MinildmError("classes have no place without a context", "UNetConfig", "set context_dim")
        self.conv_in = nn.Conv2d(c.in_channels, width[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(width[0], 4 * width[0])
        if c.num_classes:
            self.class_embedding = nn.Embedding(c.num_classes + 1, c.context_dim)

        self.down_blocks, skips = nn.ModuleList(), [width[0]]
        for level in levels:
            before = width[max(level - 1, 0)]
            stage = Stage([(before if i == 0 else width[level], width[level]) for i in range(c.blocks)],
                          c, c.attention[level])
            skips += [width[level]] * c.blocks
            if level < len(width) - 1:
                stage.downsamplers = nn.ModuleList([Downsample(width[level])])
                skips += [width[level]]
            self.down_blocks.append(stage)

        self.mid_block = Middle(width[-1], c)

        self.up_blocks, h = nn.ModuleList(), width[-1]
        for level in reversed(levels):
            pairs = []
            for _ in range(c.blocks + 1):
                pairs.append((h + skips.pop(), width[level]))
                h = width[level]
            stage = Stage(pairs, c, c.attention[level])
            if level > 0:
                stage.upsamplers = nn.ModuleList([Upsample(h)])
            self.up_blocks.append(stage)

        self.conv_norm_out = nn.GroupNorm(c.groups, h)
        self.conv_out = nn.Conv2d(h, c.out_channels, 3, padding=1)
        self.init_weights()

    def init_weights(self):
        """Every residual step starts as the identity, the whole network at zero: nothing is predicted yet."""
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                zero_(module.conv2)
            elif isinstance(module, SpatialTransformer):
                zero_(module.proj_out)
        zero_(self.conv_out)

    @property
    def multiple(self) -> int:
        """Height and width of x must be multiples of this."""
        return self.config.multiple

    @property
    def null_context(self) -> int | None:
        """The label that means "no class"; None for a network that knows no labels."""
        return self.config.num_classes or None

    def check(self, x, context):
        """Say in words what is wrong with an input, before a matrix product says it in numbers."""
        c, multiple = self.config, self.config.multiple
        if x.shape[1] != c.in_channels or x.shape[2] % multiple or x.shape[3] % multiple:
            raise MinildmError(f"the input is {tuple(x.shape[1:])}", "UNet",
                               f"it takes {c.in_channels} channels, sides that are multiples of {multiple}")
        if c.context_dim and context is None:
            raise MinildmError("this network wants a context", "UNet", "pass labels, or tokens (B, L, D)")
        if context is not None and not torch.is_floating_point(context) and not c.num_classes:
            raise MinildmError("this network knows no classes", "UNet", "set UNetConfig(num_classes=...)")

    def embed(self, context):
        """Integer labels (B,) -> a context of one token (B, 1, D); a context passes through."""
        if context is not None and not torch.is_floating_point(context):
            return self.class_embedding(context)[:, None]
        return context

    def forward(self, x, t, context=None):
        self.check(x, context)
        emb = F.silu(self.time_embedding(torch.as_tensor(t, device=x.device)))   # (B or 1, 4 C)
        context = self.embed(context)
        h = self.conv_in(x.to(self.conv_in.weight.dtype))
        skips = [h]
        for stage in self.down_blocks:
            for i in range(len(stage.resnets)):
                h = stage.block(i, h, emb, context)
                skips.append(h)
            if hasattr(stage, "downsamplers"):
                h = stage.downsamplers[0](h)
                skips.append(h)
        h = self.mid_block(h, emb, context)
        for stage in self.up_blocks:
            for i in range(len(stage.resnets)):
                h = stage.block(i, torch.cat([h, skips.pop()], dim=1), emb, context)
            if hasattr(stage, "upsamplers"):
                h = stage.upsamplers[0](h)
        return self.conv_out(F.silu(self.conv_norm_out(h)))
