"""The package is a house of wings: a wing imports only from those that the table names for it."""

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "minildm"
ROOM = {"minildm", "minildm.images", "minildm.devices"}        # what every wing may use
BELOW = ("nn diffusion training evaluation data conditioners latents films spec saved model "
         "published")
MAY_IMPORT = {                              # a wing: the wings, or single modules, below it
    "nn": "",
    "diffusion": "nn.layers",
    "training": "nn diffusion",
    "evaluation": "nn training",
    "data": "training.checkpoint",
    # what a model is made of, each a file beside it
    "conditioners": "nn diffusion data",
    "latents": "nn diffusion",
    "films": "diffusion data conditioners latents",
    "spec": "nn diffusion training latents films",
    "legacy": "",
    "saved": "nn training data conditioners latents films spec legacy",
    "model": "nn diffusion training data conditioners latents films spec saved",
    "published": "nn diffusion training data conditioners latents films spec model",
    "recipes": BELOW,
    "course": BELOW + " recipes",
    "bench": BELOW + " recipes course",
    "samples": BELOW + " recipes course",
    "demo": BELOW + " recipes course samples",
    "edits": BELOW,
    "restoring": BELOW,
    "edit_command": BELOW + " edits samples options",
    "cli": BELOW + " recipes course samples demo bench answers options torchrun edit_command "
           "grade_command",
    "grading": "course data model",
    "grade_command": "grading options",
    "torchrun": "training",
    "answers": "options",
    "options": "",
    "__main__": "cli",
}
EXCEPTIONS = {
    # one call loads any model; a folder that others published is handed on to the wing that reads it
    "model.py": {"published.load"},
}


def imported(source: str) -> set[str]:
    """Modules of the package that source imports, at the top or inside functions, without "minildm."."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    modules = {name for name in names if name.startswith("minildm.") and is_module(name)}
    return {name.removeprefix("minildm.") for name in modules - ROOM}


def is_module(name: str) -> bool:
    path = PACKAGE.parent / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def wing(module: str) -> str:
    return module.split(".")[0]


def test_a_wing_imports_only_from_those_below():
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE)
        if place.as_posix() in ("__init__.py", "images.py", "devices.py"):
            assert not imported(path.read_text()), f"{place}, which all use, imports from none"
            continue
        own = place.parts[0].removesuffix(".py")
        allowed = MAY_IMPORT[own].split()
        known = EXCEPTIONS.get(place.as_posix(), set()) | EXCEPTIONS.get(place.as_posix() + "+", set())
        for module in imported(path.read_text()) - known:
            below = wing(module) in (own, *allowed) or module in allowed
            parent = any(name.startswith(module + ".") for name in allowed)     # the folder of an allowed one
            assert below or parent, f"{place} imports {module}"


def test_no_file_is_over_300_lines():
    lines = {str(path): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: n for name, n in lines.items() if n > 300} == {}


def test_no_function_is_over_40_lines_and_no_line_over_100_columns():
    long = []
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text()
        long += [f"{path.name}: {line[:60]}..." for line in source.splitlines() if len(line) > 100]
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        long += [f"{path.name}: {node.name}" for node in ast.walk(ast.parse(source))
                 if isinstance(node, functions) and node.end_lineno - node.lineno >= 40]
    assert long == []


def test_no_test_imports_another():
    for path in Path(__file__).parent.rglob("*.py"):
        assert not re.search(r"^\s*(from|import) test_", path.read_text(), re.M), path.name


def test_every_form_of_import_is_seen():
    forms = ["import minildm.nn.vae", "import minildm.nn.vae as v", "from minildm.nn import vae",
             "from minildm.nn.vae import AutoencoderKL", "def f():\n    from minildm.nn.vae import Gaussian"]
    assert all("nn.vae" in imported(form) for form in forms)
    assert imported("import torch\nfrom minildm import MinildmError, budget") == set()


def test_no_two_lessons_have_a_check_of_one_name():
    """They are all imported into `exercises`, where the second would hide the first."""
    folder = PACKAGE / "course" / "exercises"
    names = [node.name for path in sorted(folder.glob("lesson_*.py"))
             for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    checks = [name for name in names if name.startswith("check_")]
    assert len(checks) > 40 and sorted(set(checks)) == sorted(checks)
