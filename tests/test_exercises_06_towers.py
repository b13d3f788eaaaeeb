"""Lesson 06's checks of modules: attention, reader and patches in any style; wrong ones are told why."""

import re

import pytest
from support.answers import passes, told
from support.modules import class_of

from minildm.nn import clip, layers

ATTENTION = """
class CausalAttention(nn.Module):
    def __init__(self, dim, heads, causal=True):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.to_q, self.to_k = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.to_v, self.to_out = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x):
        q, k, v = self.split(self.to_q(x)), self.split(self.to_k(x)), self.split(self.to_v(x))
        scores = q @ k.transpose(-2, -1) / q.shape[-1]**0.5
        if self.causal:
            later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        mixed = scores.softmax(-1) @ v
        return self.to_out(mixed.transpose(1, 2).flatten(2))
"""
READER = """
class TextTower(nn.Module):
    def __init__(self, vocabulary, length, dim, blocks):
        super().__init__()
        self.words, self.places = nn.Embedding(vocabulary, dim), nn.Embedding(length, dim)
        self.blocks, self.norm = blocks, nn.LayerNorm(dim)
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.normal_(self.places.weight, std=0.02)

    def forward(self, ids):
        x = self.words(ids) + self.places.weight[:ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        states = self.norm(x)
        end = ids.argmax(1)
        return states, states[torch.arange(len(ids)), end]
"""
PATCHES = """
class PatchEmbedding(nn.Module):
    def __init__(self, channels, side, patch, dim):
        super().__init__()
        self.patch = patch
        self.class_token = nn.Parameter(0.02 * torch.randn(dim))
        self.places = nn.Parameter(0.02 * torch.randn(1 + (side // patch)**2, dim))
        self.linear = nn.Linear(channels * patch**2, dim, bias=False)

    def forward(self, images):
        p = self.patch
        squares = images.unflatten(3, (-1, p)).unflatten(2, (-1, p))
        flat = squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        first = self.class_token.expand(len(images), 1, -1)
        return torch.cat([first, self.linear(flat)], dim=1) + self.places
"""
SOURCES = {"CausalAttention": ATTENTION, "TextTower": READER, "PatchEmbedding": PATCHES}
MASK = "scores.masked_fill(later, -math.inf)"
TRI = "torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)"
END = "states[torch.arange(len(ids)), end]"
CUT = """squares = images.unflatten(3, (-1, p)).unflatten(2, (-1, p))
        flat = squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)"""
ORDER = "0, 2, 4, 1, 3, 5"
JOIN = "torch.cat([first, self.linear(flat)], dim=1) + self.places"

RIGHT = [
    ("CausalAttention",),
    ("CausalAttention", (MASK, "scores + torch.full_like(scores, -math.inf).triu(1)")),
    ("CausalAttention", (MASK, "scores.masked_fill(later, -1e9)")),
    ("CausalAttention", ("self.to_q", "self.ask"), ("self.to_k", "self.key")),
    ("CausalAttention", ("mixed = scores.softmax(-1) @ v", """
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)""")),
    ("TextTower",),
    ("TextTower", ("end = ids.argmax(1)", "end = (ids == ids.max()).int().argmax(1)")),
    ("TextTower", ("self.places.weight[:ids.shape[1]]", "self.places(torch.arange(ids.shape[1]))")),
    ("TextTower", (f"return states, {END}", f"return [states, {END}]")),
    ("TextTower", (END, "torch.stack([row[i] for row, i in zip(states, end, strict=True)])")),
    ("PatchEmbedding",),
    ("PatchEmbedding", (CUT, "flat = F.unfold(images, p, stride=p).transpose(1, 2)")),
    ("PatchEmbedding", (CUT, """flat = torch.stack([
            images[:, :, i:i + p, j:j + p].flatten(1)
            for i in range(0, images.shape[2], p) for j in range(0, images.shape[3], p)], 1)""")),
    ("PatchEmbedding", ("0.02 * torch.randn(dim)", "torch.zeros(dim)")),
]

