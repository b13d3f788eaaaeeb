"""Slides: one for the title, a section and a figure each; no code, no solution."""

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from slides import last_sentences, slides_of


def test_a_figure_stands_under_its_section_with_its_text():
    picture = new_output("display_data", data={"image/png": "AAAA"}, metadata={"image/png": {"alt": "a [b]"}})
    lesson = new_notebook(cells=[
        new_markdown_cell("# 03 · Noise\n\n**How?**"),
        new_markdown_cell("## 1 · See\n\nLook. It is grey."),
        new_code_cell("secret()", outputs=[picture]),
        new_markdown_cell("## What we measured\n\n| a |\n| --- |\n| 1 |")])
    title, section, figure, measured = slides_of(lesson).cells
    assert title.source == "# 03 · Noise\n\n**How?**" and section.source == "## 1 · See"
    assert figure.source == "### 1 · See\n\nLook. It is grey.\n\n![a  b ](attachment:figure.png)"
    assert figure.attachments == {"figure.png": {"image/png": "AAAA"}}
    assert measured.source.endswith("| 1 |")
    assert all(cell.metadata.slideshow.slide_type == "slide" for cell in (title, figure))
    assert "secret" not in str(slides_of(lesson))


def test_long_text_is_cut_to_its_last_sentences():
    text = "First it is long. " + "word " * 50 + "end. Last it is short."
    assert last_sentences(text, 10) == "Last it is short."
    assert last_sentences("# Only\n\n| a | table |") == ""
