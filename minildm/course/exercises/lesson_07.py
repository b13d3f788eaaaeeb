"""The checks of lesson 07."""

import torch

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import check_dtype, compare, describe, fail
from minildm.course.exercises.fakes import follows_generator, generator, randn
from minildm.course.exercises.harness import check
from minildm.data import scenes
from minildm.nn import attention_maps, layers

__all__ = ["check_centre", "check_cross_attention", "check_drop_captions", "check_word_map"]


def cross_attention(q, k, v):
    scores = q @ k.mT / q.shape[-1]**0.5
    return scores.softmax(dim=-1) @ v


@check(reference=cross_attention, forbidden=[layers.attention, layers.Attention])
def check_cross_attention(answer):
    # widths whose roots are not 2, batch sizes, positions and words that all differ
    for batch, positions, words, width in (2, 6, 3, 5), (3, 8, 7, 9):
        q = randn(batch, positions, width).requires_grad_()
        k = randn(batch, words, width, seed=1).requires_grad_()
        v = randn(batch, words, width, seed=2).requires_grad_()
        want = cross_attention(q, k, v)
        where = f"{positions} positions, {words} words of width {width}"
        got = answer.case((q, k, v), want, likely_attentions(q, k, v), where=where)
        compare_gradients(got, want, q=q, k=k, v=v)


def likely_attentions(q, k, v):
    scores = q @ k.mT
    positions, words = scores.shape[1:]
    width = q.shape[-1]
    right = scores / width**0.5
    weights = right.softmax(-1)
    by_values = (q @ v.mT / width**0.5).softmax(-1)
    best = right.argmax(-1)[..., None].expand_as(q)

    def mixed(scores):
        return scores.softmax(-1) @ v

    return {
        "the softmax runs over the positions: each position shares itself out among the words":
            right.softmax(1) @ v,
        "the softmax runs over the batch: each position shares itself out among the words":
            right.softmax(0) @ v,
        "the softmax runs over positions and words: each position has a share of its own":
            right.flatten(1).softmax(1).view_as(right) @ v,
        "the scores aren't divided by sqrt(d)": mixed(scores),
        "divided by d, not by its root": mixed(scores / width),
        "multiplied by sqrt(d): divide": mixed(scores * width**0.5),
        "d is the width of a query, not the number of words": mixed(scores / words**0.5),
        "d is the width of a query, not the number of positions": mixed(scores / positions**0.5),
        "d is the width, which differs from net to net: 2 is the root of 4": mixed(scores / 2),
        "the scores are divided before the softmax, not after it":
            scores.softmax(-1) / width**0.5 @ v,
        "no softmax: the weights of a position must sum to 1": right @ v,
        "the exponentials of a position aren't divided by their sum": right.exp() @ v,
        "what is mixed are the values, not the keys": weights @ k,
        "the values stand in for the keys": by_values @ v,
        "keys and values have changed places": by_values @ k,
        "these are the weights: mix the values with them": weights,
        "these are the scores: their softmax mixes the values": right,
        "every position got the mean of all words": v.mean(1, keepdim=True).expand_as(q),
        "each position takes the best word alone: attention is soft": v.gather(1, best),
        "the queries are added: attention alone is wanted": q + weights @ v,
        "the sign of the scores is wrong: the best word must get most": mixed(-right),
    }


def drop_captions(ids, empty, share, generator):
    dropped = torch.rand(len(ids), 1, generator=generator) < share
    return torch.where(dropped, empty, ids)


# captions, their length, the share: so many that it is met to 0.025, four standard deviations
CAPTIONS = (6000, 5, 0.1), (7000, 3, 0.35), (8000, 4, 0.8)
CLOSE = 0.025


@check(reference=drop_captions)
def check_drop_captions(answer):
    for count, length, share in CAPTIONS:
        # no caption has a token of the empty one, and no two are alike
        ids = (torch.arange(count * length) * 7919 % 99991 + 100).view(count, length)
        empty = torch.arange(length).flip(0)[None] + 1
        got = follows_random_rows(answer, ids, empty, share)
        judge_share(rows_dropped(got, ids, empty), share)
        check_dtype(got, ids)


