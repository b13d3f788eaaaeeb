"""The checks of lesson 15."""

import math

import torch

from minildm.course.exercises.legacy import compare, fail, passed, randn


def check_tokens_of(f):
    name = "tokens_of"
    for channels, side, patch in (3, 32, 8), (16, 8, 2), (4, 16, 4), (1, 6, 1):
        across, square = side // patch, patch**2
        want = across**2, channels * square
        got = f(channels, side, patch)
        if got is None:
            fail(name, "your function returned None: is the `return` missing?")
        try:
            got = tuple(got)
        except TypeError:
            fail(name, "return two numbers: tokens, and the numbers in each")
        for cause, wrong in {
                "a token has all channels of its patch": (across**2, square),
                "a patch is a square, patch x patch": (across**2, channels * patch),
                "there are as many tokens down as across": (across, channels * square),
                "first the tokens, then the numbers in each": (channels * square, across**2),
                "tokens are not pixels: each stands for patch x patch of them": (side**2, channels * square),
                "the second is of one token, not of the picture": (across**2, channels * side**2)}.items():
            if got == wrong != want:
                fail(name, cause)
        if got != want:
            fail(name, f"{got} for {channels} x {side} x {side} in patches of {patch}, {want} is right")
    passed(name)


def check_patch_cost(f):
    name = "patch_cost"
    for channels, side, patch, dim in (3, 32, 8, 128), (16, 8, 2, 96), (4, 16, 1, 64):
        values, tokens, got = channels * patch**2, (side // patch)**2, f(channels, side, patch, dim)
        want = 2 * tokens * values * dim
        for cause, wrong in {
                "there are two layers, one that reads and one that writes": want // 2,
                "these are operations: a multiply-add counts once": 2 * want,
                "each token goes through the layers": 2 * values * dim,
                "a patch has all its channels": 2 * tokens * patch**2 * dim,
                "these are the parameters with biases, not the work":
                    2 * values * dim + dim + values}.items():
            if got == wrong != want:
                fail(name, cause)
        if got != want:
            fail(name, f"{got} for {channels} x {side} x {side}, patches of {patch}, width {dim}; "
                       f"{want} is right")
    passed(name)


def check_to_velocity(f):
    name, data, noise = "to_velocity", randn(4, 2, 4, 4), randn(4, 2, 4, 4, seed=1)
    t = torch.tensor([0.01, 0.2, 0.6, 1.0])
    at = t[:, None, None, None]
    x = (1 - at) * data + at * noise

    def way(by, sign=1):
        return sign * (x - data) / by

    low = at.clamp(min=0.05)
    compare(name, f(data, x, t), way(low), {
        "at t = 0.01 it divides by 0.01: take t as `low` there": way(at),
        "wrong direction: it points from data to noise, as t does": way(low, -1),
        "time runs from data to noise here: divide by t, not by 1 - t": way((1 - at).clamp(min=0.05)),
        "`low` is added to t, not the least that t can be": way(at + 0.05),
        "`low` is the least, not the most: clamp(min=low)": way(at.clamp(max=0.05)),
        "the difference is not divided by t": way(torch.ones_like(at)),
        "it multiplies where it should divide": (x - data) * low,
        "t lies along the width: give it three axes of length 1": (x - data) / t.clamp(min=0.05),
        "this is for the noise: x - (1 - t) x0, over t": (x - (1 - at) * data) / low})
    if not torch.allclose(f(data, x, t, 0.3), way(at.clamp(min=0.3)), atol=1e-4):
        fail(name, "`low` is an argument: 0.05 only if nothing else is said")
    passed(name)


def check_noise_left(f):
    name = "noise_left"
    for values, width in (192, 128), (300, 100), (64, 128), (48, 48):
        got, want = f(values, width), max(0, values - width) / values
        for cause, wrong in {
                "that is what can be removed": min(values, width) / values,
                "a network wider than the patch leaves nothing: at least 0": (values - width) / values,
                "a share of all the patch's directions, not their number": max(0, values - width),
                "the share is of the patch's values, not of the width": max(0, values - width) / width,
                "variance goes by directions: no square root": math.sqrt(want)}.items():
            if got is not None and math.isclose(got, wrong) and not math.isclose(wrong, want):
                fail(name, cause)
        if got is None or not math.isclose(got, want, abs_tol=1e-9):
            fail(name, f"{got} for {values} values and width {width}, {want:.3f} is right")
    passed(name)


def check_minutes_to(f):
    name, laps = "minutes_to", [(3.0, 80.0), (4.0, 60.0), (6.0, 40.0), (10.0, 50.0), (18.0, 20.0)]
    if math.isclose(f(50.0, laps) or 0, 6.0):
        fail(name, "between laps the curve is a straight line: 50 is reached before the lap that has 40")
    if f(50.0, laps) in (10.0, 4.0):
        fail(name, "the first time counts, and between laps the curve is a straight line")
    for level, want, cause in ((50.0, 5.0, "half way down is half way along"),
                               (75.0, 3.25, "a quarter of the way down is a quarter along"),
                               (60.0, 4.0, "a lap that is just there counts"),
                               (30.0, 10 + 8 * 2 / 3, "between the last laps, after the curve went up"),
                               (90.0, 3.0, "the first lap is there already, before it nothing was measured"),
                               (10.0, math.inf, "infinity, if no lap gets there")):
        got = f(level, laps)
        if got is None or not math.isclose(got, want):
            fail(name, f"{got} for level {level:g}, {want:.2f} is right: {cause}")
    passed(name)
