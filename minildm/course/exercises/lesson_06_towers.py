"""The checks of lesson 06 on the parts of two towers: attention, the reader, a picture's tokens."""

import math

import torch
from torch import nn

from minildm.course.exercises.answer import Answer, compare_gradients, copy_weights
from minildm.course.exercises.compare import compare, describe, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.nn import clip, layers


def made(answer, wanted, *sizes):
    """The student's module of these sizes with the wanted one's weights."""
    module = answer(*sizes)
    if not isinstance(module, nn.Module):
        fail(f"hand over the class: this made {describe(module)}")
    copy_weights(module, wanted)
    return module


@torch.no_grad()
def spread(module):
    """Weights that leave nothing at 0 or 1, so that each part is seen."""
    for i, weight in enumerate(module.parameters()):
        size = 1.5 / weight[0].numel()**0.5 if weight.ndim > 1 else 0.8
        weight.copy_(size * randn(*weight.shape, seed=i))
    return module


class CausalAttention(nn.Module):
    """Self-attention (B, L, D) -> (B, L, D); a token sees itself and what stands before it."""

    def __init__(self, dim, heads, causal=True):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.to_q, self.to_k = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.to_v, self.to_out = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)           # (B, H, L, d)

    def forward(self, x):
        q, k, v = (self.split(layer(x)) for layer in (self.to_q, self.to_k, self.to_v))
        scores = q @ k.transpose(-2, -1) / q.shape[-1]**0.5                # (B, H, L, L)
        if self.causal:
            later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        return self.to_out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


@check(reference=CausalAttention, forbidden=[layers.Attention, layers.attention,
                                             clip.EncoderBlock])
def check_CausalAttention(answer):
    # heads, their width and the length differ
    for (dim, heads), (batch, length), causal in (
            ((12, 3), (2, 5), True), ((10, 5), (3, 7), True), ((8, 2), (2, 4), False)):
        sizes = dim, heads, causal
        wanted = spread(CausalAttention(*sizes))
        module = made(answer, wanted, *sizes)
        x = randn(batch, length, dim).requires_grad_()
        want = wanted(x)
        where = f"width {dim}, {heads} heads, causal={causal}"
        got = answer.wrap(module, names=["x"]).case(
            (x,), want, likely_attentions(wanted, x), where=where)
        compare_gradients(got, want, x=x)
    if not getattr(answer(4, 2), "causal", True):
        fail("without a third argument it is causal")


def likely_attentions(layer, x):
    """{cause: result} of attention with a likely mistake."""
    q, k, v = (layer.split(made(x)) for made in (layer.to_q, layer.to_k, layer.to_v))
    length, width = x.shape[1], q.shape[-1]
    raw = q @ k.transpose(-2, -1)
    scores = raw / width**0.5
    ones = torch.ones(length, length, dtype=torch.bool)
    later = ones.triu(1) if layer.causal else ~ones

    def merged(mixed):
        return layer.to_out(mixed.transpose(1, 2).flatten(2))

    def of(scores, hidden=later, values=v):
        return merged(scores.masked_fill(hidden, -math.inf).softmax(-1) @ values)

    found = {
        "the scale is missing": of(raw),
        "divide by the root of a head's width, not by the width": of(raw / width),
        "the scale is of a head's width, D / heads": of(raw / x.shape[-1]**0.5),
        "to_out is missing": (scores.masked_fill(later, -math.inf).softmax(-1) @ v)
            .transpose(1, 2).flatten(2),
        "swap the axes back before the heads are merged": layer.to_out(
            (scores.masked_fill(later, -math.inf).softmax(-1) @ v).reshape(x.shape)),
        "keys are made by to_k, not to_q": of(q @ q.transpose(-2, -1) / width**0.5),
        "values are made by to_v, not to_k": of(scores, values=k),
        "queries ask keys: here keys ask queries": of(scores.transpose(-2, -1)),
    }
    if not layer.causal:
        return found | {"causal=False: every token sees every other": of(scores, ones.triu(1))}
    return found | wrong_masks(scores, later, v, merged)


def wrong_masks(scores, later, v, merged):
    """{cause: result} of attention whose mask is a likely wrong one."""
    ones = torch.ones_like(later)

    def of(hidden, value=-math.inf, axis=-1):
        weights = scores.masked_fill(hidden, value).softmax(axis)
        # a row that is hidden from end to end
        return merged(weights.nan_to_num() @ v)

    return {
        "there is no mask: a token sees later ones": of(~ones),
        "the mask is the wrong way round: a token sees what stands before it": of(ones.tril(-1)),
        "the diagonal stays: a token sees itself": of(ones.triu(0)),
        "a token sees all before it, not its neighbour alone": of(later | ones.tril(-2)),
        "one too far: a token sees its right neighbour": of(ones.triu(2)),
        "the forbidden scores are 0, and softmax gives a score of 0 its share: -inf":
            of(later, 0.0),
        "minus one is not enough: -inf": merged((scores - later.float()).softmax(-1) @ v),
        "the mask comes before the softmax, or the rows don't sum to 1":
            merged(scores.softmax(-1).masked_fill(later, 0.0) @ v),
        "softmax is over the keys, the last axis": of(later, axis=-2),
    }


class TextTower(nn.Module):
    """Token ids (B, L) -> states (B, L, D), and that of the first end token (B, D)."""

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
        # the end token's id is the largest, and argmax finds the first of equals
        end = ids.argmax(1)
        return states, states[torch.arange(len(ids)), end]


