"""The checks of lesson 17 on consistency: its target, its loss, and how it draws.

Those of the loop and of jumps have files of their own; straightness is lesson 09's.
"""

import torch

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import close, compare, fail
from minildm.course.exercises.fakes import Network, expand, follows_generator, generator, randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_17_jumps import (
    check_draw_jumps,
    check_shortcut_loss,
    check_shortcut_target,
)
from minildm.course.exercises.lesson_17_loop import check_fit_average
from minildm.diffusion import fewstep, samplers

__all__ = ["check_consistency_loss", "check_consistency_target", "check_draw_consistency",
           "check_draw_jumps", "check_fit_average", "check_shortcut_loss",
           "check_shortcut_target"]

SHAPES = {(4, 2): ([0.9, 0.25, 0.6, 0.4], [0.7, 0.0, 0.55, 0.1]),
          (3, 2, 5, 4): ([1.0, 0.3, 0.8], [0.85, 0.1, 0.2])}


class Average(Network):
    """Another fake network, which answers otherwise, with a weight that asks for gradients."""

    def __init__(self):
        super().__init__()
        self.weight = torch.tensor(0.7, requires_grad=True)

    def __call__(self, x, t, context=None):
        return self.weight * super().__call__(x.cos(), t, context) + 0.2 * x


def consistency_target(velocity, average, x, t, s):
    with torch.no_grad():
        x_s = x + expand(s - t, x) * velocity(x, t)
        return x_s - expand(s, x) * average(x_s, s)


@check(reference=consistency_target,
       forbidden=[fewstep.trajectory_step, fewstep.consistency_loss, samplers.ddim,
                  samplers.euler])
def check_consistency_target(answer):
    for shape, (t, s) in SHAPES.items():
        x, t, s = randn(*shape), torch.tensor(t), torch.tensor(s)
        velocity, average = Network(), Average()
        got = answer(velocity, average, x, t, s)
        compare(got, consistency_target(velocity, average, x, t, s),
                likely_targets(x, t, s), where=f"x {shape}")
        if got.requires_grad:
            fail("the numbers are right, but gradients go through the average: they must not, "
                 "it is what the network is compared with")


@torch.no_grad()
def likely_targets(x, t, s):
    """{cause: a wrong target}."""
    velocity, average = Network(), Average()
    t1, s1 = expand(t, x), expand(s, x)
    x_s = x + (s1 - t1) * velocity(x, t)
    away = x + (t1 - s1) * velocity(x, t)
    return {
        "the step leads to the noise: time falls, s - t is negative":
            away - s1 * average(away, s),
        "that is x_s: the end of the trajectory is one jump further": x_s,
        "the jump begins at s: that is the time that the average is told":
            x_s - s1 * average(x_s, t),
        "the jump from x_s is s long, not t": x_s - t1 * average(x_s, s),
        "the jump begins at s, and is s long": x_s - t1 * average(x_s, t),
        "the jump begins at x_s, where the step has led": x - s1 * average(x, s),
        "no step was taken: that is the end as the average sees it from x":
            x - t1 * average(x, t),
        "the average jumps from x_s, but its velocity was asked at x":
            x_s - s1 * average(x, s),
        "the velocity of the step is the teacher's, not the average's":
            consistency_target(average, average, x, t, s),
        "the jump to the end is the average's, not the teacher's":
            consistency_target(velocity, velocity, x, t, s),
        "teacher and average changed places": consistency_target(average, velocity, x, t, s),
        "the jump leads to the noise: the end is x - t u(x, t)": x_s + s1 * average(x_s, s),
        "that is the velocity: the end is x - t times it": average(x_s, s),
        "the teacher is asked at t, where x is": consistency_target(
            lambda x, _: velocity(x, s), average, x, t, s),
        "the step is t long: it ends at s": (x - t1 * velocity(x, t))
            - s1 * average(x - t1 * velocity(x, t), s),
        "all rows got the first one's times": consistency_target(
            velocity, average, x, t[:1].expand(len(t)), s[:1].expand(len(s))),
    }


def consistency_loss(network, average, velocity, data, noise, t, s):
    x = (1 - expand(t, data)) * data + expand(t, data) * noise
    end = x - expand(t, x) * network(x, t)
    return (end - consistency_target(velocity, average, x, t, s)).square().mean()


@check(reference=consistency_loss, forbidden=[fewstep.consistency_loss])
def check_consistency_loss(answer):
    for shape, (t, s) in SHAPES.items():
        data, noise = randn(*shape, seed=3), randn(*shape, seed=4)
        t, s, weight = torch.tensor(t), torch.tensor(s), torch.tensor(1.3, requires_grad=True)
        inner, average, velocity = Network(), Average(), Network()

        def network(x, t, inner=inner, weight=weight):
            return weight * inner(x, t)

        got = answer(network, average, velocity, data, noise, t, s)
        want = consistency_loss(network, average, velocity, data, noise, t, s)
        compare(got, want, likely_losses(network, data, noise, t, s), where=f"data {shape}")
        compare_gradients(got, want, network=weight)
        if torch.autograd.grad(want_again(answer, network, average, velocity, data, noise, t, s),
                               average.weight, allow_unused=True)[0] is not None:
            fail("the loss is right, but its gradient also moves the average: the target is "
                 "taken without gradients")


