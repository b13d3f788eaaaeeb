"""The checks of lesson 07 on the block: attention from a picture to words, and two steps."""

import torch
import torch.nn.functional as F
from torch import nn

from minildm.course.exercises.answer import compare_gradients, copy_weights
from minildm.course.exercises.compare import Wrong, close, compare, describe, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_04 import spread
from minildm.nn import layers


class CrossAttention(nn.Module):
    """Positions x (B, L, dim) ask words (B, M, context_dim): (B, L, dim)."""

    def __init__(self, dim, context_dim, heads):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(context_dim, dim, bias=False)
        self.to_v = nn.Linear(context_dim, dim, bias=False)
        self.to_out = nn.Linear(dim, dim)

    def split(self, x):
        """(B, L, H d) -> (B, H, L, d)"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x, words, said=None):
        said = words if said is None else said
        q = self.split(self.to_q(x))                                      # (B, H, L, d)
        k = self.split(self.to_k(words))                                  # (B, H, M, d)
        v = self.split(self.to_v(said))
        weights = (q @ k.mT / q.shape[-1]**0.5).softmax(dim=-1)           # (B, H, L, M)
        self.seen = weights.detach().mean(1)                              # (B, L, M)
        return self.to_out((weights @ v).transpose(1, 2).flatten(2))


def made(answer, wanted, sizes, names):
    """The student's module of these sizes, with the wanted one's weights, as an answer."""
    module = answer(*sizes)
    if not isinstance(module, nn.Module):
        fail(f"hand over the class: this made {describe(module)}")
    copy_weights(module, wanted)
    return answer.wrap(module, names=names)


@check(reference=CrossAttention, forbidden=[layers.attention, layers.Attention])
def check_CrossAttention(answer):
    # dim, width of the words, heads; then batch, positions and words: all differ
    for sizes, (batch, length, words) in (((12, 5, 2), (2, 7, 4)), ((15, 10, 3), (3, 6, 9))):
        wanted = spread(CrossAttention(*sizes))
        module = made(answer, wanted, sizes, ["x", "words", "said"])
        x = randn(batch, length, sizes[0]).requires_grad_()
        heard = randn(batch, words, sizes[1], seed=1).requires_grad_()
        said = randn(batch, words, sizes[1], seed=2).requires_grad_()
        where = f"{sizes[2]} heads, {length} positions, {words} words"
        want = wanted(x, heard)
        got = module.case((x, heard), want, likely_attentions(wanted, x, heard, heard), where=where)
        compare_gradients(got, want, x=x, words=heard)
        check_seen(module.function, wanted)
        want = wanted(x, heard, said)
        got = module.case((x, heard, said), want, {
            "`said` is left aside: the values come from it": wanted(x, heard).detach(),
            "the keys come from `words`, only the values from `said`": wanted(x, said).detach(),
            "keys and values changed places: values come from `said`, keys from `words`":
                wanted(x, said, heard).detach(),
        }, where="with `said`")
        compare_gradients(got, want, x=x, words=heard, said=said)
        answer.right += 1


def check_seen(module, wanted):
    """Whether the weights of the last call are kept, as a tensor without a graph."""
    seen, want = getattr(module, "seen", None), wanted.seen
    if seen is None:
        fail("keep the weights of the call as `self.seen`: the mean over the heads, (B, L, M)")
    if isinstance(seen, torch.Tensor) and seen.requires_grad:
        fail("`self.seen` still has its graph, which would keep the whole step in memory: detach()")
    try:
        compare(seen, want, {
            "the sum over the heads, the mean is wanted": want * module.heads,
            "(B, L, M) is wanted: positions, then words": want.mT,
        })
    except Wrong as wrong:
        fail(f"the result is right, `self.seen` is not: {wrong}")


def merged(x):
    return x.transpose(1, 2).flatten(2)


def likely_attentions(module, x, words, said):
    """{cause: result} of cross-attention with a likely mistake."""
    q, k = module.split(module.to_q(x)), module.split(module.to_k(words))
    v, d, heads = module.split(module.to_v(said)), q.shape[-1], module.heads
    scores = q @ k.mT

    def out(weights, values=v):
        return module.to_out(merged(weights @ values)).detach()

    weights = (scores / d**0.5).softmax(-1)
    # one head of the whole width
    flat = module.to_q(x) @ module.to_k(words).mT / (d * heads)**0.5
    return {
        "the softmax runs over the positions: each position shares itself out among the words":
            out((scores / d**0.5).softmax(-2)),
        "the softmax runs over the heads: over the words": out((scores / d**0.5).softmax(1)),
        "the scores aren't divided by the root of d": out(scores.softmax(-1)),
        "divide by the root of d, not by d": out((scores / d).softmax(-1)),
        "multiplied by the root of d: divide": out((scores * d**0.5).softmax(-1)),
        "d is the width of a head, dim / heads": out((scores / (d * heads)**0.5).softmax(-1)),
        "d differs from net to net: 2 is the root of 4": out((scores / 2).softmax(-1)),
        "d is the width of a head, not their number": out((scores / heads**0.5).softmax(-1)),
        "the scores are divided before the softmax, not after it": out(scores.softmax(-1) / d**0.5),
        "no softmax: the weights of a position sum to 1": out(scores / d**0.5),
        "what is mixed are the values, not the keys": out(weights, k),
        "one head only: each asks its own question":
            module.to_out(flat.softmax(-1) @ module.to_v(said)).detach(),
        "to_out is missing": merged(weights @ v).detach(),
        "the input is added: that is the block's work, here attention alone is wanted":
            x.detach() + out(weights),
        "before the heads are joined, swap the axes back: (B, L, H, d)":
            module.to_out((weights @ v).reshape(x.shape)).detach(),
        "the sign of the scores is wrong: the best word gets most":
            out((-scores / d**0.5).softmax(-1)),
        "every position got the mean of all words":
            out(torch.full_like(weights, 1 / words.shape[1])),
    }


# ---- the block -----------------------------------------------------------------------------------

class WordBlock(nn.Module):
    """A map h (B, C, H, W) asks words (B, M, context_dim), and thinks: (B, C, H, W)."""

    def __init__(self, channels, context_dim, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = CrossAttention(channels, context_dim, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.SiLU(),
                                 nn.Linear(4 * channels, channels))

    def forward(self, h, words, said=None):
        x = h.flatten(2).mT                                               # (B, H W, C)
        x = x + self.attention(self.norm1(x), words, said)
        x = x + self.mlp(self.norm2(x))
        return x.mT.reshape(h.shape)


@check(reference=WordBlock, forbidden=[layers.Attention, layers.SpatialTransformer,
                                       layers.TransformerBlock, layers.FeedForward])
def check_WordBlock(answer):
    for sizes, shape, count in (((8, 5, 2), (2, 8, 3, 5), 4), ((12, 6, 3), (3, 12, 4, 2), 7)):
        wanted = spread(WordBlock(*sizes))
        block = made(answer, wanted, sizes, ["h", "words", "said"])
        h = randn(*shape).requires_grad_()
        words = randn(shape[0], count, sizes[1], seed=1).requires_grad_()
        said = randn(shape[0], count, sizes[1], seed=2)
        want = wanted(h, words)
        got = block.case((h, words), want, likely_blocks(wanted, h, words), where=f"h {shape}")
        compare_gradients(got, want, h=h, words=words)
        judge_rows(block.function, wanted, shape)
        block.case((h, words, said), wanted(h, words, said), {
            "`said` is left aside: hand it on to the attention": want.detach(),
        }, where="with `said`")
        answer.right += 1


def judge_rows(block, wanted, shape):
    """Whether the attention is found where later cells look, and sees positions row by row."""
    if not isinstance(getattr(block, "attention", None), nn.Module):
        fail("call the attention `self.attention`: later cells look for it")
    seen, want = getattr(block.attention, "seen", None), wanted.attention.seen
    # an attention that keeps no weights is the other exercise's matter
    if isinstance(seen, torch.Tensor) and seen.shape == want.shape and not close(seen, want):
        by_columns = want.mT.unflatten(2, shape[2:]).mT.flatten(2).mT
        fail("the result is right, but positions stand column by column, and the maps of words "
             "are read row by row" if close(seen, by_columns) else
             "the result is right, but positions do not stand row by row, as maps of words do")


def likely_blocks(block, h, words):
    """{cause: result} of blocks with a likely mistake."""
    x = h.flatten(2).mT
    asked = block.attention(block.norm1(x), words)
    bare = x + block.attention(x, words)
    first, normed = x + asked, block.norm1(x)
    wide, _, narrow = block.mlp
    second = block.norm2(first)

    def back(x):
        return x.mT.reshape(h.shape).detach()

    likely = {
        "attention is a residual step: x is added to it": asked + block.mlp(block.norm2(asked)),
        "the second step is residual too: add its input": block.mlp(second),
        "the second step adds to what attention has made, not to the input": x + block.mlp(second),
        "both steps start from the input: the second starts from what attention has made":
            first + block.mlp(block.norm2(x)),
        "the MLP is missing": first,
        "attention is missing": x + block.mlp(block.norm2(x)),
        "the first norm is missing": bare + block.mlp(block.norm2(bare)),
        "the second norm is missing": first + block.mlp(first),
        "what is added to is the input, not its norm":
            normed + asked + block.mlp(block.norm2(normed + asked)),
        "the SiLU is missing between the two linear layers": first + narrow(wide(second)),
        "ReLU in place of SiLU": first + narrow(F.relu(wide(second))),
        "GELU in place of SiLU": first + narrow(F.gelu(wide(second))),
    }
    return {cause: back(result) for cause, result in likely.items()} | garbled_blocks(
        block, h, words)


def garbled_blocks(block, h, words):
    """{cause: result} of blocks that make a list of a map, or a map of a list, in a wrong way."""
    def steps(x):
        x = x + block.attention(block.norm1(x), words)
        return x + block.mlp(block.norm2(x))

    x = h.flatten(2).mT
    garbled = h.reshape(len(h), -1, h.shape[1])
    turned = steps(h.transpose(2, 3).flatten(2).mT).mT
    wide = h.shape[0], h.shape[1], h.shape[3], h.shape[2]
    return {
        "tokens are (B, H W, C): reshape alone cuts channels into pieces, swap the axes":
            steps(garbled).reshape(h.shape).detach(),
        "back to a map: swap the axes before the reshape": steps(x).reshape(h.shape).detach(),
        "height and width changed places":
            turned.reshape(wide).transpose(2, 3).reshape(h.shape).detach(),
        "the map's positions as a list: (B, C, H, W) is wanted, as it came": steps(x).detach(),
    }
