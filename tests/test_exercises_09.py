"""Lesson 09's checks: right answers in any style pass; wrong ones are told what is wrong."""

import re
from itertools import pairwise

import pytest
from support.answers import cases, passes, told, written

from minildm.diffusion.samplers import euler

HELPERS = {"pairwise": pairwise, "euler": euler}

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
    ("euler_path", "asked 4 times",
     walked().replace("return x", "return x + 0 * velocity(x, ts[-1])")),
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
