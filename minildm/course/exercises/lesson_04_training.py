"""The checks of lesson 04: the U-Net's widths, its loss, and labels that are dropped."""

import torch

from minildm.course.exercises.compare import compare, equal, fail
from minildm.course.exercises.fakes import (
    Network,
    follows_generator,
    generator,
    randn,
    uniform,
    warped,
)
from minildm.course.exercises.harness import check
from minildm.diffusion import schedules


def up_inputs(channels, blocks):
    skips = [channels[0]]
    for level, width in enumerate(channels):
        skips += [width] * blocks
        if level < len(channels) - 1:
            skips.append(width)
    h, inputs = channels[-1], []
    for width in reversed(channels):
        for _ in range(blocks + 1):
            inputs.append(h + skips.pop())
            h = width
    return inputs


def carried(channels, blocks, up=1, newest=True, halving=True, last_halving=False):
    """What the blocks going up, blocks + up a level, get: (from below, from a skip) for each."""
    skips = [channels[0]]
    for level, width in enumerate(channels):
        skips += [width] * blocks
        if halving and (last_halving or level < len(channels) - 1):
            skips.append(width)
    h, pairs = channels[-1], []
    for width in reversed(channels):
        for _ in range(blocks + up):
            skip = skips.pop(-1 if newest else 0) if skips else 0
            pairs.append((h, skip))
            h = width
    return pairs


def sums(pairs):
    return [h + skip for h, skip in pairs]


@check(reference=up_inputs)
def check_up_inputs(answer):
    # levels of one width, one level alone, and more blocks than levels
    for channels, blocks in ((320, 640, 1280, 1280), 2), ((32, 48, 80), 1), ((7, 11), 3), ((5,), 2):
        pairs = carried(channels, blocks)
        want = sums(pairs)
        own = [width for width in reversed(channels) for _ in range(blocks + 1)]
        equal(answer(channels, blocks), want, {
            "skips are glued on: their channels are added": [h for h, _ in pairs],
            "those are the skips alone: what comes from below is added":
                [skip for _, skip in pairs],
            "these are the outputs' widths": own,
            "the skip is as wide as the block down that left it, not as the block up":
                [2 * c for c in own],
            "what comes from below keeps the width of the level below for one block":
                [c + skip for c, (_, skip) in zip(own, pairs, strict=True)],
            "the oldest skip was taken: the newest fits":
                sums(carried(channels, blocks, newest=False)),
            "the halvings leave a skip too": sums(carried(channels, blocks, halving=False)),
            "there is no halving at the last level":
                sums(carried(channels, blocks, last_halving=True)),
            "blocks + 1 going up": sums(carried(channels, blocks, up=0)),
            "blocks + 1 going up, and blocks going down": sums(carried(channels, blocks - 1)),
            "blocks + 1 going up: one on each level is missing":
                [n for i, n in enumerate(want) if i % (blocks + 1) < blocks],
            "one block too many going down and up": sums(carried(channels, blocks + 1)),
            "the last level comes first on the way up": want[::-1],
            "one more than there are blocks going up": [*want, 2 * channels[0]],
        }, where=f"channels {channels}, {blocks} blocks")


def loss_each(network, schedule, data, noise, t):
    x = schedules.add_noise(schedule, data, noise, t)
    return (network(x, t) - noise).square().mean(dim=(1, 2, 3))


def per_picture(error):
    """The mean square of each picture's values, (B,)."""
    return error.square().mean((1, 2, 3))


