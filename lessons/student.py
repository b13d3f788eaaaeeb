"""The lessons without their solutions, for anyone who would rather try first, and as an nbgrader course.

    python lessons/student.py [FOLDER]      # or `make student`; FOLDER is build/ unless given

FOLDER/student/   the lessons with solutions, hidden tests and outputs taken out
FOLDER/course/    an nbgrader course of the whole lessons: there, `nbgrader generate_assignment 01_vae`
                  makes release/01_vae; answers go to submitted/<student>/01_vae, then
                  `nbgrader autograde 01_vae` grades them
"""

import copy
import sys
from pathlib import Path

import nbformat

# What nbgrader writes in a solution's place.
STUBS = {"code": ["# YOUR CODE HERE", "raise NotImplementedError()"], "markdown": ["YOUR ANSWER HERE"]}
CONFIG = """c = get_config()
c.CourseDirectory.course_id = "minildm"
# seconds a cell may take; while nbgrader grades, lessons run at MINILDM_BUDGET=smoke, a few seconds a cell
c.Execute.timeout = 300
"""


def cut(source: str, name: str, stub: list[str]) -> str:
    """source with each region from `BEGIN name` to `END name` replaced by stub, indented alike."""
    lines, inside = [], False
    for line in source.split("\n"):
        if f"BEGIN {name}" in line:
            lines += [line[:len(line) - len(line.lstrip())] + new for new in stub]
            inside = True
        elif f"END {name}" in line:
            inside = False
        elif not inside:
            lines.append(line)
    return "\n".join(lines)


def student_version(lesson):
    """The notebook as students get it, cell for cell what `nbgrader generate_assignment` makes of it."""
    lesson = copy.deepcopy(lesson)
    for cell in lesson.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if cell.metadata.get("nbgrader", {}).get("solution"):
            stub = STUBS[cell.cell_type]
            whole = "BEGIN SOLUTION" not in cell.source
            cell.source = "\n".join(stub) if whole else cut(cell.source, "SOLUTION", stub)
        cell.source = cut(cell.source, "HIDDEN TESTS", [])
    return lesson


def course(lessons: list[Path], folder: Path):
    """An nbgrader course in folder: each lesson, solutions and all, is the source of an assignment."""
    folder.mkdir(parents=True, exist_ok=True)
    for lesson in lessons:
        source = folder / "source" / lesson.stem / lesson.name
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_bytes(lesson.read_bytes())
    (folder / "nbgrader_config.py").write_text(CONFIG)


def main(folder: Path):
    here = Path(__file__).parent
    lessons = sorted(here.glob("*.ipynb"))
    (folder / "student").mkdir(parents=True, exist_ok=True)
    for lesson in lessons:
        nbformat.write(student_version(nbformat.read(lesson, 4)), folder / "student" / lesson.name)
    course(lessons, folder / "course")
    print(f"{len(lessons)} lessons: no solutions in {folder}/student, an nbgrader course in {folder}/course")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build"))
