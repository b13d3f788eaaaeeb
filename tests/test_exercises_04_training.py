"""Lesson 04's checks of widths, loss and labels: wrong answers are told what is wrong."""

import re

import pytest
from support.answers import cases, passes, told, written

from minildm.diffusion.schedules import add_noise

HELPERS = {"add_noise": add_noise}
NOISY = "x = add_noise(schedule, data, noise, t)\nreturn "
DRAW = "u = torch.rand(len(labels), generator=generator)\nreturn "
UP = """
    skips = [channels[0]]
    for level, c in enumerate(channels):
        skips += {down}
    h, inputs = {begin}, []
    for c in {order}:
        for _ in range({times}):
            inputs.append({take})
            h = c
    return inputs
"""
PLAN = {"down": "[c] * blocks + [c] * (level < len(channels) - 1)", "begin": "channels[-1]",
        "order": "reversed(channels)", "times": "blocks + 1", "take": "h + skips.pop()"}


def plan(**changed):
    return UP.format(**PLAN | changed)

RIGHT = [
    ("up_inputs", plan()),
    ("up_inputs", """
        skips = [channels[0]]
        for i in range(len(channels)):
            for _ in range(blocks):
                skips.append(channels[i])
            if i + 1 < len(channels):
                skips.append(channels[i])
        widths = []
        below = channels[-1]
        for c in channels[::-1]:
            for _ in range(blocks + 1):
                widths.append(below + skips.pop(-1))
                below = c
        return tuple(widths)
     """),
    ("up_inputs", plan() .replace("return inputs", "return torch.tensor(inputs)")),
    ("loss_each", NOISY + "(network(x, t) - noise).square().mean((1, 2, 3))"),
    ("loss_each", NOISY + "F.mse_loss(network(x, t), noise, reduction='none').flatten(1).mean(1)"),
    ("loss_each", """
        losses = []
        for i in range(len(t)):
            x = add_noise(schedule, data[i:i + 1], noise[i:i + 1], t[i:i + 1])
            losses.append(F.mse_loss(network(x, t[i:i + 1]), noise[i:i + 1]))
        return torch.stack(losses)
     """),
    ("loss_each", """
        each = t[:, None, None, None]
        x = schedule.alpha(each) * data + schedule.sigma(each) * noise
        return torch.linalg.vector_norm(network(x, t) - noise, dim=(1, 2, 3))**2 / data[0].numel()
     """),
    ("drop_labels", DRAW + "torch.where(u < p, null, labels)"),
    ("drop_labels", DRAW + "labels.masked_fill(u < p, null)"),
    ("drop_labels", "labels.clone().masked_fill(torch.bernoulli(torch.full(labels.shape, p), "
                    "generator=generator).bool(), null)"),
    ("drop_labels", """
        out = labels.clone()
        for i in range(len(labels)):
            if torch.rand((), generator=generator) < p:
                out[i] = null
        return out
     """),
    ("drop_labels", "keep = torch.rand(labels.shape, generator=generator) >= p\n"
                    "return labels * keep + null * ~keep"),
]

