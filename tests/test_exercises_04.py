"""Lesson 04's checks: the solution passes; the wrong answers that students give are told what is wrong."""

import pytest
import torch

from minildm import exercises
from minildm.diffusion.schedules import add_noise
from minildm.nn.layers import attention, sinusoid
from minildm.nn.unet import UNet, UNetConfig


def heads_first(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def multi_head(q, k, v, heads):
    return attention(*(heads_first(x, heads) for x in (q, k, v))).transpose(1, 2).flatten(2)


def up_inputs(channels, blocks):
    """As the package's U-Net is built."""
    with torch.device("meta"):
        config = UNetConfig(channels=channels, blocks=blocks, attention=(False,) * len(channels), groups=1)
        return [r.conv1.in_channels for stage in UNet(config).up_blocks for r in stage.resnets]


def loss_each(network, schedule, data, noise, t):
    return (network(add_noise(schedule, data, noise, t), t) - noise).square().mean((1, 2, 3))


def drop(labels, null, p, generator):
    return torch.where(torch.rand(len(labels), generator=generator) < p, null, labels)


def test_solutions_pass():
    exercises.check_sinusoid(sinusoid)
    exercises.check_time_scale(lambda h, emb: h * (1 + wide(emb)[0]) + wide(emb)[1])
    exercises.check_multi_head(multi_head)
    exercises.check_up_inputs(up_inputs)
    exercises.check_loss_each(loss_each)
    exercises.check_drop_labels(drop)
    exercises.check_drop_labels(lambda labels, null, p, g: labels.clone().masked_fill(
        torch.bernoulli(torch.full(labels.shape, p), generator=g).bool(), null))


def wide(emb):
    return emb[:, :, None, None].chunk(2, dim=1)


def waves(t, dim, unit=1000, half=None, order=("cos", "sin")):
    angles = unit * t[:, None] * 10_000 ** (-torch.arange(dim // 2) / (half or dim // 2))
    return torch.cat([getattr(angles, name)() for name in order], dim=1)


def heads(q, k, v, n, split=heads_first, unit=None, axis=-1, merge=lambda x: x.transpose(1, 2).flatten(2)):
    q, k, v = (split(x, n) for x in (q, k, v))
    return merge((q @ k.transpose(-2, -1) / (unit or q.shape[-1] ** 0.5)).softmax(axis) @ v)


def plan(channels, blocks, halving=True, pop=-1, glue=1, order=-1):
    skips = [channels[0]]
    for level, c in enumerate(channels):
        skips += [c] * blocks + [c] * (halving and level < len(channels) - 1)
    widths, h = [], channels[-1]
    for c in channels[::order]:
        for _ in range(blocks + 1):
            widths.append(h + glue * (skips.pop(pop) if skips else 0))
            h = c
    return widths


def seen(schedule, data, noise, t):
    return add_noise(schedule, data, noise, t)


def in_place(labels, null, p, g):
    labels[torch.rand(len(labels), generator=g) < p] = null
    return labels


WRONG = [
    ("sinusoid", "multiply", lambda t, d: waves(t, d, unit=1)),
    ("sinusoid", "cosines come first", lambda t, d: waves(t, d, order=("sin", "cos"))),
    ("sinusoid", "take turns", lambda t, d: torch.stack(waves(t, d).chunk(2, 1), -1).flatten(1)),
    ("sinusoid", "dim / 2 - 1", lambda t, d: waves(t, d, half=d // 2 - 1)),
    ("sinusoid", "shape", lambda t, d: waves(t, 2 * d)),
    ("sinusoid", "should be", lambda t, d: waves(t, d, half=d)),
    ("sinusoid", "return", lambda t, d: None),
    ("time_scale", "the 1 is missing", lambda h, e: h * wide(e)[0] + wide(e)[1]),
    ("time_scale", "first half", lambda h, e: h * (1 + wide(e)[1]) + wide(e)[0]),
    ("time_scale", "last axes", lambda h, e: h * (1 + e.chunk(2, 1)[0]) + e.chunk(2, 1)[1]),
    ("time_scale", "isn't scaled", lambda h, e: (h + wide(e)[1]) * (1 + wide(e)[0])),
    ("time_scale", "should be", lambda h, e: h + wide(e)[1]),
    ("multi_head", "scale is missing", lambda q, k, v, n: heads(q, k, v, n, unit=1)),
    ("multi_head", "not by d", lambda q, k, v, n: heads(q, k, v, n, unit=q.shape[-1] // n)),
    ("multi_head", "head's width", lambda q, k, v, n: heads(q, k, v, n, unit=q.shape[-1] ** 0.5)),
    ("multi_head", "queries", lambda q, k, v, n: heads(q, k, v, n, axis=-2)),
    ("multi_head", "positions",
     lambda q, k, v, n: heads(q, k, v, n, split=lambda x, n: x.reshape(len(x), n, -1, x.shape[-1] // n))),
    ("multi_head", "before", lambda q, k, v, n: heads(q, k, v, n, merge=lambda x: x.reshape(q.shape))),
    ("multi_head", "changed places", lambda q, k, v, n: heads(q, v, k, n)),
    ("multi_head", "should be", lambda q, k, v, n: heads(q, k, v, 1)),
    ("up_inputs", "glued on", lambda c, b: plan(c, b, glue=0)),
    ("up_inputs", "newest", lambda c, b: plan(c, b, pop=0)),
    ("up_inputs", "halvings", lambda c, b: plan(c, b, halving=False)),
    ("up_inputs", "should be", lambda c, b: plan(c, b, order=1)),
    ("up_inputs", "shape", lambda c, b: plan(c, b - 1)),
    ("loss_each", "not at the data",
     lambda net, s, x, n, t: (net(seen(s, x, n, t), t) - x).square().mean((1, 2, 3))),
    ("loss_each", "not at x_t",
     lambda net, s, x, n, t: (net(seen(s, x, n, t), t) - seen(s, x, n, t)).square().mean((1, 2, 3))),
    ("loss_each", "one number", lambda net, s, x, n, t: (net(seen(s, x, n, t), t) - n).square().mean()),
    ("loss_each", "sum", lambda net, s, x, n, t: (net(seen(s, x, n, t), t) - n).square().sum((1, 2, 3))),
    ("loss_each", "noisy", lambda net, s, x, n, t: (net(x, t) - n).square().mean((1, 2, 3))),
    ("loss_each", r"t in \[0, 1\]",
     lambda net, s, x, n, t: (net(seen(s, x, n, t), 1000 * t) - n).square().mean((1, 2, 3))),
    ("loss_each", "should be", lambda net, s, x, n, t: loss_each(net, s, x, n, t[:1].expand(len(t)))),
    ("loss_each", "should be",
     lambda net, s, x, n, t: (net(seen(s, x, n, t), t) - n).abs().mean((1, 2, 3))),
    ("drop_labels", "changed", in_place),
    ("drop_labels", "no digit", lambda y, null, p, g: drop(y, 0, p, g)),
    ("drop_labels", "share of 0.00",
     lambda y, null, p, g: torch.where(torch.rand(1, generator=g) < p, null, y)),
    ("drop_labels", "share of 0.90", lambda y, null, p, g: drop(y, null, 1 - p, g)),
    ("drop_labels", "draw from", lambda y, null, p, g: drop(y, null, p, g.manual_seed(next(seeds)))),
    ("drop_labels", "share of 0.00", lambda y, null, p, g: y),
]
seeds = iter(range(1, 9))


@pytest.mark.parametrize("name, said, answer", WRONG)
def test_wrong_answers_are_told_the_cause(name, said, answer):
    with pytest.raises(AssertionError, match=said):
        getattr(exercises, f"check_{name}")(answer)
