"""Marks as files: feedback per student, tables for Canvas, Moodle and people, Gradescope."""

import csv
import io
import json
import re
from pathlib import Path

from minildm import MinildmError
from minildm.grading.grade import Graded, Mark


def write_reports(graded: list[Graded], folder: Path) -> list[Path]:
    """Write all of them into a folder, which is made if it is not there; the files, in order."""
    folder = Path(folder)
    files = {"grades.csv": table(graded), "canvas.csv": canvas(graded),
             "moodle.csv": moodle(graded)}
    for student in students(graded):
        own = [one for one in graded if one.student == student]
        files[f"feedback/{file_name(student)}.md"] = feedback(student, own)
        for one in own:
            name = f"gradescope/{file_name(student)}/{one.stem}/results.json"
            files[name] = json.dumps(gradescope(one), indent=1)
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MinildmError(f"the marks can't be written: {error.strerror}", folder,
                           "pass --out FOLDER of a place that you may write to") from error
    return [folder / name for name in files]


def students(graded: list[Graded]) -> list[str]:
    return sorted({one.student for one in graded})


def file_name(student: str) -> str:
    """A name that every file system takes, and that leads out of no folder."""
    return re.sub(r"[^\w.@-]+", "_", student).strip(".") or "student"


def number(points: float) -> str:
    return f"{points:g}"


# ---- for a person

def feedback(student: str, graded: list[Graded]) -> str:
    """One student's marks and why, in Markdown."""
    got, most = sum(one.points for one in graded), sum(one.most for one in graded)
    lines = [f"# {student}: {number(got)} of {number(most)} points", ""]
    for one in graded:
        lines += [f"## {one.stem}: {number(one.points)} of {number(one.most)}", ""]
        lines += [f"- note: {note}" for note in one.submission.notes]
        lines += [line for mark in one.marks for line in mark_lines(mark)]
        lines.append("")
    return "\n".join(lines)


def mark_lines(mark: Mark) -> list[str]:
    sign = "✓" if mark.points else "✗"
    line = f"- {sign} {mark.grade_id}: {number(mark.points)} of {number(mark.most)}"
    if mark.message:
        # a message is somebody's words: no markup of theirs
        line += " · " + mark.message.replace("<", "&lt;").replace("\n", " ")
    if mark.look:
        line += " · **your instructor looks at this one**"
    return [line]


# ---- for programs

def as_csv(rows: list[list]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[safe(cell) for cell in row] for row in rows])
    return text.getvalue()


def safe(cell) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = str(cell)
    return f"'{text}" if text[:1] in ("=", "+", "@", "-", "\t") else text


def lessons_of(graded: list[Graded]) -> dict[str, float]:
    """The lessons that were handed in, with their points."""
    return {one.stem: one.most for one in sorted(graded, key=lambda one: one.stem)}


def points_of(graded: list[Graded], student: str, stem: str) -> str:
    found = [one.points for one in graded if (one.student, one.stem) == (student, stem)]
    return number(found[0]) if found else ""


def table(graded: list[Graded]) -> str:
    """A row per student, lesson and exercise: nothing is summed up, nothing lost."""
    rows = [["student", "lesson", "exercise", "points", "of", "why", "look"]]
    for one in graded:
        for mark in one.marks:
            look = "yes" if mark.look else ""
            rows.append([one.student, one.stem, mark.grade_id, number(mark.points),
                         number(mark.most), mark.message, look])
    return as_csv(rows)


def canvas(graded: list[Graded]) -> str:
    """Canvas's gradebook import: its five columns, then one per assignment, and points possible."""
    lessons = lessons_of(graded)
    head = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    possible = ["    Points Possible", "", "", "", "", *map(number, lessons.values())]
    rows = [[*head, *lessons], possible]
    for student in students(graded):
        points = [points_of(graded, student, stem) for stem in lessons]
        rows.append([student, "", "", student, "", *points])
    return as_csv(rows)


def moodle(graded: list[Graded]) -> str:
    """Moodle's grade import: an identifier, then a column per item; map them in its form."""
    lessons = lessons_of(graded)
    rows = [["Username", *lessons]]
    for student in students(graded):
        rows.append([student, *(points_of(graded, student, stem) for stem in lessons)])
    return as_csv(rows)


def gradescope(one: Graded) -> dict:
    """Gradescope's results.json of one submission."""
    tests = [{"name": mark.grade_id, "score": mark.points, "max_score": mark.most,
              "output": mark.message or "passed", "visibility": "visible"} for mark in one.marks]
    return {"score": one.points, "output": "\n".join(one.submission.notes), "tests": tests}
