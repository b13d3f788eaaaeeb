"""Byte-level BPE with CLIP's conventions: any text -> a row of integers, and back.

Text becomes words, a word becomes bytes, and the bytes of a word join into longer tokens: again and again the
pair of neighbours that training found most often (Sennrich et al. 2016, algorithm 1, arXiv:1508.07909). As
all 256 bytes are tokens too, nothing is unknown. The last token of a word ends in `</w>`, so that "in" and
the beginning of "ink" differ.

    tokenizer = Tokenizer.train(captions);  tokenizer(["a red three"])  # (1, 77): start, tokens, end, end ...

Published vocabularies load from vocab.json and merges.txt; ids then are those of transformers' CLIPTokenizer
(but for characters that Python's edition of Unicode does not know yet).
"""

import functools
import json
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import torch

from minildm import MinildmError

START, END = "<|startoftext|>", "<|endoftext|>"
# CLIP's, for a text in which x stands for each letter beyond ASCII, 0 for each number, ! for other signs
WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]+", re.ASCII)
SPACE = re.compile(r"[\s\x85\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\xa0]+", re.ASCII)
VISIBLE = [*range(33, 127), *range(161, 173), *range(174, 256)]     # bytes that are written as they are,
BYTES = VISIBLE + [b for b in range(256) if b not in VISIBLE]       # the others from U+0100 on (GPT-2's code)
LETTER = {b: chr(b if b in VISIBLE else 256 + i - len(VISIBLE)) for i, b in enumerate(BYTES)}
BYTE = {letter: b for b, letter in LETTER.items()}


