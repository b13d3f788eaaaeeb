"""The checks of lesson 10."""

import torch
import torch.nn.functional as F

from minildm.course.exercises.legacy import compare, fail, passed, randn


def check_patchify(f):
    x, name = randn(2, 3, 4, 6), "patchify"

    def way(order, p=2):                                              # of the axes (B, C, h, p, w, q)
        six = x.unflatten(3, (-1, p)).unflatten(2, (-1, p))
        return six.permute(order).flatten(3).flatten(1, 2)

    compare(name, f(x, 2), way((0, 2, 4, 3, 5, 1)), {
        "in each square, pixels first, then channels: (p, q, C), not (C, p, q)": way((0, 2, 4, 1, 3, 5)),
        "squares go row by row, not column by column": way((0, 4, 2, 3, 5, 1)),
        "the pixels of a square go row by row": way((0, 2, 4, 5, 3, 1)),
        "these are every p-th pixel, not neighbours: p is the inner axis": x.unflatten(3, (2, -1)).unflatten(
            2, (2, -1)).permute(0, 3, 5, 2, 4, 1).flatten(3).flatten(1, 2),
        "reshape keeps the numbers in their order: permute first": x.reshape(2, 6, 12),
        "tokens are the second axis, their width the last": way((0, 2, 4, 3, 5, 1)).transpose(1, 2)})
    if f(x[:, :, :, :4], 4).shape != (2, 1, 48) or f(x, 1).shape != (2, 24, 3):
        fail(name, "right for p = 2 only: other patch sizes come out in another shape")
    passed(name)


def check_modulate(f):
    x, shift, scale = randn(2, 5, 8), randn(2, 8, seed=1), randn(2, 8, seed=2)
    a, b = shift[:, None], scale[:, None]

    def norm(x, *axes):
        return (x - x.mean(axes, keepdim=True)) / (x.var(axes, unbiased=False, keepdim=True) + 1e-6).sqrt()

    n = norm(x, -1)
    compare("modulate", f(x, shift, scale), n * (1 + b) + a, {
        "1 + scale: at scale 0 the norm must pass": n * b + a,
        "shift and scale changed places": n * (1 + a) + b,
        "there is no LayerNorm": x * (1 + b) + a, "shift comes after the scale": (n + a) * (1 + b),
        "the norm is over the width, not over the tokens": norm(x, 1) * (1 + b) + a,
        "the norm is each token's own, not over tokens and width": norm(x, 1, 2) * (1 + b) + a,
        "the norm comes first, then scale and shift": norm(x * (1 + b) + a, -1),
        "LayerNorm subtracts the mean, too": x / (x.square().mean(-1, True) + 1e-6).sqrt() * (1 + b) + a,
        "the shift is missing": n * (1 + b)})
    passed("modulate")


def check_adaln_block(f):
    x, c, name = randn(2, 5, 8), randn(2, 8, seed=1), "adaln_block"
    mix, matrix = randn(5, 5, seed=2), randn(8, 48, seed=3) / 3

    def modulate(x, shift, scale):
        return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]

    def ada(c):
        return c @ matrix

    def attend(x):
        return mix @ x

    def way(order=(0, 1, 2, 3, 4, 5), keep=1, stale=False, gated=(1, 1), swap=False, inside=False,
            again=True):
        six = ada(c).chunk(6, dim=-1)
        shift, scale, gate, shift_2, scale_2, gate_2 = (six[i] for i in order)
        one, two = (torch.tanh, attend) if swap else (attend, torch.tanh)
        gate, gate_2 = (g[:, None] if on else 1 for g, on in zip((gate, gate_2), gated, strict=True))
        first = one(modulate(x, shift, scale))
        y = gate * (keep * x + first) if inside else keep * x + gate * first
        second = two(modulate(x if stale else y, shift_2, scale_2) if again else y)
        return gate_2 * (keep * y + second) if inside else keep * y + gate_2 * second

    compare(name, f(x, c, ada, attend, torch.tanh, modulate), way(), {
        "the gates are missing": way(gated=(0, 0)),
        "attention's gate is missing": way(gated=(0, 1)),
        "the MLP's gate is missing": way(gated=(1, 0)), "both steps are added to x": way(keep=0),
        "the gate closes the step, not x itself": way(inside=True), "attention goes first": way(swap=True),
        "the second step is off: the MLP works on the new x": way(stale=True),
        "the second step is off: it has a modulated norm of its own": way(again=False),
        "the order is shift, scale, gate: shift and scale changed": way((1, 0, 2, 4, 3, 5)),
        "the order is shift, scale, gate, not gate first": way((1, 2, 0, 4, 5, 3)),
        "the first three are attention's, the last three the MLP's": way((3, 4, 5, 0, 1, 2)),
        "both steps have the same three": way((0, 1, 2, 0, 1, 2))})
    passed(name)


def check_block_parameters(f):
    name, dim = "block_parameters", 96
    d = dim * dim
    for cause, wrong in {
            "the biases are missing": 18 * d, "the six vectors' layer is missing": 12 * d + 9 * dim,
            "the MLP is missing": 10 * d + 10 * dim, "attention is missing": 14 * d + 11 * dim,
            "attention has four maps, one of them for the output": 17 * d + 14 * dim,
            "there are six vectors, two triples": 15 * d + 12 * dim,
            "the MLP has two layers": 14 * d + 14 * dim,
            "the MLP is 4 times as wide inside": 12 * d + 12 * dim,
            "no norm has parameters": 18 * d + 19 * dim}.items():
        if f(dim) == wrong:
            fail(name, cause)
    for dim in 96, 1152:
        if f(dim) != (want := 18 * dim**2 + 15 * dim):
            fail(name, f"{f(dim)} for width {dim}, {want} is right")
    passed(name)