class Mix(nn.Module):
    """A block in a check: the mean of all tokens so far goes through a matrix and is added."""

    def __init__(self, dim):
        super().__init__()
        self.map = nn.Linear(dim, dim)

    def forward(self, x):
        before = x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
        return x + torch.tanh(self.map(before))


# ids whose largest is the end token, which also fills up the row: lengths shorter than the tower's
TEXTS = [
    ((10, 8, 6, 2), [[8, 3, 2, 9, 9, 9], [8, 5, 1, 4, 7, 9], [8, 9, 9, 9, 9, 9]]),
    ((41, 7, 4, 3), [[39, 21, 3, 40, 40], [39, 7, 7, 12, 40], [39, 4, 40, 40, 40],
                     [39, 8, 40, 40, 40]]),
]


@check(reference=TextTower, forbidden=[clip.TextTransformer])
def check_TextTower(answer):
    for (vocabulary, length, dim, depth), rows in TEXTS:
        ids = torch.tensor(rows)
        wanted = spread(TextTower(vocabulary, length, dim, blocks_of(dim, depth)))
        fresh = answer(vocabulary, length, dim, blocks_of(dim, depth))
        check_small(fresh, "two tables", [(vocabulary, dim), (length, dim)])
        copy_weights(fresh, wanted)
        got = Answer(fresh, ["ids"])(ids)
        if not isinstance(got, (tuple, list)) or len(got) != 2:
            fail(f"two things are wanted, the states and the sentence's: this is {describe(got)}")
        states, pooled = wanted(ids)
        of = f"a tower of width {dim} and {depth} blocks"
        compare(got[0], states, likely_states(wanted, ids), where=f"the states, {of}")
        compare(got[1], pooled, likely_pooled(states, ids), where=f"the sentence's state, {of}")
        if not got[1].requires_grad:
            fail("the numbers are right, but no gradient flows: is there a detach() or no_grad()?")


def blocks_of(dim, depth):
    return nn.ModuleList(Mix(dim) for _ in range(depth))


def check_small(module, what, shapes):
    """Whether a fresh module has parameters of these shapes that start with a spread of 0.02."""
    if not isinstance(module, nn.Module):
        fail(f"hand over the class: this made {describe(module)}")
    weights = list(module.parameters())
    for shape in shapes:
        found = [weight for weight in weights if tuple(weight.shape) == shape]
        if not found:
            fail(f"it has no parameter of shape {shape}")
        # few numbers, so a wide net: 0.02 is told from 1 and from 0
        if not any(0.008 < weight.std() < 0.05 for weight in found):
            fail(f"{what} start as normal numbers of standard deviation 0.02: "
                 f"here it is {found[0].std():.3f}")


def likely_states(tower, ids):
    """{cause: states} of a reader with a likely mistake."""
    words, places = tower.words(ids), tower.places.weight

    def of(x, norm=tower.norm, blocks=tower.blocks):
        for block in blocks:
            x = block(x)
        return norm(x)

    x = words + places[:ids.shape[1]]
    return {
        "the positions are missing": of(words),
        "the positions are the first ones of the table, not the last":
            of(words + places[-ids.shape[1]:]),
        "position k gets row k of its table: here it is another row":
            of(words + places.roll(-1, 0)[:ids.shape[1]]),
        "every position gets the same vector": of(words + places[0]),
        "the places are looked up by position, not by the token's id":
            of(words + places[ids.clamp(max=len(places) - 1)]),
        "the last norm is missing": of(x, norm=nn.Identity()),
        "the norm comes last": of(tower.norm(x), norm=nn.Identity()),
        "the norm comes last, and once": of(tower.norm(x)),
        "the blocks are missing": of(x, blocks=[]),
        "only the first block is used": of(x, blocks=tower.blocks[:1]),
        "the blocks go from the first to the last": of(x, blocks=list(tower.blocks)[::-1]),
        "a block adds to its input itself": _added_twice(tower, x),
    }


def _added_twice(tower, x):
    for block in tower.blocks:
        x = x + block(x)
    return tower.norm(x)


def likely_pooled(states, ids):
    """{cause: what a reader says that takes the wrong state for the sentence's}."""
    end = ids.max()
    is_end = ids == end
    each, first = torch.arange(len(ids)), is_end.int().argmax(1)
    ends = is_end.float()[..., None]
    words = 1 - ends
    text = (is_end.cumsum(1) <= 1).float()[..., None]
    return {
        "the last position is padding: the first end token": states[:, -1],
        "the word before the end token: it has not read that the sentence is over":
            states[each, first - 1],
        "one too far: that is padding already":
            states[each, (first + 1).clamp(max=ids.shape[1] - 1)],
        "the start token's: it has seen nothing of the sentence": states[:, 0],
        "the first word's: it has seen nothing of the others": states[:, 1],
        "one state for each row: states[arange, position]": states[:, first],
        "each row has its own end: this is the first row's": states[:, first[0]],
        "the mean over all positions: one position's": states.mean(1),
        "the largest over all positions: one position's": states.amax(1),
        "the mean over the sentence: one position's": (states * text).sum(1) / text.sum(1),
        "the mean over the words: one position's": (states * words).sum(1) / words.sum(1),
        "the mean over the end tokens: the first one's": (states * ends).sum(1) / ends.sum(1),
    }
