"""Lesson 06's checks: the solution passes; the wrong answers that students give are told what is wrong."""

import pytest
import torch
import torch.nn.functional as F

from minildm import exercises
from minildm.data.tokenizer import merge
from minildm.nn.clip import contrastive_loss


def sentence_state(states, ids, end):
    return states[torch.arange(len(ids)), (ids == end).int().argmax(1)]


def patches(x, p):
    return F.unfold(x, p, stride=p).transpose(1, 2)


def clip_loss(i, t, tau):
    return contrastive_loss(F.normalize(i, dim=1) @ F.normalize(t, dim=1).T / tau)


def shared(meaning):
    same = (meaning[:, None] == meaning).float()
    return same / same.sum(1, keepdim=True)


def test_solutions_pass():
    exercises.check_merge_pair(merge)
    exercises.check_merge_pair(lambda parts, pair: list(merge(parts, pair)))
    exercises.check_sentence_state(sentence_state)
    exercises.check_sentence_state(lambda s, ids, end: s[torch.arange(len(ids)), ids.argmax(1)])
    exercises.check_patches(patches)
    exercises.check_clip_loss(clip_loss)
    exercises.check_shared_targets(shared)


def walk(parts, pair, hop=2, once=False, tail=True, reverse=False):
    """The merge by hand, with the mistakes of a first try."""
    parts = list(parts[::-1] if reverse else parts)
    pair = pair[::-1] if reverse else pair
    joined, i, done = [], 0, False
    while i < len(parts) - (not tail):
        if tuple(parts[i:i + 2]) == pair and not (once and done):
            joined.append("".join(parts[i:i + 2][::-1] if reverse else parts[i:i + 2]))
            done, i = True, i + hop
        else:
            joined.append(parts[i])
            i += 1
    return tuple(joined[::-1] if reverse else joined)


def state(shift):
    def f(states, ids, end):
        return states[torch.arange(len(ids)), (ids == end).int().argmax(1) + shift]
    return f


def axes(*order):
    def f(x, p):
        squares = x.unflatten(3, (-1, p)).unflatten(2, (-1, p))
        return squares.permute(0, *order).flatten(3).flatten(1, 2)
    return f


def normal(x, dim=1):
    return F.normalize(x, dim=dim)


def one_way(i, t, tau, turn=False):
    logits = normal(i) @ normal(t).T / tau
    return F.cross_entropy(logits.T if turn else logits, torch.arange(len(i)))


WRONG = [
    ("merge_pair", "twice", lambda parts, pair: walk(parts, pair, once=True)),
    ("merge_pair", "step over", lambda parts, pair: walk(parts, pair, hop=1)),
    ("merge_pair", "got lost", lambda parts, pair: walk(parts, pair, tail=False)),
    ("merge_pair", "from the left", lambda parts, pair: walk(parts, pair, reverse=True)),
    ("merge_pair", "nothing was joined", lambda parts, pair: parts),
    ("merge_pair", "returned a string", lambda parts, pair: " ".join(parts).replace(" ".join(pair), "x")),
    ("merge_pair", "should be", lambda parts, pair: ("".join(parts),)),
    ("merge_pair", "return", lambda parts, pair: None),
    ("sentence_state", "padding", lambda s, ids, end: s[:, -1]),
    ("sentence_state", "not read", state(-1)),
    ("sentence_state", "seen nothing", lambda s, ids, end: s[:, 0]),
    ("sentence_state", "all positions", lambda s, ids, end: s.mean(1)),
    ("sentence_state", "one state for each row", lambda s, ids, end: s[:, (ids == end).int().argmax(1)]),
    ("sentence_state", "return", lambda s, ids, end: None),
    ("patches", "whole rows", lambda x, p: x.reshape(len(x), -1, x.shape[1] * p * p)),
    ("patches", "column by column", axes(4, 2, 1, 3, 5)),
    ("patches", "channel first", axes(2, 4, 3, 5, 1)),
    ("patches", "rows come before", axes(2, 4, 1, 5, 3)),
    ("patches", "swapped", lambda x, p: F.unfold(x, p, stride=p)),
    ("patches", "shape", lambda x, p: F.unfold(x, p).transpose(1, 2)),
    ("clip_loss", "sentences choose a picture", one_way),
    ("clip_loss", "pictures choose a sentence", lambda i, t, tau: one_way(i, t, tau, True)),
    ("clip_loss", "not their sum", lambda i, t, tau: 2 * clip_loss(i, t, tau)),
    ("clip_loss", "divide by", lambda i, t, tau: clip_loss(i, t, 1 / tau)),
    ("clip_loss", "is missing", lambda i, t, tau: clip_loss(i, t, 1)),
    ("clip_loss", "length one first", lambda i, t, tau: contrastive_loss(i @ t.T / tau)),
    ("clip_loss", "not over the batch",
     lambda i, t, tau: contrastive_loss(normal(i, 0) @ normal(t, 0).T / tau)),
    ("clip_loss", "compete", lambda i, t, tau: -(normal(i) * normal(t)).sum(1).mean() / tau),
    ("shared_targets", "sum to 1", lambda m: (m[:, None] == m).float()),
    ("shared_targets", "only the own", lambda m: torch.eye(len(m))),
    ("shared_targets", "softmax", lambda m: (m[:, None] == m).float().softmax(1)),
    ("shared_targets", "by the batch", lambda m: (m[:, None] == m) / len(m)),
    ("shared_targets", "divide by how many", lambda m: m[:, None] == m),
    ("shared_targets", "other way", lambda m: (m[:, None] != m) / (m[:, None] != m).sum(1, keepdim=True)),
]


@pytest.mark.parametrize("name, says, wrong", WRONG, ids=[f"{n}-{s}" for n, s, _ in WRONG])
def test_wrong_answers_are_told_what_is_wrong(name, says, wrong):
    with pytest.raises(AssertionError, match=rf"{name}: .*{says}"):
        getattr(exercises, f"check_{name}")(wrong)
