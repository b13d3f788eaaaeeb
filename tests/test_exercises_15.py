"""Lesson 15's checks: the solution passes; the wrong answers that students give are told what is wrong."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from minildm import exercises
from minildm.diffusion.denoiser import to_x0
from minildm.nn.dit import DiT, DiTConfig


def tokens_of(channels, side, patch):
    return (side // patch)**2, channels * patch**2


def patch_cost(channels, side, patch, dim):
    return 2 * channels * side**2 * dim


def to_velocity(x0, x, t, low=0.05):
    return (x - x0) / t.clamp(min=low)[:, None, None, None]


def noise_left(values, width):
    return max(0, 1 - width / values)


def minutes_to(level, laps, line=True):
    if laps[0][1] <= level:
        return laps[0][0]
    for (a, high), (b, fd) in zip(laps[:-1], laps[1:], strict=True):
        if fd <= level:
            return a + (b - a) * (high - level) / (high - fd) if line else b
    return math.inf


def test_solutions_pass():
    exercises.check_tokens_of(tokens_of)
    exercises.check_patch_cost(patch_cost)
    exercises.check_to_velocity(to_velocity)
    exercises.check_noise_left(noise_left)
    exercises.check_minutes_to(minutes_to)


def test_the_checks_know_what_the_package_does():
    def macs(patch, depth, dim=32):
        with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
            DiT(DiTConfig(3, 3, dim, depth, 2, patch, 10))(torch.empty(1, 3, 8, 8), torch.empty(1),
                                                           torch.zeros(1, dtype=torch.long))
        return counter.get_total_flops() / 2

    beside = macs(8, 0) - patch_cost(3, 8, 8, 32)           # time and the last norm: once a picture
    assert macs(2, 0) - beside == patch_cost(3, 8, 2, 32)
    x, velocity = torch.randn(2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.1, 0.5, 1.0])
    at = t[:, None, None, None]
    torch.testing.assert_close(to_velocity(to_x0("flow", velocity, x, 1 - at, at), x, t), velocity)


TOKENS_OF = [
    ("all channels", lambda c, s, p: ((s // p)**2, p * p)),
    ("a square", lambda c, s, p: ((s // p)**2, c * p)),
    ("down as across", lambda c, s, p: (s // p, c * p * p)), ("first the tokens", lambda c, s, p: tokens_of(
        c, s, p)[::-1]), ("not pixels", lambda c, s, p: (s * s, c * p * p)),
    ("not of the picture", lambda c, s, p: ((s // p)**2, c * s * s)), ("two numbers", lambda c, s, p: s // p),
    ("is right", lambda c, s, p: (16, 192)), ("return", lambda c, s, p: None),
]
PATCH_COST = [
    ("two layers", lambda c, s, p, d: c * s * s * d), ("operations", lambda c, s, p, d: 4 * c * s * s * d),
    ("each token", lambda c, s, p, d: 2 * c * p * p * d), ("its channels", lambda c, s, p, d: 2 * s * s * d),
    ("parameters", lambda c, s, p, d: 2 * c * p * p * d + d + c * p * p),
    ("is right", lambda c, s, p, d: None),
]
TO_VELOCITY = [
    ("divides by 0.01", lambda x0, x, t, low=0.05: to_velocity(x0, x, t, 0)),
    ("wrong direction", lambda x0, x, t, low=0.05: -to_velocity(x0, x, t)),
    ("not by 1 - t", lambda x0, x, t, low=0.05: to_velocity(x0, x, 1 - t)),
    ("added", lambda x0, x, t, low=0.05: to_velocity(x0, x, t + low)),
    ("not the most", lambda x0, x, t, low=0.05: (x - x0) / t.clamp(max=low)[:, None, None, None]),
    ("not divided", lambda x0, x, t, low=0.05: x - x0),
    ("multiplies", lambda x0, x, t, low=0.05: (x - x0) * t.clamp(min=low)[:, None, None, None]),
    ("along the width", lambda x0, x, t, low=0.05: (x - x0) / t.clamp(min=low)),
    ("for the noise", lambda x0, x, t, low=0.05: to_velocity((1 - t[:, None, None, None]) * x0, x, t)),
    ("an argument", lambda x0, x, t, low=0.05: to_velocity(x0, x, t)),
    ("return", lambda x0, x, t, low=0.05: None),
]
NOISE_LEFT = [
    ("can be removed", lambda v, w: min(1, w / v)), ("at least 0", lambda v, w: 1 - w / v),
    ("not their number", lambda v, w: max(0, v - w)), ("not of the width", lambda v, w: max(0, v - w) / w),
    ("square root", lambda v, w: noise_left(v, w)**0.5), ("is right", lambda v, w: None),
]
MINUTES_TO = [
    ("straight line", lambda level, laps: minutes_to(level, laps, line=False)),
    ("first time", lambda level, laps: max([m for m, fd in laps if fd >= level], default=3.0)),
    ("first time", lambda level, laps: 4.0),
    ("first lap", lambda level, laps: 0.0 if level > 80 else minutes_to(level, laps)),
    ("infinity", lambda level, laps: 18.0 if level < 20 else minutes_to(level, laps)),
    ("just there", lambda level, laps: 5.0 if level == 60 else minutes_to(level, laps)),
    ("is right", lambda level, laps: None),
]
ANSWERS = {"tokens_of": TOKENS_OF, "patch_cost": PATCH_COST, "to_velocity": TO_VELOCITY,
           "noise_left": NOISE_LEFT, "minutes_to": MINUTES_TO}
WRONG = [(name, *row) for name, rows in ANSWERS.items() for row in rows]


@pytest.mark.parametrize("name, said, answer", WRONG)
def test_wrong_answers_are_told_the_cause(name, said, answer):
    with pytest.raises(AssertionError, match=said):
        getattr(exercises, f"check_{name}")(answer)
