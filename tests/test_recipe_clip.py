"""Recipes for CLIP: they fit together, learn from pairs, resume, and are measured as they say."""

import json
import re
import shutil
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F

from benchmarks.clip import scene_retrieval
from minildm.data.scenes import COLOURS, SPOTS, compose
from minildm.data.sets import CLASSES, ImageSet
from minildm.data.tokenizer import Tokenizer
from minildm.data.wordings import DIGITS, wordings
from minildm.evaluation.metrics import label_accuracy
from minildm.images import to_float
from minildm.nn.clip import CLIP, CLIPConfig, TextConfig, VisionConfig, class_vectors
from minildm.recipes import clip
from minildm.recipes.clip import (
    RECIPES,
    CLIPRecipe,
    embed,
    scene_pairs,
    tokenize,
    train_clip,
    zero_shot,
)
from minildm.training import checkpoint
from minildm.training.loop import TrainConfig

TINY = CLIPRecipe(
    CLIPConfig(TextConfig(0, 12, 16, 1, 2), VisionConfig(1, 16, 8, 16, 1, 2, stem=(4, 8, 16)), 8),
    TrainConfig(steps=60, batch_size=16, lr=5e-3, warmup=5, ema=0.8), vocab_size=560)


def bars():
    """Nothing, a lying and a standing bar."""
    labels = torch.arange(48) % 3
    images = torch.zeros(48, 1, 16, 16).byte()
    images[labels == 1, :, 6:9], images[labels == 2, :, :, 6:9] = 255, 255
    return ImageSet("bars", "train", images, labels, ("nothing", "lying", "standing"))


def some(name, classes):
    return ImageSet(name, "train", torch.zeros(2, 1, 28, 28).byte(), torch.zeros(2).long(), classes)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_fit_together_and_survive_json(name):
    recipe = RECIPES[name]
    assert checkpoint.from_dict(CLIPRecipe, json.loads(json.dumps(asdict(recipe)))) == recipe
    vision, text = recipe.clip.vision, replace(recipe.clip.text, vocab_size=600)
    towers = CLIP(replace(recipe.clip, text=text)).eval()
    with torch.no_grad():
        shape = vision.in_channels, vision.image_size, vision.image_size
        states, _ = towers.vision_model(torch.zeros(2, *shape))
        assert states.shape == (2, 17, vision.dim)
        assert towers(torch.zeros(2, *shape), torch.tensor([[598, 3, 599]])).shape == (2, 1)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_wordings_name_one_class_each_and_held_out_ones_are_new(name):
    data = some(name, CLASSES[name])
    seen, kept = wordings(data), wordings(data, held_out=True)
    assert len(seen) == len(kept) == 10 and {len(row) for row in seen} in ({12}, {24})
    assert not {t for row in seen for t in row} & {t for row in kept for t in row}
    for k, rows in enumerate(zip(seen, kept, strict=True)):
        for text in (t for row in rows for t in row):
            named = [c for c in data.class_names if c in re.findall(r"\w+", text)]
            assert named == [data.class_names[k]], text
    all_text = " ".join(t for row in seen + kept for t in row)
    assert "an eight" in all_text or "an airplane" in all_text
    assert not re.search(r"\ba (eight|air|auto|digit:? *{)|\ban (one|[^aeiou])|[{}]", all_text)
    assert wordings(some("folder", ("owl", "cat")))[0][0] == "a photo of an owl"


def test_pairs_are_learnt():
    data = bars()
    sentences = [["a bar: " + name, name, "here it is " + name] for name in data.class_names]
    towers, tokenizer, history = train_clip(TINY, data.images, data.labels, sentences, bar=False)
    assert not towers.training and history["loss"][-1] < 0.7 * history["loss"][0]
    assert history["scale"][0] == pytest.approx(1 / 0.07)
    assert len(tokenizer) == towers.config.text.vocab_size <= 560
    asked = [[row[0]] for row in sentences]
    assert label_accuracy(zero_shot(towers, tokenizer, embed(towers, data.images), asked), data.labels) == 1
    swapped = [asked[1], asked[0], asked[2]]
    logits = zero_shot(towers, tokenizer, embed(towers, data.images), swapped)
    assert label_accuracy(logits, data.labels) == pytest.approx(1 / 3)


