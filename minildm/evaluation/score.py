"""How good are the samples? Every score stands beside the score that real images get at the same N.

A small classifier of our own turns images into features; `metrics` compares the features of samples
with those of real images, and `score` does it all. Images are float in [-1, 1]; whole sets, uint8,
go to `score`. What a set is too small for is None, never NaN: JSON has none.

The distance in the features of any other network, Inception, say, or DINOv2, is
    frechet_distance(in_batches(network, images), in_batches(network, real))
"""

import math

import torch
import torch.nn.functional as F

from minildm import MinildmError
from minildm.evaluation.classifier import Classifier, in_batches
from minildm.evaluation.metrics import (
    diversity,
    frechet_distance,
    kernel_distance,
    label_accuracy,
    precision_recall,
)

NAMES = "fd", "kd", "precision", "recall", "diversity", "label_accuracy"
REFERENCE = 10_000      # real images, at most, that samples are compared with
NEIGHBOURS = 3          # k of precision and recall


def check_measurable(n_samples: int, n_reference: int, size: int) -> None:
    """Refuse what `score` will never accept, before anything is trained for it.

    n_samples images, of `size` pixels along the shorter side, against a reference of n_reference
    images: it must hold as many again for the floor, and others to compare both with. Sets that
    pass may still be too small for some of the scores, which are then None.
    """
    if n_samples < 1 or size < 1:
        raise MinildmError(f"{n_samples} images of side {size} can't be judged", "score",
                           "draw one image or more")
    if n_reference < n_samples + min(n_samples, REFERENCE):
        raise MinildmError(f"{n_samples} images for a reference of {n_reference}", "score",
                           "judge at most half as many images as the reference has, or 10,000 less "
                           "than all")


def score(images, labels, reference, classifier: Classifier, seed: int = 0) -> dict:
    """Judge uint8 images (N, C, H, W), drawn for labels (N,), against an `ImageSet`.

    The reference is split by seed into a draw of N, the floor, judged exactly as the images are,
    and up to 10,000 others that both are compared with. Precision and recall want sets of one size:
    if these others are fewer than N, they take as many of the images, else N of the others. -> dict
    of `n`, each of `NAMES` and the same with `_floor`, and `fd_ratio`: numbers, or None where N is
    too small to measure.
    """
    check_samples(images, labels, reference, classifier)
    n, device = len(images), next(classifier.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    floor, others = split_reference(reference, labels, generator)
    real = in_batches(classifier.features, reference.images[others].to(device))             # (M, D)
    # precision and recall depend on the sizes of the sets, which must be equal
    subset = torch.randperm(n, generator=generator)[:len(real)].to(device)

    def judge(pictures, wanted):
        features = in_batches(classifier.features, pictures.to(device))                     # (N, D)
        return compare(features, wanted, real, subset, classifier)

    drawn = judge(images, labels)
    real_ones = judge(reference.images[floor], reference.labels[floor])
    result = {"n": n}
    for name in NAMES:
        result[name], result[name + "_floor"] = drawn[name], real_ones[name]
    # a floor of 0, of images that are all alike, would divide by 0
    result["fd_ratio"] = None
    if result["fd"] is not None:
        result["fd_ratio"] = result["fd"] / max(result["fd_floor"], 1e-12)
    return result


def check_samples(images, labels, reference, classifier: Classifier) -> None:
    """Refuse images and labels that can't be judged against this reference by this classifier."""
    n, classes = len(images), classifier.head.out_features
    if images.dtype != torch.uint8 or images.shape[1:] != reference.images.shape[1:]:
        raise MinildmError(f"images are {images.dtype} {tuple(images.shape)}, the reference's "
                           f"{tuple(reference.images.shape)}", "score",
                           "pass data.to_uint8(samples), cropped to the reference's size")
    if labels.shape != (n,) or labels.is_floating_point() or labels.is_complex():
        raise MinildmError(f"{n} images, and labels {labels.dtype} {tuple(labels.shape)}", "score",
                           "pass a label each, a whole number: (N,), not one-hot")
    check_measurable(n, len(reference.images), min(images.shape[-2:]))
    if labels.min() < 0 or labels.max() >= classes:
        raise MinildmError(f"labels go from {labels.min()} to {labels.max()}", "score",
                           f"pass classes that the classifier knows: 0 to {classes - 1}")


def split_reference(reference, labels, generator) -> tuple:
    """Indices of the reference: N for the floor, and up to 10,000 others, no image in both.

    The floor holds as many of each label as `labels` (N,) does, as far as there are. Left to
    chance, its FD would vary by a factor of five.
    """
    n = len(labels)
    order = torch.randperm(len(reference.images), generator=generator)
    theirs = reference.labels.cpu()[order]
    counts = labels.cpu().bincount(minlength=int(theirs.max()) + 1)
    # whether an image is the 1st, 2nd ... of its class
    rank = F.one_hot(theirs).cumsum(0).gather(1, theirs[:, None]).flatten()
    # images of a class that is full go last; the sort is stable, so the draw stays random
    surplus = (rank > counts[theirs]).int()
    order = order[surplus.argsort(stable=True)].to(reference.images.device)
    return order[:n], order[n:n + REFERENCE]


def compare(features, labels, real, subset, classifier: Classifier) -> dict:
    """Each of `NAMES` for features (N, D) of images of these labels (N,), against real ones (M, D).

    `subset` says which of the N images precision and recall look at.
    """
    found = dict.fromkeys(NAMES)
    found["label_accuracy"] = label_accuracy(classifier.head(features), labels)
    found["diversity"] = diversity(features, labels)
    if min(len(features), len(real)) > 1:
        found["fd"] = frechet_distance(features, real)
        found["kd"] = kernel_distance(features, real)
    if len(subset) > NEIGHBOURS:
        pair = precision_recall(real[:len(features)], features[subset], NEIGHBOURS)
        found["precision"], found["recall"] = pair
    return {name: finite(value) for name, value in found.items()}


def finite(value: float | None) -> float | None:
    """The value, or None for NaN and infinity."""
    return value if value is not None and math.isfinite(value) else None


def format_scores(scores: dict) -> str:
    """The result of `score` as a table, each beside its floor; a dash for what was not measured."""
    rows = [f"{'N = ' + str(scores['n']):<16}{'images':>10}{'real':>10}"]
    for name in NAMES:
        mine, floor = _cell(scores[name]), _cell(scores[name + "_floor"])
        rows.append(f"{name.replace('_', ' '):<16}{mine}{floor}")
    rows.append(f"{'fd / floor':<16}{_cell(scores['fd_ratio'])}{_cell(1.0)}")
    return "\n".join(rows)


def _cell(value: float | None) -> str:
    return f"{'-' if value is None else format(value, '.4g'):>10}"
