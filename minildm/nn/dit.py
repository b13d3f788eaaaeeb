"""DiT: a transformer over the patches of a latent, in place of the U-Net.

No convolution beyond the patches, no skip connections, one size all the way. Time and class
modulate every block: they scale and shift the outputs of its norms, and gate its residual steps by
factors that start at zero (adaLN-Zero):
    x = x + gate * attention(norm(x) * (1 + scale) + shift)
and the same with the feed-forward network
(Peebles & Xie 2023, arXiv:2212.09748). DiT-XL/2 is `DiTConfig()`: 674,834,720 parameters. Ours
differ in numbers only. Names of parameters are diffusers', but for the embeddings, which it keeps
once a block.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError
from minildm.devices import number_on
from minildm.nn import bounds
from minildm.nn.layers import GELU, Attention, FeedForward, TimeEmbedding, zero_

TIME_DIM = 256      # of the time's sinusoid, before its own two layers


@dataclass(frozen=True)
class DiTConfig:
    """The numbers that define a `DiT`."""

    in_channels: int = 4
    out_channels: int = 8            # twice in_channels: the second half is DiT's learned variance
    dim: int = 1152                  # width of a token
    depth: int = 28                  # blocks
    heads: int = 16
    patch: int = 2                   # side of the square that is one token
    num_classes: int = 1000          # > 0: contexts may be labels, and this one means "no class"
    context_dim: int = 0             # > 0: contexts may be tokens (B, L, D); their mean modulates
    cross_attention: bool = False    # and each block attends to them
    dropout: float = 0.0
    # As published. diffusers computes with 1 and 1e-5.
    freq_shift: int = 0              # of the time's sinusoid
    mlp_eps: float = 1e-6            # of the norm before the feed-forward network

    def __post_init__(self):
        at = "DiTConfig"
        bounds.check_int(at, 1, bounds.WIDTH, in_channels=self.in_channels, heads=self.heads,
                         out_channels=self.out_channels, dim=self.dim)
        bounds.check_int(at, 0, bounds.DEPTH, depth=self.depth)
        bounds.check_int(at, 1, bounds.DEPTH, patch=self.patch)
        bounds.check_int(at, 0, bounds.WIDTH, context_dim=self.context_dim)
        bounds.check_int(at, 0, bounds.ENTRIES, num_classes=self.num_classes)
        bounds.check_int(at, 0, 1, freq_shift=self.freq_shift)
        bounds.check_float(at, 0, 1, dropout=self.dropout, mlp_eps=self.mlp_eps)
        bounds.check_bool(at, cross_attention=self.cross_attention)
        bounds.check_divides(at, self.heads, "heads", self.dim)
        if self.dim % 4:
            raise MinildmError(f"dim {self.dim} is no multiple of 4: sin and cos of two axes", at,
                               "change it")
        if self.cross_attention and not self.context_dim:
            raise MinildmError("cross_attention has nothing to attend to", at, "set context_dim")

    @property
    def multiple(self) -> int:
        """Height and width of the input must be multiples of this."""
        return self.patch


def positions(h: int, w: int, dim: int, device=None):
    """Position embeddings of h x w tokens: (h w, dim) as [sin, cos] of the column, then of the row.

    They are those of a 1-D transformer, half the width for each axis (Vaswani et al. 2017, 3.5,
    arXiv:1706.03762; DiT's code).
    """
    frequencies = 10_000 ** (-torch.arange(dim // 4, device=device) / (dim // 4))

    def along_axis(n):
        angles = torch.arange(n, device=device)[:, None] * frequencies        # (n, dim / 4)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)                # (n, dim / 2)

    column = along_axis(w).expand(h, w, -1)
    row = along_axis(h)[:, None].expand(h, w, -1)
    return torch.cat([column, row], dim=-1).flatten(0, 1)


def unpatchify(tokens, h: int, patch: int):
    """Put patches back together: tokens (B, h w, p p C), row by row -> maps (B, C, h p, w p).

    A token holds a p x p square of C channels, the channels last.
    """
    squares = tokens.unflatten(2, (patch, patch, -1)).unflatten(1, (h, -1))   # (B, h, w, p, q, C)
    return squares.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)      # (B, C, h p, w q)


def modulate(x, shift, scale, eps: float = 1e-6):
    """LayerNorm with a given scale and shift, (B, 1, D), of x (B, L, D) (DiT, 3.2)."""
    # one fused kernel: norm * (1 + scale) + shift
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=eps), 1 + scale)


class PatchEmbedding(nn.Module):
    """Patches as tokens, with their positions: x (B, C, H, W) -> (B, H W / p^2, D).

    Each p x p square goes through one linear map; for all squares at once that is a convolution of
    stride p.
    """

    def __init__(self, in_channels: int, dim: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch, stride=patch)

    def forward(self, x):
        tokens = self.proj(x.to(self.proj.weight.dtype))                      # (B, D, h, w)
        dim, h, w = tokens.shape[1:]
        position = positions(h, w, dim, x.device).to(tokens.dtype)            # (h w, D)
        return tokens.flatten(2).transpose(1, 2) + position                   # (B, h w, D)


class DiTBlock(nn.Module):
    """Self-attention, cross-attention if asked for, feed-forward network, with adaLN-Zero.

    x (B, L, D), c (B or 1, D) after SiLU, context (B, M, context_dim) -> (B, L, D). c makes the
    scale, the shift and the gate of the two steps that have them (DiT, figure 3).
    """

    def __init__(self, config: DiTConfig):
        super().__init__()
        dim = config.dim
        # one layer makes all six vectors, as in the published weights
        self.mlp_eps = config.mlp_eps
        self.adaLN = nn.Linear(dim, 6 * dim)
        self.attn1 = Attention(dim, heads=config.heads, bias=True)
        if config.cross_attention:
            self.norm2 = nn.LayerNorm(dim)
            self.attn2 = Attention(dim, config.context_dim, config.heads)
        self.has_context = config.cross_attention
        self.ff = FeedForward(dim, config.dropout, GELU)

    def forward(self, x, c, context=None):
        shift, scale, gate, shift_ff, scale_ff, gate_ff = self.adaLN(c)[:, None].chunk(6, dim=-1)
        x = torch.addcmul(x, gate, self.attn1(modulate(x, shift, scale)))
        if self.has_context:
            x = x + self.attn2(self.norm2(x), context)
        return torch.addcmul(x, gate_ff, self.ff(modulate(x, shift_ff, scale_ff, self.mlp_eps)))


class DiT(nn.Module):
    """x (B, C, H, W), t a number or (B,), labels (B,) or tokens (B, L, D) -> (B, out, H, W).

    H and W must be multiples of the patch.
    """

    compiled_parts = ("transformer_blocks",)    # each by itself: one program serves them all

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = c = config
        self.pos_embed = PatchEmbedding(c.in_channels, c.dim, c.patch)
        self.time_embedding = TimeEmbedding(TIME_DIM, c.dim, c.freq_shift)
        if c.num_classes:
            self.class_embedding = nn.Embedding(c.num_classes + 1, c.dim)
        if c.context_dim:
            self.context_embedding = nn.Linear(c.context_dim, c.dim)
        self.transformer_blocks = nn.ModuleList(DiTBlock(c) for _ in range(c.depth))
        self.proj_out_1 = nn.Linear(c.dim, 2 * c.dim)
        self.proj_out_2 = nn.Linear(c.dim, c.patch**2 * c.out_channels)
        self.init_weights()

    def init_weights(self):
        """Xavier in general; gates at zero, so that each block is the identity; the output at zero.

        (DiT, 3.2, and its published code.)
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        # what follows overwrites parts of it: the order matters
        for linear in self.time_embedding.linear_1, self.time_embedding.linear_2:
            nn.init.normal_(linear.weight, std=0.02)
        for block in self.transformer_blocks:
            zero_(block.adaLN)
            if block.has_context:
                zero_(block.attn2.to_out)
        zero_(self.proj_out_1)
        zero_(self.proj_out_2)

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
        c = self.config
        if x.shape[1] != c.in_channels or x.shape[2] % c.patch or x.shape[3] % c.patch:
            raise MinildmError(f"the input is {tuple(x.shape[1:])}", "DiT",
                               f"it takes {c.in_channels} channels, sides that are multiples of "
                               f"{c.patch}")
        if context is None:
            if c.num_classes or c.context_dim:
                raise MinildmError("this network wants a context", "DiT",
                                   "pass labels, or tokens (B, L, D)")
        elif torch.is_floating_point(context):
            if not c.context_dim:
                raise MinildmError("this network knows no tokens", "DiT",
                                   "set DiTConfig(context_dim=...)")
        elif not c.num_classes or c.cross_attention:
            raise MinildmError("this network knows no labels", "DiT", "pass tokens (B, L, D), or "
                               "set DiTConfig(num_classes=..., cross_attention=False)")

    def embed(self, t, context):
        """What modulates the blocks, (B or 1, D): the time plus the class, or the tokens' mean."""
        c = self.time_embedding(t)
        if context is None:
            return c
        if torch.is_floating_point(context):
            return c + self.context_embedding(context.mean(1))
        return c + self.class_embedding(context)

    def forward(self, x, t, context=None, control=()):
        """`control`, from `nn.control`, is added after the first blocks: tokens (B, L, D) each."""
        self.check(x, context)
        p = self.config.patch
        t = number_on(x.device, t)
        c = F.silu(self.embed(t, context))                                    # (B or 1, D)
        tokens = self.pos_embed(x)                                            # (B, h w, D)
        for i, block in enumerate(self.transformer_blocks):
            tokens = block(tokens, c, context)
            if i < len(control):
                tokens = tokens + control[i]
        # the last norm is modulated as well, but has no gate
        shift, scale = self.proj_out_1(c)[:, None].chunk(2, dim=-1)           # (B or 1, 1, D)
        tokens = self.proj_out_2(modulate(tokens, shift, scale))              # (B, h w, p p out)
        return unpatchify(tokens, x.shape[2] // p, p)
