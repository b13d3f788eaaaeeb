"""Lessons have the form that lessons/TEMPLATE.md describes. A lesson joins REWORKED when it is ready."""

import ast
import base64
import io
import re
from pathlib import Path

import nbformat
import pytest
from PIL import Image

LESSONS = Path(__file__).parents[1] / "lessons"
# stems: each of these has no `problems`
REWORKED: list[str] = [
    "00_tour", "01_vae", "02_sharp_latents", "03_forward_noising", "04_unet", "05_samplers",
    "06_clip", "07_cross_attention", "08_guidance", "09_flow_matching", "10_dit",
    "11_editing", "12_control", "13_restoration", "14_evaluation", "15_cifar", "16_stable_diffusion",
    "17_few_steps", "18_video", "A1_why_is_it_noise"]

TITLE = re.compile(r"^# (A?\d+) · .+\n\n\*\*[^*]+\?[^*]*\*\*\n\n(.|\n)+\n\n\*\*At the end\*\*: .+")
ROWS = ["you need", "you will be able to", "time", "sources"]
EXERCISE = re.compile(r"^### Exercise (\d+) · (.+) \((easy|medium|hard), (essential|important|optional), "
                      r"(\d+) minutes, (\d+) points?\)$", re.M)
CLAIMS = "| claim | measured | n, seeds, interval | verdict |"
VERDICTS = {"holds", "holds partly", "refuted here", "not resolved"}
ENDING = ["What we measured", "What you built", "Two open questions", "Read on"]
CLAIM_NUMBER = re.compile(r"\bC\d{1,2}\b")


def prose_of(notebook) -> str:
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def section(notebook, name: str) -> str:
    """The markdown, and what cells print, under a heading of level 2."""
    texts, inside = [], False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for part in re.split(r"^(?=## )", cell.source, flags=re.M):
                if part.startswith("## "):
                    inside = part.split("\n")[0] == f"## {name}"
                texts += [part] * inside
        elif inside:
            texts += ["".join(o.get("text", "")) or o.get("data", {}).get("text/markdown", "")
                      for o in cell.outputs]
    return "\n".join(texts)


def defined(source: str) -> list[str]:
    kinds = ast.FunctionDef, ast.ClassDef
    return [node.name for node in ast.parse(source).body if isinstance(node, kinds)]


def grade(cell) -> dict:
    return cell.metadata.get("nbgrader", {})


# ---- one function a part of the template: each returns what is wrong, in words

def header(notebook) -> list[str]:
    first, second = (cell.source for cell in notebook.cells[:2])
    found = []
    if not TITLE.match(first):
        found.append("cell 1 is not: title, question in bold, what it is about, **At the end**: ...")
    if re.findall(r"^\| \*\*(.+?)\*\* \| .+ \|$", second, re.M) != ROWS:
        found.append(f"cell 2 is not a table of {', '.join(ROWS)}")
    if not re.search(r"\*\*time\*\* \| \d.*CPU.*GPU.*exercises", second):
        found.append("the time is not: minutes on 2 CPU cores, on a GPU, with the exercises")
    if "](glossary.md" not in prose_of(notebook):
        found.append("the glossary is not linked")
    return found


def words(notebook) -> list[str]:
    text = prose_of(notebook)
    printed = "\n".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))
    found = ["TODO"] if re.search(r"\bTODO\b", text) else []
    numbers = sorted(set(CLAIM_NUMBER.findall(text + printed)))
    return found + ([f"numbers of claims: {numbers}"] if numbers else [])


def exercises(notebook) -> list[str]:
    cells, found, expected = notebook.cells, [], []
    headings = [match for c in cells if c.cell_type == "markdown"
                for match in re.findall(r"^#+ Exercise.*$", c.source, re.M)]
    found += [f"a heading of an exercise: {h}" for h in headings if not EXERCISE.match(h)]
    numbers = [int(EXERCISE.match(h)[1]) for h in headings if EXERCISE.match(h)]
    if numbers != list(range(1, len(numbers) + 1)) or not 2 <= len(numbers) <= 6:
        found.append(f"exercises are {numbers}, not 1, 2, ... (two to six)")
    ids = [grade(c)["grade_id"] for c in cells if grade(c)]
    for n in numbers:
        expected += [f"ex{n}", f"ex{n}_check"]
    if ids != expected:
        found.append(f"grade ids are {ids}")
    for i, cell in enumerate(cells):
        if cell.cell_type == "markdown" and (posed := EXERCISE.search(cell.source)):
            after = [grade(c) for c in cells[i + 1:i + 3]]
            if [g.get("grade_id") for g in after] != [f"ex{posed[1]}", f"ex{posed[1]}_check"]:
                found.append(f"exercise {posed[1]} is not followed by its answer and its check")
            elif after[1].get("points") != int(posed[6]):
                found.append(f"exercise {posed[1]} says {posed[6]} points, its check another number")
    return found


