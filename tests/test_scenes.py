"""Scenes against their own account: boxes, hues and words say what is there."""

import hashlib
import re

import pytest
import torch
from support.tensors import sha256
from torch.testing import assert_close

from minildm import data
from minildm.data import scenes, sets
from minildm.data.scenes import COLOURS, PLACES, Truth
from minildm.data.wordings import DIGITS
from minildm.evaluation.classifier import load_classifier


@pytest.fixture(scope="module")
def digits():
    """Bars in place of handwriting: images (40, 1, 28, 28), and labels."""
    images = torch.zeros(40, 1, 28, 28, dtype=torch.uint8)
    for i in range(40):
        images[i, :, 4:24, 8:20] = 255
    return images, torch.arange(40) % 10


@pytest.fixture(scope="module")
def drawn(digits):
    return scenes.compose(*digits, 600, seed=3)


def test_the_same_seed_draws_the_same(digits, drawn):
    images, truth = scenes.compose(*digits, 600, seed=3)
    assert torch.equal(images, drawn[0]) and torch.equal(truth.boxes, drawn[1].boxes)
    assert not torch.equal(scenes.compose(*digits, 600, seed=4)[0], images)
    assert images.shape == (600, 3, 32, 32) and images.dtype == torch.uint8


@pytest.mark.parametrize("seed, held_out, things, sentences, means, boxes", [
    (0, None, "f407f114d1582260", "1157af86c6bf9d12", [12.1097, 23.1201, 19.9160], 150.65523),
    (3, False, "e20f38ddeaee5567", "6030e55ce9157700", [19.7923, 16.9271, 20.2835], 147.98332),
    (4, True, "997128036521ddc4", "b98fd642e68eb58d", [17.9756, 22.1396, 22.2731], 226.15437)])
def test_a_seed_draws_what_it_always_drew(digits, seed, held_out, things, sentences, means, boxes):
    """Trained models and figures rest on it; pixels may be rounded otherwise elsewhere."""
    images, truth = scenes.compose(*digits, 300, seed, held_out)
    assert sha256(truth.digits, truth.colours, truth.places) == things
    text = "\n".join(scenes.captions(truth, seed, partial=0.4))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == sentences
    assert_close(images[:3].float().mean((1, 2, 3)), torch.tensor(means), rtol=0, atol=0.01)
    assert truth.boxes[:2].sum().item() == pytest.approx(boxes, abs=0.001)


def test_a_fifth_of_the_combinations_is_held_out_and_every_pair_of_words_is_seen():
    ranges = torch.arange(10), torch.arange(6), torch.arange(9)
    digit, colour, place = torch.cartesian_prod(*ranges).T
    held = scenes.is_held_out(digit, colour, place)
    assert held.sum() == 540 / 5
    for a, b in ((digit, colour), (digit, place), (colour, place)):
        seen = {*zip(a[~held].tolist(), b[~held].tolist(), strict=True)}
        assert len(seen) == len({*zip(a.tolist(), b.tolist(), strict=True)})


def test_the_catalogue_has_every_scene_once():
    every = scenes.catalogue()
    rows = torch.cat([every.digits, every.colours, every.places], 1)
    assert len(rows) == 300 + 2 * 60 * 50 == len({*map(tuple, rows.tolist())})
    two = every.digits[:, 1] >= 0
    assert (every.colours[two, 0] != every.colours[two, 1]).all()
    assert (every.places[two, 1] == every.places[two, 0] + 1).all()
    assert (every.places[~two, 0] < 5).all()
    assert every.held_out[~two].float().mean() == 0.2


def test_training_lacks_what_is_held_out(digits):
    assert not scenes.compose(*digits, 500, held_out=False)[1].held_out.any()
    assert scenes.compose(*digits, 500, held_out=True)[1].held_out.all()
    both = scenes.compose(*digits, 2000)[1]
    assert 0.2 < both.held_out.float().mean() < 0.36
    assert 0.45 < (both.digits[:, 1] < 0).float().mean() < 0.55


