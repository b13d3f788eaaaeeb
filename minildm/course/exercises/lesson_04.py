"""The checks of lesson 04."""

import torch

from minildm.course.exercises.legacy import compare, fail, passed, randn
from minildm.diffusion import schedules
from minildm.nn import layers


def check_sinusoid(f):
    t = torch.tensor([0.0, 0.013, 0.4, 1.0])
    want, other = layers.sinusoid(t, 8), 1000 * t[:, None] * 10_000 ** (-torch.arange(4) / 3)
    compare("sinusoid", f(t, 8), want, {
        "t runs from 0 to 1, the waves were made for 0 to 1000: multiply": layers.sinusoid(t / 1000, 8),
        "cosines come first: these are sines, then cosines": want.roll(4, 1),
        "all cosines, then all sines: yours take turns": want.unflatten(1, (2, 4)).transpose(1, 2).flatten(1),
        "k is divided by dim / 2, not by dim / 2 - 1": torch.cat([other.cos(), other.sin()], 1)})
    passed("sinusoid")


def check_time_scale(f):
    h, emb = randn(4, 4, 4, 4), randn(4, 8, seed=1)
    (scale, shift), (right, bottom) = emb[:, :, None, None].chunk(2, 1), emb.chunk(2, 1)
    compare("modulate", f(h, emb), h * (1 + scale) + shift, {
        "the 1 is missing: scale 0 should change nothing": h * scale + shift,
        "scale is the first half, shift the second": h * (1 + shift) + scale,
        "emb met the last axes, height and width: it is for pictures and channels": h * (1 + right) + bottom,
        "first scale, then shift: the shift isn't scaled": (h + shift) * (1 + scale)})
    passed("modulate")


def check_multi_head(f):
    q, k, v = randn(2, 6, 12), randn(2, 4, 12, seed=1), randn(2, 4, 12, seed=2)

    def way(k=k, v=v, unit=2.0, axis=-1, split=lambda x: x.unflatten(-1, (3, 4)).transpose(1, 2),
            merge=lambda x: x.transpose(1, 2).flatten(2)):
        return merge((split(q) @ split(k).transpose(-2, -1) / unit).softmax(axis) @ split(v))

    compare("multi_head", f(q, k, v, 3), way(), {
        "the scale is missing": way(unit=1), "divide by the root of d, not by d": way(unit=4),
        "the scale is of a head's width, D / heads": way(unit=12**0.5),
        "that softmax is over the queries: over the keys": way(axis=-2), "k and v changed places": way(v, k),
        "heads made of positions: split the width, then swap": way(split=lambda x: x.reshape(2, 3, -1, 4)),
        "swap the axes back before the heads are merged": way(merge=lambda x: x.reshape(2, 6, 12))})
    passed("multi_head")


def check_up_inputs(f):
    def way(channels, blocks, newest=-1, glue=1, halving=1):
        skips, h, widths = [channels[0]], channels[-1], []
        for level, c in enumerate(channels):
            skips += [c] * (blocks + halving * (level < len(channels) - 1))
        for c in [c for c in reversed(channels) for _ in range(blocks + 1)]:
            h = widths.append(h + glue * (skips.pop(newest) if skips else 0)) or c
        return torch.tensor(widths)

    for case in ((320, 640, 1280, 1280), 2), ((32, 48, 80), 1):
        compare("up_inputs", torch.tensor(f(*case)), way(*case), {
            "skips are glued on: their channels are added": way(*case, glue=0),
            "the oldest skip was taken: the newest fits": way(*case, newest=0),
            "the halvings leave a skip too": way(*case, halving=0)})
    passed("up_inputs")


def check_loss_each(f):
    data, noise, t = randn(4, 2, 3, 3), randn(4, 2, 3, 3, seed=1), torch.tensor([0.1, 0.3, 0.6, 0.9])
    x = schedules.add_noise(schedules.cosine, data, noise, t)

    def network(x, t):
        return x * (0.5 + schedules.expand(t, x))

    def square(target=noise, x=x, t=t):
        return (network(x, t) - target).square().mean((1, 2, 3))

    compare("loss_each", f(network, schedules.cosine, data, noise, t), square(), {
        "aim at the noise, not at the data": square(data), "aim at the noise, not at x_t": square(x),
        "that is one number: one for each picture": square().mean(), "a sum, not a mean": 18 * square(),
        "the network must see noisy x_t": square(x=data), "it wants t in [0, 1]": square(t=1000 * t)})
    passed("loss_each")


def check_drop_labels(f):
    def drop(labels):
        return f(labels, 10, 0.1, torch.Generator().manual_seed(0))

    given, name = torch.arange(10).repeat(1000), "drop_labels"
    labels, got = given.clone(), drop(given)
    compare(name, given, labels, {"the caller's labels were changed: work on a copy": given})
    share, kept = (got == 10).float().mean().item(), torch.where(got == 10, labels, got)
    compare(name, kept, labels, {"a dropped label becomes `null`, which is no digit": kept})
    if abs(share - 0.1) > 0.02:
        fail(name, f"a share of {share:.2f} became null, not p = 0.1; each by a random number of its own")
    compare(name, again := drop(labels), got, {"one seed, two answers: draw from `generator`": again})
    passed(name)
