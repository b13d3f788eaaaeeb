"""A network for films: an image U-Net whose frames look at each other through temporal layers.

The frames of B films go through the image network as B F pictures. After each of its blocks a
temporal layer joins the frames of each position, by two more residual steps:
    h = h + gate(attention(norm(h) + place))        near frames are preferred
    h = h + gate(hidden(norm(h)))                   of all frames at once
The gates, the last linear map of each, begin at zero: at first the network draws independent frames
exactly as the image network does, and training opens them (Blattmann et al. 2023, 3.1,
arXiv:2304.08818).
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
    patch: int = 1              # squares of patch x patch positions become channels first
    heads: int = 4
    inner: int = 384            # width inside of the temporal layers' feed-forward networks
    together: bool = True       # whether these receive all frames of a position at once
    # how much of the noise's variance all frames have in common, in training and in drawing
    noise_share: float = 0.5

    def __post_init__(self):
        at = "VideoUNetConfig"
        bounds.check_int(at, 1, bounds.DEPTH, frames=self.frames)
        bounds.check_int(at, 1, bounds.SIDE, patch=self.patch)
        bounds.check_int(at, 1, bounds.WIDTH, heads=self.heads, inner=self.inner)
        bounds.check_float(at, 0, 1, noise_share=self.noise_share)
        for width in self.image.channels:
            if width % self.heads:
                raise MinildmError(f"width {width} is no multiple of {self.heads} heads", at,
                                   "change one")

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
    maps = films.permute(0, 3, 4, 1, 2).flatten(0, 1)
    # a convolution would round otherwise in another layout, and gates at zero must change nothing
    return maps.contiguous()


def nearness(heads: int, frames: int):
    """A bias for attention that begins with frames that are near: (heads, F, F), at most 0.

    Head h loses 2^(1 - h) for each frame of distance (linear biases: Press et al. 2022,
    arXiv:2108.12409, there along a text).
    """
    at = torch.arange(frames).float()
    apart = (at[:, None] - at).abs()                                        # (F, F)
    slopes = 2.0 ** (1 - torch.arange(heads))
    return -slopes[:, None, None] * apart


class TemporalLayer(nn.Module):
    """The frames of a position see each other: by attention, then in a feed-forward network.

    h (B F, C, H, W) -> the same shape. Each token is told its frame by a learned vector, and near
    frames are preferred. With `together` the feed-forward network receives all F tokens of a
    position as one vector of F C numbers, so that what it does to a frame can depend on all of them
    (a step of Tolstikhin et al. 2021, arXiv:2105.01601, for time and channels at once); without,
    each token by itself. The last maps of both steps are the gates: at zero, h comes back as it is.
    """

    def __init__(self, channels: int, frames: int, heads: int = 4, inner: int = 384,
                 together: bool = True):
        super().__init__()
        self.frames, self.together = frames, together
        self.place = nn.Parameter(0.3 * torch.randn(frames, channels))
        self.register_buffer("near", nearness(heads, frames), persistent=False)
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(channels, heads=heads)
        self.norm2 = nn.LayerNorm(channels)
        width = frames * channels if together else channels
        self.ff = FeedForward(width, kind=GELU, inner=inner)
        self.init_weights()

    def init_weights(self):
        """Close the gates."""
        zero_(self.attention.to_out)
        zero_(self.ff.net[-1])

    def forward(self, h):
        tokens = to_time(h, self.frames)                                    # (B H W, F, C)
        seen = self.norm1(tokens) + self.place
        tokens = tokens + self.attention(seen, mask=self.near)
        seen = self.norm2(tokens)
        if self.together:
            seen = seen.flatten(1)                                          # (B H W, F C)
        tokens = tokens + self.ff(seen).reshape(tokens.shape)
        return from_time(tokens, h)


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
        widths = c.image.channels

        def layers(level: int, n: int):
            return nn.ModuleList(layer(widths[level], c.frames, c.heads, c.inner, c.together)
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
