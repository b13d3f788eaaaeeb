"""pyproject.toml is the one list of dependencies; what repeats a part agrees. Set-up says what it lacks."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
BASE = [Requirement(line) for line in PROJECT["dependencies"]]
DECLARED = BASE + [Requirement(line) for lines in EXTRAS.values() for line in lines]
MODULES = {"pillow": "PIL"}    # imported under another name
posix = pytest.mark.skipif(os.name == "nt", reason="Makefile and setup.sh want a Unix shell")


def run(*command):
    env = {name: value for name, value in os.environ.items() if "MAKE" not in name}   # of `make test` itself
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


def test_ruff_is_clean():
    result = run(sys.executable, "-m", "ruff", "check", "--output-format=concise")
    assert result.returncode == 0, result.stdout


# ---- lists that must agree -------------------------------------------------------------------------------

def test_environment_yml_only_points_to_pyproject():
    text = re.sub(r"#.*", "", (ROOT / "environment.yml").read_text())
    items = [line.strip() for line in text.splitlines() if line.strip()]
    assert items == ["name: minildm", "channels:", "- conda-forge", "- nodefaults",
                     "dependencies:", "- python=3.12", "- pip", "- pip:", "- -e .[dev]"]
    assert Requirement("python" + PROJECT["requires-python"]).specifier.contains("3.12")
    assert "dev" in EXTRAS


def test_constraints_cover_every_dependency():
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        pin = Requirement(line)      # a pin, not an option, an address or a path
        version = re.fullmatch(r"==([^*,]+)", str(pin.specifier))[1]
        pins.setdefault(canonicalize_name(pin.name), []).append(version)
    for need in DECLARED:
        versions = pins.get(canonicalize_name(need.name), [])
        assert versions, f"{need.name} has no pin: make lock"
        assert all(need.specifier.contains(v) for v in versions), f"{need}, pinned to {versions}: make lock"


def test_no_package_index_is_named():
    for name in ("pyproject.toml", "constraints.txt", "environment.yml", "setup.sh", "Makefile"):
        assert not re.search(r"://|index-url|find-links|\[\[tool.uv.index", (ROOT / name).read_text()), name


def imports(nodes) -> set[str]:
    """Top-level names of the modules that these syntax nodes import."""
    nodes = list(nodes)
    names = [alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names]
    names += [n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module and not n.level]
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"minildm"}


def test_what_the_package_imports_is_declared():
    def modules(needs):
        return {MODULES.get(need.name, need.name.replace("-", "_")) for need in needs}

    for path in ROOT.glob("minildm/*.py"):
        tree = ast.parse(path.read_text())
        assert imports(tree.body) <= modules(BASE), f"{path.name}, at its top"
        assert imports(ast.walk(tree)) <= modules(DECLARED), f"{path.name}, inside functions"


# ---- make and set-up -------------------------------------------------------------------------------------

@posix
def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*) new-place$", makefile, re.M)[1].split())
    assert {"demo", "test", "lab", "help"} <= targets
    assert set(re.findall(r"^make (\w+)", run("make", "help").stdout, re.M)) == targets


@posix
def test_demo_and_test_set_up_first():
    for target in ("demo", "test", "lab"):
        plan = run("make", "-n", "--what-if=setup.sh", target).stdout.splitlines()
        assert "./setup.sh" in plan[0] and len(plan) == 2, plan


@posix
def test_ci_runs_make_test():
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert run("bash", "-n", ".ci/run").returncode == 0
    assert (ROOT / ".ci/run").read_text().endswith("exec make test\n")


@pytest.fixture
def clone(tmp_path):
    """A folder with the set-up script and no environment, and a folder of programs that it finds first."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "setup.sh").write_bytes((ROOT / "setup.sh").read_bytes())

    def fake(name, body):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    def set_up(path="", **env):
        env = {"PATH": f"{tmp_path}/bin:{path or os.environ['PATH']}"} | env
        result = subprocess.run(["/bin/sh", "setup.sh"], cwd=tmp_path, env=env,
                                capture_output=True, text=True)
        assert result.returncode == 1 and "fix:" in result.stderr
        assert not (tmp_path / ".venv").exists()
        return result.stderr

    return fake, set_up


@posix
def test_setup_wants_a_new_enough_python(clone):
    fake, set_up = clone
    fake("python3.9", "exit 1")      # its answer to whether it is 3.11 or newer
    fake("dirname", "echo .")
    assert "no Python 3.11 or newer found" in set_up(path="/nowhere")
    assert "PYTHON=python3.9 is not a Python 3.11 or newer" in set_up(PYTHON="python3.9")


@posix
def test_setup_wants_disk_before_it_downloads(clone):
    fake, set_up = clone
    fake("uname", "echo Linux")
    fake("df", "echo header; echo /dev/disk 9999999 1 4194304 1% /")       # 4 GiB free
    fake("bare", f'[ "$1" = -m ] && exit 1; exec {sys.executable} "$@"')   # a Python without venv and pip
    message = set_up(PYTHON="bare")
    assert "needs 7 GB" in message and "4 GB are free" in message and "UV_TORCH_BACKEND=cpu" in message
    assert "bare has neither venv nor pip" in set_up(PYTHON="bare", UV_TORCH_BACKEND="cpu")
