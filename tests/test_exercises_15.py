"""Lesson 15's checks: right answers in any style pass; wrong ones are told what is wrong."""

import re

import pytest
import torch
from support.answers import right_and_wrong, told, written
from torch.utils.flop_counter import FlopCounterMode

from minildm.course.exercises.lesson_15 import patch_cost, to_velocity
from minildm.diffusion.denoiser import to_x0
from minildm.nn.dit import DiT, DiTConfig

AT = "at = t.clamp(min=low)[:, None, None, None]\n"
LAPS = """
before = None
for minutes, fd in laps:
    if fd <= level:
        if before is None:
            return {first}
        share = (before[1] - level) / (before[1] - fd)
        return {between}
    before = minutes, fd
return {never}
"""
PARTS = {"first": "minutes", "between": "before[0] + share * (minutes - before[0])",
         "never": "float('inf')"}


def laps(**changed):
    return LAPS.format(**PARTS | changed)


def defaults(body, low=0.05):
    """A to_velocity whose `low` has a default, as in the stub."""
    answer = written("to_velocity", body)
    answer.__defaults__ = (low,)
    return answer


RIGHT = [
    ("tokens_of", "(side // patch)**2, channels * patch**2"),
    ("tokens_of", "return [side**2 // patch**2, channels * patch * patch]"),
    ("tokens_of", "x = torch.zeros(1, channels, side, side)\n"
                  "return F.unfold(x, patch, stride=patch).shape[:0:-1]"),
    ("patch_cost", "2 * (side // patch)**2 * channels * patch**2 * dim"),
    ("patch_cost", "2 * channels * side * side * dim"),
    ("patch_cost", "total = 0\nfor _ in range(0, side, patch):\n"
     "    for _ in range(0, side, patch):\n"
                   "        total += channels * patch**2 * dim + dim * channels * patch**2\n"
                   "return total"),
    ("to_velocity", AT + "return (x - x0) / at"),
    ("to_velocity", "t = torch.where(t < low, torch.full_like(t, low), t)\n"
                    "return torch.einsum('bchw,b->bchw', x - x0, 1 / t)"),
    ("to_velocity", "return torch.stack([(a - b).double() / max(s, low)"
                    " for a, b, s in zip(x, x0, t.tolist())]).float()"),
    ("noise_left", "max(0, values - width) / values"),
    ("noise_left", "return max(0.0, 1 - width / values)"),
    ("noise_left", "if width >= values:\n    return 0\nreturn (values - width) / values"),
    ("noise_left", "return F.relu(torch.tensor(1 - width / values))"),
    ("minutes_to", laps()),
    ("minutes_to", """
        if laps[0][1] <= level:
            return laps[0][0]
        for (a, high), (b, low) in zip(laps, laps[1:]):
            if high > level >= low:
                return ((high - level) * b + (level - low) * a) / (high - low)
        return math.inf
     """),
    ("minutes_to", """
        times, levels = torch.tensor(laps, dtype=torch.float64).unbind(1)
        there = (levels <= level).nonzero().flatten()
        if not len(there):
            return torch.tensor(math.inf)
        i = there[0]
        if i == 0:
            return times[0]
        share = (levels[i - 1] - level) / (levels[i - 1] - levels[i])
        return torch.lerp(times[i - 1], times[i], share)
     """),
]

