"""The checks of lesson 04 on training: the noise-prediction loss, a step with an average."""

import copy

import torch
from torch import nn

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import close, compare, describe, fail
from minildm.course.exercises.fakes import (
    Network,
    follows_generator,
    generator,
    randn,
    warped,
)
from minildm.course.exercises.harness import check
from minildm.course.exercises.spied import in_order
from minildm.diffusion import schedules
from minildm.diffusion.denoiser import Denoiser

# ---- the loss ------------------------------------------------------------------------------------

def noise_loss(network, schedule, data, labels, generator):
    t = torch.rand(len(data), generator=generator, device=data.device)
    noise = torch.randn(data.shape, generator=generator, device=data.device)
    x = schedules.add_noise(schedule, data, noise, t)
    return (network(x, t, labels) - noise).square().mean()


class Scaled(Network):
    """The recording network, times a weight that gradients should reach."""

    def __init__(self):
        super().__init__()
        self.weight = torch.tensor(1.3, requires_grad=True)

    def __call__(self, x, t, context=None):
        return self.weight * super().__call__(x, t, context)


@check(reference=noise_loss, forbidden=[Denoiser.loss])
def check_noise_loss(answer):
    # channels of pictures and of latents; a schedule on which alpha^2 + sigma^2 is not 1
    for shape, schedule, classes in ((60, 2, 3, 5), warped, 7), ((48, 3, 4, 2), schedules.flow, 4):
        data, labels = 0.8 * randn(*shape, seed=11) + 0.4, torch.arange(shape[0]) % classes

        def inputs(source, given=(schedule, data, labels)):
            return Network(), *given, source

        follows_generator(answer, inputs)
        network = Scaled()
        loss = answer(network, schedule, data, labels, generator())
        judge_call(network, labels, len(data))
        x, t, _ = network.calls[0]
        noise = judge_noised(schedule, data, x, t)
        judge_loss(loss, network, (x, t, labels), noise, data)
        answer.right += 1


def judge_call(network, labels, n):
    """Raise Wrong unless the network was asked once, with a time and a label for each."""
    if len(network.calls) != 1:
        fail(f"the network is asked once, yours asked it {len(network.calls)} times")
    x, t, context = network.calls[0]
    if t.shape != (n,) or t.unique().numel() == 1:
        fail("each picture has a time of its own: draw B of them")
    if context is None:
        fail("the network gets the labels as well")
    compare(context, labels, where="the labels that the network gets")
    if t.min() < 0 or t.max() > 1:
        fail(f"times lie in [0, 1], yours go from {t.min():.2f} to {t.max():.2f}")
    # six standard errors of a uniform mean
    if abs(t.mean().item() - 0.5) > 6 * 0.289 / n**0.5:
        fail(f"times are uniform in [0, 1], the mean of yours is {t.mean():.2f}")


def judge_noised(schedule, data, x, t):
    """The noise in x, which must be data noised to the times t by standard normal numbers."""
    at = schedules.expand(t, data)
    alpha, sigma = schedule.alpha(at), schedule.sigma(at).clamp(min=1e-6)
    noise = (x - alpha * data) / sigma
    wrong = {
        "the data isn't multiplied by alpha": (x - data) / sigma,
        "alpha is the root of alpha_bar already: no squares": (x - alpha**2 * data) / sigma**2,
        "data + noise is no x_t: the schedule scales them": x - data,
        "the noise isn't multiplied by sigma": x - alpha * data,
        "alpha isn't always 1 - t": (x - (1 - at) * data) / at.clamp(min=1e-6),
        "time runs from 0, data, to 1, noise":
            (x - schedule.alpha(1 - at) * data) / schedule.sigma(1 - at).clamp(min=1e-6),
        "data and noise changed places in x_t": (x - sigma * data) / alpha.clamp(min=1e-6),
    }
    if is_noise(noise, data):
        source = generator()
        own = torch.rand(len(data), generator=source)
        first = torch.randn(data.shape, generator=source)
        # all students draw alike, so that their lessons show the same
        if not (close(t, own) and close(noise, first, tol=1e-3)):
            fail("draw the times first, by torch.rand, then the noise, by torch.randn")
        return noise
    if close(x, data):
        fail("the network must see noisy x_t: this is the data")
    for cause, rest in wrong.items():
        if is_noise(rest, data):
            fail(cause)
    if noise.std() < 0.7:
        fail("the noise is uniform or too weak: it is normal, of std 1")
    fail("the network must see alpha data + sigma noise, with standard normal noise")


def is_noise(noise, data) -> bool:
    """Whether numbers look standard normal, each picture's its own, and not like the data."""
    if not noise.isfinite().all() or noise.std(0).min() < 1e-3:
        return False
    n = noise.numel()
    centred = (data - data.mean()) / data.std()
    # standard errors of a mean, a variance, a fourth moment and a correlation
    off = (noise.mean().abs(), (noise.square().mean() - 1).abs() / 2**0.5,
           (noise**4).mean().sub(3).abs() / 96**0.5, (noise * centred).mean().abs())
    return max(off) < 5.5 / n**0.5


