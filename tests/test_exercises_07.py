"""Lesson 07's checks of modules: block and network in any style pass; wrong ones are told why."""

import re

import pytest
from support.answers import passes, told
from support.modules import class_of

from minildm.course.exercises.lesson_07 import CrossAttention, WordBlock
from minildm.nn.dit import positions
from minildm.nn.layers import Attention, FeedForward, ResidualBlock, TimeEmbedding
from minildm.nn.unet import UNet

HELPERS = {"Attention": Attention, "ResidualBlock": ResidualBlock, "TimeEmbedding": TimeEmbedding,
           "FeedForward": FeedForward, "positions": positions}
ATTENTION = """
class CrossAttention(nn.Module):
    def __init__(self, dim, context_dim, heads):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(context_dim, dim, bias=False)
        self.to_v = nn.Linear(context_dim, dim, bias=False)
        self.to_out = nn.Linear(dim, dim)

    def forward(self, x, words, said=None):
        said = words if said is None else said
        q, k, v = (made.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for made in (self.to_q(x), self.to_k(words), self.to_v(said)))
        weights = (q @ k.mT / q.shape[-1]**0.5).softmax(dim=-1)
        self.seen = weights.detach().mean(1)
        return self.to_out((weights @ v).transpose(1, 2).flatten(2))
"""
BLOCK = """
class WordBlock(nn.Module):
    def __init__(self, channels, context_dim, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = CrossAttention(channels, context_dim, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.SiLU(),
                                 nn.Linear(4 * channels, channels))

    def forward(self, h, words, said=None):
        x = h.flatten(2).mT
        x = x + self.attention(self.norm1(x), words, said)
        x = x + self.mlp(self.norm2(x))
        return x.mT.reshape(h.shape)
"""
NET = """
class WordNet(nn.Module):
    def __init__(self, vocabulary, length, width):
        super().__init__()
        self.word = nn.Embedding(vocabulary, width)
        self.order = nn.Parameter(torch.randn(length, width))
        self.place = nn.Parameter(positions(8, 8, width).T.reshape(width, 8, 8))
        self.time = TimeEmbedding(width, 4 * width)
        self.enter = nn.Conv2d(12, width, 3, padding=1)
        self.res1 = ResidualBlock(width, width, 4 * width, groups=8)
        self.ask1 = WordBlock(width, width, 4)
        self.res2 = ResidualBlock(width, width, 4 * width, groups=8)
        self.ask2 = WordBlock(width, width, 4)
        self.norm = nn.GroupNorm(8, width)
        self.leave = nn.Conv2d(width, 12, 3, padding=1)

    def forward(self, x, t, ids, said=None):
        emb = F.silu(self.time(t))
        words = self.word(ids) + self.order
        said = words if said is None else self.word(said) + self.order
        h = self.enter(F.pixel_unshuffle(x, 2)) + self.place
        h = self.ask1(self.res1(h, emb), words, said)
        h = self.ask2(self.res2(h, emb), words, said)
        return F.pixel_shuffle(self.leave(F.silu(self.norm(h))), 2)
"""
SOURCES = {"CrossAttention": ATTENTION, "WordBlock": BLOCK, "WordNet": NET}
SOFT = "(q @ k.mT / q.shape[-1]**0.5).softmax(dim=-1)"
OUT = "self.to_out((weights @ v).transpose(1, 2).flatten(2))"
FIRST = "x = x + self.attention(self.norm1(x), words, said)"
SECOND = "x = x + self.mlp(self.norm2(x))"
ASK = "h = self.ask2(self.res2(h, emb), words, said)"

RIGHT = [
    ("CrossAttention",),
    ("CrossAttention", (SOFT, 'torch.einsum("bhld,bhmd->bhlm", q, k).div(q.size(-1)**0.5).softmax(3)')),
    ("CrossAttention", (".unflatten(-1, (self.heads, -1)).transpose(1, 2)",
                        ".view(len(x), made.shape[1], self.heads, -1).permute(0, 2, 1, 3)")),
    ("CrossAttention", ("weights.detach().mean(1)", "weights.mean(dim=1).detach()")),
    ("CrossAttention", (OUT, "self.to_out(torch.cat((weights @ v).unbind(1), dim=-1))")),
    ("CrossAttention", ("(weights @ v)", "F.scaled_dot_product_attention(q, k, v)")),
    ("CrossAttention", ("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out", "out")),
    ("WordBlock",),
    ("WordBlock", ("x = h.flatten(2).mT", "x = h.permute(0, 2, 3, 1).flatten(1, 2)")),
    ("WordBlock", ("x.mT.reshape(h.shape)", "x.mT.unflatten(2, h.shape[2:])")),
    ("WordBlock", ("self.mlp", "self.think"), ("norm1", "before"), ("norm2", "between")),
    ("WordNet",),
    ("WordNet", ("self.word(ids) + self.order", "F.embedding(ids, self.word.weight) + self.order[None]")),
    ("WordNet", ("F.pixel_unshuffle(x, 2)", "nn.PixelUnshuffle(2)(x)")),
    ("WordNet", ("res1", "first"), ("res2", "second"), ("leave", "last")),
]