WRONG = [
    ("up_inputs", "glued on", plan(take="h")),
    ("up_inputs", "skips alone", plan(take="skips.pop()")),
    ("up_inputs", "newest", plan(take="h + skips.pop(0)")),
    ("up_inputs", "halvings", plan(down="[c] * blocks", take="h + (skips.pop() if skips else 0)")),
    ("up_inputs", "no halving at the last", plan(down="[c] * (blocks + 1)")),
    ("up_inputs", "last level comes first", plan().replace("return inputs", "return inputs[::-1]")),
    ("up_inputs", r"blocks \+ 1", plan(times="blocks")),
    ("up_inputs", "raised", plan(times="blocks + 2")),
    ("up_inputs", "should be", plan(order="channels", begin="channels[0]")),
    ("up_inputs", "should be", plan(begin="channels[0]")),
    ("up_inputs", "width of the level below", plan(take="c + skips.pop()")),
    ("up_inputs", "should be", plan().replace("[channels[0]]", "[channels[-1]]")),
    ("up_inputs", "should be", plan(take="h * skips.pop()")),
    ("up_inputs", "should be|raised", plan().replace("skips = [channels[0]]", "skips = []")),
    ("up_inputs", "no halving at the last", plan(take="h + c")),
    ("up_inputs", "an int", "sum(channels) * blocks"),
    ("up_inputs", "outputs' widths", "[c for c in reversed(channels) for _ in range(blocks + 1)]"),
    ("up_inputs", "should be|raised|too many",
     plan(down="[c] * 2 + [c] * (level < len(channels) - 1)", times="3")),
    ("up_inputs", "return", plan().replace("return inputs", "return")),
    ("loss_each", "not at the data", NOISY + "(network(x, t) - data).square().mean((1, 2, 3))"),
    ("loss_each", "not at x_t", NOISY + "(network(x, t) - x).square().mean((1, 2, 3))"),
    ("loss_each", "noise - data",
     NOISY + "(network(x, t) - (noise - data)).square().mean((1, 2, 3))"),
    ("loss_each", "one number", NOISY + "F.mse_loss(network(x, t), noise)"),
    ("loss_each", "a sum", NOISY + "(network(x, t) - noise).square().sum((1, 2, 3))"),
    ("loss_each", "absolute", NOISY + "(network(x, t) - noise).abs().mean((1, 2, 3))"),
    ("loss_each", "no root", NOISY + "(network(x, t) - noise).square().mean((1, 2, 3)).sqrt()"),
    ("loss_each", "mean of the squares",
     NOISY + "(network(x, t) - noise).mean((1, 2, 3)).square()"),
    ("loss_each", "noisy", "(network(data, t) - noise).square().mean((1, 2, 3))"),
    ("loss_each", r"t in \[0, 1\]",
     NOISY + "(network(x, 1000 * t) - noise).square().mean((1, 2, 3))"),
    ("loss_each", "first one's",
     NOISY + "(network(x, t[:1].expand(len(t))) - noise).square().mean((1, 2, 3))"),
    ("loss_each", "times of shape",
     NOISY + "(network(x, t[:, None, None, None]) - noise).square().mean((1, 2, 3))"),
    ("loss_each", "changed places", "x = add_noise(schedule, noise, data, t)\n"
                                    "return (network(x, t) - noise).square().mean((1, 2, 3))"),
    ("loss_each", "the schedule scales",
     "(network(data + noise, t) - noise).square().mean((1, 2, 3))"),
    ("loss_each", "isn't asked", NOISY + "(x - noise).square().mean((1, 2, 3))"),
    ("loss_each", "the shape", NOISY + "(network(x, t) - noise).square().mean((2, 3))"),
    ("loss_each", "the shape", NOISY + "(network(x, t) - noise).square().mean((0, 2, 3))"),
    ("loss_each", "axis of length 1",
     NOISY + "(network(x, t) - noise).square().mean((1, 2, 3), keepdim=True)"),
    ("loss_each", "in place",
     "data += noise\nreturn (network(data, t) - noise).square().mean((1, 2, 3))"),
    ("loss_each", "two results", "noise = torch.randn_like(data)\n" + NOISY
     + "(network(x, t) - noise).square().mean((1, 2, 3))"),
    ("loss_each", "two results", "t = torch.rand(len(t))\n" + NOISY
     + "(network(x, t) - noise).square().mean((1, 2, 3))"),
    ("loss_each", "half|0.5 times",
     NOISY + "0.5 * (network(x, t) - noise).square().mean((1, 2, 3))"),
    ("drop_labels", "in place",
     "labels[torch.rand(len(labels), generator=generator) < p] = null\nreturn labels"),
    ("drop_labels", "not 0", DRAW + "torch.where(u < p, 0, labels)"),
    ("drop_labels", "not -1", DRAW + "torch.where(u < p, -1, labels)"),
    ("drop_labels", "not 10", DRAW + "torch.where(u < p, 10, labels)"),
    ("drop_labels", "all or none",
     "torch.where(torch.rand(1, generator=generator) < p, null, labels)"),
    ("drop_labels", "all or none|an int",
     "null if torch.rand((), generator=generator) < p else labels"),
    ("drop_labels", "1 - p", DRAW + "torch.where(u > p, null, labels)"),
    ("drop_labels", "1 - p", DRAW + "torch.where(u < 1 - p, null, labels)"),
    ("drop_labels", "global generator", "torch.where(torch.rand(len(labels)) < p, null, labels)"),
    ("drop_labels", "another seed",
     "torch.where(torch.rand(len(labels), generator=generator.manual_seed(0)) < p, "
                                    "null, labels)"),
    ("drop_labels", "all or none", "labels"),
    ("drop_labels", "not p", DRAW + "torch.where(u < 0.1, null, labels)"),
    ("drop_labels", "not p", "u = torch.randn(len(labels), generator=generator)\n"
                             "return torch.where(u < p, null, labels)"),
    ("drop_labels", "whatever the seed",
     "out = labels.clone()\n"
     "out[torch.randperm(len(labels), generator=generator)[:round(p * len(labels))]] = "
     "null\nreturn out"),
    ("drop_labels", "in rows|not p", "u = torch.rand(len(labels) // 10 + 1, generator=generator)"
                                     ".repeat_interleave(10)[:len(labels)]\n"
                                     "return torch.where(u < p, null, labels)"),
    ("drop_labels", "type", DRAW + "torch.where(u < p, float(null), labels.float())"),
    ("drop_labels", "which are dropped|type", DRAW + "u < p"),
    ("drop_labels", "shape", DRAW + "labels[u >= p]"),
    ("drop_labels", "of label",
     "u = torch.rand(int(labels.max()) + 1, len(labels), generator=generator)[0]\n"
                                "return torch.where((u < 2 * p) & (labels % 2 == 0), null, "
                                "labels)"),
    ("drop_labels", "stays", DRAW + "torch.where(u < p, null, labels.flip(0))"),
    ("drop_labels", "not p|p = 0", DRAW + "torch.where(u < max(p, 0.1), null, labels)"),
    ("drop_labels", "a tuple", DRAW + "torch.where(u < p, null, labels), u < p"),
]


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    passes(name, written(name, body, HELPERS))


@pytest.mark.parametrize("name, said, body", cases(WRONG))
def test_wrong_answers_are_told_what_is_wrong(name, said, body):
    assert re.search(said, told(name, written(name, body, HELPERS)))
