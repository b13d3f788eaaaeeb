"""Lesson 06's checks: right answers in any style pass; wrong ones are told what is wrong."""

import re
from collections import Counter
from itertools import pairwise

import pytest
from support.answers import cases, passes, told, written

from minildm.course.exercises.lesson_06 import merge_pair
from minildm.data.tokenizer import merge

HELPERS = {"re": re, "pairwise": pairwise, "Counter": Counter,
           "merge_pair": merge_pair}

MERGE = """
    out, i = [], 0
    while i < len(symbols):
        if {found}:
            out.append({joined})
            i += {hop}
        else:
            out.append(symbols[i])
            i += 1
    return {result}
"""
FOUND = "symbols[i:i + 2] == pair"
JOINED = "symbols[i] + symbols[i + 1]"


def by_hand(found=FOUND, joined=JOINED, hop=2, result="tuple(out)"):
    """A walk along the symbols, with what a first try may have in a place of it."""
    return MERGE.format(found=found, joined=joined, hop=hop, result=result)


RIGHT = [
    ("merge_pair", by_hand()),
    ("merge_pair", by_hand(found="tuple(symbols[i:i + 2]) == tuple(pair)", joined="''.join(pair)")),
    ("merge_pair", """
        out = list(symbols)
        i = 0
        while i < len(out) - 1:
            if out[i] == pair[0] and out[i + 1] == pair[1]:
                out[i:i + 2] = ["".join(pair)]
            i += 1
        return tuple(out)
     """),
    ("merge_pair", """
        out, used = [], False
        for i, symbol in enumerate(symbols):
            if used:
                used = False
            elif i + 1 < len(symbols) and (symbol, symbols[i + 1]) == pair:
                out.append(symbol + symbols[i + 1])
                used = True
            else:
                out.append(symbol)
        return tuple(out)
     """),
    ("merge_pair", """
        if len(symbols) < 2:
            return symbols
        if symbols[:2] == pair:
            return (pair[0] + pair[1], *merge_pair(symbols[2:], pair))
        return (symbols[0], *merge_pair(symbols[1:], pair))
     """),
]

LEARN = """
    parts, merges = {word: word for word in counts}, []
    while len(merges) < n:
        pairs = Counter()
        for word, symbols in parts.items():
            for pair in pairwise(symbols):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        parts = {word: merge_pair(symbols, best) for word, symbols in parts.items()}
    return merges
"""
BEST = "min(pairs, key=lambda pair: (-pairs[pair], pair))"
MERGED = "parts = {word: merge_pair(symbols, best) for word, symbols in parts.items()}"


def learned(*changes):
    """The loop, with each (old, new) of changes put in."""
    source = LEARN
    for old, new in changes:
        assert old in source, old
        source = source.replace(old, new)
    return source


RIGHT += [
    ("learn_merges", learned()),
    ("learn_merges", learned((BEST, "sorted(pairs, key=lambda p: (-pairs[p], p[0], p[1]))[0]"))),
    ("learn_merges", learned((BEST, "min(p for p in pairs if pairs[p] == max(pairs.values()))"))),
    ("learn_merges", """
        words, merges = [(tuple(word), count) for word, count in counts.items()], []
        for _ in range(n):
            pairs = {}
            for word, count in words:
                for i in range(len(word) - 1):
                    pairs[word[i:i + 2]] = pairs.get(word[i:i + 2], 0) + count
            if len(pairs) == 0:
                return merges
            most = max(pairs.values())
            best = sorted(pair for pair in pairs if pairs[pair] == most)[0]
            merges += [best]
            words = [(merge_pair(word, best), count) for word, count in words]
        return merges
     """),
]

