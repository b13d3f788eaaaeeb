"""Stored scores by sampler and steps, and the interval of a difference of two rows."""

import torch

from minildm.course.steps import by_sampler, difference, score_at, three

ROWS = [{"sampler": "ddim", "steps": 1, "fd": [9.0, 8.0]}, {"sampler": "ddim", "steps": 20, "fd": [1.0, 3.0]},
        {"sampler": "ddpm", "steps": 5, "fd": [4.0, 5.0], "same": [0.5, 0.5]}]


def test_one_step_is_every_samplers():
    lines = by_sampler(ROWS)
    assert lines["DDPM"][0] == [1, 5] and lines["DDIM"][0] == [1, 20] and lines["2M"][0] == [1]
    assert lines["DDPM"][1].tolist() == [[9.0, 4.0], [8.0, 5.0]]
    assert score_at(ROWS, "DDIM", 20).tolist() == [1.0, 3.0]
    assert by_sampler(ROWS, "same")["DDPM"][0] == [5]


def test_the_interval_is_students_for_three_seeds():
    a, b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 1.0, 2.0])
    mean, width = difference(a, b)
    assert mean == 1 and abs(width - 2.776 * (2 / 3)**0.5) < 1e-3
    assert three(a) == "2.00 (1.00 to 3.00)"
