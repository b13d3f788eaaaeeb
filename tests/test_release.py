"""What a release needs beside the code: files that parse, and that name what exists."""

import re
from pathlib import Path

import pytest
import yaml

from minildm import __version__

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
KNOWN = {"name", "on", "permissions", "concurrency", "jobs", "env"}


def read(path):
    return yaml.safe_load((ROOT / path).read_text())


def test_the_citation_is_of_this_version():
    citation = read("CITATION.cff")
    assert citation["version"] == __version__ and citation["license"] == "Apache-2.0"
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_what_github_reads_and_run_what_exists(path):
    workflow = read(path)
    workflow["on"] = workflow.pop(True)             # YAML 1.1 takes the word for a truth
    assert set(workflow) <= KNOWN and {"on", "jobs", "permissions"} <= set(workflow)
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 90 and job["runs-on"]
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
        assert all(re.search(r"@v\d+$", step["uses"]) for step in job["steps"] if "uses" in step)
        for step in job["steps"]:
            for word in re.findall(r"(?:^|\s)(\.?[\w/-]+\.(?:txt|sh|toml)|\.ci/run)\b", step.get("run", "")):
                assert (ROOT / word).exists(), word


def test_all_supported_pythons_are_tried():
    tried = read(".github/workflows/tests.yml")["jobs"]["unit"]["strategy"]["matrix"]["python"]
    lowest = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert tried[0] == lowest and tried == sorted(tried)


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.md")), ids=lambda p: p.name)
def test_issue_templates_have_their_header(path):
    header = yaml.safe_load(path.read_text().split("---")[1])
    assert set(header) == {"name", "about", "labels"}
