"""The parts that every network here is made of: attention, residual block, time embedding, down and up.

Attention lets each position ask the others:  softmax(Q K^T / sqrt(d)) V  (Vaswani et al. 2017, eq. 1).
A residual block adds a small correction to its input, and is told the time by a vector added in the middle.
Parameter names are those of diffusers, so published weights load without renaming.
Shapes: images and feature maps (B, C, H, W), sequences (B, L, D), t in [0, 1].
"""

import contextlib
import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError

# Measured on CPU: up to this many queries x keys, products and a softmax with their gradients beat the fused
# kernel with its own (see `bench`); without gradients the fused one is level or ahead.
SHORT = 256 * 256


def attention(q, k, v, mask=None):
    """softmax(q k^T / sqrt(d) + mask) v, the fused kernel where that is faster (Vaswani et al. 2017, eq. 1).

    q (B, H, L, d), k and v (B, H, M, d), mask broadcastable to (B, H, L, M) and added -> (B, H, L, d).
    """
    short = q.device.type == "cpu" and q.shape[-2] * k.shape[-2] <= SHORT
    if not short or q.dtype == torch.float32 and not q.requires_grad:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)              # (B, H, L, M)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v        # (B, H, L, d)


class Attention(nn.Module):
    """Multi-head attention from x to a context; to itself when there is none.

    x (B, L, dim), context (B, M, context_dim) -> (B, L, dim). `bias` is that of q, k, v; the output has one.
    """

    def __init__(self, dim: int, context_dim: int = 0, heads: int = 8, bias: bool = False):
        super().__init__()
        if dim % heads:
            raise MinildmError(f"width {dim} is no multiple of {heads} heads", "Attention", "change one")
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=bias)
        self.to_k = nn.Linear(context_dim or dim, dim, bias=bias)
        self.to_v = nn.Linear(context_dim or dim, dim, bias=bias)
        self.to_out = nn.Sequential(nn.Linear(dim, dim))

    def split(self, x):
        """(B, L, H d) -> (B, H, L, d)"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x, context=None, mask=None):
        context = x if context is None else context
        if context.shape[1] == 1 and mask is None:      # softmax over one token is 1: all receive its value
            return self.to_out(self.to_v(context)).expand_as(x)
        q, k, v = self.split(self.to_q(x)), self.split(self.to_k(context)), self.split(self.to_v(context))
        return self.to_out(attention(q, k, v, mask).transpose(1, 2).flatten(2))


class GEGLU(nn.Module):
    """Linear to twice the width; the second half, through GELU, gates the first (Shazeer 2020, eq. 6)."""

    def __init__(self, dim: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(dim, 2 * inner)

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class GELU(nn.Module):
    """Linear, then x Phi(x) by its tanh approximation (Hendrycks & Gimpel 2016, 2)."""

    def __init__(self, dim: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(dim, inner)

    def forward(self, x):
        return F.gelu(self.proj(x), approximate="tanh")


class QuickGELU(GELU):
    """Linear, then x sigmoid(1.702 x), which CLIP has in GELU's place (Hendrycks & Gimpel 2016, 2)."""

    def forward(self, x):
        x = self.proj(x)
        return x * torch.sigmoid(1.702 * x)


class FeedForward(nn.Module):
    """dim -> 4 dim -> dim on each token by itself; the first half is `kind`."""

    def __init__(self, dim: int, dropout: float = 0.0, kind=GEGLU):
        super().__init__()
        self.net = nn.Sequential(kind(dim, 4 * dim), nn.Dropout(dropout), nn.Linear(4 * dim, dim))

    def forward(self, x):
        return self.net(x)


class TransformerBlock(nn.Module):
    """Tokens look at each other, at the context, then think: three residual steps, each after a LayerNorm."""

    def __init__(self, dim: int, context_dim: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(dim), Attention(dim, heads=heads)
        if context_dim:
            self.norm2, self.attn2 = nn.LayerNorm(dim), Attention(dim, context_dim, heads)
        self.norm3, self.ff = nn.LayerNorm(dim), FeedForward(dim, dropout)
        self.has_context = bool(context_dim)

    def forward(self, x, context=None):
        x = x + self.attn1(self.norm1(x))
        if self.has_context:
            x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A transformer block over a map's positions, (B, C, H, W) -> the same (Rombach et al. 2022, 3.3)."""

    def __init__(self, channels: int, context_dim: int, heads: int, groups: int = 32, dropout: float = 0.0):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, context_dim, heads, dropout)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x, context=None):
        h = self.proj_in(self.norm(x))
        tokens = h.flatten(2).transpose(1, 2)                              # (B, H W, C)
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        h = tokens.transpose(1, 2).reshape(h.shape)                        # (B, C, H, W)
        return x + self.proj_out(h)


