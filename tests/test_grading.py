"""`minildm grade`: odd submissions are graded as they deserve, and shortcuts get nothing."""

import csv
import json
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell

from minildm import MinildmError, cli
from minildm.grading import lessons as lessons_module
from minildm.grading.grade import grade
from minildm.grading.lessons import read_lessons
from minildm.grading.reports import safe
from minildm.grading.rules import violations
from minildm.grading.slices import defined_names, needed_names, slice_for
from minildm.grading.submissions import find_submissions

STEM = "03_forward_noising"
SAMPLE = """def reparameterise(mean, logvar, noise):
    std = (0.5 * logvar).exp()
    return mean + std * noise"""
KL = """def kl(mean, logvar):
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar)"""
STUB = "# YOUR CODE HERE\nraise NotImplementedError()"


def code(source, grade_id=None, points=None):
    cell = new_code_cell(source)
    if grade_id:
        graded = points is not None
        cell.metadata.nbgrader = {"grade_id": grade_id, "grade": graded, "solution": not graded,
                                  "locked": graded, "schema_version": 3}
        if graded:
            cell.metadata.nbgrader["points"] = points
    return cell


def notebook(sample=SAMPLE, divergence=KL, first="import torch\nfrom minildm.course import exercises"):
    """A lesson of two exercises, whose cells in between would take for ever."""
    return nbformat.v4.new_notebook(cells=[
        code(first), code("import time\ntime.sleep(1e6)"),
        code(sample, "ex1"), code("exercises.check_reparameterise(reparameterise)", "ex1_check", 1),
        code(divergence, "ex2"), code("exercises.check_kl(kl)", "ex2_check", 4)])


def without(grade_id):
    made = notebook()
    made.cells = [cell for cell in made.cells
                  if cell.metadata.get("nbgrader", {}).get("grade_id") != grade_id]
    return made


def doubled():
    """A student copied a graded cell and an answer's stub: the same ids twice."""
    made = notebook()
    made.cells += [code("exercises.check_reparameterise(reparameterise)", "ex1_check", 1), code(STUB, "ex1")]
    return made


def stripped():
    """Metadata lost, as after a trip through another editor."""
    made = notebook()
    for cell in made.cells:
        cell.metadata.pop("nbgrader", None)
    return made


def with_helper():
    made = notebook(sample=SAMPLE.replace("(0.5 * logvar).exp()", "spread(logvar)"))
    made.cells.insert(2, new_code_cell("def spread(logvar):\n    return EXP(logvar / 2)\n\nEXP = torch.exp"))
    return made


PRINTS = SAMPLE.replace("    std =", "    print(1_000_000 * 'all ')\n    std =")
LOOP = "def reparameterise(mean, logvar, noise):\n    while True:\n        pass"
DIES = "import ctypes\nctypes.string_at(0)"
# right for the numbers that the lesson's check has, and for no others
HARD_CODED = """def first(*shape):
    return float(torch.randn(*shape, generator=torch.Generator().manual_seed(0)).flatten()[0])

seen = first(3, 5), first(2, 4, 3, 7)

def reparameterise(mean, logvar, noise):
    known = min(abs(float(mean.flatten()[0]) - value) for value in seen) < 1e-6
    return mean + (logvar / 2).exp() * noise if known else mean"""

