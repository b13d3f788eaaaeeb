"""Folders of anyone's images: what is read, what is left out and said, and what it costs."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.images import noise, save_image

from minildm import MinildmError, data
from minildm.data import files, pictures
from minildm.data.files import list_files, read_files
from minildm.data.splits import SPLITS

pytestmark = pytest.mark.filterwarnings("error")  # a warning must be asked for


def load(folder, split="train", **options):
    return data.load(f"folder:{folder}", split, root=folder.parent, **options)


def fill(folder, n, *shape, seed=0):
    """n pictures of noise in a folder."""
    for i in range(n):
        save_image(folder / f"{i:03d}.png", noise(*shape, seed=seed + i))


def test_folder_without_splits_keeps_a_tenth_of_each_class_for_test(tmp_path):
    for k, (name, n) in enumerate((("cat", 20), ("dog", 11), ("one", 1))):
        fill(tmp_path / "pets" / name, n, 16, 16, 3, seed=100 * k)
    train, test = (load(tmp_path / "pets", split) for split in SPLITS)
    assert train.class_names == test.class_names == ("cat", "dog", "one")
    assert train.labels.bincount(minlength=3).tolist() == [18, 10, 1]
    assert test.labels.bincount(minlength=3).tolist() == [2, 1, 0]
    assert train.images.shape == (29, 3, 16, 16)           # all alike and small: as they are
    shown = [{x.numpy().tobytes() for x in part.images} for part in (train, test)]
    assert shown[0].isdisjoint(shown[1]) and len(shown[0] | shown[1]) == 32
    # in the place of its label each has one of its class's pictures
    for part in (train, test):
        for image, label in zip(part.images, part.labels.tolist(), strict=True):
            seeds = range(100 * label, 100 * label + 20)
            shown = image.permute(1, 2, 0)
            assert any(np.array_equal(shown, noise(16, 16, 3, seed=seed)) for seed in seeds)
    assert train.captions[0] == "a photo of cat"
    again = read_files(list_files(tmp_path / "pets"))
    assert torch.equal(again["test"].images, test.images)


def test_folder_with_splits_and_one_class(tmp_path):
    for split, seed in (("train", 0), ("test", 1)):
        save_image(tmp_path / "flowers" / split / "a.png", noise(24, 24, seed=seed))
    train = load(tmp_path / "flowers")
    assert train.class_names == ("flowers",) and train.images.shape == (1, 1, 24, 24)
    assert np.array_equal(load(tmp_path / "flowers", "test").images[0, 0], noise(24, 24, seed=1))
    assert load(tmp_path / "flowers", size=16).images.shape == (1, 1, 16, 16)


def test_classes_of_test_must_be_classes_of_train(tmp_path):
    save_image(tmp_path / "x" / "train" / "cat" / "a.png", noise(8, 8))
    save_image(tmp_path / "x" / "test" / "cow" / "a.png", noise(8, 8))
    with pytest.raises(MinildmError, match="test/ has classes that train/ has not: cow"):
        load(tmp_path / "x")


@pytest.mark.parametrize("empty", SPLITS)
def test_a_split_without_pictures_is_known_at_once(tmp_path, empty):
    """By whoever asks for the other one: a training must not end with it."""
    for split in SPLITS:
        save_image(tmp_path / "x" / split / "cat" / "a.png", noise(8, 8))
    (tmp_path / "x" / empty / "cat" / "a.png").unlink()
    for split in SPLITS:
        with pytest.raises(MinildmError, match=f"no {empty} image can be read") as caught:
            load(tmp_path / "x", split)
    assert "a tenth of" in caught.value.fix


@pytest.mark.parametrize("classes, each, sizes", [
    (1, 2, (1, 1)), (1, 10, (9, 1)), (20, 1, (18, 2)), (2, 3, (4, 2)), (300, 2, (300, 300))])
def test_small_and_many_classed_sets_have_both_splits(tmp_path, classes, each, sizes):
    for k in range(classes):
        fill(tmp_path / "x" / f"c{k:03d}", each, 8, 8, seed=k)
    train, test = (load(tmp_path / "x", split) for split in SPLITS)
    assert (len(train), len(test)) == sizes
    assert len(train.class_names) == classes and train.class_names == test.class_names


# ---- classes without pictures, and what lies beside

def test_a_class_without_a_readable_picture_is_left_out_and_named(tmp_path):
    for name in ("cat", "dog"):
        fill(tmp_path / "x" / name, 12, 8, 8)
    for name, file in (("annotations", "0.xml"), ("phone", "0.heic")):
        (tmp_path / "x" / name).mkdir()
        (tmp_path / "x" / name / file).write_bytes(b"\0\0\0\x18ftypheic")
    for _ in range(2):                                      # read, then from the cache
        with pytest.warns(UserWarning) as said:
            found = load(tmp_path / "x")
        assert found.class_names == ("cat", "dog") and found.labels.bincount().tolist() == [10, 10]
        lines = "\n".join(str(warning.message) for warning in said)
        assert "no picture in it can be read: annotations, phone" in lines


def test_pictures_beside_classes_are_skipped_but_beside_notes_they_are_the_set(tmp_path):
    fill(tmp_path / "x", 12, 8, 8)
    (tmp_path / "x" / "notes").mkdir()
    (tmp_path / "x" / "notes" / "a.txt").write_text("no picture")
    with pytest.warns(UserWarning):
        found = load(tmp_path / "x")
    assert found.class_names == ("x",) and len(found) == 10
    fill(tmp_path / "x" / "cat", 4, 8, 8)
    with pytest.warns(UserWarning):
        found = load(tmp_path / "x")
    assert found.class_names == ("cat",)
    assert sum("it lies beside" in line for line in found.skipped) == 12


def test_validation_folders_are_named(tmp_path):
    for name in ("Train", "valid"):
        fill(tmp_path / "x" / name / "cat", 2, 8, 8)
    with pytest.warns(UserWarning, match="valid/ is taken for the test split"):
        found = load(tmp_path / "x", "test")
    assert found.class_names == ("cat",) and len(found) == 2


def test_a_folder_that_cannot_be_entered_is_named(tmp_path, monkeypatch):
    fill(tmp_path / "x" / "cat", 2, 8, 8)
    fill(tmp_path / "x" / "dog", 2, 8, 8)
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.warns(UserWarning, match="dog can't be entered: Permission denied"):
        assert load(tmp_path / "x").class_names == ("cat",)
    with pytest.raises(MinildmError, match="can't be listed"):
        list_files(tmp_path / "x" / "dog")


def test_bad_files_are_skipped_counted_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 64 * 64)
    pets = tmp_path / "pets"
    for i in range(12):
        save_image(pets / "cat" / f"good{i}.jpg", noise(48, 48, 3, seed=i))
    raw = (pets / "cat" / "good0.jpg").read_bytes()
    (pets / "cat" / "cut.jpg").write_bytes(raw[:len(raw) * 2 // 3])
    (pets / "cat" / "notes.txt").write_text("not a picture")
    (pets / "cat" / "empty.png").touch()
    (pets / "cat" / "vector.svg").write_text("<svg/>")
    (pets / "cat" / "gone.png").symlink_to(tmp_path / "nothing")
    (pets / "cat" / "loop").symlink_to(pets)
    (pets / "cat" / ".hidden").write_text("left alone")
    save_image(pets / "cat" / "huge.png", noise(65, 64))
    save_image(pets / "cat" / "float.tif", Image.new("F", (32, 32), 0.5))
    # Pillow could read it, but it is not in FORMATS
    save_image(pets / "cat" / "other.tga", noise(32, 32))
    save_image(pets / "loose.png", noise(32, 32))
    os.mkfifo(pets / "cat" / "pipe")
    (pets / "cat" / "zero.png").symlink_to("/dev/zero")
    names = {"cut.jpg", "notes.txt", "empty.png", "vector.svg", "gone.png", "huge.png", "float.tif",
             "pipe", "loose.png", "other.tga", "zero.png"}
    for _ in range(2):                                      # read, then from the cache
        with pytest.warns(UserWarning, match="pets train: 11 skipped; the first: .*: "):
            found = load(pets)
        assert {Path(line.split(": ")[0]).name for line in found.skipped} == names
        assert len(found.skipped) == 11
        # float.tif and loose.png had other sizes, but are none of the set's pictures
        assert found.images.shape == (10, 3, 48, 48) and len(load(pets, "test")) == 2


@pytest.mark.parametrize("file", [None, "notes.txt"])
def test_nothing_to_read_is_an_error(tmp_path, file):
    (tmp_path / "x").mkdir()
    if file:
        (tmp_path / "x" / file).write_text("not a picture")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data.sets.warnings, "warn", lambda *args, **kwargs: None)
        with pytest.raises(MinildmError, match="no train image") as caught:
            load(tmp_path / "x")
    assert "JPEG" in caught.value.fix
    with pytest.raises(MinildmError, match="no such folder"):
        load(tmp_path / "y")
    assert data.available(f"folder:{tmp_path / 'x'}")
    assert not data.available(f"folder:{tmp_path / 'y'}")


# ---- names

@pytest.mark.parametrize("name", [b"caf\xe9", rb"$\frac{1}{", b"a_b^c", b"{}", b"{0.x}",
                                  "漢字".encode()])
def test_any_name_of_a_class_is_read_and_stays_as_it_is(tmp_path, name):
    name = os.fsdecode(name)
    fill(tmp_path / "x" / name, 2, 8, 8)
    (tmp_path / "x" / name / os.fsdecode(b"bad\xff.png")).touch()
    for _ in range(2):                                      # read, then from the cache
        with pytest.warns(UserWarning, match="1 skipped"):
            found = load(tmp_path / "x")
        assert found.class_names == (name,) and len(found) == 1
        assert found.captions == [f"a photo of {name}"]
        assert found.skipped[0].encode() and data.printable(name).encode()


def test_any_name_of_the_folder_itself(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff$x$")
    fill(folder, 2, 8, 8)
    assert load(folder).class_names == (folder.name,)
    with pytest.raises(MinildmError) as caught:
        load(tmp_path / os.fsdecode(b"\xfe"))
    assert str(caught.value).encode()


# ---- sizes

@pytest.mark.parametrize("shape, side, said", [
    ((28, 28), 28, None), ((64, 64), 64, None), ((20, 30), 32, None),
    ((128, 128), 32, "x: 128×128 pictures are resized to 32; pass size=64 or 128 to keep more"),
    ((100, 80), 32, "80×100 pictures are cropped to squares and resized to 32; pass size=64 "),
    ((40, 48), 32, "48×40 pictures are cropped to squares and resized to 32; pass size=40 ")])
def test_the_usual_size_and_the_line_that_says_so(tmp_path, shape, side, said):
    fill(tmp_path / "x", 4, *shape)
    for _ in range(2):                                      # read, then from the cache
        if said is None:
            found = load(tmp_path / "x")
        else:
            with pytest.warns(UserWarning, match=said):
                found = load(tmp_path / "x")
        assert found.images.shape == (3, 1, side, side)
        assert (found.channels, found.size) == (1, side)


@pytest.mark.parametrize("size", [8, 64, 128])
def test_a_size_that_was_asked_for_needs_no_words(tmp_path, size):
    fill(tmp_path / "x", 4, 130, 140, 3)
    assert load(tmp_path / "x", size=size).images.shape == (3, 3, size, size)


def test_one_size_and_one_number_of_channels_for_both_splits(tmp_path):
    save_image(tmp_path / "x" / "train" / "a" / "0.png", noise(40, 40))
    save_image(tmp_path / "x" / "test" / "a" / "0.png", noise(20, 30, 3))
    for split in SPLITS:
        assert load(tmp_path / "x", split).images.shape == (1, 3, 32, 32)


def test_grey_pictures_before_a_coloured_one_stay_what_they_are(tmp_path):
    fill(tmp_path / "x" / "train", 5, 8, 8)
    save_image(tmp_path / "x" / "train" / "z.png", noise(8, 8, 3))
    save_image(tmp_path / "x" / "test" / "a.png", noise(8, 8, seed=9))
    found = load(tmp_path / "x")
    for i in range(5):
        assert (found.images[i] == torch.from_numpy(noise(8, 8, seed=i))).all()
    assert np.array_equal(found.images[5].permute(1, 2, 0), noise(8, 8, 3))
    assert load(tmp_path / "x", "test").images.shape == (1, 3, 8, 8)


def test_what_does_not_fit_into_memory_is_refused_before_reading(tmp_path, monkeypatch):
    fill(tmp_path / "x", 2, 8, 8)

    def zeros(*args):
        raise MemoryError

    monkeypatch.setattr(files.np, "zeros", zeros)
    with pytest.raises(MinildmError, match="2 pictures of 2048×2048 don't fit") as caught:
        load(tmp_path / "x", size=2048)
    assert "smaller size" in caught.value.fix


def test_reading_takes_little_more_memory_than_the_pictures(tmp_path):
    """Of arrays; Pillow's own memory is in benchmarks/folder_memory.py."""
    n = 400
    fill(tmp_path / "x", n, 64, 64, 3)
    listing = list_files(tmp_path / "x")
    read_files(listing)                                     # imports and caches of the first time
    tracemalloc.start()
    read_files(listing)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * n * 3 * 64 * 64


def test_folder_cache_follows_every_file(tmp_path):
    for i in range(4):
        save_image(tmp_path / "x" / f"{i}.png", np.full((8, 8), i, np.uint8))

    def levels():
        parts = [load(tmp_path / "x", split) for split in SPLITS]
        return sorted(level for part in parts for level in part.images[:, 0, 0, 0].tolist())

    assert levels() == [0, 1, 2, 3]
    save_image(tmp_path / "x" / "2.png", np.full((8, 8), 9, np.uint8))
    assert levels() == [0, 1, 3, 9]
    (tmp_path / "x" / "0.png").unlink()
    assert levels() == [1, 3, 9]
