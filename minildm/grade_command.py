"""`minildm grade SUBMISSIONS`: marks and feedback for submitted notebooks."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from minildm.options import check, check_out_folder, expanded


@dataclass(frozen=True)
class Grade:
    """Grade submitted notebooks: each answer in a process of its own, no lesson executed."""

    # a folder with a folder per student, or STUDENT_03_forward_noising.ipynb files
    submissions: Annotated[Path, tyro.conf.arg(metavar="SUBMISSIONS"), tyro.conf.Positional]
    lessons: Path | None = None  # the solved lessons; by default those of the clone
    out: Path = Path("grades")  # folder of the feedback and the tables
    seconds: float = 20.0  # that an answer may take, 1 to 600

    def check(self):
        path = expanded("SUBMISSIONS", self.submissions)
        check("SUBMISSIONS", path.exists(), "a folder or a notebook that exists", self.submissions)
        check("--seconds", 1 <= self.seconds <= 600, "1 to 600", self.seconds)
        if self.lessons is not None:
            is_folder = expanded("--lessons", self.lessons).is_dir()
            check("--lessons", is_folder, "the folder of the solved lessons", self.lessons)
        check_out_folder(self.out)

    def run(self):
        from minildm.grading.grade import grade
        from minildm.grading.lessons import read_lessons
        from minildm.grading.reports import write_reports
        from minildm.grading.submissions import find_submissions

        began = time.perf_counter()
        lessons = read_lessons(self.lessons and expanded("--lessons", self.lessons))
        submissions = find_submissions(expanded("SUBMISSIONS", self.submissions), lessons)
        graded = grade(submissions, self.seconds)
        for one in graded:
            looks = sum(mark.look for mark in one.marks)
            note = f", {looks} to look at" if looks else ""
            print(f"{one.student}  {one.stem}  {one.points:g} of {one.most:g}{note}")
        out = expanded("--out", self.out)
        write_reports(graded, out)
        print(f"{len(graded)} submissions in {time.perf_counter() - began:.1f} s: {out}")