def answers_are_used(notebook) -> list[str]:
    cells, found = notebook.cells, []
    for i, cell in enumerate(cells):
        if cell.cell_type == "code" and grade(cell).get("solution"):
            later = "\n".join(c.source for c in cells[i + 1:]
                              if c.cell_type == "code" and not grade(c).get("grade"))
            names = defined(cell.source)
            if not any(re.search(rf"\b{name}\b", later) for name in names):
                found.append(f"the answer {', '.join(names)} is not used later")
    return found


def core_pieces(notebook) -> list[str]:
    """Built first, then met, then compared, then used."""
    code = [c for c in notebook.cells if c.cell_type == "code"]
    found, first_answer = [], {}
    for i, cell in enumerate(code):
        if grade(cell).get("solution"):
            first_answer |= {name: i for name in defined(cell.source)}
    for i, cell in enumerate(code):
        for piece in re.findall(r"show_source\(([\w.]+)\)", cell.source):
            if first_answer.get(piece.split(".")[-1], -1) > i:
                found.append(f"show_source({piece}) stands before its exercise")
    source = "\n".join(c.source for c in code if not grade(c))
    for what, pattern in {"exercises.yours": r"\byours\(", "show_source": r"\bshow_source\(",
                          "a cell that asserts that both agree": r"assert_close|assert torch\.equal"}.items():
        if not re.search(pattern, source):
            found.append(f"there is no {what}")
    if not re.search(r"^### Meet the package's", prose_of(notebook), re.M):
        found.append("there is no heading ### Meet the package's")
    return found


def figures(notebook) -> list[str]:
    found = []
    for i, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if "image/png" not in output.get("data", {}):
                continue
            alt = output.metadata.get("image/png", {}).get("alt", "")
            if len(alt) < 30:
                found.append(f"cell {i}: a picture without alternative text")
            picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
            dpi = round(picture.info.get("dpi", (0, 0))[0])
            if dpi < 110:
                found.append(f"cell {i}: a picture at {dpi} dpi")
            elif picture.width > 10 * dpi:
                found.append(f"cell {i}: a picture {picture.width / dpi:.1f} inches wide")
    drawn = re.findall(r"\bdiagrams\.\w+\(", "\n".join(c.source for c in notebook.cells))
    return found + (["fewer than two diagrams"] if len(drawn) < 2 else [])


def ending(notebook) -> list[str]:
    headings, found = re.findall(r"^## (.+)$", prose_of(notebook), re.M), []
    if headings[-4:] != ENDING:
        found.append(f"the last headings are {headings[-4:]}, not {ENDING}")
    sections = headings[:-4]
    if [h.split(" · ")[0] for h in sections] != [str(k + 1) for k in range(len(sections))]:
        found.append(f"sections are not '## 1 · ...', '## 2 · ...': {sections}")
    measured = section(notebook, ENDING[0])
    rows = measured.partition(CLAIMS)[2].strip().split("\n")[1:]
    rows = [row for row in rows if row.startswith("|")]
    if not rows:
        found.append(f"there is no table {CLAIMS}")
    for row in rows:
        verdict = row.strip().strip("|").split("|")[-1].strip()
        if verdict not in VERDICTS:
            found.append(f"the verdict {verdict!r} is none of {sorted(VERDICTS)}")
    asked = re.findall(r"^\d\. [^?]*\?", section(notebook, ENDING[2]), re.M)
    if len(asked) != 2:
        found.append(f"{len(asked)} open questions, not two")
    links = re.findall(r"^[-*] .*\]\(http", section(notebook, ENDING[3]), re.M)
    if not 1 <= len(links) <= 5:
        found.append(f"read on: {len(links)} links in its list, not one to five")
    return found


