"""BPE against transformers' CLIP tokenizer, against its definition, and on whatever people type."""

import contextlib
import copy
import json
import pickle
import random
import re
import unicodedata
from collections import Counter
from itertools import pairwise

import pytest
import torch

from minildm import MinildmError
from minildm.data.tokenizer import (
    BYTE,
    BYTES,
    END,
    LETTER,
    START,
    AddedToken,
    Tokenizer,
    merge,
    normalise,
    symbols,
    words,
)

CORPUS = ["the digit three", "the digit seven", "a photo of a ship", "a photo of an airplane",
          "a red three left of a blue eight", "two green sevens above a yellow one",
          "it's what they'd draw", "naïve café ÀÉ İstanbul ΑΣΣΑΣ мир 漢字 हिन्दी ١٢٣ 😀🎉 →"] * 2
# what Unicode 3.2 assigned, so known to every edition of Python and of transformers, and emoji
CHARACTERS = [c for c in map(chr, range(0x110000))
              if unicodedata.ucd_3_2_0.category(c) not in ("Cn", "Cs", "Co")]
CHARACTERS += map(chr, range(0x1F300, 0x1F640))
TYPED = ["", " ", "!", "don't", "DON'T", "''s", "'sa", "a\tb\n c\x85d\xa0e", "a\x1cb\x00",
         "1234 5a6", "</w>", "a</w>b", START, f"a {END} b", f"a{END.upper()}b", "<|endoftext|",
         "e\u0301 ﬁ Ⅷ ½ ①", "ΑΣ ΑΣ", "İI"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(CORPUS, 630)


def random_texts(n, seed):
    """Strings up to 30 long: words of the corpus, ASCII, anything in Unicode."""
    draw = random.Random(seed)
    vocabulary = " ".join(CORPUS).split()
    kinds = [lambda: draw.choice(CHARACTERS), lambda: chr(draw.randrange(128)), lambda: " ",
             lambda: chr(draw.randrange(0x20, 0x600)),
             lambda: draw.choice(["'s", "'LL", "'re", "' ", "7"]),
             lambda: draw.choice(vocabulary), lambda: draw.choice(vocabulary).upper()]
    return ["".join(draw.choice(kinds)() for _ in range(draw.randrange(30))) for _ in range(n)]


def test_ids_are_those_of_transformers_on_10_000_texts(tokenizer, tmp_path):
    clip = pytest.importorskip("transformers.models.clip.tokenization_clip")
    tokenizer.save(tmp_path)
    theirs = clip.CLIPTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.load(tmp_path)
    texts = random_texts(10_000 - len(TYPED) - len(CORPUS), 1) + TYPED + CORPUS
    expected = theirs.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    pairs = [(text, ours.encode(text), e.ids) for text, e in zip(texts, expected, strict=True)]
    assert len(pairs) == 10_000 and [p for p in pairs if p[1] != p[2]] == []
    for length in 3, 77:
        padded = theirs(texts[-60:], padding="max_length", max_length=length, truncation=True)
        with pytest.warns(UserWarning, match="1 fit") if length == 3 else contextlib.nullcontext():
            assert ours(texts[-60:], length).tolist() == padded["input_ids"]


def test_vocabulary_has_clips_layout(tokenizer):
    """Bytes, bytes that end words, merges in order, start, end: in CLIP's own that is 49,408."""
    ids = tokenizer.vocab
    assert sorted(ids.values()) == list(range(len(tokenizer))) and len(tokenizer) == 630
    # as in CLIP's vocab.json
    assert (ids["!"], ids["a"], ids["!</w>"], ids["a</w>"]) == (0, 64, 256, 320)
    assert [ids[a + b] for a, b in tokenizer.merges] == list(range(512, 628))
    assert (tokenizer.start, tokenizer.end) == (628, 629) == (ids[START], ids[END])
    assert sorted(BYTES) == list(range(256)) and len(BYTE) == 256
    assert "".join(LETTER.values()).isprintable()


def test_a_word_by_hand():
    """Sennrich et al. 2016, figure 1's idea: e s is the commonest pair, then es t."""
    corpus = 5 * "low " + 2 * "lower " + 6 * "newest " + 3 * "widest "
    trained = Tokenizer.train([corpus], 514 + 4)
    assert trained.merges == [("e", "s"), ("es", "t</w>"), ("l", "o"), ("e", "w")]
    lowest = [trained.token[i] for i in trained.encode("lowest LO")]
    assert lowest == ["lo", "w", "est</w>", "l", "o</w>"]


def test_each_merge_was_a_most_frequent_pair():
    """Counted anew from the definition, on the whole text instead of on word counts."""
    trained = Tokenizer.train(CORPUS, 514 + 60)
    text = [symbols(word) for sentence in CORPUS for word in words(normalise(sentence))]
    for chosen in trained.merges:
        counts = Counter(pair for word in text for pair in pairwise(word))
        assert counts[chosen] == max(counts.values())
        text = [merge(word, chosen) for word in text]


def test_training_stops_when_each_word_is_a_token():
    trained = Tokenizer.train(["the digit three", "the digit"], 10_000)
    assert [len(trained.bpe(word)) for word in ("the", "digit", "three")] == [1, 1, 1]
    assert len(trained) == 514 + len(trained.merges) < 530
    with pytest.raises(MinildmError, match="take 514"):
        Tokenizer.train(["a"], 513)


def test_any_text_comes_back(tokenizer):
    """Words apart, lower-cased; to_bytes is exact, and what decode gives has the same ids."""
    for text in random_texts(1_000, 2) + TYPED:
        ids = tokenizer.encode(text)
        if START not in text and END not in text:
            wanted = "".join(normalise(text).split(" ")).encode()
            assert tokenizer.to_bytes(ids).replace(b" ", b"") == wanted
            again = tokenizer.encode(tokenizer.decode(ids))
            assert again == ids, (text, tokenizer.decode(ids))
        row = tokenizer([text], 400)[0, :len(ids) + 2]
        assert row.tolist() == [tokenizer.start, *ids, tokenizer.end]
    assert tokenizer.decode(tokenizer(["It's a RED  Three, ok?"])[0]) == "it 's a red three , ok ?"


def test_any_bytes_come_back(tokenizer):
    draw = random.Random(3)
    for _ in range(500):
        raw = bytes(b for b in draw.randbytes(20) if b not in b"\t\n\x0b\x0c\r ")
        kept = normalise(raw).encode("utf-8", "surrogateescape")
        ids = tokenizer.encode(raw)
        spaces = re.sub(rb"\s", b"", tokenizer.to_bytes(ids))
        assert spaces == kept.replace(b" ", b"")
        assert isinstance(tokenizer.decode(ids), str)
    every = bytes(range(128, 256))                                   # none of it is UTF-8
    assert tokenizer.to_bytes(tokenizer.encode(every)) == every + b" "
    half = "\ud800 a"                                                # of a surrogate pair
    assert tokenizer.decode(tokenizer.encode(half)) == "\ufffd a"


def test_empty_and_overlong_texts(tokenizer):
    s, e = tokenizer.start, tokenizer.end
    assert tokenizer(["", " \n"], 5).tolist() == [[s, e, e, e, e]] * 2
    fits, cut = "the digit", "the digit three seven"
    assert tokenizer([fits], 4).tolist() == [[s, *tokenizer.encode(fits), e]]
    with pytest.warns(UserWarning, match="4 tokens, 2 fit; cut: 'three seven'"):
        assert torch.equal(tokenizer([cut], 4), tokenizer([fits], 4))
    assert tokenizer([], 7).shape == (0, 7) and tokenizer([fits]).shape == (1, 77)
    for texts, length in ("the digit", 77), (["the digit"], 1):
        with pytest.raises(MinildmError, match="takes a list"):
            tokenizer(texts, length)


def test_files_come_back_and_bad_ones_are_named(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t")
    again = Tokenizer.load(tmp_path / "t")
    assert again.vocab == tokenizer.vocab and again.merges == tokenizer.merges
    with pytest.raises(MinildmError, match="vocab.json and merges.txt"):
        Tokenizer.load(tmp_path)
    joined = [" ".join(pair) for pair in tokenizer.merges]
    for pairs in tokenizer.merges, joined:                  # as transformers 5 and 4 write them
        model = {"vocab": tokenizer.vocab, "merges": pairs}
        (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
        assert Tokenizer.load(tmp_path).merges == tokenizer.merges
    for broken in {}, {"model": {"vocab": {}}}, {"model": {"vocab": 3, "merges": [["a", "b"]]}}, []:
        (tmp_path / "tokenizer.json").write_text(json.dumps(broken))
        with pytest.raises(MinildmError, match="no tokenizer can be read|vocabulary lacks"):
            Tokenizer.load(tmp_path)
    for hostile in "[" * 100_000, json.dumps({**tokenizer.vocab, "z": 0}), json.dumps({"a": None}):
        (tmp_path / "h").mkdir(exist_ok=True)
        (tmp_path / "h" / "vocab.json").write_text(hostile)
        (tmp_path / "h" / "merges.txt").write_text("#version: 0.2\n")
        with pytest.raises(MinildmError, match="no tokenizer can be read"):
            Tokenizer.load(tmp_path / "h")
    (tmp_path / "h" / "vocab.json").unlink()
    (tmp_path / "h" / "vocab.json").symlink_to("/dev/zero")
    with pytest.raises(MinildmError, match="vocab.json is not a file"):
        Tokenizer.load(tmp_path / "h")
    (tmp_path / "t" / "merges.txt").write_text("#version: 0.2\nz z\n")
    with pytest.raises(MinildmError, match="lacks 1 tokens, 'zz'"):
        Tokenizer.load(tmp_path / "t")
    (tmp_path / "t" / "vocab.json").write_text("{")
    with pytest.raises(MinildmError, match="no tokenizer can be read"):
        Tokenizer.load(tmp_path / "t")


# ---- words that were added to a vocabulary, and what is made of a tokenizer

ADDED = ["<cat-toy>", "<cat-toy>-2", "Sks", "<|mid|>"]
WITH_ADDED = ["a <cat-toy> red", "a<cat-toy>red", "<CAT-TOY> x", "sks SKS skss",
              "<cat-toy>-2 <cat-toy>-3", " <cat-toy>  !", f"a {END} <cat-toy>",
              "<spec> <SPEC> a<spec>b", "", "<cat-toy",
              "<|mid|> <|MID|>"]


def test_added_words_have_the_ids_of_transformers(tokenizer, tmp_path):
    """As textual inversion adds them; one special, which counts only as it is written."""
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path / "plain")
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path / "plain")
    theirs.add_tokens(ADDED)
    theirs.add_tokens([transformers.AddedToken("<spec>", special=True, normalized=False)])
    theirs.save_pretrained(tmp_path / "added")
    ours = Tokenizer.load(tmp_path / "added")
    assert len(ours) == len(tokenizer) + 5
    assert (ours.start, ours.end) == (tokenizer.start, tokenizer.end)
    for text in WITH_ADDED:
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], text
    ours.save(tmp_path / "again")
    again = Tokenizer.load(tmp_path / "again")
    reread = transformers.CLIPTokenizer.from_pretrained(tmp_path / "again")
    for text in WITH_ADDED:
        assert ours.encode(text) == again.encode(text)
        assert ours.encode(text) == reread(text, add_special_tokens=False)["input_ids"], text


