"""The checks of lesson 17 on jumps: a jump's target by its two halves, its loss, and drawing."""

import torch

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import compare, fail
from minildm.course.exercises.fakes import Network, expand, randn
from minildm.course.exercises.harness import check
from minildm.diffusion import fewstep

SHORTEST = 0.125
# lengths of one half, an eighth (the shortest), one, a quarter
ROWS = torch.tensor([1.0, 0.375, 1.0, 0.5]), torch.tensor([0.5, 0.25, 0.0, 0.25])


class Jumps(Network):
    """A fake network (x, t, s) -> velocity that depends on all three, with a weight."""

    def __init__(self):
        super().__init__()
        self.weight = torch.tensor(0.8, requires_grad=True)

    def __call__(self, x, t, s):
        t, s = torch.as_tensor(t), torch.as_tensor(s)
        if s.ndim and s.shape != x.shape[:1]:
            fail(f"the network wants ends s of shape (B,) = ({len(x)},), it got {tuple(s.shape)}")
        wave = super().__call__(x.cos(), t)
        return self.weight * wave + expand(s, x) * x.sin() - 0.3 * expand(s, x).square()


def shortcut_target(velocity, average, x, t, s, shortest):
    with torch.no_grad():
        middle = (t + s) / 2
        first = average(x, t, middle)
        halfway = x + expand(middle - t, x) * first
        second = average(halfway, middle, s)
        long = expand(t - s, x) > shortest
        return torch.where(long, (first + second) / 2, velocity(x, t))


@check(reference=shortcut_target, forbidden=[fewstep.shortcut_target, fewstep.shortcut_loss])
def check_shortcut_target(answer):
    t, s = ROWS
    for shape in (4, 3), (4, 2, 3, 5):
        x, velocity, average = randn(*shape), Network(), Jumps()
        got = answer(velocity, average, x, t, s, SHORTEST)
        compare(got, shortcut_target(velocity, average, x, t, s, SHORTEST),
                likely_targets(x, t, s), where=f"x {shape}")
        if got.requires_grad:
            fail("the numbers are right, but gradients go through the average: they must not")


@torch.no_grad()
def likely_targets(x, t, s):
    """{cause: a wrong target}."""
    velocity, average = Network(), Jumps()
    teacher = velocity(x, t)
    middle = (t + s) / 2
    long = expand(t - s, x) > SHORTEST

    def target(second_x=None, second_t=middle, second_s=s, first_s=middle, way=None,
               join=lambda a, b: (a + b) / 2, chosen=long, short=teacher):
        first = average(x, t, first_s)
        step = expand(middle - t, x) if way is None else way
        there = x + step * first if second_x is None else second_x
        return torch.where(chosen, join(first, average(there, second_t, second_s)), short)

    return {
        "the two halves are added: the mean velocity is their mean":
            target(join=lambda a, b: a + b),
        "that is the second half alone": target(join=lambda a, b: b),
        "that is the first half alone": target(join=lambda a, b: a),
        "the first half ends in the middle, not at s": target(first_s=s),
        "the second half begins where the first ended, not at x": target(second_x=x),
        "the second half begins in the middle, not at t": target(second_t=t),
        "the second half ends at s, not in the middle": target(second_s=middle),
        "the first half leads to the noise: middle - t is negative":
            target(way=expand(t - middle, x)),
        "the first half is half as long as the jump": target(way=expand(s - t, x)),
        "long and short changed places: the shortest jumps are the teacher's":
            target(chosen=~long),
        "jumps of the length `shortest` are the teacher's, too: all rows are halves here":
            target(chosen=torch.ones_like(long)),
        "that is the teacher's velocity for all rows": teacher,
        "the teacher is asked at t, where x is": target(short=velocity(x, s)),
        "the jump's displacement: the mean velocity is wanted": expand(s - t, x) * target(),
        "that is the average's own jump: halve it": target(join=lambda a, b: average(x, t, s)),
        "all rows got the first one's times": shortcut_target(
            velocity, average, x, t[:1].expand(len(t)), s[:1].expand(len(s)), SHORTEST),
    }


