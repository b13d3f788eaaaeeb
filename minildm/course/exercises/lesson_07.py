"""The checks of lesson 07."""

import torch

from minildm.course.exercises.legacy import compare, fail, passed, randn

Q, K, V = randn(2, 6, 4), randn(2, 3, 4, seed=1), randn(2, 3, 4, seed=2)      # 6 positions, 3 words


def check_cross_attention(f):
    scores = Q @ K.transpose(1, 2) / 2
    passed(compare("cross_attention", f(Q, K, V), scores.softmax(-1) @ V, {
        "the softmax runs over the positions: each position shares itself out among the words":
            scores.softmax(1) @ V,
        "the scores aren't divided by sqrt(d)": (2 * scores).softmax(-1) @ V,
        "divided by d, not by its root": (scores / 2).softmax(-1) @ V,
        "no softmax: the weights of a position must sum to 1": scores @ V,
        "what is mixed are the values, not the keys": scores.softmax(-1) @ K,
        "every position got the mean of all words": V.mean(1, keepdim=True).expand(-1, 6, -1)}))


def check_drop_captions(f):
    ids, empty = torch.arange(5 * 4000).view(-1, 5) + 100, torch.tensor([[1, 2, 2, 2, 2]])
    got = f(ids, empty, 0.1, torch.Generator().manual_seed(0))
    if got is None or got.shape != ids.shape:
        fail("drop_captions", "return ids of the same shape")
    dropped, kept = (got == empty).all(1), (got == ids).all(1)
    if not (dropped | kept).all():
        fail("drop_captions", "some captions are half dropped: one draw a caption, not one a token")
    share = dropped.float().mean().item()
    if share in (0.0, 1.0):
        fail("drop_captions", "all or nothing is dropped: one draw a caption, not one a batch")
    if share > 0.5:
        fail("drop_captions", "the wrong ones are dropped: nine tenths in place of one")
    if not 0.08 < share < 0.12:
        fail("drop_captions", f"{share:.2f} of the captions are dropped, 0.1 is wanted")
    if not torch.equal(got, f(ids, empty, 0.1, torch.Generator().manual_seed(0))):
        fail("drop_captions", "draw from the generator, so that a run can be repeated")
    passed("drop_captions")


def check_word_map(f):
    recorded, at = {"a": [randn(2, 16, 5).softmax(-1)] * 2, "b": [randn(2, 16, 5, seed=1).softmax(-1)]}, 3
    every = [weights for calls in recorded.values() for weights in calls]
    mean = torch.stack(every).mean(0)                                           # (2, 16, 5)
    passed(compare("word_map", f(recorded, at), mean[..., at].view(2, 4, 4), {
        "that is the last call of the last layer: all of them are wanted": every[-1][..., at].view(2, 4, 4),
        "that is the first call alone": every[0][..., at].view(2, 4, 4),
        "the sum over calls and layers, the mean is wanted": 3 * mean[..., at].view(2, 4, 4),
        "rows and columns changed places": mean[..., at].view(2, 4, 4).transpose(1, 2),
        "another word: the index counts from 0, and the start token is 0": mean[..., at - 1].view(2, 4, 4)}))


def check_centre(f):
    mass = randn(3, 8, 8).square()
    x = (mass.sum(1) * torch.arange(8)).sum(1) / mass.sum((1, 2))
    y = (mass.sum(2) * torch.arange(8)).sum(1) / mass.sum((1, 2))
    peak = mass.flatten(1).argmax(1)
    passed(compare("centre", f(mass), torch.stack([x, y], 1), {
        "x and y changed places: the last axis is x": torch.stack([y, x], 1),
        "divide by the whole mass": torch.stack([x, y], 1) * mass.sum((1, 2))[:, None],
        "the peak is one position, the centre weighs them all": torch.stack([peak % 8, peak // 8], 1).float(),
        "half a square off: positions are 0 ... 7": torch.stack([x, y], 1) + 0.5,
        "that is the middle of the picture": torch.full((3, 2), 3.5)}))
