"""How long the lessons take: with nbval at the smoke budget, and on a student's processor."""

from benchmarks.claims import BUILD, claims_of
from benchmarks.commands import LESSONS, PYTEST, timed

claim = claims_of("lessons")

SPINE = ("00", "01", "03", "04", "05")


def measure():
    spine = [path for path in LESSONS if path.name[:2] in SPINE]
    rest = [path for path in LESSONS if path not in spine]
    for name, files in ("five lessons", spine), ("the others", rest):
        seconds = timed([*PYTEST, *map(str, files)], MINILDM_BUDGET="smoke")
        yield claim(f"seconds of nbval over {name}", round(seconds), seconds)
    for path in LESSONS:
        command = ["-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir",
                   str(BUILD / "lessons"), str(path)]
        seconds = timed(command, MINILDM_BUDGET="cpu")
        yield claim("minutes at the cpu budget", seconds / 60, seconds,
                    detail=path.name[:2])
