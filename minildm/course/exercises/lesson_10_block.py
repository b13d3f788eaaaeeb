"""The check of lesson 10 on the adaLN-Zero block: two steps, six vectors, and the zeros."""

import torch.nn.functional as F
from torch import nn

from minildm.course.exercises.answer import Answer, compare_gradients, copy_weights
from minildm.course.exercises.compare import compare, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_10_norm import made, modulate, randomise
from minildm.nn import dit
from minildm.nn.layers import Attention


class AdaLNZeroBlock(nn.Module):
    """Tokens x (B, L, D), condition c (B, D) -> (B, L, D)."""

    def __init__(self, dim, heads):
        super().__init__()
        self.ada = nn.Linear(dim, 6 * dim)
        self.attention = Attention(dim, heads=heads, bias=True)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU("tanh"), nn.Linear(4 * dim, dim))
        nn.init.zeros_(self.ada.weight)
        nn.init.zeros_(self.ada.bias)

    def forward(self, x, c):
        six = self.ada(F.silu(c)).chunk(6, dim=-1)
        shift, scale, gate, shift_2, scale_2, gate_2 = six
        x = x + gate[:, None] * self.attention(modulate(x, shift, scale))
        return x + gate_2[:, None] * self.mlp(modulate(x, shift_2, scale_2))


class Parts:
    """The parts of a block, for blocks that put them together in a wrong way."""

    def __init__(self, block):
        self.block = block
        self.attend, self.think, self.modulate = block.attention, block.mlp, modulate

    def ada(self, c):
        return self.block.ada(F.silu(c))


def two_steps(x, six, parts):
    """What a block answers, given its six vectors (B, D) each and its parts."""
    shift, scale, gate, shift_2, scale_2, gate_2 = (vector[:, None] for vector in six)
    normed = F.layer_norm(x, x.shape[-1:], eps=1e-6)
    x = x + gate * parts.attend(normed * (1 + scale) + shift)
    normed = F.layer_norm(x, x.shape[-1:], eps=1e-6)
    return x + gate_2 * parts.think(normed * (1 + scale_2) + shift_2)


@check(reference=AdaLNZeroBlock, forbidden=[dit.modulate, dit.DiTBlock])
def check_AdaLNZeroBlock(answer):
    for dim, heads, batch, length in ((8, 2, 2, 5), (12, 3, 3, 4)):
        block = made(answer, dim, heads)
        x = randn(batch, length, dim).requires_grad_()
        c = randn(batch, dim, seed=1).requires_grad_()
        check_fresh(block, x, c)
        wanted = AdaLNZeroBlock(dim, heads)
        randomise(wanted)
        copy_weights(block, wanted)
        want = wanted(x, c)
        likely = likely_blocks(x, c, Parts(wanted)) | wrong_activations(x, c, wanted)
        got = Answer(block, ["x", "c"]).case(
            (x, c), want, likely, where=f"width {dim}, {heads} heads")
        compare_gradients(got, want, x=x, c=c)
        answer.right += 1


def check_fresh(block, x, c):
    """Whether a fresh block is the identity, and can learn all the same."""
    if not isinstance(getattr(block, "ada", None), nn.Linear):
        fail("call the linear layer that makes the six vectors `self.ada`: "
             "a later cell looks for it")
    fresh = Answer(block, ["x", "c"])(x, c)
    compare(fresh, x.detach(), {
        "a fresh block answers zero, it should answer x: is x added to each step?": 0 * x.detach(),
        "a fresh block gives its norm, it should answer x":
            F.layer_norm(x, x.shape[-1:], eps=1e-6).detach(),
    }, where="a fresh block is the identity: weights and biases of `ada` are zero at first")
    if block.ada.weight.abs().max() > 0 or block.ada.bias.abs().max() > 0:
        fail("a fresh `ada` is zero in all: its six vectors start at 0, not the gates alone")
    # the gradient to a gate is what its step says: zero if that is zero as well
    (fresh * randn(*fresh.shape, seed=5)).sum().backward()
    if block.ada.weight.grad is None or not block.ada.weight.grad.abs().max() > 0:
        fail("a fresh block can't learn: the gates are zero, and what they close is zero as well; "
             "`ada` alone starts at zero")
    block.zero_grad()
    x.grad = c.grad = None


def wrong_activations(x, c, block):
    """{cause: result} of blocks whose nonlinearities are others, or missing."""
    first, _, second = block.mlp

    def block_of(six=None, think=None):
        parts = Parts(block)
        parts.think = think or parts.think
        chunks = (parts.ada(c) if six is None else six).chunk(6, dim=-1)
        return two_steps(x, chunks, parts)

    return {
        "the SiLU of c is missing, before `ada`": block_of(six=block.ada(c)),
        "SiLU comes before the layer `ada`, not after it": block_of(six=F.silu(block.ada(c))),
        "the GELU is DiT's, the approximation by tanh: nn.GELU(\"tanh\")":
            block_of(think=lambda x: second(F.gelu(first(x)))),
        "the MLP has a GELU, not a ReLU": block_of(think=lambda x: second(F.relu(first(x)))),
        "the MLP has a GELU, not a SiLU": block_of(think=lambda x: second(F.silu(first(x)))),
        "the MLP has a GELU between its layers": block_of(think=lambda x: second(first(x))),
    }


def likely_blocks(x, c, parts):
    likely = steps_of_blocks(x, c, parts)
    # the order of ada's six vectors: shift, scale, gate, shift, scale, gate
    vectors = parts.ada(c).chunk(6, dim=-1)

    def ordered(*places):
        return two_steps(x, [vectors[i] for i in places], parts)

    def interleaved():
        return two_steps(x, parts.ada(c).unflatten(-1, (-1, 6)).unbind(-1), parts)

    return likely | {
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