def normalise(text: str | bytes) -> str:
    """Composed (NFC), lower-cased, every run of white space one blank; bytes that are no UTF-8 are kept.

    They travel as U+DC80 ... U+DCFF (PEP 383); other halves of surrogate pairs become U+FFFD.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    text = SPACE.sub(" ", unicodedata.normalize("NFC", text))
    return re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", "".join(map(str.lower, text)))


def words(text: str) -> list[str]:
    """Letters, single digits, runs of other signs, English endings (CLIP's pattern); blanks fall away."""
    def plain(c):
        return c if c < "\x80" else {"L": "x", "N": "0", "Z": " "}.get(unicodedata.category(c)[0], "!")

    return [text[m.start():m.end()] for m in WORD.finditer("".join(map(plain, text)))]


def symbols(word: str) -> tuple[str, ...]:
    """A word's bytes, each as one visible character, the last marked as the word's end."""
    *front, last = (LETTER[b] for b in word.encode("utf-8", "surrogateescape"))
    return *front, last + "</w>"


def merge(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """Join this pair wherever it stands, from the left."""
    joined, i = [], 0
    while i < len(parts):
        size = 2 if parts[i:i + 2] == pair else 1
        joined.append("".join(parts[i:i + size]))
        i += size
    return tuple(joined)


class Tokenizer:
    """Ids of text by a list of merges, in order of rank; `vocab` (token -> id) by default in CLIP's order:
    bytes, bytes that end a word, merges, start, end."""

    def __init__(self, merges: list[tuple[str, str]], vocab: dict[str, int] | None = None):
        single = [LETTER[b] + end for end in ("", "</w>") for b in BYTES]
        needed = [*single, *map("".join, merges), START, END]
        self.merges = merges
        self.vocab = vocab or {token: i for i, token in enumerate(dict.fromkeys(needed))}
        if missing := [token for token in needed if token not in self.vocab]:
            raise MinildmError(f"the vocabulary lacks {len(missing)} tokens, {missing[0]!r} for one",
                               "Tokenizer", "vocab.json and merges.txt must be of one model")
        self.rank = {pair: i for i, pair in enumerate(merges)}
        self.token = {i: token for token, i in self.vocab.items()}
        self.start, self.end = self.vocab[START], self.vocab[END]
        self.bpe = functools.lru_cache(10_000)(self.bpe)

    def __len__(self):
        return len(self.vocab)

    @classmethod
    def train(cls, texts: Iterable[str], size: int = 1024) -> "Tokenizer":
        """At most `size` tokens, learnt from texts; fewer if every word is one token before.

        Each merge is the pair most frequent at that moment; of equals, the first in the alphabet.
        """
        if size < 514:
            raise MinildmError(f"size {size} is too small", "Tokenizer.train", "bytes, start, end take 514")
        counts = Counter(word for text in texts for word in words(normalise(text)))
        split, merges = {word: symbols(word) for word in counts}, []
        while len(merges) < size - 514:
            pairs = Counter()
            for word, parts in split.items():
                for pair in pairwise(parts):
                    pairs[pair] += counts[word]
            if not pairs:
                break
            merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
            split = {word: merge(parts, merges[-1]) for word, parts in split.items()}
        return cls(merges)

    @classmethod
    def load(cls, folder) -> "Tokenizer":
        """From vocab.json (token -> id) and merges.txt (a version, then a pair a line), as CLIP's are.

        Or from tokenizer.json, which holds both, and which transformers writes since version 5.
        """
        try:
            if not (Path(folder) / "vocab.json").is_file() and (Path(folder) / "tokenizer.json").is_file():
                model = json.loads((Path(folder) / "tokenizer.json").read_text("utf-8"))["model"]
                merges = [tuple(pair.split(" ") if isinstance(pair, str) else pair)
                          for pair in model["merges"]]
                return cls(merges, model["vocab"])
            vocab = json.loads((Path(folder) / "vocab.json").read_text("utf-8"))
            _, *lines = (Path(folder) / "merges.txt").read_text("utf-8").split("\n")
            merges = [(a, b) for a, b in (line.split(" ") for line in lines if line)]
            return cls(merges, {str(token): int(i) for token, i in vocab.items()})
        except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
            raise MinildmError(f"no tokenizer can be read: {error}"[:200], folder,
                               "it takes vocab.json and merges.txt, or tokenizer.json") from error

    def save(self, folder):
        """The two files that `load` reads, transformers' CLIPTokenizer too."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "vocab.json").write_text(json.dumps(self.vocab, ensure_ascii=False), "utf-8")
        lines = ["#version: 0.2", *map(" ".join, self.merges)]
        (Path(folder) / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")

    def bpe(self, word: str) -> tuple[int, ...]:
        """A word's ids: of all pairs the one of lowest rank is joined, until no pair has a rank."""
        parts = symbols(word)
        while pairs := [pair for pair in pairwise(parts) if pair in self.rank]:
            parts = merge(parts, min(pairs, key=self.rank.get))
        return tuple(self.vocab[part] for part in parts)

    def encode(self, text: str | bytes) -> list[int]:
        """All ids of a text, without start and end; where the text spells <|endoftext|>, that very token."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "surrogateescape")
        ids = []
        for part in re.split(r"(<\|startoftext\|>|<\|endoftext\|>)", text):
            if part in (START, END):
                ids.append(self.vocab[part])
            else:
                ids += [i for word in words(normalise(part)) for i in self.bpe(word)]
        return ids

    def __call__(self, texts: list[str], length: int = 77):
        """Texts -> ids (B, length): start, the text, end, then end again as padding.

        The empty text is start and ends. Of an overlong one the first length - 2 tokens stay, and a warning
        says what was cut.
        """
        if isinstance(texts, str) or length < 2:
            raise MinildmError("tokenizer(texts, length) takes a list and a length of 2 or more", texts,
                               'tokenizer(["a red three"])')
        rows = []
        for ids in map(self.encode, texts):
            if len(ids) > length - 2:
                warnings.warn(f"{len(ids)} tokens, {length - 2} fit; cut: {self.decode(ids[length - 2:])!r}",
                              stacklevel=2)
            rows.append([self.start, *ids[:length - 2], self.end])
            rows[-1] += [self.end] * (length - len(rows[-1]))
        return torch.tensor(rows, dtype=torch.long).reshape(-1, length)

    def to_bytes(self, ids) -> bytes:
        """The normalised text's bytes, a blank after each word; start, end and padding fall away."""
        tokens = [self.token[int(i)] for i in ids if int(i) not in (self.start, self.end)]
        return b"".join(bytes(BYTE[c] for c in token.removesuffix("</w>"))
                        + b" " * token.endswith("</w>") for token in tokens)

    def decode(self, ids) -> str:
        """The text of ids, words apart: "it's" comes back as "it 's", and encodes to the same ids."""
        return self.to_bytes(ids).decode("utf-8", "replace").strip(" ")
