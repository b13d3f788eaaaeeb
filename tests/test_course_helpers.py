"""Helpers of single lessons: the plane of arcs, stored results, tables, sliders."""

import json

import pytest
import torch

from minildm import MinildmError
from minildm.course import arcs, price, sliders, stored
from minildm.course.tables import print_table


def test_points_lie_on_their_classs_arc():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3000) % 3
    x = arcs.draw_points(labels, generator)
    for k in range(3):
        mine, others = x[labels == k], x[labels == (k + 1) % 3]
        assert arcs.strays(mine, k) < 0.005 and arcs.strays(others, k) > 0.99
    # blobs of variance BLOB^2 an axis around their centres
    assert arcs.spread(x[labels == 0])**2 == pytest.approx(
        arcs.spread(arcs.CENTRES[0])**2 + 2 * arcs.BLOB**2, rel=0.05)


def test_the_sliced_distance_of_a_shift_is_its_mean_projection():
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    assert arcs.sliced_distance(x, x.flip(0)) < 1e-6
    # the mean of |cos| over directions is 2 / pi
    moved = arcs.sliced_distance(x, x + torch.tensor([1.0, 0.0]))
    assert moved == pytest.approx(2 / torch.pi, rel=0.01)


def test_the_stored_scales_hold_what_the_lesson_shows(capsys):
    measured = stored.stored("guidance_scales")
    scales, runs = price.runs_of(measured, "cfg")
    assert scales[0] == "1.0" and len(runs) >= 2 and measured["n"] >= 500
    price.print_group(measured, "cfg")
    assert "real digits" in capsys.readouterr().out
    assert price.scores_of(measured, "cfg", "recall").shape == (len(runs), len(scales))


def test_a_missing_store_names_the_command():
    with pytest.raises(MinildmError, match="python -m benchmarks tea"):
        stored.stored("tea")


def test_words_are_shown_beside_what_was_there_before(capsys):
    price.print_words({"": {"colours": {"red": 0.2}, "digit_right": 1.0},
                       "a red digit": {"colours": {"red": 0.05}, "digit_right": 0.9}, "minutes": 1})
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[-3:] == ["0.200", "0.050", "0.900"]


def test_tables_align_their_numbers(capsys):
    print_table({"a": {"x": 1.0, "a long name": 2.5}, "longer": {"x": 10.0, "a long name": 0.25}}, 2)
    lines = capsys.readouterr().out.splitlines()
    assert len({len(line) for line in lines}) == 1 and lines[2].split() == ["longer", "10.00", "0.25"]


def test_sliders_draw_once_they_are_let_go_and_not_at_all_under_ci(monkeypatch):
    asked = []

    def draw(scale=1.0, prompt=""):
        asked.append((scale, prompt))

    monkeypatch.setenv("CI", "1")
    assert sliders.sliders(draw, scale=(0.0, 5.0, 0.5), prompt="a") is None
    monkeypatch.delenv("CI")
    controls = sliders.sliders(draw, scale=(0.0, 5.0, 0.5), prompt="a three")
    slider, field = controls.children[:2]
    assert not slider.continuous_update and not field.continuous_update
    controls.update()
    slider.value = 4.0
    assert asked[-1] == (4.0, "a three")


def test_stored_files_are_json_with_their_sizes():
    for path in stored.FOLDER.glob("guidance*.json"):
        found = json.loads(path.read_text())
        assert {"n", "steps", "hardware", "day"} <= set(found)
