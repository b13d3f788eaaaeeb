"""The checks of lesson 09."""

import torch

from minildm.course.exercises.legacy import compare, fail, passed, randn


def check_flow_pair(f):
    data, noise, t = randn(3, 2, 4, 4), randn(3, 2, 4, 4, seed=1), torch.tensor([0.1, 0.4, 0.8])
    each = t[:, None, None, None]

    def pair(a=data, b=noise, t=each, sign=1):
        return torch.stack([(1 - t) * a + t * b, sign * (b - a)])

    want = pair()
    compare("flow_pair", f(data, noise, t), want, {
        "the target points to the data: ours is noise - data": pair(sign=-1),
        "data and noise changed places: t = 0 is data": torch.stack([pair(t=1 - each)[0], want[1]]),
        "data and noise changed places": pair(noise, data),
        "that is the arc of the cosine schedule: alpha is 1 - t": torch.stack([
            (each * torch.pi / 2).cos() * data + (each * torch.pi / 2).sin() * noise, want[1]]),
        "x_t is data + t noise: the data isn't scaled": torch.stack([data + each * noise, want[1]]),
        "the target is noise - data, not noise": torch.stack([want[0], noise]),
        "the target is noise - data, not noise - x_t": torch.stack([want[0], noise - want[0]]),
        "all pictures got the first one's time": pair(t=t[0])})
    passed("flow_pair")


def check_euler_path(f):
    def velocity(x, t):
        return x * t + t**2

    x, ts = randn(3, 2), torch.tensor([0.9, 0.7, 0.3, 0.1])

    def way(ts=ts, sign=1, at=0, step=None, start=x):
        y = start
        for t, s in zip(ts[:-1], ts[1:], strict=True):
            y = y + sign * (s - t if step is None else step) * velocity(y, (t, s)[at])
        return y

    calls = []

    def counted(x, t):
        calls.append(t)
        return velocity(x, t)

    compare("euler_path", f(counted, x, ts), way(), {
        "the sign: a step goes by (s - t), which is negative here": way(sign=-1),
        "the velocity is asked at the time you go to: ask where you stand": way(at=1),
        "the steps are not equal: each is the next time minus this one": way(step=-(0.8 / 3)),
        "equal steps of 1 / K: the grid says where they go": way(step=-1 / 3),
        "the last step is missing": way(ts[:-1]), "the first step is missing": way(ts[1:]),
        "one step more than the grid has, down to 0": way(torch.cat([ts, torch.zeros(1)])),
        "one jump from the first time to the last": way(ts[[0, -1]])})
    if len(calls) != 3:
        fail("euler_path", f"velocity was asked {len(calls)} times: four times are three steps")
    passed("euler_path")


def check_from_theirs(f):
    data, x, t = randn(4, 2), randn(4, 2, seed=1), torch.tensor(0.3)

    def network(z, s):
        return (data + 0.1 * s * z - z) / (1 - s)

    def way(sign=1, at=1 - t, by=t):
        return x + sign * by * network(x, at)

    denoise = f(network)
    if not callable(denoise):
        fail("from_theirs", "return a function of (x, t), not its value")
    compare("from_theirs", denoise(x, t), way(), {
        "the sign is wrong: theirs points to the data": way(-1),
        "the network wants its own time, s = 1 - t": way(at=t),
        "the way to the data is t long, not 1 - t": way(by=1 - t),
        "the way to the data is t long, not 1": way(by=1),
        "that is what the network says, not x0": network(x, 1 - t),
        "that is the noise, not the data": x - (1 - t) * network(x, 1 - t)})
    passed("from_theirs")


def check_straightness(f):
    name, ts = "straightness", torch.tensor([1.0, 0.7, 0.6, 0.2])
    line = randn(1, 5, 3) + ts[:, None, None] * randn(1, 5, 3, seed=1)
    compare(name, f(line, ts), torch.tensor(0.0), {
        "the velocity of a step is divided by its duration": f(line, torch.linspace(1, 0, 4))})
    path, dt = randn(4, 5, 3, seed=2), ts.diff()
    v, chord, share = path.diff(dim=0) / dt[:, None, None], (path[-1] - path[0]) / dt.sum(), dt / dt.sum()

    def way(chord=chord, weight=share):
        return ((v - chord).square().sum(2).mean(1) * weight).sum() / chord.square().sum(1).mean()

    root = (v - chord).norm(dim=2).mean(1)
    compare(name, f(path, ts), way(), {
        "each step counts alike: weigh it by its duration": way(weight=torch.full((3,), 1 / 3)),
        "not divided by the chord's square": way() * chord.square().sum(1).mean(),
        "the chord is divided by the time it takes: it is a velocity": way(chord=path[-1] - path[0]),
        "a sum over the journeys, not their mean": 5 * way(),
        "squares are wanted, not distances": (root * share).sum() / chord.norm(dim=1).mean(),
        "the sign: durations are negative here, divide by their sum": -0.8 * way()})
    passed(name)


def check_shifted_logit_normal(f):
    def draw(m, s, n=5, seed=0):
        return f(n, m, s, torch.Generator().manual_seed(seed))

    z, name = randn(5), "shifted_logit_normal"
    compare(name, draw(0.5, 2.0), torch.sigmoid(0.5 + 2 * z), {
        "m and s changed places": torch.sigmoid(2 + 0.5 * z), "m moves the normal, not the time": (
            0.5 + torch.sigmoid(2 * z)), "the normal itself: its sigmoid is wanted": 0.5 + 2 * z,
        "s multiplies the normal alone, not the mean": torch.sigmoid(2 * (0.5 + z)),
        "s multiplies, it doesn't divide": torch.sigmoid(0.5 + z / 2), "clipped: squash it": (
            0.5 + 2 * z).clamp(0, 1), "s is the standard deviation, not the variance": torch.sigmoid(
            0.5 + 2**0.5 * z), "these are not normal numbers: randn": torch.sigmoid(0.5 + 2 * torch.rand(
                5, generator=torch.Generator().manual_seed(0)))})
    passed(name)
