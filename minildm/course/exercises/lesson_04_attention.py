"""The checks of lesson 04 on attention: several heads, and the step over a map's positions."""

from torch import nn

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_04 import made, spread
from minildm.nn import layers


def split(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge(x):
    return x.transpose(1, 2).flatten(2)


def multi_head(q, k, v, heads):
    q, k, v = split(q, heads), split(k, heads), split(v, heads)           # (B, heads, L or M, d)
    scores = q @ k.transpose(-2, -1) / q.shape[-1]**0.5                    # (B, heads, L, M)
    return merge(scores.softmax(-1) @ v)


def attended(q, k, v, unit, axis=-1):
    """Attention of heads that are split already; unit: what the scores are divided by."""
    return (q @ k.transpose(-2, -1) / unit).softmax(axis) @ v


def interleaved(x, heads):
    """Heads that own every heads-th column."""
    return x.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)


@check(reference=multi_head, forbidden=[layers.attention, layers.Attention])
def check_multi_head(answer):
    # heads, their width, queries and keys all differ; one batch of one
    for batch, length, more, heads, d in (2, 6, 4, 3, 4), (3, 5, 7, 2, 9), (1, 3, 8, 5, 2):
        width = heads * d
        q = randn(batch, length, width)
        k, v = (randn(batch, more, width, seed=i) for i in (1, 2))
        heads_of = [split(x, heads) for x in (q, k, v)]
        # heads of positions, and heads that own every so many-th column
        wrong_heads = [x.reshape(batch, heads, -1, d) for x in (q, k, v)]
        other_heads = [interleaved(x, heads) for x in (q, k, v)]
        root = d**0.5
        result = attended(*heads_of, root)
        answer.case((q, k, v, heads), merge(result), {
            "the scale is missing": merge(attended(*heads_of, 1)),
            "divide by the root of d, not by d": merge(attended(*heads_of, d)),
            "divide by the root of d: this multiplies": merge(attended(*heads_of, 1 / root)),
            "the scale is of a head's width, D / heads": merge(attended(*heads_of, width**0.5)),
            "the scale is the root of a head's width, not of their number":
                merge(attended(*heads_of, heads**0.5)),
            "that softmax is over the queries: over the keys": merge(attended(*heads_of, root, -2)),
            "that softmax is over the heads: over the keys": merge(attended(*heads_of, root, 1)),
            "k and v changed places": multi_head(q, v, k, heads),
            "what is mixed are the values, not the keys": multi_head(q, k, k, heads),
            "there is no softmax: the weights of a query sum to 1":
                merge(heads_of[0] @ heads_of[1].transpose(-2, -1) / root @ heads_of[2]),
            "one head only: each attends by itself": multi_head(q, k, v, 1),
            "heads is their number, not their width": multi_head(q, k, v, d),
            "heads made of positions: split the width, then swap":
                merge(attended(*wrong_heads, root)),
            "heads made of positions: split the width, then swap; nor are they merged":
                attended(*wrong_heads, root).reshape(q.shape),
            "head i owns the columns i d to (i + 1) d, not every so many-th":
                merge(attended(*other_heads, root)),
            "swap the axes back before the heads are merged": result.reshape(q.shape),
            "merged the other way round: head i gives the columns i d to (i + 1) d":
                result.permute(0, 2, 3, 1).reshape(q.shape),
            "the heads are not merged": result,
            "the heads are merged by their mean: side by side": result.mean(1),
            "every query got the mean of all values": v.mean(1, keepdim=True).expand(q.shape),
        }, where=f"{heads} heads of width {d}, {length} queries, {more} keys")


class SelfAttention(nn.Module):
    """Every position of a map attends to every other, as a residual step."""

    def __init__(self, c, heads):
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(8, c)
        self.to_q, self.to_k, self.to_v = (nn.Linear(c, c, bias=False) for _ in range(3))
        self.to_out = nn.Linear(c, c)

    def forward(self, x):
        tokens = self.norm(x).flatten(2).transpose(1, 2)                   # (B, H W, C)
        q, k, v = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        said = self.to_out(multi_head(q, k, v, self.heads))
        return x + said.transpose(1, 2).reshape(x.shape)


@check(reference=SelfAttention, forbidden=[layers.Attention, layers.SpatialTransformer])
def check_SelfAttention(answer):
    for sizes, shape in ((8, 2), (3, 8, 4, 5)), ((24, 4), (2, 24, 5, 2)):
        wanted = spread(SelfAttention(*sizes))
        block = made(answer, wanted, *sizes)
        x = randn(*shape).requires_grad_()
        want = wanted(x)
        likely = likely_attentions(wanted, x)
        got = block.case((x,), want, likely, where=f"x {shape}, {sizes[1]} heads")
        compare_gradients(got, want, x=x)


def likely_attentions(block, x):
    """{cause: result} of self-attention over a map with a likely mistake."""
    def tokens_of(h):
        return h.flatten(2).transpose(1, 2)

    def said(tokens, heads=block.heads):
        parts = block.to_q(tokens), block.to_k(tokens), block.to_v(tokens)
        return block.to_out(multi_head(*parts, heads))

    def back(tokens):
        return tokens.transpose(1, 2).reshape(x.shape)

    normed = block.norm(x)
    tokens = tokens_of(normed)
    q, k, v = block.to_q(tokens), block.to_k(tokens), block.to_v(tokens)
    # without a transpose channels and positions mix
    garbled = normed.reshape(len(x), -1, x.shape[1])
    turned = said(tokens_of(normed.transpose(2, 3)))

    def of(q, k, v):
        return x + back(block.to_out(multi_head(q, k, v, block.heads)))

    return {
        "the input is missing: attention adds to it": back(said(tokens)),
        "the norm is missing": x + back(said(tokens_of(x))),
        "what is added to is the input, not its norm": normed + back(said(tokens)),
        "the norm comes first, not last": block.norm(x + back(said(tokens_of(x)))),
        "to_out is missing": x + back(multi_head(q, k, v, block.heads)),
        "one head only": x + back(said(tokens, 1)),
        "tokens are (B, H W, C): reshape alone cuts channels into pieces, transpose":
            x + said(garbled).reshape(x.shape),
        "tokens are (B, H W, C): transpose on the way in as well": x + back(said(garbled)),
        "back to a map: transpose before the reshape": x + said(tokens).reshape(x.shape),
        "height and width changed places": x + turned.transpose(1, 2).reshape(x.shape),
        "keys are made by to_k, not to_q": of(q, q, v),
        "values are made by to_v": of(q, k, tokens),
        "the maps are of the normed input: values come of x itself":
            of(q, k, block.to_v(tokens_of(x))),
        "each position heard itself alone": x + back(block.to_out(v)),
    }
