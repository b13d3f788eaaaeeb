"""Lesson 09's checks: the solution passes; the wrong answers that students give are told what is wrong."""

import pytest
import torch

from minildm import exercises


def flow_pair(data, noise, t):
    t = t[:, None, None, None]
    return torch.stack([(1 - t) * data + t * noise, noise - data])


def euler_path(velocity, x, ts):
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        x = x + (s - t) * velocity(x, t)
    return x


def from_theirs(network):
    return lambda x, t: x + t * network(x, 1 - t)


def straightness(path, ts):
    dt = ts.diff()
    chord = (path[-1] - path[0]) / dt.sum()
    off = (path.diff(dim=0) / dt[:, None, None] - chord).square().sum(2).mean(1)
    return (off * dt / dt.sum()).sum() / chord.square().sum(1).mean()


def shifted_logit_normal(n, m, s, generator):
    return torch.sigmoid(m + s * torch.randn(n, generator=generator))


def test_solutions_pass():
    exercises.check_flow_pair(flow_pair)
    exercises.check_euler_path(euler_path)
    exercises.check_from_theirs(from_theirs)
    exercises.check_straightness(straightness)
    exercises.check_shifted_logit_normal(shifted_logit_normal)


def walk(velocity, x, ts, step):
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        x = step(x, t, s)
    return x


def unweighted(path, ts):
    dt = ts.diff()
    chord = (path[-1] - path[0]) / dt.sum()
    off = (path.diff(dim=0) / dt[:, None, None] - chord).square().sum(2).mean()
    return off / chord.square().sum(1).mean()


FLOW_PAIR = [
    ("points to the data", lambda d, e, t: flow_pair(d, e, t) * torch.tensor([1, -1]).view(2, 1, 1, 1, 1)),
    ("changed places", lambda d, e, t: flow_pair(e, d, t)),
    ("t = 0 is data", lambda d, e, t: torch.stack([flow_pair(e, d, t)[0], e - d])),
    ("isn't scaled", lambda d, e, t: torch.stack([d + t[:, None, None, None] * e, e - d])),
    ("not noise", lambda d, e, t: torch.stack([flow_pair(d, e, t)[0], e])),
    ("not noise - x_t", lambda d, e, t: torch.stack([x := flow_pair(d, e, t)[0], e - x])),
    ("first one's time", lambda d, e, t: flow_pair(d, e, t[:1].expand(3))),
    ("shape", lambda d, e, t: flow_pair(d, e, t)[0]),
    ("return", lambda *_: None),
]
EULER_PATH = [
    ("the sign", lambda v, x, ts: walk(v, x, ts, lambda x, t, s: x - (s - t) * v(x, t))),
    ("where you stand", lambda v, x, ts: walk(v, x, ts, lambda x, t, s: x + (s - t) * v(x, s))),
    ("not equal", lambda v, x, ts: walk(v, x, ts, lambda x, t, s: x + (ts[-1] - ts[0]) / 3 * v(x, t))),
    ("1 / K", lambda v, x, ts: walk(v, x, ts, lambda x, t, s: x - v(x, t) / 3)),
    ("last step", lambda v, x, ts: euler_path(v, x, ts[:-1])),
    ("first step", lambda v, x, ts: euler_path(v, x, ts[1:])),
    ("down to 0", lambda v, x, ts: euler_path(v, x, torch.cat([ts, torch.zeros(1)]))),
    ("one jump", lambda v, x, ts: x + (ts[-1] - ts[0]) * v(x, ts[0])),
    ("asked 4 times", lambda v, x, ts: euler_path(v, x, ts) + 0 * v(x, ts[-1])),
]
FROM_THEIRS = [
    ("sign", lambda network: lambda x, t: x - t * network(x, 1 - t)),
    ("its own time", lambda network: lambda x, t: x + t * network(x, t)),
    ("t long, not 1 - t", lambda network: lambda x, t: x + (1 - t) * network(x, 1 - t)),
    ("t long, not 1$", lambda network: lambda x, t: x + network(x, 1 - t)),
    ("not x0", lambda network: lambda x, t: network(x, 1 - t)),
    ("the noise", lambda network: lambda x, t: x - (1 - t) * network(x, 1 - t)),
    ("return a function", lambda network: network(torch.zeros(4, 2), torch.tensor(0.3))),
]
STRAIGHTNESS = [
    ("divided by its duration", lambda path, ts: straightness(path, torch.linspace(1, 0, len(ts)))),
    ("counts alike", unweighted),
    ("not divided by the chord", lambda path, ts: straightness(path, ts)
        * ((path[-1] - path[0]) / 0.8).square().sum(1).mean()),
    ("a sum over", lambda path, ts: straightness(path, ts) * path.shape[1]),
    ("negative here", lambda path, ts: straightness(path, ts) * ts.diff().sum()),
    ("return", lambda path, ts: None),
]
SHIFTED_LOGIT_NORMAL = [
    ("changed places", lambda n, m, s, g: shifted_logit_normal(n, s, m, g)),
    ("its sigmoid is wanted", lambda n, m, s, g: m + s * torch.randn(n, generator=g)),
    ("moves the normal", lambda n, m, s, g: m + shifted_logit_normal(n, 0, s, g)),
    ("normal alone", lambda n, m, s, g: torch.sigmoid(s * (m + torch.randn(n, generator=g)))),
    ("doesn't divide", lambda n, m, s, g: shifted_logit_normal(n, m, 1 / s, g)),
    ("squash", lambda n, m, s, g: (m + s * torch.randn(n, generator=g)).clamp(0, 1)),
    ("variance", lambda n, m, s, g: shifted_logit_normal(n, m, s**0.5, g)),
    ("randn", lambda n, m, s, g: torch.sigmoid(m + s * torch.rand(n, generator=g))),
    ("should be", lambda n, m, s, g: torch.sigmoid(m + s * torch.randn(n))),                   # no generator
]
ANSWERS = {"flow_pair": FLOW_PAIR, "euler_path": EULER_PATH, "from_theirs": FROM_THEIRS,
           "straightness": STRAIGHTNESS, "shifted_logit_normal": SHIFTED_LOGIT_NORMAL}
WRONG = [(name, *row) for name, rows in ANSWERS.items() for row in rows]


@pytest.mark.parametrize("name, said, answer", WRONG)
def test_wrong_answers_are_told_the_cause(name, said, answer):
    with pytest.raises(AssertionError, match=said):
        getattr(exercises, f"check_{name}")(answer)
