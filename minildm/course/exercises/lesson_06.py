"""The checks of lesson 06."""

import torch
import torch.nn.functional as F

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import equal, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.data import tokenizer
from minildm.nn import clip

__all__ = ["check_clip_loss", "check_merge_pair", "check_patches", "check_sentence_state",
           "check_shared_targets"]


def merge_pair(symbols, pair):
    joined = []
    i = 0
    # an index, not a loop over pairs: a join uses up two symbols, and the last one has no pair
    while i < len(symbols):
        size = 2 if symbols[i:i + 2] == pair else 1
        joined.append("".join(symbols[i:i + size]))
        i += size
    return tuple(joined)


# symbols, pair, {cause: the wrong result it leads to}
MERGES = [
    ("b a n a n a</w>", "a n", {
        "the pair stands there twice: go on after the first": "b an a n a</w>",
        "nothing was joined: pair is (left, right), two symbols in a row": "b a n a n a</w>",
        "the last symbol got lost: it has no right neighbour, and stays": "b an an",
        "when two are joined both are used up: step over the second": "b an n an n a</w>",
        "the other symbols stay, in their order": "an an",
        "the joined symbol is left + right": "b na na a</w>",
    }),
    ("a a a b", "a a", {
        "one symbol was used twice: after a join go two on": "aa aa b",
        "from the left: the first two come first": "a aa b",
        "when two are joined both are used up: step over the second": "aa aa a b",
        "one merge joins two symbols, not what it has just joined": "aaa b",
        "both must be there: the left symbol alone is no pair": "aa ab",
    }),
    ("l o w e s t", "s t", {
        "the last two symbols are a pair as well": "l o w e s t",
        "the last symbol was joined, and stands there again": "l o w e st t",
    }),
    ("x y", "y x", {"the order counts: left, then right": "xy"}),
    ("x z y", "x y", {
        "only neighbours are a pair": "xy z",
        "both must be there: the right symbol alone is no pair": "x zy",
    }),
    ("x x z", "x y", {"both must be there: the left symbol alone is no pair": "xx z"}),
    ("z y y", "x y", {"both must be there: the right symbol alone is no pair": "z yy"}),
    # symbols have several letters: the text between them is not theirs
    ("ba n an", "a n", {"a symbol is joined whole: its last letter is not a symbol": "ban an"}),
    ("a nb", "a n", {"a symbol is joined whole: its first letter is not a symbol": "anb"}),
    ("ab c a bc", "a bc", {
        "compare both symbols: ab + c reads as a + bc does and is another pair": "abc abc",
    }),
    ("x b . b", ". b", {"a dot is a symbol like others": ".b .b"}),
    ("e", "e e", {"a word of one symbol stays as it is": ""}),
]


@check(reference=merge_pair, forbidden=[tokenizer.merge])
def check_merge_pair(answer):
    for text, pair, likely in MERGES:
        # tuples, as the lesson's words are: a list never equals a pair
        symbols = tuple(text.split())
        pair = tuple(pair.split())
        want = merge_pair(symbols, pair)
        wrong = {cause: tuple(result.split()) for cause, result in likely.items()}
        got = answer(symbols, pair)
        equal(got, want, wrong, where=f"{symbols} with the pair {pair}")
        if not isinstance(got, tuple):
            fail("the symbols are right: a tuple is wanted, for the next merge")


def sentence_state(states, ids, end):
    first = (ids == end).int().argmax(dim=1)
    return states[torch.arange(len(ids)), first]


# ids of three sentences; the end token is the largest, and fills up the row
TEXTS = [
    (9, [[8, 3, 2, 9, 9, 9], [8, 5, 1, 4, 7, 9], [8, 9, 9, 9, 9, 9]]),
    (40, [[39, 21, 3, 40, 40], [39, 7, 7, 12, 40], [39, 4, 40, 40, 40], [39, 8, 40, 40, 40]]),
]


