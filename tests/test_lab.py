"""Lessons in JupyterLab, in a browser: a wrong answer is red, a right one green, a slider draws anew."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest
from student import student_version
from support import browser

LESSONS = Path(__file__).parents[1] / "lessons"
SWAPPED = '''def add_noise(schedule, data, noise, t):
    t = torch.as_tensor(t, dtype=torch.float32)
    if t.ndim == 1:
        t = t.reshape(-1, *[1] * (data.ndim - 1))
    return schedule.sigma(t) * data + schedule.alpha(t) * noise'''

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def lab(folder: Path):
    """The address of a JupyterLab that shows a folder; it ends with the block."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is in the extra `dev`")
    address = f"http://127.0.0.1:{free_port()}"
    # sliders stay away under CI; a student's session is none
    env = {name: value for name, value in os.environ.items() if name != "CI"}
    env |= {"MINILDM_BUDGET": "smoke", "JUPYTER_CONFIG_DIR": str(folder / ".config"),
            "JUPYTER_DATA_DIR": str(folder / ".data")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.port={address[17:]}",
               "--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}",
               "--LabApp.expose_app_in_browser=True", "--allow-root"]
    with open(folder / "lab.log", "wb") as log:
        server = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"{address}/api")
                break
            time.sleep(0.3)
        yield address
    finally:
        server.terminate()
        server.wait(20)


OPEN = """async name => {
  const app = window.jupyterapp;
  await app.restored;
  const panel = await app.commands.execute("docmanager:open", {path: name, factory: "Notebook"});
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  window.panel = panel;
}"""
RUN = """async ([i, source]) => {
  const notebook = window.panel.content;
  if (source !== null) notebook.model.cells.get(i).sharedModel.setSource(source);
  notebook.activeCellIndex = i;
  notebook.deselectAll();
  await notebook.scrollToItem(i, "smart");
  await window.jupyterapp.commands.execute("notebook:run-cell");
  const cell = notebook.widgets[i];
  cell.node.id = "cell-of-test";
  return cell.model.outputs.toJSON();
}"""


class Session:
    """A lesson's student version, open in JupyterLab with a kernel."""

    def __init__(self, page, path: Path, stem: str):
        self.solved = nbformat.read(next(LESSONS.glob(f"{stem}*.ipynb")), 4)
        nbformat.write(student_version(self.solved), path)
        self.page, self.cells = page, self.solved.cells
        page.evaluate(OPEN, path.name)

    def find(self, part: str) -> int:
        """The first code cell with these words."""
        return next(i for i, c in enumerate(self.cells) if c.cell_type == "code" and part in c.source)

    def graded(self, grade_id: str) -> int:
        ids = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in self.cells]
        return ids.index(grade_id)

    def run(self, i: int, source: str | None = None) -> list[dict]:
        """Run a cell, with another source if one is given; its outputs."""
        self.page.evaluate("document.getElementById('cell-of-test')?.removeAttribute('id')")
        return self.page.evaluate(RUN, [i, source])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    with browser.browser() as chromium, lab(folder) as address:
        page = chromium.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(60_000)
        page.goto(f"{address}/lab?reset")
        page.wait_for_function("window.jupyterapp !== undefined")
        page.folder = folder
        yield page


@pytest.fixture(scope="module")
def noising(page):
    session = Session(page, page.folder / "03.ipynb", "03")
    assert session.run(session.find("import")) == []
    return session


def reds_and_greens(page) -> list[tuple[str, str]]:
    """(text, colour) of what stands under the cell that was run: an error's background, else the ink."""
    return page.eval_on_selector_all("#cell-of-test .jp-OutputArea-output", """all => all.map(output => {
      const error = /error|stderr/.test(output.dataset.mimeType);
      const ink = output.querySelector("span") || output;
      const style = getComputedStyle(error ? output : ink);
      return [output.innerText.trim(), error ? style.backgroundColor : style.color];
    })""")


def parts(colour: str) -> list[int]:
    return [int(value) for value in re.findall(r"\d+", colour)[:3]]


def test_a_wrong_answer_is_red_with_one_readable_line(noising):
    noising.run(noising.graded("ex2"), SWAPPED)
    output, = noising.run(noising.graded("ex2_check"))
    assert output["output_type"] == "error"
    (text, colour), = reds_and_greens(noising.page)
    assert text.startswith("✗ add_noise: ") and len(text.splitlines()) == 1 and 20 < len(text) < 300
    red, green, blue = parts(colour)
    assert red > green and red > blue


def test_an_exercise_that_is_not_written_says_so(noising):
    stub = "def add_noise(schedule, data, noise, t):\n    raise NotImplementedError()"
    noising.run(noising.graded("ex2"), stub)
    noising.run(noising.graded("ex2_check"))
    (text, _), = reds_and_greens(noising.page)
    assert text.startswith("✗ add_noise: not written yet")


def test_the_right_answer_is_green(noising):
    noising.run(noising.graded("ex2"), noising.cells[noising.graded("ex2")].source)
    noising.run(noising.graded("ex2_check"))
    (text, colour), = reds_and_greens(noising.page)
    assert text == "✓ add_noise"
    red, green, blue = parts(colour)
    assert green > red and green > blue


def test_a_slider_draws_anew(page):
    session = Session(page, page.folder / "08.ipynb", "08")
    session.run(session.find("import"))
    session.run(session.graded("ex1"), "from minildm.model import LatentDiffusion\n"
                                       "talker, steps = LatentDiffusion.load('scenes'), 1")
    outputs = session.run(session.find("sliders(play"))
    assert not [o for o in outputs if o["output_type"] == "error"], outputs
    picture = page.locator("#cell-of-test .widget-output img")
    picture.wait_for()
    before = picture.get_attribute("src")
    page.locator("#cell-of-test .widget-slider .noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("before => { const p = document.querySelector('#cell-of-test .widget-output img');"
                           " return p && p.src !== before }", arg=before)
