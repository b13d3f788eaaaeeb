"""A network for films: an image U-Net whose frames look at each other through temporal layers.

The frames of B films go through the image network as B F pictures. After each of its blocks a
temporal layer lets tokens of different frames attend to each other, as one more residual step:
    h = h + gate(attention(norm(h) + place))        what is near is preferred
The gate, its last linear map, begins at zero: at first the network draws independent frames exactly
as the image network does, and training opens it (Blattmann et al. 2023, 3.1, arXiv:2304.08818).
Shapes: films (B, F, C, H, W), feature maps (B F, C, H, W).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError
from minildm.devices import number_on
from minildm.nn import bounds
from minildm.nn.layers import GELU, Attention, FeedForward, zero_
from minildm.nn.unet import UNet, UNetConfig


@dataclass(frozen=True)
class VideoUNetConfig:
    """The numbers that define a `VideoUNet`."""

    image: UNetConfig           # of the image network
    frames: int = 12
    side: int = 8               # of a frame that the network receives
    patch: int = 1              # squares of patch x patch positions become channels first
    # levels whose temporal layers join all positions of all frames; elsewhere a position attends
    # to itself in the other frames
    joint: tuple[bool, ...] = (True,)
    heads: int = 4
    # how much of the noise's variance all frames have in common, in training and in drawing
    noise_share: float = 0.5

    def __post_init__(self):
        at = "VideoUNetConfig"
        bounds.check_int(at, 1, bounds.DEPTH, frames=self.frames)
        bounds.check_int(at, 1, bounds.SIDE, side=self.side, patch=self.patch)
        bounds.check_int(at, 1, bounds.WIDTH, heads=self.heads)
        bounds.check_float(at, 0, 1, noise_share=self.noise_share)
        if len(self.joint) != len(self.image.channels):
            raise MinildmError(f"{len(self.image.channels)} widths, {len(self.joint)} entries in "
                               "joint", at, "give one a level each")
        if self.side % self.multiple:
            raise MinildmError(f"a side of {self.side}", at, f"take a multiple of {self.multiple}")

    @property
    def multiple(self) -> int:
        """Height and width of a frame must be multiples of this."""
        return self.patch * self.image.multiple


def to_time(h, frames: int):
    """Feature maps (B F, C, H, W) -> for each position its frames in order (B H W, F, C)."""
    films = h.unflatten(0, (-1, frames))                                    # (B, F, C, H, W)
    return films.permute(0, 3, 4, 1, 2).flatten(0, 2)


def from_time(tokens, like):
    """The way back of `to_time`: (B H W, F, C) -> the shape of `like`, (B F, C, H, W)."""
    _, _, height, width = like.shape
    films = tokens.unflatten(0, (-1, height, width))                        # (B, H, W, F, C)
    return films.permute(0, 3, 4, 1, 2).flatten(0, 1)


def to_space_time(h, frames: int):
    """Feature maps (B F, C, H, W) -> the positions of all frames (B, F H W, C)."""
    return h.unflatten(0, (-1, frames)).permute(0, 1, 3, 4, 2).flatten(1, 3)


def from_space_time(tokens, like):
    """The way back of `to_space_time`: (B, F H W, C) -> the shape of `like`."""
    n, channels, height, width = like.shape
    maps = tokens.reshape(n, height, width, channels).permute(0, 3, 1, 2)
    # a convolution would round otherwise in another layout, and gates at zero must change nothing
    return maps.contiguous()


def nearness(heads: int, frames: int, side: int = 1):
    """A bias for attention that begins with what is near: (heads, F side^2, F side^2), at most 0.

    Head h loses 2^(1 - h) for each step in frames, rows or columns (linear biases: Press et al.
    2022, arXiv:2108.12409, there along a text).
    """
    at = torch.cartesian_prod(*(torch.arange(n) for n in (frames, side, side))).float()
    steps = torch.cdist(at, at, p=1)                                        # (L, L)
    slopes = 2.0 ** (1 - torch.arange(heads))
    return -slopes[:, None, None] * steps


class TemporalLayer(nn.Module):
    """Attention of each position to itself in all frames, and a feed-forward network, both gated.

    h (B F, C, H, W) -> the same shape. With `joint` all positions of all frames attend to each
    other. Each token is told its frame (and with `joint` its position) by a learned vector, and
    near tokens are preferred. The last maps of both steps are the gates: at zero, h comes back as
    it is.
    """

    def __init__(self, channels: int, frames: int, side: int, heads: int = 4, joint: bool = False):
        super().__init__()
        self.frames, self.joint = frames, joint
        positions = frames * side**2 if joint else frames
        self.place = nn.Parameter(0.3 * torch.randn(positions, channels))
        near = nearness(heads, frames, side if joint else 1)
        self.register_buffer("near", near, persistent=False)
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(channels, heads=heads)
        self.norm2 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, kind=GELU)
        self.init_weights()

    def init_weights(self):
        """Close the gates."""
        zero_(self.attention.to_out)
        zero_(self.ff.net[-1])

    def forward(self, h):
        there, back = (to_space_time, from_space_time) if self.joint else (to_time, from_time)
        tokens = there(h, self.frames)
        seen = self.norm1(tokens) + self.place
        tokens = tokens + self.attention(seen, mask=self.near)
        tokens = tokens + self.ff(self.norm2(tokens))
        return back(tokens, h)


class VideoUNet(nn.Module):
    """films (B, F, C, H, W), t a number, (B,) or (B, F), words (B, L) -> (B, F, C, H, W).

    Words are rows of the image network's table of classes; its last row means "nothing said".
    With t (B, F) each frame has its own time: a frame that is given has t = 0. `layer` is the class
    of the temporal layers, which takes `TemporalLayer`'s arguments.
    """

    def __init__(self, config: VideoUNetConfig, layer=TemporalLayer):
        super().__init__()
        self.config = c = config
        self.image = UNet(c.image)
        side, widths = c.side // c.patch, c.image.channels
        sides = [side // 2**level for level in range(len(widths))]

        def layers(level: int, n: int):
            width, at, joint = widths[level], sides[level], c.joint[level]
            return nn.ModuleList(layer(width, c.frames, at, c.heads, joint)
                                 for _ in range(n))

        levels = range(len(widths))
        self.down_time = nn.ModuleList(layers(level, c.image.blocks) for level in levels)
        self.mid_time = layers(len(widths) - 1, 1)[0]
        self.up_time = nn.ModuleList(layers(level, c.image.blocks + 1)
                                     for level in reversed(levels))

    @property
    def multiple(self) -> int:
        return self.config.multiple

    @property
    def null_context(self):
        return self.image.null_context

    def temporal_layers(self):
        """All temporal layers, in the order in which they are run."""
        levels = [*self.down_time, [self.mid_time], *self.up_time]
        return [layer for level in levels for layer in level]

    def temporal_parameters(self):
        """The weights that the image network does not have."""
        return [p for name, p in self.named_parameters() if not name.startswith("image.")]

    def embed(self, words):
        """Words (B, L) -> a token each for every frame (B F, L, D)."""
        if words is None:
            return None
        context = self.image.class_embedding(words)                         # (B, L, D)
        return context.repeat_interleave(self.config.frames, 0)

    def pictures(self, x, t, words=None):
        """The image network alone, for single frames x (B, C, H, W) and t a number or (B,)."""
        context = None if words is None else self.image.class_embedding(words)
        prediction = self.image(F.pixel_unshuffle(x, self.config.patch), t, context)
        return F.pixel_shuffle(prediction, self.config.patch)

    def forward(self, films, t, words=None):
        c, image = self.config, self.image
        h = F.pixel_unshuffle(films.flatten(0, 1), c.patch)                 # (B F, C, H, W)
        t = number_on(h.device, t)
        if t.ndim:
            t = t.reshape(len(films), -1).expand(-1, c.frames).flatten()    # (B F,)
        emb = F.silu(image.time_embedding(t))
        context = self.embed(words)
        h = image.conv_in(h)
        skips = [h]
        for level, times in zip(image.down_blocks, self.down_time, strict=True):
            for i, over_time in enumerate(times):
                h = over_time(level.block(i, h, emb, context))
                skips.append(h)
            if hasattr(level, "downsamplers"):
                h = level.downsamplers[0](h)
                skips.append(h)
        h = self.mid_time(image.mid_block(h, emb, context))
        for level, times in zip(image.up_blocks, self.up_time, strict=True):
            for i, over_time in enumerate(times):
                h = level.block(i, torch.cat([h, skips.pop()], dim=1), emb, context)
                h = over_time(h)
            if hasattr(level, "upsamplers"):
                h = level.upsamplers[0](h)
        h = image.conv_out(F.silu(image.conv_norm_out(h)))
        return F.pixel_shuffle(h, c.patch).unflatten(0, (-1, c.frames))
