"""What an answer may not do: reach for the checks, the package's files, or other people's code.

The scan reads the source before anything runs; `changed` compares what the checks rely on before
and after it ran. Both stop the usual shortcuts, and name them. Neither is a prison: a grader that
meets hostile code belongs into a container.
"""

import ast
import builtins
import math
import sys

FORBIDDEN_NAMES = {
    "setattr": "sets attributes of other objects", "delattr": "deletes attributes",
    "exec": "runs code from text", "eval": "runs code from text", "compile": "compiles code",
    "__import__": "imports by name", "globals": "reaches for the notebook's names",
    "vars": "reaches into objects", "open": "opens files", "breakpoint": "stops the grader",
    "__builtins__": "reaches for Python itself",
}
FORBIDDEN_MODULES = {
    "sys", "os", "gc", "inspect", "importlib", "ctypes", "subprocess", "builtins", "shutil",
    "pathlib", "socket", "signal", "threading", "multiprocessing", "pickle", "runpy",
    "minildm.grading", "minildm.course.exercises.harness"}
FORBIDDEN_PARTS = {
    "__dict__", "__globals__", "__code__", "__class__", "__subclasses__", "__closure__",
    "__wrapped__", "_getframe", "f_locals", "f_globals", "f_back", "__getattribute__",
    "__setattr__", "save", "tofile", "write_text", "write_bytes", "savez"}
ASSIGNING = ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete | ast.For | ast.With


def violations(source: str) -> list[str]:
    """What of the rules a source breaks, in words; [] for an honest one, and for no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    imported = imported_names(tree)
    found = []
    for node in ast.walk(tree):
        found += broken_by(node, imported)
    return sorted(set(found))


def imported_names(tree) -> set[str]:
    """Names in the source that stand for modules or things out of them."""
    names = {"torch", "exercises", "math", "F", "nn", "minildm", "np", "numpy"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return names


def broken_by(node, imported: set[str]) -> list[str]:
    if isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
        return [f"`{node.id}` {FORBIDDEN_NAMES[node.id]}"]
    if isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_PARTS:
        return [f"`.{node.attr}` reaches into objects"]
    if isinstance(node, ast.Import):
        return [refused(alias.name) for alias in node.names if refused(alias.name)]
    if isinstance(node, ast.ImportFrom):
        whole = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        return [refused(name) for name in whole if refused(name)]
    if isinstance(node, ASSIGNING):
        return [f"`{ast.unparse(target)}` is not the answer's to change"
                for target in targets_of(node) if owner(target) in imported]
    return []


def refused(module: str) -> str:
    roots = {module, module.split(".")[0]}
    return f"`{module}` may not be imported" if roots & FORBIDDEN_MODULES else ""


def targets_of(node) -> list[ast.Attribute]:
    """The attributes that a statement assigns to."""
    targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
    if isinstance(node, ast.With):
        targets = [item.optional_vars for item in node.items]
    inside = [part for target in targets if target is not None for part in ast.walk(target)]
    return [part for part in inside if isinstance(part, ast.Attribute)
            and isinstance(part.ctx, ast.Store | ast.Del)]


def owner(target: ast.Attribute) -> str:
    """The first name of a.b.c."""
    value = target.value
    while isinstance(value, ast.Attribute | ast.Subscript):
        value = value.value
    return value.id if isinstance(value, ast.Name) else ""


# ---- what the checks rely on

def watched() -> dict[tuple[str, str], int]:
    """The identity of each function that a check may use: Python's, torch's and the package's."""
    import numpy as np
    import torch

    owners = {"builtins": builtins, "math": math, "torch": torch, "torch.Tensor": torch.Tensor,
              "torch.nn.Module": torch.nn.Module, "torch.nn.functional": torch.nn.functional,
              "torch.testing": torch.testing, "numpy": np}
    owners |= {name: module for name, module in list(sys.modules.items())
               if name.split(".")[0] == "minildm" and module is not None}
    return {(name, part): id(value) for name, place in owners.items()
            for part, value in list(vars(place).items()) if callable(value)}


def changed(before: dict[tuple[str, str], int]) -> list[str]:
    """The functions, as "torch.allclose", that are no longer what they were."""
    after = watched()
    return [f"{place}.{name}" for (place, name), was in before.items()
            if after.get((place, name)) not in (was, None) or (place, name) not in after]
