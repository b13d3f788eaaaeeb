"""Lesson 10's checks of modules: label, block and final layer in any style; wrong ones are told why."""

import re

import pytest
import torch
from support.answers import passes, told
from support.modules import class_of

from minildm.course.exercises.lesson_10_block import AdaLNZeroBlock
from minildm.course.exercises.lesson_10_norm import FinalLayer, modulate
from minildm.course.exercises.lesson_10_tokens import LabelEmbedding
from minildm.nn import dit
from minildm.nn.layers import Attention, FeedForward

HELPERS = {"Attention": Attention, "FeedForward": FeedForward, "modulate": modulate}

LABEL = """
class LabelEmbedding(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.null = classes
        self.table = nn.Embedding(classes + 1, dim)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, labels, dropped=None):
        if dropped is not None:
            labels = torch.where(dropped, self.null, labels)
        return self.table(labels)
"""
BLOCK = """
class AdaLNZeroBlock(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.ada = nn.Linear(dim, 6 * dim)
        self.attention = Attention(dim, heads=heads, bias=True)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU("tanh"), nn.Linear(4 * dim, dim))
        nn.init.zeros_(self.ada.weight)
        nn.init.zeros_(self.ada.bias)

    def forward(self, x, c):
        six = self.ada(F.silu(c)).chunk(6, dim=-1)
        shift, scale, gate, shift_2, scale_2, gate_2 = six
        x = x + gate[:, None] * self.attention(modulate(x, shift, scale))
        return x + gate_2[:, None] * self.mlp(modulate(x, shift_2, scale_2))
"""
FINAL = """
class FinalLayer(nn.Module):
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
"""
SOURCES = {"LabelEmbedding": LABEL, "AdaLNZeroBlock": BLOCK, "FinalLayer": FINAL}
ORDER = "shift, scale, gate, shift_2, scale_2, gate_2 = six"
FIRST = "x = x + gate[:, None] * self.attention(modulate(x, shift, scale))"
SECOND = "return x + gate_2[:, None] * self.mlp(modulate(x, shift_2, scale_2))"
NULL = "torch.where(dropped, self.null, labels)"

RIGHT = [
    ("LabelEmbedding",),
    ("LabelEmbedding", (NULL, "labels.masked_fill(dropped, self.null)")),
    ("LabelEmbedding", (NULL, "labels * ~dropped + self.null * dropped")),
    ("LabelEmbedding", ("nn.init.normal_(self.table.weight, std=0.02)",
                        "self.table.weight.data.mul_(0.02)")),
    ("AdaLNZeroBlock",),
    ("AdaLNZeroBlock", ("self.mlp", "self.thinking"), ("self.attention", "self.looking")),
    ("AdaLNZeroBlock", ("six = self.ada(F.silu(c)).chunk(6, dim=-1)",
                        "six = self.ada(nn.functional.silu(c)).unflatten(-1, (6, -1)).unbind(1)")),
    ("AdaLNZeroBlock", (FIRST, "x = torch.addcmul(x, gate.unsqueeze(1), "
                               "self.attention(modulate(x, shift, scale)))")),
    ("AdaLNZeroBlock", ("nn.init.zeros_(self.ada.weight)", "self.ada.weight.data[:] = 0")),
    ("FinalLayer",),
    ("FinalLayer", ("self.linear(modulate(x, shift, scale))",
                    "self.linear(F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) "
                    "+ shift[:, None])")),
    ("FinalLayer", ("self.linear", "self.out")),
]

