"""Measures against closed forms, scipy and brute force."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import torch

from minildm import MinildmError
from minildm.evaluation.classifier import in_batches
from minildm.evaluation.metrics import (
    coverage,
    diversity,
    frechet_distance,
    kernel_distance,
    label_accuracy,
    memorisation,
    nearest_neighbours,
    power_spectrum,
    precision_recall,
    psnr,
    ssim,
)
from minildm.images import check_range


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
    with pytest.raises(MinildmError, match="2 or more rows"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(5, 3))


# ---- kernel distance

def cubes(a, b):
    return [[(sum(p * q for p, q in zip(x, y, strict=True)) / len(x) + 1)**3 for y in b] for x in a]


@pytest.mark.parametrize("n, m", [(9, 13), (2, 2)])
def test_kd_equals_the_estimators_double_sums(n, m):
    a, b = randn(n, 5).tolist(), (randn(m, 5, seed=1) + 0.5).tolist()
    aa, bb, ab = cubes(a, a), cubes(b, b), cubes(a, b)
    expected = (sum(aa[i][j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
                + sum(bb[i][j] for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
                - 2 * sum(map(sum, ab)) / (n * m))
    assert kernel_distance(torch.tensor(a), torch.tensor(b)) == pytest.approx(expected, rel=1e-5)


def test_kd_is_unbiased_where_fd_is_not():
    """Of two sets of one origin, KD is 0 on average, however few they are; FD only falls towards 0."""
    kd = [kernel_distance(randn(20, 4, seed=i), randn(20, 4, seed=1000 + i)) for i in range(300)]
    fd = [frechet_distance(randn(20, 4, seed=i), randn(20, 4, seed=1000 + i)) for i in range(20)]
    spread = np.std(kd) / math.sqrt(len(kd))
    assert abs(np.mean(kd)) < 3 * spread and min(kd) < 0 < max(kd) and min(fd) > 0.1


def test_kd_of_points_is_a_closed_form_and_sees_third_moments():
    one, other = torch.ones(2, 3), -torch.ones(5, 3)      # x y / D is 1 within each, -1 between
    assert kernel_distance(one, other) == pytest.approx(8 + 8 - 0)
    assert kernel_distance(one, one) == 0
    leaning = torch.tensor([-1.0] * 4 + [4.0]).repeat(400)[:, None] / 2        # mean 0, variance 1, skewed
    upright = torch.tensor([-1.0, 1]).repeat(1000)[:, None]
    assert frechet_distance(leaning, upright) < 1e-3
    assert kernel_distance(leaning, upright) == pytest.approx(1.5**2, rel=0.01)        # skewness 1.5, squared


def test_kd_is_the_same_in_chunks_and_refuses_other_shapes():
    a, b = randn(700, 90), randn(900, 90, seed=1) * 1.1        # more than one chunk of 2^22 / 90^2
    aa, bb, ab = ((x @ y.T / 90 + 1).pow(3) for x, y in ((a, a), (b, b), (a, b)))
    own = aa.fill_diagonal_(0).sum() / (700 * 699) + bb.fill_diagonal_(0).sum() / (900 * 899)
    expected = own - 2 * ab.mean()
    assert kernel_distance(a, b) == pytest.approx(expected.item(), rel=1e-9)
    for a, b in ((randn(5, 3), randn(5, 4)), (randn(1, 3), randn(5, 3)), (randn(5, 600), randn(5, 600))):
        with pytest.raises(MinildmError, match="up to 512|of one D"):
            kernel_distance(a, b)


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


def test_copies_lie_within_manifolds_of_no_size():
    """Where more than k features are the same the ball's radius is 0: rounding must not push copies out."""
    points = randn(300, 64) * 100 + 1000
    repeated = points[:40].repeat_interleave(8, dim=0)
    assert precision_recall(repeated, points[:40].repeat(8, 1)) == (1, 1)
    assert precision_recall(repeated, repeated + 1e-3) == (0, 0)
    assert coverage(repeated, points[:40]) == 1 and coverage(repeated, points[:40] + 1e-3) == 0


