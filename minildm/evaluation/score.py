"""How good are the samples? Every score stands beside the score that real images get at the same N.

A small classifier of our own turns images into features; `metrics` compares the features of samples with
those of real images, and `score` does it all. Images are float in [-1, 1]; whole sets, uint8, go to `score`.
"""


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


def score(images, labels, reference, classifier: Classifier, seed: int = 0) -> dict:
    """Judge uint8 images (N, C, H, W) and the labels (N,) they were drawn for against an `ImageSet`.

    The reference is split by seed into a draw of N, the floor, judged exactly as the images are, and up to
    10,000 others that both are compared with. Precision and recall want sets of one size: if these others are
    fewer than N, they take as many of the images, else N of the others. The floor holds as many of each label
    as `labels` does, as far as there are: left to chance, its FD varies by a factor of five.
    """
    n, here = len(images), next(classifier.parameters()).device
    if images.dtype != torch.uint8 or images.shape[1:] != reference.images.shape[1:] or len(labels) != n:
        raise MinildmError(f"images are {images.dtype} {tuple(images.shape)} with {len(labels)} labels, the "
                           f"reference's {tuple(reference.images.shape)}", "score",
                           "pass data.to_uint8(samples), cropped to the reference's size, and a label each")
    if len(reference.images) < n + min(n, 10_000):
        raise MinildmError(f"{n} images for a reference of {len(reference.images)}", "score", "judge at most "
                           "half as many images as the reference has, or 10,000 less than all")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(reference.images), generator=generator)
    theirs = reference.labels.cpu()[order]
    counts = labels.cpu().bincount(minlength=int(theirs.max()) + 1)
    rank = F.one_hot(theirs).cumsum(0).gather(1, theirs[:, None]).flatten()        # 1st, 2nd ... of its class
    order = order[(rank > counts[theirs]).int().argsort(stable=True)].to(reference.images.device)
    floor, rest = order[:n], order[n:n + 10_000]
    real = in_batches(classifier.features, reference.images[rest].to(here))                   # (M, D)
    some = torch.randperm(n, generator=generator)[:len(real)].to(here)
    result = {"n": n}
    drawn = reference.images[floor], reference.labels[floor]
    for end, (pictures, wanted) in ("", (images, labels)), ("_floor", drawn):
        features = in_batches(classifier.features, pictures.to(here))                         # (N, D)
        result["fd" + end] = frechet_distance(features, real)
        result["kd" + end] = kernel_distance(features, real)
        pair = precision_recall(real[:n], features[some])
        result["precision" + end], result["recall" + end] = pair
        result["diversity" + end] = diversity(features, wanted)
        result["label_accuracy" + end] = label_accuracy(classifier.head(features), wanted)
    return result | {"fd_ratio": result["fd"] / max(result["fd_floor"], 1e-12)}


def format_scores(scores: dict) -> str:
    """The result of `score` as a table: each score beside its floor."""
    return "\n".join([
        f"{'N = ' + str(scores['n']):<16}{'images':>10}{'real':>10}",
        *(f"{name.replace('_', ' '):<16}{scores[name]:>10.4g}{scores[name + '_floor']:>10.4g}"
          for name in ("fd", "kd", "precision", "recall", "diversity", "label_accuracy")),
        f"{'fd / floor':<16}{scores['fd_ratio']:>10.4g}{1:>10}"])