WRONG = [
    ("LabelEmbedding", "one more", ("classes + 1, dim", "classes, dim")),
    ("LabelEmbedding", "standard deviation", ("nn.init.normal_(self.table.weight, std=0.02)", "")),
    ("LabelEmbedding", "standard deviation", ("std=0.02", "std=0.2")),
    ("LabelEmbedding", "not which are kept", (NULL, "torch.where(dropped, labels, self.null)")),
    ("LabelEmbedding", "left aside", (f"labels = {NULL}", "pass")),
    ("LabelEmbedding", "not the first", (NULL, "torch.where(dropped, 0, labels)")),
    ("LabelEmbedding", "behind those", (NULL, "torch.where(dropped, self.null - 1, labels)")),
    ("LabelEmbedding", "and not zeros",
     (f"labels = {NULL}", "return self.table(labels) * ~dropped[:, None]")),
    ("LabelEmbedding", "in place", (f"labels = {NULL}", "labels[dropped] = self.null")),
    ("LabelEmbedding", "raised", ("dropped is not None", "True")),
    ("LabelEmbedding", "one table",
     ("nn.init.normal_", "self.extra = nn.Linear(2, 2)\n        nn.init.normal_")),
    ("LabelEmbedding", "return", ("return self.table", "self.table")),
    ("AdaLNZeroBlock", "zero at first|zero in all", ("nn.init.zeros_(self.ada.weight)", "")),
    ("AdaLNZeroBlock", "zero at first|zero in all", ("nn.init.zeros_(self.ada.bias)", "")),
    ("AdaLNZeroBlock", "not the gates alone", (
        "nn.init.zeros_(self.ada.weight)\n        nn.init.zeros_(self.ada.bias)",
        "for i in (2, 5):\n            nn.init.zeros_(self.ada.weight[i * dim:(i + 1) * dim])\n"
        "            nn.init.zeros_(self.ada.bias[i * dim:(i + 1) * dim])")),
    ("AdaLNZeroBlock", "can't learn", (
        "nn.init.zeros_(self.ada.bias)",
        "[nn.init.zeros_(p) for p in self.parameters()]")),
    ("AdaLNZeroBlock", "`self.ada`", ("self.ada", "self.maker")),
    ("AdaLNZeroBlock", "answers zero", (FIRST, FIRST.replace("x + ", "")),
     (SECOND, SECOND.replace("x + ", ""))),
    ("AdaLNZeroBlock", "SiLU of c is missing", ("F.silu(c)", "c")),
    ("AdaLNZeroBlock", "not after it", ("self.ada(F.silu(c))", "F.silu(self.ada(c))")),
    ("AdaLNZeroBlock", "tanh", ('nn.GELU("tanh")', "nn.GELU()")),
    ("AdaLNZeroBlock", "not a ReLU", ('nn.GELU("tanh")', "nn.ReLU()")),
    ("AdaLNZeroBlock", "not a SiLU", ('nn.GELU("tanh")', "nn.SiLU()")),
    ("AdaLNZeroBlock", "between its layers", ('nn.GELU("tanh"), ', "")),
    ("AdaLNZeroBlock", "fresh block is the identity|zero at first",
     (FIRST, FIRST.replace("gate[:, None] * ", ""))),
    ("AdaLNZeroBlock", "fresh block is the identity|zero at first",
     (SECOND, SECOND.replace("gate_2[:, None]", "(1 + gate_2[:, None])"))),
    ("AdaLNZeroBlock", "works on the new x", (FIRST, FIRST.replace("x = ", "y = ")),
     (SECOND, SECOND.replace("x + ", "y + "))),
    ("AdaLNZeroBlock", "norm of its own", (SECOND, "return x + gate_2[:, None] * self.mlp(x)")),
    ("AdaLNZeroBlock", "first step is off", (FIRST, "x = x + gate[:, None] * self.attention(x)")),
    ("AdaLNZeroBlock", "MLP's step is missing", (SECOND, "return x")),
    ("AdaLNZeroBlock", "attention's step is missing", (FIRST, "")),
    ("AdaLNZeroBlock", "shift and scale changed",
     (ORDER, "scale, shift, gate, scale_2, shift_2, gate_2 = six")),
    ("AdaLNZeroBlock", "not gate first", (ORDER, "gate, shift, scale, gate_2, shift_2, scale_2 = six")),
    ("AdaLNZeroBlock", "last three the MLP", (ORDER, "shift_2, scale_2, gate_2, shift, scale, gate = six")),
    ("AdaLNZeroBlock", "attention's three come",
     (ORDER, "shift, shift_2, scale, scale_2, gate, gate_2 = six")),
    ("AdaLNZeroBlock", "every sixth", (".chunk(6, dim=-1)", ".unflatten(-1, (-1, 6)).unbind(-1)")),
    ("AdaLNZeroBlock", "parameters", ("bias=True", "bias=False")),
    ("AdaLNZeroBlock", "raised|is wanted", ("4 * dim, dim)", "4 * dim, 2 * dim)")),
    ("AdaLNZeroBlock", "raised", ("gate[:, None] *", "gate *")),
    ("AdaLNZeroBlock", "in place", (FIRST, FIRST.replace("x = x +", "x +="))),
    ("AdaLNZeroBlock", "reaches c|gradient to c", ("self.ada(F.silu(c))", "self.ada(F.silu(c).detach())")),
    ("AdaLNZeroBlock", "return", ("return x", "x")),
    ("FinalLayer", "answers zero|are zero", ("nn.init.zeros_(layer.weight)", "")),
    ("FinalLayer", "answers zero|are zero",
     ("for layer in self.ada, self.linear", "for layer in [self.linear]")),
    ("FinalLayer", "answers zero|are zero",
     ("for layer in self.ada, self.linear", "for layer in [self.ada]")),
    ("FinalLayer", "SiLU of c is missing", ("F.silu(c)", "c")),
    ("FinalLayer", "not after it", ("self.ada(F.silu(c))", "F.silu(self.ada(c))")),
    ("FinalLayer", "order is shift, scale", ("shift, scale =", "scale, shift =")),
    ("FinalLayer", "comes last|raised|shape", ("self.linear(modulate(x, shift, scale))", "self.linear(x)")),
    ("FinalLayer", "no way around", ("self.linear(modulate(x, shift, scale))",
                                     "self.linear(x + modulate(x, shift, scale))")),
    ("FinalLayer", "isn't modulated",
     ("modulate(x, shift, scale)", "F.layer_norm(x, x.shape[-1:], eps=1e-6)")),
    ("FinalLayer", "return", ("return self.linear", "self.linear")),
]


