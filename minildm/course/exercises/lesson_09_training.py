"""The checks of lesson 09 on training: the loss of a batch, and the loop."""

import torch
from torch import nn

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import close, compare, describe, fail
from minildm.course.exercises.fakes import Network, expand, follows_generator, generator, randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.spied import in_order, judge_mode
from minildm.diffusion.denoiser import Denoiser
from minildm.training import loop


def flow_loss(network, data, times, generator):
    t = times(len(data), generator)
    noise = torch.randn(data.shape, generator=generator)
    x_t = data + expand(t, data) * (noise - data)
    return (network(x_t, t) - (noise - data)).square().mean()


def noise_first(network, data, times, generator):
    noise = torch.randn(data.shape, generator=generator)
    t = times(len(data), generator)
    x_t = data + expand(t, data) * (noise - data)
    return (network(x_t, t) - (noise - data)).square().mean()


def middle_times(n, generator):
    """Times that are no uniform ones: 0.2 to 0.7."""
    return 0.2 + 0.5 * torch.rand(n, generator=generator)


@check(reference=flow_loss, forbidden=[Denoiser, Denoiser.loss])
def check_flow_loss(answer):
    for shape in (5, 3), (3, 2, 5, 4):
        data = randn(*shape, seed=7)
        network = Network()
        got = follows_generator(
            answer, lambda g, d=data, n=network: (n, d, middle_times, g))
        want = flow_loss(Network(), data, middle_times, generator())
        # either may be drawn first
        other = noise_first(Network(), data, middle_times, generator())
        compare(got, want, likely_losses(data), also=[other], where=f"data {shape}")
    weight = torch.tensor(0.7, requires_grad=True)
    inner = Network()

    def weighted(x, t):
        return weight * inner(x, t)

    got = answer(weighted, data, middle_times, generator())
    order = flow_loss if close(got, flow_loss(weighted, data, middle_times, generator())) else \
        noise_first
    compare_gradients(got, order(weighted, data, middle_times, generator()), network=weight)


def likely_losses(data):
    """{cause: a wrong loss}, whichever is drawn first."""
    found = {}
    for first in "times", "noise":
        source = generator()
        if first == "noise":
            noise = torch.randn(data.shape, generator=source)
        t = middle_times(len(data), source)
        if first == "times":
            noise = torch.randn(data.shape, generator=source)
        # what is told begins alike for both: the names must differ
        end = "" if first == "times" else " (the noise was drawn first)"
        found |= {cause + end: wrong for cause, wrong in wrong_losses(data, noise, t).items()}
    source = generator()
    flat = torch.rand(len(data), generator=source)
    noise = torch.randn(data.shape, generator=source)
    right = Network()(data + expand(flat, data) * (noise - data), flat)
    found["the times are uniform: draw them by times(n, generator)"] = (
        right - (noise - data)).square().mean()
    return found


def wrong_losses(data, noise, t):
    """{cause: a wrong loss} for these draws."""
    network = Network()
    line = noise - data
    x_t = data + expand(t, data) * line
    error = network(x_t, t) - line

    def loss(x=x_t, at=t, wanted=line):
        return (network(x, at) - wanted).square().mean()

    return {
        "a sum: the mean over all numbers is wanted": error.square().sum(),
        "summed over the numbers of a picture, then a mean: the mean over all is wanted":
            error.square().sum() / len(data),
        "half the loss": error.square().mean() / 2,
        "the root is too much": error.square().mean().sqrt(),
        "the square is missing: that is the mean absolute error": error.abs().mean(),
        "the error's mean, without the square": error.mean(),
        "the target points to the data: ours is noise - data": loss(wanted=-line),
        "the target is noise - data, not the noise": loss(wanted=noise),
        "the target is noise - data, not the data": loss(wanted=data),
        "the network is shown the data: it sees x_t": loss(x=data),
        "the network is shown the noise: it sees x_t": loss(x=noise),
        "the network is told 1 - t": loss(at=1 - t),
        "data and noise changed places in x_t": loss(x=noise - expand(t, data) * line),
        "one time for the whole batch: each has its own":
            loss(x=data + t[0] * line, at=t[:1].expand(len(data))),
    }


def fit_network(network, loss, draw, steps, lr):
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    losses = []
    for i in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - i / steps)
        value = loss(network, draw())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


