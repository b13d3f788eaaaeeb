"""The checks of lesson 10."""

import torch
import torch.nn.functional as F

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import equal, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.nn import dit

__all__ = ["check_adaln_block", "check_block_parameters", "check_modulate", "check_patchify"]


def patchify(x, p):
    squares = x.unflatten(3, (-1, p)).unflatten(2, (-1, p))                 # (B, C, h, p, w, q)
    return squares.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)       # (B, h w, p q C)


@check(reference=patchify)
def check_patchify(answer):
    for shape, p in ((2, 3, 4, 6), 2), ((3, 2, 15, 6), 3), ((2, 5, 4, 12), 4):
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


EPS = 1e-6


def modulate(x, shift, scale):
    normed = F.layer_norm(x, x.shape[-1:], eps=EPS)
    return normed * (1 + scale[:, None]) + shift[:, None]


@check(reference=modulate, forbidden=[dit.modulate])
def check_modulate(answer):
    # the second x is so small that eps counts
    for (batch, length, width), size in ((2, 5, 8), 1.5), ((3, 4, 6), 0.004):
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
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    unbiased = x.var(-1, keepdim=True)

    def norm(x, *axes):
        variance = x.var(axes, unbiased=False, keepdim=True)
        return (x - x.mean(axes, keepdim=True)) / (variance + EPS).sqrt()

    def modulated(normed):
        return normed * (1 + b) + a

    n = norm(x, -1)
    rms = x / (x.square().mean(-1, True) + EPS).sqrt()
    return {
        "1 + scale: at scale 0 the norm must pass": n * b + a,
        "1 + scale multiplies the norm, it doesn't divide it": n / (1 + b) + a,
        "1 + scale, not 1 - scale": n * (1 - b) + a,
        "scale multiplies the norm: here it is added": n + b + a,
        "the scale is no logarithm: 1 + scale": n * b.exp() + a,
        "shift and scale changed places": n * (1 + a) + b,
        "there is no LayerNorm": x * (1 + b) + a,
        "shift comes after the scale": (n + a) * (1 + b),
        "shift is added, not subtracted": n * (1 + b) - a,
        "1 belongs to the scale, not to the shift": n * b + 1 + a,
        "the norm is over the width, not over the tokens": modulated(norm(x, 1)),
        "the norm is over the width, not over the batch": modulated(norm(x, 0)),
        "the norm is each token's own, not over tokens and width": modulated(norm(x, 1, 2)),
        "the norm comes first, then scale and shift": norm(x * (1 + b) + a, -1),
        "LayerNorm subtracts the mean, too": modulated(rms),
        "LayerNorm divides by the spread, too": modulated(centred),
        "it is divided by the variance: by its root": modulated(centred / (variance + EPS)),
        "LayerNorm's variance is a mean of squares: divided by n, not by n - 1":
            modulated(centred / (unbiased + EPS).sqrt()),
        "LayerNorm's variance is a mean of squares: n - 1 is the divisor of std()":
            modulated(centred / (unbiased.sqrt() + EPS)),
        "eps is 1e-6 here, not the default 1e-5": modulated(centred / (variance + 1e-5).sqrt()),
        "eps belongs to the variance, under the root": modulated(centred / (variance.sqrt() + EPS)),
        "eps is missing": modulated(centred / variance.sqrt()),
        "the shift is missing": n * (1 + b),
        "the scale is missing": n + a,
        "that is the LayerNorm alone": n,
        "the batch's first shift and scale are used for all": n * (1 + b[:1]) + a[:1],
    }


class Parts:
    """The parts of a block that a check hands over: ada, attend, think, modulate."""

    def __init__(self, length: int, width: int, centred: bool):
        """centred: whether modulate's norm subtracts a mean, as the lesson's does."""
        self.mix = randn(length, length, seed=2)
        self.matrix = randn(width, 6 * width, seed=3) / width**0.5
        self.width, self.centred = width, centred

    def ada(self, c):
        return torch.sin(c) @ self.matrix

    def attend(self, tokens):
        self.see(tokens)
        return self.mix @ tokens

    def think(self, tokens):
        self.see(tokens)
        return torch.tanh(tokens + 0.3)

    def see(self, tokens):
        if tokens.ndim != 3:
            fail(f"attention and MLP take tokens (B, L, D), they got {tuple(tokens.shape)}")

    def modulate(self, x, shift, scale):
        wanted = len(x), self.width
        for value, name in (shift, "shift"), (scale, "scale"):
            if tuple(value.shape) != wanted:
                fail(f"modulate takes a {name} of shape (B, D) = {wanted}, "
                     f"it got {tuple(value.shape)}")
        normed = F.layer_norm(x, x.shape[-1:], eps=EPS) if self.centred else torch.cos(x)
        return normed * (1 + scale[:, None]) + shift[:, None]


def adaln_block(x, c, ada, attend, think, modulate):
    shift, scale, gate, shift_2, scale_2, gate_2 = ada(c).chunk(6, dim=-1)
    x = x + gate[:, None] * attend(modulate(x, shift, scale))
    return x + gate_2[:, None] * think(modulate(x, shift_2, scale_2))


@check(reference=adaln_block, forbidden=[dit.modulate, dit.DiTBlock])
def check_adaln_block(answer):
    for (batch, length, width), centred in ((2, 5, 8), True), ((3, 4, 6), False):
        parts = Parts(length, width, centred)
        x = randn(batch, length, width).requires_grad_()
        c = randn(batch, width, seed=1).requires_grad_()
        want = adaln_block(x, c, parts.ada, parts.attend, parts.think, parts.modulate)
        where = f"x of shape {tuple(x.shape)}"
        if not centred:
            where += ", and a modulate whose norm isn't LayerNorm"
        given = x, c, parts.ada, parts.attend, parts.think, parts.modulate
        got = answer.case(given, want, likely_blocks(x, c, parts), where=where)
        compare_gradients(got, want, x=x, c=c)


