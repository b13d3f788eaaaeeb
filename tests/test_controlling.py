"""Lesson 12's helpers and the recipe of control: they begin as the model, and train the control alone."""

import json
from pathlib import Path

import pytest
import torch
from support.tensors import randomise

from minildm.course import controlling
from minildm.course.exercises.lesson_12_copy import ControlCopy
from minildm.data.maps import edges
from minildm.data.sets import ImageSet
from minildm.diffusion.controlled import controlled
from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.schedules import flow
from minildm.model import LatentDiffusion
from minildm.nn.control import ControlNet
from minildm.nn.unet import UNet, UNetConfig
from minildm.recipes.control import SIZES, fresh_control, train_control

CONFIG = UNetConfig(3, 3, (8, 16), (True, False), blocks=1, context_dim=6, heads=2, groups=4)


@pytest.fixture
def unet():
    return randomise(UNet(CONFIG))


@pytest.fixture(scope="module")
def model():
    return LatentDiffusion.load("scenes")


@pytest.fixture(scope="module")
def scenes():
    pictures = torch.zeros(20, 1, 28, 28, dtype=torch.uint8)
    pictures[:, :, 5:23, 11:17] = 255
    digits = ImageSet("squares", "test", pictures, torch.arange(20) % 10, tuple("0123456789"))
    return controlling.some_scenes(digits, 6, seed=2)


def inputs():
    generator = torch.Generator().manual_seed(0)
    x, context = torch.randn(2, 3, 4, 4, generator=generator), torch.randn(2, 5, 6, generator=generator)
    return x, torch.tensor([0.3, 0.8]), context, torch.rand(2, 1, 16, 16, generator=generator)


def test_the_map_beside_x_changes_nothing_at_first(unet):
    x, t, context, hint = inputs()
    rival = controlling.Beside(unet, 1)
    torch.testing.assert_close(rival(x, t, context, hint), unet(x, t, context))
    randomise(rival)
    assert not torch.allclose(rival(x, t, context, hint), rival(x, t, context, 0 * hint))


def test_the_packages_net_answers_with_a_lessons_weights(unet):
    x, t, context, hint = inputs()
    control, net = ControlCopy(unet, 1, (4, 6, 8)), ControlNet(unet, 1, (4, 6, 8))
    randomise(control)
    controlling.give_weights(control, net)
    for one, other in zip(control(x, t, context, hint), net(x, t, context, hint), strict=True):
        torch.testing.assert_close(one, other)


def test_gradient_sizes_are_those_of_the_parts(unet):
    x, t, context, hint = inputs()
    control = ControlCopy(unet, 1, (4, 6, 8))
    assert set(controlling.gradient_sizes(control).values()) == {0.0}
    sum(one.sum() for one in control(x, t, context, hint)).backward()
    sizes = controlling.gradient_sizes(control)
    assert sizes["joints"] > 0 and sizes["copy"] == 0 and sizes["hint, last layer"] == 0


def test_other_words_change_what_they_say_and_no_more(scenes):
    recoloured, renamed = (controlling.other_words(scenes, what) for what in ("colour", "digit"))
    assert torch.equal(recoloured.truth.digits, scenes.truth.digits)
    assert (recoloured.truth.colours[:, 0] != scenes.truth.colours[:, 0]).all()
    there = scenes.truth.digits >= 0
    assert (renamed.truth.digits != scenes.truth.digits)[there].all()
    assert torch.equal(renamed.truth.digits >= 0, there)
    assert all(len(words.prompts) == len(scenes) for words in (recoloured, renamed))


def test_the_recipe_trains_the_control_alone(model, scenes):
    before = {name: value.clone() for name, value in model.denoiser.state_dict().items()}
    sizes, hints = SIZES["smoke"], edges(scenes.pixels)
    net = fresh_control(model, 1, sizes)
    start = [weight.clone() for weight in net.parameters()]
    small = type(sizes)(sizes.widths, type(sizes.training)(steps=2, batch_size=4, lr=1e-3, ema=0.5))
    history = train_control(net, model, scenes.images, scenes.truth, hints, small, bar=False)
    assert len(history["loss"]) == 2
    assert all(torch.equal(before[name], value) for name, value in model.denoiser.state_dict().items())
    assert any(not torch.equal(a, b) for a, b in zip(start, net.parameters(), strict=True))
    drawn = controlling.draw(model, controlled(model.denoiser, net, hints), scenes.prompts, steps=2)
    assert drawn.shape == (6, 3, 32, 32)


def test_what_is_drawn_beside_is_a_denoiser(unet):
    x, t, context, hint = inputs()
    denoiser = Denoiser(unet, flow, "flow")
    told = controlling.told_beside(denoiser, controlling.Beside(unet, 1), hint)
    torch.testing.assert_close(told(x, t, context), denoiser(x, t, context))


def test_the_stored_scores_are_shares():
    kept = json.loads((Path(__file__).parents[1] / "benchmarks" / "stored" / "control.json").read_text())
    for arm in kept["edges"].values():
        for run in arm.values():
            assert all(0 <= run[name] <= 1 for name in ("edges", "exact", "digit", "colour", "all"))
