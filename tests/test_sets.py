"""Sets are read exactly, kept safely and never swapped; what is broken is named with its cure."""

import os
import pickle
import shutil
import struct
import sys
import time
import urllib.error
import urllib.request
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minildm import MinildmError, data
from minildm.data import files as sources
from minildm.data import glyphs, sets, wordings

pytestmark = pytest.mark.filterwarnings("error")  # a warning must be asked for


def real(name):
    there = "MINILDM_DATA" in os.environ and data.available(name)
    return pytest.mark.skipif(not there, reason=f"MINILDM_DATA holds no {name}")


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    path.write_bytes(header + array.tobytes())


def write_mnist(root, folder="MNIST", seed=0):
    """Twenty train and ten test images of noise; returns the train images."""
    images = noise(30, 28, 28, seed=seed)
    for part, its in (("train", images[:20]), ("t10k", images[20:])):
        write_idx(root / folder / "raw" / f"{part}-images-idx3-ubyte", its)
        labels = np.arange(len(its), dtype=np.uint8) % 10
        write_idx(root / folder / "raw" / f"{part}-labels-idx1-ubyte", labels)
    return images[:20]


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


# ---- tensors

def test_float_and_back_is_exact_for_all_256_levels():
    levels = torch.arange(256, dtype=torch.uint8)
    floats = data.to_float(levels)
    assert floats.min() == -1 and floats.max() == 1
    assert torch.equal(data.to_uint8(floats), levels)
    assert data.to_uint8(torch.tensor([-9.0, 9.0, 0.9 / 127.5 - 1])).tolist() == [0, 255, 1]
    assert torch.equal(data.to_uint8(floats.bfloat16()[[0, 255]]), levels[[0, 255]])
    with pytest.raises(MinildmError, match="float32"):
        data.to_float(floats)


@pytest.mark.parametrize("size, larger", [(28, 32), (27, 32), (5, 6)])
def test_crop_undoes_pad_and_the_border_is_black(size, larger):
    images = torch.randint(1, 256, (2, 3, size, size), dtype=torch.uint8)
    padded = data.pad_to(images, larger)
    assert padded.shape == (2, 3, larger, larger) and padded.sum() == images.sum()
    assert torch.equal(data.crop_to(padded, size), images)
    assert torch.equal(data.pad_to(data.to_float(images), larger), data.to_float(padded))
    with pytest.raises(MinildmError, match="crop_to"):
        data.pad_to(padded, size)
    with pytest.raises(MinildmError, match="pad_to"):
        data.crop_to(images, larger)


def test_subset_and_captions():
    images = torch.arange(50, dtype=torch.uint8).view(50, 1, 1, 1)
    found = data.ImageSet("cifar10", "test", images, torch.arange(50) % 10, sets.CLASSES["cifar10"])
    part = found.subset(8, seed=1)
    assert len(part) == 8 == len(set(part.images.flatten().tolist()))
    assert torch.equal(part.images.flatten() % 10, part.labels)
    assert torch.equal(part.images, found.subset(8, seed=1).images)
    assert not torch.equal(part.images, found.subset(8, seed=2).images)
    assert len(found.subset(99)) == 50
    assert found.captions[0] == "a photo of an airplane" and found.captions[18] == "a photo of a ship"
    assert found.to("meta").images.device.type == found.to("meta").labels.device.type == "meta"


# ---- published sets

