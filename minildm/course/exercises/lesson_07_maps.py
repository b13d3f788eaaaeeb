"""The checks of lesson 07 on what attention shows: maps, drawing, and where a word points."""

import torch
from torch import nn

from minildm.course import shapes
from minildm.course.exercises.compare import compare, describe, fail
from minildm.course.exercises.fakes import randn, uniform, warped
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_07_net import attentions
from minildm.diffusion import samplers
from minildm.diffusion.schedules import cosine, expand
from minildm.nn import attention_maps


def word_maps(network):
    seen = torch.stack([layer.seen for layer in attentions(network)]).mean(0)     # (B, L, M)
    side = round(seen.shape[1]**0.5)
    return seen.mT.unflatten(2, (side, side))                                     # (B, M, h, w)


class Seen(nn.Module):
    """A block whose attention has seen something: weights (B, L, M)."""

    def __init__(self, weights):
        super().__init__()
        self.attention = nn.Module()
        self.attention.seen = weights


class TwoBlocks(nn.Module):
    """A fake network with two blocks; called, it answers, and its blocks see something new."""

    def __init__(self, weights=(None, None), side: int = 4):
        super().__init__()
        self.ask1, self.ask2 = (Seen(one) for one in weights)
        self.side, self.calls = side, []

    def forward(self, x, t, ids, said=None):
        t = torch.as_tensor(t)
        self.calls.append(t.clone())
        said = ids if said is None else said
        told = (ids + 2 * said).float()
        scores = x.flatten(1)[:, :self.side**2, None].sin() * told[:, None] + t.reshape(-1, 1, 1)
        self.ask1.attention.seen = scores.softmax(-1).detach()
        self.ask2.attention.seen = (3 * scores).softmax(-1).detach()
        # beyond -1 and 1 as well: nobody asked for a clamp
        return 2 * torch.sin(x) * (0.5 + expand(t, x)) + 0.1 * expand(told.cos().mean(1), x)


@check(reference=word_maps, forbidden=[attention_maps.mean_attention_map])
def check_word_maps(answer):
    for batch, side, words in (2, 4, 5), (3, 3, 7), (1, 5, 3):
        first, second = randn(2, batch, side**2, words).mul(2).softmax(-1)
        mean = (first + second) / 2

        def square(seen, side=side):
            return seen.mT.unflatten(2, (side, side))

        want = square(mean)
        network = TwoBlocks((first.clone(), second.clone()))
        got = answer(network)
        if not (torch.equal(network.ask1.attention.seen, first)
                and torch.equal(network.ask2.attention.seen, second)):
            fail("what the blocks have seen was changed in place: a second look finds another map")
        compare(got, want, {
            "the first block alone: the mean of both": square(first),
            "the second block alone: the mean of both": square(second),
            "the sum of both blocks, the mean is wanted": 2 * want,
            "rows and columns changed places": want.mT,
            "the positions still stand in one row: they are a square, row by row": mean.mT,
            "positions and words changed places: (B, words, rows, columns)": mean,
            "(B, words, rows, columns): the words come last here": square(mean).permute(0, 2, 3, 1),
            "reshape alone mixes words and positions: swap the axes first":
                mean.reshape(batch, words, side, side),
            "the weights as they are: divided by their sum":
                want / want.sum((2, 3), keepdim=True),
            "the weights as they are: divided by their largest":
                want / want.amax((2, 3), keepdim=True),
            "each picture has its own maps: this is the mean over the batch": want.mean(0),
        }, where=f"{side} x {side} positions, {words} words")
        answer.right += 1


# ---- drawing -------------------------------------------------------------------------------------

def draw_watched(network, schedule, noise, ts, ids, said=None):
    x, maps = noise, []
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        x0 = network(x, t, ids, said)
        maps.append(word_maps(network))
        eps = (x - schedule.alpha(t) * x0) / schedule.sigma(t)
        x = schedule.alpha(s) * x0 + schedule.sigma(s) * eps
    return x, torch.stack(maps).mean(0)


@check(reference=draw_watched, forbidden=[samplers.ddim])
def check_draw_watched(answer):
    for schedule, times, batch in (cosine, [1.0, 0.7, 0.25, 0.0], 2), (warped, [0.9, 0.35, 0.1], 3):
        noise, ts = randn(batch, 2, 4, 4), torch.tensor(times)
        ids = (uniform(batch, 5, seed=4) * 9).long()
        said = ids.roll(1, 1)
        network = TwoBlocks()
        result = answer(network, schedule, noise, ts, ids, None)
        if not isinstance(result, tuple | list) or len(result) != 2:
            fail(f"return two things, the pictures and the maps: this is {describe(result)}")
        if len(network.calls) != len(ts) - 1:
            fail(f"the network is asked {len(network.calls)} times in {len(ts) - 1} steps: "
                 "once in each")
        judge_drawn(result, schedule, noise, ts, (ids, None))
        judge_drawn(answer(TwoBlocks(), schedule, noise, ts, ids, said), schedule, noise, ts,
                    (ids, said))
        answer.right += 1