@pytest.mark.parametrize("k", [1, 3])
def test_coverage_equals_brute_force_and_strays_do_not_buy_it(k):
    real, fake = randn(60, 3), randn(40, 3, seed=1) * 0.7 + 0.9
    reach = [sorted(math.dist(r, other) for other in real.tolist())[k] for r in real.tolist()]
    nearest = [min(math.dist(r, f) for f in fake.tolist()) for r in real.tolist()]
    inside = [d <= r for d, r in zip(nearest, reach, strict=True)]
    assert 0.1 < np.mean(inside) < 0.9 and coverage(real, fake, k) == pytest.approx(np.mean(inside))
    assert coverage(real, real) == 1 and coverage(real, real + 100) == 0
    with_strays = torch.cat([fake, 9 * randn(12, 3, seed=2)])
    assert precision_recall(real, with_strays, k)[1] > precision_recall(real, fake, k)[1] + 0.04
    assert coverage(real, with_strays, k) == coverage(real, fake, k)
    with pytest.raises(MinildmError, match="or more"):
        coverage(real[:k], fake, k)


# ---- diversity inside a class

def test_diversity_is_the_mean_over_classes_of_the_mean_pair():
    features, labels = randn(30, 5), torch.tensor([0] * 20 + [1] * 9 + [2])          # one of class 2: no pair
    means = [np.mean([math.dist(x, y) for i, x in enumerate(points) for y in points[i + 1:]])
             for points in (features[:20].tolist(), features[20:29].tolist())]
    assert diversity(features, labels) == pytest.approx(np.mean(means), rel=1e-9)
    order = torch.randperm(30, generator=rng())
    assert diversity(features[order] + 7, labels[order]) == pytest.approx(diversity(features, labels))
    assert diversity(3 * features, labels) == pytest.approx(3 * diversity(features, labels))


def test_diversity_of_one_picture_is_none_and_of_far_classes_not_the_distance_between_them():
    same, labels = torch.ones(10, 3), torch.arange(10) % 2
    assert diversity(same, labels) < 1e-6
    assert diversity(same + 100 * labels[:, None], labels) < 1e-6
    assert diversity(same[:2], labels[:2]) is None


# ---- label accuracy, PSNR, SSIM, neighbours

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


def test_ssim_equals_scipy_and_the_formula():
    """With scipy's Gaussian filter for the window, on the places where it doesn't leave the picture."""
    def mean(z):
        return scipy.ndimage.gaussian_filter(z, 1.5, truncate=3.5)[5:-5, 5:-5]

    a, b = rand(2, 3, 20, 17).double(), rand(2, 3, 20, 17, seed=1).double()
    b = (0.6 * a + 0.4 * b).clamp(-1, 1)
    values = []
    for x, y in zip((a.flatten(0, 1) + 1).numpy(), (b.flatten(0, 1) + 1).numpy(), strict=True):
        mx, my = mean(x), mean(y)
        luminance = (2 * mx * my + 4e-4) / (mx**2 + my**2 + 4e-4)
        vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
        values.append((luminance * (2 * cov + 3.6e-3) / (vx + vy + 3.6e-3)).mean())
    assert 0.3 < np.mean(values) < 0.95 and ssim(a, b) == pytest.approx(np.mean(values), rel=1e-6)


def test_ssim_is_one_of_equals_and_falls_with_blur_and_inversion():
    a = rand(2, 1, 16, 16)
    assert ssim(a, a) == pytest.approx(1) and ssim(a, -a) < -0.7
    assert ssim(a * 1.2, a.clamp(-1 / 1.2, 1 / 1.2) * 1.2) == pytest.approx(1)     # overshoot is clipped
    flat = torch.full((1, 1, 12, 12), 0.5)                         # no variance: 1.5 and 0.5 above black
    assert ssim(flat, -flat) == pytest.approx((1.5 + 4e-4) / (2.5 + 4e-4), rel=1e-5)
    for wrong in (a[:, :, :10], a[:1]):
        with pytest.raises(MinildmError, match="at least 11|equal shapes"):
            ssim(a, wrong)
        with pytest.raises(MinildmError, match="at least 11"):
            ssim(wrong[:, :, :10], wrong[:, :, :10])


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


def test_power_of_a_wave_lies_in_its_ring_and_noise_is_flat():
    """A wave a sin(k x) has mean square a^2 / 2, all in one ring; the noise of pixels has 1 / N^2 in each."""
    n, x = 32, torch.arange(32) * 2 * math.pi / 32
    for k in (1, 5, 16):
        wave = 0.8 * (torch.sin if k < 16 else torch.cos)(k * x).expand(2, 1, n, n)
        spectrum = power_spectrum(wave)
        ring = sum(1 for u in range(-15, 17) for v in range(-15, 17) if round(math.hypot(u, v)) == k)
        assert spectrum.shape == (17,) and spectrum.argmax() == k
        assert spectrum[k].item() * ring == pytest.approx(0.64 / (2 if k < 16 else 1), rel=1e-4)
        torch.testing.assert_close(power_spectrum(wave.mT), spectrum)
    noise = power_spectrum(randn(400, 3, n, n, seed=1))
    torch.testing.assert_close(noise, torch.full((17,), 1 / n**2), rtol=0.1, atol=0)
    flat = power_spectrum(torch.full((1, 3, n, n), -0.5))
    assert flat[0] == pytest.approx(0.25) and flat[1:].max() < 1e-9


