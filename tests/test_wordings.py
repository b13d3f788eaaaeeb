"""Sentences about classes: with the right article, and those held out are none of the others."""

from types import SimpleNamespace

import pytest

from minildm.data.wordings import DIGITS, fill_in, with_article, wordings


def test_articles():
    assert [with_article(name) for name in ("one", "eight", "ship", "ankle boot", "")] == [
        "a one", "an eight", "a ship", "an ankle boot", "a "]


@pytest.mark.parametrize("names", [DIGITS, ("cat", "owl"), ("{}", "$x_1$", "\udcff")])
def test_each_class_has_its_sentences_and_others_are_held_out(names):
    images = SimpleNamespace(class_names=list(names))
    seen, held_out = wordings(images), wordings(images, held_out=True)
    assert len(seen) == len(held_out) == len(names)
    for name, mine, others in zip(names, seen, held_out, strict=True):
        assert all(name in sentence for sentence in [*mine, *others])
        assert not {*mine} & {*others} and len({*mine}) == len(mine)


def test_names_are_no_templates():
    assert fill_in("a photo of {a}", "{0}") == "a photo of a {0}"