def test_boxes_hold_the_ink_and_places_are_where_they_say(drawn):
    images, truth = drawn
    ink = images.amax(1) > 100
    x, y = torch.arange(32) + 0.5, torch.arange(32)[:, None] + 0.5
    inside = torch.zeros_like(ink)
    for k in range(2):
        left, top, right, bottom = truth.boxes[:, k, :, None, None].unbind(1)
        box = (x > left - 0.6) & (x < right + 0.6) & (y > top - 0.6) & (y < bottom + 0.6)
        filled = (ink & box).sum((1, 2)) / ((right - left) * (bottom - top))[:, 0, 0]
        assert (filled[truth.digits[:, k] >= 0] > 0.8).all()
        inside |= box
    assert not (ink & ~inside).any() and truth.boxes.min() >= 0 and truth.boxes.max() <= 32
    centre = (truth.boxes[..., :2] + truth.boxes[..., 2:]) / 2
    for place, (x_at, y_at) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.5)]):
        here = centre[truth.places[:, 0] == place, 0] / 32
        assert len(here) and ((here - torch.tensor([x_at, y_at])).abs() < 0.34).all()
    sideways, stacked = truth.boxes[truth.places[:, 0] == 5], truth.boxes[truth.places[:, 0] == 7]
    assert (sideways[:, 0, 2] + 1 < sideways[:, 1, 0]).all()
    assert (stacked[:, 0, 3] + 1 < stacked[:, 1, 1]).all()


def test_hues_come_back():
    hue = torch.tensor([0.0, 17, 60, 119, 180, 240, 301, 359])
    found = scenes.hue_of(scenes.hsv_to_rgb(hue, 0.5, torch.full_like(hue, 0.7)))
    assert_close((found - hue + 180) % 360 - 180, torch.zeros(8), rtol=0, atol=1.5)
    assert_close(scenes.hsv_to_rgb(torch.tensor([0.0, 120, 240]), 1.0, torch.ones(3)), torch.eye(3))


def read(sentence: str) -> tuple[list, list]:
    """Its colours and digits, in the order of the words; None where a noun has none."""
    things = re.findall(rf"(?:({'|'.join(COLOURS)}) )?({'|'.join(DIGITS)}|digit)\b", sentence)
    return ([COLOURS.index(c) if c else None for c, _ in things],
            [DIGITS.index(d) if d != "digit" else None for _, d in things])


def test_captions_say_what_is_there(drawn):
    truth, sentences = drawn[1], scenes.captions(drawn[1])
    for i, sentence in enumerate(sentences):
        colours, digits = read(sentence)
        n = 1 + (truth.digits[i, 1] >= 0)
        wanted = list(zip(truth.digits[i, :n].tolist(), truth.colours[i, :n].tolist(), strict=True))
        assert sorted(zip(digits, colours, strict=True)) == sorted(wanted), sentence
        if n == 1:
            assert any(spot in sentence for spot in scenes.SPOTS[truth.places[i, 0]])
            continue
        named_first = (digits[0], colours[0]) == wanted[0]
        forwards = re.search("left of|above|over|on the left and|at the top and", sentence)
        assert named_first == (forwards is not None), sentence
        assert (truth.places[i, 0] == 5) == (re.search("left|right", sentence) is not None)
    assert len({*sentences}) > 500 and sentences == scenes.captions(truth)
    assert sentences != scenes.captions(truth, seed=1)


def test_partial_captions_leave_something_out(drawn):
    whole, partial = scenes.captions(drawn[1]), scenes.captions(drawn[1], partial=1.0)
    alone = [s for s in partial if len(s.split()) == 1]
    colourless = [s for s in partial
                  if len(s.split()) > 1 and not any(colour in s for colour in COLOURS)]
    digitless = [s for s in partial if "digit" in s]
    assert all(110 < len(kind) < 190 for kind in (alone, colourless, digitless))      # of 600
    assert not any(re.search(r"\ba eight|\ban [^e]", s) for s in whole + partial)
    some = scenes.captions(drawn[1], partial=0.3)
    assert 0.2 < sum(a != b for a, b in zip(whole, some, strict=True)) / 600 < 0.4


