"""idx files are read exactly; published ones that are damaged or misplaced are refused."""

import hashlib
import os

import numpy as np
import pytest
import torch
from support.images import noise, write_idx, write_mnist

from minildm import MinildmError, data
from minildm.data import idx
from minildm.data.splits import SPLITS

pytestmark = [pytest.mark.filterwarnings("error"),
              pytest.mark.filterwarnings("ignore:.*not the published ones")]
RAW = "MNIST/raw"


def mnist_is_there():
    return "MINILDM_DATA" in os.environ and data.available("mnist")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A small MNIST and a small Fashion-MNIST that count as the published ones; the root."""
    known = {}
    for seed, folder in enumerate(idx.PUBLISHED):
        write_mnist(tmp_path, folder, seed=seed)
        # other labels than the other set's, as the real ones have
        for part, n in (("train", 20), ("t10k", 10)):
            labels = (np.arange(n, dtype=np.uint8) + seed) % 10
            write_idx(tmp_path / folder / "raw" / f"{part}-labels-idx1-ubyte", labels)
        paths = idx.IdxFiles(folder, ()).paths(tmp_path)
        known[folder] = tuple(hashlib.md5(path.read_bytes()).hexdigest() for path in paths)
    monkeypatch.setattr(idx, "PUBLISHED", known)
    return tmp_path


@pytest.mark.parametrize("name, folder", [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_idx_files_are_read_exactly(tmp_path, name, folder):
    expected = write_mnist(tmp_path, folder)
    found = data.load(name, root=tmp_path)
    assert found.images.dtype == torch.uint8 and found.labels.dtype == torch.int64
    assert np.array_equal(found.images[:, 0].numpy(), expected)
    assert found.labels.tolist() == [i % 10 for i in range(20)]
    sentences = {"mnist": "the digit three", "fashion-mnist": "a photo of a dress"}
    assert found.captions[3] == sentences[name]
    padded = data.load(name, root=tmp_path, pad=32)
    assert torch.equal(data.crop_to(padded.images, 28), found.images)
    assert len(data.load(name, "test", root=tmp_path)) == 10


def test_idx_reader_agrees_with_torchvision(tmp_path):
    from torchvision.datasets import MNIST

    write_mnist(tmp_path)
    for split in SPLITS:
        ours = data.load("mnist", split, root=tmp_path)
        theirs = MNIST(tmp_path, train=split == "train")
        assert torch.equal(ours.images[:, 0], theirs.data)
        assert torch.equal(ours.labels, theirs.targets)


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("damage", [lambda raw: raw[:-5], lambda raw: raw[:6], lambda raw: b"",
                                    lambda raw: raw + b"x", lambda raw: b"\x1f\x8b" + raw])
def test_damaged_idx_file_is_named(tmp_path, file, damage):
    write_mnist(tmp_path)
    path = tmp_path / RAW / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(MinildmError, match=f"{file} is damaged") as caught:
        data.load("mnist", root=tmp_path)
    assert caught.value.where == str(path) and "delete" in caught.value.fix


def test_labels_that_do_not_fit_the_images_are_refused(tmp_path):
    write_mnist(tmp_path)
    labels = tmp_path / RAW / "train-labels-idx1-ubyte"
    for wrong in (np.zeros(19, np.uint8), np.full(20, 10, np.uint8)):
        write_idx(labels, wrong)
        with pytest.raises(MinildmError, match="train-labels-idx1-ubyte"):
            data.load("mnist", root=tmp_path)


def test_other_sides_are_refused(tmp_path):
    write_mnist(tmp_path)
    write_idx(tmp_path / RAW / "train-images-idx3-ubyte", noise(20, 14, 56))
    with pytest.raises(MinildmError, match="14×56, not 28×28"):
        data.load("mnist", root=tmp_path)


def test_every_flipped_bit_of_a_published_file_is_found(published):
    draw = np.random.default_rng(0)
    for _ in range(40):
        path = published / RAW / idx.FILES[draw.integers(4)]
        whole = path.read_bytes()
        raw = bytearray(whole)
        raw[draw.integers(len(raw))] ^= 1 << draw.integers(8)
        path.write_bytes(raw)
        with pytest.raises(MinildmError, match="is damaged") as caught:
            data.load("mnist", root=published)
        assert path.name in str(caught.value)
        path.write_bytes(whole)
    assert len(data.load("mnist", root=published)) == 20


def test_zeroed_blocks_are_found(published):
    path = published / RAW / "train-images-idx3-ubyte"
    raw = path.read_bytes()
    path.write_bytes(raw[:4096] + bytes(4096) + raw[8192:])
    with pytest.raises(MinildmError, match="train-images-idx3-ubyte is damaged"):
        data.load("mnist", root=published)


def test_train_and_test_in_each_others_place_are_refused(published):
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        train, test = (published / RAW / f"{part}-{kind}" for part in ("train", "t10k"))
        first, second = train.read_bytes(), test.read_bytes()
        train.write_bytes(second)
        test.write_bytes(first)
    with pytest.raises(MinildmError, match="is MNIST's t10k-images-idx3-ubyte under another name"):
        data.load("mnist", root=published)


def test_one_set_under_anothers_name_is_refused(published):
    for file in idx.FILES:
        (published / "FashionMNIST/raw" / file).write_bytes((published / RAW / file).read_bytes())
    with pytest.raises(MinildmError, match="is MNIST's .* under another name"):
        data.load("fashion-mnist", root=published)


def test_published_files_are_read_without_a_word_and_others_with_a_note(published):
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr(data.sets.warnings, "warn", lambda text, **options: said.append(text))
        data.load("mnist", root=published)
        assert said == []
        write_mnist(published, seed=9)
        for part in ("train", "t10k"):
            labels = published / RAW / f"{part}-labels-idx1-ubyte"
            raw = labels.read_bytes()
            labels.write_bytes(raw[:8] + raw[:7:-1])
        for _ in range(2):          # read, then from the cache
            data.load("mnist", root=published)
    note = "mnist: the files in MNIST/raw are not the published ones, but somebody's own"
    assert said == [note] * 2


def test_a_pipe_in_a_files_place_is_no_file(tmp_path):
    write_mnist(tmp_path)
    path = tmp_path / RAW / idx.FILES[0]
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(MinildmError, match="mnist is missing"):
        data.load("mnist", root=tmp_path, download=False)


@pytest.mark.skipif("not mnist_is_there()", reason="MINILDM_DATA holds no mnist")
def test_the_published_checksums_are_those_of_real_mnist():
    paths = idx.IdxFiles("MNIST", ()).paths(data.data_root())
    found = tuple(hashlib.md5(path.read_bytes()).hexdigest() for path in paths)
    assert found == idx.PUBLISHED["MNIST"]
