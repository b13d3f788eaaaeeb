"""The glossary is in alphabetical order, a row per term, a meaning per symbol, and its links resolve."""

import re
import unicodedata
from pathlib import Path

LESSONS = Path(__file__).parents[1] / "lessons"
TEXT = (LESSONS / "glossary.md").read_text()
ROWS = [[part.strip() for part in row.strip("|\n").split("|")]
        for row in re.findall(r"^\| \*\*.+$", TEXT, re.M)]

NEEDED = """diversity, floor, guidance scale, straightness, latent, posterior, prior, likelihood, bound,
score, SNR, schedule, sampler, step, ODE, SDE, context, token, adaLN-Zero, EMA, Fréchet distance, kernel
distance, precision, recall, label accuracy, negative prompt, classifier-free guidance, interval
guidance, autoguidance, flow matching, velocity, v-prediction, perceptual loss, critic"""


def order(term: str) -> str:
    """As a dictionary sorts: without case and accents."""
    letters = unicodedata.normalize("NFD", term.strip("*").casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def test_every_row_has_its_four_parts():
    for row in ROWS:
        assert len(row) == 4 and row[2].endswith("."), row
        assert row[2].count(". ") <= 2, f"{row[0]}: one or two sentences"


def test_terms_are_in_alphabetical_order_and_once():
    terms = [order(row[0]) for row in ROWS]
    assert terms == sorted(set(terms))


def test_the_terms_that_lessons_need_are_there():
    terms = {row[0].strip("*") for row in ROWS}
    assert {" ".join(term.split()) for term in NEEDED.split(",")} <= terms


def test_a_symbol_has_one_meaning():
    symbols = [row[1] for row in ROWS if row[1]]
    assert sorted(set(symbols)) == sorted(symbols)


def test_links_resolve():
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(links) > 40
    assert all((LESSONS / link).exists() for link in links)
