"""The parts that all networks here are made of: attention, residual blocks, time, resampling.

Attention mixes the values of all positions by how well their keys match a position's query:
    softmax(Q K^T / sqrt(d)) V            Vaswani et al. 2017, eq. 1, arXiv:1706.03762
A residual block adds a correction to its input; the time enters as a vector added in its middle.
Parameter names are those of diffusers, so published weights load without renaming.
Shapes: images and feature maps (B, C, H, W), sequences (B, L, D), t in [0, 1].
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError

# Measured on CPU: up to this many queries x keys, products and a softmax with their gradients beat
# the fused kernel with its own (see `bench`); without gradients the fused one is level or ahead.
SHORT = 256 * 256


def attention(q, k, v, mask=None):
    """softmax(q k^T / sqrt(d) + mask) v, by the fused kernel where that is faster.

    q (B, H, L, d), k and v (B, H, M, d), mask broadcastable to (B, H, L, M) and added ->
    (B, H, L, d).
    """
    short = q.device.type == "cpu" and q.shape[-2] * k.shape[-2] <= SHORT
    if not short or q.dtype == torch.float32 and not q.requires_grad:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)              # (B, H, L, M)
    if mask is not None:
        scores = scores + mask
    # in bf16 a softmax over many positions would lose the small weights
    weights = scores.softmax(-1, dtype=torch.float32).to(v.dtype)
    return weights @ v                                                    # (B, H, L, d)


class Attention(nn.Module):
    """Multi-head cross-attention from x to a context; self-attention when there is none.

    x (B, L, dim), context (B, M, context_dim) -> (B, L, dim). `bias` is that of q, k and v; the
    output always has one.
    """

    def __init__(self, dim: int, context_dim: int = 0, heads: int = 8, bias: bool = False):
        super().__init__()
        if dim % heads:
            raise MinildmError(f"width {dim} is no multiple of {heads} heads", "Attention",
                               "change one")
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
        if context.shape[1] == 1 and mask is None:
            # the softmax over one token is 1: every position receives its value
            return self.to_out(self.to_v(context)).expand_as(x)
        q = self.split(self.to_q(x))                                      # (B, H, L, d)
        k = self.split(self.to_k(context))                                # (B, H, M, d)
        v = self.split(self.to_v(context))
        mixed = attention(q, k, v, mask)                                  # (B, H, L, d)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class GEGLU(nn.Module):
    """Linear to twice the width; GELU of the second half gates the first (Shazeer 2020, eq. 6)."""

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


class ExactGELU(GELU):
    """Linear, then x Phi(x) itself (Hendrycks & Gimpel 2016, 2)."""

    def forward(self, x):
        return F.gelu(self.proj(x))


class QuickGELU(GELU):
    """Linear, then x sigmoid(1.702 x), CLIP's form of GELU (Hendrycks & Gimpel 2016, 2)."""

    def forward(self, x):
        x = self.proj(x)
        return x * torch.sigmoid(1.702 * x)


# by the names in published text towers: CLIP's own, and OpenCLIP's
ACTIVATIONS = {"quick_gelu": QuickGELU, "gelu": ExactGELU}


class FeedForward(nn.Module):
    """Two layers on each token by itself, dim -> inner -> dim; `kind` is the first.

    inner is 4 dim where nothing else is said.
    """

    def __init__(self, dim: int, dropout: float = 0.0, kind=GEGLU, inner: int = 0):
        super().__init__()
        inner = inner or 4 * dim
        self.net = nn.Sequential(kind(dim, inner), nn.Dropout(dropout), nn.Linear(inner, dim))

    def forward(self, x):
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the context, feed-forward network: three residual steps.

    Each follows a LayerNorm. x (B, L, dim), context (B, M, context_dim) -> (B, L, dim).
    """

    def __init__(self, dim: int, context_dim: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = Attention(dim, heads=heads)
        if context_dim:
            self.norm2 = nn.LayerNorm(dim)
            self.attn2 = Attention(dim, context_dim, heads)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim, dropout)
        self.has_context = bool(context_dim)

    def forward(self, x, context=None):
        x = x + self.attn1(self.norm1(x))
        if self.has_context:
            x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A transformer block over the positions of a map (B, C, H, W), as a residual step.

    (Rombach et al. 2022, 3.3, arXiv:2112.10752.)
    """

    def __init__(self, channels: int, context_dim: int, heads: int, groups: int = 32,
                 dropout: float = 0.0):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        block = TransformerBlock(channels, context_dim, heads, dropout)
        # a list of one: published weights have it so
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x, context=None):
        h = self.proj_in(self.norm(x))
        tokens = h.flatten(2).transpose(1, 2)                              # (B, H W, C)
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        h = tokens.transpose(1, 2).reshape(h.shape)                        # (B, C, H, W)
        return x + self.proj_out(h)


