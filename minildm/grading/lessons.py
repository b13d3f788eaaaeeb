"""The lessons as a grader sees them: exercises with their points, reference answers and checks."""

from dataclasses import dataclass
from pathlib import Path

from minildm import MinildmError
from minildm.grading.notebooks import read_cells
from minildm.grading.slices import defined_names

HERE = Path(__file__).parents[2] / "lessons"        # in a clone


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lesson: its grade id, its points, and what stands in the lesson."""

    grade_id: str
    points: float
    before: tuple[str, ...]             # the lesson's code cells above it, other answers included
    solution: str                       # the reference answer
    checks: tuple[str, ...]             # sources of its graded cells

    @property
    def names(self) -> set[str]:
        """What an answer must define."""
        return defined_names(self.solution)


@dataclass(frozen=True)
class Lesson:
    """A lesson: its file's stem, its exercises in order, the sources of its other code cells."""

    stem: str
    exercises: tuple[Exercise, ...]
    given: tuple[str, ...]

    @property
    def points(self) -> float:
        return sum(exercise.points for exercise in self.exercises)


def read_lessons(folder: Path | None = None) -> dict[str, Lesson]:
    """The solved lessons of a folder by their stems; those without a graded cell are left out."""
    folder = HERE if folder is None else Path(folder)
    paths = sorted(folder.glob("*.ipynb")) if folder.is_dir() else []
    lessons = [read_lesson(path) for path in paths]
    found = {lesson.stem: lesson for lesson in lessons if lesson.exercises}
    if not found:
        raise MinildmError("there are no solved lessons here", folder,
                           "pass the folder `lessons` of a clone: --lessons PATH")
    return found


def read_lesson(path: Path) -> Lesson:
    solutions, checks, given, before = {}, {}, [], {}
    points: dict[str, float] = {}
    last = None
    for source, tags in read_cells(path):
        if tags.get("grade") and not tags.get("solution"):
            # a graded cell belongs to the answer before it
            checks.setdefault(last, []).append(source)
            points[last] = points.get(last, 0) + float(tags.get("points", 0))
        elif tags.get("solution"):
            last = tags["grade_id"]
            solutions[last] = source
            before[last] = (*given, *solutions.values())
        else:
            given.append(source)
    exercises = [Exercise(name, points[name], before[name][:-1], solution, tuple(checks[name]))
                 for name, solution in solutions.items() if name in checks]
    return Lesson(path.stem, tuple(exercises), tuple(given))