WRONG = [
    ("CausalAttention", "no mask", (MASK, "scores")),
    ("CausalAttention", "wrong way round", (TRI, TRI.replace("triu(1)", "tril(-1)"))),
    ("CausalAttention", "sees itself|NaN|infinite", (TRI, TRI.replace("triu(1)", "triu(0)"))),
    ("CausalAttention", "one too far", (TRI, TRI.replace("triu(1)", "triu(2)"))),
    ("CausalAttention", "its share", (MASK, "scores.masked_fill(later, 0.0)")),
    ("CausalAttention", "its share", (MASK, "scores * ~later")),
    ("CausalAttention", "minus one", (MASK, "scores - later.float()")),
    ("CausalAttention", "before the softmax", (MASK, "scores"), (
        "scores.softmax(-1) @ v", "(scores.softmax(-1) * (~later if self.causal else 1)) @ v")),
    ("CausalAttention", "over the keys", ("softmax(-1)", "softmax(-2)")),
    ("CausalAttention", "scale is missing", (" / q.shape[-1]**0.5", "")),
    ("CausalAttention", "not by the width", ("**0.5", "")),
    ("CausalAttention", "D / heads", ("q.shape[-1]**0.5", "x.shape[-1]**0.5")),
    ("CausalAttention", "to_out is missing",
     ("self.to_out(mixed.transpose(1, 2).flatten(2))", "mixed.transpose(1, 2).flatten(2)")),
    ("CausalAttention", "before the heads are merged",
     ("mixed.transpose(1, 2).flatten(2)", "mixed.reshape(x.shape)")),
    ("CausalAttention", "not to_q", ("self.split(self.to_k(x))", "self.split(self.to_q(x))")),
    ("CausalAttention", "not to_k", ("self.split(self.to_v(x))", "self.split(self.to_k(x))")),
    ("CausalAttention", "keys ask|raised", ("q @ k.transpose(-2, -1)", "k @ q.transpose(-2, -1)")),
    ("CausalAttention", "causal=False", ("if self.causal:", "if True:")),
    ("CausalAttention", "no mask", ("if self.causal:", "if not self.causal:")),
    ("CausalAttention", "third argument", ("causal=True", "causal=False")),
    ("CausalAttention", "right for the first|raised",
     ("torch.ones(x.shape[1], x.shape[1],", "torch.ones(5, 5,")),
    ("CausalAttention", "raised|right for", ("(self.heads, -1)", "(3, -1)")),
    ("CausalAttention", "parameters", ("nn.Linear(dim, dim), nn.Linear(dim, dim)",
                                       "nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim)")),
    ("CausalAttention", "no gradient",
     ("scores.softmax(-1) @ v", "scores.softmax(-1).detach() @ v.detach()")),
    ("CausalAttention", "return", ("return self.to_out", "self.to_out")),
    ("TextTower", "positions are missing", (" + self.places.weight[:ids.shape[1]]", "")),
    ("TextTower", "not the last", ("weight[:ids.shape[1]]", "weight[-ids.shape[1]:]")),
    ("TextTower", "same vector", ("weight[:ids.shape[1]]", "weight[0]")),
    ("TextTower", "another row", ("weight[:ids.shape[1]]", "weight.roll(-1, 0)[:ids.shape[1]]")),
    ("TextTower", "last norm is missing", ("self.norm(x)", "x")),
    ("TextTower", "norm comes last", ("x = self.words(ids) + self.places.weight[:ids.shape[1]]",
                                      "x = self.norm(self.words(ids) + self.places.weight[:ids.shape[1]])"),
     ("states = self.norm(x)", "states = x")),
    ("TextTower", "blocks are missing", ("x = block(x)", "pass")),
    ("TextTower", "first block", ("in self.blocks:", "in self.blocks[:1]:")),
    ("TextTower", "from the first to the last", ("in self.blocks:", "in list(self.blocks)[::-1]:")),
    ("TextTower", "adds to its input itself", ("x = block(x)", "x = x + block(x)")),
    ("TextTower", "last position", (END, "states[:, -1]")),
    ("TextTower", "word before", ("end = ids.argmax(1)", "end = ids.argmax(1) - 1")),
    ("TextTower", "start token", (END, "states[:, 0]")),
    ("TextTower", "mean over all", (END, "states.mean(1)")),
    ("TextTower", "one state for each row", (END, "states[:, end]")),
    ("TextTower", "first row's", (END, "states[:, end[0]]")),
    ("TextTower", "largest", (END, "states.amax(1)")),
    ("TextTower", "right for|start token|should|seen nothing",
     ("ids.argmax(1)", "(ids == 9).int().argmax(1)")),
    ("TextTower", "two things", (f"return states, {END}", f"return {END}")),
    ("TextTower", "0.02", ("nn.init.normal_(self.words.weight, std=0.02)", "")),
    ("TextTower", "0.02", ("self.places.weight, std=0.02", "self.places.weight, std=0.2")),
    ("TextTower", "no parameter of shape", ("nn.Embedding(length, dim)", "nn.Embedding(length + 1, dim)")),
    ("TextTower", "parameters",
     ("self.blocks, self.norm = blocks,", "self.blocks, self.norm = list(blocks),")),
    ("TextTower", "no gradient", (END, f"{END}.detach()")),
    ("TextTower", "None", ("return states,", "states,")),
    ("PatchEmbedding", "whole rows", (CUT, "flat = images.reshape(len(images), len(self.places) - 1, -1)")),
    ("PatchEmbedding", "column by column", (ORDER, "0, 4, 2, 1, 3, 5")),
    ("PatchEmbedding", "channel first", (ORDER, "0, 2, 4, 3, 5, 1")),
    ("PatchEmbedding", "rows come before", (ORDER, "0, 2, 4, 1, 5, 3")),
    ("PatchEmbedding", "on their side", (ORDER, "0, 4, 2, 1, 5, 3")),
    ("PatchEmbedding", "between", (ORDER, "0, 2, 4, 3, 1, 5")),
    ("PatchEmbedding", "n-th pixel", (CUT, """squares = images.unflatten(3, (p, -1)).unflatten(2, (p, -1))
        flat = squares.permute(0, 3, 5, 1, 2, 4).flatten(3).flatten(1, 2)""")),
    ("PatchEmbedding", "stands in front", ("[first, self.linear(flat)]", "[self.linear(flat), first]")),
    ("PatchEmbedding", "class token is missing", (JOIN, "self.linear(flat) + self.places[1:]")),
    ("PatchEmbedding", "places are missing", (" + self.places", "")),
    ("PatchEmbedding", "has a place, too",
     (JOIN, "torch.cat([first, self.linear(flat) + self.places[1:]], dim=1)")),
    ("PatchEmbedding", "from the second on",
     (JOIN, "torch.cat([first + self.places[-1], self.linear(flat) + self.places[:-1]], dim=1)")),
    ("PatchEmbedding", "0.02", ("0.02 * torch.randn(1 + ", "torch.randn(1 + ")),
    ("PatchEmbedding", "no parameter of shape", ("1 + (side // patch)**2", "(side // patch)**2")),
    ("PatchEmbedding", "parameters", ("bias=False", "bias=True")),
    ("PatchEmbedding", "parameters", ("nn.Parameter(0.02 * torch.randn(dim))", "torch.randn(dim)")),
    ("PatchEmbedding", "class_token. is frozen",
     ("nn.Parameter(0.02 * torch.randn(dim))", "nn.Parameter(torch.randn(dim), requires_grad=False)")),
    ("PatchEmbedding", "raised|right for", ("p = self.patch", "p = 4")),
    ("PatchEmbedding", "first picture", ("self.linear(flat)", "self.linear(flat[:1].expand_as(flat))")),
    ("PatchEmbedding", "no gradient", ("self.linear(flat)", "self.linear(flat.detach())")),
    ("PatchEmbedding", "return", ("return torch.cat", "torch.cat")),
]


@pytest.mark.parametrize("name, changes", [
    pytest.param(row[0], row[1:], id=f"{row[0]}-{i}") for i, row in enumerate(RIGHT)])
def test_right_answers_pass(name, changes):
    passes(name, class_of(SOURCES[name], name, {}, *changes))


@pytest.mark.parametrize("name, said, changes", [
    pytest.param(row[0], row[1], row[2:], id=f"{row[0]}-{i}") for i, row in enumerate(WRONG)])
def test_wrong_answers_are_told_what_is_wrong(name, said, changes):
    assert re.search(said, told(name, class_of(SOURCES[name], name, {}, *changes)))


def test_the_packages_classes_are_nobodys_answer():
    source = "class CausalAttention(Attention):\n    pass"
    assert "write yours" in told("CausalAttention", class_of(
        source, "CausalAttention", {"Attention": layers.Attention}))
    source = "class TextTower(nn.Module):\n    def forward(self, ids):\n        return TextTransformer(3)"
    assert "write yours" in told("TextTower", class_of(
        source, "TextTower", {"TextTransformer": clip.TextTransformer}))
