"""README and the lessons' prose: every relative link leads somewhere, every command that they name exists."""

import functools
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *ROOT.glob("data/README.md"), *ROOT.glob("docs/*.md"),
         *sorted(ROOT.glob("lessons/*.ipynb"))]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def prose(path):
    if path.suffix != ".ipynb":
        return path.read_text()
    return "\n\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "markdown")


def dead_links(text: str, folder: Path) -> list[str]:
    """Relative targets that are no files below the root, and #anchors that are no headings of this text."""
    text = FENCE.sub("", text)
    targets = re.findall(r"\]\(([^)\s]+)", text) + re.findall(r"""\b(?:src|href)=["']([^"']+)""", text)
    titles = [re.sub(r"[^\w\- ]", "", title.lower()).strip() for title in re.findall(r"^#+ (.*)", text, re.M)]
    anchors = {title.replace(" ", "-") for title in titles}

    def lives(target):
        file, _, anchor = target.partition("#")
        path = (folder / file).resolve()
        return path.exists() and path.is_relative_to(ROOT) if file else anchor.lower() in anchors

    return [t for t in targets if not re.match(r"\w+:", t) and not lives(t)]


def commands(text: str) -> list[list[str]]:
    """The words of each shell command in fenced blocks (not Python ones) and in `inline code`."""
    lines = [line for kind, block in FENCE.findall(text) if kind not in ("python", "py", "text")
             for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    parts = [part.strip(" $") for line in lines for part in re.split(r"&&|;|\|", re.sub(r"\s#.*", "", line))]
    parts = [re.sub(r"^(\w+=\S+ +)+|^.venv/bin/", "", part) for part in parts]
    return [shlex.split(part) for part in parts
            if re.match(r"(make|minildm|python|pytest|pip|uv|conda|jupyter) .", part)]


@functools.cache
def help_of(*command):
    result = subprocess.run(["minildm", *command, "--help"], capture_output=True, text=True)
    return result.stdout if result.returncode == 0 else ""


def not_there(words: list[str]) -> list[str]:
    """What this command names that does not exist: targets, subcommands and flags, extras, files."""
    program, args = words[0], [word for word in words[1:] if not re.search(r"[<*…]|\.\.\.", word)]
    if args[:2] == ["-m", "minildm"]:
        program, args = "minildm", args[2:]
    if program == "make":
        return [a for a in args if not a.startswith("-") and "=" not in a and a not in TARGETS]
    if program == "minildm":
        subcommand = [a for a in args[:1] if not a.startswith("-")]
        flags = [a.partition("=")[0] for a in args if a.startswith("--") and a != "--help"]
        return [f for f in flags if f not in help_of(*subcommand)] if help_of(*subcommand) else words
    extras = [e for a in args for inside in re.findall(r"\.\[([\w,]+)\]", a) for e in inside.split(",")]
    files = [a for a in args if re.match(r"(lessons|tests|minildm|data)/|\S+\.(py|yml|txt)$", a)]
    files = [f for f in files if not (ROOT / f.split("::")[0]).exists()]
    return [e for e in extras if e not in EXTRAS] + files


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_and_commands(page):
    assert dead_links(prose(page), page.parent) == []
    assert {shlex.join(c): not_there(c) for c in commands(prose(page)) if not_there(c)} == {}


def test_readme_says_how_to_start():
    shell = [shlex.join(c) for c in commands(prose(ROOT / "README.md"))]
    for start in ("make demo", "make test", "make lab", "uv pip install", "pip install", "conda env create"):
        assert any(command.startswith(start) for command in shell), f"README lacks `{start} ...`"


def test_readmes_second_command_does_not_meet_the_run_of_the_first():
    """`minildm demo`, then README's example with another seed: two models, so two folders."""
    from minildm import cli

    lines = [words for words in commands(prose(ROOT / "README.md")) if words[:2] == ["minildm", "demo"]]
    others = [words[1:] for words in lines if "--seed" in words]
    first = cli.parse(["demo"]).folders()
    assert others and all(not set(first) & set(cli.parse(words).folders()) for words in others)


def test_readmes_python_runs_as_it_stands():
    """And keeps no graph: 100 pictures are drawn without gradients."""
    blocks = [block for kind, block in FENCE.findall((ROOT / "README.md").read_text()) if kind == "python"]
    assert len(blocks) == 1
    names = {}
    exec(blocks[0], names)
    assert names["images"].shape == (100, 1, 28, 28) and not names["latents"].requires_grad
    assert names["images"].std() > 0.3                                  # ink on paper


# ---- the checks themselves -------------------------------------------------------------------------------

def test_dead_links_are_found():
    text = "# A b, c\n[x](Makefile) ![y](nope.png) [z](#a-b-c) [w](#gone) [v](https://a.b) <img src='no.png'>"
    assert dead_links(text, ROOT) == ["nope.png", "#gone", "no.png"]
    assert dead_links("[secrets](../elsewhere)", ROOT) == ["../elsewhere"]


def test_wrong_commands_are_found():
    text = """Run `make demo`, or `make tea`, but `x = make(3)` is code.
```bash
$ git clone URL && cd minildm
UV_TORCH_BACKEND=cpu make test      # 15 minutes
make PYTHON=/usr/bin/python3.12 test
pip install -e ".[dev,tea]" && uv pip install -c constraints.txt -e '.[dev]'
python tests/test_readme.py; python tests/tea.py
conda env create -f environment.yml
```
```python
make tea
```
"""
    found = [not_there(command) for command in commands(text)]
    assert found == [[], [], ["tea"], [], [], ["tests/tea.py"], [], [], ["tea"]]