WRONG_TOKENS = [
    ("all channels", "return (side // patch)**2, patch**2"),
    ("square", "return (side // patch)**2, channels * patch"),
    ("down as across", "return side // patch, channels * patch**2"),
    ("once each", "return 2 * (side // patch), channels * patch**2"),
    ("first the tokens", "return channels * patch**2, (side // patch)**2"),
    ("not pixels", "return side**2, channels * patch**2"),
    ("not of the picture", "return (side // patch)**2, channels * side**2"),
    ("each way", "return side**2 // patch, channels * patch**2"),
    ("in the tokens", "return channels * (side // patch)**2, patch**2"),
    ("yet more", "return channels * (side // patch)**2, channels * patch**2"),
    ("overlap", "return (side - patch + 1)**2, channels * patch**2"),
    ("number of patches", "return patch**2, channels * (side // patch)**2"),
    ("for the class", "return (side // patch)**2 + 1, channels * patch**2"),
    ("width of the map", "return (side // patch)**2, channels * side"),
    ("two numbers|tuple", "return (side // patch)**2"),
    ("should be", "return 16, 192"),
    ("should be", "return 16, channels * patch**2"),
    ("should be", "return (side // patch)**2, 3 * patch**2"),
    ("None", "(side // patch)**2, channels * patch**2\nreturn"),
    ("should be", "return (side // patch)**2, channels * patch**2, 1"),
    ("not a tuple|should be|a dict", "return {'tokens': (side // patch)**2}"),
    ("raised", "return (side // patches)**2"),
]
COST = "tokens, values = (side // patch)**2, channels * patch**2\nreturn "
WRONG_COST = [
    ("a whole patch", COST + "tokens * (values * dim + dim * channels)"),
    ("two layers", COST + "tokens * values * dim"),
    ("operations", COST + "4 * tokens * values * dim"),
    ("each token", COST + "2 * values * dim"),
    ("down as across", COST + "2 * (side // patch) * values * dim"),
    ("its channels", COST + "2 * tokens * patch**2 * dim"),
    ("square", COST + "2 * tokens * channels * patch * dim"),
    ("each pixel", COST + "2 * side**2 * values * dim"),
    ("parameters", COST + "2 * values * dim + dim + values"),
    ("bias", COST + "2 * tokens * values * dim + tokens * (dim + values)"),
    ("bias", COST + "2 * tokens * (values * dim + dim)"),
    ("dim x dim", COST + "tokens * (values * dim + dim * dim)"),
    ("dim: it is missing", COST + "2 * tokens * values"),
    ("one side", COST + "2 * tokens * dim * dim"),
    ("added", COST + "tokens * values * dim * dim * values"),
    ("attention", COST + "2 * tokens**2 * values * dim"),
    ("counted twice", COST + "2 * tokens * values**2 * dim"),
    ("should be", COST + "2 * 16 * values * dim"),
    ("should be", "return 2 * 3 * side**2 * dim"),
    ("should be", COST + "2 * tokens * values * 128"),
    ("None", COST.replace("return ", "") + "2 * tokens * values * dim\nreturn"),
    ("should be", COST + "2 * (tokens + values) * dim"),
    ("should be|tuple", COST + "(tokens * values * dim, tokens * values * dim)"),
    ("NaN", COST + "float('nan')"),
]
WRONG_VELOCITY = [
    ("next to nothing", "return (x - x0) / t[:, None, None, None]"),
    ("low` is an argument", "return (x - x0) / t.clamp(min=0.05)[:, None, None, None]"),
    ("wrong direction", AT + "return (x0 - x) / at"),
    ("wrong direction", "return (x0 - x) / t[:, None, None, None]"),
    ("not by 1 - t", "return (x - x0) / (1 - t).clamp(min=low)[:, None, None, None]"),
    ("differs|the factor of", "return (x - x0) / (1 - t + 1e-6)[:, None, None, None]"),
    ("added", "return (x - x0) / (t + low)[:, None, None, None]"),
    ("not the most", "return (x - x0) / t.clamp(max=low)[:, None, None, None]"),
    ("divided by `low`", "return (x - x0) / low"),
    ("not divided by t", "return x - x0"),
    ("multiplies", AT + "return (x - x0) * at"),
    ("its square", AT + "return (x - x0) / at**2"),
    ("its root", AT + "return (x - x0) / at.sqrt()"),
    ("isn't 0", AT + "v = (x - x0) / at\nv[t < low] = 0\nreturn v"),
    ("goes on", "v = x - x0\nreturn torch.where((t < low)[:, None, None, None], v,"
                " v / t[:, None, None, None])"),
    ("goes on", "t = torch.where(t < low, torch.ones_like(t), t)\n"
                "return (x - x0) / t[:, None, None, None]"),
    ("this is the noise", AT + "return (x - (1 - t[:, None, None, None]) * x0) / at"),
    ("not x", AT + "return x - x0 / at"),
    ("both are divided", AT + "return x / at - x0"),
    ("a sum", AT + "return (x + x0) / at"),
    ("first one's time", "return (x - x0) / max(t[0].item(), low)"),
    ("mean time", "return (x - x0) / t.mean().clamp(min=low)"),
    ("along the width", "return (x - x0) / t.clamp(min=low)"),
    ("no bounds", AT + "return ((x - x0) / at).clamp(-1, 1)"),
    ("least is not", "return ((x - x0) / t[:, None, None, None]).clamp(min=low)"),
    ("no gradient", AT + "return (x - x0.detach()) / at"),
    ("no gradient", "with torch.no_grad():\n"
     "    return (x - x0) / t.clamp(min=low)[:, None, None, None]"),
    ("in place", "t.clamp_(min=low)\nreturn (x - x0) / t[:, None, None, None]"),
    ("in place", AT + "x -= x0\nreturn x / at"),
    ("that is `x0`", "return x0"),
    ("that is `x`", "return x"),
    ("shape", AT + "return ((x - x0) / at).mean((1, 2, 3))"),
    ("type is", AT + "return ((x - x0) / at).double()"),
    ("None", AT + "v = (x - x0) / at\nreturn"),
    ("raised", "return (x - x0) / t.view(4, 1, 1, 1).clamp(min=low)"),
    ("NaN", "return (x - x0) / (t - t)[:, None, None, None]"),
]
WRONG_NOISE = [
    ("can be removed", "return min(values, width) / values"),
    ("at least 0", "return 1 - width / values"),
    ("not their number", "return max(0, values - width)"),
    ("not of the width", "return max(0, values - width) / width"),
    ("no absolute", "return abs(values - width) / values"),
    ("can be removed|width over", "return width / values"),
    ("over the width", "return values / width"),
    ("both together", "return max(0, values - width) / (values + width)"),
    ("square root", "return (max(0, values - width) / values)**0.5"),
    ("no square", "return (max(0, values - width) / values)**2"),
    ("squares of", "return max(0, values**2 - width**2) / values**2"),
    ("per cent", "return 100 * max(0, values - width) / values"),
    ("whole numbers would", "return max(0, values - width) // values"),
    ("only with no width", "return 1"),
    ("leaves something", "return 0"),
    ("changed places|leaves something", "return max(0, width - values) / width"),
    ("should be", "return max(0, values - 128) / values"),
    ("should be", "return max(0, 192 - width) / 192"),
    ("None", "max(0, values - width) / values\nreturn"),
    ("NaN", "return float('nan')"),
    ("should be|at least", "return 64 / values"),
    ("should be", "return round(max(0, values - width) / values, 2)"),
]
WRONG_MINUTES = [
    ("before that lap", "return next((m for m, fd in laps if fd <= level), math.inf)"),
    ("isn't there yet", laps(between="before[0]")),
    ("share of the way between", laps(between="share")),
    ("since the lap", laps(between="share * (minutes - before[0])")),
    ("other end", laps(between="before[0] + (1 - share) * (minutes - before[0])")),
    ("middle", laps(between="(before[0] + minutes) / 2")),
    ("last lap that is there|first time", "return max((m for m, fd in laps if fd <= level), "
     "default=math.inf)"),
    ("number of the lap", "return next((i for i, (_, fd) in enumerate(laps) if fd <= level), "
     "math.inf)"),
    ("one straight line", "if laps[0][1] <= level:\n    return laps[0][0]\n"
     "if laps[-1][1] > level:\n"
     "    return math.inf\nshare = (laps[0][1] - level) / (laps[0][1] - laps[-1][1])\n"
     "return laps[0][0] + share * (laps[-1][0] - laps[0][0])"),
    ("it does get there", laps(between="math.inf")),
    ("not 0", laps(first="0")),
    ("not infinity", laps(first="math.inf")),
    ("first lap|raised", laps(first="laps[1][0] if len(laps) > 1 else 0")),
    ("last lap's time", laps(never="laps[-1][0]")),
    ("infinity, not 0", laps(never="0")),
    ("not -1", laps(never="-1")),
    ("minus infinity", laps(never="-math.inf")),
    ("nothing is returned", laps(never="None")),
    ("None", "pass\nreturn"),
    ("should be", laps(never="float('nan')")),
    ("just there counts", laps().replace("fd <= level", "fd < level")),
    ("should be|first time", """
        for (a, high), (b, low) in reversed(list(zip(laps, laps[1:]))):
            if high > level >= low:
                return a + (high - level) / (high - low) * (b - a)
        return laps[0][0] if laps[0][1] <= level else math.inf
     """),
    ("raised", laps().replace("if before is None", "if False")),
    ("raised", laps(never="lap[0]")),
    ("should be", laps(between="before[0] + (level - fd) / level * (minutes - before[0])")),
    ("first time counts", "import numpy as np\nm, fd = zip(*laps)\nreturn np.interp(level, fd, m)"),
    ("last lap's time", "import numpy as np\nm, fd = zip(*laps)\n"
     "return np.interp(level, fd[::-1], m[::-1])"),
    ("should be|the last", "x = sorted(laps, key=lambda lap: lap[1])\n"
     "for (a, low), (b, high) in zip(x, x[1:]):\n"
                  "    if low <= level <= high:\n"
                  "        return a + (level - low) / (high - low) * (b - a)\n"
                  "return x[0][0] if x[0][1] <= level else math.inf"),
]
WRONG_ROWS = {"tokens_of": WRONG_TOKENS, "patch_cost": WRONG_COST, "noise_left": WRONG_NOISE,
              "minutes_to": WRONG_MINUTES}
