"""The checks of lesson 04: what the U-Net is made of."""

import torch

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.nn import layers


def waves(t, dim, unit=1000.0, half=None, period=10_000.0, first="cos"):
    """Cosines and sines of unit * t, float32; half: what the wave's number is divided by."""
    k = torch.arange(dim // 2, dtype=torch.float64)
    angles = unit * t.double()[:, None] * period ** (-k / (half or dim // 2))
    pair = [angles.cos(), angles.sin()]
    if first == "sin":
        pair.reverse()
    return torch.cat(pair, 1).float()


def sinusoid(t, dim):
    half = dim // 2
    frequencies = 10_000 ** (-torch.arange(half) / half)
    angles = 1000 * t[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


@check(reference=sinusoid, forbidden=[layers.sinusoid, layers.TimeEmbedding])
def check_sinusoid(answer):
    # no time is a whole step of a table of 1000; t = 0 alone tells nothing of the unit
    for times, dim in ([0.013, 0.4, 0.0, 1.0], 8), ([0.731, 0.29, 0.0047], 14):
        t = torch.tensor(times)
        half = dim // 2
        want = waves(t, dim)
        cos, sin = want.chunk(2, 1)
        answer.case((t, dim), want, {
            "t runs from 0 to 1, the waves were made for 0 to 1000: multiply":
                waves(t, dim, unit=1),
            "a wave of 2 pi t: the unit is 1000": waves(t, dim, unit=2 * torch.pi),
            "the unit is 1000, not 999": waves(t, dim, unit=999),
            "cosines come first: these are sines, then cosines": waves(t, dim, first="sin"),
            "all cosines, then all sines: yours take turns":
                torch.stack([cos, sin], 2).flatten(1),
            "all cosines, then all sines: yours take turns, sines first":
                torch.stack([sin, cos], 2).flatten(1),
            "k is divided by dim / 2, not by dim / 2 - 1": waves(t, dim, half=half - 1),
            "k is divided by dim / 2, not by dim": waves(t, dim, half=dim),
            "k is divided by dim / 2, not by dim / 4": waves(t, dim, half=half / 2),
            "the slowest wave comes last: frequencies fall with k": waves(t, dim, half=-half),
            "10,000 is the ratio of the frequencies, not 1,000": waves(t, dim, period=1000.0),
            "10,000^(-k / half), without a factor in the exponent":
                waves(t, dim, period=10_000.0**0.5),
            "dim numbers in all: dim / 2 cosines, dim / 2 sines": waves(t, 2 * dim),
            "two times cosines: the second half are sines": torch.cat([cos, cos], 1),
            "two times sines: the first half are cosines": torch.cat([sin, sin], 1),
            "exp of natural logarithms: log10 of 10,000 is 4": waves(t, dim, period=torch.e**4),
        }, tol=1e-3, where=f"{len(t)} times, dim {dim}")


def time_scale(h, emb):
    scale, shift = emb[:, :, None, None].chunk(2, dim=1)
    return h * (1 + scale) + shift


@check(reference=time_scale)
def check_time_scale(answer):
    # B = H and C = W: who forgets the two axes gets a wrong result, not torch's error
    for shape in (3, 5, 3, 5), (2, 3, 7, 4):
        h = randn(*shape)
        emb = randn(shape[0], 2 * shape[1], seed=1).requires_grad_()
        scale, shift = emb[:, :, None, None].chunk(2, 1)
        even, odd = emb[:, 0::2, None, None], emb[:, 1::2, None, None]
        want = h * (1 + scale) + shift
        likely = {
            "the 1 is missing: scale 0 should change nothing": h * scale + shift,
            "scale is the first half, shift the second": h * (1 + shift) + scale,
            "scale is the first half, shift the second, and the 1 is missing": h * shift + scale,
            "first scale, then shift: the shift isn't scaled": (h + shift) * (1 + scale),
            "halves, not every other number": h * (1 + even) + odd,
            "the shift is missing": h * (1 + scale),
            "the scale is missing": h + shift,
            "the shift is added, not subtracted": h * (1 + scale) - shift,
            "scale multiplies h, without an exponential": h * scale.exp() + shift,
            "1 + scale, not 1 - scale": h * (1 - scale) + shift,
            "the 1 is added to scale, not to h": (1 + h) * scale + shift,
            "all pictures got the first one's":
                h * (1 + scale[:1]) + shift[:1],
        }
        if shape[0] == shape[2] and shape[1] == shape[3]:
            by_column, more = emb.chunk(2, 1)
            cause = "emb met the last axes, height and width: it is for pictures and channels"
            likely[cause] = h * (1 + by_column) + more
        got = answer.case((h, emb), want, likely, where=f"h {shape}")
        compare_gradients(got, want, emb=emb)


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
        k, v = randn(batch, more, width, seed=1), randn(batch, more, width, seed=2)
        heads_of = [split(x, heads) for x in (q, k, v)]
        wrong_heads = [x.reshape(batch, heads, -1, d) for x in (q, k, v)]
        other_heads = [interleaved(x, heads) for x in (q, k, v)]
        root = d**0.5
        result = attended(*heads_of, root)
        one_mean = v.mean(1, keepdim=True).expand(q.shape)
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
            "every query got the mean of all values": one_mean,
        }, where=f"{heads} heads of width {d}, {length} queries, {more} keys")