def follows_random_rows(answer, ids, empty, share):
    """The answer's result, once it is known to be a tensor of ids, from the generator alone."""
    # what is wrong with one result is told before what is wrong with its seed
    once = answer(ids, empty, share, generator())
    if isinstance(once, tuple):
        fail(f"return the ids alone: this is {describe(once)}")
    if not isinstance(once, torch.Tensor) or once.shape != ids.shape:
        # words for it, as it can't be right
        compare(once, ids)
    if torch.equal(once, ids):
        fail(f"no caption is dropped, a share of {share} is wanted")
    # all the same whatever the seed, which is no fault of the seed
    if torch.equal(once, empty.expand_as(ids)):
        judge_share(torch.ones(len(ids)), share)
    rows_dropped(once, ids, empty)
    return follows_generator(answer, lambda seeded: (ids, empty, share, seeded))


def rows_dropped(got, ids, empty):
    """Which rows became empty, (B,) bool, or why the rows are not the ids' or empty."""
    dropped = (got == empty).all(1)
    kept = (got == ids).all(1)
    strange = got[~(dropped | kept)]
    if not len(strange):
        return dropped
    # zeros, or one token in the place of all
    if (strange == strange[:, :1]).all():
        fail("a dropped caption becomes `empty`, not one number all along")
    in_part = (got == ids) | (got == empty)
    if in_part.all():
        fail("some captions are half dropped: one draw for a caption, not one for a token")
    fail("a row is neither a caption nor the empty one: captions are kept whole or replaced whole")


def judge_share(dropped, share):
    found = dropped.float().mean().item()
    if found in (0.0, 1.0):
        fail("all or nothing is dropped: one draw for a caption, not one for a batch")
    if abs(found - share) > CLOSE:
        if abs(found - (1 - share)) < CLOSE:
            fail("the wrong ones are dropped: those that should be kept, and not the others")
        if abs(found - 0.1) < CLOSE:
            fail(f"the share is the third argument, {share} here: a tenth is dropped all the same")
        fail(f"{found:.2f} of the captions are dropped, {share} is wanted")
    halves = dropped.float().unflatten(0, (2, -1)).mean(1)
    # a half has half as many, so its share is met less closely
    if (halves - share).abs().max() > 2 * CLOSE:
        fail("captions of one end of the batch are dropped: each has the same chance")


def word_map(recorded, token):
    every = [weights for calls in recorded.values() for weights in calls]
    mean = torch.stack(every).mean(0)                       # (B, positions, tokens)
    side = round(mean.shape[1]**0.5)
    return mean[..., token].unflatten(1, (side, side))


# batch, side, tokens, layers, calls, the token that is asked for: no two that could be mixed up
# are equal
RECORDINGS = (2, 4, 5, 3, 6, 3), (4, 3, 7, 2, 5, 2), (1, 5, 6, 2, 3, 4)