class Line(nn.Module):
    """A network of one matrix."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(randn(3, 2, seed=5))

    def forward(self, x):
        return x @ self.weight


def trained(fit, steps: int, lr: float) -> tuple:
    """The losses, the weights after them and the batches drawn, of a student's or another loop."""
    network, drawn = Line(), []

    def draw():
        drawn.append(len(drawn))
        return randn(7, 3, seed=20 + len(drawn))

    def loss(given, batch):
        return (given(batch) - batch[:, :2].sin()).square().mean()

    losses = fit(network, loss, draw, steps, lr)
    judge_mode(network)
    return losses, network.weight.detach(), drawn


def variant(order="zero backward step", rate=lambda i, steps: 1 - i / steps, kind="Adam"):
    """A loop with a likely mistake."""

    def fit(network, loss, draw, steps, lr):
        optimizer = getattr(torch.optim, kind)(network.parameters(), lr=lr)
        losses = []
        for i in range(steps):
            optimizer.param_groups[0]["lr"] = lr * rate(i, steps)
            value = loss(network, draw())
            in_order(order, zero=optimizer.zero_grad, backward=value.backward,
                     step=optimizer.step)
            losses.append(value.item())
        return losses

    return fit


WRONG_LOOPS = {
    "gradients of earlier steps add up: is zero_grad missing?": variant("backward step"),
    "the weights stay as they were: optimizer.step() needs the gradients of backward()":
        variant("zero backward"),
    "gradients are deleted before the step": variant("backward zero step"),
    "the rate stays lr: it should fall linearly": variant(rate=lambda i, n: 1),
    "the rate rises: it should fall from lr": variant(rate=lambda i, n: i / n),
    "the rate rises: it should fall from lr, and step 0 has lr":
        variant(rate=lambda i, n: (i + 1) / n),
    "one step late: step 0 has the rate lr": variant(rate=lambda i, n: 1 - (i + 1) / n),
    "the last step has the rate lr / steps, not 0": variant(rate=lambda i, n: 1 - i / (n - 1)),
    "the rate falls as 1 / i: it should fall linearly": variant(rate=lambda i, n: 1 / (i + 1)),
    "the rate falls along a parabola: the factor is taken from lr, not from the last rate":
        variant(rate=lambda i, n: torch.tensor([1 - j / n for j in range(i + 1)]).prod().item()),
    "that is plain gradient descent: Adam is wanted": variant(kind="SGD"),
}


@check(reference=fit_network, forbidden=[loop.fit, loop.train, loop.take_steps])
def check_fit_network(answer):
    for steps, lr in (6, 0.1), (4, 0.03):
        want_losses, want, _ = trained(fit_network, steps, lr)
        losses, weights, drawn = trained(answer, steps, lr)
        losses = as_losses(losses, steps)
        if len(drawn) != steps:
            fail(f"draw() was called {len(drawn)} times in {steps} steps: each needs one batch")
        loop_case(losses, weights, torch.tensor(want_losses), want, steps, lr)


def as_losses(losses, steps: int):
    """The losses that an answer returned, (steps,), or Wrong."""
    if losses is None:
        fail("the losses are wanted, one number for each step: this is None")
    if isinstance(losses, (list, tuple)):
        if any(isinstance(value, torch.Tensor) and value.requires_grad for value in losses):
            fail("the losses that are kept hold their graphs in memory: keep loss.item()")
        losses = torch.tensor([float(value) for value in losses])
    if not isinstance(losses, torch.Tensor) or losses.shape != (steps,):
        fail(f"the losses are wanted, a list of {steps} numbers: this is {describe(losses)}")
    return losses.detach().float()


def loop_case(losses, weights, want_losses, want, steps, lr):
    """Raise Wrong unless both are right; AdamW, with its small weight decay, will do as well."""
    _, decayed, _ = trained(variant(kind="AdamW"), steps, lr)
    right = close(weights, want) or close(weights, decayed)
    if right and close(losses, want_losses, 1e-2):
        return
    for cause, loop_of in WRONG_LOOPS.items():
        wrong_losses, wrong, _ = trained(loop_of, steps, lr)
        if close(weights, wrong) and close(losses, torch.tensor(wrong_losses)):
            fail(cause)
    if right:
        fail("the weights are right, the losses that are returned aren't: "
             f"the first is {losses[0]:.4f}, {want_losses[0]:.4f} is wanted")
    compare(losses[:1], want_losses[:1], where="the loss of the first step")
    fail(f"the first loss is right, the weights after {steps} steps are not")