def group_norm(groups: int, channels: int, eps: float = 1e-5):
    """GroupNorm (Wu & He 2018); 0 groups for none at all."""
    return nn.GroupNorm(groups, channels, eps=eps) if groups else nn.Identity()


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, + time, norm, SiLU, conv, + input.

    x (B, in, H, W), emb (B, time_dim) -> (B, out, H, W).
    `emb` has already been through SiLU: every block wants it so, and once is enough.
    """

    def __init__(self, in_channels: int, out_channels: int, time_dim: int = 0, groups: int = 32,
                 eps: float = 1e-5, dropout: float = 0.0):
        super().__init__()
        self.norm1 = group_norm(groups, in_channels, eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        if time_dim:
            self.time_emb_proj = nn.Linear(time_dim, out_channels)
        self.norm2 = group_norm(groups, out_channels, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1)
        self.has_shortcut = in_channels != out_channels

    def forward(self, x, emb=None):
        h = self.conv1(F.silu(self.norm1(x)))
        if emb is not None:
            h = h + self.time_emb_proj(emb)[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return (self.conv_shortcut(x) if self.has_shortcut else x) + h


class Downsample(nn.Module):
    """Halve height and width by a strided convolution; Stable Diffusion's VAE pads right and bottom only."""

    def __init__(self, channels: int, asymmetric: bool = False):
        super().__init__()
        self.asymmetric = asymmetric
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if asymmetric else 1)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.asymmetric else x)


class Upsample(nn.Module):
    """Double height and width: repeat each pixel, then smooth with a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def sinusoid(t, dim: int, max_period: float = 10_000.0, freq_shift: int = 0):
    """Time as waves of many frequencies: t in [0, 1], scalar or (B,) -> (B, dim) as [cos, sin], float32.

    t is multiplied by 1000, the unit the frequencies were made for (Vaswani et al. 2017, 3.5; DDPM's code).
    freq_shift 1 makes the slowest frequency 1 / max_period itself.
    """
    half = dim // 2
    t = torch.as_tensor(t, dtype=torch.float32).reshape(-1, 1)             # (B, 1)
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, device=t.device) / (half - freq_shift))
    angles = 1000 * t * frequencies                                        # (B, half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """The sinusoid through a two-layer network: t scalar or (B,) -> (B, time_dim)."""

    def __init__(self, dim: int, time_dim: int, freq_shift: int = 0):
        super().__init__()
        self.dim, self.freq_shift = dim, freq_shift
        self.linear_1, self.linear_2 = nn.Linear(dim, time_dim), nn.Linear(time_dim, time_dim)

    def forward(self, t):
        waves = sinusoid(t, self.dim, freq_shift=self.freq_shift).to(self.linear_1.weight)
        return self.linear_2(F.silu(self.linear_1(waves)))


def zero_(module):
    """Set a layer's weights to zero, so that the residual step it ends begins as the identity."""
    for p in module.parameters():
        nn.init.zeros_(p)
    return module


@contextlib.contextmanager
def record_attention(network):
    """Inside the block, where each attention to a context looks: yields {module's name: [(B, L, M) a call]}.

    The mean over heads of softmax(q k^T / sqrt(d)), computed anew from what comes in, for `attention` does
    not hand it out. The network's code and its answers stay as they are.
    """
    maps = {}

    @torch.no_grad()
    def record(name, module, args, kwargs):
        context = kwargs.get("context", args[1] if len(args) > 1 else None)
        if context is not None:
            q, k = module.split(module.to_q(args[0])), module.split(module.to_k(context))
            weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1, torch.float32)
            maps.setdefault(name, []).append(weights.mean(1))                          # (B, L, M)

    hooks = [module.register_forward_pre_hook(partial(record, name), with_kwargs=True)
             for name, module in network.named_modules() if isinstance(module, Attention)]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def mean_map(maps):
    """What `record_attention` yields, as one picture a token: the mean over calls and layers, (B, M, h, w).

    Of the layers that see the finest grid, which is taken to be square. In a guided call the null's
    batch comes first. One batch only: `generate(..., batch_size=N)`.
    """
    finest = max(calls[0].shape[1] for calls in maps.values())
    some = [weights for calls in maps.values() for weights in calls if weights.shape[1] == finest]
    side = math.isqrt(finest)
    return torch.stack(some).mean(0).transpose(1, 2).unflatten(2, (side, side))
