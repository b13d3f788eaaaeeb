"""Lesson 06's checks: right answers in any style pass; wrong ones are told what is wrong."""

import re
from itertools import pairwise

import pytest
from support.answers import cases, passes, told, written

from minildm.data.tokenizer import merge

HELPERS = {"re": re, "pairwise": pairwise}

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
    ("sentence_state", "states[torch.arange(len(ids)), (ids == end).int().argmax(1)]"),
    ("sentence_state", "states[torch.arange(len(ids)), ids.argmax(1)]"),
    ("sentence_state", "states[torch.arange(len(ids)), (ids != end).sum(1)]"),
    ("sentence_state", """
        rows = []
        for row, tokens in zip(states, ids.tolist()):
            rows.append(row[tokens.index(end)])
        return torch.stack(rows)
     """),
    ("sentence_state", """
        first = ((ids == end).cumsum(1) == 1) & (ids == end)
        first = first & (first.cumsum(1) == 1)
        at = (ids == end).float().argmax(1)
        return torch.einsum("bld,bl->bd", states, torch.eye(ids.shape[1])[at])
     """),
    ("sentence_state", """
        at = (ids == end).to(torch.uint8).argmax(dim=1)[:, None, None]
        return states.gather(1, at.expand(-1, 1, states.shape[2])).squeeze(1)
     """),
    ("patches", "F.unfold(images, p, stride=p).transpose(1, 2)"),
    ("patches", "images.unfold(2, p, p).unfold(3, p, p).permute(0, 2, 3, 1, 4, 5)"
                ".reshape(len(images), -1, images.shape[1] * p * p)"),
    ("patches", """
        b, c, h, w = images.shape
        x = images.reshape(b, c, h // p, p, w // p, p)
        return torch.einsum("bchpwq->bhwcpq", x).reshape(b, h * w // p**2, c * p * p)
     """),
    ("patches", """
        tokens = []
        for i in range(0, images.shape[2], p):
            for j in range(0, images.shape[3], p):
                tokens.append(images[:, :, i:i + p, j:j + p].flatten(1))
        return torch.stack(tokens, 1)
     """),
    ("patches", """
        n = images.shape[1] * p * p
        weight = torch.eye(n).reshape(n, images.shape[1], p, p)
        return F.conv2d(images, weight, stride=p).flatten(2).mT
     """),
]

SQUARES = """
    squares = images.unflatten(3, (-1, p)).unflatten(2, (-1, p))
    return squares.permute({}).flatten(3).flatten(1, 2)
"""
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
    ("sentence_state", "padding", "states[:, -1]"),
    ("sentence_state", "padding",
     "states[torch.arange(len(ids)), (ids == end).cumsum(1).argmax(1)]"),
    ("sentence_state", "not read", "states[torch.arange(len(ids)), (ids != end).sum(1) - 1]"),
    ("sentence_state", "one too far|raised",
     "states[torch.arange(len(ids)), (ids == end).int().argmax(1) + 1]"),
    ("sentence_state", "one too far",
     "states[torch.arange(len(ids)), ((ids != end).sum(1) + 1).clamp(max=ids.shape[1] - 1)]"),
    ("sentence_state", "seen nothing of the sentence", "states[:, 0]"),
    ("sentence_state", "seen nothing",
     "states[torch.arange(len(ids)), (ids == end).int().argmin(1)]"),
    ("sentence_state", "all positions", "states.mean(1)"),
    ("sentence_state", "one state for each row", "states[:, (ids == end).int().argmax(1)]"),
    ("sentence_state", "first row's", "states[:, (ids[0] == end).int().argmax()]"),
    ("sentence_state", "mean over the end tokens", """
        ends = (ids == end).float()[..., None]
        return (states * ends).sum(1) / ends.sum(1)
     """),
    ("sentence_state", "sum over the end tokens", "(states * (ids == end)[..., None]).sum(1)"),
    ("sentence_state", "mean over the words", """
        words = (ids != end).float()[..., None]
        return (states * words).sum(1) / words.sum(1)
     """),
    ("sentence_state", "largest", "states.max(1).values"),
    ("sentence_state", "raised|shape", "states[(ids == end).int().argmax(1)]"),
    ("sentence_state", "shape", "states[ids == end]"),
    ("sentence_state", "axis of length 1",
     "states[torch.arange(len(ids)), (ids == end).int().argmax(1)][:, None]"),
    ("sentence_state", "gradient", "states[torch.arange(len(ids)), ids.argmax(1)].detach()"),
    ("sentence_state", "not for others|start token",
     "states[torch.arange(len(ids)), (ids == 9).int().argmax(1)]"),
    ("sentence_state", "return", "None"),
    ("patches", "whole rows", "images.reshape(len(images), -1, images.shape[1] * p * p)"),
    ("patches", "column by column", SQUARES.format("0, 4, 2, 1, 3, 5")),
    ("patches", "channel first", SQUARES.format("0, 2, 4, 3, 5, 1")),
    ("patches", "rows come before", SQUARES.format("0, 2, 4, 1, 5, 3")),
    ("patches", "on their side", SQUARES.format("0, 4, 2, 1, 5, 3")),
    ("patches", "between", SQUARES.format("0, 2, 4, 3, 1, 5")),
    ("patches", "swapped", "F.unfold(images, p, stride=p)"),
    ("patches", "shape", "F.unfold(images, p).transpose(1, 2)"),
    ("patches", "right for the first|shape|raised",
     "F.unfold(images, 4, stride=4).transpose(1, 2)"),
    ("patches", "n-th pixel", """
        x = images.unflatten(3, (p, -1)).unflatten(2, (p, -1))
        return x.permute(0, 3, 5, 1, 2, 4).flatten(3).flatten(1, 2)
     """),
    ("patches", "keep the batch", "F.unfold(images, p, stride=p).transpose(1, 2).flatten(0, 1)"),
    ("patches", "flatten each", """
        x = images.unflatten(3, (-1, p)).unflatten(2, (-1, p))
        return x.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
     """),
    ("patches", "shape|raised", """
        x = images.reshape(-1, 3, images.shape[2] // p, p, images.shape[3] // p, p)
        return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
     """),
    ("patches", "shape|raised", """
        n = images.shape[2] // p
        x = images.reshape(len(images), -1, n, p, n, p)
        return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
     """),
    ("patches", "return", "images.unfold(2, p, p)\nreturn"),
    ("patches", "type", "F.unfold(images, p, stride=p).transpose(1, 2).double()"),
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