def likely_blocks(x, c, parts):
    likely = steps_of_blocks(x, c, parts)
    # the order of ada's six vectors: shift, scale, gate, shift, scale, gate
    vectors = parts.ada(c).chunk(6, dim=-1)

    def ordered(*places):
        six = torch.cat([vectors[i] for i in places], dim=-1)
        return adaln_block(x, c, lambda c: six, parts.attend, parts.think, parts.modulate)

    def interleaved():
        six = parts.ada(c).unflatten(-1, (-1, 6)).mT.flatten(1)
        return adaln_block(x, c, lambda c: six, parts.attend, parts.think, parts.modulate)

    own_norm = Parts(*x.shape[1:], not parts.centred)
    return likely | {
        "the block has its own modulate: use the one that it is given":
            adaln_block(x, c, parts.ada, parts.attend, parts.think, own_norm.modulate),
        "the order is shift, scale, gate: shift and scale changed": ordered(1, 0, 2, 4, 3, 5),
        "the order is shift, scale, gate, not gate first": ordered(1, 2, 0, 4, 5, 3),
        "the order is shift, scale, gate, not scale, gate, shift": ordered(2, 0, 1, 5, 3, 4),
        "the order is shift, scale, gate: scale and gate changed": ordered(0, 2, 1, 3, 5, 4),
        "the order is shift, scale, gate: shift and gate changed": ordered(2, 1, 0, 5, 4, 3),
        "the first three are attention's, the last three the MLP's": ordered(3, 4, 5, 0, 1, 2),
        "both shifts, both scales, both gates: but attention's three come first":
            ordered(0, 2, 4, 1, 3, 5),
        "both steps have the same three": ordered(0, 1, 2, 0, 1, 2),
        "both steps have the same three, the last": ordered(3, 4, 5, 3, 4, 5),
        "both steps have the same gate": ordered(0, 1, 2, 3, 4, 2),
        "the gates changed places": ordered(0, 1, 5, 3, 4, 2),
        "a vector is D numbers in a row, not every sixth": interleaved(),
    }


def steps_of_blocks(x, c, parts):
    """Results of blocks whose two steps are put together in a wrong way."""
    vectors = [vector[:, None] for vector in parts.ada(c).chunk(6, dim=-1)]
    _, _, gate, _, _, gate_2 = vectors
    shift, scale, _, shift_2, scale_2, _ = (vector[:, 0] for vector in vectors)
    attend, think, modulate = parts.attend, parts.think, parts.modulate

    def one(x):
        return attend(modulate(x, shift, scale))

    def two(x):
        return think(modulate(x, shift_2, scale_2))

    after = x + gate * one(x)
    second = gate_2 * two(after)
    plain = x + one(x)
    swapped = x + gate * think(modulate(x, shift, scale))
    squeezed = x + gate * attend(x)
    closed = gate * (x + one(x))
    lifted = x + (1 + gate) * one(x)
    normed = modulate(x, shift, scale)
    normed_2 = modulate(after, shift_2, scale_2)
    kept = normed + gate * attend(normed)
    return {
        "the gates are missing": plain + two(plain),
        "attention's gate is missing": plain + gate_2 * two(plain),
        "the MLP's gate is missing": after + two(after),
        "a gate of 0 closes the step: no 1 is added to it": lifted + (1 + gate_2) * two(lifted),
        "neither step is added to x": gate_2 * two(gate * one(x)),
        "attention's step is added to x": gate * one(x) + gate_2 * two(gate * one(x)),
        "the MLP's step is added to what attention left": second,
        "the gate closes the step, not x itself": gate_2 * (closed + two(closed)),
        "attention goes first": swapped + gate_2 * attend(modulate(swapped, shift_2, scale_2)),
        "the second step is off: the MLP works on the new x": after + gate_2 * two(x),
        "the second step is off: it is added to the new x, what attention left": x + second,
        "the second step is off: it has a modulated norm of its own": after + gate_2 * think(after),
        "the first step is off: attention works on the modulated norm":
            squeezed + gate_2 * two(squeezed),
        "neither step has its modulated norm": squeezed + gate_2 * think(squeezed),
        "x itself isn't normed: the norm is inside the step": kept + gate_2 * two(kept),
        "x itself isn't normed: the second norm is inside the step": normed_2 + second,
        "the MLP's step is missing": after,
        "attention's step is missing": x + gate_2 * two(x),
        "the gate closes what attention says, not what it hears":
            gated_before(x, gate, gate_2, parts, vectors),
    }


def gated_before(x, gate, gate_2, parts, vectors):
    shift, scale, _, shift_2, scale_2, _ = (vector[:, 0] for vector in vectors)
    x = x + parts.attend(gate * parts.modulate(x, shift, scale))
    return x + parts.think(gate_2 * parts.modulate(x, shift_2, scale_2))


def block_parameters(dim):
    ada = 6 * dim * dim + 6 * dim
    attention = 4 * (dim * dim + dim)
    mlp = dim * 4 * dim + 4 * dim + 4 * dim * dim + dim
    return ada + attention + mlp


@check(reference=block_parameters, forbidden=[dit.DiTBlock, dit.DiT])
def check_block_parameters(answer):
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
        if isinstance(got, float):
            fail("the number is right: a count is an int, this is a float")
