"""Recipes of classifiers, one for each kind of set, from whose features samples are scored."""

from dataclasses import asdict, replace

import torch

from minildm import budget
from minildm.data.sets import ImageSet
from minildm.evaluation.classifier import ClassifierConfig, build_classifier, in_batches
from minildm.evaluation.metrics import label_accuracy
from minildm.images import to_float
from minildm.training.loop import TrainConfig, fit

CLASSIFIER = TrainConfig(steps=3200, batch_size=128, lr=2e-3, weight_decay=0.05, warmup=100, ema=0.99)
COLOUR_CLASSIFIER = TrainConfig(steps=800, batch_size=512, lr=3e-3, warmup=80, clip=0, ema=0.99, muon=0.2)
GPU_COLOUR_CLASSIFIER = replace(COLOUR_CLASSIFIER, steps=4000, ema=0.995)    # 0.916 on a H200, 1.1 minutes


def classifier_for(images: ImageSet) -> tuple[ClassifierConfig, TrainConfig]:
    """What classifier suits a set and the budget: photographs may be mirrored, not turned, and want more."""
    channels, classes = images.images.shape[1], len(images.class_names)
    if channels == 1:
        return ClassifierConfig(channels, classes), CLASSIFIER
    small = ClassifierConfig(channels, classes, width=64, growth=(1, 4, 4), rotation=0, zoom=0, shift=2,
                             mirror=True, pool=True), COLOUR_CLASSIFIER
    large = replace(small[0], width=128, shift=4), GPU_COLOUR_CLASSIFIER
    return budget(smoke=small, cpu=small, gpu=large)


def train_classifier(images: ImageSet, training: TrainConfig | None = None, run_dir=None, bar: bool = True):
    """A classifier of this set, from whose features samples are scored; `training` replaces the recipe's."""
    config, recipe = classifier_for(images)
    training = training or recipe
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model = build_classifier(config)
    model.to(images.images.device)
    if config.pool:
        model.whiten(to_float(images.subset(5000).images))

    def loss(pictures, labels, generator):
        return model.loss(to_float(pictures), labels, generator)

    fit(model, loss, (images.images, images.labels), training, run_dir, bar, {"classifier": asdict(config)})
    return model.eval()


def classification_accuracy(train: ImageSet, test: ImageSet, config: TrainConfig | None = None) -> float:
    """Accuracy on `test` of one that saw `train` alone (CAS: Ravuri & Vinyals 2019, arXiv:1905.10887)."""
    classifier = train_classifier(train, config, bar=False)
    return label_accuracy(in_batches(classifier, test.images.to(train.images.device)), test.labels)
