"""The built site: what its files hold, and what a browser makes of them.

MINILDM_SITE names a folder in which the site is built already; without it, it is built here.
"""

import os
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import nbformat
import pytest
from support import browser

ROOT = Path(__file__).parents[1]
LESSONS = sorted((ROOT / "lessons").glob("*.ipynb"))
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 400, "height": 800}
JUDGED = ["index", "syllabus", "open", "search", "INSTRUCTORS", "lessons/glossary",
          "lessons/03_forward_noising", "api/diffusion"]      # by axe: one of each kind

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder with `html` and `warnings.txt`, built with an address, so that all buttons are there."""
    if "MINILDM_SITE" in os.environ:
        return Path(os.environ["MINILDM_SITE"]).resolve()
    pytest.importorskip("myst_nb", reason="what builds the site is in the extra `site`")
    out = tmp_path_factory.mktemp("site")
    env = os.environ | {"MINILDM_REPOSITORY": "https://github.com/ada/minildm"}
    built = subprocess.run([sys.executable, "-m", "docs.site.build", out], cwd=ROOT, env=env,
                           capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return out


class Page(HTMLParser):
    """What a page points to, its anchors and its images."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.ids, self.images = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        words = dict(attributes)
        self.ids |= {words[name] for name in ("id", "name") if words.get(name)}
        if tag == "a" and "href" in words:
            self.links.append(words["href"])
        if tag == "img":
            self.images.append(words)
        if tag in ("script", "img") and "src" in words or tag == "link" and words.get("rel") == "stylesheet":
            self.loads.append(words.get("src") or words["href"])


@pytest.fixture(scope="module")
def pages(site):
    return {path.relative_to(site / "html").as_posix(): Page(path.read_text(encoding="utf-8"))
            for path in sorted((site / "html").rglob("*.html")) if "_static" not in path.parts}


# ---- its files -------------------------------------------------------------------------------------------

def test_every_lesson_has_a_page_and_a_notebook_without_solutions(site, pages):
    for path in LESSONS:
        assert f"lessons/{path.stem}.html" in pages
        notebook = (site / "html/notebooks" / path.name).read_text(encoding="utf-8")
        assert "BEGIN SOLUTION" not in notebook and "YOUR CODE HERE" in notebook


def test_it_is_built_without_a_warning(site):
    assert (site / "warnings.txt").read_text() == ""


def test_links_and_anchors_inside_the_site_resolve(site, pages):
    broken = []
    for name, page in pages.items():
        for link in page.links + page.loads:
            target, anchor = urldefrag(link)
            if urlparse(target).scheme:
                continue
            here = site / "html" / name
            path = here.parent / unquote(target.split("?")[0]) if target else here
            key = os.path.relpath(path, site / "html").replace(os.sep, "/")
            if not path.exists() or anchor and key in pages and unquote(anchor) not in pages[key].ids:
                broken.append(f"{name}: {link}")
    assert broken == []


def test_a_page_loads_nothing_from_elsewhere(pages):
    loaded = {(name, link) for name, page in pages.items() for link in page.loads}
    assert {(name, link) for name, link in loaded if urlparse(link).scheme} == set()


def test_every_figure_has_the_alternative_text_that_its_lesson_stored(pages):
    for path in LESSONS:
        outputs = [o for c in nbformat.read(path, 4).cells for o in c.get("outputs", [])]
        metadata = [o.metadata.get("image/png", {}) for o in outputs if "image/png" in o.get("data", {})]
        shown = [words.get("alt") for words in pages[f"lessons/{path.stem}.html"].images]
        assert all(shown) and len(shown) >= len(metadata), path.stem
        assert Counter(words["alt"] for words in metadata if "alt" in words) <= Counter(shown), path.stem


# ---- in a browser ----------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def chromium():
    with browser.browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def address(site):
    with browser.served(site / "html") as address:
        yield address


MEASURE = """async () => {
  if (window.MathJax) await MathJax.startup.promise;
  return {formulas: document.querySelectorAll(".math").length,
          rendered: document.querySelectorAll(".math mjx-container svg").length,
          errors: [...document.querySelectorAll("[data-mjx-error], mjx-merror")].map(e => e.textContent),
          empty: [...document.images].filter(i => i.offsetWidth && !i.naturalWidth).map(i => i.src)};
}"""
OVERHANG = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
  [...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
    .slice(0, 3).map(e => e.outerHTML.slice(0, 120)).concat("page " + document.documentElement.scrollWidth)"""


@pytest.fixture(scope="module")
def visits(chromium, address, pages):
    """What a browser says of every page: errors, formulas, images, and what hangs over at 400 pixels."""
    found, errors = {}, []
    page = chromium.new_page(viewport=WIDE)
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", lambda request: errors.append(f"failed: {request.url}"))
    page.on("request", lambda request: request.url.startswith((address, "data:", "blob:"))
            or errors.append(f"elsewhere: {request.url}"))
    for name in pages:
        errors.clear()
        page.set_viewport_size(WIDE)
        page.goto(f"{address}/{name}")
        found[name] = page.evaluate(MEASURE)
        page.set_viewport_size(NARROW)
        found[name] |= {"overhang": page.evaluate(OVERHANG), "console": list(errors)}
    page.close()
    return found


@pytest.mark.parametrize("what", ["console", "errors", "empty", "overhang"])
def test_no_page_has(what, visits):
    """Errors in the console or in a formula, images that don't load, a scroll bar at 400 pixels."""
    assert {name: visit[what] for name, visit in visits.items() if visit[what]} == {}


def test_formulas_are_rendered(visits):
    assert sum(visit["formulas"] for visit in visits.values()) > 500
    assert {name: v for name, v in visits.items() if v["rendered"] < v["formulas"]} == {}


def test_search_finds_a_term(chromium, address):
    page = chromium.new_page()
    page.goto(f"{address}/search.html?q=adaLN")
    page.wait_for_selector("ul.search li a")
    found = page.eval_on_selector_all("ul.search li a", "links => links.map(link => link.href)")
    assert any("lessons/10_dit" in link for link in found) and any("glossary" in link for link in found)
    page.close()


def test_a_solution_is_folded_and_opens_by_a_click(chromium, address):
    page = chromium.new_page()
    page.goto(f"{address}/lessons/03_forward_noising.html")
    solution = page.locator("details.solution").nth(1)
    assert not solution.locator("pre").is_visible()
    solution.locator("summary").click()
    assert "alpha * data + sigma * noise" in solution.locator("pre").inner_text()
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_fault(theme, chromium, address):
    module = pytest.importorskip("axe_playwright_python.sync_playwright", reason="in the extra `site`")
    axe = module.Axe()
    context = chromium.new_context(color_scheme=theme, viewport=WIDE)
    page, faults = context.new_page(), []
    for name in JUDGED:
        page.goto(f"{address}/{name}.html")
        page.evaluate("async () => { if (window.MathJax) await MathJax.startup.promise }")
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        # a formula has the ink of its text; its hundreds of paths would take most of the time
        result = axe.run(page, {"exclude": [["mjx-container"]]}, {"resultTypes": ["violations"]})
        faults += [(name, fault["id"], fault["nodes"][0]["html"][:150], len(fault["nodes"]))
                   for fault in result.response["violations"] if fault["impact"] in ("serious", "critical")]
    context.close()
    assert faults == []
