"""Byte-level BPE with CLIP's conventions: any text -> a row of integers, and back.

Text becomes words, a word becomes bytes, and the bytes of a word join into longer tokens: again
and again the pair of neighbours that training found most often (Sennrich et al. 2016, algorithm
1, arXiv:1508.07909). As all 256 bytes are tokens too, nothing is unknown. The last token of a
word ends in `</w>`, so that "in" and the beginning of "ink" differ.

    tokenizer = Tokenizer.train(captions)
    tokenizer(["a red three"])                  # (1, 77): start, tokens, end, end ...

Published vocabularies load from vocab.json and merges.txt; ids then are those of transformers'
CLIPTokenizer (but for characters that Python's edition of Unicode does not know yet). Words that
were added to one later, as textual inversion does (Gal et al. 2022, arXiv:2208.01618), keep their
ids.
"""

import functools
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import torch

from minildm import MinildmError
from minildm.data.vocabulary import END, START, AddedToken, read_vocabulary, save_vocabulary

# CLIP's, for a text in which x stands for each letter beyond ASCII, 0 for each number, ! for
# other signs
WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]+", re.ASCII)
SPACE = re.compile(
    r"[\s\x85\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\xa0]+", re.ASCII)
PLAIN = {"L": "x", "N": "0", "Z": " "}          # by the first letter of a character's category
# bytes that are written as they are; the others are written from U+0100 on (GPT-2's code)
VISIBLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTES = VISIBLE + [b for b in range(256) if b not in VISIBLE]
LETTER = {b: chr(b if b in VISIBLE else 256 + i - len(VISIBLE)) for i, b in enumerate(BYTES)}
BYTE = {letter: b for b, letter in LETTER.items()}
SINGLE = [LETTER[b] for b in BYTES] + [LETTER[b] + "</w>" for b in BYTES]
SMALLEST = len(SINGLE) + 2                      # with start and end


def normalise(text: str | bytes) -> str:
    """Composed (NFC), lower-cased, every run of white space one blank; bytes that are no UTF-8
    are kept.

    They travel as U+DC80 ... U+DCFF (PEP 383); other halves of surrogate pairs become U+FFFD.
    """
    text = SPACE.sub(" ", unicodedata.normalize("NFC", as_text(text)))
    # letter by letter: lower() of a whole text would write a final sigma in another way
    text = "".join(map(str.lower, text))
    return re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text)


def as_text(text: str | bytes) -> str:
    """Bytes as the string that stands for them, a string as it is."""
    if isinstance(text, bytes):
        return text.decode("utf-8", "surrogateescape")
    return text