@check(reference=sentence_state)
def check_sentence_state(answer):
    for (end, rows), width in zip(TEXTS, (7, 3), strict=True):
        ids = torch.tensor(rows)
        is_end = ids == end
        states = randn(*ids.shape, width).requires_grad_()
        each = torch.arange(len(ids))
        first = is_end.int().argmax(1)
        want = states[each, first]
        # the words alone, and the words with their end token
        words = (~is_end).float()[..., None]
        text = (is_end.cumsum(1) <= 1).float()[..., None]
        ends = is_end.float()[..., None]
        following = (first + 1).clamp(max=ids.shape[1] - 1)
        got = answer.case((states, ids, end), want, {
            "the last position is padding: the first end token": states[:, -1],
            "the word before the end token: it has not read that the sentence is over":
                states[each, first - 1],
            "one too far: that is padding already": states[each, following],
            "the start token's: it has seen nothing of the sentence": states[:, 0],
            "the first word's: it has seen nothing of the others": states[:, 1],
            "one state for each row: states[arange, position]": states[:, first],
            "each row has its own end: this is the first row's": states[:, first[0]],
            "the mean over all positions: one position's": states.mean(1),
            "the largest over all positions: one position's": states.amax(1),
            "the mean over the sentence: one position's": (states * text).sum(1) / text.sum(1),
            "the mean over the words: one position's": (states * words).sum(1) / words.sum(1),
            "the mean over the end tokens: the first one's": (states * ends).sum(1) / ends.sum(1),
            "the sum over the end tokens: the first one's": (states * ends).sum(1),
        }, where=f"end token {end}")
        compare_gradients(got, want, states=states)


def patches(images, p):
    squares = images.unflatten(3, (-1, p)).unflatten(2, (-1, p))            # (B, C, h, p, w, q)
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)       # (B, h w, C p q)


@check(reference=patches)
def check_patches(answer):
    # unequal sides, channels unlike p, so that no two axes can stand in for each other
    for shape, p in ((2, 3, 8, 12), 4), ((3, 2, 15, 6), 3), ((2, 5, 4, 10), 2):
        x = randn(*shape)
        want = patches(x, p)
        squares = x.unflatten(3, (-1, p)).unflatten(2, (-1, p))             # (B, C, h, p, w, q)
        strides = x.unflatten(3, (p, -1)).unflatten(2, (p, -1))             # (B, C, p, h, q, w)

        def tokens(*order, axes=squares):
            return axes.permute(0, *order).flatten(3).flatten(1, 2)

        answer.case((x, p), want, {
            "reshape alone keeps the order in memory, which is whole rows: permute before it":
                x.reshape(want.shape),
            "tokens go row by row: this is column by column": tokens(4, 2, 1, 3, 5),
            "a patch's numbers go channel first: C, then rows, then columns": tokens(2, 4, 3, 5, 1),
            "in a patch rows come before columns": tokens(2, 4, 1, 5, 3),
            "patches stand on their side: columns come before rows in both": tokens(4, 2, 1, 5, 3),
            "the channels come between rows and columns: they come first": tokens(2, 4, 3, 1, 5),
            "these are every n-th pixel, not neighbours": tokens(3, 5, 1, 2, 4, axes=strides),
            "the last two axes are swapped: tokens, then numbers": want.mT,
            "the tokens of all pictures stand in one row: keep the batch": want.flatten(0, 1),
            "the patches still are squares: flatten each": tokens(2, 4, 1, 3, 5).unflatten(
                2, (-1, p, p)),
        }, where=f"pictures of shape {shape} and p = {p}")


def cross_entropies(logits):
    """CLIP's two losses, of rows and of columns."""
    k = torch.arange(len(logits))
    return F.cross_entropy(logits, k), F.cross_entropy(logits.T, k)


def mean_of_both(logits):
    rows, columns = cross_entropies(logits)
    return (rows + columns) / 2


def clip_loss(image_vectors, text_vectors, temperature):
    images = F.normalize(image_vectors, dim=1)
    texts = F.normalize(text_vectors, dim=1)
    return mean_of_both(images @ texts.T / temperature)


@check(reference=clip_loss, forbidden=[clip.contrastive_loss])
def check_clip_loss(answer):
    # temperatures on both sides of 1: dividing and multiplying differ
    for size, width, temperature in (5, 8, 0.3), (7, 4, 1.6):
        i = 2 * randn(size, width)
        # pairs that belong together a little, and lengths far from 1
        t = 3 * randn(size, width, seed=1) + 0.5 * i
        i.requires_grad_()
        t.requires_grad_()
        # CLIP learns its temperature, so the gradient must reach it
        tau = torch.tensor(temperature, requires_grad=True)
        want = clip_loss(i, t, tau)
        got = answer.case((i, t, tau), want, likely_clip_losses(i, t, temperature),
                          where=f"{size} pairs of width {width}, temperature {temperature}")
        compare_gradients(got, want, image_vectors=i, text_vectors=t, temperature=tau)


