"""Lesson 09's checks of lines and times: right answers in any style pass; wrong ones hear why."""

import re

import numpy as np
import pytest
from support.answers import cases, passes, told, written

HELPERS = {"np": np}

S = """
    dt = ts.diff()
    chord = (path[-1] - path[0]) / dt.sum()
    velocity = path.diff(dim=0) / dt[:, None, None]
    off = (velocity - chord).square().sum(2).mean(1)
    length = chord.square().sum(1).mean()
    return (off * dt).sum() / dt.sum() / length
"""
# the end of S, for what replaces it
RESULT = "(off * dt).sum() / dt.sum() / length"


def normal(of="m + s * z", squash="torch.sigmoid({})"):
    return f"z = torch.randn(n, generator=generator)\nreturn {squash.format(of)}"


RIGHT = [
    ("straightness", S),
    ("straightness", """
        total, chord = ts[-1] - ts[0], (path[-1] - path[0]) / (ts[-1] - ts[0])
        above = 0
        for i in range(len(ts) - 1):
            dt = ts[i + 1] - ts[i]
            v = (path[i + 1] - path[i]) / dt
            above = above + dt / total * (v - chord).norm(dim=-1).pow(2).mean()
        return above / (chord**2).sum(-1).mean()
     """),
    ("straightness", """
        p, t = path.double(), ts.double()
        share = (t[1:] - t[:-1]) / (t[-1] - t[0])
        chord = (p[-1] - p[0]) / (t[-1] - t[0])
        v = (p[1:] - p[:-1]) / (t[1:] - t[:-1]).view(-1, 1, 1)
        return (torch.einsum("k,knd->", share, (v - chord)**2) / (chord**2).sum()).float()
     """),
    ("straightness", """
        dt = (ts[:-1] - ts[1:]).abs()
        chord = (path[0] - path[-1]) / dt.sum()
        v = (path[:-1] - path[1:]) / dt[:, None, None]
        off = ((v - chord).pow(2) * (dt / dt.sum())[:, None, None]).mean((1, 2))
        return off.sum() / chord.pow(2).mean()
     """),
    ("shifted_logit_normal", normal()),
    ("shifted_logit_normal", normal(squash="1 / (1 + torch.exp(-({})))")),
    ("shifted_logit_normal", "torch.normal(m, s, (n,), generator=generator).sigmoid()"),
    ("shifted_logit_normal", "torch.empty(n).normal_(m, s, generator=generator).sigmoid()"),
    ("shifted_logit_normal", """
        u = torch.rand(n, dtype=torch.float64, generator=generator)
        return torch.sigmoid(m + s * torch.special.ndtri(u)).float()
     """),
    ("shifted_logit_normal", """
        z = [torch.randn(1, generator=generator).item() for _ in range(n)]
        return torch.sigmoid(m + s * torch.tensor(z))
     """),
    ("shifted_logit_normal", """
        z = torch.randn(n, generator=generator, dtype=torch.double)
        return (m + s * z).sigmoid().to(torch.float32)
     """),
]

