"""The course as a web site, made from the notebooks as they are committed: `make site`.

    python -m docs.site.build [OUT]      # OUT is build/site unless given; the pages are in OUT/html

Nothing is executed and nothing is downloaded. First the sources are laid out in OUT/source as they lie in the
repository, so that their links to each other hold; then Sphinx makes the pages.
"""

import os
import shutil
import sys
import time
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
sys.path[:0] = [str(ROOT), str(ROOT / "lessons")]

from docs.site import links, notebooks, pages  # noqa: E402

# pages and files beside the lessons, under the names by which they link to each other
COPIED = ["README.md", "INSTRUCTORS.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "RESULTS.md", "LICENSE",
          "CITATION.cff", "data/README.md", "docs/scaling.md", "lessons/TEMPLATE.md", "lessons/glossary.md"]
PROJECT = ["README", "RESULTS", "CONTRIBUTING", "CHANGELOG", "SECURITY", "data/README", "docs/scaling", "lessons/TEMPLATE"]
BINDER = """name: minildm
channels: [conda-forge, nodefaults]
dependencies: [python=3.12, pytorch-cpu, torchvision, jupyterlab, ipywidgets, pip, pip: ["git+{repository}"]]
"""


def copy_files(source: Path):
    pictures = [path.relative_to(ROOT) for path in (ROOT / "data/zoo").glob("*.png")]
    for name in [*COPIED, *pictures]:
        if (ROOT / name).exists():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)


def stage_lessons(source: Path, settings: links.Links) -> list[pages.Lesson]:
    """The lessons as pages, and as notebooks to download; what the syllabus says of them."""
    paths = sorted((ROOT / "lessons").glob("*.ipynb"))
    for folder in "lessons", "extra/notebooks", "extra/data/zoo":
        (source / folder).mkdir(parents=True, exist_ok=True)
    for path in paths:
        lesson = nbformat.read(path, 4)
        nbformat.write(notebooks.for_page(lesson, settings, path.name), source / "lessons" / path.name)
        nbformat.write(notebooks.for_student(lesson, settings), source / "extra/notebooks" / path.name)
    shutil.copyfile(ROOT / "lessons/glossary.md", source / "extra/notebooks/glossary.md")
    for picture in (ROOT / "data/zoo").glob("*.png"):         # a lesson shows one of them
        shutil.copyfile(picture, source / "extra/data/zoo" / picture.name)
    if settings.on_github:
        (source / "extra/binder").mkdir(exist_ok=True)
        (source / "extra/binder/environment.yml").write_text(BINDER.format(repository=settings.repository))
    return [pages.read_lesson(path) for path in paths]


def stage(source: Path):
    """All sources of the site, in one folder."""
    shutil.rmtree(source, ignore_errors=True)
    settings = links.read()
    lessons = stage_lessons(source, settings)
    copy_files(source)
    (source / "syllabus.md").write_text(pages.syllabus(lessons))
    (source / "project.md").write_text("# Project\n\nThe files that stand beside the lessons.\n\n"
                                       + pages.toctree(PROJECT).replace(":hidden:\n", ""))
    for name, text in pages.reference().items():
        (source / "api").mkdir(exist_ok=True)
        (source / "api" / f"{name}.md").write_text(text)
    for page in "index.md", "open.md":
        text = (HERE / page).read_text().replace("<!-- lessons -->", pages.cards(lessons))
        text = text.replace("<!-- buttons -->", settings.bar("00_tour.ipynb").replace("../notebooks", "notebooks"))
        (source / page).write_text(text)


def main(out: Path) -> int:
    from sphinx.cmd.build import build_main

    began = time.perf_counter()
    stage(out / "source")
    shutil.rmtree(out / "html", ignore_errors=True)
    os.environ["MINILDM_SITE_EXTRA"] = str(out / "source/extra")
    jobs = ["-j", "2"] if os.name != "nt" else []
    code = build_main(["-q", "-E", "-b", "html", "-c", str(HERE), "-d", str(out / "trees"), *jobs,
                       "-w", str(out / "warnings.txt"), str(out / "source"), str(out / "html")])
    count = len(list((out / "html").rglob("*.html")))
    print(f"{count} pages in {out / 'html'}, {time.perf_counter() - began:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/site").resolve()))