def test_resumed_is_uninterrupted_and_the_global_generator_is_left_alone(tmp_path):
    data, state = bars(), torch.get_rng_state()
    sentences = [[name, "a " + name] for name in data.class_names]
    recipe = replace(TINY, training=replace(TINY.training, steps=5, save_every=3),
                     augmentation=clip.ClassifierConfig())
    ends = []
    for folder in "ab":
        towers, _, _ = train_clip(recipe, data.images, data.labels, sentences, tmp_path / folder, bar=False)
        if folder == "a":                                       # goes on from step 3
            shutil.rmtree(tmp_path / "a" / "step-000005")
            towers, _, _ = train_clip(recipe, data.images, data.labels, sentences, tmp_path / "a", bar=False)
        ends.append(towers.state_dict())
    assert all(torch.equal(t, ends[1][name]) for name, t in ends[0].items())
    assert torch.equal(torch.get_rng_state(), state)


@torch.no_grad()
def test_zero_shot_is_the_cosine_with_each_classes_mean_vector():
    data, tokenizer = bars(), Tokenizer.train(["a"], 514)
    torch.manual_seed(0)
    towers = CLIP(replace(TINY.clip, text=replace(TINY.clip.text, vocab_size=514))).eval()
    sentences = [["no", "n"], ["y", "yes"]]
    ids = tokenize(tokenizer, sentences, 12)
    assert ids.shape == (2, 2, 12) and torch.equal(ids[1, 0], tokenizer(["y"], 12)[0])
    found = zero_shot(towers, tokenizer, embed(towers, data.images), sentences)
    wanted = F.cosine_similarity(towers.encode_images(to_float(data.images))[:, None],
                                 class_vectors(towers, ids)[None], dim=-1)
    torch.testing.assert_close(found, wanted)


def digits():
    images = torch.zeros(20, 1, 28, 28).byte()
    images[:, :, 8:20, 10:18] = 255
    return ImageSet("toy", "train", images, torch.arange(20) % 10, DIGITS)


def test_scenes_come_with_sentences_of_their_meaning():
    composed = compose(digits().images, digits().labels, 300, held_out=False)
    images, meanings, sentences = scene_pairs(*composed, wordings=3)
    assert images.shape == (300, 3, 32, 32) and meanings.shape == (300,)
    assert {len(row) for row in sentences} == {3} and len(sentences) == meanings.max() + 1
    assert sum(len(set(row)) > 1 for row in sentences) > 0.7 * len(sentences)      # in other words
    assert sentences == scene_pairs(*composed, wordings=3)[2]
    assert scene_pairs(*composed, wordings=3, seed=1)[2] != sentences
    for image, meaning in zip(images[:40], meanings[:40].tolist(), strict=True):
        said = [{word for word in s.replace(",", "").split() if word in (*COLOURS, *DIGITS)}
                for s in sentences[meaning]]
        assert said[0] == said[1] == said[2] and len(said[0]) in (2, 3, 4)         # all say all of it
        alone = len([w for w in sentences[meaning][0].replace(",", "").split() if w in DIGITS]) == 1
        assert alone == any(spot in sentences[meaning][0] for spots in SPOTS for spot in spots)
        lit = image.amax((1, 2)) > 0.6 * image.max()                              # colour: which channels
        if alone:
            colour = next(c for c in COLOURS if c in said[0])
            order = ("red", "green", "blue")
            mixed = {"yellow": (1, 1, 0), "cyan": (0, 1, 1), "magenta": (1, 0, 1)}
            assert tuple(lit.int().tolist()) == mixed.get(colour, tuple(int(colour == c) for c in order))


def test_retrieval_counts_another_picture_of_the_same_meaning_as_right():
    """With towers that know the meaning and nothing else, and with towers that know nothing."""
    class Oracle:
        config = CLIPConfig(TextConfig(0, 1), VisionConfig(1, 1, 1))

        def encode_images(self, images):
            return F.one_hot(((images[:, 0, 0, 0] + 1) * 127.5).round().long(), 256).float()

        def encode_text(self, ids):
            return F.one_hot(ids[:, 0], 256).float()

    meanings = torch.arange(512) % 200
    images, sentences = meanings.byte().view(-1, 1, 1, 1), [[str(m)] for m in range(200)]
    for shift, right in (0, 1.0), (7, 0.0):
        def tokenizer(texts, length, shift=shift):
            return torch.tensor([[int(text) + shift] for text in texts])
        found = scene_retrieval(Oracle(), tokenizer, (images, meanings, sentences))
        assert found == pytest.approx((right, right), abs=0.05)
