"""The checks of lesson 04."""

import torch

from minildm.course.exercises.compare import compare, equal, fail
from minildm.course.exercises.fakes import Network, follows_generator, generator, randn, uniform, warped
from minildm.course.exercises.harness import check
from minildm.diffusion import schedules
from minildm.nn import layers


def waves(t, dim, unit=1000.0, half=None, period=10_000.0, first="cos"):
    """Cosines and sines of unit * t, float32; half: what the wave's number is divided by."""
    k = torch.arange(dim // 2, dtype=torch.float64)
    angles = unit * t.double()[:, None] * period ** (-k / (half or dim // 2))
    pair = [angles.cos(), angles.sin()]
    if first == "sin":
        pair.reverse()
    return torch.cat(pair, 1).float()


def sinusoid(t, dim):
    half = dim // 2
    frequencies = 10_000 ** (-torch.arange(half) / half)
    angles = 1000 * t[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


@check(reference=sinusoid, forbidden=[layers.sinusoid, layers.TimeEmbedding])
def check_sinusoid(answer):
    for times, dim in ([0.013, 0.4, 0.0, 1.0], 8), ([0.731, 0.29, 0.0047], 14):
        t = torch.tensor(times)
        half = dim // 2
        want = waves(t, dim)
        cos, sin = want.chunk(2, 1)
        answer.case((t, dim), want, {
            "t runs from 0 to 1, the waves were made for 0 to 1000: multiply": waves(t, dim, unit=1),
            "a wave of 2 pi t: the unit is 1000": waves(t, dim, unit=2 * torch.pi),
            "the unit is 1000, not 999": waves(t, dim, unit=999),
            "cosines come first: these are sines, then cosines": waves(t, dim, first="sin"),
            "all cosines, then all sines: yours take turns": torch.stack([cos, sin], 2).flatten(1),
            "all cosines, then all sines: yours take turns, sines first":
                torch.stack([sin, cos], 2).flatten(1),
            "k is divided by dim / 2, not by dim / 2 - 1": waves(t, dim, half=half - 1),
            "k is divided by dim / 2, not by dim": waves(t, dim, half=dim),
            "k is divided by dim / 2, not by dim / 4": waves(t, dim, half=half / 2),
            "the slowest wave comes last: frequencies fall with k": waves(t, dim, half=-half),
            "10,000 is the ratio of the frequencies, not 1,000": waves(t, dim, period=1000.0),
            "10,000^(-k / half), without a factor in the exponent": waves(t, dim, period=10_000.0**0.5),
            "dim numbers in all: dim / 2 cosines, dim / 2 sines": waves(t, 2 * dim),
            "two times cosines: the second half are sines": torch.cat([cos, cos], 1),
            "two times sines: the first half are cosines": torch.cat([sin, sin], 1),
            "exp of natural logarithms: log10 of 10,000 is 4": waves(t, dim, period=torch.e**4),
        }, tol=1e-3, where=f"{len(t)} times, dim {dim}")


def time_scale(h, emb):
    scale, shift = emb[:, :, None, None].chunk(2, dim=1)
    return h * (1 + scale) + shift


@check(reference=time_scale)
def check_time_scale(answer):
    # a batch as large as the height, channels as many as columns: who forgets to expand gets no error
    for shape in (3, 5, 3, 5), (2, 3, 7, 4):
        h = randn(*shape)
        emb = randn(shape[0], 2 * shape[1], seed=1)
        scale, shift = emb[:, :, None, None].chunk(2, 1)
        even, odd = emb[:, 0::2, None, None], emb[:, 1::2, None, None]
        want = h * (1 + scale) + shift
        likely = {
            "the 1 is missing: scale 0 should change nothing": h * scale + shift,
            "scale is the first half, shift the second": h * (1 + shift) + scale,
            "scale is the first half, shift the second, and the 1 is missing": h * shift + scale,
            "first scale, then shift: the shift isn't scaled": (h + shift) * (1 + scale),
            "halves, not every other number": h * (1 + even) + odd,
            "the shift is missing": h * (1 + scale),
            "the scale is missing": h + shift,
            "the shift is added, not subtracted": h * (1 + scale) - shift,
            "scale multiplies h, without an exponential": h * scale.exp() + shift,
            "1 + scale, not 1 - scale": h * (1 - scale) + shift,
            "the 1 is added to scale, not to h": (1 + h) * scale + shift,
            "all pictures got the first one's": h * (1 + scale[:1]) + shift[:1],
        }
        if shape[0] == shape[2] and shape[1] == shape[3]:
            by_column, more = emb.chunk(2, 1)
            cause = "emb met the last axes, height and width: it is for pictures and channels"
            likely[cause] = h * (1 + by_column) + more
        answer.case((h, emb), want, likely, where=f"h {shape}")


def split(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge(x):
    return x.transpose(1, 2).flatten(2)


def multi_head(q, k, v, heads):
    q, k, v = split(q, heads), split(k, heads), split(v, heads)           # (B, heads, L or M, d)
    scores = q @ k.transpose(-2, -1) / q.shape[-1]**0.5                    # (B, heads, L, M)
    return merge(scores.softmax(-1) @ v)


def attended(q, k, v, unit, axis=-1):
    """Attention of heads that are split already; unit: what the scores are divided by."""
    return (q @ k.transpose(-2, -1) / unit).softmax(axis) @ v


def interleaved(x, heads):
    """Heads that own every heads-th column."""
    return x.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)


@check(reference=multi_head, forbidden=[layers.attention, layers.Attention])
def check_multi_head(answer):
    for batch, length, more, heads, d in (2, 6, 4, 3, 4), (3, 5, 7, 2, 9), (1, 3, 8, 5, 2):
        width = heads * d
        q = randn(batch, length, width)
        k, v = randn(batch, more, width, seed=1), randn(batch, more, width, seed=2)
        heads_of = [split(x, heads) for x in (q, k, v)]
        wrong_heads = [x.reshape(batch, heads, -1, d) for x in (q, k, v)]
        other_heads = [interleaved(x, heads) for x in (q, k, v)]
        root = d**0.5
        result = attended(*heads_of, root)
        one_mean = v.mean(1, keepdim=True).expand(q.shape)
        mixed_keys = attended(heads_of[0], heads_of[1], heads_of[1], root)
        answer.case((q, k, v, heads), merge(result), {
            "the scale is missing": merge(attended(*heads_of, 1)),
            "divide by the root of d, not by d": merge(attended(*heads_of, d)),
            "divide by the root of d: this multiplies": merge(attended(*heads_of, 1 / root)),
            "the scale is of a head's width, D / heads": merge(attended(*heads_of, width**0.5)),
            "the scale is the root of a head's width, not of their number":
                merge(attended(*heads_of, heads**0.5)),
            "that softmax is over the queries: over the keys": merge(attended(*heads_of, root, -2)),
            "that softmax is over the heads: over the keys": merge(attended(*heads_of, root, 1)),
            "k and v changed places": multi_head(q, v, k, heads),
            "what is mixed are the values, not the keys": merge(mixed_keys),
            "there is no softmax: the weights of a query sum to 1":
                merge(heads_of[0] @ heads_of[1].transpose(-2, -1) / root @ heads_of[2]),
            "one head only: each attends by itself": multi_head(q, k, v, 1),
            "heads is their number, not their width": multi_head(q, k, v, d),
            "heads made of positions: split the width, then swap": merge(attended(*wrong_heads, root)),
            "heads made of positions: split the width, then swap; nor are they merged":
                attended(*wrong_heads, root).reshape(q.shape),
            "head i owns the columns i d to (i + 1) d, not every so many-th":
                merge(attended(*other_heads, root)),
            "swap the axes back before the heads are merged": result.reshape(q.shape),
            "merged the other way round: head i gives the columns i d to (i + 1) d":
                result.permute(0, 2, 3, 1).reshape(q.shape),
            "the heads are not merged": result,
            "the heads are merged by their mean: side by side": result.mean(1),
            "every query got the mean of all values": one_mean,
        }, where=f"{heads} heads of width {d}, {length} queries, {more} keys")


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
    for channels, blocks in ((320, 640, 1280, 1280), 2), ((32, 48, 80), 1), ((7, 11), 3), ((5,), 2):
        pairs = carried(channels, blocks)
        want = sums(pairs)
        own = [width for width in reversed(channels) for _ in range(blocks + 1)]
        equal(answer(channels, blocks), want, {
            "skips are glued on: their channels are added": [h for h, _ in pairs],
            "those are the skips alone: what comes from below is added": [skip for _, skip in pairs],
            "these are the outputs' widths": own,
            "the skip is as wide as the block down that left it, not as the block up": [2 * c for c in own],
            "what comes from below keeps the width of the level below for one block":
                [c + skip for c, (_, skip) in zip(own, pairs, strict=True)],
            "the oldest skip was taken: the newest fits": sums(carried(channels, blocks, newest=False)),
            "the halvings leave a skip too": sums(carried(channels, blocks, halving=False)),
            "there is no halving at the last level": sums(carried(channels, blocks, last_halving=True)),
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


@check(reference=loss_each)
def check_loss_each(answer):
    for shape, schedule in ((4, 2, 3, 5), schedules.cosine), ((3, 1, 6, 2), warped):
        data, noise = randn(*shape), randn(*shape, seed=1)
        t = 0.1 + 0.8 * uniform(shape[0], seed=2)
        x = schedules.add_noise(schedule, data, noise, t)
        network = Network()
        guess = network(x, t)

        def each(error):
            return error.square().mean((1, 2, 3))

        error = guess - noise
        swapped = schedules.add_noise(schedule, noise, data, t)
        a, sd = (part(schedules.expand(t, x)) for part in schedule)
        want = each(error)
        answer.case((network, schedule, data, noise, t), want, {
            "aim at the noise, not at the data": each(guess - data),
            "aim at the noise, not at x_t": each(guess - x),
            "aim at the noise, not at noise - data": each(guess - noise + data),
            "aim at the noise, not at v": each(guess - a * noise + sd * data),
            "that is one number: one for each picture": want.mean(),
            "a sum, not a mean": error.square().sum((1, 2, 3)),
            "absolute errors: their squares": error.abs().mean((1, 2, 3)),
            "the root of the mean square: no root": want.sqrt(),
            "the square of the mean error: the mean of the squares": error.mean((1, 2, 3)).square(),
            "errors are not squared: they cancel": error.mean((1, 2, 3)),
            "half of it: no factor": want / 2,
            "the network must see noisy x_t": each(network(data, t) - noise),
            "the network must see x_t, not the noise": each(network(noise, t) - noise),
            "it wants t in [0, 1]": each(network(x, 1000 * t) - noise),
            "it wants t as it is": each(network(x, 1 - t) - noise),
            "data and noise changed places in x_t": each(network(swapped, t) - noise),
            "data + noise is no x_t: the schedule scales them": each(network(data + noise, t) - noise),
            "all pictures got the first one's time": each(network(x, t[0]) - noise),
            "the network isn't asked": each(x - noise),
        }, where=f"data {shape}")
        if not network.calls:
            fail("the network isn't asked")


def drop_labels(labels, null, p, generator):
    dropped = torch.rand(len(labels), generator=generator) < p
    return torch.where(dropped, null, labels)


@check(reference=drop_labels)
def check_drop_labels(answer):
    for classes, null, p in (10, 10, 0.1), (7, 23, 0.35):
        labels = torch.arange(classes).repeat(9000 // classes)
        judge_dropped(answer(labels, null, p, generator()), labels, null, p)
        follows_generator(answer, lambda generator: (labels, null, p, generator))  # noqa: B023
        counts = []
        for seed in range(4):
            counts.append(int((answer(labels, null, p, generator(seed)) == null).sum()))
        if len(set(counts)) == 1:
            fail(f"{counts[0]} labels are dropped, whatever the seed: each is dropped by itself")
    for p, want in (0.0, labels), (1.0, torch.full_like(labels, null)):
        answer.case((labels, null, p, generator()), want, where=f"p = {p:g}")
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
        "a dropped label becomes `null`, not -1": torch.where(got == -1, -1, labels),
        "a dropped label becomes `null`, not 10": torch.where(got == 10, 10, labels),
    }, where="a label that is not dropped stays, a dropped one becomes `null`")
    share = dropped.double().mean().item()
    if share in (0.0, 1.0):
        fail("all or none are dropped: one draw for each label, not one for all")
    # five standard deviations of the share
    room = 5 * (p * (1 - p) / len(labels))**0.5
    if abs(share - (1 - p)) < room:
        fail(f"a share of {share:.2f} became null, that is 1 - p: those kept and dropped changed places")
    if abs(share - p) > room:
        fail(f"a share of {share:.2f} became null, not p = {p}: a uniform number is less than p with "
             "probability p")
    neighbours = (dropped[1:] & dropped[:-1]).double().mean().item()
    if abs(neighbours - p * p) > room:
        fail("labels are dropped in rows: each by a draw of its own")
    for label in labels.unique():
        mine = dropped[labels == label].double().mean().item()
        if abs(mine - p) > room * len(labels.unique())**0.5:
            fail(f"of label {label} a share of {mine:.2f} is dropped: p is the same for all labels")
