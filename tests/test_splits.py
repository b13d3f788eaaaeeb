"""Which folders are splits, which pictures are for test: decided openly, or refused."""

import pytest

from minildm import MinildmError
from minildm.data.splits import choose_test, find_splits, printable


def folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)
    return root


@pytest.mark.parametrize("names, train, test, said", [
    (["train", "test"], "train", "test", []),
    (["Train", "TEST"], "Train", "TEST", []),
    (["training", "testing"], "training", "testing", []),
    (["train", "valid"], "train", "valid", ["valid/ is taken for the test split"]),
    (["Train", "Val"], "Train", "Val", ["Val/ is taken for the test split"]),
    (["train", "val", "test"], "train", "test", ["val/ is left out: test/ is for test"]),
    (["train", "test", "cat"], "train", "test", ["left out, beside train/ and test/: cat"]),
])
def test_names_count_in_any_case(tmp_path, names, train, test, said):
    splits, notes = find_splits(folders(tmp_path, *names, ".git"))
    assert splits == {"train": tmp_path / train, "test": tmp_path / test} and notes == said


@pytest.mark.parametrize("names, what", [
    (["Train"], "Train/ but not test/"), (["test", "cat"], "test/ but not train/"),
    (["val"], "val/ but not train/"), (["train", "Train", "test"], "both say train"),
    (["train", "val", "valid"], "both say validation")])
def test_what_is_unclear_is_refused_with_a_cure(tmp_path, names, what):
    with pytest.raises(MinildmError, match=what) as caught:
        find_splits(folders(tmp_path, *names))
    assert caught.value.fix


def test_classes_are_no_splits(tmp_path):
    folders(tmp_path, "cat", "trained dogs")
    assert find_splits(tmp_path) == ({"": tmp_path}, [])
    with pytest.raises(MinildmError, match="no such folder"):
        find_splits(tmp_path / "y")


def test_a_tenth_of_each_class_is_for_test():
    labels = {i: "ab"[i % 2] for i in range(200)}
    test = choose_test(labels, 200)
    assert sorted(labels[i] for i in test) == ["a"] * 10 + ["b"] * 10
    assert test == choose_test(labels, 200)


@pytest.mark.parametrize("classes, each, test", [
    (1, 1, 0), (1, 2, 1), (2, 1, 1), (1, 6, 1), (1, 10, 1), (1, 12, 2), (20, 1, 2), (3, 2, 3)])
def test_two_pictures_in_all_are_enough_for_a_test_split(classes, each, test):
    labels = {i: str(i % classes) for i in range(classes * each)}
    chosen = choose_test(labels, len(labels) + 3)
    assert len(chosen) == test and chosen <= set(labels)


def test_any_name_can_be_printed():
    assert printable("caf\udce9 $x_1^2$ 漢") == "caf\\udce9 $x_1^2$ 漢"
    assert printable("\ud800").isascii()
