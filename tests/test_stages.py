"""Recipes: rows that fit together, a scale that is checked, a model that is what its row says."""

import json
import shutil
from dataclasses import asdict, replace

import pytest
import torch
from support.pictures import pictures
from torch.utils.flop_counter import FlopCounterMode

from minildm import MinildmError
from minildm.data.sets import ImageSet
from minildm.diffusion.schedules import cosine, flow, linear
from minildm.evaluation import classifier as classifiers
from minildm.evaluation.classifier import Classifier, ClassifierConfig
from minildm.images import to_float
from minildm.model import with_captions
from minildm.recipes import classifier as classifier_recipes
from minildm.recipes import stages as recipes
from minildm.recipes.classifier import classification_accuracy
from minildm.recipes.stages import (
    RECIPES,
    Recipe,
    build,
    encode_all,
    for_data,
    train_denoiser,
    train_vae,
    variant,
)
from minildm.training import checkpoint
from minildm.training.loop import TrainConfig
from minildm.training.monitor import check_spread

SMOKE = RECIPES["smoke"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_row_fits_together_and_survives_json(name):
    recipe = RECIPES[name]
    assert recipe.network.in_channels == recipe.network.out_channels == recipe.vae.latent_channels
    assert checkpoint.from_dict(Recipe, json.loads(json.dumps(asdict(recipe)))) == recipe
    with torch.device("meta"):
        colour = for_data(recipe, pictures(channels=3))
    if recipe.text:
        assert colour == recipe and recipe.text.clip.text.dim == recipe.network.context_dim
    else:
        assert (colour.vae.in_channels, colour.network.num_classes) == (3, 3)
        assert colour.network.in_channels == 16 + recipe.features


@pytest.mark.parametrize("backbone", ["dit", "unet"])
@pytest.mark.parametrize("objective", ["eps", "x0", "v", "flow"])
def test_one_word_changes_backbone_or_objective(backbone, objective):
    data, few = pictures(), TrainConfig(steps=2, batch_size=8, lr=1e-3)
    recipe = for_data(variant(replace(SMOKE, training=few), backbone, objective), data)
    assert checkpoint.from_dict(Recipe, json.loads(json.dumps(asdict(recipe)))) == recipe
    assert variant(variant(recipe, "unet"), "dit").network.cross_attention is False      # it has labels
    _, denoiser = build(recipe)
    assert type(denoiser.network).__name__.lower() == backbone and denoiser.prediction_type == objective
    assert denoiser.schedule is {"flow": flow, "eps": linear}.get(objective, cosine)
    latents = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    history = train_denoiser(denoiser, (latents, torch.zeros_like(latents)), data.labels, recipe, bar=False)
    assert len(history["loss"]) == 2 and denoiser(latents[:1], 0.5, data.labels[:1]).shape == (1, 4, 8, 8)


@pytest.mark.parametrize("backbone", ["dit", "unet"])
@pytest.mark.parametrize("name,channels", [("smoke", 1), ("cpu", 1), ("cpu-colour", 3), ("gpu", 3)])
def test_captions_take_the_place_of_labels(name, channels, backbone):
    recipe = with_captions(variant(RECIPES[name], backbone), pictures(channels=channels))
    assert checkpoint.from_dict(Recipe, json.loads(json.dumps(asdict(recipe)))) == recipe
    assert recipe.text.clip.vision.in_channels == recipe.vae.in_channels == channels
    assert recipe.text.training.steps <= recipe.training.steps
    assert with_captions(recipe, pictures(channels=channels)) is recipe
    big = replace(pictures(channels=channels), images=torch.zeros(4, channels, 60, 60).byte())
    assert with_captions(RECIPES[name], big).text.clip.vision.image_size == 64
    with torch.device("meta"):
        network = build(recipe)[1].network
        latents = torch.zeros(2, recipe.network.in_channels, 8, 8)
        states = torch.zeros(2, 24, recipe.text.clip.text.dim)
        assert network(latents, torch.tensor(0.5), states).shape == latents.shape
    assert getattr(recipe.network, "cross_attention", True)             # of a DiT; a U-Net always attends


@pytest.mark.parametrize("name,channels", [("cpu", 1), ("cpu-colour", 3), ("gpu", 1)])
def test_the_other_backbone_costs_about_as_much(name, channels):
    """Multiply-adds of one latent, counted by torch."""
    costs = []
    for backbone in "dit", "unet":
        recipe = for_data(variant(RECIPES[name], backbone), pictures(channels=channels))    # as demo does
        network = build(recipe)[1].network
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, network.config.in_channels, 8, 8), 0.5, torch.tensor([1]))
        costs.append(counter.get_total_flops())
    assert 0.7 < costs[1] / costs[0] < 1.3


