"""Real nbgrader on every lesson: students see no solution, blank scores 0, the lesson itself full marks."""

import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

pytest.importorskip("nbgrader", reason="pip install -e .[instructor]")
LESSONS = sorted(Path(__file__).parents[1].glob("lessons/*.ipynb"))
# nbval runs every lesson with its answers, and the grader's tests mark them all: nbgrader's own full
# marks are seen on two short ones
ANSWERED = [path for path in LESSONS if path.stem[:2] in ("03", "11")]
sys.path.insert(0, str(Path(__file__).parents[1] / "lessons"))
import student  # noqa: E402


@dataclass
class Graded:
    score: float            # what the checks gave
    points: float           # what they can give
    failed: list[str]       # grade ids of the exercise cells that ended in an error
    elsewhere: list[str]    # sources of other cells that did


def grader(folder: Path):
    """nbgrader as in that course's folder."""
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import PyFileConfigLoader

    config = PyFileConfigLoader("nbgrader_config.py", path=str(folder)).load_config()
    config.CourseDirectory.root = str(folder)
    return NbGraderAPI(config=config)


def hand_out(course: Path, name: str):
    """What the students get."""
    result = grader(course).generate_assignment(name)
    assert result["success"], result["log"]
    return nbformat.read(course / "release" / name / f"{name}.ipynb", 4)


def grade(course: Path, name: str, answer) -> Graded:
    """Hand the notebook answer in and autograde it, in a copy of the course: several run side by side."""
    from nbgrader.api import Gradebook

    folder = course.with_name(f"{course.name}-{os.getpid()}")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(course, folder)
    handed_in = folder / "submitted/ada" / name / f"{name}.ipynb"
    handed_in.parent.mkdir(parents=True)
    nbformat.write(answer, handed_in)
    api = grader(folder)
    result = api.autograde(name, "ada")
    assert result["success"], result["log"]

    with Gradebook(api.coursedir.db_url, api.coursedir.course_id) as book:
        grades = book.find_submission_notebook(name, name, "ada").grades
        # Open questions, in markdown, are for the instructor to grade.
        marks = [(g.auto_score or 0, g.max_score) for g in grades if g.cell.cell_type == "code"]
    cells = nbformat.read(folder / "autograded/ada" / name / f"{name}.ipynb", 4).cells
    errors = [c for c in cells if any(o.output_type == "error" for o in c.get("outputs", []))]
    return Graded(score=sum(s for s, _ in marks), points=sum(p for _, p in marks),
                  failed=[c.metadata.nbgrader.grade_id for c in errors if "nbgrader" in c.metadata],
                  elsewhere=[c.source for c in errors if "nbgrader" not in c.metadata])


def one_thread():
    os.environ["OMP_NUM_THREADS"] = str(max(1, os.cpu_count() // 2))    # for the kernels: two at a time


@pytest.fixture(scope="module")
def grade_all():
    """grade(...) for several answers, two at a time."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=one_thread) as pool:
        yield lambda course, name, answers: [job.result() for job in
                                             [pool.submit(grade, course, name, a) for a in answers]]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """One nbgrader course of all lessons, and of the toy lesson below."""
    folder = tmp_path_factory.mktemp("nbgrader")
    nbformat.write(toy(), folder / "toy.ipynb")
    student.course([*LESSONS, folder / "toy.ipynb"], folder / "course")
    return folder / "course"


def check_released(lesson, released):
    """No solution, no output, and the same cells as our own generator's."""
    text = "\n".join(cell.source for cell in released.cells)
    for cell in lesson.cells:
        for part in cell.source.split("BEGIN SOLUTION\n")[1:]:
            body = part[:part.index("END SOLUTION")].rpartition("\n")[0]
            assert body.strip() and body not in text
    assert "BEGIN SOLUTION" not in text and "HIDDEN TESTS" not in text
    assert not any(cell.get("outputs") for cell in released.cells)
    ours = student.student_version(lesson).cells
    assert [(c.cell_type, c.source) for c in released.cells] == [(c.cell_type, c.source) for c in ours]


@pytest.mark.slow
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson_is_graded(path, course, grade_all):
    lesson = nbformat.read(path, 4)
    checks = [c.metadata.nbgrader.grade_id for c in lesson.cells
              if c.cell_type == "code" and c.metadata.get("nbgrader", {}).get("grade")]
    released = hand_out(course, path.stem)
    check_released(lesson, released)
    answers = [released, lesson] if path in ANSWERED else [released]
    blank, *answered = grade_all(course, path.stem, answers)
    for full in answered:
        assert (full.score, full.failed, full.elsewhere) == (full.points, [], [])
    assert blank.points > 0 and blank.score == 0
    assert set(checks) <= set(blank.failed)
    assert blank.elsewhere == [], "a blank answer fails its own checks only: then take the package's version"


# ---- the harness itself, on a lesson of one exercise -----------------------------------------------------

def meta(grade_id, **kind):
    return {"nbgrader": {"schema_version": 3, "grade_id": grade_id, "grade": False, "solution": False,
                         "locked": False, "task": False, **kind}}


def toy(body="return 2 * x", later="double = (2).__mul__"):
    return new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}, cells=[
        new_markdown_cell("# Doubling"),
        new_code_cell(f"def double(x):\n    ### BEGIN SOLUTION\n    {body}\n    ### END SOLUTION",
                      metadata=meta("ex1", solution=True)),
        new_code_cell("assert double(3) == 6\n"
                      "### BEGIN HIDDEN TESTS\nassert double(5) == 10\n### END HIDDEN TESTS",
                      metadata=meta("ex1_check", grade=True, points=2, locked=True)),
        new_markdown_cell("It doubles.", metadata=meta("why", grade=True, points=1, solution=True)),
        new_code_cell(later),
        new_code_cell("print(double(4))"),
    ])


@pytest.mark.slow
def test_toy_lesson_is_graded(course, grade_all):
    released = hand_out(course, "toy")
    check_released(toy(), released)
    guess = toy(body="return x + 3")                            # right for the one number that shows
    unaided = student.student_version(toy(later="pass"))       # blank, and without the package's version
    full, blank, guessed, alone = grade_all(course, "toy", [toy(), released, guess, unaided])
    assert (full.score, full.points, full.failed, full.elsewhere) == (2, 2, [], [])
    assert (blank.score, blank.failed, blank.elsewhere) == (0, ["ex1_check"], [])
    assert (guessed.score, guessed.failed) == (0, ["ex1_check"])
    assert (alone.score, alone.elsewhere) == (0, ["print(double(4))"])


def test_student_versions_of_all_lessons_are_written(tmp_path):
    student.main(tmp_path)
    names = {path.name for path in LESSONS}
    assert {path.name for path in tmp_path.glob("student/*.ipynb")} == names
    assert {path.name for path in tmp_path.glob("course/source/*/*.ipynb")} == names
    assert (tmp_path / "course/nbgrader_config.py").exists()


def test_a_solution_that_stands_elsewhere_too_is_seen():
    lesson = toy()
    leaky = student.student_version(lesson)
    check_released(lesson, leaky)
    leaky.cells[0].source = "Answer:\n    return 2 * x"
    with pytest.raises(AssertionError):
        check_released(lesson, leaky)