def shortcut_loss(network, average, velocity, data, noise, t, s, shortest):
    x = (1 - expand(t, data)) * data + expand(t, data) * noise
    wanted = shortcut_target(velocity, average, x, t, s, shortest)
    return (network(x, t, s) - wanted).square().mean()


@check(reference=shortcut_loss, forbidden=[fewstep.shortcut_loss, fewstep.shortcut_target])
def check_shortcut_loss(answer):
    t, s = ROWS
    for shape in (4, 2), (4, 3, 2, 5):
        data, noise = randn(*shape, seed=5), randn(*shape, seed=6)
        network, average, velocity = Jumps(), Jumps(), Network()
        average.weight = torch.tensor(0.3, requires_grad=True)
        inputs = network, average, velocity, data, noise, t, s, SHORTEST
        got, want = answer(*inputs), shortcut_loss(*inputs)
        compare(got, want, likely_losses(*inputs), where=f"data {shape}")
        compare_gradients(got, want, network=network.weight)
        again = answer(*inputs)
        if torch.autograd.grad(again, average.weight, allow_unused=True)[0] is not None:
            fail("the loss is right, but its gradient also moves the average")


def likely_losses(network, average, velocity, data, noise, t, s, shortest):
    """{cause: a wrong loss}."""
    x = (1 - expand(t, data)) * data + expand(t, data) * noise
    wanted = shortcut_target(velocity, average, x, t, s, shortest)
    error = network(x, t, s) - wanted
    way = expand(t - s, x)

    def whole(*changed):
        return shortcut_loss(network, average, velocity, *changed, shortest)

    return {
        "a sum: the mean over all numbers is wanted": error.square().sum(),
        "summed over the numbers of a row: the mean over all is wanted":
            error.square().sum() / len(data),
        "half the loss": error.square().mean() / 2,
        "the root is too much": error.square().mean().sqrt(),
        "the square is missing: that is the mean absolute error": error.abs().mean(),
        "velocities are compared, not displacements": (way * error).square().mean(),
        "the target is the teacher's and the average's, not noise - data":
            (network(x, t, s) - (noise - data)).square().mean(),
        "the network is told both times, where the jump begins and ends: it was told t twice":
            (network(x, t, t) - wanted).square().mean(),
        "the network is told t, then s": (network(x, s, t) - wanted).square().mean(),
        "data and noise changed places in x_t": whole(noise, data, t, s),
        "x_t is at t, where the jump begins": (network(
            (1 - expand(s, data)) * data + expand(s, data) * noise, t, s) - wanted
        ).square().mean(),
        "the halves are the average's, not the network's own": shortcut_loss(
            network, network, velocity, data, noise, t, s, shortest),
    }


def draw_jumps(network, x, ts):
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        x = x + (s - t) * network(x, t, s)
    return x


@check(reference=draw_jumps, forbidden=[fewstep.jump])
def check_draw_jumps(answer):
    for shape, times in ((5, 2), [1.0, 0.75, 0.5, 0.0]), ((3, 2, 4, 5), [1.0, 0.0]):
        x, ts = randn(*shape), torch.tensor(times)
        answer.case((Jumps(), x, ts), draw_jumps(Jumps(), x, ts), likely_draws(x, ts),
                    where=f"{len(ts) - 1} jumps")


def likely_draws(x, ts):
    """{cause: wrong places}."""
    def drawn(way=lambda t, s: s - t, end=lambda t, s: s, begin=lambda t, s: t):
        place, network = x, Jumps()
        for t, s in zip(ts[:-1], ts[1:], strict=True):
            place = place + way(t, s) * network(place, begin(t, s), end(t, s))
        return place

    zero = torch.tensor(0.0)
    return {
        "the jump leads to the noise: s - t is negative": drawn(way=lambda t, s: t - s),
        "the network is told where this jump ends, s: it was told 0": drawn(end=lambda t, s: zero),
        "the network is told where the jump ends, s: it was told t": drawn(end=lambda t, s: t),
        "the network is told t, then s": drawn(end=lambda t, s: t, begin=lambda t, s: s),
        "the way is s - t, not -t": drawn(way=lambda t, s: -t),
        "the network answers with a velocity: times s - t it is a way":
            drawn(way=lambda t, s: -1),
    }
