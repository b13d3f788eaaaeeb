"""Find submitted notebooks and the answers in them, whatever happened to files and cells."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from minildm import MinildmError
from minildm.grading.lessons import Exercise, Lesson
from minildm.grading.notebooks import Cell, read_cells
from minildm.grading.slices import defined_names, plain

NUMBER = re.compile(r"(?<![0-9A-Za-z])(A?\d{1,2})(?=_)")    # the lesson's, in a file's name
STUB = "raise NotImplementedError()"


@dataclass
class Submission:
    """One student's notebook of one lesson; `problem` says why nothing could be read."""

    student: str
    lesson: Lesson
    path: Path
    answers: dict[str, str] = field(default_factory=dict)       # by grade id
    extra: list[str] = field(default_factory=list)              # cells that the student added
    problem: str = ""
    notes: list[str] = field(default_factory=list)


def find_submissions(folder: Path, lessons: dict[str, Lesson]) -> list[Submission]:
    """All notebooks below a folder: STUDENT/any/where/03_x.ipynb, or STUDENT_03_x.ipynb in it.

    A student's name is the first folder's, or else what stands before the lesson in the file's
    name. Of two files of one student and lesson the newer one counts, with a note.
    """
    folder = Path(folder)
    paths = [folder] if folder.is_file() else sorted(folder.rglob("*.ipynb"))
    paths = [path for path in paths if ".ipynb_checkpoints" not in path.parts]
    if not paths:
        raise MinildmError("there is no notebook here", folder,
                           "pass a folder with one folder per student, or the notebooks themselves")
    newest: dict[tuple[str, str], Submission] = {}
    unknown = []
    for path in paths:
        stem = lesson_of(path, lessons)
        if stem is None:
            unknown.append(path.name)
            continue
        student = student_of(path, folder, stem)
        submission = read_submission(student, lessons[stem], path)
        other = newest.get((student, stem))
        if other is not None:
            first, second = sorted((other, submission), key=lambda s: s.path.stat().st_mtime)
            second.notes.append(f"{first.path.name} is older and was not graded")
            submission = second
        newest[student, stem] = submission
    if not newest:
        raise MinildmError(f"no notebook here belongs to a lesson: {', '.join(unknown[:5])}",
                           folder, "keep the lesson's name in the file's: 03_forward_noising.ipynb")
    return [newest[key] for key in sorted(newest)]


def lesson_of(path: Path, lessons: dict[str, Lesson]) -> str | None:
    """The lesson that a file's name, or its folder's, speaks of."""
    for text in (path.stem, path.parent.name):
        for stem in lessons:
            if stem in text:
                return stem
    for found in NUMBER.findall(path.stem):
        stems = [stem for stem in lessons if stem.split("_")[0] == found]
        if stems:
            return stems[0]
    return None


def student_of(path: Path, folder: Path, stem: str) -> str:
    parts = path.relative_to(folder).parts if folder.is_dir() else (path.name,)
    if len(parts) > 1:
        return parts[0]
    found = NUMBER.search(path.stem)
    before = path.stem.split(stem)[0] if stem in path.stem else path.stem[:found.start()]
    return before.strip("_- ") or path.stem


def read_submission(student: str, lesson: Lesson, path: Path) -> Submission:
    submission = Submission(student, lesson, path)
    try:
        cells = read_cells(path)
    # a file of anybody's may be wrong in any way
    except Exception as error:
        submission.problem = f"this is no notebook that can be read: {str(error)[:200]}"
        return submission
    for exercise in lesson.exercises:
        if (answer := answer_to(exercise, cells)) is not None:
            submission.answers[exercise.grade_id] = answer
    theirs = {exercise.solution for exercise in lesson.exercises}
    known = {*lesson.given, *theirs, *submission.answers.values()}
    known |= {check for exercise in lesson.exercises for check in exercise.checks}
    submission.extra = [source for source, tags in cells
                        if source not in known and not tags.get("grade") and source.strip()]
    return submission


def answer_to(exercise: Exercise, cells: list[Cell]) -> str | None:
    """The answer: the cell with the grade id, else the last one that defines what is wanted.

    A copy of a cell may have the same id: then the last one that was written counts.
    """
    with_id = [source for source, tags in cells
               if tags.get("grade_id") == exercise.grade_id and not tags.get("grade")]
    written = [source for source in with_id if STUB not in source]
    if written:
        return written[-1]
    # the cell was deleted, or its metadata lost: what it should define may stand elsewhere
    others = [source for source, _ in cells if STUB not in source
              and exercise.names and exercise.names <= defined_names(plain(source))]
    if others:
        return others[-1]
    return with_id[-1] if with_id else None
