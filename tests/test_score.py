"""The classifier that scores are measured with, and whole scores of sets whose flaws are known."""

import json
import math
import os
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from minildm import MinildmError, data
from minildm.evaluation import score as evaluation
from minildm.evaluation.classifier import (
    Classifier,
    ClassifierConfig,
    augment,
    build_classifier,
    in_batches,
    load_classifier,
    pca_features,
)
from minildm.evaluation.metrics import label_accuracy
from minildm.evaluation.score import check_measurable, format_scores, score
from minildm.images import to_unit


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=rng(seed)) * 2 - 1


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
    for images in (torch.zeros(2, 1, 28, 28).byte(), rand(2, 3, 28, 28), rand(1, 28, 28)):
        with pytest.raises(MinildmError, match=r"pass float \(B, 1, H, W\)"):
            model(images)


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (8, 8), (12, 28)])
def test_images_smaller_than_three_halvings_are_enlarged(pool, size):
    model, images = build_classifier(ClassifierConfig(width=8, pool=pool)).eval(), rand(3, 1, *size)
    times = -(-16 // min(size))
    large = images.repeat_interleave(times, 2).repeat_interleave(times, 3)
    assert min(large.shape[2:]) >= 16
    torch.testing.assert_close(model(images), model(large))


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


def test_a_pooling_classifier_halves_alike_and_judges_each_image_by_itself():
    strided, pooling = (build_classifier(ClassifierConfig(3, width=8, pool=pool)).eval()
                        for pool in (False, True))
    images = rand(4, 3, 32, 32) * 2 - 1
    maps = [[m.shape for m in model.feature_maps(images)] for model in (strided, pooling)]
    assert maps[0] == maps[1] == [(4, 8, 16, 16), (4, 16, 8, 8), (4, 32, 4, 4)]
    pooling.train()(images)                                  # moves the running statistics
    pooling.eval()
    assert torch.allclose(pooling.features(images)[:1], pooling.features(images[:1]), atol=1e-6)


def test_a_whitened_stem_answers_patches_with_variance_one_each_in_its_own_way():
    images = F.avg_pool2d(rand(60, 3, 34, 34), 3, 1)                    # neighbours are alike
    model = build_classifier(ClassifierConfig(3, width=8, pool=True))
    model.whiten(images)
    weight = model.stem[0].weight
    answers = F.conv2d(images, weight).transpose(0, 1).flatten(1)       # (32, places)
    torch.testing.assert_close(answers[8:16].cov(), torch.eye(8), atol=0.05, rtol=0)    # the strongest
    assert torch.equal(weight[:16], -weight[16:]) and not weight.requires_grad
    mean = F.unfold(images, 3).mT.flatten(0, 1).T.cov().trace() / 27
    assert (weight[12:16].flatten(1).norm(dim=1) < mean**-0.5).all()    # these vary more than most


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
    assert abs(good["kd"]) < 0.2 * bad["kd"] and 0.8 < good["diversity"] / good["diversity_floor"] < 1.2
    for name in ("fd", "kd", "precision", "recall", "diversity", "label_accuracy"):  # the same floor
        assert bad[name + "_floor"] == good[name + "_floor"]


def test_score_notices_missing_classes_and_wrong_labels(judge):
    model, reference = judge
    fresh = digits(600, seed=2)
    few = fresh.images[fresh.labels < 3]
    some = score(few, fresh.labels[:len(few)], reference, model)  # all were asked for, three were drawn
    assert some["recall"] < 0.6 * some["recall_floor"] and some["fd_ratio"] > 10
    one = torch.stack([fresh.images[fresh.labels == label][0] for label in range(10)])
    same = score(one.repeat(60, 1, 1, 1), torch.arange(10).repeat(60), reference, model)  # one of each class
    assert same["diversity"] < 0.01 < same["diversity_floor"] and same["label_accuracy"] == 1
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


@pytest.mark.parametrize("labels, cure", [
    (torch.full((10,), 10), "0 to 9"), (torch.full((10,), -1), "0 to 9"), (torch.eye(10).long(), "one-hot"),
    (torch.arange(9), "a label each"), (torch.zeros(10), "a whole number"),
    (torch.tensor(3), "a label each")])
def test_labels_that_are_no_classes_are_refused(judge, labels, cure):
    model, reference = judge
    with pytest.raises(MinildmError, match=cure):
        score(reference.images[:10], labels, reference, model)


@pytest.mark.parametrize("n", range(1, 13))
def test_small_sets_are_judged_as_far_as_they_can_be(judge, n):
    """As JSON, which has no NaN; what was measured is finite, the rest None and a dash."""
    model, _ = judge
    check_measurable(n, 2 * n, 16)
    small = SimpleNamespace(images=digits(2 * n).images, labels=torch.arange(2 * n) % 10)   # one a class
    result = score(small.images[:n], torch.arange(n) % 10, small, model)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert (result["fd"] is None) == (result["kd_floor"] is None) == (n < 2)
    assert (result["precision"] is None) == (result["recall_floor"] is None) == (n < 4)
    assert (result["diversity"] is None) == (n <= 10) and result["label_accuracy"] is not None
    dashes = [line for line in format_scores(result).splitlines() if "- " in line + " "]
    assert len(dashes) == sum(result[name] is None or result[name + "_floor"] is None
                              for name in evaluation.NAMES) + (result["fd_ratio"] is None)


def test_what_can_never_be_judged_is_refused_before_any_training():
    for n, of, size in (0, 10, 28), (6, 11, 28), (10_001, 20_000, 28), (3, 10, 0):
        with pytest.raises(MinildmError):
            check_measurable(n, of, size)
    check_measurable(10_001, 20_001, 2)


def test_precision_and_recall_get_sets_of_one_size(monkeypatch):
    def sizes(real, fake, k):
        return len(real), len(fake)

    monkeypatch.setattr(evaluation, "precision_recall", sizes)
    images = torch.randint(0, 256, (21_000, 1, 16, 16), generator=rng()).byte()
    labels = torch.arange(21_000) % 10
    reference = SimpleNamespace(images=images, labels=labels)
    for n, expected in (300, 300), (10_500, 10_000), (11_000, 10_000):
        found = score(images[:n], labels[:n], reference, Witness())
        assert found["precision"] == found["recall"] == found["recall_floor"] == expected
    with pytest.raises(MinildmError, match="10,000 less"):
        score(images[:11_001], labels[:11_001], reference, Witness())


def test_format_scores_puts_each_score_beside_its_floor(judge):
    model, reference = judge
    result = score(reference.images[:50], reference.labels[:50], reference, model)
    text = format_scores(result)
    for name in ("fd", "kd", "precision", "recall", "diversity", "label_accuracy"):
        row = next(line for line in text.splitlines() if line.startswith(name.replace("_", " ")))
        assert row.split()[-2:] == [f"{result[name]:.4g}", f"{result[name + '_floor']:.4g}"]
    assert "N = 50" in text and f"{result['fd_ratio']:.4g}" in text


# ---- what the zoo ships

@pytest.mark.slow
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


def test_components_of_a_classifiers_map():
    """Uncorrelated, of unit variance, the most telling ones; each in the square of its place."""
    model = build_classifier(ClassifierConfig(3, 10, width=8, pool=True)).eval()
    images = torch.randint(0, 256, (60, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    images[:20] //= 4                                                   # places differ much, and pictures
    images[20:40, :, :16] //= 8
    found = pca_features(model, images, 2, 8)
    assert found.shape == (60, 2, 8, 8)
    with torch.no_grad():
        maps = model.feature_maps(to_unit(images, "test"))[-1]                          # (60, 32, 4, 4)
    places = maps.permute(0, 2, 3, 1).reshape(-1, 32)
    numbers = found.reshape(60, 2, 4, 2, 4, 2).permute(0, 2, 4, 1, 3, 5).reshape(-1, 8)    # of each place
    torch.testing.assert_close(numbers.T.cov(), torch.eye(8), atol=1e-2, rtol=0)
    assert numbers.mean(0).abs().max() < 1e-2
    standard = (places - places.mean(0)) / (places.std(0) + 1e-6)
    explained = (numbers.T @ standard / (len(places) - 1)).square().sum()                  # of the variance
    best = torch.linalg.svdvals(standard)[:8].square().sum() / (len(places) - 1)
    torch.testing.assert_close(explained, best, rtol=1e-3, atol=0)
    with pytest.raises(MinildmError, match="33 channels of a map with 32"):
        pca_features(model, images, 33, 8)


@pytest.mark.parametrize("image_side", [2, 8, 12, 20, 28, 32, 36, 50])
@pytest.mark.parametrize("side", [1, 4, 6, 7, 18])
def test_a_map_that_does_not_divide_the_latents_is_interpolated(image_side, side):
    model = build_classifier(ClassifierConfig(3, 10, width=8, pool=True)).eval()
    images = torch.randint(0, 256, (40, 3, image_side, image_side), generator=rng()).byte()
    found = pca_features(model, images, 4, side)
    assert found.shape == (40, 4, side, side) and found.isfinite().all()
    numbers = found.movedim(1, 3).flatten(0, 2)
    assert numbers.mean(0).abs().max() < 0.05


def test_fewer_places_than_components_are_no_division_by_zero():
    model = build_classifier(ClassifierConfig(3, 10, width=8, pool=True)).eval()
    assert pca_features(model, torch.zeros(1, 3, 32, 32).byte(), 8, 8).isfinite().all()
