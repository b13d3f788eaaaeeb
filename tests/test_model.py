"""The pipeline: labels to pictures, the same picture whatever the batch, saved and loaded as it was."""

from dataclasses import asdict, replace

import pytest
import torch
from support.pictures import pictures

from minildm import MinildmError, data
from minildm import model as pipeline
from minildm.data.tokenizer import Tokenizer
from minildm.data.wordings import wordings
from minildm.demo import recipe_for
from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.guidance import rescaled
from minildm.diffusion.samplers import ddpm
from minildm.diffusion.schedules import shift
from minildm.evaluation.classifier import pca_features
from minildm.model import LatentDiffusion, padded, with_captions
from minildm.nn.clip import TextTransformer
from minildm.recipes import stages as recipes
from minildm.recipes.stages import RECIPES, Recipe, build, for_data
from minildm.training import checkpoint
from minildm.training.loop import gains_from_bf16


@pytest.fixture(scope="module")
def pipe():
    recipe = for_data(RECIPES["smoke"], pictures())
    vae, denoiser = build(recipe)
    generator = torch.Generator().manual_seed(0)
    for p in denoiser.parameters():         # a fresh network predicts zero whatever the label
        p.data += 0.05 * torch.randn(p.shape, generator=generator)
    return LatentDiffusion(recipe, vae, denoiser, ("a", "b", "c"), 14)


def test_shapes_range_and_size(pipe):
    images = pipe.generate([0, 1, 2, 0, 1], num_inference_steps=2)
    assert images.shape == (5, 1, 14, 14) and images.abs().max() <= 1
    assert pipe.latent_shape == (4, 4, 4)
    assert padded(28, RECIPES["cpu"]) == 32 and padded(32, RECIPES["cpu"]) == 32


def test_picture_k_of_a_seed_does_not_depend_on_the_batch(pipe):
    labels = [0, 1, 2, 0, 1, 2, 0]
    whole = pipe.generate(labels, 2, seed=3)
    torch.testing.assert_close(pipe.generate(labels, 2, seed=3, batch_size=2), whole, atol=2e-2, rtol=0)
    assert torch.equal(pipe.noise(3, seed=3, first=2), pipe.noise(7, seed=3)[2:5])
    assert not torch.equal(pipe.noise(1, seed=3), pipe.noise(1, seed=4))


def test_label_guidance_steps_and_sampler_matter(pipe):
    base = pipe.generate([0], 3, 1.0)
    others = [pipe.generate([1], 3, 1.0), pipe.generate([0], 3, 3.0), pipe.generate([0], 6, 1.0)]
    for other in [*others, pipe.generate([0], 3, 1.0, sampler=ddpm)]:
        assert not torch.allclose(base, other, atol=1e-3)


def test_saved_and_loaded_is_the_same_model(pipe, tmp_path):
    pipe.save(tmp_path / "model", {"seconds": 1.0})
    again = LatentDiffusion.load(tmp_path / "model")
    assert (again.recipe, again.image_size) == (pipe.recipe, pipe.image_size)
    assert again.class_names == pipe.class_names
    assert (again.generate([0, 1], 2) - pipe.generate([0, 1], 2)).abs().max() < 0.05     # fp16 on disk
    half = LatentDiffusion.load(tmp_path / "model", dtype=torch.bfloat16)
    assert half.vae.latent_mean.dtype == next(half.denoiser.parameters()).dtype == torch.bfloat16
    assert (half.generate([0, 1], 2) - pipe.generate([0, 1], 2)).abs().mean() < 0.05


def test_wrong_labels_and_missing_models_are_refused(pipe, tmp_path):
    for labels in ([3], [-1]):
        with pytest.raises(MinildmError, match="not all classes"):
            pipe.generate(labels, 2)
    for wanted in "a red three", []:
        with pytest.raises(MinildmError, match="no list of prompts"):
            pipe.generate(wanted)
    pipe.save(tmp_path / "run" / "model")
    with pytest.raises(MinildmError, match="no checkpoint here") as caught:
        LatentDiffusion.load(tmp_path / "run")
    assert str(tmp_path / "run" / "model") in str(caught.value)
    with pytest.raises(MinildmError, match="there is no model"):
        LatentDiffusion.load(tmp_path / "nothing")


def test_a_recipe_from_disk_builds_the_schedule_it_names(pipe, tmp_path):
    recipe = replace(pipe.recipe, schedule="cosine", prediction_type="v")
    vae, denoiser = build(recipe)
    LatentDiffusion(recipe, vae, denoiser, ("a", "b", "c"), 16).save(tmp_path / "model")
    again = LatentDiffusion.load(tmp_path / "model").denoiser
    assert again.prediction_type == "v"
    assert again.schedule.alpha(torch.tensor(0.5)).item() == pytest.approx(0.5**0.5)