def test_a_row_keeps_its_own_times_and_short_is_the_same_in_fewer_steps():
    colour, grey = pictures(channels=3), pictures()
    recipe = variant(recipes.named("gpu", colour))
    assert recipe == RECIPES["gpu-colour"]
    late = replace(recipe, times="two_thirds")
    assert variant(late).times == "two_thirds" and variant(late, objective="x0").times == "uniform"
    short = recipes.named("gpu-short", colour)
    assert short.training.steps < recipe.training.steps and (short.vae, short.network) == (
        recipe.vae, recipe.network)
    assert recipes.named("gpu-short", grey) is RECIPES["gpu"]


def test_a_dit_in_the_place_of_scenes_unet_and_its_own_kind_stays():
    recipe = RECIPES["smoke-scenes"]
    network = build(variant(recipe, "dit"))[1].network
    assert network(torch.zeros(2, 4, 8, 8), 0.5, torch.zeros(2, 5, 32)).shape == (2, 4, 8, 8)
    for kind in "auto", "unet":
        assert variant(recipe, kind).network == recipe.network
    assert variant(RECIPES["gpu"], "dit").network == RECIPES["gpu"].network


def test_two_thirds_of_the_times_are_logit_normal_then_they_are_uniform():
    data = pictures()
    recipe = replace(for_data(SMOKE, data), times="two_thirds", training=TrainConfig(6, 64, 1e-3))
    _, denoiser = build(recipe)
    seen, network = [], denoiser.network.forward
    denoiser.network.forward = lambda x, t, context: seen.append(t) or network(x, t, context)
    latents = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    train_denoiser(denoiser, (latents, torch.zeros_like(latents)), data.labels, recipe, bar=False)
    inside = [((t - 0.5).abs() < 0.231).float().mean().item() for t in seen]    # 68 % of a logit-normal's
    assert [round(share, 1) for share in inside] == [0.7] * 4 + [0.5] * 2       # 46 % of a uniform's


def test_features_widen_the_network_and_lead_on_its_schedule():
    data = pictures(channels=3)
    plain, recipe = for_data(SMOKE, data), for_data(replace(SMOKE, features=4, lead=3.0), data)
    assert recipe.vae == plain.vae and recipe.network.in_channels == 20 == recipe.network.out_channels
    assert for_data(variant(recipe, "unet"), data).network.in_channels == 20
    assert for_data(with_captions(recipe, data), data).network.in_channels == 20
    alpha, sigma = build(recipe)[1].schedule
    ratio = sigma(torch.tensor(0.5)) / alpha(torch.tensor(0.5))
    torch.testing.assert_close(ratio.flatten(), torch.tensor([1.0] * 16 + [1 / 3] * 4))
    assert build(plain)[1].schedule is flow


def test_the_latents_scale_is_that_of_all_classes(monkeypatch):
    """A set sorted by class, of more pictures than the scale is measured on."""
    images = torch.zeros(30_000, 1, 16, 16, dtype=torch.uint8)
    images[10_000:] = 255
    measured, model = [], recipes.AutoencoderKL
    monkeypatch.setattr(model, "fit_latent_stats", lambda vae, images: measured.append(images))
    recipe = for_data(replace(SMOKE, vae_training=TrainConfig(1, 4, 1e-3)), pictures())
    train_vae(build(recipe)[0], images, recipe, bar=False)
    assert len(measured[0]) == 10_000 and measured[0].mean() == pytest.approx(1 / 3, abs=1e-3)


