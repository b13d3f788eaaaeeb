"""The container file and the devcontainer name what exists, and run nothing as root."""

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "Containerfile").read_text()


def test_the_container_installs_extras_that_exist_and_ends_without_root():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.search(r'-e "\.\[([\w,]+)\]"', LINES)[1].split(",")) <= set(extras)
    assert (ROOT / re.search(r"-c (\S+)", LINES)[1]).exists()
    users = re.findall(r"^USER (\w+)", LINES, re.M)
    assert users and users[-1] != "root" and f"useradd --create-home --uid 1000 {users[-1]}" in LINES


def test_the_devcontainer_is_built_from_it():
    settings = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert (ROOT / ".devcontainer" / settings["build"]["dockerfile"]).resolve() == ROOT / "Containerfile"
    assert f"USER {settings['remoteUser']}" in LINES


def test_the_image_holds_the_zoo_and_no_downloads():
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {"data/*", "!data/zoo", "!data/README.md", ".git"} <= set(ignored)
