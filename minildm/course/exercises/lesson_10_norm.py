"""The checks of lesson 10 on the modulated norm and the final layer, which ends in one."""

import torch
import torch.nn.functional as F
from torch import nn

from minildm.course.exercises.answer import Answer, compare_gradients, copy_weights
from minildm.course.exercises.compare import compare, describe, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.nn import dit

EPS = 1e-6      # DiT's, not LayerNorm's default


def modulate(x, shift, scale):
    normed = F.layer_norm(x, x.shape[-1:], eps=EPS)
    return normed * (1 + scale[:, None]) + shift[:, None]


@check(reference=modulate, forbidden=[dit.modulate])
def check_modulate(answer):
    # the second x is so small that eps counts
    for (batch, length, width), size in ((2, 5, 8), 1.5), ((3, 4, 6), 0.004):
        # a mean that is not 0, or nobody would miss its subtraction
        x = size * (randn(batch, length, width) + 0.7)
        x.requires_grad_()
        shift = randn(batch, width, seed=1).requires_grad_()
        scale = randn(batch, width, seed=2).requires_grad_()
        want = modulate(x, shift, scale)
        got = answer.case((x, shift, scale), want, likely_modulations(x, shift, scale),
                          where=f"x of shape {tuple(x.shape)}")
        compare_gradients(got, want, x=x, shift=shift, scale=scale)


def likely_modulations(x, shift, scale):
    a, b = shift[:, None], scale[:, None]
    n = F.layer_norm(x, x.shape[-1:], eps=EPS)
    backwards = x * (1 + b) + a
    norms = {cause: norm * (1 + b) + a for cause, norm in wrong_norms(x).items()}
    return {
        "1 + scale: at scale 0 the norm must pass": n * b + a,
        "1 + scale multiplies the norm, it doesn't divide it": n / (1 + b) + a,
        "1 + scale, not 1 - scale": n * (1 - b) + a,
        "scale multiplies the norm: here it is added": n + b + a,
        "the scale is no logarithm: 1 + scale": n * b.exp() + a,
        "shift and scale changed places": n * (1 + a) + b,
        "shift comes after the scale": (n + a) * (1 + b),
        "shift is added, not subtracted": n * (1 + b) - a,
        "1 belongs to the scale, not to the shift": n * b + 1 + a,
        "the norm comes first, then scale and shift":
            F.layer_norm(backwards, x.shape[-1:], eps=EPS),
        "the shift is missing": n * (1 + b),
        "the scale is missing": n + a,
        "that is the LayerNorm alone": n,
        "the batch's first shift and scale are used for all": n * (1 + b[:1]) + a[:1],
        **norms,
    }


def wrong_norms(x):
    """{cause: what stands in the place of LayerNorm}."""
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    unbiased = x.var(-1, keepdim=True)
    square = x.square().mean(-1, keepdim=True)

    def norm(*axes):
        variance = x.var(axes, unbiased=False, keepdim=True)
        return (x - x.mean(axes, keepdim=True)) / (variance + EPS).sqrt()

    return {
        "there is no LayerNorm": x,
        "the norm is over the width, not over the tokens": norm(1),
        "the norm is over the width, not over the batch": norm(0),
        "the norm is each token's own, not over tokens and width": norm(1, 2),
        "LayerNorm subtracts the mean, too": x / (square + EPS).sqrt(),
        "LayerNorm divides by the spread, too": centred,
        "it is divided by the variance: by its root": centred / (variance + EPS),
        "LayerNorm's variance is a mean of squares: divided by n, not by n - 1":
            centred / (unbiased + EPS).sqrt(),
        "LayerNorm's variance is a mean of squares: n - 1 is the divisor of std()":
            centred / (unbiased.sqrt() + EPS),
        "eps is 1e-6 here, not the default 1e-5": centred / (variance + 1e-5).sqrt(),
        "eps belongs to the variance, under the root": centred / (variance.sqrt() + EPS),
        "eps is missing": centred / variance.sqrt(),
    }


class FinalLayer(nn.Module):
    """Tokens (B, L, D), condition c (B, D) -> (B, L, out): a modulated norm and a linear layer."""

    def __init__(self, dim, out):
        super().__init__()
        self.ada = nn.Linear(dim, 2 * dim)
        self.linear = nn.Linear(dim, out)
        for layer in self.ada, self.linear:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x, c):
        shift, scale = self.ada(F.silu(c)).chunk(2, dim=-1)
        return self.linear(modulate(x, shift, scale))


@check(reference=FinalLayer, forbidden=[dit.modulate, dit.DiT])
def check_FinalLayer(answer):
    for dim, out, batch, length in ((8, 5, 2, 6), (12, 3, 3, 4)):
        layer, wanted = made(answer, dim, out), FinalLayer(dim, out)
        randomise(wanted)
        x, c = randn(batch, length, dim), randn(batch, dim, seed=1)
        fresh = Answer(layer)(x, c)
        compare(fresh, torch.zeros(batch, length, out), where="a fresh layer answers zero")
        if any(weight.abs().max() > 0 for weight in layer.parameters()):
            fail("fresh weights are zero, of `ada` and of `linear`, and so are the biases")
        copy_weights(layer, wanted)
        told, plain = wanted.ada(F.silu(c)), wanted.ada(c)
        shift, scale = told.chunk(2, dim=-1)

        def layer_of(vectors, wanted=wanted, x=x):
            return wanted.linear(modulate(x, *vectors.chunk(2, dim=-1)))

        Answer(layer, ["x", "c"]).case((x, c), wanted(x, c), {
            "the SiLU of c is missing": layer_of(plain),
            "SiLU comes before the layer `ada`, not after it": layer_of(F.silu(plain)),
            "the order is shift, scale": wanted.linear(modulate(x, scale, shift)),
            "the linear layer comes last, after the modulated norm":
                wanted.linear(x) if out != dim else x,
            "the norm isn't modulated: shift and scale come from c":
                wanted.linear(modulate(x, 0 * shift, 0 * scale)),
            "the final layer has no gate and no way around it":
                wanted.linear(x + modulate(x, shift, scale)),
        }, where=f"width {dim}, {out} numbers out")


def made(answer, *sizes):
    """A module of the student's class."""
    module = answer(*sizes)
    if not isinstance(module, nn.Module):
        fail(f"hand over the class: this made {describe(module)}")
    return module


@torch.no_grad()
def randomise(module):
    """Weights so large that a nonlinearity left out is seen; none of them zero."""
    for i, weight in enumerate(module.parameters()):
        size = 1.5 / weight[0].numel()**0.5
        weight.copy_(size * randn(*weight.shape, seed=i))
