"""From submissions to marks: every answer becomes a job, every outcome a mark."""

from dataclasses import dataclass

from minildm.grading.lessons import Exercise
from minildm.grading.rules import violations
from minildm.grading.sandbox import Job, run_all
from minildm.grading.slices import defined_names, needed_names, plain, slice_for
from minildm.grading.submissions import STUB, Submission

MISSING = "there is no answer to this exercise in the notebook"


@dataclass(frozen=True)
class Mark:
    """One exercise of one submission: points of so many, why, and whether to look at it."""

    grade_id: str
    points: float
    most: float
    message: str = ""
    look: bool = False          # something here is not as it should be
    printed: str = ""


@dataclass(frozen=True)
class Graded:
    """A submission and its marks, in the order of the exercises."""

    submission: Submission
    marks: tuple[Mark, ...]

    @property
    def student(self) -> str:
        return self.submission.student

    @property
    def stem(self) -> str:
        return self.submission.lesson.stem

    @property
    def points(self) -> float:
        return sum(mark.points for mark in self.marks)

    @property
    def most(self) -> float:
        return self.submission.lesson.points


def grade(submissions: list[Submission], seconds: float = 20.0, at_once: int | None = None
          ) -> list[Graded]:
    """Grade all submissions; an answer may take so many seconds, and so many run at a time."""
    marks: dict[tuple[int, str], Mark] = {}
    jobs = []
    for number, submission in enumerate(submissions):
        for exercise in submission.lesson.exercises:
            key = number, exercise.grade_id
            if (mark := mark_at_once(submission, exercise)) is not None:
                marks[key] = mark
            else:
                jobs.append(job_of(key, submission, exercise))
    most = {(number, exercise.grade_id): exercise.points
            for number, submission in enumerate(submissions)
            for exercise in submission.lesson.exercises}
    for job, outcome in run_all(jobs, seconds, at_once):
        points = most[job.key] if outcome.passed else 0.0
        marks[job.key] = Mark(job.key[1], points, most[job.key], outcome.message,
                              outcome.tampered, outcome.printed)
    graded = []
    for number, submission in enumerate(submissions):
        ids = [exercise.grade_id for exercise in submission.lesson.exercises]
        graded.append(Graded(submission, tuple(marks[number, name] for name in ids)))
    return graded


def mark_at_once(submission: Submission, exercise: Exercise) -> Mark | None:
    """The mark of what needs no process: nothing handed in, nothing written, a rule broken."""
    answer = submission.answers.get(exercise.grade_id)
    message, look = "", False
    if submission.problem:
        message, look = submission.problem, True
    elif answer is None:
        message = MISSING
    elif STUB in answer or not plain(answer).strip():
        message = "not written yet"
    elif broken := violations(plain(answer)):
        message, look = "against the rules: " + "; ".join(broken), True
    if not message:
        return None
    return Mark(exercise.grade_id, 0.0, exercise.points, message, look)


def job_of(key, submission: Submission, exercise: Exercise) -> Job:
    """An answer with the statements that it needs: of the student's own cells and of the lesson.

    In the place of the student's other answers stand the reference's, so that one mistake costs
    once.
    """
    answer = submission.answers[exercise.grade_id]
    needed = needed_names(answer)
    for check in exercise.checks:
        needed |= needed_names(check) - defined_names(answer)
    others = [source for name, source in submission.answers.items() if name != exercise.grade_id]
    theirs = [cell for cell in (*others, *submission.extra)
              if STUB not in cell and not violations(plain(cell))]
    own = slice_for(needed, theirs)
    for part in own:
        needed |= needed_names(part)
    # the lesson's names come last: they are the ones that the exercise speaks of
    given = slice_for(needed, list(exercise.before))
    context = [(part, True) for part in (*given, *own)] + [(part, False) for part in given]
    return Job(key, tuple(context if own else context[len(given):]), answer, exercise.checks)
