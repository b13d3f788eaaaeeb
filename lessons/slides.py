"""Slides from the lessons' own figures, for a lecture: `python lessons/slides.py 08`, or all lessons.

    python lessons/slides.py [NAME ...] [--out build/slides] [--reveal FOLDER]

A slide for the title and its question, one a section, one a figure with the sentences above it; what was
measured has one, too. nbconvert writes them for reveal.js, which a browser fetches when they are opened;
--reveal names a copy of it beside the slides, for rooms without a network.
"""

import argparse
import re
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell, new_notebook

HERE = Path(__file__).parent
WORDS = 60          # of the text above a figure, from its end


def slide(text: str, figure: dict | None = None):
    """A Markdown cell that begins a slide; a figure is attached to it with its alternative text."""
    cell = new_markdown_cell(text, metadata={"slideshow": {"slide_type": "slide"}})
    if figure is not None:
        alt = figure.get("metadata", {}).get("image/png", {}).get("alt", "")
        alt = re.sub(r"[\[\]\n]", " ", alt)
        cell.source += f"\n\n![{alt}](attachment:figure.png)"
        cell["attachments"] = {"figure.png": {"image/png": figure["data"]["image/png"]}}
    return cell


def last_sentences(text: str, words: int = WORDS) -> str:
    """The last paragraph that is prose, cut at its front to whole sentences of at most so many words."""
    prose = [p for p in text.split("\n\n") if p.strip() and not re.match(r"[#|<$\-]|\d\.", p.strip())]
    sentences = re.split(r"(?<=[.?!:])\s+", " ".join(prose[-1].split())) if prose else []
    while sentences and sum(len(s.split()) for s in sentences) > words:
        sentences.pop(0)
    return " ".join(sentences)


def slides_of(lesson):
    """The notebook of a lesson's slides."""
    texts = [cell.source for cell in lesson.cells if cell.cell_type == "markdown"]
    question = next((p for p in texts[0].split("\n\n") if p.startswith("**")), "")
    cells = [slide("\n\n".join([texts[0].split("\n")[0], question]))]
    section = above = ""
    for cell in lesson.cells[1:]:
        if cell.cell_type == "markdown":
            above = cell.source
            headings = re.findall(r"^## (.+)$", above, re.M)
            if headings and headings[-1] != section:
                section = headings[-1]
                cells.append(slide(f"## {section}"))
            if "## What we measured" in above:
                cells[-1].source = above[above.index("## What we measured"):].split("\n## ")[0]
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                cells.append(slide(f"### {section}\n\n{last_sentences(above)}", output))
                above = ""
    return new_notebook(cells=cells, metadata={"title": texts[0].split("\n")[0].lstrip("# ")})


def main(names: list[str], out: Path, reveal: str | None):
    from nbconvert import SlidesExporter

    exporter = SlidesExporter(reveal_scroll=True, **({"reveal_url_prefix": reveal} if reveal else {}))
    out.mkdir(parents=True, exist_ok=True)
    for name in names or [""]:
        for path in sorted(HERE.glob(f"{name}*.ipynb")):
            notebook = slides_of(nbformat.read(path, 4))
            html, _ = exporter.from_notebook_node(notebook)
            (out / f"{path.stem}.html").write_text(html, encoding="utf-8")
            print(f"{out / path.stem}.html: {len(notebook.cells)} slides")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("build/slides"))
    parser.add_argument("--reveal", help="address or folder of reveal.js")
    arguments = parser.parse_args()
    main(arguments.names, arguments.out, arguments.reveal)
