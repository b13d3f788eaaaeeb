"""The checks of lesson 15."""

import math

import torch

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import equal, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check

EXACT = 1e-9    # of counts, as float64 has them


def tokens_of(channels, side, patch):
    return (side // patch)**2, channels * patch**2


@check(reference=tokens_of)
def check_tokens_of(answer):
    for channels, side, patch in (3, 32, 8), (7, 15, 3), (5, 42, 6), (2, 7, 1), (4, 6, 6):
        across, square = side // patch, patch**2
        tokens, numbers = across**2, channels * square
        equal(answer(channels, side, patch), (tokens, numbers), {
            "a token has all channels of its patch": (tokens, square),
            "a patch is a square, patch x patch": (tokens, channels * patch),
            "there are as many tokens down as across": (across, numbers),
            "tokens are counted across and down, once each": (2 * across, numbers),
            "first the tokens, then the numbers in each": (numbers, tokens),
            "tokens are not pixels: each stands for patch x patch of them": (side**2, numbers),
            "the second is of one token, not of the picture": (tokens, channels * side**2),
            "a patch has both sides in it: side over patch, each way": (side**2 // patch, numbers),
            "channels lie in the tokens: there are no more of these for them":
                (channels * tokens, square),
            "channels lie in the tokens: there are no more of these for them, yet more in each":
                (channels * tokens, numbers),
            "patches don't overlap": ((side - patch + 1)**2, numbers),
            "the patch's side isn't the number of patches": (patch**2, channels * across**2),
            "no token is added for the class": (tokens + 1, numbers),
            "the numbers in a token depend on the patch, not on the width of the map":
                (tokens, channels * side),
            "two numbers: tokens, and the numbers in each": (tokens,),
        }, where=f"{channels} x {side} x {side} in patches of {patch}")


def patch_cost(channels, side, patch, dim):
    tokens, values = tokens_of(channels, side, patch)
    return 2 * tokens * values * dim


@check(reference=patch_cost)
def check_patch_cost(answer):
    cases = (3, 32, 8, 128), (7, 15, 3, 20), (5, 42, 6, 33), (4, 9, 1, 10), (2, 6, 6, 7)
    for channels, side, patch, dim in cases:
        tokens, values = tokens_of(channels, side, patch)
        across = side // patch
        one = values * dim
        want = torch.tensor(2 * tokens * one, dtype=torch.float64)
        answer.case((channels, side, patch, dim), want, {
            "there are two layers, one that reads and one that writes": tokens * one,
            "these are operations: a multiply-add counts once": 4 * tokens * one,
            "each token goes through the layers": 2 * one,
            "there are as many tokens down as across": 2 * across * one,
            "a patch has all its channels": 2 * tokens * patch**2 * dim,
            "a patch is a square, patch x patch": 2 * tokens * channels * patch * dim,
            "each pixel doesn't go through the layers: a token does": 2 * side**2 * one,
            "these are the parameters with biases, not the work": 2 * one + dim + values,
            "a bias is added, not multiplied": 2 * tokens * one + tokens * (dim + values),
            "a bias is added, not multiplied, in the first layer, too": 2 * tokens * (one + dim),
            "the second layer goes back to a patch's numbers: it isn't dim x dim":
                tokens * (one + dim**2),
            "the second layer writes a whole patch, not a pixel":
                tokens * (one + dim * channels),
            "the layers' width is dim: it is missing": 2 * tokens * values,
            "dim stands for one side of the matrix, a patch's numbers for the other":
                2 * tokens * dim**2,
            "the layers are two, one after the other: their work is added": tokens * one**2,
            "tokens don't look at each other here: that is attention's work":
                2 * tokens**2 * one,
            "the numbers in a token are counted twice": 2 * tokens * values**2 * dim,
        }, tol=EXACT, where=f"{channels} x {side} x {side}, patches of {patch}, width {dim}")


def to_velocity(x0, x, t, low=0.05):
    return (x - x0) / t.clamp(min=low)[:, None, None, None]


@check(reference=to_velocity)
def check_to_velocity(answer):
    # as many pictures as columns at first: times along the width give a wrong result, not an error
    cases = [((4, 2, 5, 4), [0.6, 0.01, 0.2, 1.0], ()),
             ((3, 5, 2, 4), [0.9, 0.03, 0.5], (0.3,)),
             ((5, 1, 3, 2), [0.0, 0.04, 0.3, 0.03, 0.8], (0.02,)),
             ((1, 3, 4, 2), [0.003], ())]
    for shape, times, low in cases:
        x0, noise = randn(*shape), randn(*shape, seed=1)
        t = torch.tensor(times)
        at = t[:, None, None, None]
        x = (1 - at) * x0 + at * noise
        # far from exact, as a network's guess is: at t = 0 the true difference is 0
        x0 = x0 + 0.3 * randn(*shape, seed=2)
        x0.requires_grad_()
        least = low[0] if low else 0.05
        want = (x - x0) / at.clamp(min=least)
        likely = wrong_velocities(x0.detach(), x, t, least)
        where = f"low = {least}" if low else "low as it is by default"
        got = answer.case((x0, x, t, *low), want, likely, where=where)
        compare_gradients(got, want, x0=x0)


def wrong_velocities(x0, x, t, low):
    at = t[:, None, None, None]
    safe = at.clamp(min=low)
    way = x - x0
    likely = {
        "`low` is an argument: it isn't 0.05 always": way / at.clamp(min=0.05),
        "at t near 0 it divides by next to nothing: t is taken as `low` there": way / at,
        "wrong direction: it points from data to noise, as t does": -way / safe,
        "wrong direction: it points from data to noise, and t isn't taken as `low`": -way / at,
        "time runs from data to noise here: not by 1 - t": way / (1 - at).clamp(min=low),
        "time runs from data to noise here: not by 1 - t, nor by next to nothing":
            way / (1 - at),
        "`low` is added to t, not the least that t can be": way / (at + low),
        "`low` is the least, not the most, that t can be": way / at.clamp(max=low),
        "all are divided by `low`: t is that only where it is less": way / low,
        "the difference is not divided by t": way,
        "it multiplies where it should divide": way * safe,
        "the division is by t, not by its square": way / safe.square(),
        "the division is by t, not by its root": way / safe.sqrt(),
        "where t is less than `low` the velocity isn't 0":
            torch.where(at < low, torch.zeros_like(way), way / safe),
        "where t is less than `low` the division goes on, by `low`":
            torch.where(at < low, way, way / safe),
        "this is the noise: data is taken out whole": (x - (1 - at) * x0) / safe,
        "noise less data is right, yet this noise is not x": x - x0 / safe,
        "noise less data: this is noise plus data": (x - (1 - at) * x0) / safe + x0,
        "x is noisy data: both are divided by t": x / safe - x0,
        "it is a difference, not a sum": (x + x0) / safe,
        "all pictures got the first one's time": way / t[0].clamp(min=low),
        "all pictures got the mean time": way / t.mean().clamp(min=low),
        "the velocity has no bounds of its own": (way / safe).clamp(-1, 1),
        "the velocity's least is not `low`: t's is": (way / at).clamp(min=low),
    }
    if x.shape[-1] == len(t):
        likely["t lies along the width: a picture has one time"] = way / t.clamp(min=low)
    return likely


def noise_left(values, width):
    return max(0, values - width) / values


@check(reference=noise_left)
def check_noise_left(answer):
    for values, width in (192, 128), (300, 100), (64, 129), (48, 48), (75, 7):
        want = max(0, values - width) / values
        answer.case((values, width), torch.tensor(want, dtype=torch.float64), {
            "that is what can be removed": min(values, width) / values,
            "a share of all the patch's directions, not their number": max(0, values - width),
            "the share is of the patch's values, not of the width": max(0, values - width) / width,
            "a network wider than the patch leaves nothing: at least 0": (values - width) / values,
            "a network wider than the patch leaves nothing: no absolute value":
                abs(values - width) / values,
            "that is the width over the values: what it can't reach is left": width / values,
            "that is the values over the width": values / width,
            "the share is of all values, not of both together":
                max(0, values - width) / (values + width),
            "variance goes by directions: no square root": math.sqrt(want),
            "variance goes by directions: no square": want**2,
            "each direction has its share of variance: no squares of numbers":
                max(0, values**2 - width**2) / values**2,
            "in per cent: a share is at most 1": 100 * want,
            "all of it stays as drawn only with no width": 1.0,
            "a network narrower than the patch leaves something: whole numbers would cut it off":
                0.0,
            "values and width changed places": max(0, width - values) / width,
        }, tol=1e-6, where=f"{values} values and width {width}")


CURVES = [
    [(3.0, 80.0), (4.0, 60.0), (6.0, 40.0), (10.0, 50.0), (18.0, 20.0)],    # up again, once
    [(2.5, 91.0), (7.0, 33.0)],
    [(1.0, 70.0), (2.0, 70.0), (5.0, 64.0), (6.0, 90.0), (7.5, 12.0), (9.0, 30.0), (11.0, 5.0)],
    [(4.0, 25.0)],
]
# of which curve, the level, and what is special there
QUESTIONS = [
    (0, 50.0, "half way down is half way along"),
    (0, 75.0, "a quarter of the way down is a quarter along"),
    (0, 60.0, "a lap that is just there counts"),
    (0, 30.0, "between the last laps, after the curve went up"),
    (0, 90.0, "the first lap is there already, before it nothing was measured"),
    (0, 80.0, "the first lap is just there"),
    (0, 10.0, "infinity, if no lap gets there"),
    (1, 47.0, "two laps"),
    (1, 33.0, "the last lap is just there"),
    (2, 66.0, "two laps were alike"),
    (2, 20.0, "the first time counts, later laps go up and down again"),
    (2, 5.0, "the last lap is just there"),
    (3, 30.0, "one lap, which is there"),
    (3, 10.0, "one lap, which isn't there: infinity"),
]


def minutes_to(level, laps):
    before = None
    for minutes, fd in laps:
        if fd <= level:
            return minutes if before is None else crossing(before, (minutes, fd), level)
        before = minutes, fd
    return math.inf


def crossing(before, after, level):
    """Return when the straight line from a lap to the next is at level."""
    share = (before[1] - level) / (before[1] - after[1])
    return before[0] + share * (after[0] - before[0])


@check(reference=minutes_to)
def check_minutes_to(answer):
    for number, level, special in QUESTIONS:
        laps = CURVES[number]
        want = minutes_to(level, laps)
        got = answer(level, laps)
        if got is None and want == math.inf:
            fail("nothing is returned if no lap gets there: infinity is wanted")
        likely = wrong_minutes(level, laps)
        equal(got, want, likely, where=f"level {level:g}, laps {laps}, where {special}")


def wrong_minutes(level, laps):
    minutes = [lap[0] for lap in laps]
    there = [i for i, lap in enumerate(laps) if lap[1] <= level]
    if not there:
        return {
            "no lap gets there: that is the last lap's time": minutes[-1],
            "no lap gets there: infinity, not 0": 0,
            "no lap gets there: infinity, not -1": -1,
            "no lap gets there: minus infinity would be before all": -math.inf,
            "no lap gets there: that is when the line through the last laps would":
                beyond(level, laps),
        }
    first, last = there[0], there[-1]
    if first == 0:
        return {
            "the first lap is there already: its minutes, not 0": 0,
            "the first lap is there already: its minutes, not infinity": math.inf,
            "the first lap is there already: nothing was measured before it":
                beyond(level, laps, 0),
            "the first lap is there already: that is when the curve is last there": minutes[last],
        }
    return wrong_on_the_way(level, laps, first, minutes[last])


def wrong_on_the_way(level, laps, first, last_time):
    """Causes and results where lap number `first`, not the first of all, is the first there."""
    before, after = laps[first - 1], laps[first]
    # a curve that ends as high as it began has no such line
    ends = crossing(laps[0], laps[-1], level) if laps[0][1] != laps[-1][1] else math.inf
    share = (before[1] - level) / (before[1] - after[1])
    apart = after[0] - before[0]
    missed = "a lap that is just there counts" if level == after[1] else "it does get there"
    return {
        "between laps the curve is a straight line: it gets there before that lap": after[0],
        "between laps the curve is a straight line: that lap isn't there yet": before[0],
        "that is the share of the way between two laps": share,
        "those are the minutes since the lap before": share * apart,
        "the share of the way is taken from the other end": after[0] - share * apart,
        "that is the middle between two laps": (before[0] + after[0]) / 2,
        "the first time counts: that is the last lap that is there": last_time,
        "that is the number of the lap: its minutes count": first,
        "one straight line from the first lap to the last: it goes from lap to lap":
            ends,
        missed: math.inf,
        "the first lap isn't there yet": laps[0][0],
    }


def beyond(level, laps, at=-2):
    """Return when the straight line through two laps, drawn on, would be at level."""
    if len(laps) < 2 or laps[at][1] == laps[at + 1][1]:
        return math.inf
    return crossing(laps[at], laps[at + 1], level)
