"""The U-Net: a residual network that predicts at several resolutions, joined by skip connections.

Down: residual blocks at each level, then the sides are halved. Up: the same in reverse, where each
block also receives what the way down found at that size (the skip connections). The time is added
in every residual block; every position attends to the context, the tokens of a text, or one token
for a class (Ronneberger et al. 2015, arXiv:1505.04597; Ho et al. 2020, arXiv:2006.11239; Rombach et
al. 2022, arXiv:2112.10752). Stable Diffusion 1.5's network is `UNetConfig()`: 859,520,964
parameters. Ours differ in numbers only.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError
from minildm.devices import number_on
from minildm.nn import bounds
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
    """The numbers that define a `UNet`."""

    in_channels: int = 4
    out_channels: int = 4
    # one width a level, each level half the size
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    # which levels have transformers; the middle always has one
    attention: tuple[bool, ...] = (True, True, True, False)
    blocks: int = 2             # residual blocks a level down, one more going up
    context_dim: int = 768      # width of the context's tokens; 0 for no context
    heads: int | tuple[int, ...] = 8    # of attention; a tuple has one number a level
    groups: int = 32            # of GroupNorm
    num_classes: int = 0        # > 0: contexts may be labels, and this one means "no class"
    dropout: float = 0.0

    def __post_init__(self):
        at = "UNetConfig"
        bounds.check_int(at, 1, bounds.WIDTH, in_channels=self.in_channels, groups=self.groups,
                         out_channels=self.out_channels)
        bounds.check_ints(at, bounds.LEVELS, bounds.WIDTH, channels=self.channels)
        bounds.check_int(at, 1, bounds.DEPTH, blocks=self.blocks)
        bounds.check_int(at, 0, bounds.WIDTH, context_dim=self.context_dim)
        bounds.check_int(at, 0, bounds.ENTRIES, num_classes=self.num_classes)
        bounds.check_float(at, 0, 1, dropout=self.dropout)
        if not isinstance(self.attention, tuple | list):
            raise MinildmError(f"attention is {bounds.shown(self.attention)}", at,
                               "give one a level each")
        if len(self.attention) != len(self.channels):
            raise MinildmError(f"{len(self.channels)} widths, {len(self.attention)} entries in "
                               "attention", at, "give one a level each")
        for attends in self.attention:
            bounds.check_bool(at, attention=attends)
        if self.num_classes and not self.context_dim:
            raise MinildmError("classes have no place without a context", at, "set context_dim")
        bounds.check_divides(at, self.groups, "groups", *self.channels)
        bounds.check_divides(at, 2, "sines and cosines of the time", self.channels[0])
        self.check_heads(at)

    def check_heads(self, at: str):
        """Refuse heads that the width of a level with attention can't be cut into."""
        if not isinstance(self.heads, tuple | list):
            bounds.check_int(at, 1, bounds.WIDTH, heads=self.heads)
        else:
            bounds.check_ints(at, bounds.LEVELS, bounds.WIDTH, heads=self.heads)
            if len(self.heads) != len(self.channels):
                raise MinildmError(f"{len(self.channels)} widths, {len(self.heads)} entries in "
                                   "heads", at, "give one a level each, or one number")
        last = len(self.channels) - 1
        for level, width in enumerate(self.channels):
            # the middle, as wide as the last level, always attends
            if self.attention[level] or level == last:
                bounds.check_divides(at, self.heads_at(level), "heads", width)

    def heads_at(self, level: int) -> int:
        """The number of heads in the transformers of a level."""
        return self.heads if isinstance(self.heads, int) else self.heads[level]

    @property
    def multiple(self) -> int:
        """Height and width of the input must be multiples of this."""
        return 2 ** (len(self.channels) - 1)

    @property
    def time_dim(self) -> int:
        """Width of the time's embedding."""
        return 4 * self.channels[0]


def transformer(level: int, config: UNetConfig) -> SpatialTransformer:
    """A transformer over the positions of a level's map."""
    c = config
    width, heads = c.channels[level], c.heads_at(level)
    return SpatialTransformer(width, c.context_dim, heads, c.groups, c.dropout)


class Level(nn.Module):
    """The residual blocks of one size, each followed by a transformer where the level has them.

    pairs: (channels in, channels out) of each block. The U-Net adds the change of size.
    """

    def __init__(self, pairs, config: UNetConfig, level: int):
        super().__init__()
        c = config
        self.resnets = nn.ModuleList(
            ResidualBlock(before, after, c.time_dim, c.groups, dropout=c.dropout)
            for before, after in pairs)
        if c.attention[level]:
            self.attentions = nn.ModuleList(transformer(level, c) for _ in pairs)

    def block(self, i: int, x, emb, context):
        """The i-th residual block, and its transformer."""
        x = self.resnets[i](x, emb)
        return self.attentions[i](x, context) if hasattr(self, "attentions") else x


