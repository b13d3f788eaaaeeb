"""Scores against closed forms, scipy and brute force, and on sets whose flaws are known."""

import math
import os
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F

from minildm import MinildmError, data
from minildm.evaluation import (
    Classifier,
    ClassifierConfig,
    augment,
    check_range,
    format_scores,
    frechet_distance,
    in_batches,
    label_accuracy,
    nearest_neighbours,
    precision_recall,
    psnr,
    score,
)
from minildm.recipes import load_classifier


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


def digits(n, seed=0):
    """A set of ten classes that can be told apart: a bright bar whose place and direction are the label."""
    labels = torch.randint(0, 10, (n,), generator=rng(seed))
    images = torch.zeros(n, 1, 16, 16)
    for i, label in enumerate(labels.tolist()):
        at = 3 * (label % 5) + 1
        images[i, 0, at:at + 2, :] = 1 if label < 5 else 0
        images[i, 0, :, at:at + 2] += 1 if label >= 5 else 0
    images = (images * 200 + torch.rand(images.shape, generator=rng(seed)) * 55).to(torch.uint8)
    return SimpleNamespace(images=images, labels=labels)


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


# ---- the classifier

@pytest.mark.parametrize("size", [(16, 16), (28, 28), (32, 32), (20, 31)])
@pytest.mark.parametrize("channels", [1, 3])
def test_classifier_takes_any_size(size, channels):
    model = Classifier(ClassifierConfig(channels_in=channels, classes=7, width=8, feature_dim=64))
    images = rand(3, channels, *size)
    assert model(images).shape == (3, 7)
    features = model.features(images)
    assert features.shape == (3, 64)
    torch.testing.assert_close(model.head(features), model(images))
    alone, in_training = model.eval()(images[:1]), model.train()(images)[:1]
    torch.testing.assert_close(alone, in_training)


def test_classifier_refuses_what_it_cannot_take():
    model = Classifier(ClassifierConfig(width=8))
    for images in (torch.zeros(2, 1, 28, 28).byte(), rand(2, 3, 28, 28), rand(2, 1, 12, 28)):
        with pytest.raises(MinildmError, match="at least 16"):
            model(images)


def test_classifier_has_the_size_that_the_zoo_promises():
    count = sum(p.numel() for p in Classifier(ClassifierConfig()).parameters())
    assert count < 500_000


def test_classifier_overfits_one_batch():
    torch.manual_seed(0)
    model = Classifier(ClassifierConfig(classes=4, width=8, rotation=0, zoom=0, shift=0))
    images, labels = rand(16, 1, 16, 16), torch.arange(16) % 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = model.loss(images, labels, rng())["loss"].item()
    for _ in range(60):
        optimizer.zero_grad()
        losses = model.loss(images, labels, rng())
        losses["loss"].backward()
        optimizer.step()
    assert first > 1.2 and losses["loss"].item() < 0.05 and losses["accuracy"].item() == 1


def test_augment_with_nothing_to_do_changes_nothing():
    images = rand(5, 3, 20, 16)
    still = augment(images, ClassifierConfig(rotation=0, zoom=0, shift=0), rng())
    torch.testing.assert_close(still, images, atol=1e-5, rtol=0)


def test_augment_shifts_by_whole_pixels_and_continues_the_border():
    images = rand(64, 1, 9, 9)
    moved = augment(images, ClassifierConfig(rotation=0, zoom=0, shift=1), rng())
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    candidates = torch.stack([padded[:, :, y:y + 9, x:x + 9] for y in range(3) for x in range(3)])
    errors = (candidates - moved).abs().amax(dim=(2, 3, 4))                            # (9 places, 64)
    assert errors.min(dim=0).values.max() < 1e-5
    assert set(errors.argmin(dim=0).tolist()) == set(range(9))  # all nine places occur