def test_blur_takes_high_frequencies_only():
    x = randn(50, 1, 32, 32)
    blurred = torch.nn.functional.avg_pool2d(x, 3, 1, 1)
    ratio = power_spectrum(blurred) / power_spectrum(x)
    assert ratio[1] > 0.8 and ratio[12:].max() < 0.1
    with pytest.raises(MinildmError, match="square"):
        power_spectrum(x[..., :30])


def test_nearest_neighbours_refuse_another_size():
    with pytest.raises(MinildmError, match="one size"):
        nearest_neighbours(rand(2, 1, 4, 4), rand(3, 1, 5, 5))
    with pytest.raises(MinildmError, match="neighbours"):
        nearest_neighbours(rand(2, 1, 4, 4), rand(3, 1, 4, 4), k=4)


# ---- ranges

@pytest.mark.parametrize(("images", "cure"), [
    ((rand(2, 1, 12, 12) * 100).byte(), "to_float"),
    ((rand(2, 1, 12, 12) + 1) / 2 * 0.99 + 0.005, r"images \* 2 - 1"),
    ((rand(2, 1, 12, 12) + 1) * 127.5, "127.5"),
    (rand(2, 1, 12, 12) / 0, "NaN"),
])
def test_wrong_ranges_are_refused_with_their_cure(images, cure):
    good = rand(2, 1, 12, 12)
    for call in (lambda: check_range(images, "here"), lambda: psnr(images, good), lambda: psnr(good, images),
                 lambda: ssim(images, good), lambda: ssim(good, images)):
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


# ---- memorisation

def test_memorisation_finds_copies_and_passes_new_images():
    training = (torch.rand(500, 1, 6, 6, generator=rng()) * 255).byte()
    new, held_out = ((torch.rand(60, 1, 6, 6, generator=rng(seed)) * 255).byte() for seed in (1, 2))
    copied = training[torch.arange(60) * 7]
    found = memorisation(copied, training, held_out)
    assert found["ratio"] == 0 and found["nearest"].tolist() == [7 * i for i in range(60)]
    assert found["distances"].max() == 0 and found["median_held_out"] > 1
    found = memorisation(new, training, held_out)
    assert 0.9 < found["ratio"] < 1.1 and found["ratio"] == found["median"] / found["median_held_out"]
    pairwise = ((held_out[:, None].double() - training[None].double()) / 127.5).flatten(2).norm(dim=2)
    assert found["nearest_held_out"].tolist() == pairwise.argmin(1).tolist()
    torch.testing.assert_close(found["distances_held_out"].double(), pairwise.amin(1), atol=1e-5, rtol=1e-5)
    assert found["median_held_out"] == pytest.approx(pairwise.amin(1).median().item(), rel=1e-5)
    half = memorisation(torch.cat([new[:20], copied[:40]]), training, held_out)
    assert half["median"] == 0


# ---- the reference implementations

@pytest.fixture(scope="module")
def peer():
    """torchmetrics, slow to import. Its classes want Inception's weights, their inner functions don't."""
    pytest.importorskip("torchmetrics", reason="wants minildm[parity]")
    from torchmetrics.functional.image.ssim import _ssim_update
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    return SimpleNamespace(fid=_compute_fid, kid=poly_mmd, ssim=_ssim_update)


def test_torchmetrics_agrees(peer):
    a, b = randn(400, 24) @ randn(24, 24, seed=1) / 5, randn(400, 24, seed=2) + 0.2
    fid = peer.fid(a.mean(0), a.T.cov(), b.mean(0), b.T.cov()).item()
    assert frechet_distance(a, b) == pytest.approx(fid, rel=1e-6)
    assert kernel_distance(a, b) == pytest.approx(peer.kid(a, b).item(), rel=1e-6)
    x, y = rand(3, 2, 24, 30), rand(3, 2, 24, 30, seed=1)
    y = (0.7 * x + 0.3 * y).double()
    _, places = peer.ssim(x.double() + 1, y + 1, data_range=2.0, return_full_image=True)    # padded outside
    assert ssim(x, y) == pytest.approx(places[..., 5:-5, 5:-5].mean().item(), rel=1e-6)
