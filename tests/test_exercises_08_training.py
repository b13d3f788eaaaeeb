"""Lesson 08's checks of the student's own network: its inputs, its loss, its training."""

import re
from textwrap import dedent

import pytest
import torch
import torch.nn.functional as F
from support.answers import right_and_wrong, told
from torch import nn

from minildm import exercises
from minildm.course.exercises.lesson_08_training import PointNetwork as Reference

LOSS = """
    n = len(points)
    t = torch.rand(n, generator=generator)
    noise = torch.randn(n, 2, generator=generator)
    gone = torch.rand(n, generator=generator) < share
    told = torch.where(gone, null, labels)
    x = (1 - t[:, None]) * points + t[:, None] * noise
    return (network(x, t, told) - (noise - points)).square().mean()
"""
TRAIN = """
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    losses = []
    for i in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - i / steps)
        rows = torch.randint(len(points), (batch_size,), generator=generator)
        optimizer.zero_grad()
        value = loss(network, points[rows], labels[rows], generator)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses
"""


def other(source, *changes):
    """The source with some of its parts replaced; each must be there."""
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    return source


RIGHT = [
    ("label_loss", LOSS),
    ("label_loss", """
        told = labels.clone()
        told[torch.rand(len(labels), generator=generator) < share] = null
        noise = torch.empty_like(points).normal_(generator=generator)
        t = torch.rand(len(points), 1, generator=generator)
        return F.mse_loss(network(torch.lerp(points, noise, t), t[:, 0], told), noise - points)
     """),
    ("train", TRAIN),
    ("train", """
        optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=0.01)
        falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1 - i / steps)
        history = torch.zeros(steps)
        for i in range(steps):
            rows = torch.randperm(len(points), generator=generator)[:batch_size]
            value = loss(network, points[rows], labels[rows], generator)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            falling.step()
            history[i] = value.detach()
        return history.tolist()
     """),
]

WRONG = [
    ("label_loss", "negative", other(LOSS, ("(noise - points)", "(points - noise)"))),
    ("label_loss", "not the noise", other(LOSS, ("(noise - points)", "noise"))),
    ("label_loss", "not the data", other(LOSS, ("(noise - points)", "points"))),
    ("label_loss", "mixed otherwise|anew", other(
        LOSS, ("(1 - t[:, None]) * points + t[:, None]",
               "t[:, None] * points + (1 - t[:, None])"))),
    ("label_loss", "mixed|anew", other(LOSS, ("(1 - t[:, None]) * points", "points"))),
    ("label_loss", "changed places", other(LOSS, ("< share", "> share"))),
    ("label_loss", "all labels or none", other(
        LOSS, ("gone = torch.rand(n,", "gone = torch.rand(1,"))),
    ("label_loss", "not dropped stays|not 0.1|none|all", other(
        LOSS, ("(gone, null, labels)", "(gone, 0, labels)"))),
    ("label_loss", "in rows", other(
        LOSS, ("gone = torch.rand(n, generator=generator) < share",
               "gone = (torch.rand(n // 8, generator=generator) < share).repeat_interleave(8)"))),
    ("label_loss", "time of its own", other(LOSS, ("t = torch.rand(n,", "t = torch.rand(1,"))),
    ("label_loss", "uniform", other(LOSS, ("t = torch.rand(n, generator=generator)",
                                           "t = torch.rand(n, generator=generator)**2"))),
    ("label_loss", "see noisy", other(LOSS, ("network(x, t, told)", "network(points, t, told)"))),
    ("label_loss", "labels.*told|share of|none or|all labels", other(
        LOSS, ("network(x, t, told)", "network(x, t, labels)"))),
    ("label_loss", "a sum", other(LOSS, (".mean()", ".sum()"))),
    ("label_loss", "squared", other(LOSS, (".square().mean()", ".abs().mean()"))),
    ("label_loss", "one number", other(LOSS, (".square().mean()", ".square().mean(1)"))),
    ("label_loss", "both coordinates", other(LOSS, (".square().mean()", ".square().sum(1).mean()"))),
    ("label_loss", "unit size|mixed", other(LOSS, ("torch.randn(n, 2,", "torch.rand(n, 2,"))),
    ("label_loss", "anew for each", other(LOSS, ("torch.randn(n, 2, generator=generator)",
                                                 "torch.randn(n, 1, generator=generator)"
                                                 ".expand(n, 2)"))),
    ("label_loss", "global generator", other(LOSS, ("(n, 2, generator=generator)", "(n, 2)"))),
    ("label_loss", "seed", "generator = torch.Generator().manual_seed(0)\n" + dedent(LOSS)),
    ("label_loss", "in place", "labels[:400] = null\n" + dedent(LOSS)),
    ("label_loss", "asked 0 times", "return torch.tensor(1.0)"),
    ("train", "add up", other(TRAIN, ("        optimizer.zero_grad()\n", ""))),
    ("train", "don't move", other(TRAIN, ("        optimizer.step()\n", ""))),
    ("train", "don't move", other(TRAIN, ("        value.backward()\n", ""))),
    ("train", "uphill", other(TRAIN, ("value.backward()", "(-value).backward()"))),
    ("train", "stays the same", other(TRAIN, ("lr * (1 - i / steps)", "lr"))),
    ("train", "equal parts", other(TRAIN, ("lr * (1 - i / steps)", "lr * (1 - i / steps)**2"))),
    ("train", "equal parts", other(TRAIN, ("lr * (1 - i / steps)", "3e-3 * (1 - i / steps)"))),
    ("train", "equal parts", other(TRAIN, ("optim.Adam(", "optim.SGD("))),
    ("train", "weights decay", other(TRAIN, (
        "optim.Adam(network.parameters(), lr=lr)",
        "optim.AdamW(network.parameters(), lr=lr, weight_decay=0.1)"))),
    ("train", "cut before the step", other(TRAIN, (
        "        optimizer.step()", "        nn.utils.clip_grad_norm_(network.parameters(), 1.0)\n"
                                    "        optimizer.step()"))),
    ("train", "training mode", other(TRAIN, ("    losses = []", "    losses = []\n    network.eval()"))),
    ("train", "number 11 is never drawn", other(TRAIN, ("(len(points),", "(len(points) - 1,"))),
    ("train", "belong together", other(TRAIN, ("labels[rows]", "labels[rows.flip(0)]"))),
    ("train", "in the set's order|of its own", other(
        TRAIN, ("torch.randint(len(points), (batch_size,), generator=generator)",
                "torch.arange(batch_size)"))),
    ("train", "batch has 8", other(TRAIN, ("(batch_size,)", "(256,)"))),
    ("train", "once in each", other(TRAIN, ("range(steps)", "range(steps - 1)"))),
    ("train", "list of 12", other(TRAIN, ("return losses", "return losses[-1]"))),
    ("train", "list of 12", other(TRAIN, ("return losses", "return"))),
    ("train", "graph", other(TRAIN, ("value.item()", "value"))),
    ("train", "own|random", other(
        TRAIN, ("    losses = []", "    losses = []\n    rows = torch.randint(len(points), "
                                   "(batch_size,), generator=generator)"),
        ("        rows = torch.randint(len(points), (batch_size,), generator=generator)\n", ""))),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG)


