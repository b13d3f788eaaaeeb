"""Whose answer is it? A function of the package, or one that only calls it, is not the student's.

It is seen by identity, not by name, in what the answer's code refers to, and in the student's own
functions that it calls. This reminds the honest; it does not stop anyone who wants to cheat.
"""

import dis
import functools
import inspect
import sys
import types

PACKAGE = "minildm"
# A body that has any of these does some work of its own.
# Names of bytecode, which differ a little between versions of Python.
WORK = "BINARY", "UNARY", "COMPARE", "FOR_ITER", "STORE_S", "POP_JUMP"


def borrowed(answer, name: str, forbidden=()) -> str:
    """Name the package's function that does the answer's work; "" if the work is the student's.

    name: the exercise. forbidden: functions and methods of the package that do its job.
    """
    own = unwrapped(answer)
    if is_package(own):
        return own.__name__
    for function in functions_of(own):
        if is_package(function):
            return function.__qualname__
        for value in referred(function):
            if among(value, forbidden):
                return value.__name__
        code = function.__code__
        if "yours" in code.co_names and name in code.co_consts:
            return f"yours({name!r})"
        if only_calls(code) and (called := first_package_call(function)):
            return called
    return ""


def unwrapped(answer):
    """The function or class behind partial, wraps and bound methods; else the object's class."""
    while True:
        if isinstance(answer, functools.partial):
            answer = answer.func
        elif hasattr(answer, "__wrapped__"):
            answer = answer.__wrapped__
        elif inspect.ismethod(answer):
            answer = answer.__func__
        elif inspect.isroutine(answer) or inspect.isclass(answer):
            return answer
        else:
            answer = type(answer)


def is_package(value) -> bool:
    module = getattr(value, "__module__", None) or ""
    return module.split(".")[0] == PACKAGE


def functions_of(own) -> list:
    """Python functions of an answer: itself, or a class's forward and all that it defines."""
    if inspect.isfunction(own):
        return [own]
    if not inspect.isclass(own):
        return []
    found = [value for value in vars(own).values() if inspect.isfunction(value)]
    # a class that defines no forward works by that of the class it is made of
    forward = getattr(own, "forward", None)
    if inspect.isfunction(forward) and forward not in found:
        found.append(forward)
    return found


def codes_of(function):
    """The code of function and of the functions, lambdas and comprehensions inside it."""
    waiting = [function.__code__]
    for code in waiting:
        waiting += [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return waiting


def referred(function, seen=None) -> list:
    """All values that function's code refers to, or the student's own functions that it calls."""
    seen = [] if seen is None else seen
    if among(function, seen):
        return []
    seen.append(function)
    codes = codes_of(function)
    names = {name for code in codes for name in code.co_names}       # attributes are among them
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    scope = function.__globals__ | {name: cell_value(cell) for name, cell in cells}
    used = {name for code in codes for name in loaded(code)}
    values = [scope[name] for name in used if name in scope]
    # modules that the body itself imports
    values += [sys.modules[name] for name in names if name in sys.modules]
    for value in values:
        if isinstance(value, types.ModuleType) or inspect.isclass(value):
            values += [part for part in package_parts(value, names) if not among(part, values)]
        elif inspect.isfunction(value) and value.__globals__ is function.__globals__:
            values += referred(value, seen)
    return values


def loaded(code) -> set[str]:
    """Global names and names of closures that code reads; `randn` of `torch.randn` is neither."""
    reads = "LOAD_GLOBAL", "LOAD_NAME"
    names = {part.argval for part in dis.get_instructions(code) if part.opname in reads}
    return names | set(code.co_freevars)


def cell_value(cell):
    """What a closure's cell holds; None if nothing yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def package_parts(owner, names) -> list:
    """The attributes with these names of a module or class of the package."""
    is_module = isinstance(owner, types.ModuleType)
    home = owner.__name__ if is_module else owner.__module__
    if home.split(".")[0] != PACKAGE:
        return []
    return [getattr(owner, name) for name in names if hasattr(owner, name)]


def among(value, others) -> bool:
    # by identity: tensors compare element by element
    return any(value is other for other in others)


def only_calls(code) -> bool:
    """Tell whether code's body is one call whose result it returns."""
    names = [instruction.opname for instruction in dis.get_instructions(code)]
    calls = [name for name in names if name.startswith("CALL") and "INTRINSIC" not in name]
    return len(calls) == 1 and not any(name.startswith(WORK) for name in names)


def first_package_call(function) -> str:
    """The name of a function or class of the package that function refers to; "" if none."""
    for value in referred(function):
        if is_package(value) and callable(value):
            return value.__name__
    return ""
