"""Cached copies are used only if they are whole and of the same source."""

import json
import os
import sys

import numpy as np
import pytest
import torch
from support.images import save_image, write_mnist

from minildm import data
from minildm.data import cache, idx
from minildm.data.cache import Part, Source, cached, stamp
from minildm.data.wordings import DIGITS

pytestmark = [pytest.mark.filterwarnings("error"),
              pytest.mark.filterwarnings("ignore:.*not the published ones")]


def part(n=4, **changes):
    values = dict(images=torch.arange(4 * n, dtype=torch.uint8).view(n, 1, 2, 2),
                  labels=torch.arange(n), class_names=("a", "b\udcff$"), skipped=("x: bad",),
                  notes=("a note",))
    return Part(**{**values, **changes})


def test_a_copy_is_what_was_read(tmp_path):
    read = {"train": part(), "test": part(0, class_names=("a",), skipped=(), notes=())}
    calls = []

    def source():
        return Source(["key"], lambda: calls.append(1) or read)

    for split in ("train", "test", "train"):
        found = cached(tmp_path, "toy", split, source())
        assert torch.equal(found.images, read[split].images)
        assert torch.equal(found.labels, read[split].labels)
        assert (found.class_names, found.skipped, found.notes) == (
            read[split].class_names, read[split].skipped, read[split].notes)
    assert calls == [1]
    cached(tmp_path, "toy", "train", Source(["another key"], source().read))
    assert calls == [1, 1]


def test_second_start_reads_the_cache_only(tmp_path, monkeypatch):
    write_mnist(tmp_path)
    first = data.load("mnist", root=tmp_path)
    monkeypatch.setattr(idx, "read", lambda *args: pytest.fail("read again"))
    monkeypatch.setitem(sys.modules, "torchvision", None)  # importing it fails now
    again = data.load("mnist", root=tmp_path)
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    assert again.class_names == DIGITS and again.skipped == ()


def test_changed_files_are_read_again_without_a_word(tmp_path):
    write_mnist(tmp_path)
    data.load("mnist", root=tmp_path)
    expected = write_mnist(tmp_path, seed=1)
    assert np.array_equal(data.load("mnist", root=tmp_path).images[:, 0].numpy(), expected)


def test_files_that_changed_names_are_other_files(tmp_path):
    """Of one size and time, as an archive leaves them: exchanged classes must show."""
    folder = tmp_path / "x"
    for name, level in (("cat", 10), ("dog", 20)):
        save_image(folder / name / "0.bmp", np.full((8, 8), level, np.uint8))
        save_image(folder / name / "1.bmp", np.full((8, 8), level, np.uint8))
        for file in (folder / name).iterdir():
            os.utime(file, (1e9, 1e9))
    before = data.load(f"folder:{folder}", root=tmp_path)
    assert before.images[:, 0, 0, 0].tolist() == [10, 20]
    (folder / "cat").rename(folder / "a")
    (folder / "dog").rename(folder / "cat")
    (folder / "a").rename(folder / "dog")
    after = data.load(f"folder:{folder}", root=tmp_path)
    assert after.images[:, 0, 0, 0].tolist() == [20, 10] and after.labels.tolist() == [0, 1]


def test_a_link_to_nothing_has_a_stamp(tmp_path):
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    assert stamp(tmp_path / "gone")[0] > 0


@pytest.mark.parametrize("file", [*(f"{name}.npy" for name in cache.ARRAYS), cache.META])
@pytest.mark.parametrize("position", [0.02, 0.3, 0.5, 0.99])
def test_damaged_cache_is_read_again_and_said(tmp_path, file, position):
    expected = write_mnist(tmp_path)
    data.load("mnist", root=tmp_path)
    kept = tmp_path / "cache" / "mnist-train" / file
    raw = bytearray(kept.read_bytes())
    raw[int(position * len(raw))] ^= 1
    kept.write_bytes(raw)
    said = pytest.warns(UserWarning, match="damaged.*reading the images again")
    with said:
        found = data.load("mnist", root=tmp_path)
    assert np.array_equal(found.images[:, 0].numpy(), expected)
    again = data.load("mnist", root=tmp_path)                # and made anew, without a word
    assert np.array_equal(again.images[:, 0].numpy(), expected)


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, "null", '{"key": 3}'])
def test_whatever_stands_in_the_json_file_costs_a_reading_only(tmp_path, content):
    cached(tmp_path, "toy", "train", Source(["key"], lambda: {"train": part()}))
    (tmp_path / "toy-train" / cache.META).write_text(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache.warnings, "warn", lambda *args, **options: None)
        found = cached(tmp_path, "toy", "train", Source(["key"], lambda: {"train": part()}))
    assert len(found.images) == 4
    assert json.loads((tmp_path / "toy-train" / cache.META).read_text())["class_names"][0] == "a"


def test_a_pipe_in_a_copy_is_not_waited_for(tmp_path):
    source = Source(["key"], lambda: {"train": part()})
    cached(tmp_path, "toy", "train", source)
    (tmp_path / "toy-train" / "images.npy").unlink()
    os.mkfifo(tmp_path / "toy-train" / "images.npy")
    with pytest.warns(UserWarning, match="not a file"):
        assert len(cached(tmp_path, "toy", "train", source).images) == 4


def test_cache_that_cannot_be_written_costs_a_warning_only(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="no copy of mnist kept"):
        assert len(data.load("mnist", root=tmp_path)) == 20
