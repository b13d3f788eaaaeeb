"""Curves in panels: seeds become a mean with a band, and the figure carries its text."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from minildm import MinildmError
from minildm.course import curves
from minildm.course.curves import panel, show_curves


@pytest.fixture
def shown(monkeypatch):
    figures = []
    monkeypatch.setattr(curves, "show", lambda figure, alt: figures.append((figure, alt)))
    yield figures
    plt.close("all")


def test_seeds_are_drawn_as_their_mean_and_range(shown):
    seeds = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    show_curves(panel([0, 1], {"ours": seeds}, xlabel="step"), panel([0, 1], {"one": [1, 2]}),
                alt="Two panels, of which one has a band.")
    (figure, alt), = shown
    left, right = figure.axes
    np.testing.assert_allclose(left.lines[0].get_ydata(), [2, 4])
    band = left.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == 1 and band[:, 1].max() == 6
    assert left.get_xlabel() == "step" and left.get_legend() is None
    assert alt.startswith("Two panels") and len(right.lines) == 1


def test_lines_may_have_their_own_x_and_names_stay_out_of_the_legend(shown):
    lines = {"law": ([0, 2], [0.0, 1.0]), "fit": [1.0, 2.0], "_points": [1.0, 2.0]}
    show_curves(panel([0, 1], lines, dashed=["law"], dots=["_points"]), alt="A law, a fit and its points.")
    axes = shown[0][0].axes[0]
    law, fit, points = axes.lines
    assert list(law.get_xdata()) == [0, 2] and law.get_linestyle() == "--"
    assert points.get_marker() == "o" and points.get_color() == fit.get_color()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["law", "fit"]


def test_a_figure_without_text_is_refused():
    with pytest.raises(MinildmError, match="alternative text"):
        show_curves(panel([0, 1], {"a": [1, 2]}), alt="")
    plt.close("all")
