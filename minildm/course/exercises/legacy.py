"""How a student's answer is judged: equal to the right one, to a known wrong one, or off by so much.

When the result equals a known wrong answer its cause is named, else where and by how much it is off.
"""

import torch


def passed(name: str):
    """Say so; a check that failed has raised AssertionError before it gets here."""
    print(f"✓ {name}")


def fail(name: str, message: str):
    raise AssertionError(f"{name}: {message}") from None


def close(a, b, tol: float) -> bool:
    """Equal to `tol`, relative or absolute; False for other shapes or anything not finite."""
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=tol, atol=tol)


def compare(name: str, got, want, likely: dict, tol: float = 1e-4):
    """Fail unless `got` equals `want`, `likely` maps a cause to the wrong answer it leads to; return name."""
    if got is None:
        fail(name, "your function returned None: is the `return` missing?")
    if not isinstance(got, torch.Tensor):
        fail(name, f"your function returned a {type(got).__name__}, a tensor is wanted")
    if close(got, want, tol):
        return name
    for cause, wrong in likely.items():
        if close(got, wrong, tol):
            fail(name, cause)
    if got.shape != want.shape:
        fail(name, f"the shape is {tuple(got.shape)}, {tuple(want.shape)} is wanted")
    if not got.isfinite().all():
        fail(name, "it has NaN or infinite values: look for a division by zero, a log or root of less than 0")
    error = (got.double() - want.double()).abs()
    at = tuple(int(i) for i in torch.unravel_index(error.argmax(), error.shape))
    fail(name, f"differs by up to {error.max():.3g}, at {list(at)}: {got[at]:.4f}, should be {want[at]:.4f}")


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
