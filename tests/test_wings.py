"""The package stays small and layered: a module imports only from tiers below its own."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "minildm"
TIERS = ["layers schedules tokenizer checkpoint sources metrics",
         "unet dit vae losses text ema muon scenes",
         "denoiser samplers guidance editing control health",
         "data training evaluation plotting",
         "clip",
         "recipes formats",
         "pretrained",
         "pipeline",
         "demo bench exercises",
         "cli",
         "__main__"]
TIER = {name: i for i, names in enumerate(TIERS) for name in names.split()} | {"__init__": -1}


def imported(source: str) -> set[str]:
    """Names of the package's modules that source imports, at the top or inside functions."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    for node in (n for n in nodes if isinstance(n, ast.ImportFrom)):
        module = ".".join(filter(None, ["minildm" if node.level else "", node.module]))
        names |= {f"{module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names]
    return {p[1] for p in parts if p[0] == "minildm" and len(p) > 1 and p[1] in TIER}


def test_modules_import_only_from_tiers_below():
    for path in PACKAGE.glob("*.py"):
        assert path.stem in TIER, f"{path.name} stands in no tier"
        above = {name for name in imported(path.read_text()) if TIER[name] >= TIER[path.stem]}
        assert not above, f"{path.name} imports from its own tier or above: {above}"


def test_sizes():
    """The package is read whole; of its `exercises` a reader sees one lesson's file at a time."""
    lines, checks = ({str(path): len(path.read_text().splitlines()) for path in folder.glob("*.py")}
                     for folder in (PACKAGE, PACKAGE / "exercises"))
    assert {name: n for name, n in lines.items() if n > 300} == {}
    assert {name: n for name, n in checks.items() if n > 120} == {}
    # the design has 31 and 5,000 for a part of the course; published weights, features and Muon came to it
    assert len(lines) <= 32 and sum(lines.values()) <= 5700, (len(lines), sum(lines.values()))


def test_every_form_of_import_is_seen():
    forms = ["import minildm.vae", "import minildm.vae as v", "from minildm.vae import AutoencoderKL",
             "from minildm import vae", "from .vae import AutoencoderKL", "from . import vae",
             "def f():\n    from minildm.vae import Gaussian"]
    assert all(imported(form) == {"vae"} for form in forms)
    assert imported("import torch\nfrom minildm import MinildmError, budget") == set()


def test_no_two_lessons_have_a_check_of_one_name():
    """They are all imported into `exercises`, where the second would hide the first."""
    names = [node.name for path in sorted((PACKAGE / "exercises").glob("lesson_*.py"))
             for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    checks = [name for name in names if name.startswith("check_")]
    assert len(checks) > 40 and sorted(set(checks)) == sorted(checks)
