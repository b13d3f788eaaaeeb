"""The course as a web site, made from the notebooks as they are committed: `make site`.

    python -m docs.site.build [OUT]      # OUT is build/site unless given; the pages are in OUT/html

Nothing is executed and nothing is downloaded. First the sources are laid out in OUT/source as they lie in the
repository, so that their links to each other hold; then Sphinx makes the pages.
"""

import os
import sys
import time
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
sys.path[:0] = [str(ROOT), str(ROOT / "lessons")]

from docs.site import links, notebooks, pages  # noqa: E402

# pages and files beside the lessons, under the names by which they link to each other
PROJECT = ["README.md", "RESULTS.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "data/README.md",
           "docs/package.md", "docs/commands.md", "docs/scaling.md", "docs/questions.md",
           "lessons/TEMPLATE.md"]
COPIED = [*PROJECT, "INSTRUCTORS.md", "LICENSE", "CITATION.cff", "lessons/glossary.md"]
BINDER = """name: minildm
channels: [conda-forge, nodefaults]
dependencies: [python=3.12, pytorch-cpu, torchvision, jupyterlab, ipywidgets, pip, pip: ["git+{repository}"]]
"""


def put(path: Path, content: str | bytes):
    """Write a file, unless it holds this already: Sphinx makes only pages anew whose source is newer."""
    content = content.encode() if isinstance(content, str) else content
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def copied_files() -> dict[str, bytes]:
    """Files that are used as they are, by their place among the sources."""
    pictures = {f"data/zoo/{path.name}": path.read_bytes() for path in (ROOT / "data/zoo").glob("*.png")}
    pictures["docs/pipeline.svg"] = (ROOT / "docs/pipeline.svg").read_bytes()
    files = {name: (ROOT / name).read_bytes() for name in COPIED if (ROOT / name).exists()}
    # what the downloaded notebooks point to
    beside = {"extra/notebooks/glossary.md": files["lessons/glossary.md"]}
    return files | pictures | beside | {f"extra/{name}": picture for name, picture in pictures.items()}


def lesson_files(lessons: dict, settings: links.Links) -> dict[str, str]:
    """The lessons as pages, and as notebooks to download."""
    files = {}
    for name, lesson in lessons.items():
        files[f"lessons/{name}"] = nbformat.writes(notebooks.for_page(lesson, settings, name))
        files[f"extra/notebooks/{name}"] = nbformat.writes(notebooks.for_student(lesson, settings))
    if settings.on_github:
        files["extra/binder/environment.yml"] = BINDER.format(repository=settings.repository)
    return files


def page_files(lessons: dict, settings: links.Links) -> dict[str, str]:
    """The pages around the lessons."""
    described = [pages.read_lesson(Path(name).stem, lesson) for name, lesson in lessons.items()]
    files = {f"api/{name}.md": text for name, text in pages.reference().items()}
    files["syllabus.md"] = pages.syllabus(described)
    listed = pages.toctree(PROJECT, hidden=False)
    files["project.md"] = f"# Project\n\nThe files that stand beside the lessons.\n\n{listed}"
    for page in "index.md", "open.md":
        text = (HERE / page).read_text().replace("<!-- lessons -->", pages.cards(described))
        files[page] = text.replace("<!-- buttons -->", settings.bar("00_tour.ipynb", to_root=""))
    return files


def stage(source: Path):
    """All sources of the site, in one folder; what is left from another time goes."""
    settings = links.read()
    lessons = {path.name: nbformat.read(path, 4) for path in sorted((ROOT / "lessons").glob("*.ipynb"))}
    files = copied_files() | lesson_files(lessons, settings) | page_files(lessons, settings)
    for name, content in files.items():
        put(source / name, content)
    for path in source.rglob("*"):
        if path.is_file() and path.relative_to(source).as_posix() not in files:
            path.unlink()


def main(out: Path) -> int:
    from sphinx.cmd.build import build_main

    began = time.perf_counter()
    stage(out / "source")
    os.environ["MINILDM_SITE_EXTRA"] = str(out / "source/extra")
    jobs = ["-j", "2"] if os.name != "nt" else []
    code = build_main(["-q", "-b", "html", "-c", str(HERE), "-d", str(out / "trees"), *jobs,
                       "-w", str(out / "warnings.txt"), str(out / "source"), str(out / "html")])
    count = len(list((out / "html").rglob("*.html")))
    print(f"{count} pages in {out / 'html'}, {time.perf_counter() - began:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/site").resolve()))
