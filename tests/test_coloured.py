"""Coloured digits, their sentences, and the plumbing of lesson 06."""

import json

import torch
from torch import nn

from minildm.course import coloured, lesson_06
from minildm.course.stored import FOLDER
from minildm.data.tokenizer import Tokenizer

DIGITS = torch.randint(0, 256, (200, 1, 28, 28), dtype=torch.uint8,
                       generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(200) % 10


def test_a_fifth_of_the_things_is_kept_and_each_digit_and_colour_is_seen():
    digit, colour = torch.cartesian_prod(torch.arange(10), torch.arange(6)).T
    kept = coloured.kept_from_training(digit, colour)
    assert kept.sum() == 12
    assert digit[~kept].unique().numel() == 10 and colour[~kept].unique().numel() == 6
    # two digits in each colour
    assert colour[kept].bincount().tolist() == [2] * 6


def test_training_and_what_is_kept_share_no_thing():
    train, kept = (coloured.coloured(DIGITS, LABELS, 0, held) for held in (False, True))
    assert not set(train.things.tolist()) & set(kept.things.tolist())
    assert torch.equal(train.digits, LABELS)
    assert train.pictures.shape == (200, 3, 32, 32) and train.pictures.dtype == torch.uint8


def test_a_picture_has_the_colour_that_is_said_of_it():
    pairs = coloured.coloured(torch.full_like(DIGITS, 255), LABELS, 1, None)
    middle = pairs.pictures[:, :, 16, 16].float()
    strongest = middle.argmax(1)
    for k, channel in (0, 0), (2, 1), (4, 2):           # red, green, blue
        assert (strongest[pairs.colours == k] == channel).all()


def test_sentences_fit_and_name_their_thing():
    said = coloured.sentences_of()
    assert len(said) == 60 and said[18][0] == "a red three" and said[49][4] == "an eight in yellow"
    texts = [text for row in coloured.trained_sentences() for text in row]
    assert len(texts) == 48 * 20 and not any("red" in t and "zero" in t for t in texts)
    tokenizer = Tokenizer.train(texts, 640)
    for wordings in (coloured.WORDINGS, coloured.WORDINGS_HELD_OUT):
        ids = coloured.tokens_of(tokenizer, coloured.sentences_of(wordings))
        assert ids.shape == (60, len(wordings), coloured.LENGTH)
        assert (ids[..., -1] == tokenizer.end).all()


def test_shuffling_moves_words_alone():
    ids = torch.tensor([[8, 1, 2, 3, 4, 9, 9], [8, 5, 9, 9, 9, 9, 9]])
    mixed = lesson_06.shuffled(ids, 9, seed=1)
    assert mixed[:, 0].tolist() == [8, 8] and mixed[0, 5:].tolist() == [9, 9]
    assert sorted(mixed[0].tolist()) == sorted(ids[0].tolist()) and torch.equal(mixed[1], ids[1])
    assert not torch.equal(mixed[0], ids[0])


def test_a_probe_reads_what_is_there_and_no_more():
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(120) % 3
    states = nn.functional.one_hot(targets).float() + 0.1 * torch.randn(120, 3, generator=generator)
    fit = torch.arange(120) < 60
    assert lesson_06.probe(states, targets, fit) == 1.0
    assert lesson_06.probe(torch.zeros(120, 3), targets, fit) < 0.5


def test_a_training_sees_true_pairs_alone():
    pairs = coloured.coloured(DIGITS, LABELS)
    tokens = torch.arange(60)[:, None, None].expand(60, 2, 4)       # a sentence is its thing
    seen = []

    def step(model, optimizer, pictures, ids, things):
        seen.append(torch.equal(ids[:, 0], things) and pictures.shape == (5, 3, 32, 32))
        return torch.tensor(1.0)

    losses = lesson_06.train_pairs(nn.Linear(1, 1), step, pairs, tokens, 4, batch=5)
    assert losses == [1.0] * 4 and all(seen)


def test_the_stored_study_has_three_seeds_of_pairs_alone(capsys):
    table = json.loads((FOLDER / "captions.json").read_text())
    assert len(lesson_06.arm_of(table, "pairs alone", "kept", "both")) == 3
    lesson_06.show_stored(table)
    assert "pairs alone" in capsys.readouterr().out