def group_norm(groups: int, channels: int, eps: float = 1e-5):
    """GroupNorm (Wu & He 2018, arXiv:1803.08494), or with 0 groups nothing."""
    return nn.GroupNorm(groups, channels, eps=eps) if groups else nn.Identity()


class ResidualBlock(nn.Module):
    """Two convolutions, each after norm and SiLU, with the time added between them, and a shortcut.

    x (B, in, H, W), emb (B, time_dim) -> (B, out, H, W). `emb` has already been through SiLU: every
    block needs it, and once is enough.
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
        self.has_shortcut = in_channels != out_channels
        if self.has_shortcut:
            self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x, emb=None):
        h = self.conv1(F.silu(self.norm1(x)))                             # (B, out, H, W)
        if emb is not None:
            h = h + self.time_emb_proj(emb)[:, :, None, None]
        h = F.silu(self.norm2(h))
        h = self.conv2(self.dropout(h))
        shortcut = self.conv_shortcut(x) if self.has_shortcut else x
        return shortcut + h


class Downsample(nn.Module):
    """Halve height and width by a strided convolution; asymmetric pads right and bottom only."""

    def __init__(self, channels: int, asymmetric: bool = False):
        super().__init__()
        self.asymmetric = asymmetric
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if asymmetric else 1)

    def forward(self, x):
        # Stable Diffusion's VAE was trained so, its U-Net with padding on all sides
        if self.asymmetric:
            x = F.pad(x, (0, 1, 0, 1))
        return self.conv(x)


class Upsample(nn.Module):
    """Double height and width: repeat each position, then smooth with a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def sinusoid(t, dim: int, max_period: float = 10_000.0, freq_shift: int = 0):
    """Sinusoidal embedding of t in [0, 1], a number or (B,) -> (B, dim) as [cos, sin], float32.

    t is multiplied by 1000, the unit that the frequencies were made for (Vaswani et al. 2017, 3.5;
    DDPM's code). freq_shift 1 makes the lowest frequency 1 / max_period itself.
    """
    half = dim // 2
    t = torch.as_tensor(t, dtype=torch.float32).reshape(-1, 1)            # (B, 1)
    i = torch.arange(half, device=t.device)
    frequencies = torch.exp(-math.log(max_period) * i / (half - freq_shift))
    angles = 1000 * t * frequencies                                       # (B, half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """The sinusoid through a two-layer network: t a number or (B,) -> (B, time_dim)."""

    def __init__(self, dim: int, time_dim: int, freq_shift: int = 0):
        super().__init__()
        self.dim, self.freq_shift = dim, freq_shift
        self.linear_1 = nn.Linear(dim, time_dim)
        self.linear_2 = nn.Linear(time_dim, time_dim)

    def forward(self, t):
        # the sinusoid itself is float32: 1000 t in bf16 would be right to a few steps only
        waves = sinusoid(t, self.dim, freq_shift=self.freq_shift).to(self.linear_1.weight)
        return self.linear_2(F.silu(self.linear_1(waves)))


def zero_(module):
    """Set a layer's weights to zero, so that the residual step it ends begins as the identity."""
    for p in module.parameters():
        nn.init.zeros_(p)
    return module