class Concatenating(nn.Module):
    """Another right network: one-hot labels beside the point and its time, tanh between."""

    def __init__(self, labels, width):
        super().__init__()
        self.labels = labels
        self.net = nn.Sequential(nn.Linear(4 + labels, width), nn.Tanh(), nn.Linear(width, width),
                                 nn.Tanh(), nn.Linear(width, 2))

    def hot(self, label):
        return F.one_hot(label, self.labels + 1).float()

    def time(self, x, t):
        return torch.as_tensor(t).float().expand(len(x)).unsqueeze(1)

    def forward(self, x, t, label):
        return self.net(torch.cat([x, self.time(x, t), self.hot(label)], 1))


class NoTime(Concatenating):
    def time(self, x, t):
        return torch.ones(len(x), 1)


class NoLabel(Concatenating):
    def hot(self, label):
        return torch.ones(len(label), self.labels + 1)


class NoNull(Concatenating):
    def hot(self, label):
        return F.one_hot(label, self.labels).float()


class NullIsTheLast(Concatenating):
    def hot(self, label):
        return F.one_hot(label.clamp(max=self.labels - 1), self.labels + 1).float()


class OnlyBatches(Concatenating):
    def time(self, x, t):
        return t[:, None]


class Centred(Concatenating):
    def forward(self, x, t, label):
        return super().forward(x - x.mean(0), t, label)


class Linear(Concatenating):
    def __init__(self, labels, width):
        super().__init__(labels, width)
        self.net = nn.Sequential(nn.Linear(4 + labels, width), nn.Linear(width, 2))


class Idle(Concatenating):
    def __init__(self, labels, width):
        super().__init__(labels, width)
        self.extra = nn.Linear(width, width)


class OneNumber(Concatenating):
    def forward(self, x, t, label):
        return super().forward(x, t, label).sum(1)


class InAList(Concatenating):
    def __init__(self, labels, width):
        super().__init__(labels, width)
        self.hidden = [self.net]
        del self.net

    def forward(self, x, t, label):
        return self.hidden[0](torch.cat([x, self.time(x, t), self.hot(label)], 1))


def test_networks_of_other_forms_pass():
    exercises.check_PointNetwork(Concatenating)


@pytest.mark.parametrize("network, said", {
    NoTime: "another t", NoLabel: "another label", NoNull: "raised", NullIsTheLast: "another label",
    OnlyBatches: "raised", Centred: "other points", Linear: "nonlinearity", Idle: "not used",
    OneNumber: "shape", InAList: "no weights"}.items())
def test_wrong_networks_are_told_what_is_wrong(network, said):
    assert re.search(said, told("PointNetwork", network))


def test_the_packages_network_is_nobodys_answer():
    assert "write yours" in told("PointNetwork", Reference)
