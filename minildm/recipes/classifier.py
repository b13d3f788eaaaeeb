"""Classifiers from whose features samples are scored: one for grey sets, one for colour."""

from dataclasses import asdict, replace

from minildm import budget
from minildm.data.sets import ImageSet
from minildm.evaluation.classifier import (
    Classifier,
    ClassifierConfig,
    build_classifier,
    enlarged,
    in_batches,
)
from minildm.evaluation.metrics import label_accuracy
from minildm.images import to_float
from minildm.recipes.stages import Options, fit_to, mirrors, seeded
from minildm.training.loop import TrainConfig, fit

CLASSIFIER = TrainConfig(
    steps=3200, batch_size=128, lr=2e-3, weight_decay=0.05, warmup=100, ema=0.99
)
COLOUR_CLASSIFIER = TrainConfig(
    steps=800, batch_size=512, lr=3e-3, warmup=80, clip=0, ema=0.99, muon=0.2
)
# CIFAR-10: 0.916 on a H200, 1.1 minutes
GPU_COLOUR_CLASSIFIER = replace(COLOUR_CLASSIFIER, steps=4000, ema=0.995)


def classifier_for(
    images: ImageSet, mirror: bool | None = None
) -> tuple[ClassifierConfig, TrainConfig]:
    """The classifier that suits a set and the budget. Colour pictures are shifted, not turned.

    Mirror images are learned where the generator learns them, too: if asked, else CIFAR-10's.
    """
    channels, classes = images.images.shape[1], len(images.class_names)
    mirror = mirrors(images, Options(mirror=mirror))
    if channels == 1:
        return ClassifierConfig(channels, classes, mirror=mirror), CLASSIFIER
    small = ClassifierConfig(
        channels,
        classes,
        width=64,
        growth=(1, 4, 4),
        rotation=0,
        zoom=0,
        shift=2,
        mirror=mirror,
        pool=True,
    )
    large = replace(small, width=128, shift=4)
    return budget(smoke=(small, COLOUR_CLASSIFIER), cpu=(small, COLOUR_CLASSIFIER),
                  gpu=(large, GPU_COLOUR_CLASSIFIER))


def short_training(
    images: ImageSet, config: ClassifierConfig, training: TrainConfig
) -> TrainConfig:
    """A minute or a few of it: for a set whose classifier is not in the zoo."""
    cpu = 150 if config.pool else 600
    return fit_to(
        replace(training, steps=budget(smoke=20, cpu=cpu, gpu=2400)), images, training.seed
    )


def untrained(images: ImageSet, config: ClassifierConfig, seed: int = 0) -> Classifier:
    """A classifier of this form with fresh weights, on the set's device."""
    with seeded(seed):
        model = build_classifier(config)
    model.to(images.images.device)
    if config.pool:
        # its first layer is measured, not trained
        model.whiten(enlarged(to_float(images.subset(5000).images)))
    return model


def train_classifier(images: ImageSet, training: TrainConfig | None = None, run_dir=None,
                     bar: bool = True, config: ClassifierConfig | None = None) -> Classifier:
    """Train a classifier of this set; `training` and `config` take the place of the recipe's."""
    usual, recipe = classifier_for(images)
    config, training = config or usual, training or recipe
    model = untrained(images, config, training.seed)

    def loss(pictures, labels, generator):
        return model.loss(to_float(pictures), labels, generator)

    identity = {"classifier": asdict(config)}
    fit(model, loss, (images.images, images.labels), training, run_dir, bar, identity)
    return model.eval()


def classification_accuracy(
    train: ImageSet, test: ImageSet, config: TrainConfig | None = None
) -> float:
    """Accuracy on `test` of one that saw `train` alone (CAS: Ravuri & Vinyals 2019,
    arXiv:1905.10887).
    """
    classifier = train_classifier(train, config, bar=False)
    return label_accuracy(in_batches(classifier, test.images.to(train.images.device)), test.labels)
