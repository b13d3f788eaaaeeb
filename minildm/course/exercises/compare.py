"""How a result is judged: right, equal to a known wrong answer, or off in a way that has a name.

`compare` is for tensors and single numbers, `equal` for what is exact: words, counts, lists.
Both raise `Wrong` with one sentence for the student, and return nothing when the result is right.
"""

import math

import numpy as np
import torch

from minildm.course.exercises.diagnose import diagnose

NO_RESULT = "your function returned None: is the `return` missing?"
TOLERANCE = 1e-4
INTEGERS = torch.int8, torch.int16, torch.int32, torch.int64


class Wrong(Exception):
    """Why an answer is not right, in one sentence."""


def fail(message: str):
    raise Wrong(message)


def compare(got, want, likely=None, tol=TOLERANCE, also=(), inputs=None, where=""):
    """Raise Wrong unless got equals want.

    want: a tensor of any shape; for a scalar, a Python number or a tensor with one number will do.
    likely: {cause: the wrong result it leads to}, told when got equals that.
    tol: the largest error, relative to the largest value of want.
    also: other results that are right. inputs: {name: tensor}, to tell "that is `x`, unchanged".
    where: what is special here, told when nothing better is known: "with 7 classes".
    """
    got = as_tensor(got, want)
    if any(close(got, right, tol) for right in (want, *also)):
        check_dtype(got, want)
        return
    for cause, wrong in (likely or {}).items():
        if close(got, torch.as_tensor(wrong), tol):
            fail(cause)
    story = diagnose(got.detach(), want.detach(), inputs or {}, tol)
    fail(f"{story} ({where})" if where else story)


def close(a, b, tol: float = TOLERANCE) -> bool:
    """Tell whether a differs from b by at most tol times the largest value of b; never for NaN."""
    if a.shape != b.shape or a.is_complex():
        return False
    if a.numel() == 0:
        return True
    a = a.detach().double()
    b = b.detach().double()
    if not (a.isfinite().all() and b.isfinite().all()):
        return False
    scale = b.abs().max().item()
    # where all of b is 0 its scale is not known: taken to be 0.01
    limit = tol * (scale or 0.01)
    error = (a - b).abs().max().item()
    return error <= limit


def as_tensor(got, want):
    """Return got as a tensor on want's device, or raise Wrong in words."""
    if got is None:
        fail(NO_RESULT)
    if want.ndim == 0 and is_number(got):
        return torch.tensor(got, dtype=torch.float64)
    if not isinstance(got, torch.Tensor):
        wanted = f"a tensor of shape {tuple(want.shape)}" if want.ndim else "one number"
        fail(f"your function returned {describe(got)}, {wanted} is wanted")
    if got.is_complex():
        fail("these are complex numbers, real ones are wanted")
    if got.device != want.device:
        where = f"the result is on {got.device}, the inputs are on {want.device}"
        fail(f"{where}: use the input's device")
    if want.ndim == 0 and got.numel() == 1:
        return got.reshape(())
    return got


def check_dtype(got, want):
    """Raise Wrong if got, whose values are right, is of another type than want."""
    same_kind = got.is_floating_point() == want.is_floating_point()
    # one number of float64 does not turn the float32 tensors that it meets into float64
    if got.dtype == want.dtype or (got.ndim == 0 and same_kind):
        return
    # any type of integers will do, unless bytes or booleans are asked for
    if got.dtype in INTEGERS and want.dtype in INTEGERS:
        return
    fail(f"the numbers are right, their type is {got.dtype}: {want.dtype} is wanted")


SEQUENCES = list, tuple, torch.Tensor, np.ndarray


def equal(got, want, likely=None, where=""):
    """Raise Wrong unless got is exactly want: a word, a number, a truth, or a list of such.

    A list passes for a tuple and a tensor or an array for either. Floats may differ by one part in
    a million.
    likely: {cause: the wrong result it leads to}. where: what was asked, told with got and want.
    """
    if got is None:
        fail(NO_RESULT)
    if isinstance(want, (list, tuple)) and not isinstance(got, SEQUENCES):
        fail(f"your function returned {describe(got)}, a {type(want).__name__} is wanted")
    plain = as_plain(got)
    if same(plain, as_plain(want)):
        return
    for cause, wrong in (likely or {}).items():
        if same(plain, as_plain(wrong)):
            fail(cause)
    asked = f"{where}: " if where else ""
    fail(f"{asked}{shown(plain)} should be {shown(as_plain(want))}")


def as_plain(value):
    """Return tensors, arrays and lists as tuples of Python's own numbers."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        value = value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return tuple(as_plain(part) for part in value)
    return value


def same(a, b) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        if len(a) != len(b):
            return False
        return all(same(x, y) for x, y in zip(a, b, strict=True))
    if is_number(a) and is_number(b):
        return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12)
    return type(a) is type(b) and a == b


def is_number(value) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def shown(value, most: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= most else text[:most] + "..."


def describe(value) -> str:
    """Say what kind of thing value is: "a list of 3", "a numpy array"."""
    if isinstance(value, np.ndarray):
        return "a numpy array"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, torch.nn.Module) or callable(value):
        return "a function, not its result"
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