def test_a_box_is_resampled_to_where_it_is_wanted():
    image = torch.zeros(1, 1, 20, 30)
    image[..., 5:9, 10:16] = 1
    source, target = torch.tensor([[13.0, 7.0]]), torch.tensor([[16.0, 10.0]])
    out = scenes.resample(image, source, target, torch.tensor([2.0]), 32)
    assert scenes.boxes_of(out[:, 0] > 0.5).tolist() == [[10, 6, 22, 14]]       # 6 x 4, doubled
    assert scenes.boxes_of(torch.zeros(1, 4, 4, dtype=torch.bool)).tolist() == [[0, 0, 0, 0]]


def test_detectors_find_what_is_there(drawn):
    """A classifier that knows no digits: those are in the next test."""
    found = scenes.detect(data.to_float(drawn[0]), lambda crops: torch.zeros(len(crops), 10))
    right = scenes.agreement(found, drawn[1])
    assert all(right[name].float().mean() > 0.99 for name in ("count", "colour"))
    assert torch.equal(found.places, drawn[1].places)
    assert (found.boxes - drawn[1].boxes).abs().max() < 1.5
    nothing = scenes.detect(-torch.ones(2, 3, 32, 32), lambda crops: torch.zeros(len(crops), 10))
    assert (nothing.digits == -1).all()
    assert not scenes.agreement(nothing, drawn[1][:2])["count"].any()


@pytest.mark.skipif(not data.available("mnist"), reason="MNIST is not there")
def test_floors_on_real_scenes():
    digits = data.load("mnist", "test")
    images, truth = scenes.compose(digits.images, digits.labels, 200, seed=1)
    right = scenes.agreement(scenes.detect(data.to_float(images), load_classifier("mnist")), truth)
    floors = {name: value.float().mean().item() for name, value in right.items()}
    assert floors["digit"] > 0.96, floors
    assert min(floors["colour"], floors["place"], floors["count"]) > 0.98, floors


def test_agreement_tells_the_failures_apart():
    def scene(digits, colours, places):
        return Truth(*(torch.tensor([x]) for x in (digits, colours, places)), torch.zeros(1, 2, 4))

    wanted = scene([3, 8], [0, 4], [5, 6])                  # a red three left of a blue eight
    for found, wrong in (
            (scene([3, 8], [0, 4], [5, 6]), ""),
            (scene([8, 3], [4, 0], [5, 6]), "place all"),           # relation
            (scene([3, 8], [4, 0], [5, 6]), "binding all"),         # colours exchanged
            (scene([3, 8], [0, 4], [7, 8]), "place all"),
            (scene([3, 5], [0, 4], [5, 6]), "digit binding all"),
            (scene([3, 3], [0, 0], [5, 6]), "digit colour binding place all"),
            (scene([3, -1], [0, -1], [4, -1]), "count digit colour binding place all")):
        right = scenes.agreement(found, wanted)
        assert {name for name in right if not right[name]} == {*wrong.split()}


def test_loaded_as_any_other_set(monkeypatch):
    monkeypatch.setattr(sets, "SCENES", {"train": 50, "test": 40})
    train, test = (data.load("scenes-glyphs", split) for split in ("train", "test"))
    assert train.images.shape == (50, 3, 32, 32) and len(test) == 40
    assert not train.truth.held_out.any()
    few = train.subset(5, seed=2)
    which = [int((train.images == image).flatten(1).all(1).nonzero()) for image in few.images]
    assert torch.equal(few.truth.colours, train.truth.colours[which])
    assert all(DIGITS[d] in few.captions[0] for d in few.truth.digits[0] if d >= 0)
    assert torch.equal(few.labels, few.truth.digits[:, 0]) and data.available("scenes-glyphs")
    assert len(PLACES) == len(scenes.CENTRES)


def test_centre_of_mass_is_where_a_map_is_high():
    maps = torch.full((2, 8, 8), 0.3)
    maps[0, 1, 6] += 1                                      # row 1, column 6 of squares of 4 pixels
    maps[1, 2:4, 5] += 1
    assert_close(scenes.centre_of_mass(maps), torch.tensor([[26.0, 6.0], [22.0, 12.0]]))
    boxes = torch.tensor([[24.0, 4, 28, 8], [0, 0, 21, 32]])
    assert scenes.inside(scenes.centre_of_mass(maps), boxes).tolist() == [True, False]