def test_building_leaves_the_global_generator_alone_and_repeats():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, two = build(for_data(SMOKE, pictures())), build(for_data(SMOKE, pictures()))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(one, two, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_latents_have_unit_variance_and_an_unscaled_set_is_refused():
    data = pictures()
    recipe = for_data(replace(SMOKE, vae_training=replace(SMOKE.vae_training, steps=3),
                              training=replace(SMOKE.training, steps=2)), data)
    vae, denoiser = build(recipe)
    train_vae(vae, data.images, recipe, bar=False)
    mean, std = encode_all(vae, data.images, batch_size=50)
    assert mean.shape == std.shape == (64, 4, 4, 4)
    assert abs((mean.var() + std.square().mean()).sqrt() - 1) < 0.1
    with torch.no_grad():
        assert torch.allclose(mean, vae.normalise(vae.encode(to_float(data.images)).mean), atol=1e-5)
    history = train_denoiser(denoiser, (mean, std), data.labels, recipe, bar=False)
    assert len(history["loss"]) == 2
    with pytest.raises(MinildmError, match="standard deviation is .*, not about 1"):
        train_denoiser(denoiser, (mean * 5, std * 5), data.labels, recipe, bar=False)


def test_latent_channels_that_hold_noise_are_named(capsys):
    latents = torch.randn(4, 8, 4, 4, generator=torch.Generator().manual_seed(0)).repeat(16, 1, 1, 1)
    mean, std = latents.clone(), torch.full_like(latents, 0.1)
    check_spread(mean, std)
    assert capsys.readouterr().out == ""
    mean[:, 5], std[:, 5] = 0, 1
    check_spread(mean, std, bar=False)
    assert capsys.readouterr().out == ""
    check_spread(mean, std)
    assert "[5] of 8 are more noise than picture" in capsys.readouterr().out


def test_a_sharp_recipe_trains_a_critic_beside_the_vae_and_resumes(tmp_path):
    data = pictures(channels=3)
    few = replace(SMOKE.vae_training, steps=3, save_every=2)
    recipe = for_data(replace(SMOKE, vae_training=few, perceptual_weight=0.5, adversarial_weight=0.3,
                              adversarial_start=1), data)
    maps = Classifier(ClassifierConfig(3, width=8)).requires_grad_(False).feature_maps
    ends = []
    for folder in "ab":
        vae, _ = build(recipe)
        history = train_vae(vae, data.images, recipe, tmp_path / folder, bar=False, maps=maps)
        if folder == "a":                                       # goes on from step 2
            shutil.rmtree(tmp_path / "a" / "step-000003")
            vae, _ = build(recipe)
            history = train_vae(vae, data.images, recipe, tmp_path / "a", bar=False, maps=maps)
        ends.append(vae.state_dict())
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    assert history["critic"][0] == 0 < history["critic"][1] and history["grad_norm_critic"][2] > 0
    assert history["perceptual"][0] > 0
    with pytest.raises(MinildmError, match="begun with other settings: adversarial_weight: 0.3 != 0.1"):
        train_vae(build(recipe)[0], data.images, replace(recipe, adversarial_weight=0.1), tmp_path / "a",
                  bar=False, maps=maps)
    history = train_vae(build(recipe)[0], data.images, recipe, bar=False)       # by the zoo's eyes
    assert history["perceptual"][0] > 0 and history["critic"][1] > 0


def test_a_classifier_comes_back_from_the_zoo_format(tmp_path, monkeypatch):
    data = pictures()
    config = replace(classifier_recipes.CLASSIFIER, steps=2, batch_size=8)
    classifier = classifier_recipes.train_classifier(data, config, bar=False)
    monkeypatch.setattr(classifiers, "ZOO", tmp_path)
    assert classifiers.load_classifier("toy") is None
    classifiers.save_classifier(tmp_path / "toy-classifier", classifier, {"accuracy": 0.5})
    again = classifiers.load_classifier("toy")
    x = to_float(data.images)
    with torch.no_grad():
        assert torch.allclose(classifier(x), again(x), atol=1e-2)


def test_classification_accuracy_is_that_of_what_was_taught():
    labels = torch.arange(48) % 3
    images = torch.zeros(48, 1, 16, 16).byte()
    images[labels == 1, :, 6:9], images[labels == 2, :, :, 6:9] = 255, 255
    real = ImageSet("bars", "train", images, labels, ("none", "lying", "standing"))
    config = TrainConfig(steps=25, batch_size=16, lr=5e-3, warmup=2, ema=0.8)
    assert classification_accuracy(real, real, config) == 1
    assert classification_accuracy(replace(real, labels=(labels + 1) % 3), real, config) == 0


def test_colour_images_get_their_own_row_and_classifier(monkeypatch):
    grey, colour = pictures(), pictures(channels=3)
    assert recipes.named("smoke", colour) is RECIPES["smoke"]            # there is one row for both
    config, training = classifier_recipes.classifier_for(grey)
    assert (config.channels_in, config.classes, config.mirror, config.pool) == (1, 3, False, False)
    config, short = classifier_recipes.classifier_for(colour)
    assert (config.channels_in, config.classes, config.mirror, config.pool) == (3, 3, True, True)
    monkeypatch.setenv("MINILDM_BUDGET", "gpu")
    large, long = classifier_recipes.classifier_for(colour)
    assert large.width > config.width and large.shift > config.shift and long.steps > short.steps