WRONG = [
    ("CrossAttention", "over the positions", (".softmax(dim=-1)", ".softmax(dim=-2)")),
    ("CrossAttention", "over the heads", (".softmax(dim=-1)", ".softmax(dim=1)")),
    ("CrossAttention", "aren't divided", (" / q.shape[-1]**0.5", "")),
    ("CrossAttention", "not by d", ("q.shape[-1]**0.5", "q.shape[-1]")),
    ("CrossAttention", "width of a head", ("q.shape[-1]**0.5", "x.shape[-1]**0.5")),
    ("CrossAttention", "not their number", ("q.shape[-1]**0.5", "self.heads**0.5")),
    ("CrossAttention", "root of 4", ("q.shape[-1]**0.5", "2")),
    ("CrossAttention", "sign|multiplied", ("(q @ k.mT", "(-q @ k.mT")),
    ("CrossAttention", "no softmax", (".softmax(dim=-1)", "")),
    ("CrossAttention", "not the keys", ("weights @ v", "weights @ k")),
    ("CrossAttention", "to_out is missing", (OUT, "(weights @ v).transpose(1, 2).flatten(2)")),
    ("CrossAttention", "swap the axes back",
     ("(weights @ v).transpose(1, 2).flatten(2)", "(weights @ v).reshape(x.shape)")),
    ("CrossAttention", "one head only",
     ("self.heads = heads", "self.heads = 1")),
    ("CrossAttention", "block's work", ("return self", "return x + self")),
    ("CrossAttention", "left aside", ("said = words if said is None else said", "said = words")),
    ("CrossAttention", "keys come from|shape|raised",
     ("self.to_k(words), self.to_v(said)", "self.to_k(said), self.to_v(said)")),
    ("CrossAttention", "changed places",
     ("self.to_k(words), self.to_v(said)", "self.to_k(said), self.to_v(words)")),
    ("CrossAttention", "keep the weights", ("self.seen", "self.kept")),
    ("CrossAttention", "still has its graph", ("weights.detach().mean(1)", "weights.mean(1)")),
    ("CrossAttention", "seen. is not", ("weights.detach().mean(1)", "weights.detach()")),
    ("CrossAttention", "sum over the heads", ("weights.detach().mean(1)", "weights.detach().sum(1)")),
    ("CrossAttention", "positions, then words", (".detach().mean(1)", ".detach().mean(1).mT")),
    ("CrossAttention", "gradient", ("self.to_k(words)", "self.to_k(words.detach())")),
    ("CrossAttention", "parameters", ("context_dim, dim, bias=False", "context_dim, dim")),
    ("CrossAttention", "is wanted", ("self.to_k = nn.Linear(context_dim", "self.to_k = nn.Linear(dim")),
    ("CrossAttention", "return", ("return self", "self")),
    ("CrossAttention", "package's", (SOFT, "Attention(4, 4, 1) and " + SOFT)),
    ("WordBlock", "residual step", ("x = x + self.attention", "x = self.attention")),
    ("WordBlock", "add its input", ("x = x + self.mlp", "x = self.mlp")),
    ("WordBlock", "MLP is missing", (SECOND, "pass")),
    ("WordBlock", "attention is missing", (FIRST, "pass")),
    ("WordBlock", "first norm", ("self.norm1(x)", "x")),
    ("WordBlock", "second norm", ("self.norm2(x)", "x")),
    ("WordBlock", "start from the input",
     (SECOND, "x = x + self.mlp(self.norm2(h.flatten(2).mT))")),
    ("WordBlock", "not its norm", ("x = x + self.attention(self.norm1(x)",
                                   "x = self.norm1(x)\n        x = x + self.attention(x")),
    ("WordBlock", "SiLU is missing", ("nn.SiLU()", "nn.Identity()")),
    ("WordBlock", "ReLU", ("nn.SiLU()", "nn.ReLU()")),
    ("WordBlock", "GELU", ("nn.SiLU()", "nn.GELU()")),
    ("WordBlock", "cuts channels|raised", ("h.flatten(2).mT", "h.reshape(len(h), -1, h.shape[1])"),
     ("x.mT.reshape(h.shape)", "x.reshape(h.shape)")),
    ("WordBlock", "before the reshape", ("x.mT.reshape", "x.reshape")),
    ("WordBlock", "as a list|shape", ("x.mT.reshape(h.shape)", "x")),
    ("WordBlock", "left aside", ("words, said)\n", "words)\n")),
    ("WordBlock", "column by column", ("h.flatten(2).mT", "h.mT.flatten(2).mT"),
     ("x.mT.reshape(h.shape)", "x.mT.unflatten(2, (h.shape[3], h.shape[2])).mT")),
    ("WordBlock", "self.attention", ("self.attention", "self.listen")),
    ("WordBlock", "raised", ("h.flatten(2).mT", "h.flatten(2)")),
    ("WordBlock", "parameters", ("4 * channels, channels)", "4 * channels, channels, bias=False)")),
    ("WordNet", "lack the vectors", ("words = self.word(ids) + self.order", "words = self.word(ids)")),
    ("WordNet", "place", (" + self.place\n", "\n")),
    ("WordNet", "channels and positions mixed", (".T.reshape(width, 8, 8)", ".reshape(width, 8, 8)")),
    ("WordNet", "`place` at the start",
     ("positions(8, 8, width).T.reshape", "torch.randn(64, width).reshape")),
    ("WordNet", "starts as zeros", ("positions(8, 8, width).T.reshape(", "torch.zeros(")),
    ("WordNet", "`order` starts", ("torch.randn(length, width)", "torch.zeros(length, width)")),
    ("WordNet", "`order` starts", ("torch.randn(length, width)", "0.02 * torch.randn(length, width)")),
    ("WordNet", "`order` is frozen",
     ("torch.randn(length, width)", "torch.randn(length, width), requires_grad=False")),
    ("WordNet", "after a SiLU", ("F.silu(self.time(t))", "self.time(t)")),
    ("WordNet", "1000 itself", ("self.time(t)", "self.time(1000 * t)")),
    ("WordNet", "not 1 - t", ("self.time(t)", "self.time(1 - t)")),
    ("WordNet", "second block of words", (ASK, "h = self.res2(h, emb)")),
    ("WordNet", "second residual", (ASK, "h = self.ask2(h, words, said)")),
    ("WordNet", "last SiLU", ("F.silu(self.norm(h))", "self.norm(h)")),
    ("WordNet", "last norm", ("F.silu(self.norm(h))", "F.silu(h)")),
    ("WordNet", "x isn't added", ("return F.pixel", "return x + F.pixel")),
    ("WordNet", "left aside", ("said = words if said is None else self.word(said) + self.order",
                               "said = words")),
    ("WordNet", "only the values", ("said = words if said is None else self.word(said) + self.order",
                                    "words = words if said is None else self.word(said) + self.order"
                                    "\n        said = words")),
    ("WordNet", "lacks the vectors", ("else self.word(said) + self.order", "else self.word(said)")),
    ("WordNet", "mean of the words", ("h = self.ask1(self.res1(h, emb), words, said)",
                                      "h = self.ask1(self.res1(h, emb), words.mean(1, keepdim=True), "
                                      "said.mean(1, keepdim=True))")),
    ("WordNet", "parameters", ("12, 3, padding=1)", "12, 3, padding=1, bias=False)")),
    ("WordNet", "return", ("return F", "F")),
]


def student_class(name, *changes):
    """The class of a lesson's solution, changed as given."""
    blocks = {"CrossAttention": CrossAttention, "WordBlock": WordBlock}
    blocks.pop(name, None)
    return class_of(SOURCES[name], name, HELPERS | blocks, *changes)


@pytest.mark.parametrize("row", RIGHT, ids=lambda row: row[0])
def test_right_modules_pass(row):
    passes(row[0], student_class(*row))


@pytest.mark.parametrize("row", WRONG, ids=lambda row: f"{row[0]}-{row[1][:12]}")
def test_wrong_modules_are_told_what_is_wrong(row):
    name, said, *changes = row
    assert re.search(said, told(name, student_class(name, *changes)))


def test_a_network_without_words_is_no_answer():
    assert "package's" in told("WordNet", UNet)
