"""The checks of lesson 10."""

import torch.nn.functional as F

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import equal, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_10_block import check_adaln_block
from minildm.nn import dit

__all__ = ["check_adaln_block", "check_block_parameters", "check_modulate", "check_patchify"]


def patchify(x, p):
    squares = x.unflatten(3, (-1, p)).unflatten(2, (-1, p))                 # (B, C, h, p, w, q)
    return squares.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)       # (B, h w, p q C)


@check(reference=patchify)
def check_patchify(answer):
    # unequal sides, and channels unlike p
    for shape, p in ((2, 3, 4, 6), 2), ((3, 2, 15, 6), 3), ((2, 5, 8, 12), 4):
        x = randn(*shape)
        want = patchify(x, p)
        squares = x.unflatten(3, (-1, p)).unflatten(2, (-1, p))             # (B, C, h, p, w, q)
        strides = x.unflatten(3, (p, -1)).unflatten(2, (p, -1))             # (B, C, p, h, q, w)

        def tokens(*order, axes=squares):
            return axes.permute(0, *order).flatten(3).flatten(1, 2)

        answer.case((x, p), want, {
            "in each square, pixels first, then channels: (p, q, C), not (C, p, q)":
                tokens(2, 4, 1, 3, 5),
            "in each square, pixels first, then channels: (p, q, C), not (C, q, p)":
                tokens(2, 4, 1, 5, 3),
            "in each square, pixels first, then channels: (p, q, C), not (p, C, q)":
                tokens(2, 4, 3, 1, 5),
            "squares go row by row, not column by column": tokens(4, 2, 3, 5, 1),
            "the pixels of a square go row by row": tokens(2, 4, 5, 3, 1),
            "squares and their pixels go row by row: rows and columns changed places":
                tokens(4, 2, 5, 3, 1),
            "these are every n-th pixel, not neighbours: p is the inner axis":
                tokens(3, 5, 2, 4, 1, axes=strides),
            "reshape keeps the numbers in their order: permute first": x.reshape(want.shape),
            "channels last, and yet reshape keeps whole rows together: split both axes first":
                x.permute(0, 2, 3, 1).reshape(want.shape),
            "tokens are the second axis, their width the last": want.mT,
            "the tokens of all pictures stand in one row: keep the batch": want.flatten(0, 1),
            "the squares still are squares: flatten each": want.unflatten(2, (p, p, -1)),
            "the tokens still stand in rows and columns: flatten them":
                want.unflatten(1, (shape[2] // p, -1)),
        }, where=f"shape {shape} and p = {p}")


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


def block_parameters(dim):
    ada = 6 * dim * dim + 6 * dim
    attention = 4 * (dim * dim + dim)
    mlp = dim * 4 * dim + 4 * dim + 4 * dim * dim + dim
    return ada + attention + mlp


@check(reference=block_parameters, forbidden=[dit.DiTBlock, dit.DiT])
def check_block_parameters(answer):
    # small widths: every parameter counts
    for dim in 20, 33, 96:
        square = dim * dim
        want = block_parameters(dim)
        got = answer(dim)
        equal(got, want, {
            "the biases are missing": 18 * square,
            "biases of the six vectors are missing": want - 6 * dim,
            "biases of attention are missing": want - 4 * dim,
            "biases of the MLP are missing": want - 5 * dim,
            "the MLP's first layer has 4 D biases, the second D": want - 3 * dim,
            "the MLP's second layer has D biases, the first 4 D": want + 3 * dim,
            "the six vectors' layer is missing": want - 6 * square - 6 * dim,
            "the MLP is missing": want - 8 * square - 5 * dim,
            "attention is missing": want - 4 * square - 4 * dim,
            "attention has four maps, one of them for the output": want - square - dim,
            "three D x D maps are missing: six make vectors of c, four are attention's":
                want - 3 * square - 3 * dim,
            "there are six vectors, not one": want - 5 * square - 5 * dim,
            "there are six vectors, shift and scale and gate, twice": want - 2 * square - 2 * dim,
            "each of the six has a map from c, D x D": want - 6 * square,
            "the MLP has two layers": want - 4 * square - dim,
            "the MLP has two layers, the first among them": want - 4 * square - 4 * dim,
            "the MLP is 4 times as wide inside": want - 6 * square - 3 * dim,
            "the MLP is 4 times as wide inside: its layers are D x 4 D, not 4 D x 4 D":
                want + 8 * square,
            "no norm has parameters": want + 4 * dim,
            "no norm has parameters, the first neither": want + 2 * dim,
            "one block is asked for, not two": 2 * want,
        }, where=f"width {dim}")
        # equal takes 396.0 for 396
        if not isinstance(got, int):
            fail(f"the number is right: a count is an int, this is a {type(got).__name__}")