def judge_loss(loss, network, asked, noise, data):
    """Raise Wrong unless the loss is the mean squared error of the guessed noise."""
    if isinstance(loss, float):
        fail("that is a number without a graph: backward() needs the tensor")
    x, guess = asked[0], network(*asked)
    error = guess - noise
    want = error.square().mean()
    compare(loss, want, {
        "aim at the noise, not at the data": (guess - data).square().mean(),
        "aim at the noise, not at x_t": (guess - x).square().mean(),
        "aim at the noise, not at noise - data": (error + data).square().mean(),
        "that is one loss for each picture: their mean": error.square().mean((1, 2, 3)),
        "a sum, not a mean": error.square().sum(),
        "a mean over everything, not a sum over each picture's values":
            error.square().sum((1, 2, 3)).mean(),
        "absolute errors: their squares": error.abs().mean(),
        "the root of the mean square: no root": want.sqrt(),
        "the square of the mean error: the mean of the squares": error.mean().square(),
        "errors are not squared: they cancel": error.mean(),
        "half of it: no factor": want / 2,
        "the network's guess isn't used": (x - noise).square().mean(),
        "the errors are not reduced to one number": error.square(),
    }, where="the loss")
    compare_gradients(loss, want, weight=network.weight)


# ---- the step ------------------------------------------------------------------------------------

def ema_step(network, average, optimizer, loss, decay):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)
    return loss.item()


class Line(nn.Module):
    """A network of two tensors and a buffer."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(randn(4, 3, seed=5))
        self.bias = nn.Parameter(randn(3, seed=6))

    def loss(self, i):
        x, y = randn(6, 4, seed=i), randn(6, 3, seed=20 + i)
        return (torch.tanh(x @ self.weight) + self.bias - y).square().mean()


def trained(step, decay, calls=3, lr=0.3, scale=lambda i: 1.0) -> tuple:
    """Losses, weights and averages of some steps with momentum, from a fresh network.

    scale(i) is what the loss of step i is multiplied by.
    """
    network = Line()
    average = copy.deepcopy(network).requires_grad_(False)
    with torch.no_grad():
        # not the network's own, as they are after many steps
        for i, mean in enumerate(average.parameters()):
            mean.add_(randn(*mean.shape, seed=40 + i))
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.5)
    losses = []
    for i in range(calls):
        losses.append(step(network, average, optimizer, network.loss(i) * scale(i), decay))

    def flat(module):
        return torch.cat([p.detach().flatten() for p in module.parameters()])

    return losses, flat(network), flat(average)


def variant(order="zero backward step average", change=None, clip=None):
    """A training step with a likely mistake.

    change(mean, weight, decay) takes the place of the average's step; clip(parameters) is the part
    "clip" of an order that has one.
    """
    def plain(mean, weight, decay):
        mean.lerp_(weight, 1 - decay)

    def step(network, average, optimizer, loss, decay):
        @torch.no_grad()
        def follow():
            for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
                (change or plain)(mean, weight, decay)

        in_order(order, zero=optimizer.zero_grad, backward=loss.backward, step=optimizer.step,
                 average=follow, clip=lambda: clip(list(network.parameters())))
        return loss.item()

    return step


WRONG_STEPS = {
    "gradients of earlier steps add up: is zero_grad missing?": variant("backward step average"),
    "the weights stay as they were: optimizer.step() needs the gradients of backward()":
        variant("zero backward average"),
    "the step comes before the gradients": variant("zero step backward average"),
    "the average moves after the step: yours takes the weights from before it":
        variant("average zero backward step"),
    "the average stays as it was": variant("zero backward step"),
    "the average keeps the share `decay` of itself: yours moves that far":
        variant(change=lambda mean, weight, decay: mean.lerp_(weight, decay)),
    "the average became a copy of the network": variant(
        change=lambda mean, weight, decay: mean.copy_(weight)),
    "the network moves, not its average": variant(
        change=lambda mean, weight, decay: weight.lerp_(mean, 1 - decay)),
    "two steps instead of one": variant("zero backward step step average"),
    "the average keeps the share `decay` of itself and takes 1 - decay of the weights": variant(
        change=lambda mean, weight, decay: mean.mul_(decay).add_(weight)),
}


@check(reference=ema_step)
def check_ema_step(answer):
    for decay in 0.9, 0.35:
        judge_step(answer, decay)
        answer.right += 1


def judge_step(answer, decay):
    losses, weights, average = trained(answer, decay)
    want_losses, want_weights, want_average = trained(ema_step, decay)
    right = close(weights, want_weights) and close(average, want_average)
    if not right:
        for cause, step in WRONG_STEPS.items():
            _, wrong_weights, wrong_average = trained(step, decay)
            if close(weights, wrong_weights) and close(average, wrong_average):
                fail(cause)
        if not close(weights, want_weights):
            fail("the network's weights after three steps are not right")
        fail("the network's weights are right, its average isn't")
    for loss, want in zip(losses, want_losses, strict=True):
        if loss is None:
            fail("return the loss, one number")
        if isinstance(loss, torch.Tensor) and loss.requires_grad:
            fail("that loss holds on to its graph: return loss.item()")
        if not isinstance(loss, (float, torch.Tensor)):
            fail(f"return the loss, one number: this is {describe(loss)}")
        compare(torch.as_tensor(loss), torch.tensor(want), where="the loss that is returned")