PARTS = header, words, exercises, answers_are_used, core_pieces, figures, ending


def problems(notebook) -> list[str]:
    return [f"{part.__name__}: {what}" for part in PARTS for what in part(notebook)]


@pytest.mark.parametrize("stem", REWORKED)
def test_a_reworked_lesson_has_the_form(stem):
    assert problems(nbformat.read(LESSONS / f"{stem}.ipynb", 4)) == []


def test_reworked_lessons_are_in_order_and_there():
    assert sorted(set(REWORKED)) == REWORKED
    assert all((LESSONS / f"{stem}.ipynb").exists() for stem in REWORKED)


# ---- the lint itself: a lesson made of TEMPLATE.md's own examples passes

def examples() -> list[str]:
    return re.findall(r"```markdown\n(.+?)```", (LESSONS / "TEMPLATE.md").read_text(), re.S)


def png() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (100, 50)).save(buffer, "PNG", dpi=(110, 110))
    return base64.b64encode(buffer.getvalue()).decode()


def good():
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    first, table, exercise, claims = examples()
    picture = new_output("display_data", data={"image/png": png()},
                         metadata={"image/png": {"alt": "Accuracy against scale: it rises from 0.9 to 1."}})
    cells = [new_markdown_cell(first.strip()), new_markdown_cell(table.strip()),
             new_code_cell("show(diagrams.vae())\nshow(diagrams.unet())", outputs=[picture]),
             new_markdown_cell("## 1 · A step\n\nSee the [glossary](glossary.md).")]
    for n, name in ((1, "step"), (2, "other")):
        cells += [new_markdown_cell(exercise.strip().replace("Exercise 1", f"Exercise {n}")),
                  new_code_cell(f"def {name}(x):\n    return x",
                                metadata={"nbgrader": {"grade_id": f"ex{n}", "solution": True}}),
                  new_code_cell(f"exercises.check_{name}({name})", metadata={
                      "nbgrader": {"grade_id": f"ex{n}_check", "grade": True, "points": 3}})]
    cells += [new_markdown_cell("### Meet the package's"), new_code_cell("show_source(step)"),
              new_code_cell('torch.testing.assert_close(yours("step")(x), yours("other")(x))'),
              new_markdown_cell("## What we measured\n\n" + claims),
              new_markdown_cell("## What you built"),
              new_markdown_cell("## Two open questions\n\n1. Why?\n2. How else?"),
              new_markdown_cell("## Read on\n\n- [this](https://example.org): for that")]
    return new_notebook(cells=cells)


def test_the_examples_of_the_template_make_a_good_lesson():
    assert problems(good()) == []


def swap(index, old, new):
    def change(notebook):
        cell = notebook.cells[index]
        assert old in cell.source
        cell.source = cell.source.replace(old, new)
    return change


@pytest.mark.parametrize("named, change", {
    "cell 1": swap(0, "**At the end**", "At the end"),
    "cell 2": swap(1, "**you need**", "**needs**"),
    "the time": swap(1, "90 minutes with the exercises", "more"),
    "glossary": swap(3, "glossary.md", "words.md"),
    "TODO": swap(3, "See", "TODO See"),
    "numbers of claims": swap(3, "See", "As C12 says,"),
    "a heading of an exercise": swap(4, "medium", "fair"),
    "points": swap(4, "3 points", "2 points"),
    "grade ids": lambda nb: nb.cells[5].metadata.nbgrader.update(grade_id="a"),
    "is not used": swap(12, 'yours("other")(x)', "x"),
    "before its exercise": swap(2, "show(diagrams.vae())", "show(diagrams.vae())\nshow_source(step)"),
    "no exercises.yours": swap(12, "yours(", "mine("),
    "no heading": swap(10, "Meet", "See"),
    "alternative text": lambda nb: nb.cells[2].outputs[0].metadata.clear(),
    "fewer than two": swap(2, "diagrams.unet()", "fig"),
    "the last headings": swap(-1, "Read on", "More"),
    "verdict": swap(-4, "| holds |", "| rises |"),
    "open questions": swap(-2, "How else?", "No."),
    "links": swap(-1, "- [this]", "[this]"),
}.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_the_lint_names_what_is_wrong(named, change):
    notebook = good()
    change(notebook)
    assert any(named in what for what in problems(notebook)), problems(notebook)
