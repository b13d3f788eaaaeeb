"""Lesson 10's check of the block: right answers in any style pass; wrong ones are told why."""

import re

import pytest
from support.answers import cases, passes, told, written

BLOCK = """
    {vectors} = ada(c).chunk(6, dim=-1)
    gate, gate_2 = gate[:, None], gate_2[:, None]
    {first}
    {second}
"""
FIRST = "x = x + gate * attend(modulate(x, shift, scale))"
SECOND = "return x + gate_2 * think(modulate(x, shift_2, scale_2))"
SIX = "shift, scale, gate, shift_2, scale_2, gate_2"


def block(first=FIRST, second=SECOND, vectors=SIX):
    return BLOCK.format(vectors=vectors, first=first, second=second)


RIGHT = [
    ("adaln_block", block()),
    ("adaln_block", """
        v = ada(c).unflatten(-1, (6, -1))
        x = x + v[:, 2, None] * attend(modulate(x, v[:, 0], v[:, 1]))
        return x + v[:, 5, None] * think(modulate(x, v[:, 3], v[:, 4]))
     """),
    ("adaln_block", """
        six = torch.split(ada(c), x.shape[-1], dim=1)
        for f, (shift, scale, gate) in (attend, six[:3]), (think, six[3:]):
            x = torch.addcmul(x, gate.unsqueeze(1), f(modulate(x=x, shift=shift, scale=scale)))
        return x
     """),
    ("adaln_block", """
        six = ada(c).reshape(len(c), 6, -1).unbind(1)
        said = attend(modulate(x, *six[:2]))
        x = x + torch.einsum("bd,bld->bld", six[2], said)
        return x + torch.einsum("bd,bld->bld", six[5], think(modulate(x, *six[3:5])))
     """),
]

WRONG = [
    ("adaln_block", "gates are missing",
     block(FIRST.replace("gate * ", ""), SECOND.replace("gate_2 * ", ""))),
    ("adaln_block", "attention's gate", block(FIRST.replace("gate * ", ""))),
    ("adaln_block", "MLP's gate", block(second=SECOND.replace("gate_2 * ", ""))),
    ("adaln_block", "no 1 is added",
     block(FIRST.replace("gate *", "(1 + gate) *"), SECOND.replace("gate_2 *", "(1 + gate_2) *"))),
    ("adaln_block", "neither step is added",
     block(FIRST.replace("x + ", "", 1), SECOND.replace("x + ", "", 1))),
    ("adaln_block", "attention's step is added", block(FIRST.replace("x + ", "", 1))),
    ("adaln_block", "is added to what attention", block(second=SECOND.replace("x + ", "", 1))),
    ("adaln_block", "not x itself",
     block("x = gate * (x + attend(modulate(x, shift, scale)))",
           "return gate_2 * (x + think(modulate(x, shift_2, scale_2)))")),
    ("adaln_block", "attention goes first",
     block(FIRST.replace("attend", "think"), SECOND.replace("think", "attend"))),
    ("adaln_block", "works on the new x",
     block(FIRST.replace("x = ", "y = "),
           "return y + gate_2 * think(modulate(x, shift_2, scale_2))")),
    ("adaln_block", "added to the new x",
     block(FIRST.replace("x = ", "y = "),
           "return x + gate_2 * think(modulate(y, shift_2, scale_2))")),
    ("adaln_block", "a modulated norm of its own", block(second="return x + gate_2 * think(x)")),
    ("adaln_block", "first step is off", block("x = x + gate * attend(x)")),
    ("adaln_block", "neither step has",
     block("x = x + gate * attend(x)", "return x + gate_2 * think(x)")),
    ("adaln_block", "x itself isn't normed",
     block("x = modulate(x, shift, scale)\n    x = x + gate * attend(x)")),
    ("adaln_block", "MLP's step is missing", block(second="return x")),
    ("adaln_block", "attention's step is missing", block("x = x")),
    ("adaln_block", "what it hears",
     block("x = x + attend(gate * modulate(x, shift, scale))",
           "return x + think(gate_2 * modulate(x, shift_2, scale_2))")),
    ("adaln_block", "shift and scale changed",
     block(vectors="scale, shift, gate, scale_2, shift_2, gate_2")),
    ("adaln_block", "not gate first",
     block(vectors="gate, shift, scale, gate_2, shift_2, scale_2")),
    ("adaln_block", "last three the MLP",
     block(vectors="shift_2, scale_2, gate_2, shift, scale, gate")),
    ("adaln_block", "attention's three come",
     block(vectors="shift, shift_2, scale, scale_2, gate, gate_2")),
    ("adaln_block", "same three", """
        shift, scale, gate, *_ = ada(c).chunk(6, dim=-1)
        x = x + gate[:, None] * attend(modulate(x, shift, scale))
        return x + gate[:, None] * think(modulate(x, shift, scale))
     """),
    ("adaln_block", "same gate", block(second=SECOND.replace("gate_2", "gate"))),
    ("adaln_block", "every sixth", """
        shift, scale, gate, shift_2, scale_2, gate_2 = ada(c).unflatten(-1, (-1, 6)).unbind(-1)
        x = x + gate[:, None] * attend(modulate(x, shift, scale))
        return x + gate_2[:, None] * think(modulate(x, shift_2, scale_2))
     """),
    ("adaln_block", "shape \\(B, D\\)", """
        shift, scale, gate, shift_2, scale_2, gate_2 = ada(c)[:, None].chunk(6, dim=-1)
        x = x + gate * attend(modulate(x, shift, scale))
        return x + gate_2 * think(modulate(x, shift_2, scale_2))
     """),
    ("adaln_block", "use the one", """
        def modulate(x, shift, scale):
            return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]
        shift, scale, gate, shift_2, scale_2, gate_2 = ada(c).chunk(6, dim=-1)
        x = x + gate[:, None] * attend(modulate(x, shift, scale))
        return x + gate_2[:, None] * think(modulate(x, shift_2, scale_2))
     """),
    ("adaln_block", "raised", block().replace("gate[:, None]", "gate")),
    ("adaln_block", "raised", block().replace("dim=-1", "dim=0")),
    ("adaln_block", "reaches c|gradient to c", block().replace("ada(c)", "ada(c).detach()")),
    ("adaln_block", "in place", block(FIRST.replace("x = x +", "x +="))),
    ("adaln_block", "return", block(second="x = " + SECOND[7:] + "\n    return")),
]


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    passes(name, written(name, body))


@pytest.mark.parametrize("name, said, body", cases(WRONG))
def test_wrong_answers_are_told_what_is_wrong(name, said, body):
    assert re.search(said, told(name, written(name, body)))
