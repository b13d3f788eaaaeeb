"""samples.npz is looked at before it is read: whatever others wrote, an error names a cure."""

import io
import os
import time
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from minildm import MinildmError
from minildm.data.sets import ImageSet
from minildm.samples import load_samples, save_pictures, save_samples


def reference(channels: int = 1, size: int = 8):
    images = torch.zeros(100, channels, size, size, dtype=torch.uint8)
    return ImageSet("toy", "train", images, torch.arange(100) % 3, ("a", "b", "c"))


def good(n: int = 12, channels: int = 1):
    rng = np.random.default_rng(0)
    shape = (n, 8, 8) if channels == 1 else (n, 8, 8, channels)
    return {"images": rng.integers(0, 256, shape, np.uint8), "labels": np.arange(n) % 3}


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_saved_is_what_is_loaded(channels, tmp_path):
    images = torch.randint(0, 256, (5, channels, 8, 8)).byte()
    labels = torch.tensor([0, 1, 2, 0, 1])
    save_samples(tmp_path / "deep" / "samples.npz", images, labels)
    found = load_samples(tmp_path / "deep" / "samples.npz", reference(channels))
    assert torch.equal(found[0], images) and torch.equal(found[1], labels)
    assert os.listdir(tmp_path / "deep") == ["samples.npz"]


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "uint64"])
def test_labels_of_any_integers_and_files_of_others_are_read(kind, tmp_path):
    arrays = good()
    arrays["labels"] = arrays["labels"].astype(kind)
    arrays["images"] = np.asfortranarray(arrays["images"])
    np.savez(tmp_path / "s.npz", **arrays, prompt=np.array(["left aside"]))
    images, labels = load_samples(tmp_path / "s.npz", reference())
    assert labels.dtype == torch.int64 and torch.equal(images[:, 0], torch.from_numpy(good()["images"]))


LABELS = np.arange(12) % 3
WRONG = {   # changed arrays, what the error must name
    "no classes": ({"labels": LABELS + 7}, "from 7 to 9, the classes from 0 to 2"),
    "negative": ({"labels": LABELS - 1}, "from -1 to 1"), "from one": ({"labels": LABELS + 1}, "labels - 1"),
    "huge": ({"labels": LABELS.astype("uint64") + 2**63}, "the classes from 0 to 2"),
    "too few": ({"labels": LABELS[:5]}, "12 integers"),
    "column": ({"labels": LABELS[:, None]}, r"labels\[:, 0\]"),
    "one-hot": ({"labels": np.eye(3, dtype=int)[LABELS]}, "argmax"),
    "words": ({"labels": LABELS.astype(str)}, "its labels are"),
    "floats": ({"labels": LABELS / 1}, "float64"), "a number": ({"labels": np.array(3)}, "12 integers"),
    "objects": ({"labels": LABELS.astype(object)}, "its labels are object"),
    "flat": ({"images": np.zeros((12, 64), np.uint8)}, r"reshape\(-1, 8, 8\)"),
    "float images": ({"images": np.zeros((12, 8, 8))}, "float64"),
    "other size": ({"images": np.zeros((12, 9, 9), np.uint8)}, r"\(N, 8, 8\), the size of toy"),
    "wrong rank": ({"images": np.zeros(12, np.uint8)}, "its images are"),
    "channels first": ({"images": np.zeros((12, 1, 8, 8), np.uint8)}, "transpose"),
    "colours": ({"images": np.zeros((12, 8, 8, 3), np.uint8)}, "its images are"),
    "none": ({"images": np.zeros((0, 8, 8), np.uint8), "labels": LABELS[:0]}, "0 images"),
    "a lone number": ({"images": np.array(3, np.uint8)}, "its images are"),
    "no labels": ({"labels": None}, "no samples.npz.*labels"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_belong_to_the_set_is_refused_with_a_cure(name, tmp_path):
    changes, named = WRONG[name]
    arrays = {key: value for key, value in (good() | changes).items() if value is not None}
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(MinildmError, match=f"(?s){named}"):
        load_samples(tmp_path / "s.npz", reference())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", b"no archive", b"\x93NUMPY"])
def test_what_is_no_archive_is_named(content, tmp_path):
    (tmp_path / "s.npz").write_bytes(content)
    with pytest.raises(MinildmError, match="this is no samples.npz"):
        load_samples(tmp_path / "s.npz", reference())


def archive(path, images: bytes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("images.npy", images)
        labels = io.BytesIO()
        np.save(labels, LABELS)
        file.writestr("labels.npy", labels.getvalue())


def npy(shape, data: bytes = b"", dtype: str = "|u1") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + data


@pytest.mark.parametrize("shape, dtype", [
    ((30_000_000, 8, 8), "|u1"), ((12, 50_000, 50_000), "|u1"), ((12, 8, 8), "|S99999999"),
    ((12, 8, 8), "|O")])
def test_a_bomb_is_known_by_its_first_bytes(shape, dtype, tmp_path):
    archive(tmp_path / "s.npz", npy(shape, bytes(10**6), dtype))
    began = time.perf_counter()
    with pytest.raises(MinildmError, match="images"):
        load_samples(tmp_path / "s.npz", reference())
    assert time.perf_counter() - began < 1


def test_a_torn_array_is_no_samples(tmp_path):
    archive(tmp_path / "s.npz", npy((12, 8, 8), bytes(100)))
    with pytest.raises(MinildmError, match="this is no samples.npz"):
        load_samples(tmp_path / "s.npz", reference())


def test_a_full_disk_leaves_no_part_and_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "samples.npz"
    images, labels = torch.zeros(2, 1, 8, 8).byte(), torch.tensor([0, 1])
    save_samples(path, images, labels)
    before = path.read_bytes()

    def half(file, **arrays):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", half)
    with pytest.raises(MinildmError, match="No space left"):
        save_samples(path, images + 1, labels)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["samples.npz"]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "samples.npz").symlink_to(tmp_path / "mine")
    save_samples(tmp_path / "samples.npz", torch.zeros(2, 1, 8, 8).byte(), torch.tensor([0, 1]))
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_large_pictures_are_saved_pixel_by_pixel(tmp_path):
    save_pictures(tmp_path / "large.png", torch.zeros(1, 3, 256, 256), ["a $prompt$"])
    assert Image.open(tmp_path / "large.png").size == (256, 256)
    save_pictures(tmp_path / "small.png", torch.zeros(2, 1, 8, 8), ["a $prompt$", "b"])
    assert Image.open(tmp_path / "small.png").size != (17, 8)
