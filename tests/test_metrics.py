"""Measures against closed forms, scipy and brute force."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from minildm import MinildmError
from minildm.evaluation import in_batches
from minildm.metrics import (
    check_range,
    frechet_distance,
    label_accuracy,
    nearest_neighbours,
    precision_recall,
    psnr,
)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=rng(seed)) * 2 - 1


def with_moments(samples, mean, factor):
    """Samples moved so that their mean is exactly `mean` and their covariance exactly factor factor^T."""
    white = samples - samples.mean(0)
    white = white @ torch.linalg.inv(torch.linalg.cholesky(white.T.cov())).T
    return white @ factor.T + mean


# ---- Frechet distance

def test_fd_of_a_set_and_itself_is_zero():
    a = randn(50, 8)
    assert frechet_distance(a, a) < 1e-10
    few = randn(5, 16)  # fewer samples than dimensions: the covariance is singular
    assert frechet_distance(few, few) < 1e-6


def test_fd_of_gaussians_that_commute_is_the_closed_form():
    """Diagonal covariances: |mu_a - mu_b|^2 + sum (sd_a - sd_b)^2."""
    mean_a, mean_b = randn(6, seed=1), randn(6, seed=2)
    sd_a, sd_b = randn(6, seed=3).abs() + 0.1, randn(6, seed=4).abs() + 0.1
    a = with_moments(randn(40, 6, seed=5), mean_a, sd_a.diag())
    b = with_moments(randn(60, 6, seed=6), mean_b, sd_b.diag())
    exact = (mean_a - mean_b).square().sum() + (sd_a - sd_b).square().sum()
    assert frechet_distance(a, b) == pytest.approx(exact.item(), rel=1e-9)


@pytest.mark.parametrize("n", [200, 10])  # 10 samples of 24 dimensions: singular
def test_fd_equals_scipy_and_numpy(n):
    a, b = randn(n, 24) @ randn(24, 24, seed=1), randn(n, 24, seed=2) @ randn(24, 24, seed=3) + 0.3
    cov_a, cov_b = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b + (1e-12 * np.eye(24) if n < 24 else 0))
    mean_part, trace = ((a.mean(0) - b.mean(0)) ** 2).sum().item(), np.trace(root).real
    reference = mean_part + np.trace(cov_a + cov_b) - 2 * trace
    assert frechet_distance(a, b) == pytest.approx(reference, rel=1e-4)


def test_fd_is_symmetric_ignores_rotation_and_adds_the_square_of_a_shift():
    a, b = randn(70, 9), randn(50, 9, seed=1) @ randn(9, 9, seed=2)
    value = frechet_distance(a, b)
    rotation, _ = torch.linalg.qr(randn(9, 9, seed=3))
    assert frechet_distance(b, a) == pytest.approx(value, rel=1e-9)
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(value, rel=1e-9)
    shift = randn(9, seed=4)
    assert frechet_distance(a, a + shift) == pytest.approx(shift.square().sum().item(), rel=1e-9)


def test_fd_takes_one_dimension_and_float32_and_refuses_other_shapes():
    a = torch.tensor([[0.0], [2.0]])  # mean 1, variance 2
    assert frechet_distance(a, a + 3) == pytest.approx(9)
    with pytest.raises(MinildmError, match="one D"):
        frechet_distance(torch.zeros(5, 3), torch.zeros(5, 4))
    with pytest.raises(MinildmError, match="two rows"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(5, 3))


# ---- precision and recall

def test_precision_recall_of_equal_and_of_far_sets():
    a = randn(200, 8)
    assert precision_recall(a, a) == (1, 1)
    assert precision_recall(a, a + 1000) == (0, 0)


def test_a_dropped_mode_costs_recall_and_an_invented_one_precision():
    near, far = randn(400, 4), randn(400, 4, seed=1) + 100
    both = torch.cat([near[:200], far[:200]])
    precision, recall = precision_recall(both, near[200:])
    assert precision > 0.8 and recall < 0.55
    precision, recall = precision_recall(near[200:], both)
    assert precision < 0.55 and recall > 0.8


@pytest.mark.parametrize("k", [1, 3])
def test_precision_recall_equals_brute_force(k):
    real, fake = randn(60, 3), randn(40, 3, seed=1) * 1.4 + 1

    def within(points, centres):
        covered = 0
        for p in points:
            for c in centres:
                radius = sorted(math.dist(c, other) for other in centres)[k]   # [0] is c itself
                if math.dist(p, c) <= radius:
                    covered += 1
                    break
        return covered / len(points)

    expected = within(fake.tolist(), real.tolist()), within(real.tolist(), fake.tolist())
    assert 0.1 < min(expected) and max(expected) < 1  # the case tells something
    assert precision_recall(real, fake, k) == pytest.approx(expected)


def test_precision_recall_is_the_same_in_chunks_and_needs_k_neighbours():
    a, b = randn(1300, 2), randn(1100, 2, seed=1) + 0.5  # more than one chunk of 1000
    radii = torch.cdist(a, a).sort(dim=1).values[:, 3]
    expected = (torch.cdist(b, a) <= radii).any(1).double().mean()
    assert precision_recall(a, b)[0] == pytest.approx(expected.item(), abs=2e-3)
    with pytest.raises(MinildmError, match="4 or more"):
        precision_recall(a[:3], b)


# ---- label accuracy, PSNR, neighbours

def test_label_accuracy_counts():
    logits = torch.tensor([[2.0, 1, 0], [0, 1, 2], [0, 3, 1], [5, 1, 1]])
    assert label_accuracy(logits, torch.tensor([0, 2, 1, 1])) == 0.75


def test_psnr_is_the_mean_of_each_image_s_closed_form():
    a = rand(4, 1, 8, 8) * 0.5
    offsets = torch.tensor([0.1, 0.2, 0.3, 0.4])
    b = a + offsets.view(4, 1, 1, 1)
    exact = (20 * torch.log10(2 / offsets)).mean().item()  # the mean over images, not of the pooled error
    assert psnr(a, b) == pytest.approx(exact, rel=1e-5)
    assert psnr(a, a) == math.inf


def test_psnr_ignores_overshoot():
    a = torch.tensor([1.0, -1, 0.5, -0.5]).view(1, 1, 2, 2)
    b = a + torch.tensor([0.3, -0.3, 0.1, 0.1]).view(1, 1, 2, 2)
    exact = 10 * math.log10(4 / (0.01 / 2))
    assert psnr(a, b) == pytest.approx(exact, rel=1e-5) and psnr(b, a) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("k", [1, 4])
def test_nearest_neighbours_equal_brute_force_across_chunks(k):
    reference = (torch.rand(5400, 1, 4, 4, generator=rng()) * 255).byte()  # more than one chunk of 5000
    query = (torch.rand(7, 1, 4, 4, generator=rng(1)) * 255).byte()
    query[0], query[1] = reference[5250], reference[12]                    # copies, one in each chunk
    pairwise = ((query[:, None].double() - reference[None].double()) / 127.5).flatten(2).norm(dim=2)
    expected = pairwise.topk(k, largest=False)
    found, indices = nearest_neighbours(query, reference, k)
    assert indices.tolist() == expected.indices.tolist()
    torch.testing.assert_close(found.double(), expected.values, rtol=1e-5, atol=1e-5)
    assert found[0, 0] == found[1, 0] == 0 and indices[0, 0] == 5250 and indices[1, 0] == 12
    as_floats = nearest_neighbours(query.float() / 127.5 - 1, reference, k)[1]
    assert as_floats.tolist() == indices.tolist()


def test_nearest_neighbours_refuse_another_size():
    with pytest.raises(MinildmError, match="one size"):
        nearest_neighbours(rand(2, 1, 4, 4), rand(3, 1, 5, 5))
    with pytest.raises(MinildmError, match="neighbours"):
        nearest_neighbours(rand(2, 1, 4, 4), rand(3, 1, 4, 4), k=4)


# ---- ranges

@pytest.mark.parametrize(("images", "cure"), [
    ((rand(2, 1, 4, 4) * 100).byte(), "to_float"),
    ((rand(2, 1, 4, 4) + 1) / 2 * 0.99 + 0.005, r"images \* 2 - 1"),
    ((rand(2, 1, 4, 4) + 1) * 127.5, "127.5"),
    (rand(2, 1, 4, 4) / 0, "NaN"),
])
def test_wrong_ranges_are_refused_with_their_cure(images, cure):
    good = rand(2, 1, 4, 4)
    for call in (lambda: check_range(images, "here"), lambda: psnr(images, good), lambda: psnr(good, images)):
        with pytest.raises(MinildmError, match=cure):
            call()
    if images.is_floating_point():
        with pytest.raises(MinildmError, match=cure):
            nearest_neighbours(images, good)
        with pytest.raises(MinildmError, match=cure):
            in_batches(torch.nn.Identity(), images)


def test_good_ranges_pass():
    a = rand(2, 1, 4, 4)
    for images in (a, a * 1.3, torch.zeros(2, 1, 4, 4), -a.abs()):
        check_range(images, "here")