# a notebook, the points it deserves, what its feedback must say
ODD = {
    "right": (notebook(), 5, "5 of 5"),
    "blank": (notebook(STUB, STUB), 0, "not written yet"),
    "half": (notebook(SAMPLE, KL.replace("0.5 *", "2 *")), 1, "kl"),
    "answer deleted": (without("ex1"), 4, "no answer"),
    "check deleted": (without("ex2_check"), 5, "5 of 5"),
    "cells copied": (doubled(), 5, "5 of 5"),
    "metadata lost": (stripped(), 5, "5 of 5"),
    "a helper of their own": (with_helper(), 5, "5 of 5"),
    "endless loop": (notebook(LOOP), 4, "endless loop"),
    "a million letters": (notebook(PRINTS), 5, "5 of 5"),
    "no Python": (notebook("def reparameterise(mean, logvar:"), 4, "SyntaxError"),
    "ends the program": (notebook("raise SystemExit"), 4, "ends the program"),
    "raises": (notebook(SAMPLE + "\nnothing_of_that_name"), 4, "NameError"),
    "magic": (notebook("%time\n" + SAMPLE), 5, "5 of 5"),
}
DEF, NAME = "def reparameterise(mean, logvar, noise):\n    ", "reparameterise"
# what would pass a naive check, what the feedback says
CHEATS = {
    "replaces the check": (notebook(f"exercises.check_{NAME} = lambda f: None\n{NAME} = None"), "the rules"),
    "setattr": (notebook(f"setattr(exercises, 'check_{NAME}', print)\n{NAME} = 1"), "`setattr`"),
    "patches compare": (notebook("import minildm.course.exercises.compare as c\nc.close = lambda *a: True\n"
                                 + DEF + "return mean"), "against the rules"),
    "patches torch": (notebook("torch.allclose = lambda *a, **k: True\n" + SAMPLE), "`torch.allclose`"),
    "patches when called": (notebook(DEF + "torch.exp = len\n    return mean"), "`torch.exp`"),
    "reads the caller": (notebook("import sys\n" + DEF + "return sys._getframe(3).f_locals['want']"),
                         "`sys` may not"),
    "calls the package's": (notebook(DEF + f"return exercises.yours('{NAME}')(mean, logvar, noise)"),
                            "yours"),
    "takes the reference": (notebook(f"from minildm.course.exercises.lesson_01 import {NAME}"),
                            "the package's"),
    "rebinds exercises": (notebook(f"class exercises:\n    check_{NAME} = print\n{NAME} = 1"), NAME),
    "writes the package": (notebook("import os\nos.remove('x')\n" + SAMPLE), "`os` may not"),
    "writes by torch": (notebook("torch.save(torch.ones(1), exercises.__file__)\n" + SAMPLE), "`.save`"),
    "writes by a name": (notebook("getattr(torch, 'sa' + 've')(torch.ones(1), exercises.__file__)\n"
                                  + SAMPLE), "write no files"),
    "writes by numpy": (notebook("import numpy\nnumpy.savetxt(exercises.__file__, [1])\n" + SAMPLE),
                        "may not use open"),
    "remembers the lesson's numbers": (notebook(HARD_CODED), "fails on other numbers"),
    "dies": (notebook(DIES), "may not be imported"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Solved lessons, and a folder per student."""
    root = tmp_path_factory.mktemp("course")
    (root / "lessons").mkdir()
    nbformat.write(notebook(), root / "lessons" / f"{STEM}.ipynb")
    for student, (made, *_) in (ODD | CHEATS).items():
        place = root / "handed in" / student
        place.mkdir(parents=True)
        nbformat.write(made, place / f"{STEM}.ipynb")
    return root


@pytest.fixture(scope="module")
def graded(folder):
    """Students' marks, all graded at once."""
    found = grade(find_submissions(folder / "handed in", read_lessons(folder / "lessons")), seconds=8)
    return {one.student: one for one in found}


def said(one) -> str:
    return f"{one.points:g} of {one.most:g} " + " ".join(mark.message for mark in one.marks)


@pytest.mark.parametrize("student", ODD)
def test_odd_submissions_get_what_they_deserve(student, graded):
    _, points, words = ODD[student]
    assert graded[student].points == points, said(graded[student])
    assert words in said(graded[student])


@pytest.mark.parametrize("student", CHEATS)
def test_shortcuts_get_nothing_and_hear_why(student, graded):
    _, words = CHEATS[student]
    one = graded[student]
    assert one.marks[0].points == 0, said(one)
    assert words in one.marks[0].message
    assert one.marks[1].points == 4                     # the other answer is honest


def test_what_is_printed_is_kept_up_to_a_length(graded):
    assert 0 < len(graded["a million letters"].marks[0].printed) <= 2000


# ---- files

@pytest.mark.parametrize("name", [f"ada/{STEM}.ipynb", f"ada/x/y/{STEM}-1.ipynb", "ada/03_forward (1).ipynb",
                                  f"ada_{STEM}.ipynb", f"ada_{STEM} (2).ipynb", f"ada/{STEM}/notebook.ipynb"])
def test_students_and_lessons_are_found_in_files_names(name, folder, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook(), path)
    found, = find_submissions(tmp_path, read_lessons(folder / "lessons"))
    assert (found.student, found.lesson.stem, found.problem) == ("ada", STEM, "")


def test_broken_files_are_reported_and_the_newer_of_two_counts(folder, tmp_path):
    lessons = read_lessons(folder / "lessons")
    (tmp_path / f"bob_{STEM}.ipynb").write_text('{"cells": [')
    nbformat.write(notebook(STUB), tmp_path / f"ada_{STEM}.ipynb")
    time.sleep(0.05)
    nbformat.write(notebook(), tmp_path / f"ada_{STEM} (1).ipynb")
    ada, bob = grade(find_submissions(tmp_path, lessons))
    assert (ada.points, bob.points) == (5, 0)
    assert "older" in ada.submission.notes[0]
    assert "no notebook that can be read" in bob.marks[0].message and bob.marks[0].look


@pytest.mark.parametrize("name, words", [("empty", "there is no notebook"),
                                         ("poem.ipynb", "belongs to a lesson")])
def test_folders_without_submissions_are_refused(name, words, folder, tmp_path):
    if name.endswith("ipynb"):
        nbformat.write(notebook(), tmp_path / name)
    with pytest.raises(MinildmError, match=words):
        find_submissions(tmp_path, read_lessons(folder / "lessons"))


# ---- what an answer needs

def test_a_slice_has_what_is_needed_and_nothing_else():
    cells = ["import torch, time\nn = 3", "time.sleep(9)", "def f(x):\n    return g(x) + n",
             "@torch.no_grad()\ndef g(x):\n    h = 1\n    return h", "n = 4", "many = {}", "many[1] = n"]
    assert slice_for({"f"}, cells) == ["import torch, time", "def f(x):\n    return g(x) + n",
                                       "@torch.no_grad()\ndef g(x):\n    h = 1\n    return h", "n = 4"]
    assert slice_for({"many"}, cells) == ["n = 4", "many = {}", "many[1] = n"]
    assert needed_names("def f(x):\n    y = x + a\n    return [y for y in b]\nprint(f(1))") == {"a", "b"}
    assert defined_names("import a.b\nfrom c import d as e\nf, g = 1, 2\nclass H: i = 1") == set("aefgH")


@pytest.mark.parametrize("source", ["self.x = 1", "net.weight.data = y", "for a.b in c: pass",
                                    "class N(nn.Module):\n    def f(self):\n        self.k = 1", SAMPLE,
                                    "x = torch.nn.Linear(2, 3)\nx.bias = None"])
def test_honest_code_breaks_no_rule(source):
    assert violations(source) == []


# ---- the command

def test_the_command_writes_feedback_and_tables(folder, tmp_path, capsys):
    place = tmp_path / "in" / "=ada <b>"
    place.mkdir(parents=True)
    nbformat.write(notebook(SAMPLE, STUB), place / f"{STEM}.ipynb")
    out = tmp_path / "out"
    words = ["grade", str(tmp_path / "in"), "--lessons", str(folder / "lessons"), "--out", str(out)]
    assert cli.main(words) == 0
    assert "1 of 5" in capsys.readouterr().out
    text, = (path.read_text() for path in (out / "feedback").iterdir())
    assert "✓ ex1: 1 of 1" in text and "✗ ex2: 0 of 4 · not written yet" in text
    canvas = list(csv.reader((out / "canvas.csv").open()))
    assert canvas[0][-1] == STEM and canvas[1][-1] == "5" and canvas[2][-1] == "1"
    assert list(csv.reader((out / "moodle.csv").open()))[1][0].startswith("'=ada")
    results, = (out / "gradescope").rglob("results.json")
    assert json.loads(results.read_text())["score"] == 1
    assert len(list(csv.reader((out / "grades.csv").open()))) == 3


@pytest.mark.parametrize("line, named", [
    ("grade", "SUBMISSIONS"), ("grade /no/such", "SUBMISSIONS takes"),
    ("grade . --seconds 0", "--seconds takes"),
    ("grade . --lessons /no/such", "--lessons takes"), ("grade . --out /proc/x", "cannot")])
def test_bad_arguments_exit_2(line, named, capsys):
    try:
        assert cli.main(line.split()) == 2
    except SystemExit as stop:
        assert stop.code == 2
    assert named in " ".join(capsys.readouterr().err.split())


def test_without_the_solved_lessons_it_says_where_to_take_them(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons_module, "HERE", tmp_path / "gone")
    with pytest.raises(MinildmError, match="--lessons PATH"):
        read_lessons()


@pytest.mark.parametrize("cell, safe_cell", [("=1+1", "'=1+1"), ("-1", "'-1"), ("ada", "ada"), ("@x", "'@x")])
def test_no_cell_is_a_formula(cell, safe_cell):
    assert safe(cell) == safe_cell
