"""The stored comparison of flow with diffusion: its tables are those of lesson 09 and RESULTS.md."""

import json
from pathlib import Path

import nbformat
import torch

from benchmarks import steps, steps_latents, steps_plane
from minildm.course.heart import Crowd

ROOT = Path(__file__).parents[1]


def stored() -> dict:
    return json.loads(steps.STORED.read_text())


def lesson() -> str:
    notebook = nbformat.read(ROOT / "lessons" / "09_flow_matching.ipynb", 4)
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_the_lesson_shows_the_stored_tables():
    found, text = stored(), lesson()
    assert steps.table(found["plane"]["steps"], found["plane"]["rows"]) in text
    for rows, digits in ("fd", 1), ("off", 3):
        latents = found["latents"]
        assert steps.table(latents["steps"], latents[rows], digits) in text


def test_the_results_are_those_of_the_stored_run():
    found, page = stored(), (ROOT / "RESULTS.md").read_text()
    for row in steps.judged(found["plane"], found["latents"], 0):
        start = " | ".join(row.line().split(" | ")[:4])
        assert start in page, start


def test_a_table_has_means_and_ranges():
    text = steps.table([3, 5], {"a": [[1.0, 2.0], [2.0, 4.0]], "b": [[0.5, 0.25]]}, 2)
    assert text.split("\n") == ["| steps | 3 | 5 |", "| --- | --- | --- |",
                                "| a | 1.50 (1.00–2.00) | 3.00 (2.00–4.00) |", "| b | 0.50 | 0.25 |"]


def test_what_was_measured_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "BUILD", tmp_path)
    assert steps.keep("a, b", lambda: {"x": 1}) == {"x": 1}
    assert steps.keep("a, b", lambda: 1 / 0) == {"x": 1}


def test_the_arms_train_and_are_judged(monkeypatch):
    monkeypatch.setattr(steps_plane, "N", 50)
    monkeypatch.setattr(steps_plane, "STEPS", (2, 3))
    crowd = Crowd(50)
    for arm in steps_plane.ARMS:
        model = steps_plane.trained(arm, 0, 1e-3, steps=3)
        values = steps_plane.distances(model, model.schedule, crowd, 0)
        assert len(values) == 2 and torch.tensor(values).isfinite().all()
    assert list(steps_latents.ARMS) == list(steps_plane.ARMS)