def ids(table):
    return [pytest.param(*row[:1], row[1:], id=f"{row[0]}-{i}") for i, row in enumerate(table)]


@pytest.mark.parametrize("name, changes", ids(RIGHT))
def test_right_answers_pass(name, changes):
    passes(name, class_of(SOURCES[name], name, HELPERS, *changes))


@pytest.mark.parametrize("name, rest", ids(WRONG))
def test_wrong_answers_are_told_what_is_wrong(name, rest):
    said, *changes = rest
    assert re.search(said, told(name, class_of(SOURCES[name], name, HELPERS, *changes)))


def test_a_block_may_have_the_packages_mlp():
    block = class_of(BLOCK, "AdaLNZeroBlock", HELPERS | {"GELU": dit.GELU}, (
        'nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU("tanh"), nn.Linear(4 * dim, dim))',
        "FeedForward(dim, kind=GELU)"))
    passes("AdaLNZeroBlock", block)


def test_an_instance_and_the_packages_block_are_nobodys_answer():
    assert told("AdaLNZeroBlock", AdaLNZeroBlock(8, 2))
    assert "write yours" in told("AdaLNZeroBlock", dit.DiTBlock)
    assert "write yours" in told("AdaLNZeroBlock", AdaLNZeroBlock)
    assert "write yours" in told("FinalLayer", FinalLayer)
    assert "write yours" in told("LabelEmbedding", LabelEmbedding)


def test_the_checks_block_is_the_packages():
    mine, theirs = AdaLNZeroBlock(8, 2), dit.DiTBlock(dit.DiTConfig(dim=8, heads=2))
    torch.nn.init.normal_(mine.ada.weight)
    theirs.load_state_dict(
        dict(zip(theirs.state_dict(), mine.state_dict().values(), strict=True)))
    x, c = torch.randn(2, 3, 8), torch.randn(2, 8)
    torch.testing.assert_close(mine(x, c), theirs(x, torch.nn.functional.silu(c)))