WRONG = [
    ("merge_pair", "twice", """
        for i, two in enumerate(pairwise(symbols)):
            if two == pair:
                return symbols[:i] + ("".join(pair),) + symbols[i + 2:]
        return symbols
     """),
    ("merge_pair", "step over", by_hand(hop=1)),
    ("merge_pair", "got lost", """
        out, i = [], 0
        while i < len(symbols) - 1:
            two = symbols[i:i + 2] == pair
            out.append("".join(pair) if two else symbols[i])
            i += 2 if two else 1
        return tuple(out)
     """),
    ("merge_pair", "from the left", """
        out, i = [], len(symbols)
        while i > 0:
            size = 2 if symbols[max(i - 2, 0):i] == pair else 1
            out.insert(0, "".join(symbols[i - size:i]))
            i -= size
        return tuple(out)
     """),
    ("merge_pair", "nothing was joined", "symbols"),
    ("merge_pair", "a tuple is wanted", "' '.join(symbols).replace(' '.join(pair), ''.join(pair))"),
    ("merge_pair", "its last letter is not",
     "tuple(' '.join(symbols).replace(' '.join(pair), ''.join(pair)).split())"),
    ("merge_pair", "its last letter is not|dot",
     "tuple(re.sub(' '.join(pair), ''.join(pair), ' '.join(symbols)).split())"),
    ("merge_pair", "a dot is a symbol",
     r"""
        pattern = r'(?<!\S)' + ' '.join(pair) + r'(?!\S)'
        return tuple(re.sub(pattern, ''.join(pair), ' '.join(symbols)).split())
     """),
    ("merge_pair", "should be", "(''.join(symbols),)"),
    ("merge_pair", "return", "''.join(pair)\nreturn"),
    ("merge_pair", "order counts|left, then right",
     by_hand(found="set(symbols[i:i + 2]) == set(pair)")),
    ("merge_pair", "left \\+ right", by_hand(joined="pair[1] + pair[0]")),
    ("merge_pair", "both must be there: the left",
     by_hand(found="symbols[i] == pair[0] and i + 1 < len(symbols)")),
    ("merge_pair", "both must be there: the right",
     by_hand(found="i + 1 < len(symbols) and symbols[i + 1] == pair[1]")),
    ("merge_pair", "reads as",
     by_hand(found="''.join(symbols[i:i + 2]) == ''.join(pair)", joined="''.join(pair)")),
    ("merge_pair", "raised IndexError", by_hand(found="(symbols[i], symbols[i + 1]) == pair")),
    ("merge_pair", "nothing was joined", by_hand(found="symbols[i:i + 2] == list(pair)")),
    ("merge_pair", "str, a tuple is wanted", by_hand(result="' '.join(out)")),
    ("merge_pair", "the others stay|other symbols stay",
     "tuple(a + b for a, b in pairwise(symbols) if (a, b) == pair)"),
    ("merge_pair", "a tuple", by_hand(result="out")),
    ("merge_pair", "has just joined|a tuple", """
        out = []
        for symbol in symbols:
            ends = out and (out[-1] == pair[0] or set(out[-1]) == set(pair[0]))
            joined = ends and symbol == pair[1]
            out = out[:-1] + [out[-1] + symbol] if joined else out + [symbol]
        return out
     """),
    ("merge_pair", "stands there again",
     by_hand(hop="2 if i + 2 < len(symbols) else 1")),
    ("merge_pair", "last two symbols", by_hand(found="i + 2 < len(symbols) and " + FOUND)),
]


WRONG += [
    ("learn_merges", "counts five times", learned(("counts[word]", "1"))),
    ("learn_merges", "first in the alphabet, not the first", learned((BEST, "max(pairs, key=pairs.get)"))),
    ("learn_merges", "first in the alphabet", learned((BEST, "pairs.most_common(1)[0][0]"))),
    ("learn_merges", "not the last", learned((BEST, "max(pairs, key=lambda p: (pairs[p], p))"))),
    ("learn_merges", "not the least", learned((BEST, "min(pairs, key=lambda p: (pairs[p], p))"))),
    ("learn_merges", "merged before|counted again", learned((MERGED, "pass"))),
    ("learn_merges", "counted again", """
        pairs = Counter()
        for word in counts:
            for pair in pairwise(word):
                pairs[pair] += counts[word]
        return sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:n]
     """),
    ("learn_merges", "stands twice", learned(("pairwise(symbols)", "set(pairwise(symbols))"))),
    ("learn_merges", "overlap", learned((
        "pairwise(symbols)", "zip(symbols[::2], symbols[1::2], strict=False)"))),
    ("learn_merges", "too many", learned(("< n", "<= n"))),
    ("learn_merges", "too few", learned(("< n", "< n - 1"))),
    ("learn_merges", "not the symbol", learned(("append(best)", "append(''.join(best))"))),
    ("learn_merges", "begin alike", learned((
        BEST, "min(pairs, key=lambda pair: (-pairs[pair], pair[0]))"))),
    ("learn_merges", "stands only once", learned((
        "if not pairs:", "if not pairs or max(pairs.values()) < 2:"))),
    ("learn_merges", "should be|learned", learned(("return merges", "return merges[::-1]"))),
    ("learn_merges", "list of tuples", learned(("return merges", "return tuple(merges)"))),
    ("learn_merges", "list of tuples", learned(("append(best)", "append(list(best))"))),
    ("learn_merges", "raised", learned(("if not pairs:", "if False:"))),
    ("learn_merges", "in place", learned(("return merges", "counts.clear()\n    return merges"))),
    ("learn_merges", "return", learned(("return merges", "return"))),
    ("learn_merges", "should be", learned((
        "for word, symbols in parts.items()}", "for word, symbols in list(parts.items())[:-1]}"))),
]


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    helpers = dict(HELPERS)
    answer = helpers[name] = written(name, body, helpers)
    answer.__globals__[name] = answer
    passes(name, answer)


@pytest.mark.parametrize("name, said, body", cases(WRONG))
def test_wrong_answers_are_told_what_is_wrong(name, said, body):
    assert re.search(said, told(name, written(name, body, HELPERS)))


def test_the_packages_merge_is_nobodys_answer():
    assert "write yours" in told("merge_pair", merge)
