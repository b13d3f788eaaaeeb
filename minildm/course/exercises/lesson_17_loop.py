"""The check of lesson 17 on training: a loop that also keeps an average of the network."""

import copy

import torch
from torch import nn

from minildm.course.exercises.compare import close, compare, describe, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_09_training import as_losses
from minildm.course.exercises.spied import in_order, judge_mode
from minildm.training import ema, loop


class Line(nn.Module):
    """A network of one matrix and one vector."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(randn(3, 2, seed=5))
        self.bias = nn.Parameter(randn(2, seed=6))

    def forward(self, x):
        return x @ self.weight + self.bias


def variant(order="zero backward step average", rate=lambda i, steps: 1 - i / steps, kind="Adam",
            share=lambda decay: 1 - decay, copied=True, answer="average", begins_equal=True):
    """A loop, right as it is, or with a likely mistake."""

    def fit_average(network, loss, draw, steps, lr, decay):
        average = copy.deepcopy(network).requires_grad_(False) if copied else network
        if not begins_equal:
            for p in average.parameters():
                p.zero_()
        optimizer = getattr(torch.optim, kind)(network.parameters(), lr=lr)
        losses = []

        def keep_up():
            if copied:
                follow(average, network, share(decay))

        for i in range(steps):
            optimizer.param_groups[0]["lr"] = lr * rate(i, steps)
            value = loss(network, average, draw())
            in_order(order, zero=optimizer.zero_grad, backward=value.backward,
                     step=optimizer.step, average=keep_up)
            losses.append(value.item())
        return (average if answer == "average" else network), losses

    return fit_average


@torch.no_grad()
def follow(average, network, share):
    """Move the average by this share of the way to the network."""
    for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast, share)


fit_average = variant()

WRONG_LOOPS = {
    "the average stays what it was at the beginning": variant("zero backward step"),
    "the average is updated after the optimizer's step, not before":
        variant("zero average backward step"),
    "the average keeps the share `decay` of itself: the shares changed places":
        variant(share=lambda decay: decay),
    "that is the network of the last step: the average is a copy, and keeps the share `decay` "
    "of itself": variant(copied=False),
    "the average is returned, not the network": variant(answer="network"),
    "the average begins as the network, not as zeros": variant(begins_equal=False),
    "gradients of earlier steps add up: is zero_grad missing?": variant("backward step average"),
    "the weights stay as they were: optimizer.step() needs the gradients of backward()":
        variant("zero backward average"),
    "gradients are deleted before the step": variant("backward zero step average"),
    "the rate stays lr: it should fall linearly": variant(rate=lambda i, n: 1),
    "the rate rises: it should fall from lr, and step 0 has lr":
        variant(rate=lambda i, n: (i + 1) / n),
    "one step late: step 0 has the rate lr": variant(rate=lambda i, n: 1 - (i + 1) / n),
    "the last step has the rate lr / steps, not 0": variant(rate=lambda i, n: 1 - i / (n - 1)),
    "that is plain gradient descent: Adam is wanted": variant(kind="SGD"),
}


def trained(fit, steps: int, lr: float, decay: float) -> tuple:
    """What a student's or another loop returned, the network it trained, and what it asked for."""
    network, asked = Line(), []

    def draw():
        asked.append("batch")
        return randn(7, 3, seed=20 + len(asked))

    def loss(given, average, batch):
        with torch.no_grad():
            told = 0.5 * average(batch)
        return (given(batch) - told - batch[:, :2].sin()).square().mean()

    result = fit(network, loss, draw, steps, lr, decay)
    judge_mode(network)
    return result, network, asked


@check(reference=fit_average, forbidden=[loop.fit, loop.train, loop.take_steps, ema.EMA])
def check_fit_average(answer):
    for steps, lr, decay in (5, 0.1, 0.7), (4, 0.03, 0.4):
        result, network, asked = trained(answer, steps, lr, decay)
        if not isinstance(result, tuple | list) or len(result) != 2:
            fail(f"the average and the losses are wanted, a pair: this is {describe(result)}")
        average, losses = result
        if not isinstance(average, nn.Module):
            fail(f"first comes the average, a network: this is {describe(average)}")
        if len(asked) != steps:
            fail(f"draw() was called {len(asked)} times in {steps} steps: each needs one batch")
        loop_case(average, as_losses(losses, steps), network, (steps, lr, decay))


def weights_of(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def loop_case(average, losses, network, numbers):
    """Raise Wrong unless average, losses and the network's weights are right."""
    def results(fit):
        (mean, found), moved, _ = trained(fit, *numbers)
        return weights_of(mean), torch.tensor(found), weights_of(moved)

    got = weights_of(average), losses, weights_of(network)
    wants = [results(fit_average), results(variant(kind="AdamW"))]
    for want in wants:
        # so narrow that other betas are seen
        if all(close(a, b, 1e-4) for a, b in zip(got, want, strict=True)):
            return
    for cause, wrong in WRONG_LOOPS.items():
        if all(close(a, b, 1e-3) for a, b in zip(got, results(wrong), strict=True)):
            fail(cause)
    want = wants[0]
    compare(got[1][:1], want[1][:1], where="the loss of the first step")
    compare(got[2], want[2], where="the trained network's weights")
    compare(got[0], want[0], where="the average's weights")
    compare(got[1], want[1], where="the losses")
