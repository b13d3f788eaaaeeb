"""How edits are judged: overlap, seam, tasks whose two sentences differ by one word."""

import torch

from minildm import data
from minildm.course.edit_results import Results
from minildm.course.edited import judged, overlap, seam, task_of, within
from minildm.course.tables import claims_table
from minildm.data.scenes import agreement
from minildm.evaluation.classifier import load_classifier
from minildm.images import to_float


def squares(*lefts):
    images = torch.full((len(lefts), 3, 10, 10), -1.0)
    for image, left in zip(images, lefts, strict=True):
        image[1, 2:6, left:left + 4] = 1
    return images


def test_overlap_counts_ink_of_any_colour():
    a, b = squares(2, 2, 2), squares(2, 4, 6)
    torch.testing.assert_close(overlap(a, b), torch.tensor([1, 8 / 24, 0]))
    assert overlap(a, a.flip(1)).tolist() == [1, 1, 1]
    assert overlap(-torch.ones(1, 3, 4, 4), -torch.ones(1, 3, 4, 4)).tolist() == [0]


def test_the_seam_is_measured_across_the_edge_alone():
    images = torch.zeros(2, 1, 4, 6)
    images[0, :, :, 3:] = 0.5
    mask = torch.zeros(1, 1, 4, 6, dtype=torch.bool)
    mask[..., 3:] = True
    assert seam(images, mask) == 0.25               # a half in one picture, nothing in the other
    assert seam(images, mask.flip(-1)) == 0.25      # the same edge from its other side
    assert seam(images, mask.roll(1, -1)) == 0      # there nothing jumps


def test_tasks_change_one_thing():
    digits, classifier = data.load("glyphs", "test"), load_classifier("mnist")
    for kind in ("colour", "one of two", "digit"):
        task = task_of(digits, classifier, kind, 6, seed=1)
        assert len(task.images) == len(task.source) == len(task.target) == 6
        same = agreement(task.wanted, task.shown)
        changed = "digit" if kind == "digit" else "colour"
        assert not same[changed].any() and same["place"].all()
        assert same["colour" if kind == "digit" else "digit"].all()
        assert (task.shown.digits[:, 1] >= 0).all() == (kind == "one of two")
        assert (task.shown.digits[:, 1] < 0).all() == (kind != "one of two")
        words = [(a.split(), b.split()) for a, b in zip(task.source, task.target, strict=True)]
        assert all(len(a) == len(b) and a != b for a, b in words)
        # the pictures as they are: nothing of the edit is done, all of the ink is there
        found = judged(to_float(task.images), task, classifier)
        assert found["all"] == found["both"] == 0 and found["overlap"] == 1


def test_the_interval_shrinks_with_the_number():
    assert 0.06 < within(0.5, 200) < 0.07 and within(1.0, 200) < 0.02
    assert within(0.5, 800) < 0.6 * within(0.5, 200)


def test_stored_numbers_are_means_over_their_seeds(capsys):
    scores = {"all": 0.5, "overlap": 1.0, "both": 0.25, "seam": 0.1}
    names = "originals", "copy", "scale 2, latents alone", "scale 1", "scale 2", "scale 4"
    kept = {"n": 50, "inpainting": {name: {"0": scores} for name in names}}
    for kind in ("colour", "one of two", "digit"):
        kept[kind] = {"copy": {"0": scores, "3": {**scores, "all": 1.0}}}
    kept["round trip"] = {"50, 3, 1, 1": {"0": {"error": 2.0}}, "50, 3, 1, 4": {"0": {"error": 3.0}}}
    results = Results(kept)
    assert results.mean("colour", "copy", "all") == 0.75
    assert results.spread("colour", "copy", "all") == "0.750 (0.500 to 1.000)"
    assert results.trip(50, 3, 1) == 2 and results.trip(50, 3, 1, 4) == 3
    table = results.edit_table().splitlines()
    assert len(table) == 5 and table[2].endswith("| 0.750 | 1.000 | 0.250 | 100 |")
    results.print_seams()
    assert len(capsys.readouterr().out.splitlines()) == len(names)
    assert claims_table([("a", "b", "c", "holds")]).splitlines()[-1] == "| a | b | c | holds |"
