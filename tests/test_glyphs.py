"""Glyphs: exact distances, the same digits everywhere, and each looks like its label."""

import pytest
import torch

from minildm import data
from minildm.data import glyphs, sets
from minildm.data.splits import SPLITS

pytestmark = pytest.mark.filterwarnings("error")


def test_distance_to_a_square_with_a_hole_is_exact():
    def square(r):
        return torch.tensor([[-r, -r], [r, -r], [r, r], [-r, r], [-r, -r]])

    points = torch.tensor([[0.0, 0.0], [0.75, 0.0], [0.0, -0.9], [2.0, 2.0], [0.4, 0.1],
                           [-3.0, 0.2]])
    inside = glyphs._distance_inside([square(1.0), square(0.5)], points)
    torch.testing.assert_close(inside, torch.tensor([-0.5, 0.25, 0.1, -(2**0.5), -0.1, -2.0]))


def test_a_seed_draws_what_it_always_drew():
    """The means of the first pictures; models and figures rest on them."""
    parts = glyphs.draw_glyphs({"train": 4, "test": 4})
    for split, means in (("train", [26.87372, 14.91964, 35.61097, 18.03189]),
                         ("test", [51.93240, 32.79082, 27.92857, 54.03061])):
        found = parts[split].images.float().mean((1, 2, 3))
        torch.testing.assert_close(found, torch.tensor(means), rtol=0, atol=0.01)


def test_glyphs_are_the_same_again_and_look_like_their_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(sets, "GLYPHS", {"train": 600, "test": 200})
    monkeypatch.setattr(glyphs, "FONTS", glyphs.FONTS[::4])
    train, test = (data.load("glyphs", split, root=tmp_path) for split in SPLITS)
    assert train.images.shape == (600, 1, 28, 28) and test.labels.bincount().tolist() == [20] * 10
    assert train.captions[7] == "the digit seven" and data.available("glyphs", root=tmp_path)
    again = glyphs.draw_glyphs({"train": 1, "test": 200})["test"]
    assert torch.equal(again.images, test.images)
    assert not torch.equal(train.images[:200], test.images)
    ink = data.to_float(train.images).add(1).div(2).mean((1, 2, 3))
    assert ink.min() > 0.03 and ink.max() < 0.45                     # neither vanished nor flooded
    border = (train.images > 0).float().mean((0, 1))[[0, -1]]
    assert border.max() < 0.05                                       # nothing is cut off
    x, y = (part.images.flatten(1).float() for part in (train, test))
    means = torch.stack([x[train.labels == k].mean(0) for k in range(10)])
    assert (torch.cdist(y, means).argmin(1) == test.labels).float().mean() > 0.6
