"""Lesson 01's measures: exact answers where there are some."""

import torch
from torch.testing import assert_close

from minildm.course import autoencoders
from minildm.course.autoencoders import PCA, decibels, interval, three_gaussians
from minildm.data.sets import ImageSet


def pictures(n, seed=0):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_decibels_are_ten_per_factor_ten():
    images = torch.zeros(3, 1, 8, 8)
    assert_close(decibels(images + 0.2, images), torch.full((3,), 20.0), atol=1e-3, rtol=0)
    assert_close(decibels(images + 0.2 * 10**0.5, images), torch.full((3,), 10.0), atol=1e-3, rtol=0)


def test_an_interval_shrinks_as_the_root():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0))
    assert_close(interval(values), 1.96 * values.std().item() / 20)


def test_all_directions_of_pca_give_the_picture_back_and_more_never_hurt():
    images = pictures(200)
    pca = PCA(images)
    assert_close(pca.copies(images, 64), images, atol=1e-4, rtol=0)
    errors = [(pca.copies(images, size) - images).square().mean() for size in (1, 4, 16)]
    assert errors[0] > errors[1] > errors[2]
    assert pca.encode(images, 5).shape == (200, 5)


def test_three_gaussians_know_ever_more():
    z = torch.randn(500, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    z = z * torch.tensor([1.0, 3.0])[:, None, None] + torch.arange(3.0)
    channel, value, full = three_gaussians(z).values()
    assert_close(channel[0][:9], z[:, 0].mean().expand(9))
    assert_close(channel[1].diag()[9:], z[:, 1].var().expand(9))
    assert_close(value[0], z.flatten(1).mean(0))
    assert_close(value[1].diag(), full[1].diag())
    assert (value[1] - value[1].diag().diag()).abs().max() == 0
    assert (full[1] - full[1].diag().diag()).abs().max() > 0


def test_neighbours_in_a_space_of_labels_share_them():
    images = (pictures(60) * 127.5 + 127.5).round().byte()
    labels = torch.arange(60) % 3
    half = [ImageSet("set", "train", images[part], labels[part], ("a", "b", "c"))
            for part in (slice(30), slice(30, 60))]
    spaces = {"nothing": lambda x: torch.zeros(len(x), 1), "pixels": lambda x: x.flatten(1)}
    found = autoencoders.shares_label(spaces, *half, k=30)
    # all of the library are neighbours: a third of them has the label
    for shares in found.values():
        assert_close(shares, torch.full((30,), 1 / 3))
    own = autoencoders.shares_label({"pixels": spaces["pixels"]}, half[0], half[0], k=1)
    assert own["pixels"].mean() == 1
