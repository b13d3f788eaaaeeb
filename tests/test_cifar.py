"""CIFAR-10's archive: read exactly, from the archive or unpacked, and never unpickled unchecked."""

import io
import os
import pickle
import shutil
import tarfile
from hashlib import md5

import numpy as np
import pytest
from support.images import noise, save_image

from minildm import MinildmError, data
from minildm.data import cifar
from minildm.data.sets import CLASSES
from minildm.data.splits import SPLITS

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Six images in three batches, unpacked under tmp_path/root and in an archive beside it."""
    from torchvision.datasets import CIFAR10

    images, entries = noise(6, 3, 32, 32), []
    root = tmp_path / "root"
    (root / cifar.BATCHES).mkdir(parents=True)
    with tarfile.open(tmp_path / "archive", "w:gz") as tar:
        for i, file in enumerate(["data_batch_1", "data_batch_2", "test_batch"]):
            part = {"data": images[2 * i:2 * i + 2].reshape(-1, 3072), "labels": [i, 9]}
            content = pickle.dumps(part)
            (root / cifar.BATCHES / file).write_bytes(content)
            member = tarfile.TarInfo(f"{cifar.BATCHES}/{file}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            entries.append([file, md5(content).hexdigest()])
    monkeypatch.setattr(CIFAR10, "train_list", entries[:2])
    monkeypatch.setattr(CIFAR10, "test_list", entries[2:])
    archive = (tmp_path / "archive").read_bytes()
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive).hexdigest())
    return images


def check(root, images):
    found = data.load("cifar10", root=root, download=False)
    assert np.array_equal(found.images.numpy(), images[:4])
    assert found.labels.tolist() == [0, 9, 1, 9]
    assert np.array_equal(data.load("cifar10", "test", root=root).images.numpy(), images[4:])
    shutil.rmtree(root / "cache")


def test_batches_are_read_exactly_unpacked_or_in_the_archive(tmp_path, images):
    root = tmp_path / "root"
    assert data.available("cifar10", root=root)
    check(root, images)
    shutil.rmtree(root / cifar.BATCHES)
    assert not data.available("cifar10", root=root)
    shutil.copy(tmp_path / "archive", root / cifar.ARCHIVE)
    assert data.available("cifar10", root=root)
    check(root, images)
    assert not (root / cifar.BATCHES).exists()      # nothing is unpacked to the disk


def test_a_batch_that_is_missing_comes_from_the_archive(tmp_path, images):
    root = tmp_path / "root"
    (root / cifar.BATCHES / "data_batch_2").unlink()
    with pytest.raises(MinildmError, match="not whole"):
        data.load("cifar10", root=root)
    shutil.copy(tmp_path / "archive", root / cifar.ARCHIVE)
    check(root, images)


@pytest.mark.parametrize("file", [f"{cifar.BATCHES}/data_batch_2", cifar.ARCHIVE])
def test_a_damaged_file_is_named_and_never_unpickled(tmp_path, images, monkeypatch, file):
    root = tmp_path / "root"
    if file == cifar.ARCHIVE:
        shutil.rmtree(root / cifar.BATCHES)
    (root / file).write_bytes(pickle.dumps({"data": 1}))
    loads = pickle.loads
    monkeypatch.setattr(cifar.pickle, "loads", lambda content, **options: loads(content, **options)
                        if len(content) > 100 else pytest.fail("unpickled unchecked"))
    with pytest.raises(MinildmError, match=f"{file} is damaged"):
        data.load("cifar10", root=root)


def test_a_pipe_in_the_archives_place_is_refused(tmp_path):
    os.mkfifo(tmp_path / cifar.ARCHIVE)
    with pytest.raises(MinildmError, match="not a file"):
        data.load("cifar10", root=tmp_path)


def test_cifar_folder_needs_its_ten_classes(tmp_path):
    for split in SPLITS:
        for i, name in enumerate(CLASSES["cifar10"]):
            save_image(tmp_path / "cifar10" / split / name / "0.png", noise(32, 32, 3, seed=i))
    found = data.load("cifar10", root=tmp_path)
    assert found.images.shape == (10, 3, 32, 32) and found.labels.tolist() == list(range(10))
    assert np.array_equal(found.images[8].permute(1, 2, 0).numpy(), noise(32, 32, 3, seed=8))
    for split in SPLITS:
        (tmp_path / "cifar10" / split / "truck").rename(tmp_path / "cifar10" / split / "lorry")
    with pytest.raises(MinildmError, match="lorry") as caught:
        data.load("cifar10", root=tmp_path)
    assert "truck" in caught.value.fix
