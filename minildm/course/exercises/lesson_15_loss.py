"""The check of lesson 15 on the loss: the velocity's error, whatever the network predicts."""

from itertools import permutations

import torch

from minildm.course import arms
from minildm.course.exercises.compare import close, compare, fail
from minildm.course.exercises.fakes import Network, expand, follows_generator, generator, randn
from minildm.course.exercises.harness import check
from minildm.diffusion.denoiser import Denoiser, drop_context, logit_normal, uniform


class Labelled(Network):
    """The recording network with a null label and a weight that gradients should reach."""

    null_context = 9

    def __init__(self):
        super().__init__()
        self.weight = torch.tensor(1.3, requires_grad=True)

    def __call__(self, x, t, context=None):
        return self.weight * super().__call__(x, t, context)


@check(reference=arms.velocity_loss, forbidden=[Denoiser, Denoiser.loss])
def check_velocity_loss(answer):
    cases = [((7, 2, 5, 4), "x0", 0.5), ((5, 3, 2, 6), "flow", 0.4), ((6, 1, 4, 2), "x0", 0.0),
             ((4, 2, 3, 3), "flow", 1.0)]
    for shape, predicts, drop in cases:
        data, labels = 0.7 * randn(*shape, seed=7) + 0.2, torch.arange(shape[0]) % 4

        def inputs(source, given=(predicts, data, labels), drop=drop):
            return Labelled(), *given, source, drop

        got = follows_generator(answer, inputs)
        draws = [drawn(order, data, labels, drop) for order in permutations("tnd")]
        right = [loss_of(Labelled(), predicts, data, *each) for each in draws]
        wrong = {}
        # whichever is drawn first, a mistake is told by its name
        for k, each in enumerate(draws):
            found = wrong_losses(predicts, data, labels, *each)
            wrong |= {cause + " " * k: value for cause, value in found.items()}
        if isinstance(got, float):
            fail("that is a number without a graph: backward() needs the tensor")
        compare(got, right[0], wrong, also=right[1:],
                where=f"a network that predicts {predicts!r}, drop {drop}")
        network = Labelled()
        again = answer(network, predicts, data, labels, generator(), drop)
        if len(network.calls) != 1:
            fail(f"the network is asked once, yours asked it {len(network.calls)} times")
        same = next(k for k, value in enumerate(right) if close(again, value))
        other = Labelled()
        want = loss_of(other, predicts, data, *draws[same])
        there = torch.autograd.grad(again, network.weight, allow_unused=True)[0] \
            if again.requires_grad else None
        if there is None:
            fail("the numbers are right, but no gradient reaches the network: a detach()?")
        compare(there, torch.autograd.grad(want, other.weight)[0], where="the gradient")
        answer.right += 1


def drawn(order, data, labels, drop) -> tuple:
    """(t, noise, labels) drawn in an order of t, n and d from the first generator."""
    source, found = generator(), {}
    for what in order:
        if what == "t":
            found["t"] = logit_normal(len(data), source)
        elif what == "n":
            found["n"] = torch.randn(data.shape, generator=source)
        else:
            found["d"] = drop_context(labels, Labelled.null_context, drop, source)
    return found["t"], found["n"], found["d"]


def loss_of(network, predicts, data, t, noise, labels):
    x = data + expand(t, data) * (noise - data)
    said = arms.velocity_of(network, predicts, x, t, labels)
    return (said - arms.to_velocity(data, x, t)).square().mean()


def wrong_losses(predicts, data, names, t, noise, labels) -> dict:
    at = expand(t, data)
    x = data + at * (noise - data)
    said = arms.velocity_of(Network(), predicts, x, t, labels) * 1.0
    raw = 1.3 * Network()(x, t, labels)
    said = arms.to_velocity(raw, x, t) if predicts == "x0" else raw
    wanted = arms.to_velocity(data, x, t)
    even = uniform(len(data), generator())
    error = said - wanted
    return {
        "the loss is the velocity's, whatever the network predicts: not the data's":
            (raw - data).square().mean(),
        "the answer isn't turned into a velocity": (raw - wanted).square().mean(),
        "the velocity is noise - data, not data - noise": (said + wanted).square().mean(),
        "aim at the velocity, not at the noise": (said - noise).square().mean(),
        "aim at the velocity, not at the data": (said - data).square().mean(),
        "no label is dropped: `drop_context`": loss_of(Labelled(), predicts, data, t, noise, names),
        "x is (1 - t) data + t noise: data and noise changed places":
            wrong_place(predicts, data, t, noise, labels),
        "the network sees x, not the data": seen(predicts, data, data, t, noise, labels),
        "times are logit-normal, not uniform": loss_of(Labelled(), predicts, data, even,
                                                       noise, labels),
        "a mean over everything, not a sum": error.square().sum(),
        "the root is too much": error.square().mean().sqrt(),
        "squares, not absolute values": error.abs().mean(),
        "the square is missing": error.mean(),
        "a number for all, not one for each picture": error.square().mean((1, 2, 3)),
    }


def wrong_place(predicts, data, t, noise, labels):
    x = noise + expand(t, data) * (data - noise)
    return seen(predicts, x, data, t, noise, labels)


def seen(predicts, x, data, t, noise, labels):
    """The loss of a network that is shown x."""
    said = arms.velocity_of(Labelled(), predicts, x, t, labels)
    return (said - (noise - data)).square().mean()
