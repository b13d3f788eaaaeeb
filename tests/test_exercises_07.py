"""Lesson 07's checks: the solution passes; the wrong answers that students give are told what is wrong."""

import pytest
import torch

from minildm import exercises
from minildm.nn.attention_maps import mean_attention_map
from minildm.nn.layers import attention


def cross_attention(q, k, v):
    return attention(q[:, None], k[:, None], v[:, None])[:, 0]


def drop_captions(ids, empty, share, generator):
    return torch.where(torch.rand(len(ids), 1, generator=generator) < share, empty, ids)


def word_map(recorded, at):
    return mean_attention_map(recorded)[:, at]


def centre(mass):
    i = torch.arange(8.0)
    total = mass.sum((1, 2))
    return torch.stack([(mass * i).sum((1, 2)) / total, (mass * i[:, None]).sum((1, 2)) / total], 1)


def test_solutions_pass():
    exercises.check_cross_attention(cross_attention)
    exercises.check_drop_captions(drop_captions)
    exercises.check_word_map(word_map)
    exercises.check_centre(centre)


@pytest.mark.parametrize("check, wrong, named", [
    ("cross_attention", lambda q, k, v: (q @ k.mT / 2).softmax(1) @ v, "over the positions"),
    ("cross_attention", lambda q, k, v: (q @ k.mT).softmax(-1) @ v, "sqrt"),
    ("cross_attention", lambda q, k, v: (q @ k.mT / 4).softmax(-1) @ v, "root"),
    ("cross_attention", lambda q, k, v: q @ k.mT / 2 @ v, "no softmax"),
    ("cross_attention", lambda q, k, v: cross_attention(q, k, k), "values"),
    ("drop_captions", lambda i, e, s, g: torch.where(torch.rand(i.shape, generator=g) < s, e, i), "half"),
    ("drop_captions", lambda i, e, s, g: torch.where(torch.rand(1, generator=g) < s, e, i), "one a batch"),
    ("drop_captions", lambda i, e, s, g: drop_captions(i, e, 1 - s, g), "wrong ones"),
    ("drop_captions", lambda i, e, s, g: drop_captions(i, e, 2 * s, g), "0.1 is wanted"),
    ("drop_captions", lambda i, e, s, g: drop_captions(i, e, s, None), "generator"),
    ("drop_captions", lambda i, e, s, g: None, "return"),
    ("word_map", lambda r, at: r["b"][-1][..., at].view(2, 4, 4), "last call"),
    ("word_map", lambda r, at: r["a"][0][..., at].view(2, 4, 4), "first call"),
    ("word_map", lambda r, at: 3 * word_map(r, at), "the mean is wanted"),
    ("word_map", lambda r, at: word_map(r, at).mT, "changed places"),
    ("word_map", lambda r, at: word_map(r, at - 1), "another word"),
    ("centre", lambda m: centre(m).flip(1), "changed places"),
    ("centre", lambda m: centre(m) * m.sum((1, 2))[:, None], "whole mass"),
    ("centre", lambda m: torch.stack([m.flatten(1).argmax(1) % 8, m.flatten(1).argmax(1) // 8], 1), "peak"),
    ("centre", lambda m: centre(m) + 0.5, "half a square"),
    ("centre", lambda m: torch.full((3, 2), 3.5), "middle"),
])
def test_wrong_answers_are_told_why(check, wrong, named):
    with pytest.raises(AssertionError, match=named):
        getattr(exercises, f"check_{check}")(wrong)
