"""Lesson 09's checks: right answers in any style pass; wrong ones are told what is wrong."""

import re
from itertools import pairwise

import numpy as np
import pytest
from support.answers import cases, passes, told, written

from minildm.diffusion.samplers import euler

HELPERS = {"np": np, "pairwise": pairwise, "euler": euler}

T = "    t = t[:, None, None, None]\n"


def paired(place="(1 - t) * data + t * noise", line="noise - data"):
    return T + f"    return torch.stack([{place}, {line}])"


def walked(step="(s - t) * velocity(x, t)", times="ts"):
    """Euler's walk with this step along these times."""
    return f"""
        start = x
        for t, s in zip({times}[:-1], {times}[1:]):
            x = x + {step}
        return x
    """


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
    ("flow_pair", paired()),
    ("flow_pair", """
        t = t.view(-1, 1, 1, 1)
        return torch.stack((torch.lerp(data, noise, t), noise - data), dim=0)
     """),
    ("flow_pair", """
        target = noise.double() - data.double()
        x_t = data + torch.einsum("b,bchw->bchw", t.double(), target)
        return torch.cat([x_t[None], target[None]]).float()
     """),
    ("flow_pair", """
        out = torch.empty(2, *data.shape)
        for b in range(len(data)):
            out[0, b] = (1 - t[b]) * data[b] + t[b] * noise[b]
            out[1, b] = noise[b] - data[b]
        return out
     """),
    ("euler_path", walked()),
    ("euler_path", """
        for i in range(len(ts) - 1):
            x = x - (ts[i] - ts[i + 1]) * velocity(x=x, t=ts[i])
        return x
     """),
    ("euler_path", """
        x = x.clone()
        for t, s in pairwise(ts.tolist()):
            x += (s - t) * velocity(x, t)
        return x
     """),
    ("euler_path", """
        t = ts[0]
        for dt in ts.diff():
            x = torch.add(x, velocity(x, t.expand(len(x))) * dt)
            t = t + dt
        return x
     """),
    ("from_theirs", "lambda x, t: x + t * network(x, 1 - t)"),
    ("from_theirs", """
        def denoise(x, t):
            velocity = -network(z=x, s=1 - t)
            return x - t * velocity
        return denoise
     """),
    ("from_theirs", """
        def denoise(x, t):
            s = 1 - torch.as_tensor(t).expand(len(x))
            way = (1 - s).reshape(-1, *[1] * (x.ndim - 1))
            return x + way * network(x, s)
        return denoise
     """),
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
        return ((v - chord).pow(2) * (dt / dt.sum())[:, None, None]).mean((1, 2)).sum() / chord.pow(2).mean()
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
    ("flow_pair", "points to the data", paired(line="data - noise")),
    ("flow_pair", "data and noise changed", paired("(1 - t) * noise + t * data", "data - noise")),
    ("flow_pair", "t = 0 is data", paired("(1 - t) * noise + t * data")),
    ("flow_pair", "cosine",
     paired("(t * torch.pi / 2).cos() * data + (t * torch.pi / 2).sin() * noise")),
    ("flow_pair", "is an arc", paired("(1 - t**2).sqrt() * data + t * noise")),
    ("flow_pair", "data isn't scaled", paired("data + t * noise")),
    ("flow_pair", "noise isn't scaled", paired("(1 - t) * data + noise")),
    ("flow_pair", "leads to the noise", paired("data - t * (noise - data)")),
    ("flow_pair", "starts from the noise", paired("noise + t * (noise - data)")),
    ("flow_pair", "not noise$|not noise", paired(line="noise")),
    ("flow_pair", "not data$|not data", paired(line="data")),
    ("flow_pair", "noise - x_t", paired(line="noise - ((1 - t) * data + t * noise)")),
    ("flow_pair", "not t times that", paired(line="t * (noise - data)")),
    ("flow_pair", "their sum", paired(line="noise + data")),
    ("flow_pair", "v-prediction", paired(line="(1 - t) * noise - t * data")),
    ("flow_pair", "x_t comes first", T + """
    return torch.stack([noise - data, (1 - t) * data + t * noise])"""),
    ("flow_pair", "side by side|right order", T + """
    return torch.cat([(1 - t) * data + t * noise, noise - data])"""),
    ("flow_pair", "second", T + """
    return torch.stack([(1 - t) * data + t * noise, noise - data], 1)"""),
    ("flow_pair", "x_t alone", T + "    return (1 - t) * data + t * noise"),
    ("flow_pair", "tuple", T + "    return (1 - t) * data + t * noise, noise - data"),
    ("flow_pair", "first one's", "    t = t[:1]\n" + paired()),
    ("flow_pair", "raised", "torch.stack([(1 - t) * data + t * noise, noise - data])"),
    ("flow_pair", "raised", paired().replace("t[:, None, None, None]", "t[:, None]")),
    ("flow_pair", "raised|shape",
     paired().replace("t[:, None, None, None]", "t[None, :, None, None]")),
    ("flow_pair", "in place", "noise -= data\n" + "t = t[:, None, None, None]\n"
     "return torch.stack([data + t * noise, noise])"),
    ("flow_pair", "type", paired().replace("t[:,", "t.double()[:,")),
    ("flow_pair", "return", paired() .replace("    return", "    pair =") + "\n    return"),
    ("euler_path", "the sign", walked("(t - s) * velocity(x, t)")),
    ("euler_path", "positive where time rises|sign", walked("-abs(s - t) * velocity(x, t)")),
    ("euler_path", "sign|negative", walked("abs(s - t) * velocity(x, t)")),
    ("euler_path", "time you go to", walked("(s - t) * velocity(x, s)")),
    ("euler_path", "where the journey began", walked("(s - t) * velocity(start, t)")),
    ("euler_path", "first time always", walked("(s - t) * velocity(x, ts[0])")),
    ("euler_path", "not equal", walked("(ts[-1] - ts[0]) / (len(ts) - 1) * velocity(x, t)")),
    ("euler_path", "one too many", walked("(ts[-1] - ts[0]) / len(ts) * velocity(x, t)")),
    ("euler_path", "equal steps of 1", walked("-velocity(x, t) / (len(ts) - 1)")),
    ("euler_path", "isn't scaled", walked("velocity(x, t)")),
    ("euler_path", "not by the time", walked("t * velocity(x, t)")),
    ("euler_path", "gets lost", walked("(s - t) * velocity(x, t) - x")),
    ("euler_path", "last step is missing", walked(times="ts[:-1]")),
    ("euler_path", "first step is missing", walked(times="ts[1:]")),
    ("euler_path", "down to 0", walked(times="torch.cat([ts, torch.zeros(1)])")),
    ("euler_path", "one jump", "x + (ts[-1] - ts[0]) * velocity(x, ts[0])"),
    ("euler_path", "from the last to the first", walked(times="ts.flip(0)")),
    ("euler_path", "Heun", walked(
        "(s - t) / 2 * (velocity(x, t) + velocity(x + (s - t) * velocity(x, t), s))")),
    ("euler_path", "midpoint", walked(
        "(s - t) * velocity(x + (s - t) / 2 * velocity(x, t), (s + t) / 2)")),
    ("euler_path", "inside the loop", walked().replace("        return x", "            return x")),
    ("euler_path", "whole journey", """
        path = [x]
        for t, s in pairwise(ts):
            path.append(path[-1] + (s - t) * velocity(path[-1], t))
        return torch.stack(path)
     """),
    ("euler_path", "list", "[x + (s - t) * velocity(x, t) for t, s in pairwise(ts)]"),
    ("euler_path", "in place", walked().replace("x = x +", "x +=")),
    ("euler_path", "asked 4 times", walked().replace("return x", "return x + 0 * velocity(x, ts[-1])")),
    ("euler_path", "begins at the start", """
        out = x
        for t, s in pairwise(ts):
            out = x + (s - t) * velocity(out, t)
        return out
     """),
    ("euler_path", "unchanged|nothing has moved", "x"),
    ("euler_path", "raised IndexError",
     "for i in range(len(ts)):\n    x = x + (ts[i + 1] - ts[i]) * velocity(x, ts[i])\nreturn x"),
    ("euler_path", "times of shape", walked("(s - t) * velocity(x, ts)")),
    ("euler_path", "return", walked().replace("return x", "return")),
    ("from_theirs", "sign is wrong", "lambda x, t: x - t * network(x, 1 - t)"),
    ("from_theirs", "its own time", "lambda x, t: x + t * network(x, t)"),
    ("from_theirs", "and it points", "lambda x, t: x - t * network(x, t)"),
    ("from_theirs", "and the way", "lambda x, t: x + (1 - t) * network(x, t)"),
    ("from_theirs", "t long, not 1 - t", "lambda x, t: x + (1 - t) * network(x, 1 - t)"),
    ("from_theirs", "t long, not 1 \\(|t long, not 1$", "lambda x, t: x + network(x, 1 - t)"),
    ("from_theirs", "and theirs points", "lambda x, t: x - network(x, 1 - t)"),
    ("from_theirs", "says, not x0", "lambda x, t: network(x, 1 - t)"),
    ("from_theirs", "at another time", "network"),
    ("from_theirs", "our velocity", "lambda x, t: -network(x, 1 - t)"),
    ("from_theirs", "the noise, not", "lambda x, t: x - (1 - t) * network(x, 1 - t)"),
    ("from_theirs", "starts at x", "lambda x, t: t * network(x, 1 - t)"),
    ("from_theirs", "x isn't scaled", "lambda x, t: (1 - t) * x + t * network(x, 1 - t)"),
    ("from_theirs", "not 1 / t", "lambda x, t: x + network(x, 1 - t) / t"),
    ("from_theirs", "not -t", "lambda x, t: x + t * network(x, -t)"),
    ("from_theirs", "divided by 1", "lambda x, t: (x + t * network(x, 1 - t)) / (1 - t)"),
    ("from_theirs", "noisy points z first", "lambda x, t: x + t * network(1 - t, x)"),
    ("from_theirs", "return a function", "network(torch.zeros(4, 2), 0.5)"),
    ("from_theirs", "takes \\(x\\)", "lambda x: x + 0.5 * network(x, 0.5)"),
    ("from_theirs", "should be|wrong", "lambda x, t: x + 0.3 * network(x, 0.7)"),
    ("from_theirs", "in place", """
        def denoise(x, t):
            x += t * network(x, 1 - t)
            return x
        return denoise
     """),
    ("from_theirs", "type", "lambda x, t: (x + t * network(x, 1 - t)).double()"),
    ("from_theirs", "return", "def denoise(x, t):\n    x + t * network(x, 1 - t)\nreturn denoise"),
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
     S.replace("(path[-1] - path[0]) / dt.sum()", "(path.diff(dim=0) / dt[:, None, None]).mean(0)")),
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


def test_the_packages_sampler_is_nobodys_euler():
    body = """
        for step in euler(lambda x, t: x - t * velocity(x, t), None, x, ts):
            x = step.x
        return x
    """
    assert "write yours" in told("euler_path", written("euler_path", body, HELPERS))
