"""The pages that are made from others: the syllabus from the lessons, the reference from the package."""

import pkgutil
import re
from dataclasses import dataclass

import minildm

# private names; checks, which hold the solutions of their exercises; what draws a single lesson's figures
HIDDEN = re.compile(r"(^|\.)_|\.zoo$|\.grading\.|\.exercises\.(?!harness)"
                    r"|\.course\.(?!exercises|diagrams$|figures|plotting|curves|tables|sliders)")
WINGS = {                                                    # in the order in which they are read
    "diffusion": "the subject: schedules, the denoiser, samplers, guidance, editing",
    "nn": "networks, tensors in and out",
    "training": "the loop that trains every model, and what wraps it",
    "evaluation": "distances, the classifier, scores beside their floors",
    "data": "sets, files, glyphs, scenes, the tokenizer",
    "published": "Stable Diffusion, CLIP and DiT in their published formats",
    "recipes": "experiments that read from data to model",
    "course": "figures, exercises and how a check is run",
    "grading": "answers in processes of their own",
}


@dataclass(frozen=True)
class Lesson:
    """What the syllabus says of a lesson, read from its first cells and its checks' points."""

    stem: str
    title: str
    question: str
    header: dict[str, str]
    exercises: int
    points: int

    @property
    def needs(self) -> str:
        return self.header.get("you need", "")

    @property
    def time(self) -> str:
        return self.header.get("time", self.header.get("minutes", ""))

    @property
    def able(self) -> str:
        return self.header.get("you will be able to", "")


def rows_of(markdown: str) -> dict[str, str]:
    """A table of two columns as a dictionary; keys without bold and in lower case."""
    rows = re.findall(r"^\|\s*\**([^|*]+?)\**\s*\|\s*(.+?)\s*\|\s*$", markdown, re.M)
    return {key.lower(): value for key, value in rows if not set(key) <= set("- ")}


def read_lesson(stem: str, notebook) -> Lesson:
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    paragraphs = [" ".join(p.split()) for p in texts[0].split("\n\n")]
    question = next((p.replace("**", "") for p in paragraphs if p.startswith("**")), "")
    header = rows_of(texts[0]) | rows_of(texts[1] if len(texts) > 1 else "")
    points = [cell.metadata.nbgrader.get("points", 0) for cell in notebook.cells
              if cell.metadata.get("nbgrader", {}).get("grade")]
    title = re.search(r"^# (.+)$", texts[0], re.M)[1]
    return Lesson(stem, title, question.removeprefix("The question. "), header, len(points), sum(points))


def short_time(text: str) -> str:
    """The time with the exercises, for a table; what else is said of it if that is not."""
    with_exercises = re.search(r"(?:^|; )([^;]*) with the exercises", text)
    return with_exercises[1] if with_exercises else re.split(r"[;(]", text)[0].strip() or "–"


def toctree(entries, hidden: bool = True) -> str:
    return "\n".join(["```{toctree}", ":maxdepth: 1", *[":hidden:"] * hidden, "", *entries, "```", ""])


def syllabus(lessons: list[Lesson]) -> str:
    """All lessons in a table, then what each needs and what can be done after it."""
    table = ["| lesson | its question | time with the exercises | exercises | points |",
             "| --- | --- | --- | --- | --- |"]
    for one in lessons:
        table.append(f"| [{one.title}](lessons/{one.stem}.ipynb) | {one.question} | {short_time(one.time)} "
                     f"| {one.exercises} | {one.points} |")
    parts = []
    for one in lessons:
        lines = [("You need", one.needs), ("Time", one.time), ("Afterwards you can", one.able)]
        parts += [f"## {one.title}", f"*{one.question}* [Open the lesson](lessons/{one.stem}.ipynb)",
                  "\n".join(f"- **{name}**: {text}" for name, text in lines if text)]
    total = sum(one.exercises for one in lessons), sum(one.points for one in lessons)
    intro = (f"{len(lessons)} lessons with {total[0]} exercises, {total[1]} points in all. Each lesson "
             "starts alone: none needs another's run, and where you have not written a piece, the "
             "package's stands in for it.")
    stems = [f"lessons/{one.stem}" for one in lessons]
    return "\n\n".join(["# Syllabus", intro, "\n".join(table), *parts, toctree(stems)])


def cards(lessons: list[Lesson]) -> str:
    """The lessons as a grid of links for the front page."""
    items = [f'<li><a href="lessons/{one.stem}.html"><strong>{one.title}</strong> '
             f'<span>{one.question}</span></a></li>' for one in lessons]
    return '<ul class="lesson-cards">\n' + "\n".join(items) + "\n</ul>"


def modules() -> dict[str, list[str]]:
    """The package's public modules by wing; those on its top level under the package's own name."""
    found = [m.name for m in pkgutil.walk_packages(minildm.__path__, "minildm.") if not HIDDEN.search(m.name)]
    wings = {wing: [m for m in found if m.split(".")[1] == wing] for wing in WINGS}
    return {"minildm": [m for m in found if m.split(".")[1] not in WINGS]} | wings


def full_name(wing: str) -> str:
    return wing if wing == "minildm" else f"minildm.{wing}"


def reference() -> dict[str, str]:
    """The pages of the API reference by name; autodoc fills them from the docstrings."""
    wings = modules()
    texts = {"minildm": "the model, the devices, the commands"} | WINGS
    pages = {}
    for wing, names in wings.items():
        body = [f"# {full_name(wing)}", f"{texts[wing][0].upper()}{texts[wing][1:]}."]
        for name in names:
            body += [f"## {name}", "```{eval-rst}", f".. automodule:: {name}", "   :members:", "```"]
        pages[wing] = "\n\n".join(body[:2]) + "\n\n" + "\n".join(body[2:]) + "\n"
    listed = "\n".join(f"- [{full_name(wing)}]({wing}.md): {texts[wing]}" for wing in wings)
    pages["index"] = ("# Reference\n\nWhat the package's docstrings say, module by module.\n\n"
                      f"{listed}\n\n{toctree(wings)}")
    return pages