WRONG = [(name, *row) for name, rows in WRONG_ROWS.items() for row in rows]


def answer_to(name, body):
    return defaults(body) if name == "to_velocity" else written(name, body)


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(
    RIGHT, WRONG, answer=answer_to)


@pytest.mark.parametrize("said, body", WRONG_VELOCITY)
def test_wrong_velocities_are_told_what_is_wrong(said, body):
    assert re.search(said, told("to_velocity", defaults(body)))


def test_a_velocity_without_its_default_is_told_so():
    body = AT + "return (x - x0) / at"
    assert re.search("takes|default", told("to_velocity", written("to_velocity", body)))
    assert re.search("default", told("to_velocity", defaults(body, low=0.1)))


def test_the_work_of_patch_layers_is_what_torch_counts():

    def count(patch):
        config = DiTConfig(3, 3, 32, 0, 2, patch, 10)
        with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
            label = torch.zeros(1, dtype=torch.long)
            DiT(config)(torch.empty(1, 3, 8, 8), torch.empty(1), label)
        return counter.get_total_flops() / 2

    # time and the last norm are paid once a picture, whatever the patch
    beside = count(8) - patch_cost(3, 8, 8, 32)
    assert count(2) - beside == patch_cost(3, 8, 2, 32)


def test_the_velocity_undoes_the_packages_x0():
    x, velocity = torch.randn(2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.1, 0.5, 1.0])
    at = t[:, None, None, None]
    x0 = to_x0("flow", velocity, x, 1 - at, at)
    torch.testing.assert_close(to_velocity(x0, x, t), velocity)