@check(reference=word_map, forbidden=[attention_maps.mean_attention_map])
def check_word_map(answer):
    for batch, side, tokens, layer_count, calls, token in RECORDINGS:
        # each layer has as many calls: a mean of means is the same
        maps = randn(layer_count, calls, batch, side**2, tokens).mul(2).softmax(-1)
        recorded = {f"layer {i}": list(maps[i]) for i in range(layer_count)}

        def square(weights, batch=batch, side=side):
            return weights.reshape(batch, side, side)

        mean = maps.mean((0, 1))
        want = square(mean[..., token])
        total = want.sum((1, 2), keepdim=True)
        answer.case((recorded, token), want, {
            "that is the last call of the last layer: all of them are wanted":
                square(maps[-1, -1, ..., token]),
            "that is the first call alone": square(maps[0, 0, ..., token]),
            "the last layer alone: the mean over all of them": square(maps[-1].mean(0)[..., token]),
            "the first layer alone: the mean over all of them": square(maps[0].mean(0)[..., token]),
            "each layer's last call: all calls are wanted": square(maps[:, -1].mean(0)[..., token]),
            "each layer's first call: all calls are wanted": square(maps[:, 0].mean(0)[..., token]),
            "the sum over calls and layers, the mean is wanted": layer_count * calls * want,
            "the sum over the layers, the mean is wanted": layer_count * want,
            "the sum over the calls, the mean is wanted": calls * want,
            "the largest over calls and layers, the mean is wanted":
                square(maps.amax((0, 1))[..., token]),
            "rows and columns changed places": want.mT,
            "the index counts from 0, and the start token is 0: this is the token before":
                square(mean[..., token - 1]),
            "the index counts from 0, and the start token is 0: this is the token after":
                square(mean[..., token + 1]),
            "the mean over all tokens: one token's": square(mean.mean(-1)),
            "the positions still stand in one row: they are a square": mean[..., token],
            "a map is the weights as they are: divided by their sum": want / total,
            "a map is the weights as they are: divided by their largest":
                want / want.amax((1, 2), keepdim=True),
            "each picture has its own map: this is the mean over the batch": want.mean(0),
            "the softmax has been taken already": square(mean.softmax(-1)[..., token]),
        }, where=f"{layer_count} layers, {calls} calls, {side} x {side} positions")


def centre(mass):
    place = torch.arange(mass.shape[-1])
    total = mass.sum((1, 2))
    x = (mass.sum(1) * place).sum(1) / total
    y = (mass.sum(2) * place).sum(1) / total
    return torch.stack([x, y], dim=1)


@check(reference=centre, forbidden=[scenes.centre_of_mass])
def check_centre(answer):
    # flat maps, whose centre is near the middle, and maps with one peak
    for batch, sharpness in (3, 1.0), (5, 4.0):
        mass = (sharpness * randn(batch, 8, 8)).exp()
        # each map has a mass of its own, far from 1
        mass = mass * torch.linspace(0.2, 3, batch)[:, None, None]
        want = centre(mass)
        total = mass.sum((1, 2))[:, None]
        largest = mass.amax((1, 2))[:, None]
        # the mass of one position alone: row and column of the largest
        peak = mass.flatten(1).argmax(1)
        above = (mass - mass.mean((1, 2), keepdim=True)).clamp(min=0)
        middle = torch.full((batch, 2), 3.5)
        answer.case((mass,), want, {
            "x and y changed places: the last axis is x": want.flip(1),
            "divide by the whole mass": want * total,
            "divide by the map's whole mass, not by the whole batch's": want * total / mass.sum(),
            "divide by the whole mass, not by its mean": want * 64,
            "divide by the whole mass, not by the number of positions": want * total / 64,
            "divide by the whole mass, not by the largest": want * total / largest,
            "divide by the whole mass, not by the side": want * total / 8,
            "divided by the whole mass twice": want / total,
            "the peak is one position, the centre weighs them all":
                torch.stack([peak % 8, peak // 8], 1).float(),
            "half a square off: positions are 0 ... 7": want + 0.5,
            "positions are 0 ... 7: these begin at 1": want + 1,
            "positions are 0 ... 7, not 0 ... 1": want / 7,
            "positions are 0 ... 7, not -1 ... 1": want / 3.5 - 1,
            "y grows downwards: row 0 is on top": torch.stack([want[:, 0], 7 - want[:, 1]], 1),
            "that is the middle of the picture": middle,
            "all the mass counts: here only what rises above the mean does": centre(above),
            "the masses are weights as they are: no softmax": centre(
                mass.flatten(1).softmax(1).view_as(mass)),
            "the masses are weights as they are: no squares": centre(mass.square()),
            "each map has a centre of its own: this is all maps'": centre(
                mass.sum(0, keepdim=True)).expand(batch, 2),
            "x comes first, then y, in the last axis: (B, 2)": want.mT,
            "whole numbers: the centre may lie between positions": want.round(),
            "whole numbers: the fraction was cut off": want.floor(),
        }, where=f"{batch} maps")