@pytest.mark.parametrize("file, content", [
    ("added_tokens.json", {"<cat-toy>": 700}),
    ("tokenizer_config.json", {"added_tokens_decoder": {"700": {"content": "<cat-toy>"}}}),
    ("tokenizer.json", {"added_tokens": [{"id": 700, "content": "<cat-toy>"}]})])
def test_an_added_word_is_one_id_wherever_it_is_stored(tokenizer, tmp_path, file, content):
    tokenizer.save(tmp_path)
    (tmp_path / file).write_text(json.dumps(content))
    ours = Tokenizer.load(tmp_path)
    red, three = tokenizer.encode("red three")
    assert ours.encode("red <cat-toy> three") == [red, 700, three]
    assert ours(["<cat-toy>"], 4).tolist() == [[ours.start, 700, ours.end, ours.end]]
    assert ours.decode([red, 700, three]) == "red <cat-toy> three"
    assert ours.encode(ours.decode([red, 700, three])) == [red, 700, three]


@pytest.mark.parametrize("entry, what", [
    ({"content": "<x>", "single_word": True}, "'<x>' counts as a whole word"),
    ({"content": "!"}, "'!' has two ids"), ({"content": " "}, "is empty")])
def test_an_added_word_that_cannot_be_kept_is_refused_by_name(tokenizer, tmp_path, entry, what):
    tokenizer.save(tmp_path)
    config = {"added_tokens_decoder": {"700": entry}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(MinildmError, match=what):
        Tokenizer.load(tmp_path)


def test_start_and_end_among_the_added_are_no_others(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    decoder = {str(i): {"content": word, "special": True, "normalized": True}
               for word, i in ((START, tokenizer.start), (END, tokenizer.end))}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    ours = Tokenizer.load(tmp_path)
    assert ours.added == () and [ours.encode(text) for text in TYPED] == [
        tokenizer.encode(text) for text in TYPED]


def test_a_tokenizer_travels_to_other_processes(tokenizer):
    with_added = Tokenizer(tokenizer.merges, tokenizer.vocab, [AddedToken("<cat-toy>", 700)])
    for ours in tokenizer, with_added:
        for other in pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours):
            assert (other.vocab, other.merges, other.added) == (ours.vocab, ours.merges, ours.added)
            assert [other.encode(text) for text in TYPED] == [ours.encode(text) for text in TYPED]
