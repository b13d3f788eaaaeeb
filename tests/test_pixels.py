"""Distances that know no labels: equal sets are at the floor, grey and misplaced ones are found out."""

import pytest
import torch

from minildm import MinildmError
from minildm.evaluation.classifier import in_batches
from minildm.evaluation.metrics import frechet_distance
from minildm.evaluation.pixels import inner_contrast, label_free, random_features, thumbnails
from minildm.images import to_float


def blobs(n, seed, channels=1, side=28):
    """Bright spots at random places on black, with some noise: uint8 pictures."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(n, 2, 1, 1, 1, generator=generator) * side / 2 + side / 4
    at = torch.arange(side).float()
    away = (at[:, None] - centre[:, 0])**2 + (at - centre[:, 1])**2                 # (n, 1, H, W)
    level = 255 * torch.exp(-away / 20).expand(n, channels, side, side)
    noise = 20 * torch.rand(level.shape, generator=generator)
    return (level + noise).clamp(0, 255).byte()


REAL = blobs(1200, seed=0)


def test_other_real_pictures_are_about_at_the_floor():
    found = label_free(blobs(400, seed=1), REAL)
    assert list(found) == ["fd_pixels", "fd_pixels_floor", "fd_random", "fd_random_floor", "contrast",
                           "contrast_real"]
    assert 0 < found["fd_pixels"] < 2 * found["fd_pixels_floor"]
    assert 0 < found["fd_random"] < 2 * found["fd_random_floor"]
    assert found["contrast"] == pytest.approx(found["contrast_real"], rel=0.03)


def test_half_the_contrast_is_found_out():
    grey = (64 + blobs(400, seed=1).float() / 2).byte()
    found = label_free(grey, REAL)
    assert found["contrast"] == pytest.approx(found["contrast_real"] / 2, rel=0.05)
    assert found["fd_pixels"] > 20 * found["fd_pixels_floor"]


def test_pictures_all_alike_or_in_the_wrong_place_are_found_out():
    good = blobs(400, seed=1)
    floor = label_free(good, REAL)["fd_pixels_floor"]
    assert label_free(good[:1].expand(400, -1, -1, -1), REAL)["fd_pixels"] > 20 * floor
    assert label_free(good.roll(6, dims=-1), REAL)["fd_pixels"] > 20 * floor


def test_the_split_is_of_the_seed_and_no_image_is_in_both_halves():
    images = blobs(400, seed=1)
    assert label_free(images, REAL, seed=3) == label_free(images, REAL, seed=3)
    assert label_free(images, REAL, seed=3) != label_free(images, REAL, seed=4)
    # with copies of one image in both halves the floor would be 0: here all are different
    assert label_free(REAL[:600], REAL)["fd_pixels_floor"] > 0


def test_thumbnails_are_means_and_contrast_is_the_spread_inside_a_picture():
    images = to_float(blobs(3, seed=2, channels=3, side=32))
    small = thumbnails(images)
    assert small.shape == (3, 192)
    torch.testing.assert_close(small[1, 65], images[1, 1, 0:4, 4:8].mean())         # channel 1, place 1
    half = -torch.ones(1, 1, 8, 8)
    half[..., :4] = 1
    assert inner_contrast(half).item() == 1
    assert inner_contrast(torch.full((1, 3, 8, 8), 0.3)).item() == pytest.approx(0, abs=1e-6)


def test_random_features_see_textures_that_thumbnails_average_away():
    good = blobs(400, seed=1, side=32)
    # pixels of each 4 x 4 square in another order: thumbnails stay the same
    squares = good.unflatten(3, (8, 4)).unflatten(2, (8, 4))
    mixed = squares.flip(3)[..., torch.tensor([1, 3, 0, 2])].flatten(4, 5).flatten(2, 3)
    found = label_free(mixed, blobs(1200, seed=0, side=32))
    assert found["fd_pixels"] < 2 * found["fd_pixels_floor"]
    assert found["fd_random"] > 10 * found["fd_random_floor"]
    images = to_float(blobs(3, seed=2, channels=3, side=32))
    assert random_features(images).shape == (3, 128)
    torch.testing.assert_close(random_features(images), random_features(images), rtol=0, atol=0)


def test_the_features_of_any_network_can_be_compared_in_two_lines():
    def network(images):
        return torch.stack([images.mean((1, 2, 3)), images.amax((1, 2, 3))], dim=1)

    near = frechet_distance(in_batches(network, blobs(400, 1)), in_batches(network, REAL))
    far = frechet_distance(in_batches(network, blobs(400, 1) // 2), in_batches(network, REAL))
    assert far > 100 * near


def test_what_cannot_be_compared_is_named():
    for images, reference in ((to_float(REAL[:9]), REAL), (REAL[:9, :, :14], REAL), (REAL[:1], REAL),
                              (REAL[:601], REAL), (REAL[:9], to_float(REAL))):
        with pytest.raises(MinildmError):
            label_free(images, reference)
