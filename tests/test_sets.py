"""Sets are loaded by name, never swapped, and what is missing is named with its cure."""

import os
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from support.images import noise, save_image, write_mnist

from minildm import MinildmError, data
from minildm.data import sets
from minildm.data.wordings import wordings

pytestmark = [pytest.mark.filterwarnings("error"),      # a warning must be asked for
              pytest.mark.filterwarnings("ignore:.*not the published ones")]


def real(name):
    there = "MINILDM_DATA" in os.environ and data.available(name)
    return pytest.mark.skipif(not there, reason=f"MINILDM_DATA holds no {name}")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


# ---- sets of images

def test_subset_and_captions():
    images = torch.arange(50, dtype=torch.uint8).view(50, 1, 1, 1)
    found = data.ImageSet("cifar10", "test", images, torch.arange(50) % 10, sets.CLASSES["cifar10"])
    part = found.subset(8, seed=1)
    assert len(part) == 8 == len(set(part.images.flatten().tolist()))
    assert torch.equal(part.images.flatten() % 10, part.labels)
    assert torch.equal(part.images, found.subset(8, seed=1).images)
    assert not torch.equal(part.images, found.subset(8, seed=2).images)
    assert len(found.subset(99)) == 50 and (found.channels, found.size) == (1, 1)
    assert found.captions[0] == "a photo of an airplane"
    assert found.captions[18] == "a photo of a ship"
    assert found.to("meta").images.device.type == found.to("meta").labels.device.type == "meta"


@pytest.mark.parametrize("name", sets.DATA_SETS)
def test_all_of_a_set_follows_from_its_row(name):
    """Its name among the known, its classes, and a sentence for each class."""
    row = sets.DATA_SETS[name]
    assert name in data.NAMES and sets.CLASSES[name] == row.class_names
    n = len(row.class_names)
    found = data.ImageSet(name, "train", torch.zeros(n, 1, 2, 2), torch.arange(n), row.class_names)
    rows = zip(row.class_names, found.captions, wordings(found), strict=True)
    for name, caption, sentences in rows:
        assert name in caption and all(name in sentence for sentence in sentences)


def test_a_new_set_is_one_row(tmp_path, monkeypatch):
    class Stripes(sets.Drawn):
        def source(self, root):
            images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
            part = sets.Part(images, torch.arange(2), ("a", "b"))
            return sets.Source(["stripes"], lambda: {"train": part, "test": part})

    row = sets.DataSet("stripes", ("a", "b"), "the stripe {}", Stripes())
    monkeypatch.setitem(sets.DATA_SETS, "stripes", row)
    assert data.available("stripes", root=tmp_path)
    assert data.load("stripes", root=tmp_path).captions == ["the stripe a", "the stripe b"]


# ---- names, roots, networks

@pytest.mark.parametrize("name", ["mnst", "", "folder:", "CIFAR10", "m\udcff"])
def test_unknown_names_list_the_known(tmp_path, name):
    assert not data.available(name, root=tmp_path)
    with pytest.raises(MinildmError) as caught:
        data.load(name, root=tmp_path)
    assert all(known in caught.value.fix for known in data.NAMES) and str(caught.value).encode()


@pytest.mark.parametrize("name", ["folder:~nobody-of-this-name/x", "folder:a\0b",
                                  "folder:" + "a" * 5000])
def test_paths_that_cannot_be_are_answered(tmp_path, name):
    for ask in (data.load, lambda name: data.available(name) or data.load(name)):
        with pytest.raises(MinildmError) as caught:
            ask(name)
        assert caught.value.fix


def test_bad_arguments(tmp_path):
    write_mnist(tmp_path)
    for wrong in (dict(split="valid"), dict(size=32), dict(pad=20)):
        with pytest.raises(MinildmError):
            data.load("mnist", root=tmp_path, **wrong)
    for size in (0, -1, 10**9):
        with pytest.raises(MinildmError, match=f"size={size}"):
            data.load(f"folder:{tmp_path}", root=tmp_path, size=size)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_no_network_is_a_quick_error_with_the_cure(tmp_path, no_network, name):
    assert not data.available(name, root=tmp_path)
    with pytest.raises(MinildmError, match=f"{name} is missing.*name resolution") as caught:
        data.load(name, root=tmp_path)
    assert "MINILDM_DATA" in caught.value.fix and "glyphs" in caught.value.fix
    with pytest.raises(MinildmError, match="download=False"):
        data.load(name, root=tmp_path, download=False)


def test_lessons_fall_back_on_glyphs_with_a_reason_but_not_on_damage(tmp_path, no_network,
                                                                    monkeypatch):
    monkeypatch.setenv("MINILDM_DATA", str(tmp_path))
    with pytest.warns(UserWarning, match="mnist is missing.*name resolution.*glyphs"):
        assert data.default() == "glyphs"
    write_mnist(tmp_path)
    assert data.default() == "mnist"
    (tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte").write_bytes(b"cut")
    with pytest.raises(MinildmError, match="damaged"):
        data.default()


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


def test_a_user_without_a_home_is_told_what_to_set(tmp_path, monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MINILDM_DATA", raising=False)
    monkeypatch.setattr(sets, "__file__", str(tmp_path / "lib" / "minildm" / "data" / "sets.py"))
    monkeypatch.setattr(Path, "home", home)
    for ask in (data.data_root, lambda: data.load("glyphs"), lambda: data.available("mnist")):
        with pytest.raises(MinildmError) as caught:
            ask()
        assert "set MINILDM_DATA" in caught.value.fix


# ---- the real sets, where they are

@real("mnist")
@pytest.mark.filterwarnings("error:.*not the published ones")
def test_real_mnist():
    train, test = data.load("mnist"), data.load("mnist", "test")
    assert (len(train), len(test)) == (60_000, 10_000) and train.labels.bincount().min() == 5421
    pixels = train.images.float() / 255
    assert (round(pixels.mean().item(), 4), round(pixels.std().item(), 4)) == (0.1307, 0.3081)
    start = time.process_time()                            # of this process: others may be busy
    data.load("mnist", pad=32)
    assert time.process_time() - start < 1


@real("mnist")
def test_a_flipped_bit_in_real_mnist_is_found(tmp_path):
    source = data.data_root() / "MNIST" / "raw"
    copy = tmp_path / "MNIST" / "raw"
    copy.mkdir(parents=True)
    for path in source.glob("*-ubyte"):
        (copy / path.name).symlink_to(path)
    images = copy / "t10k-images-idx3-ubyte"
    raw = bytearray(images.read_bytes())
    raw[4_000_000] ^= 16
    images.unlink()
    images.write_bytes(raw)
    with pytest.raises(MinildmError, match="t10k-images-idx3-ubyte is damaged"):
        data.load("mnist", root=tmp_path)


@real("cifar10")
@pytest.mark.slow
def test_real_cifar():
    start = time.process_time()                            # of this process: others may be busy
    train = data.load("cifar10")
    assert time.process_time() - start < 120               # two cores for a minute
    assert train.images.shape == (50_000, 3, 32, 32)
    assert train.labels.bincount().tolist() == [5000] * 10
    start = time.process_time()
    assert len(data.load("cifar10", "test")) == 10_000 and len(data.load("cifar10")) == 50_000
    assert time.process_time() - start < 5                 # from the cache


def test_warnings_point_to_the_callers_line(tmp_path):
    for i in range(2):
        save_image(tmp_path / "x" / f"{i}.png", noise(128, 128))
    with pytest.warns(UserWarning) as said:
        data.load(f"folder:{tmp_path / 'x'}", root=tmp_path)
    assert said[0].filename == __file__
