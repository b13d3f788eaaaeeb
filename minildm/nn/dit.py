"""DiT: cut the latent into patches, let them talk as a transformer's tokens, put them back together.

No convolution beyond the patches, no skip connections, one size all the way. Time and class steer every
block from outside, by scaling and shifting what its norms give and by gates that start at zero (adaLN-Zero):
    x = x + gate * attention(norm(x) * (1 + scale) + shift),   and the same with the feed-forward network
(Peebles & Xie 2023). DiT-XL/2 is `DiTConfig()`: 674,834,720 parameters. Ours differ in numbers only.
Names of parameters are diffusers', but for the embeddings, which it keeps once a block.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError
from minildm.nn.layers import GELU, Attention, FeedForward, TimeEmbedding, zero_


@dataclass(frozen=True)
class DiTConfig:
    in_channels: int = 4
    out_channels: int = 8            # twice in_channels: the second half is DiT's learned variance
    dim: int = 1152                  # width of a token
    depth: int = 28                  # blocks
    heads: int = 16
    patch: int = 2                   # side of the square that is one token
    num_classes: int = 1000          # > 0: contexts may be labels; this one is "none"
    context_dim: int = 0             # > 0: contexts may be tokens (B, L, D); their mean steers the norms
    cross_attention: bool = False    # and each block looks at them
    dropout: float = 0.0
    freq_shift: int = 0              # of the time's sinusoid, and eps before the feed-forward network:
    mlp_eps: float = 1e-6            # as published; diffusers computes with 1 and 1e-5

    @property
    def multiple(self) -> int:
        """Height and width of the input must be multiples of this."""
        return self.patch


def positions(h: int, w: int, dim: int, device=None):
    """Where each of h x w tokens stands, as waves: (h w, dim) as [sin, cos] of its column, then of its row.

    Those of a 1-D transformer, half the width for each axis (Vaswani et al. 2017, 3.5; DiT's code).
    """
    frequencies = 10_000 ** (-torch.arange(dim // 4, device=device) / (dim // 4))

    def waves(n):
        angles = torch.arange(n, device=device)[:, None] * frequencies        # (n, dim / 4)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)                # (n, dim / 2)

    column, row = waves(w).expand(h, w, -1), waves(h)[:, None].expand(h, w, -1)
    return torch.cat([column, row], dim=-1).flatten(0, 1)


def unpatchify(tokens, h: int, patch: int):
    """Tokens (B, h w, p p C), row by row, each a p x p square of C channels -> maps (B, C, h p, w p)."""
    squares = tokens.unflatten(2, (patch, patch, -1)).unflatten(1, (h, -1))   # (B, h, w, p, q, C)
    return squares.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)      # (B, C, h p, w q)


def modulate(x, shift, scale, eps: float = 1e-6):
    """LayerNorm whose scale and shift come from outside: x (B, L, D), the others (B, 1, D) (DiT, 3.2)."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=eps), 1 + scale)


class PatchEmbedding(nn.Module):
    """Each p x p square through one linear map, plus where it stands: x (B, C, H, W) -> (B, H W / p^2, D).

    The map of all squares at once is a convolution of stride p.
    """

    def __init__(self, in_channels: int, dim: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch, stride=patch)

    def forward(self, x):
        tokens = self.proj(x.to(self.proj.weight.dtype))                      # (B, D, h, w)
        place = positions(*tokens.shape[2:], tokens.shape[1], x.device).to(tokens.dtype)
        return tokens.flatten(2).transpose(1, 2) + place                      # (B, h w, D)


class Block(nn.Module):
    """Tokens look at each other, at the context's where there are any, then think; each step has its gate.

    x (B, L, D), c (B or 1, D) after SiLU, context (B, M, context_dim) -> (B, L, D).
    """

    def __init__(self, config: DiTConfig):
        super().__init__()
        dim, self.mlp_eps = config.dim, config.mlp_eps
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
    """x (B, C, H, W), t in [0, 1] or (B,), context labels (B,) or tokens (B, L, D) -> (B, out, H, W).

    H and W must be multiples of the patch.
    """

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = c = config
        if c.dim % 4:
            raise MinildmError(f"dim {c.dim} is no multiple of 4: sin and cos of two axes", "DiTConfig",
                               "change it")
        if c.cross_attention and not c.context_dim:
            raise MinildmError("cross_attention has nothing to look at", "DiTConfig", "set context_dim")
        self.pos_embed = PatchEmbedding(c.in_channels, c.dim, c.patch)
        self.time_embedding = TimeEmbedding(256, c.dim, c.freq_shift)
        if c.num_classes:
            self.class_embedding = nn.Embedding(c.num_classes + 1, c.dim)
        if c.context_dim:
            self.context_embedding = nn.Linear(c.context_dim, c.dim)
        self.transformer_blocks = nn.ModuleList(Block(c) for _ in range(c.depth))
        self.proj_out_1 = nn.Linear(c.dim, 2 * c.dim)
        self.proj_out_2 = nn.Linear(c.dim, c.patch**2 * c.out_channels)
        self.init_weights()

    def init_weights(self):
        """Xavier inside; every gate closed, so each block starts as the identity; the network at zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
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
        """Say in words what is wrong with an input, before a matrix product says it in numbers."""
        c = self.config
        if x.shape[1] != c.in_channels or x.shape[2] % c.patch or x.shape[3] % c.patch:
            raise MinildmError(f"the input is {tuple(x.shape[1:])}", "DiT",
                               f"it takes {c.in_channels} channels, sides that are multiples of {c.patch}")
        if context is None:
            if c.num_classes or c.context_dim:
                raise MinildmError("this network wants a context", "DiT", "pass labels, or tokens (B, L, D)")
        elif torch.is_floating_point(context):
            if not c.context_dim:
                raise MinildmError("this network knows no contexts", "DiT", "set DiTConfig(context_dim=...)")
        elif not c.num_classes or c.cross_attention:
            raise MinildmError("this network knows no labels", "DiT", "pass tokens (B, L, D), or set "
                               "DiTConfig(num_classes=..., cross_attention=False)")

    def embed(self, t, context):
        """What steers the norms, (B or 1, D): time, plus the class or the mean of the context's tokens."""
        c = self.time_embedding(t)
        if context is None:
            return c
        if torch.is_floating_point(context):
            return c + self.context_embedding(context.mean(1))
        return c + self.class_embedding(context)

    def forward(self, x, t, context=None):
        self.check(x, context)
        c = F.silu(self.embed(torch.as_tensor(t, device=x.device), context))
        tokens = self.pos_embed(x)
        for block in self.transformer_blocks:
            tokens = block(tokens, c, context)
        shift, scale = self.proj_out_1(c)[:, None].chunk(2, dim=-1)
        tokens = self.proj_out_2(modulate(tokens, shift, scale))              # (B, h w, p p out)
        return unpatchify(tokens, x.shape[2] // self.config.patch, self.config.patch)