def test_mirror_images_are_learned_as_well(monkeypatch):
    seen = []

    def look(denoiser, latents, labels, recipe, run_dir, bar, weak):
        seen.append((latents[0], labels))
        return {}

    monkeypatch.setattr(pipeline, "train_denoiser", look)
    data, smoke = pictures(channels=3), RECIPES["smoke"]
    quick = replace(smoke, vae_training=replace(smoke.vae_training, steps=1))
    for mirror in (False, True):
        recipe = replace(quick, mirror=mirror)
        pipe, *_ = pipeline.train(recipe, data, bar=False)
    (plain, labels), (both, twice) = seen
    assert torch.equal(both[:64], plain) and torch.equal(twice, labels.repeat(2)) and len(both) == 128
    mirrored = pipe.vae.encode(data.images[:4].flip(-1).float() / 127.5 - 1).mean
    assert torch.allclose(both[64:68], pipe.vae.normalise(mirrored), atol=1e-4)


def test_a_lesser_model_is_an_early_average_that_is_kept_and_led_away_from(tmp_path):
    smoke, data = RECIPES["smoke"], pictures(channels=3)
    recipe = replace(smoke, vae_training=replace(smoke.vae_training, steps=2), features=4, weak_step=3,
                     weak_scale=3.0, weak_phi=1.0)
    pipe, *_ = pipeline.train(recipe, data, tmp_path / "run", bar=False)
    whole = replace(recipe, training=replace(recipe.training, warmup=1, decay="none"))
    stopped = replace(whole, training=replace(whole.training, steps=3), weak_step=0)
    kept, short = (pipeline.train(r, data, bar=False)[0] for r in (whole, stopped))
    for a, b in zip(kept.weak.parameters(), short.denoiser.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    for p in [*pipe.denoiser.parameters(), *pipe.weak.parameters()]:    # after few steps both predict zero
        p.data += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    pipe.weak.network.class_embedding.weight.data *= 20                 # it hears labels well
    pipe.denoiser.network.proj_out_2.weight.data.unflatten(0, (4, -1))[:, -4:] *= 9     # features are loud
    drawn = pipe.generate([0, 1], 1, 2.0, seed=1)                       # one step, from pure noise to x0
    labels, null, t = torch.tensor([0, 1]), torch.tensor([3, 3]), torch.tensor(1.0)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=gains_from_bf16(pipe.device)):
        x = pipe.noise(2, 1)
        (cond, un), (lesser, least) = ([f(x, t, of) for of in (labels, null)]
                                       for f in (pipe.denoiser, pipe.weak))
        guided = un + 2 * (cond - un)
        led = lesser + 3 * (guided - lesser)
        wanted = pipe.decode(rescaled(guided[:, :-4], led[:, :-4], 1.0))    # contrast of the latents alone
        for other in guided, led, rescaled(guided, led, 1.0), least + 3 * (guided - least):
            assert (wanted - pipe.decode(other)).abs().max() > 0.05
    torch.testing.assert_close(drawn, wanted, atol=0.02, rtol=0)
    pipe.save(tmp_path / "model")
    again = LatentDiffusion.load(tmp_path / "model")
    torch.testing.assert_close(again.generate([0, 1], 1, 2.0, seed=1), drawn, atol=0.05, rtol=0)
    assert LatentDiffusion.load("mnist").weak is None


@pytest.mark.parametrize("captions", [False, True])
def test_features_are_drawn_beside_the_latents_and_left_aside(monkeypatch, captions):
    """The denoiser is taught both; only the latents become a picture."""
    seen, name = [], "train_on_captions" if captions else "train_denoiser"
    monkeypatch.setattr(pipeline, name, lambda denoiser, *given: seen.append(given) or {})
    data, smoke = pictures(channels=3), RECIPES["smoke"]
    recipe = replace(smoke, vae_training=replace(smoke.vae_training, steps=1), mirror=True, features=4)
    if captions:
        recipe = with_captions(recipe, data)
        once = replace(recipe.text.training, steps=1, batch_size=16)
        recipe = replace(recipe, text=replace(recipe.text, training=once))
    pipe, *_ = pipeline.train(recipe, data, bar=False)
    mean, std = next(given for given in seen[0] if isinstance(given, list))
    images = torch.cat([data.images, data.images.flip(-1)])
    assert mean.shape == std.shape == (128, 20, 4, 4) and pipe.latent_shape == (20, 4, 4)
    torch.testing.assert_close(mean[:, 16:], pca_features(recipes.eyes(images), images, 4, 4))
    assert (std[:, 16:] == 0).all() and (std[:, :16] > 0).all()
    x = torch.cat([mean, mean[:, :16] + 1], 1)[:4]
    assert torch.equal(pipe.decode(x), pipe.decode(mean[:4, :16])) and pipe.decode(x).shape == (4, 3, 16, 16)


