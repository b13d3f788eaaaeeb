"""A look before the leap: what would end a command after its training is tried before it, in a
second.

Everything that can be known early is tried in small: measuring on a part of the set with an
untrained classifier, drawing the names of the classes, writing each kind of file. What a set is
too small for is left out of the scores, not an error.
"""

import os
from pathlib import Path

import torch

from minildm import MinildmError, data, plotting
from minildm.data.sets import ImageSet
from minildm.evaluation.score import check_measurable, score
from minildm.recipes.classifier import classifier_for, untrained
from minildm.training import distributed

SOME = 200      # pictures that measuring is tried on
TEST = 2000     # test pictures that reconstruction is measured on


def check_before_training(images: ImageSet, out: Path, num: int = 0,
                          size: int | None = None) -> ImageSet | None:
    """Raise MinildmError for a set that can't be trained on or a folder that can't be written.

    With num, so many samples will be drawn and measured: the set must be large enough for it, and
    its test images are returned, or None where it has none. Of several processes one looks for all.
    """
    if not distributed.is_first():
        return None
    check_pictures(images)
    check_writable(out)
    # nothing is drawn or measured: `train` keeps its model alone
    if not num:
        return None
    check_names(images, out)
    check_measuring(images, num)
    return test_images(images, size)


def check_pictures(images: ImageSet):
    count, channels, height, width = images.images.shape
    if count < 2:
        raise MinildmError(
            f"{images.name} has {count} image: nothing can be learned from it",
            images.name,
            "take at least two; a few hundred are few",
        )
    if height != width or channels not in (1, 3):
        raise MinildmError(f"images are {channels} x {height} x {width}", images.name,
                           "take square pictures, grey or RGB; --size crops a folder's")


def check_writable(out: Path):
    """Write, replace and delete a file in OUT, and in each of its folders that is there already."""
    for folder in (out, *(path for path in Path(out).glob("*") if path.is_dir())):
        trial = folder / f".tmp-{os.getpid()}-trial"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # as a save does: write, then rename
            trial.write_bytes(b"x" * 4096)
            os.replace(trial, trial.with_suffix(".moved"))
            trial.with_suffix(".moved").unlink()
        except OSError as error:
            raise MinildmError(f"nothing can be written here: {error.strerror or error}", folder,
                               "choose another folder with --out, or free some room") from None


def check_names(images: ImageSet, out: Path):
    """Draw a picture of each class with its name, as samples.png will."""
    some = torch.arange(min(len(images), len(images.class_names)))
    labels = some % len(images.class_names)
    trial = Path(out) / f".tmp-{os.getpid()}-names.png"
    try:
        plotting.save_grid(trial, images.images[some].cpu(), labels, images.class_names)
    except MinildmError:
        raise
    except Exception as error:      # of matplotlib, of fonts: no common ancestor
        reason = " ".join(str(error).split())[:120]
        raise MinildmError(f"the names of the classes can't be drawn: {reason}", images.name,
                           "give the folders other names") from None
    finally:
        trial.unlink(missing_ok=True)


def check_measuring(images: ImageSet, num: int):
    """Measure a few of the set's own pictures by an untrained classifier of the form that will
    measure.
    """
    count, side = len(images), images.images.shape[-1]
    check_measurable(min(num, count // 2), count, side)
    # an untrained one has features as well: what would fail later fails now
    some = images.subset(SOME)
    config, _ = classifier_for(images)
    classifier = untrained(some, config).eval()
    n = min(num, len(some) // 2)
    score(some.images[:n], some.labels[:n], some, classifier)


def test_images(images: ImageSet, size: int | None = None) -> ImageSet | None:
    """The set's test images, at most TEST of them; None, which is said, where there are none."""
    try:
        test = data.load(images.name, "test", **({"size": size} if size else {}))
    except MinildmError as error:
        print(f"{images.name} has no test images ({error.what}): reconstruction is not measured")
        return None
    return test.subset(TEST) if test.images.shape[1:] == images.images.shape[1:] else None
