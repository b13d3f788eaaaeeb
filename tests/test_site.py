"""What the site makes of a lesson, of a docstring, and of the repository's address."""

import ast

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from docs.site import docstrings, links, notebooks, pages

NOWHERE = links.Links("", "main", "gh-pages", "http://localhost:8888")
HOME = links.Links("https://github.com/ada/minildm", "main", "gh-pages", "http://localhost:8888")
ANSWER = "def f(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION"


def figure(**words):
    metadata = {"image/png": words} if words else {}
    return new_output("display_data", data={"image/png": "AAAA"}, metadata=metadata)


@pytest.fixture
def lesson():
    head = ("# 03 · Noise\n\n**How?**\n\n| | |\n| --- | --- |\n| **you need** | lesson 02 |\n"
            "| **time** | 2 minutes on 2 CPU cores; two hours with the exercises |")
    check = new_code_cell("check(f)", execution_count=2, metadata={
        "nbgrader": {"grade_id": "ex1_check", "grade": True, "points": 3, "solution": False}},
        outputs=[new_output("display_data", data={"text/html": '<span style="color: #1a7f37">✓ f</span>'})])
    answer = new_code_cell(ANSWER, execution_count=1, metadata={
        "nbgrader": {"grade_id": "ex1", "grade": False, "solution": True}})
    drawn = new_code_cell("draw()", execution_count=3, outputs=[figure(alt="a circle"), figure()])
    texts = new_markdown_cell(head), new_markdown_cell("## 1 · See")
    return new_notebook(cells=[texts[0], answer, check, texts[1], drawn])


def test_a_page_shows_the_stub_and_folds_the_solution(lesson):
    page = notebooks.for_page(lesson, NOWHERE, "03_noise.ipynb")
    nbformat.validate(page)
    _, ways, stub, solution, check, *_ = page.cells
    assert "open-lesson" in ways.source
    assert "raise NotImplementedError" in stub.source and "2 * x" not in stub.source
    assert solution.source.startswith('<details class="solution">') and "    return 2 * x" in solution.source
    assert "SOLUTION\n" not in solution.source
    assert check.outputs[0].data["text/html"] == '<span class="check-passed">✓ f</span>'
    assert "2 * x" in lesson.cells[1].source                    # the lesson itself is as it was


def test_figures_without_a_text_are_told_by_their_heading(lesson):
    page = notebooks.for_page(lesson, NOWHERE, "03_noise.ipynb")
    texts = [output.metadata["image/png"]["alt"] for output in page.cells[-1].outputs]
    assert texts == ["a circle", "Figure of “1 · See”, not described yet."]


def test_a_student_gets_a_cell_for_colab_where_there_is_an_address(lesson):
    assert len(notebooks.for_student(lesson, NOWHERE).cells) == len(lesson.cells)
    cell = notebooks.for_student(lesson, HOME).cells[1].source
    assert "git+https://github.com/ada/minildm\n" in cell and "MINILDM_BUDGET" in cell
    ast.parse(cell.replace("%pip", "# "))


def test_buttons_are_made_from_the_one_address():
    ways = {label: address for label, address, _ in HOME.buttons("03.ipynb", "../")}
    assert ways == {
        "Download": "../notebooks/03.ipynb",
        "Colab": "https://colab.research.google.com/github/ada/minildm/blob/gh-pages/notebooks/03.ipynb",
        "Binder": "https://mybinder.org/v2/gh/ada/minildm/gh-pages?labpath=notebooks%2F03.ipynb",
        "With solutions": "https://github.com/ada/minildm/blob/main/lessons/03.ipynb",
        "Local Jupyter": "http://localhost:8888/lab/tree/build/student/03.ipynb"}
    assert [label for label, *_ in NOWHERE.buttons("03.ipynb", "../")] == ["Download", "Local Jupyter"]


def test_the_environment_stands_above_the_settings(monkeypatch):
    monkeypatch.setenv("MINILDM_REPOSITORY", "https://github.com/ada/minildm.git/")
    assert links.read().slug == "ada/minildm" and links.read().on_github


def test_the_syllabus_says_what_lessons_say(lesson):
    one = pages.read_lesson("03_noise", lesson)
    assert (one.title, one.question, one.needs, one.points) == ("03 · Noise", "How?", "lesson 02", 3)
    row = "| [03 · Noise](lessons/03_noise.ipynb) | How? | two hours | 1 | 3 |"
    assert row in pages.syllabus([one])


def test_the_reference_holds_every_public_module_and_no_solution():
    listed = {name for names in pages.modules().values() for name in names}
    assert {"minildm.model", "minildm.diffusion.samplers", "minildm.nn.dit"} <= listed
    assert not any("exercises.lesson" in name or name.endswith("__main__") for name in listed)


@pytest.mark.parametrize("plain, rst", [
    (["x_t of `f(x)`, 2 * 3"], ["x\\_t of \\ ``f(x)``\\ , 2 \\* 3", ""]),
    (["so:", "    a_b = 1", "then"], ["so:", "", "::", "", "    a_b = 1", "", "then", ""]),
    (["- one", "  goes on", "- two"], ["- one", "  goes on", "", "- two", ""]),
])
def test_docstrings_become_what_sphinx_reads(plain, rst):
    docstrings.to_rst(None, "function", "f", None, None, plain)
    assert plain == rst