def judge_drawn(result, schedule, noise, ts, told):
    """Raise Wrong unless the pictures and the maps are the reference's."""
    picture, maps = draw_watched(TwoBlocks(), schedule, noise, ts, *told)
    last, every = drawn_with_maps(schedule, noise, ts, told)
    swapped = draw_watched(TwoBlocks(), schedule, noise, ts, told[1], told[0]) \
        if told[1] is not None else (noise, maps)
    where = "with `said`" if told[1] is not None else f"{len(ts) - 1} steps"
    compare(result[0], picture, {
        "the guesses are taken as they are: no clamp":
            drawn_with(schedule, noise, ts, told, "clamp"),
        "that is the last guess of the clean picture: the last step is missing": last,
        "that is the noise: x changes with every step": noise,
        "ids and said changed places: the keys come from ids": swapped[0],
        "`said` is left aside: hand it on to the network":
            draw_watched(TwoBlocks(), schedule, noise, ts, told[0])[0],
        "noise of t, not of s, is mixed in": drawn_with(schedule, noise, ts, told, "t"),
        "the noise is not eps: eps = (x - alpha x0) / sigma":
            drawn_with(schedule, noise, ts, told, "x"),
    }, where=where)
    compare(result[1], maps, {
        "ids and said changed places: the maps are of ids": swapped[1],
        "the maps of the last step alone: the mean over the steps": every[-1],
        "the maps of the first step alone: the mean over the steps": every[0],
        "the sum over the steps, the mean is wanted": every.sum(0),
        "all steps' maps: their mean is wanted": every,
    }, where=f"the maps, {where}")


def drawn_with_maps(schedule, noise, ts, told):
    """The last guess, and the maps of all steps."""
    network, x, maps = TwoBlocks(), noise, []
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        x0 = network(x, t, *told)
        maps.append(word_maps(network))
        eps = (x - schedule.alpha(t) * x0) / schedule.sigma(t)
        x = schedule.alpha(s) * x0 + schedule.sigma(s) * eps
    return x0, torch.stack(maps)


def drawn_with(schedule, noise, ts, told, mistake: str):
    """A loop with a mistake: "t", the old noise level, "x", x in place of eps, or "clamp"."""
    network, x = TwoBlocks(), noise
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        x0 = network(x, t, *told)
        x0 = x0.clamp(-1, 1) if mistake == "clamp" else x0
        eps = (x - schedule.alpha(t) * x0) / schedule.sigma(t)
        if mistake == "x":
            eps = x
        x = schedule.alpha(s) * x0 + schedule.sigma(t if mistake == "t" else s) * eps
    return x


# ---- pointing ------------------------------------------------------------------------------------

def points_at(maps, columns, centres):
    best = maps.flatten(2).argmax(2).gather(1, columns)                           # (B, K)
    width = maps.shape[-1]
    cell = shapes.SIZE // width
    x, y = best % width * cell + cell / 2, best // width * cell + cell / 2
    return shapes.inside(torch.stack([x, y], dim=2), centres)


@check(reference=points_at)
def check_points_at(answer):
    for batch, words, things in (300, 8, 2), (400, 5, 3):
        maps = randn(batch, words, 8, 8).mul(2).exp()
        columns = (uniform(batch, things, seed=2) * words).long()
        # centres near the peaks, so that hits and misses are about equally many
        best = maps.flatten(2).argmax(2).gather(1, columns)
        peak = torch.stack([best % 8, best // 8], 2) * 2 + 1
        centres = (peak + 3 * randn(batch, things, 2, seed=3)).round().long().clamp(3, 12)
        want = points_at(maps, columns, centres)

        def hits(x, y, centres=centres):
            return shapes.inside(torch.stack([x, y], 2), centres)

        column, row = (best % 8).float(), (best // 8).float()
        answer.case((maps, columns, centres), want, {
            "x and y changed places: columns are x": hits(2 * row + 1, 2 * column + 1),
            "cells of the map are 2 pixels wide: this compares cells with pixels":
                hits(column, row),
            "the middle of a cell is one pixel further: 2 x column + 1":
                hits(2 * column, 2 * row),
            "the middle of a cell is 2 x column + 1": hits(2 * column + 2, 2 * row + 2),
            "y grows downwards: row 0 is on top": hits(2 * column + 1, 15 - 2 * row),
            "hits and misses changed places": ~want,
            "that is the place where the map is least": points_at(-maps, columns, centres),
        }, where=f"{things} things")
