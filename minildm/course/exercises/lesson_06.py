"""The checks of lesson 06: byte-pair encoding here, towers and loss in files of their own."""

from collections import Counter
from itertools import pairwise

from minildm.course.exercises.compare import equal, fail
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_06_loss import (
    check_clip_loss,
    check_clip_step,
    check_sentence_scores,
)
from minildm.course.exercises.lesson_06_patches import check_PatchEmbedding
from minildm.course.exercises.lesson_06_towers import check_CausalAttention, check_TextTower
from minildm.data import tokenizer

__all__ = ["check_CausalAttention", "check_PatchEmbedding", "check_TextTower", "check_clip_loss",
           "check_clip_step", "check_learn_merges", "check_merge_pair", "check_sentence_scores"]


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


def learn_merges(counts, n):
    return learned(counts, n)


def most_frequent(count, pair):
    return -count, pair


def learned(counts, n, once=False, rank=most_frequent, pairs_of=pairwise, least=1):
    """BPE's loop; the other arguments are likely mistakes in it."""
    parts = {word: word for word in counts}
    merges = []
    while len(merges) < n:
        pairs = Counter()
        for word, symbols in parts.items():
            for pair in pairs_of(symbols):
                pairs[pair] += 1 if once else counts[word]
        if not pairs or max(pairs.values()) < least:
            break
        _, best = min((rank(count, pair), pair) for pair, count in pairs.items())
        merges.append(best)
        parts = {word: merge_pair(symbols, best) for word, symbols in parts.items()}
    return merges


def spelled(text: str) -> dict:
    """"a b*3 c*2" as {("a", "b"): 3, ("c",): 2}: a word's letters, then how often it stands."""
    return {tuple(word.split("*")[0]): int(word.split("*")[1]) for word in text.split()}


# ties, words seen once and words of one letter; the last two run out of pairs before n
CORPORA = [
    (spelled("low*5 lower*2 newest*6 widest*3"), 6),
    (spelled("xyz*4 zxy*1 yzz*7 a*9 xyxy*2"), 4),
    (spelled("banana*2 bandana*3 ab*1 nab*4 cab*5 xxxx*3"), 9),
    (spelled("ab*2 cd*2 e*7"), 5),
    # all stand once, and two of them begin alike
    (spelled("cd*1 az*1 ab*1"), 5),
]


@check(reference=learn_merges)
def check_learn_merges(answer):
    for counts, n in CORPORA:
        want = learned(counts, n)
        got = answer(counts, n)
        if isinstance(got, (list, tuple)) and got and all(isinstance(m, str) for m in got):
            fail("a merge is a pair, (left, right), not the symbol that it makes")
        equal(got, want, likely_merges(counts, n, want), where=f"{n} merges of {counts}")
        if not isinstance(got, list) or not all(isinstance(pair, tuple) for pair in got):
            fail("the pairs are right: a list of tuples is wanted")


def likely_merges(counts, n, want):
    first_seen = list(dict.fromkeys(pair for word in counts for pair in pairwise(word)))

    def by_place(count, pair):
        # pairs that merging has made were seen after all others
        return -count, first_seen.index(pair) if pair in first_seen else len(first_seen)

    found = {
        "a word that stands there five times counts five times": learned(counts, n, once=True),
        "of equally frequent pairs the first in the alphabet, not the first seen":
            learned(counts, n, rank=by_place),
        "of equally frequent pairs the first in the alphabet, not the last": learned(
            counts, n, rank=lambda count, pair: (-count, *map(_backwards, pair))),
        "of pairs that begin alike the one whose second symbol is first in the alphabet": learned(
            counts, n, rank=lambda count, pair: (-count, pair[0], by_place(count, pair))),
        "a pair that stands only once is joined as well: go on until no word has two symbols":
            learned(counts, n, least=2),
        "the most frequent pair, not the least": learned(
            counts, n, rank=lambda count, pair: (count, pair)),
        "a pair that stands twice in a word counts twice": learned(
            counts, n, pairs_of=lambda symbols: dict.fromkeys(pairwise(symbols))),
        "every symbol has a neighbour on either side: pairs overlap": learned(
            counts, n, pairs_of=lambda symbols: zip(symbols[::2], symbols[1::2], strict=False)),
        "one merge too few": want[:-1],
        "one merge too many": learned(counts, n + 1),
        "the order is that in which they were learned": want[::-1],
    }
    if len(want) > 1:
        found["the words must be merged before the next pairs are counted"] = want[:1] * n
        found["the pairs must be counted again after each merge: these are the first counts"] = (
            top(counts, n))
    return found


def top(counts, n):
    """The n most frequent pairs of the words as they are, with nothing merged."""
    pairs = Counter()
    for word, count in counts.items():
        for pair in pairwise(word):
            pairs[pair] += count
    return sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:n]


def _backwards(word: str) -> tuple:
    return tuple(-ord(letter) for letter in word)
