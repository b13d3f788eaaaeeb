"""Lesson 02's plumbing: one decoder trained by any step, judged and cropped, and nothing else moved."""

from dataclasses import replace

import pytest
import torch

from minildm.course import sharpness
from minildm.course.exercises.lesson_02_step import adversarial_step
from minildm.data.sets import ImageSet
from minildm.training.losses import FinePatchDiscriminator, hinge_critic

SHORT = replace(sharpness.RACE, steps=3, batch_size=4)


@pytest.fixture
def photos():
    images = torch.randint(0, 256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    return ImageSet("made", "train", images.byte(), torch.arange(40) % 10, tuple("abcdefghij"))


@pytest.fixture
def vae():
    return sharpness.new_vae(3).requires_grad_(False)


def l1(images, copies):
    return (images - copies).abs().mean()


def test_a_network_is_the_seeds_alone_and_the_session_stays_as_it_was():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = (sharpness.new_vae(3, seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.encoder.conv_in.weight, again.encoder.conv_in.weight)
    assert not torch.equal(first.encoder.conv_in.weight, other.encoder.conv_in.weight)
    assert first.config.factor == 4 and first.config.latent_channels == 8


@pytest.mark.parametrize("with_critic", [False, True])
def test_training_moves_a_copy_of_the_decoder_alone(photos, vae, with_critic):
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    critic = FinePatchDiscriminator(3, 4) if with_critic else None
    scores = [p.clone() for p in critic.parameters()] if with_critic else []
    play = sharpness.against(adversarial_step, l1, 0.3) if with_critic else sharpness.alone(l1)
    trained, history = sharpness.train_decoder(vae, photos, play, SHORT, critic)
    again, _ = sharpness.train_decoder(vae, photos, play, SHORT, critic)
    assert len(history) == 3
    for name, value in trained.state_dict().items():
        moved = not torch.equal(value, before[name])
        assert moved == name.startswith("decoder"), name
        assert torch.equal(value, again.state_dict()[name])
        assert torch.equal(vae.state_dict()[name], before[name])
    # the critic is copied too
    if with_critic:
        assert all(torch.equal(a, b) for a, b in zip(scores, critic.parameters(), strict=True))
    assert not any(p.requires_grad for p in trained.parameters())


def test_a_critic_gets_its_head_start_and_is_scored(photos):
    critic = sharpness.fresh(FinePatchDiscriminator, 3, 8)
    images = photos.images[:20].float() / 127.5 - 1
    copier = torch.nn.AvgPool2d(3, 1, 1)
    losses = sharpness.head_start(critic, hinge_critic, copier, photos, 30)
    assert losses[0] > 0.9 and losses[-1] < 0.5
    assert sharpness.judged_rightly(critic, images, copier(images)) > 0.8
    assert sharpness.judged_rightly(critic, images, images) == pytest.approx(0.5)


def test_the_judge_puts_the_originals_at_its_floor():
    classifier = sharpness.fresh(sharpness.Classifier, sharpness.ClassifierConfig(3, width=8)).eval()
    x = torch.rand(30, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    judge = sharpness.Judge(classifier, x, x.flip(0))
    assert judge.floor < 1e-3 < judge.distance(-x.abs())


def test_a_score_of_the_critic_sees_fourteen_pixels():
    critic, x = sharpness.fresh(FinePatchDiscriminator, 3, 8), torch.rand(1, 3, 32, 32)
    seen = sharpness.receptive_field(critic, x) > 0
    assert seen.any(0).sum() == seen.any(1).sum() == 14 and not x.requires_grad


def test_crops_are_squares_of_equal_pixels():
    x = torch.arange(2 * 3 * 32 * 32).float().view(2, 3, 32, 32)
    cut = sharpness.crops(x, [(1, 4, 6), (0, 0, 12)], side=5, zoom=3)
    assert cut.shape == (2, 3, 15, 15)
    assert torch.equal(cut[0, :, ::3, ::3], x[1, :, 4:9, 6:11])
    assert torch.equal(cut[:, :, :3, :3], cut[:, :, :1, :1].expand(2, 3, 3, 3))


def test_figures_are_drawn_and_described(monkeypatch):
    shown = []
    monkeypatch.setattr(sharpness, "show", lambda figure, alt: shown.append(alt))
    monkeypatch.setattr(sharpness, "show_images", lambda images, labels, cols, row_names, alt: shown.append(
        (images.shape, len(labels), cols, len(row_names))))
    x = torch.rand(4, 3, 32, 32)
    sharpness.show_crops({"original": x, "copy": x + 0.1}, [(0, 0, 0), (3, 2, 2)], alt="two crops")
    assert shown == [((8, 3, 160, 160), 8, 2, 4)]
    sharpness.show_spoiled({"brighter": x + 0.5}, x, None, lambda maps, a, b: (a - b).abs().mean())
    assert "brighter: 0.250 and 0.500" in shown[1]
