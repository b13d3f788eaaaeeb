"""The checks of lesson 06."""

import torch
import torch.nn.functional as F

from minildm.course.exercises.legacy import compare, fail, passed, randn
from minildm.nn.clip import contrastive_loss


def check_merge_pair(f):
    name = "merge_pair"
    for parts, pair, want, likely in [
            ("b a n a n a</w>", "a n", "b an an a</w>", {
                "b an a n a</w>": "the pair stands there twice: go on after the first",
                "b a n a n a</w>": "nothing was joined: pair is (left, right), two symbols in a row",
                "b an an": "the last symbol got lost: it has no right neighbour, and stays",
                "b an n an n a</w>": "when two are joined both are used up: step over the second"}),
            ("a a a b", "a a", "aa a b", {
                "aa aa b": "one symbol was used twice: after a join go two on",
                "a aa b": "from the left: the first two come first",
                "aa aa a b": "when two are joined both are used up: step over the second",
                "aaa b": "one merge joins two symbols, not what it has just joined"}),
            ("x y", "y x", "x y", {"xy": "the order counts: left, then right",
                                   "yx": "the order counts: left, then right"}),
            ("e", "e e", "e", {"": "a word of one symbol stays as it is"})]:
        given = parts.split()
        got = f(tuple(given), tuple(pair.split()))
        if got is None:
            fail(name, "your function returned None: is the `return` missing?")
        if isinstance(got, str):
            fail(name, "your function returned a string, a tuple of symbols is wanted")
        got = " ".join(got)
        if got != want:
            fail(name, likely.get(got, f"{parts} with {pair} gives {got!r}, should be {want!r}"))
    passed(name)


def check_sentence_state(f):
    ids = torch.tensor([[8, 3, 2, 9, 9, 9], [8, 5, 1, 4, 7, 9], [8, 9, 9, 9, 9, 9]])
    states, row = randn(3, 6, 5), torch.arange(3)
    first, counts = torch.tensor([3, 5, 1]), (ids == 9).int()
    text = (counts.cumsum(1) <= 1).float()
    mean = (states * text[..., None]).sum(1) / text.sum(1, keepdim=True)
    compare("sentence_state", f(states, ids, 9), states[row, first], {
        "the last position is padding: the first end token": states[:, -1],
        "the word before the end token: it has not read that the sentence is over": states[row, first - 1],
        "the start token's: it has seen nothing of the sentence": states[:, 0],
        "one state for each row: states[arange, position]": states[:, first],
        "the mean over all positions: one position's": states.mean(1),
        "the mean over the sentence: one position's": mean})
    passed("sentence_state")


def check_patches(f):
    x, p = randn(2, 3, 8, 12), 4
    squares = x.unflatten(3, (3, p)).unflatten(2, (2, p))                   # (B, C, h, p, w, q)
    want = squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)       # (B, h w, C p q)
    compare("patches", f(x, p), want, {
        "reshape alone keeps the order in memory, which is whole rows: permute before it":
            x.reshape(2, 6, 48),
        "tokens go row by row: this is column by column":
            squares.permute(0, 4, 2, 1, 3, 5).flatten(3).flatten(1, 2),
        "a patch's numbers go channel first: C, then rows, then columns":
            squares.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2),
        "in a patch rows come before columns": squares.permute(0, 2, 4, 1, 5, 3).flatten(3).flatten(1, 2),
        "the last two axes are swapped: tokens, then numbers": want.transpose(1, 2)})
    passed("patches")


def check_clip_loss(f):
    i, t, tau = 2 * randn(5, 8), 3 * randn(5, 8, seed=1) + randn(5, 8), 0.3
    a, b = F.normalize(i, dim=1), F.normalize(t, dim=1)
    logits, k = a @ b.T / tau, torch.arange(5)
    want = contrastive_loss(logits)
    rows, columns = F.cross_entropy(logits, k), F.cross_entropy(logits.T, k)
    compare("clip_loss", f(i, t, tau), want, {
        "only the pictures choose: sentences choose a picture, too": rows,
        "only the sentences choose: pictures choose a sentence, too": columns,
        "the mean of both directions, not their sum": rows + columns,
        "divide by the temperature: the smaller it is, the surer": contrastive_loss(a @ b.T * tau),
        "the temperature is missing": contrastive_loss(a @ b.T),
        "vectors must have length one first": contrastive_loss(i @ t.T / tau),
        "length one along the features, dim=1, not over the batch":
            contrastive_loss(F.normalize(i, dim=0) @ F.normalize(t, dim=0).T / tau),
        "only the true pairs' cosines: cross-entropy makes them compete": -logits.diag().mean()})
    passed("clip_loss")


def check_shared_targets(f):
    meaning = torch.tensor([4, 1, 4, 0, 4, 1])
    same = (meaning[:, None] == meaning).float()
    compare("shared_targets", f(meaning), same / same.sum(1, keepdim=True), {
        "each row must sum to 1: divide by how many are true": same,
        "only the own pair: others of the same meaning are right, too": torch.eye(6),
        "softmax gives wrong pairs a share as well": same.softmax(1),
        "divide by how many are true in the row, not by the batch": same / 6,
        "the other way round: equal meanings are what is wanted": (1 - same) / (1 - same).sum(1, True)})
    passed("shared_targets")
