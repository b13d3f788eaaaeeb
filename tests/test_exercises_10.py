"""Lesson 10's checks: the solution passes; the wrong answers that students give are told what is wrong."""

import pytest
import torch
import torch.nn.functional as F

from minildm import exercises
from minildm.nn.dit import DiTBlock, DiTConfig, unpatchify


def patchify(x, p, order=(0, 2, 4, 3, 5, 1)):
    six = x.unflatten(3, (-1, p)).unflatten(2, (-1, p))              # (B, C, h, p, w, q)
    return six.permute(order).flatten(3).flatten(1, 2)


def norm(x, over=-1):
    return F.layer_norm(x.transpose(over, -1), x.shape[over:over + 1 or None], eps=1e-6).transpose(over, -1)


def modulate(x, shift, scale):
    return norm(x) * (1 + scale[:, None]) + shift[:, None]


def block(x, c, ada, attend, think, modulate, order=(0, 1, 2, 3, 4, 5), stale=False):
    six = ada(c)[:, None].chunk(6, dim=-1)
    shift, scale, gate, shift_2, scale_2, gate_2 = (six[i] for i in order)
    y = x + gate * attend(modulate(x, shift[:, 0], scale[:, 0]))
    return y + gate_2 * think(modulate(x if stale else y, shift_2[:, 0], scale_2[:, 0]))


def test_solutions_pass():
    exercises.check_patchify(patchify)
    exercises.check_modulate(modulate)
    exercises.check_adaln_block(block)
    exercises.check_block_parameters(lambda dim: 18 * dim**2 + 15 * dim)


def test_the_checks_know_what_the_package_does():
    x = torch.randn(2, 3, 6, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(unpatchify(patchify(x, 2), 3, 2), x)
    parts = DiTBlock(DiTConfig(dim=96, depth=1, heads=4)).parameters()
    assert sum(p.numel() for p in parts) == 18 * 96**2 + 15 * 96


PATCHIFY = [
    ("not \\(C, p, q\\)", lambda x, p: patchify(x, p, (0, 2, 4, 1, 3, 5))),
    ("not column by column", lambda x, p: patchify(x, p, (0, 4, 2, 3, 5, 1))),
    ("square go row by row", lambda x, p: patchify(x, p, (0, 2, 4, 5, 3, 1))),
    ("every p-th pixel", lambda x, p: x.unflatten(3, (p, -1)).unflatten(2, (p, -1)).permute(
        0, 3, 5, 2, 4, 1).flatten(3).flatten(1, 2)),
    ("reshape", lambda x, p: x.reshape(len(x), -1, p * p * x.shape[1])),
    ("second axis", lambda x, p: patchify(x, p).transpose(1, 2)),
    ("p = 2 only", lambda x, p: patchify(x, 2)),
    ("return", lambda x, p: None),
]
MODULATE = [
    ("1 \\+ scale", lambda x, a, b: norm(x) * b[:, None] + a[:, None]),
    ("changed places", lambda x, a, b: modulate(x, b, a)),
    ("no LayerNorm", lambda x, a, b: x * (1 + b[:, None]) + a[:, None]),
    ("after the scale", lambda x, a, b: (norm(x) + a[:, None]) * (1 + b[:, None])),
    ("not over the tokens", lambda x, a, b: norm(x, 1) * (1 + b[:, None]) + a[:, None]),
    ("norm comes first", lambda x, a, b: norm(x * (1 + b[:, None]) + a[:, None])),
    ("the shift is missing", lambda x, a, b: norm(x) * (1 + b[:, None])),
]
ADALN_BLOCK = [
    ("gates are missing", lambda x, c, ada, f, g, m: (y := x + f(m(x, *ada(c).chunk(6, 1)[:2]))) + g(
        m(y, *ada(c).chunk(6, 1)[3:5]))),
    ("new x", lambda *parts: block(*parts, stale=True)),
    ("shift and scale changed", lambda *parts: block(*parts, order=(1, 0, 2, 4, 3, 5))),
    ("not gate first", lambda *parts: block(*parts, order=(1, 2, 0, 4, 5, 3))),
    ("last three the MLP", lambda *parts: block(*parts, order=(3, 4, 5, 0, 1, 2))),
    ("the same three", lambda *parts: block(*parts, order=(0, 1, 2, 0, 1, 2))),
    ("attention goes first", lambda x, c, ada, f, g, m: block(x, c, ada, g, f, m)),
]
BLOCK_PARAMETERS = [
    ("biases", lambda dim: 18 * dim**2), ("six vectors", lambda dim: 12 * dim**2 + 9 * dim),
    ("no norm", lambda dim: 18 * dim**2 + 19 * dim), ("four maps", lambda dim: 17 * dim**2 + 14 * dim),
    ("two layers", lambda dim: 14 * dim**2 + 14 * dim), ("is right", lambda dim: dim),
]
ANSWERS = {"patchify": PATCHIFY, "modulate": MODULATE, "adaln_block": ADALN_BLOCK,
           "block_parameters": BLOCK_PARAMETERS}
WRONG = [(name, *row) for name, rows in ANSWERS.items() for row in rows]


@pytest.mark.parametrize("name, said, answer", WRONG)
def test_wrong_answers_are_told_the_cause(name, said, answer):
    with pytest.raises(AssertionError, match=said):
        getattr(exercises, f"check_{name}")(answer)
