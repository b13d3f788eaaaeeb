"""The check of lesson 18 on one step of training on films, by its loss and by what it moves."""

import torch
from torch import nn

from minildm.course.exercises.compare import compare, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.spied import judge_mode
from minildm.diffusion import films as package

GIVEN = 2


def train_step(network, optimizer, films, words, noise, t, given):
    times = t[:, None].repeat(1, films.shape[1])
    times[given, :GIVEN] = 0
    at = times[..., None, None, None]
    velocity = network((1 - at) * films + at * noise, times, words)
    error = (velocity - (noise - films)).square().mean((2, 3, 4))
    counts = (times > 0).float()
    loss = (error * counts).sum() / counts.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


class Tiny(nn.Module):
    """A network of films with four weights: of the frame, of all frames, of the time, of words."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.4, -0.3, 0.6, 0.2]))
        # what an earlier step may have left behind
        self.weights.grad = torch.full((4,), 3.0)
        self.calls = 0

    def forward(self, x, t, words):
        if t.shape != x.shape[:2]:
            fail(f"each frame has a time of its own: t is (B, F) = {tuple(x.shape[:2])}, "
                 f"it got {tuple(t.shape)}")
        self.calls += 1
        a, b, c, d = self.weights
        told = words.float().mean(1).reshape(-1, 1, 1, 1, 1)
        # of its own time and of all frames' times
        times = (t + 2 * t.mean(1, keepdim=True))[..., None, None, None]
        return a * x + b * x.mean(1, keepdim=True) + c * times + d * told


def losses_of(films, words, noise, t, given):
    """{cause: loss} of steps that are wrong in one way, and the right one under ""."""
    times = t[:, None].repeat(1, films.shape[1])
    shown = times.clone()
    shown[given, :GIVEN] = 0

    def loss(told=shown, mixed=shown, counts=None, target=None, turned=False):
        at = mixed[..., None, None, None]
        x = at * films + (1 - at) * noise if turned else (1 - at) * films + at * noise
        wanted = noise - films if target is None else target
        error = (Tiny()(x, told, words) - wanted).square().mean((2, 3, 4))
        counts = (shown > 0).float() if counts is None else counts
        return ((error * counts).sum() / counts.sum()).detach()

    everywhere = torch.ones(times.shape)
    late = times.clone()
    late[given, -GIVEN:] = 0
    return {
        "": loss(),
        "the given frames do not count: their noise was never shown": loss(counts=everywhere),
        "the mean is over the frames that count, not over all of them":
            loss() * (shown > 0).float().mean(),
        "the given frames are shown without noise: their time is 0 in x, too": loss(mixed=times),
        "the network is told that the given frames' time is 0": loss(told=times),
        "the given frames are not given: set the times of the first two to 0":
            loss(told=times, mixed=times, counts=everywhere),
        "the given frames are the first two, not the last":
            loss(told=late, mixed=late, counts=(late > 0).float()),
        "the target is noise - films, not films - noise": loss(target=films - noise),
        "the target is noise - films, not the noise": loss(target=noise),
        "the target is noise - films, not the films": loss(target=films),
        "at t = 1 all is noise: x = (1 - t) films + t noise": loss(turned=True),
    }


@check(reference=train_step, forbidden=[package.film_loss])
def check_train_step_of_films(answer):
    for shape, given, rate in (((3, 5, 2, 4, 3), (True, False, True), 0.1),
                               ((4, 4, 1, 3, 2), (False, True, False, False), 0.02)):
        films, noise = randn(*shape), randn(*shape, seed=1)
        words = torch.arange(2 * shape[0]).reshape(shape[0], 2)
        t = torch.linspace(0.2, 0.9, shape[0])
        given = torch.tensor(given)
        network, right = Tiny(), Tiny()
        answer_loss = answer(network, torch.optim.SGD(network.parameters(), rate), films, words,
                             noise, t, given)
        likely = losses_of(films, words, noise, t, given)
        want = likely.pop("")
        compare(answer_loss, want, likely, where=f"{shape[1]} frames")
        if isinstance(answer_loss, torch.Tensor) and answer_loss.requires_grad:
            fail("the loss that is returned keeps its graph, and all of the step, in memory: "
                 "loss.item()")
        judge_mode(network)
        train_step(right, torch.optim.SGD(right.parameters(), rate), films, words, noise, t, given)
        compare_weights(network, right, rate)
        answer.right += 1


def compare_weights(network, right, rate):
    """Whether the step moved the weights as it should, after the loss was found right."""
    begin = Tiny().weights.detach()
    moved = begin - right.weights.detach()
    if network.calls != 1:
        fail(f"the network is asked {network.calls} times: once a step")
    compare(network.weights.detach(), right.weights.detach(), {
        "the weights stand still: backward() and optimizer.step() are missing": begin,
        "an earlier step's gradient is still there: zero_grad() before backward()":
            begin - moved - rate * 3.0,
        "the gradient of this step is gone: zero_grad() comes before backward(), not after it":
            begin - 0 * moved,
        "the step goes downhill once: the loss falls": begin + moved,
    }, where="the weights after the step")