class MidBlock(nn.Module):
    """Residual block, transformer, residual block at the smallest size."""

    def __init__(self, width: int, config: UNetConfig):
        super().__init__()
        c = config
        self.attentions = nn.ModuleList([transformer(len(c.channels) - 1, c)])
        self.resnets = nn.ModuleList(
            ResidualBlock(width, width, c.time_dim, c.groups, dropout=c.dropout) for _ in range(2))

    def forward(self, x, emb, context):
        x = self.resnets[0](x, emb)
        x = self.attentions[0](x, context)
        return self.resnets[1](x, emb)


class UNet(nn.Module):
    """x (B, C, H, W), t a number or (B,), labels (B,) or tokens (B, L, D) -> (B, out, H, W).

    H and W must be multiples of `multiple`, 2^(levels - 1).
    """

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = c = config
        first, last = c.channels[0], c.channels[-1]
        self.conv_in = nn.Conv2d(c.in_channels, first, 3, padding=1)
        self.time_embedding = TimeEmbedding(first, c.time_dim)
        if c.num_classes:
            # one row more than classes: the last is "no class"
            self.class_embedding = nn.Embedding(c.num_classes + 1, c.context_dim)
        self.down_blocks = nn.ModuleList()
        skips = self.add_down_blocks()
        self.mid_block = MidBlock(last, c)
        self.up_blocks = nn.ModuleList()
        self.add_up_blocks(skips)
        self.conv_norm_out = nn.GroupNorm(c.groups, first)
        self.conv_out = nn.Conv2d(first, c.out_channels, 3, padding=1)
        self.init_weights()

    def add_down_blocks(self) -> list[int]:
        """Fill `down_blocks`; -> the channels of each skip connection, in order."""
        c = self.config
        skips = [c.channels[0]]                 # what conv_in makes
        for level, width in enumerate(c.channels):
            pairs = []
            for _ in range(c.blocks):
                pairs.append((skips[-1], width))
                skips.append(width)
            block = Level(pairs, c, level)
            if level < len(c.channels) - 1:
                block.downsamplers = nn.ModuleList([Downsample(width)])
                skips.append(width)
            self.down_blocks.append(block)
        return skips

    def add_up_blocks(self, skips: list[int]) -> None:
        """Fill `up_blocks`, whose inputs are concatenated with the skips, last first."""
        c = self.config
        before = c.channels[-1]
        for level in reversed(range(len(c.channels))):
            width, pairs = c.channels[level], []
            for _ in range(c.blocks + 1):
                pairs.append((before + skips.pop(), width))
                before = width
            block = Level(pairs, c, level)
            if level > 0:
                block.upsamplers = nn.ModuleList([Upsample(width)])
            self.up_blocks.append(block)

    def init_weights(self):
        """Every residual step starts as the identity, and the whole network predicts zero."""
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
        """Refuse an input that the network cannot take, and say what it takes."""
        c, multiple = self.config, self.multiple
        if x.shape[1] != c.in_channels or x.shape[2] % multiple or x.shape[3] % multiple:
            raise MinildmError(f"the input is {tuple(x.shape[1:])}", "UNet",
                               f"it takes {c.in_channels} channels, sides that are multiples of "
                               f"{multiple}")
        if c.context_dim and context is None:
            raise MinildmError("this network wants a context", "UNet",
                               "pass labels, or tokens (B, L, D)")
        if context is not None and not torch.is_floating_point(context) and not c.num_classes:
            raise MinildmError("this network knows no classes", "UNet",
                               "set UNetConfig(num_classes=...)")

    def embed(self, context):
        """Integer labels (B,) -> a context of one token (B, 1, D); a context passes through."""
        if context is not None and not torch.is_floating_point(context):
            return self.class_embedding(context)[:, None]
        return context

    def forward(self, x, t, context=None, control=None):
        """`control`, from `nn.control`, is added to the skips, last the middle: a tensor each."""
        self.check(x, context)
        t = number_on(x.device, t)
        # once for all residual blocks, each of which would begin with it
        emb = F.silu(self.time_embedding(t))                               # (B or 1, 4 C)
        context = self.embed(context)                                      # (B, L, D)
        skips = run_encoder(self, self.conv_in(x.to(self.conv_in.weight.dtype)), emb, context)
        if control is not None:
            skips = [skip + extra for skip, extra in zip(skips, control, strict=True)]
        h = skips.pop()
        # one block more a level than on the way down: it takes the skip of the downsampling
        for level in self.up_blocks:
            for i in range(len(level.resnets)):
                h = torch.cat([h, skips.pop()], dim=1)
                h = level.block(i, h, emb, context)
            if hasattr(level, "upsamplers"):
                h = level.upsamplers[0](h)
        return self.conv_out(F.silu(self.conv_norm_out(h)))


def run_encoder(network, h, emb, context) -> list:
    """What the way down hands to the way up: h itself, every block's output, last the middle's.

    `network` has `down_blocks` and a `mid_block`: a `UNet`, or a copy of its encoder.
    """
    skips = [h]
    for level in network.down_blocks:
        for i in range(len(level.resnets)):
            h = level.block(i, h, emb, context)
            skips.append(h)
        if hasattr(level, "downsamplers"):
            h = level.downsamplers[0](h)
            skips.append(h)
    return [*skips, network.mid_block(h, emb, context)]
