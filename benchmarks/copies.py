"""Are MNIST samples new, and do they teach? The demo's model draws, or the zoo's without a demo."""

import time
from dataclasses import replace

import torch

from benchmarks.claims import BUILD, claims_of
from minildm import LatentDiffusion, data
from minildm.evaluation.metrics import memorisation
from minildm.recipes.classifier import CLASSIFIER, classification_accuracy

claim = claims_of("copies")

SAMPLES = 5000


def measure():
    folder = BUILD / "benchmark-demo-mnist" / "model"
    model = LatentDiffusion.load(folder if folder.is_dir() else "mnist")
    labels = torch.arange(SAMPLES) % 10
    images = data.to_uint8(model.generate(labels))
    train, test = data.load("mnist"), data.load("mnist", "test").subset(10_000)

    began = time.perf_counter()
    # held-out images with as many of each class as the samples have
    held_out = torch.cat([(test.labels == c).nonzero()[:100, 0] for c in range(10)])
    found = memorisation(images[:1000], train.images, test.images[held_out])
    yield claim("median distance to the nearest training image / held-out images'",
                found["ratio"], time.perf_counter() - began)

    began = time.perf_counter()
    samples = data.ImageSet("samples", "train", images, labels, train.class_names)
    accuracy = classification_accuracy(samples, test, replace(CLASSIFIER, steps=600))
    yield claim("test accuracy of a classifier taught by samples alone", accuracy,
                time.perf_counter() - began, detail=f"{SAMPLES:,} of them")
