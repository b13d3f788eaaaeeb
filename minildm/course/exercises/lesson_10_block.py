"""The check of lesson 10 on the block: two steps, six vectors."""

import torch
import torch.nn.functional as F

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.nn import dit

EPS = 1e-6


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
        # each token hears the others, each number alone
        return self.mix @ tokens

    def think(self, tokens):
        self.see(tokens)
        # each token alone, and not linear
        return torch.tanh(tokens + 0.3)

    def see(self, tokens):
        if tokens.ndim != 3:
            fail(f"attention and MLP take tokens (B, L, D), they got {tuple(tokens.shape)}")

    def modulate(self, x, shift, scale):
        # a further axis would broadcast to tokens of four
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
        # the second modulate has another norm: nobody can do without the one that is given
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

    # in the second case this is LayerNorm, the norm of the lesson
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
    """{cause: result} of blocks whose two steps are put together in a wrong way."""
    vectors = parts.ada(c).chunk(6, dim=-1)
    shift, scale, gate, shift_2, scale_2, gate_2 = vectors
    gate, gate_2 = gate[:, None], gate_2[:, None]
    attend, think, modulate = parts.attend, parts.think, parts.modulate

    def one(x):
        return attend(modulate(x, shift, scale))

    def two(x):
        return think(modulate(x, shift_2, scale_2))

    after = x + gate * one(x)
    second = gate_2 * two(after)
    plain = x + one(x)
    closed = gate * (x + one(x))
    lifted = x + (1 + gate) * one(x)
    bare = gate * one(x)
    return {
        "the gates are missing": plain + two(plain),
        "attention's gate is missing": plain + gate_2 * two(plain),
        "the MLP's gate is missing": after + two(after),
        "a gate of 0 closes the step: no 1 is added to it": lifted + (1 + gate_2) * two(lifted),
        "neither step is added to x": gate_2 * two(bare),
        "attention's step is added to x": bare + gate_2 * two(bare),
        "the MLP's step is added to what attention left": second,
        "the gate closes the step, not x itself": gate_2 * (closed + two(closed)),
        "the second step is off: the MLP works on the new x": after + gate_2 * two(x),
        "the second step is off: it is added to the new x, what attention left": x + second,
        "the MLP's step is missing": after,
        "attention's step is missing": x + gate_2 * two(x),
        **misplaced_norms(x, vectors, parts),
    }


def misplaced_norms(x, vectors, parts):
    """{cause: result} of blocks that norm in a wrong place, or attend in a wrong one."""
    shift, scale, gate, shift_2, scale_2, gate_2 = vectors
    gate, gate_2 = gate[:, None], gate_2[:, None]
    attend, think, modulate = parts.attend, parts.think, parts.modulate
    normed = modulate(x, shift, scale)
    after = x + gate * attend(normed)
    normed_2 = modulate(after, shift_2, scale_2)
    second = gate_2 * think(normed_2)
    squeezed = x + gate * attend(x)
    kept = normed + gate * attend(normed)
    hushed = x + attend(gate * normed)
    swapped = x + gate * think(normed)

    def two(x):
        return think(modulate(x, shift_2, scale_2))

    hushed_2 = think(gate_2 * modulate(hushed, shift_2, scale_2))
    attended = attend(modulate(swapped, shift_2, scale_2))
    return {
        "attention goes first": swapped + gate_2 * attended,
        "the second step is off: it has a modulated norm of its own": after + gate_2 * think(after),
        "the first step is off: attention works on the modulated norm":
            squeezed + gate_2 * two(squeezed),
        "neither step has its modulated norm": squeezed + gate_2 * think(squeezed),
        "x itself isn't normed: the norm is inside the step": kept + gate_2 * two(kept),
        "x itself isn't normed: the second norm is inside the step": normed_2 + second,
        "the gate closes what attention says, not what it hears": hushed + hushed_2,
    }