def test_captions_keep_an_early_average_too(monkeypatch):
    kept = []
    monkeypatch.setattr(pipeline, "fit", lambda *given, early=None, **more: kept.append(early) or {})
    data, smoke = pictures(), RECIPES["smoke"]
    vae_training = replace(smoke.vae_training, steps=1, batch_size=16)
    recipe = with_captions(replace(smoke, vae_training=vae_training, weak_step=2), data)
    once = replace(recipe.text.training, steps=1, batch_size=16)
    pipe, *_ = pipeline.train(replace(recipe, text=replace(recipe.text, training=once)), data, bar=False)
    assert kept == [(2, pipe.weak)] and pipe.weak is not pipe.denoiser


def test_a_configuration_of_another_version_is_refused(pipe):
    values = asdict(pipe.recipe)
    values["network"]["wings"] = 2
    with pytest.raises(MinildmError, match="wings"):
        checkpoint.from_dict(Recipe, values)


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    """A model of scenes that has seen two steps, with weights large enough for words to matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data.sets, "SCENES", {"train": 80, "test": 20})
        train = data.load("scenes-glyphs", root=tmp_path_factory.mktemp("data"))
    recipe = RECIPES["smoke-scenes"]
    recipe = replace(recipe, vae_training=replace(recipe.vae_training, steps=2),
                     training=replace(recipe.training, steps=2))
    pipe, _, metrics = pipeline.train(recipe, train, bar=False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in (*pipe.denoiser.parameters(), *pipe.text_encoder.parameters()):
            p += 0.1 * torch.randn(p.shape, generator=generator)
    return pipe, metrics


PROMPTS = ["a red three left of a blue eight", "a green one in the middle"]


def test_prompts_become_pictures(talking):
    pipe, metrics = talking
    assert len(metrics["loss"]) == 2 and pipe.recipe.text.clip.text.vocab_size == len(pipe.tokenizer)
    images = pipe.generate(PROMPTS, 2)
    assert images.shape == (2, 3, 32, 32)
    assert torch.allclose(pipe.generate(PROMPTS, 2, batch_size=1), images, atol=1e-4)
    assert torch.equal(pipe.generate(PROMPTS, 2, negative=""), images)
    changed = pipe.generate([PROMPTS[0], "a green one"], 2)
    assert torch.allclose(changed[0], images[0], atol=1e-4) and not torch.allclose(changed[1], images[1])
    assert not torch.allclose(pipe.generate(PROMPTS, 2, negative="green"), images)


def test_at_scale_1_a_negative_prompt_is_not_even_asked(talking):
    pipe, _ = talking
    plain, negative = (pipe.generate(PROMPTS, 2, 1.0, negative=word) for word in ("", "green"))
    assert torch.equal(plain, negative)
    context, null = pipe.conditions(PROMPTS, "green")
    assert context.shape == null.shape == (2, 24, 32)
    assert torch.equal(null[:1], pipe.encode_prompts(["green"]))


def test_a_model_of_prompts_saved_and_loaded_is_the_same(talking, tmp_path):
    pipe, _ = talking
    pipe.save(tmp_path / "model")
    again = LatentDiffusion.load(tmp_path / "model")
    assert again.recipe == pipe.recipe and again.tokenizer.merges == pipe.tokenizer.merges
    assert torch.equal(again.tokenizer(PROMPTS, 24), pipe.tokenizer(PROMPTS, 24))
    assert (again.generate(PROMPTS, 2) - pipe.generate(PROMPTS, 2)).abs().max() < 0.05


def test_words_for_a_model_of_labels_and_labels_for_one_of_words_are_refused(pipe, talking):
    for wanted in (["three"], [0]):
        with pytest.raises(MinildmError, match="knows no words"):
            pipe.generate(wanted, 2, negative="" if isinstance(wanted[0], str) else "green")
    with pytest.raises(MinildmError, match="draws prompts"):
        talking[0].generate([3], 2)


def test_a_shift_moves_training_times_and_sampling_steps_towards_the_noise(talking):
    pipe, _ = talking
    shifted = replace(pipe.recipe, shift=3.0)
    generator = torch.Generator().manual_seed(0)
    times = build(shifted)[1].times(1001, generator)
    assert abs(times.median() - 0.75) < 0.01                          # 3 * 0.5 / (1 + 2 * 0.5)
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(shift(build(pipe.recipe)[1].times(1001, generator), 3.0), times)
    moved = LatentDiffusion(shifted, pipe.vae, pipe.denoiser, pipe.class_names, 32).times(4)
    torch.testing.assert_close(moved, torch.tensor([1, 0.9, 0.75, 0.5, 0]), check_dtype=False)


def test_a_tenth_of_the_captions_is_empty_wordings_vary_and_the_tower_stays(monkeypatch):
    seen = []

    class Listener(TextTransformer):
        def forward(self, ids):
            seen.append(ids)
            return super().forward(ids)

    monkeypatch.setattr(data.sets, "SCENES", {"train": 40, "test": 20})
    train, recipe = data.load("scenes-glyphs"), RECIPES["smoke-scenes"]
    _, denoiser = build(recipe)
    recipe = replace(recipe, training=replace(recipe.training, steps=30, batch_size=32))
    latents = torch.randn(40, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    tokenizer = Tokenizer.train(train.captions)
    text = Listener(replace(recipe.text.clip.text, vocab_size=len(tokenizer)))
    before = [p.clone() for p in text.parameters()]
    pipeline.train_on_captions(denoiser, text, tokenizer, (latents, 0 * latents), train, recipe, bar=False)
    assert all(map(torch.equal, before, text.parameters()))
    ids = torch.cat(seen)
    empty = (ids == tokenizer([""], 24)).all(1).float().mean()
    assert 0.06 < empty < 0.14 and len(ids.unique(dim=0)) > 80        # of 40 pictures
    assert sum("right" in tokenizer.decode(row) for row in ids) > 20


def test_latents_of_classes_meet_sentences_that_name_them(monkeypatch):
    """Of mirrored pictures, too, whose latents come after the others'."""
    seen = []

    def watch(denoiser, z, states, *rest, **named):
        seen.append((z.mean((1, 2, 3)).round().long(), states[:, 0, 0].long()))
        return loss(denoiser, z, states, *rest, **named)

    loss = Denoiser.loss
    monkeypatch.setattr(Denoiser, "loss", watch)
    labels = torch.arange(30) % 3
    train = data.ImageSet("toy", "train", torch.zeros(30, 1, 16, 16).byte(), labels, ("cat", "dog", "owl"))
    recipe = with_captions(RECIPES["smoke"], train)
    recipe = replace(recipe, training=replace(recipe.training, steps=20))
    tokenizer = Tokenizer.train(text for row in wordings(train) for text in row)
    names = [tokenizer.encode(name)[0] for name in train.class_names]

    class Named(torch.nn.Module):                                     # its states are which class is named
        config = recipe.text.clip.text

        def forward(self, ids):
            named = (ids[:, None] == torch.tensor(names)[:, None]).any(2).float()            # (B, 3)
            which = torch.where(named.any(1), named.argmax(1), -1)
            return which[:, None, None].expand(-1, 24, self.config.dim).float(), None

    _, denoiser = build(recipe)
    latents = labels.repeat(2)[:, None, None, None].expand(-1, 4, 8, 8).float()
    pipeline.train_on_captions(denoiser, Named(), tokenizer, (latents, 0 * latents), train, recipe, bar=False)
    shown, told = (torch.cat(column) for column in zip(*seen, strict=True))
    assert 0.05 < (told == -1).float().mean() < 0.15 and torch.equal(shown[told >= 0], told[told >= 0])


def test_a_set_of_classes_learns_to_draw_prompts(tmp_path):
    train = replace(pictures(channels=3), class_names=("cat", "dog", "owl"))
    _, recipe = recipe_for("smoke", 5, train, ("auto", "flow"), captions=True)
    assert recipe.text.training.seed == recipe.training.seed == recipe.vae_training.seed == 5
    few = replace(recipe.training, steps=2)
    recipe = replace(recipe, vae_training=few, training=few, mirror=True,
                     text=replace(recipe.text, training=few))
    pipe, _, metrics = pipeline.train(recipe, train, tmp_path, bar=False)
    assert len(metrics["loss"]) == 2 and pipe.tokenizer.decode(pipe.tokenizer.encode("a dog")) == "a dog"
    pipe.save(tmp_path / "model")
    images = LatentDiffusion.load(tmp_path / "model").generate(["a photo of a dog", "an owl"], 2)
    assert images.shape == (2, 3, 16, 16)