def words(text: str) -> list[str]:
    """Split a text by CLIP's pattern: letters, single digits, other signs, English endings."""
    plain = [c if c < "\x80" else PLAIN.get(unicodedata.category(c)[0], "!") for c in text]
    return [text[m.start():m.end()] for m in WORD.finditer("".join(plain))]


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
    """Ids of text by a list of merges, in order of rank.

    `vocab` (token -> id) is by default in CLIP's order: bytes, bytes that end a word, merges,
    start, end. `added` are words that stand for one id each, wherever a text has them; `pad` is the
    token that fills rows, CLIP's end, or "!" for Stable Diffusion 2. Raises MinildmError if the
    vocabulary lacks a token that the merges make.
    """

    def __init__(self, merges: list[tuple[str, str]], vocab: dict[str, int] | None = None,
                 added: Iterable[AddedToken] = (), pad: str = END):
        needed = [*SINGLE, *map("".join, merges), START, END]
        self.merges = merges
        self.vocab = vocab or {token: i for i, token in enumerate(dict.fromkeys(needed))}
        missing = [token for token in needed if token not in self.vocab]
        if missing:
            raise MinildmError(f"the vocabulary lacks {len(missing)} tokens, {missing[0]!r} for "
                               "one", "Tokenizer", "vocab.json and merges.txt must be of one model")
        self.added = tuple(added)
        self.rank = {pair: i for i, pair in enumerate(merges)}
        self.token = {i: token for token, i in self.vocab.items()}
        self.start, self.end = self.vocab[START], self.vocab[END]
        self.pad_token, self.pad = pad, self.vocab[pad]
        # texts repeat their words
        self.bpe = functools.lru_cache(10_000)(self.bpe)
        # as they are typed, before anything else; or in any case of letters, after normalising
        self.exact = {START: self.start, END: self.end, pad: self.pad}
        self.loose = {}
        for token in self.added:
            if token.normalized:
                self.loose[normalise(token.word)] = token.id
            else:
                self.exact[token.word] = token.id

    def __len__(self):
        return len({*self.token, *(token.id for token in self.added)})

    def __reduce__(self):
        """Pickle what it was made of: a cache of a method can't be pickled."""
        return Tokenizer, (self.merges, self.vocab, self.added, self.pad_token)

    @classmethod
    def train(cls, texts: Iterable[str], size: int = 1024) -> "Tokenizer":
        """Learn at most `size` tokens from texts; fewer if every word is one token before.

        Each merge is the pair most frequent at that moment; of equals, the first in the alphabet.
        """
        if size < SMALLEST:
            raise MinildmError(f"size {size} is too small", "Tokenizer.train",
                               f"bytes, start, end take {SMALLEST}")
        counts = Counter(word for text in texts for word in words(normalise(text)))
        split = {word: symbols(word) for word in counts}
        merges = []
        while len(merges) < size - SMALLEST:
            pairs = Counter()
            for word, parts in split.items():
                for pair in pairwise(parts):
                    pairs[pair] += counts[word]
            if not pairs:
                break
            best = min(pairs, key=lambda pair: (-pairs[pair], pair))
            merges.append(best)
            split = {word: merge(parts, best) for word, parts in split.items()}
        return cls(merges)

    @classmethod
    def load(cls, folder, pad: str = END) -> "Tokenizer":
        """Read vocab.json (token -> id) and merges.txt (a version, then a pair a line), as CLIP's
        are.

        Or tokenizer.json, which holds both, and which transformers writes since version 5. Added
        tokens are read from wherever transformers keeps them. Raises MinildmError that names the
        file.
        """
        return cls(*read_vocabulary(Path(folder)), pad=pad)

    def save(self, folder):
        """Write the files that `load` reads, transformers' CLIPTokenizer too."""
        save_vocabulary(Path(folder), self.merges, self.vocab, self.added)

    def bpe(self, word: str) -> tuple[int, ...]:
        """A word's ids: of all pairs the one of lowest rank is joined, until no pair has a rank."""
        parts = symbols(word)
        while pairs := [pair for pair in pairwise(parts) if pair in self.rank]:
            parts = merge(parts, min(pairs, key=self.rank.get))
        return tuple(self.vocab[part] for part in parts)

    def encode(self, text: str | bytes) -> list[int]:
        """All ids of a text, without start and end; words like <|endoftext|> have their own id."""
        ids = []
        for part, special in _split(as_text(text), self.exact):
            if special is not None:
                ids.append(special)
                continue
            for inner, added in _split(normalise(part), self.loose):
                if added is not None:
                    ids.append(added)
                    continue
                for word in words(inner):
                    ids += self.bpe(word)
        return ids

    def __call__(self, texts: list[str], length: int = 77):
        """Texts -> ids (B, length): start, the text, end, then padding, by default end again.

        The empty text is start and ends. Of an overlong one the first length - 2 tokens stay, and a
        warning says what was cut.
        """
        if isinstance(texts, str) or length < 2:
            raise MinildmError("tokenizer(texts, length) takes a list and a length of 2 or more",
                               texts, 'tokenizer(["a red three"])')
        rows = []
        for ids in map(self.encode, texts):
            room = length - 2
            if len(ids) > room:
                warnings.warn(f"{len(ids)} tokens, {room} fit; cut: {self.decode(ids[room:])!r}",
                              stacklevel=2)
            row = [self.start, *ids[:room], self.end]
            row += [self.pad] * (length - len(row))
            rows.append(row)
        return torch.tensor(rows, dtype=torch.long).reshape(-1, length)

    def to_bytes(self, ids) -> bytes:
        """The normalised text's bytes, a blank after each word; start, end and padding fall away.
        """
        added = {token.id: token.word for token in self.added}
        text, ids = b"", list(map(int, ids))
        while ids and ids[-1] == self.pad:
            ids.pop()
        for i in ids:
            if i in (self.start, self.end):
                continue
            if i in added:
                text += f"{added[i]} ".encode("utf-8", "surrogateescape")
                continue
            token = self.token[i]
            text += bytes(BYTE[c] for c in token.removesuffix("</w>"))
            if token.endswith("</w>"):
                text += b" "
        return text

    def decode(self, ids) -> str:
        """The text of ids, words apart: "it's" comes back as "it 's", which has the same ids."""
        return self.to_bytes(ids).decode("utf-8", "replace").strip(" ")


def _split(text: str, special: dict[str, int]) -> list[tuple[str, int | None]]:
    """A text cut at special words: (part, None) for what is between, (word, id) for each of them.
    """
    if not special:
        return [(text, None)]
    # the longest first, since an alternation takes the first that fits
    longest_first = sorted(special, key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest_first))
    parts = re.split(f"({pattern})", text)
    # re.split gives what is between at even places, what it was cut at at odd ones
    return [(part, special[part] if i % 2 else None) for i, part in enumerate(parts)]
