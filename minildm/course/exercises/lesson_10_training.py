"""The check of lesson 10 on the training of a DiT, by what a spying network sees of it."""

import torch
from torch import nn

from minildm.course.exercises.compare import fail
from minildm.course.exercises.fakes import generator
from minildm.course.exercises.harness import check
from minildm.course.exercises.spied import (
    Watched,
    cut,
    judge_list,
    judge_moves,
    judge_velocity,
    judge_way,
)
from minildm.diffusion.denoiser import logit_normal
from minildm.diffusion.schedules import add_noise, flow


def rate_at(i, steps):
    """The share of the learning rate that step i = 0, 1, ... has: up in 20 steps, down to zero."""
    return min(1, (i + 1) / 20) * (1 - i / steps)


def train_dit(network, mean, std, labels, steps, lr, generator, batch=64):
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, betas=(0.9, 0.95))
    losses = []
    for i in range(steps):
        optimizer.param_groups[0]["lr"] = lr * rate_at(i, steps)
        picked = torch.randint(len(mean), (batch,), generator=generator)
        data = mean[picked] + std[picked] * torch.randn(mean[picked].shape, generator=generator)
        noise = torch.randn(data.shape, generator=generator)
        t = logit_normal(batch, generator)
        dropped = torch.rand(batch, generator=generator) < 0.1
        velocity = network(add_noise(flow, data, noise, t), t, labels[picked], dropped)
        loss = (velocity - (noise - data)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


class Spy(Watched):
    """A network with one weight that remembers what it is called with and what it is taught."""

    multiple, null_context = 1, 3

    def __init__(self):
        super().__init__()
        self.calls, self.weights = [], []

    def forward(self, x, t, labels, dropped=None):
        if not isinstance(t, torch.Tensor) or t.shape != (len(x),):
            fail("each picture of a batch has a time of its own: t is (B,)")
        if labels.shape != (len(x),):
            fail(f"the network wants labels (B,) = ({len(x)},), it got {tuple(labels.shape)}")
        lost = labels == self.null_context
        if dropped is not None:
            lost = lost | dropped
        self.calls.append((x.detach().clone(), t.clone(), labels.clone(), lost))
        self.weights.append(self.value.item())
        return self.value + 0 * x


LEVELS = torch.tensor([6.0, 20.0, 12.0, 0.0])       # the mean of each label's latents


def run(answer, mean, std, labels, steps, lr=0.01, batch=32):
    """Train a spy -> (spy, what the answer returned)."""
    spy = Spy()
    losses = answer(spy, mean, std, labels, steps, lr, generator(0), batch)
    if len(spy.calls) != steps:
        fail(f"the network is asked {len(spy.calls)} times in {steps} steps: once a step")
    sizes = {len(x) for x, *_ in spy.calls}
    if sizes != {batch}:
        fail(f"batches are of {sorted(sizes)} latents, {batch} are asked for")
    return spy, losses


@check(reference=train_dit)
def check_train_dit(answer):
    labels = torch.arange(60) % 3
    mean = LEVELS[labels].reshape(-1, 1, 1, 1).expand(-1, 2, 3, 4).clone()
    spy, losses = run(answer, mean, 0 * mean, labels, steps=100)
    check_noising(spy)
    check_losses(spy, losses)
    check_steps(spy, lr=0.01)
    answer.right += 1
    check_batches(*run(answer, 0 * mean, 2 + 0 * mean, labels, steps=25, lr=0.003, batch=200))

    def last_loss(g):
        found = answer(Spy(), mean, 0 * mean + 1, labels, 3, 0.01, g, 8)
        return torch.tensor(found[-1])

    first, again, other = (last_loss(generator(seed)) for seed in (0, 0, 1))
    if first != again:
        fail("one seed, two results: draw every random number from `generator`")
    if first == other:
        fail("another seed gives the same losses: draw from `generator`, and don't seed it")


def noise_in(calls) -> torch.Tensor:
    """The noise in x, as far as it is known: std is 0 and each label has its own data."""
    found = []
    for x, t, labels, _ in calls:
        kept = labels < 3
        at = t[kept].reshape(-1, 1, 1, 1)
        data = LEVELS[labels[kept]].reshape(-1, 1, 1, 1)
        found.append(((x[kept] - (1 - at) * data) / at.clamp(min=1e-3))[at.flatten() > 0.05])
    return torch.cat(found)


def check_noising(spy):
    """Whether x is (1 - t) data + t noise, of the data that have these labels."""
    noise = noise_in(spy.calls)
    if noise.abs().mean() > 2:
        x, t, labels, _ = spy.calls[0]
        back = (x - t.reshape(-1, 1, 1, 1) * LEVELS[labels].reshape(-1, 1, 1, 1))
        back = back / (1 - t).reshape(-1, 1, 1, 1)
        if 0.7 < back.std() < 1.4:
            fail("data and noise changed places: at t = 0 there is data, at t = 1 noise")
        fail("x isn't (1 - t) data + t noise of the data that have these labels: "
             "the same `picked` for mean, std and labels?")
    if abs(noise.mean()) > 0.15 or abs(noise.std() - 1) > 0.1:
        fail(f"the noise has mean {noise.mean():.2f} and standard deviation {noise.std():.2f}: "
             "0 and 1 are wanted")
    # of one step: the steps differ in any case
    if noise_in(spy.calls[:1]).std(0).max() < 0.3:
        fail("all pictures get the same noise: draw it for the whole batch")


def check_losses(spy, losses):
    """Whether each result is the mean square of velocity minus (noise - data)."""
    judge_list(losses, len(spy.calls))
    for (x, t, labels, _), weight, loss in zip(spy.calls, spy.weights, losses, strict=True):
        if (labels == 3).any() or (t < 0.02).any():
            continue        # the data or the noise can't be told
        at = t.reshape(-1, 1, 1, 1)
        data = LEVELS[labels].reshape(-1, 1, 1, 1)
        noise = (x - (1 - at) * data) / at
        judge_velocity(loss, weight, data, noise, 0.02)


def check_steps(spy, lr: float):
    """Whether gradients are fresh and steps have the size of the rate, which ends near zero."""
    moves = judge_moves(spy, spy.weights, lr, "the network", "lr * rate_at(i, steps)")
    if moves[0] > 0.3 * moves.max():
        fail("the first step has the full rate: rate_at(i, steps) begins at 1/20, with i = 0")
    n = len(spy.weights)
    way = torch.tensor([*spy.weights, spy.value.item()]).diff()
    rates = torch.tensor([lr * rate_at(i, n) for i in range(n)])
    if not judge_way(way, cut(spy.gradients), rates, {
        "the gradients are as long as they come: cut them to 1 before the step":
            {"gradients": spy.gradients},
        "betas are 0.9 and 0.95: these are torch's own, and the gradients are not cut":
            {"betas": (0.9, 0.999), "gradients": spy.gradients},
        "the rate of the step before: it is set before the step":
            {"rates": torch.cat([torch.tensor([lr]), rates[:-1]])},
        "the rate of the step after: in step i it is rate_at(i, steps)":
            {"rates": torch.tensor([lr * rate_at(i + 1, n) for i in range(n)])},
    }, betas=(0.9, 0.95)):
        fail("the steps are not AdamW's with the rates lr * rate_at(i, steps), betas 0.9 and 0.95 "
             "and all else as torch has it")


def check_batches(spy, losses):
    """Whether std is used, times are logit-normal and a tenth of the labels is dropped."""
    x, t, labels, lost = (torch.cat(parts) for parts in zip(*spy.calls, strict=True))
    low = x[t < 0.4] / ((1 - t[t < 0.4])**2 * 4 + t[t < 0.4]**2).sqrt().reshape(-1, 1, 1, 1)
    if low.std() < 0.75:
        fail("the latents are means without spread: data is mean + std * a normal number")
    if abs(low.std() - 1) > 0.1:
        fail(f"the latents have {low.std():.2f} times the spread that they should: "
             "data is mean + std * a normal number, and x is (1 - t) data + t noise")
    if t.min() < 0 or t.max() > 1:
        fail("times are in [0, 1]")
    middle = ((t > 0.25) & (t < 0.75)).float().mean()
    if middle < 0.6:
        fail(f"{middle:.0%} of the times are between 0.25 and 0.75, as with even times: "
             "logit_normal has 73 % there")
    share = lost.float().mean()
    if share == 0:
        fail("no label is ever dropped: `dropped` goes to the network")
    if share > 0.6:
        fail(f"{share:.0%} of the labels are dropped: a tenth is to be, not kept")
    if not 0.07 < share < 0.13:
        fail(f"{share:.1%} of the labels are dropped: 10 % are wanted")
    if len({tuple(call[2].tolist()) for call in spy.calls}) < len(spy.calls):
        fail("every step has the same batch: draw one in each")
