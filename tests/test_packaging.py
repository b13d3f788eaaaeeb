"""pyproject.toml is the one list of dependencies; what repeats a part agrees. Set-up says what it lacks."""

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from minildm.data.sets import data_root

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
BASE = [Requirement(line) for line in PROJECT["dependencies"]]
DECLARED = BASE + [Requirement(line) for lines in EXTRAS.values() for line in lines]
MODULES = {"ipython": "IPython", "pillow": "PIL"}    # imported under another name
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

    for path in ROOT.glob("minildm/**/*.py"):
        tree = ast.parse(path.read_text())
        assert imports(tree.body) <= modules(BASE), f"{path.name}, at its top"
        assert imports(ast.walk(tree)) <= modules(DECLARED), f"{path.name}, inside functions"


# ---- wheel and source archive ----------------------------------------------------------------------------

def test_every_folder_of_the_package_is_in_the_wheel():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "minildm").rglob("*.py")}
    assert set(settings["packages"]) == {".".join(f.parts) for f in folders} | {"minildm.zoo"}
    assert settings["package-dir"] == {"minildm.zoo": "data/zoo"}


def test_the_licence_of_the_weights_is_said_alike_everywhere():
    said = [re.findall(r"[^.\n]*weights in\s`(?:data/)?zoo/?`[^.]*Apache[^.]*\d\.\d[^.]*\.", text)
            for text in ((ROOT / name).read_text() for name in ("README.md", "data/README.md"))]
    assert len(said[0]) == len(said[1]) == 1, said
    assert PROJECT["license"] == "Apache-2.0" and PROJECT["readme"] == "README.md"


def source_tree(folder: Path) -> Path:
    """A copy of what a clone holds, since building leaves files in the place where it builds."""
    leave_out = shutil.ignore_patterns(".git", ".venv", ".uv-boot", "build", "runs", "cache", "*.egg-info",
                                       "__pycache__", ".ipynb_checkpoints", ".*_cache")
    shutil.copytree(ROOT, folder, ignore=lambda place, names: (
        set(names) - {"README.md", "zoo"} if Path(place) == ROOT / "data" else leave_out(place, names)))
    return folder


def build(tree: Path, kind: str) -> Path:
    """Build the `wheel` or the `sdist` of a tree as pip does, but with the setuptools of this environment."""
    code = f"import setuptools.build_meta as backend; print(backend.build_{kind}('dist'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tree / "dist" / done.stdout.splitlines()[-1]


def contents(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the source archive of this tree."""
    tree = source_tree(tmp_path_factory.mktemp("tree") / "minildm")
    return build(tree, "wheel"), build(tree, "sdist")


@pytest.mark.slow
def test_the_source_archive_makes_the_same_wheel_and_holds_what_tests_need(built, tmp_path):
    wheel, sdist = built
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    tree, = tmp_path.iterdir()
    assert contents(build(tree, "wheel")) == contents(wheel)
    for folder in "tests", "lessons", "benchmarks", "data/zoo":
        ours = {p.relative_to(ROOT) for p in (ROOT / folder).rglob("*") if p.is_file()}
        ours = {path for path in ours if not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)}
        assert ours <= {p.relative_to(tree) for p in (tree / folder).rglob("*")}, folder
    for name in "conftest.py", "constraints.txt", "environment.yml", "setup.sh", "Makefile", "data/README.md":
        assert (tree / name).read_bytes() == (ROOT / name).read_bytes(), name


@pytest.mark.slow
def test_the_wheel_draws_and_trains_where_there_is_no_clone(built, tmp_path):
    """In an environment that has torch and the others, and this package from the wheel alone."""
    venv.create(tmp_path / "venv", symlinks=os.name != "nt")
    paths = sysconfig.get_paths(vars={"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")})
    packages = Path(paths["purelib"])
    with zipfile.ZipFile(built[0]) as archive:
        archive.extractall(packages)
    # folders named in a .pth are searched last, and their own .pth files, an editable install's, are not read
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "others.pth").write_text("\n".join(here))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MINILDM"))}
    # where glyphs may be drawn already
    env |= {"MINILDM_BUDGET": "smoke", "MINILDM_DATA": str(data_root())}
    (tmp_path / "empty").mkdir()

    def python(*words):
        done = subprocess.run([Path(paths["scripts"]) / "python", *words], cwd=tmp_path / "empty", env=env,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where, zoo, version = python("-c", """if True:
        import minildm
        from minildm.evaluation.classifier import load_classifier
        assert load_classifier("cifar10").head and load_classifier("mnist").head
        print(minildm.__file__, minildm.ZOO, minildm.__version__, sep="\\n")""").splitlines()
    assert Path(where).is_relative_to(tmp_path) and Path(zoo) == Path(where).parent / "zoo"
    python("-m", "minildm", "sample", "--num", "2", "--steps", "2")
    python("-m", "minildm", "sample", "--prompt", "a red three", "--steps", "2", "--out", "three.png")
    assert "fd / floor" in python("-m", "minildm", "demo", "--data", "glyphs", "--num", "10")
    assert {path.name for path in (tmp_path / "empty").iterdir()} == {"samples.png", "three.png", "runs"}
    entry = (packages / f"minildm-{version}.dist-info/entry_points.txt").read_text()
    assert "minildm = minildm.__main__:main" in entry


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