def want_again(answer, *inputs):
    """The answer's loss once more, with a graph of its own."""
    return answer(*inputs)


def likely_losses(network, data, noise, t, s):
    """{cause: a wrong loss}."""
    average, velocity = Average(), Network()
    t1 = expand(t, data)
    x = (1 - t1) * data + t1 * noise
    wanted = consistency_target(velocity, average, x, t, s)
    error = x - t1 * network(x, t) - wanted

    def loss(x=x, end=None, wanted=wanted):
        end = x - t1 * network(x, t) if end is None else end
        return (end - wanted).square().mean()

    turned = (1 - t1) * noise + t1 * data
    return {
        "a sum: the mean over all numbers is wanted": error.square().sum(),
        "summed over the numbers of a row: the mean over all is wanted":
            error.square().sum() / len(data),
        "half the loss": error.square().mean() / 2,
        "the root is too much": error.square().mean().sqrt(),
        "the square is missing: that is the mean absolute error": error.abs().mean(),
        "the network's end is x - t u: that is its velocity": loss(end=network(x, t)),
        "the network's end is x - t u: the factor t is missing": loss(end=x - network(x, t)),
        "the network's end is x - t u: the sign is wrong": loss(end=x + t1 * network(x, t)),
        "the network is asked at x_t: that is its end from the data":
            loss(end=data - t1 * network(data, t)),
        "both ends are of one trajectory: the network is compared with the target, "
        "not with the data": loss(wanted=data),
        "data and noise changed places in x_t": consistency_loss(
            network, average, velocity, noise, data, t, s),
        "the network is told t, the time of x_t, not s": loss(end=x - t1 * network(x, s)),
        "data and noise changed places in the network's x_t":
            loss(end=turned - t1 * network(turned, t)),
        "t and s changed places": consistency_loss(
            network, average, velocity, data, noise, s, t),
        "the target is by the average, not by the network itself": consistency_loss(
            network, network, velocity, data, noise, t, s),
    }


def draw_consistency(network, noise, ts, generator):
    x = noise
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        end = x - t * network(x, t)
        x = (1 - s) * end + s * torch.randn(x.shape, generator=generator)
    return x


@check(reference=draw_consistency, forbidden=[fewstep.consistency, samplers.ddim])
def check_draw_consistency(answer):
    for shape, times in ((4, 2), [1.0, 0.7, 0.25, 0.0]), ((3, 2, 5, 4), [1.0, 0.45, 0.0]):
        noise, ts = randn(*shape), torch.tensor(times)
        want, likely = draw_consistency(Network(), noise, ts, generator()), likely_draws(noise, ts)
        got = answer(Network(), noise, ts, generator())
        # a known mistake says more than that the seed has no effect
        known = [isinstance(got, torch.Tensor) and close(got, wrong) for wrong in likely.values()]
        if not any(known):
            got = follows_generator(
                answer, lambda g, z=noise, ts=ts: (Network(), z, ts, g))
        compare(got, want, likely, where=f"{len(ts) - 1} steps")
    noise, ts = randn(3, 5), torch.tensor([1.0, 0.0])
    one = noise - Network()(noise, torch.tensor(1.0))
    compare(answer(Network(), noise, ts, generator()), one, where="one step: the end, as it is")


def likely_draws(noise, ts):
    """{cause: wrong samples}."""
    def drawn(start=noise, fresh=True, scaled=True, length=None, at=None, sign=-1, ends=False):
        source, x, network = generator(), start, Network()
        for t, s in zip(ts[:-1], ts[1:], strict=True):
            way = t if length is None else length(t, s)
            end = x + sign * way * network(x, t if at is None else at(t, s))
            new = torch.randn(x.shape, generator=source) if fresh else noise
            x = ((1 - s) if scaled else 1) * end + s * new
        return end if ends else x

    def ddim():
        x, network = noise, Network()
        for t, s in zip(ts[:-1], ts[1:], strict=True):
            x = x + (s - t) * network(x, t)
        return x

    return {
        "the noise is drawn anew in each step: the old one is a part of the end already":
            drawn(fresh=False),
        "that is Euler's method: here each step goes to the end, and new noise is added": ddim(),
        "the end is scaled by 1 - s before noise is added": drawn(scaled=False),
        "the way from t to the end is t long, not t - s": drawn(length=lambda t, s: t - s),
        "the way from t to the end is t long, not 1": drawn(length=lambda t, s: 1),
        "the network is asked at t, where x is, not at s": drawn(at=lambda t, s: s),
        "the way leads to the noise: the end is x - t u(x, t)": drawn(sign=1),
        "that is one step from the first noise": noise - ts[0] * Network()(noise, ts[0]),
    }