@pytest.mark.parametrize("name, folder", [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_idx_files_are_read_exactly(tmp_path, name, folder):
    expected = write_mnist(tmp_path, folder)
    found = data.load(name, root=tmp_path)
    assert found.images.dtype == torch.uint8 and found.labels.dtype == torch.int64
    assert np.array_equal(found.images[:, 0].numpy(), expected)
    assert found.labels.tolist() == [i % 10 for i in range(20)]
    assert found.captions[3] == {"mnist": "the digit three", "fashion-mnist": "a photo of a dress"}[name]
    assert torch.equal(data.crop_to(data.load(name, root=tmp_path, pad=32).images, 28), found.images)
    assert len(data.load(name, "test", root=tmp_path)) == 10


def test_idx_reader_agrees_with_torchvision(tmp_path):
    from torchvision.datasets import MNIST

    write_mnist(tmp_path)
    for split in sources.SPLITS:
        ours, theirs = data.load("mnist", split, root=tmp_path), MNIST(tmp_path, train=split == "train")
        assert torch.equal(ours.images[:, 0], theirs.data) and torch.equal(ours.labels, theirs.targets)


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("damage", [lambda raw: raw[:-5], lambda raw: raw[:6], lambda raw: b"",
                                    lambda raw: raw + b"x", lambda raw: b"\x1f\x8b" + raw])
def test_damaged_idx_file_is_named(tmp_path, file, damage):
    write_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(MinildmError, match=f"{file} is damaged") as caught:
        data.load("mnist", root=tmp_path)
    assert caught.value.where == str(path) and "delete" in caught.value.fix


def test_labels_that_do_not_fit_the_images_are_refused(tmp_path):
    write_mnist(tmp_path)
    labels = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    for wrong in (np.zeros(19, np.uint8), np.full(20, 10, np.uint8)):
        write_idx(labels, wrong)
        with pytest.raises(MinildmError, match="train-labels-idx1-ubyte"):
            data.load("mnist", root=tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_no_network_is_a_quick_error_with_the_cure(tmp_path, no_network, name):
    assert not data.available(name, root=tmp_path)
    with pytest.raises(MinildmError, match=f"{name} is missing.*name resolution") as caught:
        data.load(name, root=tmp_path)
    assert "MINILDM_DATA" in caught.value.fix and "glyphs" in caught.value.fix
    with pytest.raises(MinildmError, match="download=False"):
        data.load(name, root=tmp_path, download=False)


def test_missing_files_are_downloaded_into_the_root(tmp_path, monkeypatch):
    monkeypatch.setattr(sets, "_torchvision", lambda name, root, download: write_mnist(root))
    assert len(data.load("mnist", root=tmp_path / "new")) == 20
    assert data.available("mnist", root=tmp_path / "new")


def test_cifar_archive_is_read_exactly_and_checked(tmp_path, monkeypatch, no_network):
    from torchvision.datasets import CIFAR10

    images, entries, root = noise(6, 3, 32, 32), [], tmp_path / "root"
    (root / "cifar-10-batches-py").mkdir(parents=True)
    for i, file in enumerate(["data_batch_1", "data_batch_2", "test_batch", "batches.meta"]):
        part = {"data": images[2 * i:2 * i + 2].reshape(-1, 3072), "labels": [i, 9], "label_names": []}
        (root / "cifar-10-batches-py" / file).write_bytes(pickle.dumps(part))
        entries.append([file, md5(pickle.dumps(part)).hexdigest()])
    monkeypatch.setattr(CIFAR10, "train_list", entries[:2])
    monkeypatch.setattr(CIFAR10, "test_list", entries[2:3])
    monkeypatch.setattr(CIFAR10, "meta", dict(filename=entries[3][0], key="label_names", md5=entries[3][1]))
    assert data.available("cifar10", root=root)
    found = data.load("cifar10", root=root, download=False)
    assert np.array_equal(found.images.numpy(), images[:4]) and found.labels.tolist() == [0, 9, 1, 9]
    assert np.array_equal(data.load("cifar10", "test", root=root).images.numpy(), images[4:])
    shutil.rmtree(root / "cache")
    for file in ("cifar-10-batches-py/data_batch_2", "cifar-10-python.tar.gz"):
        (root / file).write_bytes(b"cut off")              # the archive comes first: it is what gets unpacked
        with pytest.raises(MinildmError, match=f"{file} is damaged"):
            data.load("cifar10", root=root)


def test_cifar_folder_needs_its_ten_classes(tmp_path):
    for split in sources.SPLITS:
        for i, name in enumerate(sets.CLASSES["cifar10"]):
            save(tmp_path / "cifar10" / split / name / "0.png", noise(32, 32, 3, seed=i))
    found = data.load("cifar10", root=tmp_path)
    assert found.images.shape == (10, 3, 32, 32) and found.labels.tolist() == list(range(10))
    assert np.array_equal(found.images[8].permute(1, 2, 0).numpy(), noise(32, 32, 3, seed=8))
    for split in sources.SPLITS:
        (tmp_path / "cifar10" / split / "truck").rename(tmp_path / "cifar10" / split / "lorry")
    with pytest.raises(MinildmError, match="lorry") as caught:
        data.load("cifar10", root=tmp_path)
    assert "truck" in caught.value.fix


# ---- names, roots, cache

@pytest.mark.parametrize("name", ["mnst", "", "folder:", "CIFAR10"])
def test_unknown_names_list_the_known(tmp_path, name):
    assert not data.available(name, root=tmp_path)
    with pytest.raises(MinildmError) as caught:
        data.load(name, root=tmp_path)
    assert all(known in caught.value.fix for known in data.NAMES)


def test_bad_arguments(tmp_path):
    write_mnist(tmp_path)
    for wrong in (dict(split="valid"), dict(size=32), dict(pad=20)):
        with pytest.raises(MinildmError):
            data.load("mnist", root=tmp_path, **wrong)
    with pytest.raises(MinildmError, match="size=0"):
        data.load(f"folder:{tmp_path}", root=tmp_path, size=0)


def test_root_is_argument_then_environment_then_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILDM_DATA", str(tmp_path / "env"))
    assert data.data_root(tmp_path / "arg") == tmp_path / "arg"
    assert data.data_root() == tmp_path / "env"
    monkeypatch.delenv("MINILDM_DATA")
    monkeypatch.setattr(sets, "__file__", str(tmp_path / "clone" / "minildm" / "data" / "sets.py"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert data.data_root() == tmp_path / ".cache" / "minildm"
    (tmp_path / "clone" / "data").mkdir(parents=True)
    assert data.data_root() == tmp_path / ".cache" / "minildm"  # some other package's data/
    (tmp_path / "clone" / "pyproject.toml").touch()
    assert data.data_root() == tmp_path / "clone" / "data"


def test_second_start_reads_the_cache_only(tmp_path, monkeypatch):
    write_mnist(tmp_path)
    first = data.load("mnist", root=tmp_path)
    monkeypatch.setattr(sets, "_read_idx", lambda *args: pytest.fail("read again"))
    monkeypatch.setitem(sys.modules, "torchvision", None)  # importing it fails now
    again = data.load("mnist", root=tmp_path)
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    assert again.class_names == wordings.DIGITS and again.skipped == ()


def test_changed_files_are_read_again_without_a_word(tmp_path):
    write_mnist(tmp_path)
    data.load("mnist", root=tmp_path)
    expected = write_mnist(tmp_path, seed=1)
    assert np.array_equal(data.load("mnist", root=tmp_path).images[:, 0].numpy(), expected)


@pytest.mark.parametrize("position", [0.1, 0.5, 0.99])
def test_damaged_cache_is_read_again_and_said(tmp_path, position):
    expected = write_mnist(tmp_path)
    data.load("mnist", root=tmp_path)
    [kept] = (tmp_path / "cache" / "mnist-train").glob("*.safetensors")
    raw = bytearray(kept.read_bytes())
    raw[int(position * len(raw))] ^= 1
    kept.write_bytes(raw)
    with pytest.warns(UserWarning, match="damaged.*reading the images again"):
        found = data.load("mnist", root=tmp_path)
    assert np.array_equal(found.images[:, 0].numpy(), expected)
    assert np.array_equal(data.load("mnist", root=tmp_path).images[:, 0].numpy(), expected)  # and made anew


def test_cache_that_cannot_be_written_costs_a_warning_only(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="no copy of mnist kept"):
        assert len(data.load("mnist", root=tmp_path)) == 20


# ---- anyone's images

def test_folder_without_splits_keeps_a_tenth_of_each_class_for_test(tmp_path):
    for name, n in (("cat", 20), ("dog", 11), ("one", 1)):
        for i in range(n):
            save(tmp_path / "pets" / name / f"{i}.png", noise(16, 16, 3, seed=hash((name, i)) % 2**32))
    train, test = (data.load(f"folder:{tmp_path / 'pets'}", split, root=tmp_path) for split in sources.SPLITS)
    assert train.class_names == test.class_names == ("cat", "dog", "one")
    assert train.labels.bincount(minlength=3).tolist() == [18, 10, 1]
    assert test.labels.bincount(minlength=3).tolist() == [2, 1, 0]
    assert train.images.shape == (29, 3, 16, 16)           # all alike and small: as they are
    assert {x.numpy().tobytes() for x in train.images}.isdisjoint(x.numpy().tobytes() for x in test.images)
    assert train.captions[0] == "a photo of cat"
    again = sources.read_files(sources.list_files(tmp_path / "pets"), "pets")
    assert torch.equal(again["test"][0], test.images)


def test_folder_with_splits_and_one_class(tmp_path):
    for split, seed in (("train", 0), ("test", 1)):
        save(tmp_path / "flowers" / split / "a.png", noise(48, 40, seed=seed))
    train = data.load(f"folder:{tmp_path / 'flowers'}", root=tmp_path)
    assert train.class_names == ("flowers",) and train.images.shape == (1, 1, 32, 32)
    assert data.load(f"folder:{tmp_path / 'flowers'}", root=tmp_path, size=24).images.shape == (1, 1, 24, 24)
    (tmp_path / "flowers" / "test" / "a.png").rename(tmp_path / "a.png")
    (tmp_path / "flowers" / "test").rmdir()
    with pytest.raises(MinildmError, match="train/ but not"):
        data.load(f"folder:{tmp_path / 'flowers'}", root=tmp_path)


def test_classes_of_test_must_be_classes_of_train(tmp_path):
    save(tmp_path / "x" / "train" / "cat" / "a.png", noise(8, 8))
    save(tmp_path / "x" / "test" / "cow" / "a.png", noise(8, 8))
    with pytest.raises(MinildmError, match="test/ has classes that train/ has not: cow"):
        data.load(f"folder:{tmp_path / 'x'}", root=tmp_path)


def test_one_size_and_one_number_of_channels_for_both_splits(tmp_path):
    save(tmp_path / "x" / "train" / "a" / "0.png", noise(40, 40))
    save(tmp_path / "x" / "test" / "a" / "0.png", noise(20, 30, 3))
    for split in sources.SPLITS:
        assert data.load(f"folder:{tmp_path / 'x'}", split, root=tmp_path).images.shape == (1, 3, 32, 32)


def test_longer_side_is_cropped_in_the_middle(tmp_path):
    wide = noise(20, 60, 3)
    save(tmp_path / "wide.png", wide)
    assert np.array_equal(np.asarray(sources.read_picture(tmp_path / "wide.png", 20)), wide[:, 20:40])
    save(tmp_path / "tall.png", wide.swapaxes(0, 1).repeat(2, 0).repeat(2, 1))
    half = np.asarray(sources.read_picture(tmp_path / "tall.png", 20), int)
    assert np.abs(half - wide[:, 20:40].swapaxes(0, 1)).mean() < 20    # resized by half, then the same middle


def test_sixteen_bits_keep_256_levels(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (16, 16), np.uint16)
    deep[0, :2] = 0, 65535
    save(tmp_path / "deep.png", deep)
    shown = np.asarray(sources.read_picture(tmp_path / "deep.png"))[..., 0]
    assert np.array_equal(shown, np.round(deep / 65535 * 255))


def test_odd_modes(tmp_path):
    read = sources.read_picture
    red = Image.new("RGB", (8, 8), (250, 10, 10))
    save(tmp_path / "cmyk.jpg", red.convert("CMYK"), quality=95)
    assert np.abs(np.asarray(read(tmp_path / "cmyk.jpg"), int) - [250, 10, 10]).max() <= 6
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[:4] = 0, 0, 255, 255
    save(tmp_path / "alpha.png", clear)
    picture = np.asarray(read(tmp_path / "alpha.png"))
    assert (picture[:4] == [0, 0, 255]).all() and (picture[4:] == 255).all()
    palette = Image.fromarray(noise(8, 8, 3)).quantize(8)
    save(tmp_path / "palette.png", palette, transparency=3)
    index, shown = np.asarray(palette), np.asarray(read(tmp_path / "palette.png"))
    assert (shown[index == 3] == 255).all()
    assert np.array_equal(shown[index != 3], np.asarray(palette.convert("RGB"))[index != 3])
    save(tmp_path / "bits.png", Image.fromarray(noise(8, 8) > 99))
    assert np.array_equal(np.asarray(read(tmp_path / "bits.png"))[..., 0], (noise(8, 8) > 99) * 255)


@pytest.mark.parametrize("orientation, turned", [(3, 2), (6, 3), (8, 1)])
def test_exif_turns_upright(tmp_path, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = noise(8, 8)
    save(tmp_path / "x.png", Image.fromarray(stored), exif=exif)
    shown = np.asarray(sources.read_picture(tmp_path / "x.png"))[..., 0]
    assert np.array_equal(shown, np.rot90(stored, turned))


def test_bad_files_are_skipped_counted_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_PIXELS", 64 * 64)
    pets = tmp_path / "pets"
    for i in range(12):
        save(pets / "cat" / f"good{i}.jpg", noise(32, 32, 3, seed=i))
    raw = (pets / "cat" / "good0.jpg").read_bytes()
    (pets / "cat" / "cut.jpg").write_bytes(raw[:len(raw) * 2 // 3])
    (pets / "cat" / "notes.txt").write_text("not a picture")
    (pets / "cat" / "empty.png").touch()
    (pets / "cat" / "vector.svg").write_text("<svg/>")
    (pets / "cat" / "gone.png").symlink_to(tmp_path / "nothing")
    (pets / "cat" / "loop").symlink_to(pets)
    (pets / "cat" / ".hidden").write_text("left alone")
    save(pets / "cat" / "huge.png", noise(65, 64))
    save(pets / "cat" / "float.tif", Image.new("F", (32, 32), 0.5))
    save(pets / "cat" / "other.tga", noise(32, 32))        # Pillow could read it: it is not in FORMATS
    save(pets / "loose.png", noise(32, 32))
    os.mkfifo(pets / "cat" / "pipe")
    names = {"cut.jpg", "notes.txt", "empty.png", "vector.svg", "gone.png", "huge.png", "float.tif", "pipe"}
    names |= {"loose.png", "other.tga"}
    for _ in range(2):                                     # read, then from the cache
        with pytest.warns(UserWarning, match="pets train: 10 skipped; the first: .*: "):
            found = data.load(f"folder:{pets}", root=tmp_path)
        assert {Path(line.split(": ")[0]).name for line in found.skipped} == names
        assert len(found.skipped) == 10
        assert len(found) == 10 and len(data.load(f"folder:{pets}", "test", root=tmp_path)) == 2


@pytest.mark.parametrize("file", [None, "notes.txt"])
def test_nothing_to_read_is_an_error(tmp_path, file):
    (tmp_path / "x").mkdir()
    if file:
        (tmp_path / "x" / file).write_text("not a picture")
    with pytest.raises(MinildmError, match="no train image") as caught, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sets.warnings, "warn", lambda *args, **kwargs: None)
        data.load(f"folder:{tmp_path / 'x'}", root=tmp_path)
    assert "JPEG" in caught.value.fix
    with pytest.raises(MinildmError, match="no such folder"):
        data.load(f"folder:{tmp_path / 'y'}", root=tmp_path)
    assert data.available(f"folder:{tmp_path / 'x'}") and not data.available(f"folder:{tmp_path / 'y'}")


def test_folder_cache_follows_every_file(tmp_path):
    for i in range(4):
        save(tmp_path / "x" / f"{i}.png", np.full((8, 8), i, np.uint8))

    def load():
        parts = [data.load(f"folder:{tmp_path / 'x'}", split, root=tmp_path) for split in sources.SPLITS]
        return sorted(level for part in parts for level in part.images[:, 0, 0, 0].tolist())

    assert load() == [0, 1, 2, 3]
    save(tmp_path / "x" / "2.png", np.full((8, 8), 9, np.uint8))
    assert load() == [0, 1, 3, 9]
    (tmp_path / "x" / "0.png").unlink()
    assert load() == [1, 3, 9]


# ---- glyphs

def test_distance_to_a_square_with_a_hole_is_exact():
    def square(r):
        return torch.tensor([[-r, -r], [r, -r], [r, r], [-r, r], [-r, -r]])

    points = torch.tensor([[0.0, 0.0], [0.75, 0.0], [0.0, -0.9], [2.0, 2.0], [0.4, 0.1], [-3.0, 0.2]])
    inside = glyphs._distance_inside([square(1.0), square(0.5)], points)
    torch.testing.assert_close(inside, torch.tensor([-0.5, 0.25, 0.1, -(2**0.5), -0.1, -2.0]))


def test_glyphs_are_the_same_again_and_look_like_their_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(sets, "GLYPHS", {"train": 600, "test": 200})
    monkeypatch.setattr(glyphs, "FONTS", glyphs.FONTS[::4])
    train, test = (data.load("glyphs", split, root=tmp_path) for split in sources.SPLITS)
    assert train.images.shape == (600, 1, 28, 28) and test.labels.bincount().tolist() == [20] * 10
    assert train.captions[7] == "the digit seven" and data.available("glyphs", root=tmp_path)
    assert torch.equal(glyphs.draw_glyphs({"train": 1, "test": 200})["test"][0], test.images)
    assert not torch.equal(train.images[:200], test.images)
    ink = data.to_float(train.images).add(1).div(2).mean((1, 2, 3))
    assert ink.min() > 0.03 and ink.max() < 0.45                     # neither vanished nor flooded
    assert (train.images > 0).float().mean((0, 1))[[0, -1]].max() < 0.05        # nothing is cut off
    x, y = (part.images.flatten(1).float() for part in (train, test))
    means = torch.stack([x[train.labels == k].mean(0) for k in range(10)])
    assert (torch.cdist(y, means).argmin(1) == test.labels).float().mean() > 0.6


# ---- the real sets, where they are

@real("mnist")
def test_real_mnist():
    train, test = data.load("mnist"), data.load("mnist", "test")
    assert (len(train), len(test)) == (60_000, 10_000) and train.labels.bincount().min() == 5421
    pixels = train.images.float() / 255
    assert (round(pixels.mean().item(), 4), round(pixels.std().item(), 4)) == (0.1307, 0.3081)
    start = time.process_time()                            # of this process: others may be busy
    data.load("mnist", pad=32)
    assert time.process_time() - start < 1


@real("cifar10")
@pytest.mark.slow
def test_real_cifar():
    start = time.process_time()                            # of this process: others may be busy
    train = data.load("cifar10")
    assert time.process_time() - start < 120               # two cores for a minute
    assert train.images.shape == (50_000, 3, 32, 32) and train.labels.bincount().tolist() == [5000] * 10
    start = time.process_time()
    assert len(data.load("cifar10", "test")) == 10_000 and len(data.load("cifar10")) == 50_000
    assert time.process_time() - start < 5                 # from the cache