def test_augment_mirrors_half_of_the_images():
    images = rand(200, 1, 8, 8)
    moved = augment(images, ClassifierConfig(rotation=0, zoom=0, shift=0, mirror=True), rng())
    same = (moved - images).abs().amax(dim=(1, 2, 3)) < 1e-5
    mirrored = (moved - images.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert (same ^ mirrored).all() and 70 < same.sum() < 130


def test_augment_depends_on_its_generator_alone():
    images, config = rand(4, 1, 16, 16), ClassifierConfig()
    first, again, other = (augment(images, config, rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert (first - images).abs().max() > 0.1


# ---- the whole score

@pytest.fixture(scope="module")
def judge():
    """A classifier of the bars, made in a few steps; and 1,200 of them to judge against."""
    torch.manual_seed(0)
    model, real = Classifier(ClassifierConfig(width=8, rotation=0, zoom=0, shift=0)), digits(1200)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for i in range(40):
        pick = torch.randperm(1200, generator=rng(i))[:64]
        optimizer.zero_grad()
        model.loss(real.images[pick].float() / 127.5 - 1, real.labels[pick], rng(i))["loss"].backward()
        optimizer.step()
    return model, real


def test_score_of_real_images_is_about_the_floor_and_of_noise_far_above(judge):
    model, reference = judge
    fresh = digits(300, seed=1)
    good = score(fresh.images, fresh.labels, reference, model)
    assert good["n"] == 300 and 0.3 < good["fd_ratio"] < 3
    assert good["label_accuracy"] > 0.95 and good["label_accuracy_floor"] > 0.95
    assert min(good["precision"], good["recall"], good["precision_floor"], good["recall_floor"]) > 0.7
    noise = torch.randint(0, 256, fresh.images.shape, generator=rng()).byte()
    bad = score(noise, fresh.labels, reference, model)
    assert bad["fd_ratio"] > 20 and bad["label_accuracy"] < 0.4 and bad["precision"] < 0.1
    assert bad["fd_ratio"] == pytest.approx(bad["fd"] / bad["fd_floor"])
    for name in ("fd", "precision", "recall", "label_accuracy"):  # the same floor
        assert bad[name + "_floor"] == good[name + "_floor"]


def test_score_notices_missing_classes_and_wrong_labels(judge):
    model, reference = judge
    fresh = digits(600, seed=2)
    few = fresh.images[fresh.labels < 3]
    some = score(few, fresh.labels[:len(few)], reference, model)  # all were asked for, three were drawn
    assert some["recall"] < 0.6 * some["recall_floor"] and some["fd_ratio"] > 10
    turned = score(fresh.images[:200], (fresh.labels[:200] + 1) % 10, reference, model)
    assert turned["label_accuracy"] < 0.1


class Witness(torch.nn.Module):
    """A classifier that remembers which images it saw; an image's first pixels hold its number."""

    def __init__(self):
        super().__init__()
        self.head, self.seen = torch.nn.Linear(4, 10), []

    def features(self, images):
        pixels = ((images + 1) * 127.5).round().long()
        self.seen += (pixels[:, 0, 0, 0] * 256 + pixels[:, 0, 0, 1]).tolist()
        return images[:, 0, 1, :4]


@pytest.mark.parametrize("scarce", [False, True])
def test_the_floor_has_the_images_labels_and_nothing_in_common_with_the_reference(scarce):
    images = torch.randint(0, 256, (400, 1, 16, 16), generator=rng()).byte()
    images[:, 0, 0, 0], images[:, 0, 0, 1] = torch.arange(400) // 256, torch.arange(400) % 256
    labels = (torch.arange(400) % 200 == 0).long() if scarce else torch.arange(400) % 3
    asked = torch.tensor([1] * 30 + [0] * 10)
    seen = []
    for seed in (7, 7, 8):
        witness = Witness()
        score(images[:40], asked, SimpleNamespace(images=images, labels=labels), witness, seed=seed)
        rest, judged, floor = witness.seen[:360], witness.seen[360:400], witness.seen[400:]
        assert judged == list(range(40)) and sorted(rest + floor) == list(range(400))  # each once
        counts = labels[floor].bincount(minlength=2).tolist()
        assert counts == ([38, 2] if scarce else [10, 30])  # only two of class 1: filled up
        seen.append(floor)
    assert seen[0] == seen[1] and set(seen[0]) != set(seen[2])


def test_judging_the_reference_itself_gives_zero(judge):
    model, real = judge
    reference = SimpleNamespace(images=real.images[:400].clone(), labels=real.labels[:400])
    reference.images[:] = reference.images[:1]  # all alike, so whatever the split, the sets are the same
    result = score(reference.images[:200], reference.labels[:200], reference, model)
    assert result["fd"] < 1e-6 and result["fd_floor"] < 1e-6
    assert result["precision"] == result["recall"] == 1 and math.isfinite(result["fd_ratio"])


def test_score_refuses_what_it_cannot_judge(judge):
    model, reference = judge
    images, labels = reference.images[:100], reference.labels[:100]
    for wrong, theirs, cure in ((images.float() / 127.5 - 1, labels, "to_uint8"),
                                (F.pad(images, (2, 2, 2, 2)), labels, "cropped"),
                                (images, labels[:5], "a label each"),
                                (reference.images, reference.labels, "half as many")):
        with pytest.raises(MinildmError, match=cure):
            score(wrong, theirs, reference, model)


def test_format_scores_puts_each_score_beside_its_floor(judge):
    model, reference = judge
    result = score(reference.images[:50], reference.labels[:50], reference, model)
    text = format_scores(result)
    for name in ("fd", "precision", "recall", "label_accuracy"):
        row = next(line for line in text.splitlines() if line.startswith(name.replace("_", " ")))
        assert row.split()[-2:] == [f"{result[name]:.4g}", f"{result[name + '_floor']:.4g}"]
    assert "N = 50" in text and f"{result['fd_ratio']:.4g}" in text


# ---- what the zoo ships

@pytest.mark.skipif("MINILDM_DATA" not in os.environ or not data.available("mnist"), reason="no MNIST here")
def test_the_zoos_mnist_classifier_reaches_its_bar():
    model, test = load_classifier("mnist"), data.load("mnist", "test")
    assert sum(p.numel() for p in model.parameters()) < 500_000
    assert label_accuracy(in_batches(model, test.images), test.labels) >= 0.993
    mixed = test.subset(len(test))  # the set's second half is harder than its first
    rest = SimpleNamespace(images=mixed.images[500:], labels=mixed.labels[500:])
    images, labels = mixed.images[:500], mixed.labels[:500]
    assert 0.5 < score(images, labels, rest, model)["fd_ratio"] < 2
    blurred = F.avg_pool2d(images.float(), 3, stride=1, padding=1).byte()
    assert score(blurred, labels, rest, model)["fd_ratio"] > 2