WRONG = [
    ("straightness", "counts alike", S.replace(RESULT, "off.mean() / length")),
    ("straightness", "counts alike, and", S.replace(RESULT, "off.sum() / length")),
    ("straightness", "must sum to 1", S.replace(RESULT, "(off * dt.abs()).sum() / length")),
    ("straightness", "negative here", S.replace(RESULT, "(off * dt).sum() / length")),
    ("straightness", "not divided by the chord", S.replace(" / length", "")),
    ("straightness", "it is a velocity", S.replace("path[0]) / dt.sum()", "path[0])")),
    ("straightness", "divided by its duration", S.replace(" / dt[:, None, None]", "")),
    ("straightness", "a sum over", S.replace("mean(1)", "sum(1)", 1)),
    ("straightness", "journeys below", S.replace("sum(1).mean()", "sum()")),
    ("straightness", "above as below", S.replace("sum(2).mean(1)", "mean((1, 2))")),
    ("straightness", "below as above", S.replace("sum(1).mean()", "mean()")),
    ("straightness", "not distances", S.replace("square().sum(2)", "norm(dim=2)").replace(
        "square().sum(1)", "norm(dim=1)")),
    ("straightness", "root is too much", S.replace(RESULT, f"({RESULT}).sqrt()")),
    ("straightness", "mean by mean", S.replace(".mean(1)", "").replace(".mean()", "").replace(
        RESULT, "((off / length).mean(1) * dt).sum() / dt.sum()")),
    ("straightness", "not subtracted", S.replace("velocity - chord", "velocity")),
    ("straightness", "sign of the steps", S.replace("path[-1] - path[0]", "path[0] - path[-1]")),
    ("straightness", "not the mean velocity",
     S.replace("(path[-1] - path[0]) / dt.sum()",
               "(path.diff(dim=0) / dt[:, None, None]).mean(0)")),
    ("straightness", "not their mean", S.replace("velocity - chord", "velocity - chord.mean(0)")),
    ("straightness", "1 minus", S.replace("return ", "return 1 - ")),
    ("straightness", "by the velocity's square",
     S.replace("length = chord", "length = velocity").replace("sum(1).mean()", "sum(2).mean()")),
    ("straightness", "its own duration",
     S.replace("/ dt[:, None, None]", "* (len(dt) / dt.sum())")),
    ("straightness", "raised", S.replace("dt[:, None, None]", "dt")),
    ("straightness", "shape", S.replace("square().sum(2).mean(1)", "square().mean(1)").replace(
        "off * dt", "off * dt[:, None]").replace(".sum() / dt", ".sum(0) / dt")),
    ("straightness", "return", S.replace("return ", "found = ") + "    return"),
    ("straightness", "straight line at constant speed|should be|wrong",
     S.replace("velocity = path.diff(dim=0) / dt[:, None, None]",
               "velocity = F.normalize(path.diff(dim=0), dim=2)")),
    ("shifted_logit_normal", "m and s changed", normal("s + m * z")),
    ("shifted_logit_normal", "m moves the normal", normal("s * z", "m + torch.sigmoid({})")),
    ("shifted_logit_normal", "m and s move", normal("z", "m + s * torch.sigmoid({})")),
    ("shifted_logit_normal", "its sigmoid is wanted", normal(squash="{}")),
    ("shifted_logit_normal", "not the mean", normal("s * (m + z)")),
    ("shifted_logit_normal", "doesn't divide", normal("m + z / s")),
    ("shifted_logit_normal", "they go in", normal("(z - m) / s")),
    ("shifted_logit_normal", "not subtracted", normal("s * z - m")),
    ("shifted_logit_normal", "mean m is missing", normal("s * z")),
    ("shifted_logit_normal", "deviation s is missing", normal("m + z")),
    ("shifted_logit_normal", "clipped", normal(squash="({}).clamp(0, 1)")),
    ("shifted_logit_normal", "not the variance", normal("m + s**0.5 * z")),
    ("shifted_logit_normal", "not squared", normal("m + s**2 * z")),
    ("shifted_logit_normal", "its logarithm", normal("m + math.exp(s) * z")),
    ("shifted_logit_normal", "uniform ones", normal().replace("randn", "rand")),
    ("shifted_logit_normal", "uniform times", "torch.rand(n, generator=generator)"),
    ("shifted_logit_normal", "tanh", normal(squash="torch.tanh({})")),
    ("shifted_logit_normal", "softmax", normal(squash="({}).softmax(0)")),
    ("shifted_logit_normal", "not exp", normal(squash="torch.exp({})")),
    ("shifted_logit_normal", "sign of the sigmoid", normal("-(m + s * z)")),
    ("shifted_logit_normal", "global generator", "torch.sigmoid(m + s * torch.randn(n))"),
    ("shifted_logit_normal", "one seed, two",
     "torch.sigmoid(m + s * torch.tensor(np.random.standard_normal(n)).float())"),
    ("shifted_logit_normal", "another seed", "generator.manual_seed(0)\n" + normal()),
    ("shifted_logit_normal", "all times are one",
     "torch.sigmoid(m + s * torch.randn(1, generator=generator)).expand(n)"),
    ("shifted_logit_normal", "shape",
     "torch.sigmoid(m + s * torch.randn(1, generator=generator))"),
    ("shifted_logit_normal", "axis of length 1|shape",
     "torch.sigmoid(m + s * torch.randn(n, 1, generator=generator))"),
    ("shifted_logit_normal", "mean|between",
     "torch.sigmoid(0.5 + 2 * torch.randn(n, generator=generator)) + 1e-3"),
    ("shifted_logit_normal", "have mean 0.48",
     "torch.sigmoid(0.5 + 2 * torch.randn(n, generator=generator))"),
    ("shifted_logit_normal", "have mean|between", """
        u = torch.rand(n, generator=generator)
        return torch.sigmoid(m + s * (u / (1 - u)).log())
     """),
    ("shifted_logit_normal", "between 0 and 1",
     "m + s * torch.randn(n, generator=generator, dtype=torch.double).float()"),
    ("shifted_logit_normal", "type", normal() + ".double()"),
    ("shifted_logit_normal", "list", normal() + ".tolist()"),
    ("shifted_logit_normal", "return", normal().replace("return", "t =") + "\nreturn"),
]


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    passes(name, written(name, body, HELPERS))


@pytest.mark.parametrize("name, said, body", cases(WRONG))
def test_wrong_answers_are_told_what_is_wrong(name, said, body):
    assert re.search(said, told(name, written(name, body, HELPERS)))