def likely_clip_losses(i, t, tau):
    a = F.normalize(i, dim=1)
    b = F.normalize(t, dim=1)
    cosines = a @ b.T
    logits = cosines / tau
    rows, columns = cross_entropies(logits)
    over_batch = F.normalize(i, dim=0) @ F.normalize(t, dim=0).T
    k = torch.arange(len(i))
    count = len(i)
    shares = logits.softmax(1)
    return {
        "only the pictures choose: sentences choose a picture, too": rows,
        "only the sentences choose: pictures choose a sentence, too": columns,
        "the mean of both directions, not their sum": rows + columns,
        "the mean over the batch, not the sum": count * mean_of_both(logits),
        "the mean over the batch and both directions, not the sum": count * (rows + columns),
        "divide by the temperature: the smaller it is, the surer": mean_of_both(cosines * tau),
        "the temperature is missing": mean_of_both(cosines),
        "the temperature is the divisor itself, not its logarithm":
            mean_of_both(cosines * torch.tensor(tau).exp()),
        "vectors must have length one first": mean_of_both(i @ t.T / tau),
        "vectors must have length one first, and the temperature is missing": mean_of_both(i @ t.T),
        "the sentences' vectors must have length one, too": mean_of_both(a @ t.T / tau),
        "the pictures' vectors must have length one, too": mean_of_both(i @ b.T / tau),
        "length one along the features, dim=1, not over the batch": mean_of_both(over_batch / tau),
        "divided by the square of the length": mean_of_both(
            (i / i.square().sum(1, True)) @ (t / t.square().sum(1, True)).T / tau),
        "only the true pairs' cosines: cross-entropy makes them compete": -cosines.diag().mean(),
        "only the true pairs' logits: cross-entropy makes them compete": -logits.diag().mean(),
        "cross_entropy takes logits: it has the softmax inside":
            mean_of_both_shares(shares, logits.T.softmax(1)),
        "the sign is wrong: a better match has a smaller loss": -mean_of_both(logits),
        "the distances stand in for the cosines": mean_of_both(torch.cdist(a, b) / tau),
        "each pair is judged by itself: they must compete":
            F.binary_cross_entropy_with_logits(logits, torch.eye(count)),
        "pictures are compared with pictures: with sentences": mean_of_both(a @ a.T / tau),
        "the right column of row k is k": F.cross_entropy(logits, k.flip(0)),
    }


def mean_of_both_shares(rows, columns):
    k = torch.arange(len(rows))
    return (F.cross_entropy(rows, k) + F.cross_entropy(columns, k)) / 2


def shared_targets(meaning):
    same = (meaning[:, None] == meaning).float()
    return same / same.sum(1, keepdim=True)


@check(reference=shared_targets)
def check_shared_targets(answer):
    # meanings are no places in a list: some are large, some missing
    for numbers in [4, 1, 4, 0, 4, 1], [23, 7, 23, 15, 12, 7, 23, 23, 12]:
        meaning = torch.tensor(numbers)
        count = len(numbers)
        same = (meaning[:, None] == meaning).float()
        true = same.sum(1, keepdim=True)
        other = 1 - same
        earlier = same.tril()
        distance = (meaning[:, None] - meaning).abs().float()
        answer.case((meaning,), same / true, {
            "each row must sum to 1: divide by how many are true": same,
            "only the own pair: others of the same meaning are right, too": torch.eye(count),
            "the own pair is true as well": same - torch.eye(count),
            "the own pair's share is the others': count it among them": (same + torch.eye(count))
                / (true + 1),
            "softmax gives wrong pairs a share as well": same.softmax(1),
            "divide by how many are true in the row, not by the batch": same / count,
            "divide by how many are true in the row, not in all rows": same / same.sum(),
            "divide by how many are true in the row, not by the number of meanings":
                same / len(meaning.unique()),
            "divide by how many are true, not by the root": same / true.sqrt(),
            "one too many in the divisor": same / (true + 1),
            "a sentence that stands later is true as well": earlier / earlier.sum(1, True),
            "multiplied by how many are true: divide": same * true,
            "the other way round: equal meanings are what is wanted": other / other.sum(1, True),
            "meanings are names: how far apart their numbers are says nothing":
                (-distance).softmax(1),
        }, where=f"meanings {numbers}")