@check(reference=loss_each)
def check_loss_each(answer):
    # channels of pictures and of latents; a schedule on which alpha^2 + sigma^2 is not 1
    for shape, schedule in ((4, 2, 3, 5), schedules.cosine), ((3, 1, 6, 2), warped):
        data, noise = randn(*shape), randn(*shape, seed=1)
        t = 0.1 + 0.8 * uniform(shape[0], seed=2)
        x = schedules.add_noise(schedule, data, noise, t)
        network = Network()
        guess = network(x, t)
        error = guess - noise
        swapped = schedules.add_noise(schedule, noise, data, t)
        a, sd = (part(schedules.expand(t, x)) for part in schedule)
        want = per_picture(error)
        answer.case((network, schedule, data, noise, t), want, {
            "aim at the noise, not at the data": per_picture(guess - data),
            "aim at the noise, not at x_t": per_picture(guess - x),
            "aim at the noise, not at noise - data": per_picture(guess - noise + data),
            "aim at the noise, not at v":
                per_picture(guess - a * noise + sd * data),
            "that is one number: one for each picture": want.mean(),
            "a sum, not a mean": error.square().sum((1, 2, 3)),
            "absolute errors: their squares": error.abs().mean((1, 2, 3)),
            "the root of the mean square: no root": want.sqrt(),
            "the square of the mean error: the mean of the squares": error.mean((1, 2, 3)).square(),
            "errors are not squared: they cancel": error.mean((1, 2, 3)),
            "half of it: no factor": want / 2,
            "the network must see noisy x_t": per_picture(network(data, t) - noise),
            "the network must see x_t, not the noise": per_picture(network(noise, t) - noise),
            "it wants t in [0, 1]":
                per_picture(network(x, 1000 * t) - noise),
            "it wants t as it is":
                per_picture(network(x, 1 - t) - noise),
            "data and noise changed places in x_t": per_picture(network(swapped, t) - noise),
            "data + noise is no x_t: the schedule scales them":
                per_picture(network(data + noise, t) - noise),
            "all pictures got the first one's time":
                per_picture(network(x, t[0]) - noise),
            "the network isn't asked": per_picture(x - noise),
        }, where=f"data {shape}")


def drop_labels(labels, null, p, generator):
    dropped = torch.rand(len(labels), generator=generator) < p
    return torch.where(dropped, null, labels)


@check(reference=drop_labels)
def check_drop_labels(answer):
    # null is the next class, or any other number; a share needs many labels
    for classes, null, p in (10, 10, 0.1), (7, 23, 0.35):
        labels = torch.arange(classes).repeat(1500 // classes)
        judge_dropped(answer(labels, null, p, generator()), labels, null, p)
        follows_generator(answer, lambda generator: (labels, null, p, generator))  # noqa: B023
        # a fixed number of labels, by a permutation, has the right share and no independence
        counts = []
        for seed in range(4):
            counts.append(int((answer(labels, null, p, generator(seed)) == null).sum()))
        if len(set(counts)) == 1:
            fail(f"{counts[0]} labels are dropped, whatever the seed: each is dropped by itself")
    for p, want in (0.0, labels), (1.0, torch.full_like(labels, null)):
        answer.case((labels, null, p, generator()), want, where=f"p = {p:g}")
    # a batch of one
    few = torch.tensor([3])
    answer.case((few, 5, 1.0, generator()), torch.tensor([5]), where="one label")


def judge_dropped(got, labels, null, p):
    """Raise Wrong unless each label became null with probability p, and no other changed."""
    if not isinstance(got, torch.Tensor) or got.shape != labels.shape:
        compare(got, labels)
    if got.dtype == torch.bool:
        fail("that says which are dropped: the labels are wanted")
    dropped = got == null
    compare(got, torch.where(dropped, null, labels), {
        "a dropped label becomes `null`, not 0": torch.where(got == 0, 0, labels),
        "a dropped label becomes `null`, not -1":
            torch.where(got == -1, -1, labels),
        "a dropped label becomes `null`, not 10": torch.where(got == 10, 10, labels),
    }, where="a label that is not dropped stays, a dropped one becomes `null`")
    share = dropped.double().mean().item()
    if share in (0.0, 1.0):
        fail("all or none are dropped: one draw for each label, not one for all")
    # five standard deviations of the share
    room = 5 * (p * (1 - p) / len(labels))**0.5
    if abs(share - (1 - p)) < room:
        fail(f"a share of {share:.2f} became null, that is 1 - p: kept and dropped changed places")
    if abs(share - p) > room:
        fail(f"a share of {share:.2f} became null, not p = {p}: "
             "a uniform number is less than p with probability p")
    # if each is dropped by itself, two in a row are with probability p^2
    neighbours = (dropped[1:] & dropped[:-1]).double().mean().item()
    if abs(neighbours - p * p) > room:
        fail("labels are dropped in rows: each by a draw of its own")
    for label in labels.unique():
        mine = dropped[labels == label].double().mean().item()
        if abs(mine - p) > room * len(labels.unique())**0.5:
            fail(f"of label {label} a share of {mine:.2f} is dropped: p is the same for all labels")
