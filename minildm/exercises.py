"""The checks that turn a student's cell green, by comparing the answer with the package or with exact maths.

A check knows the right answer and the likely wrong ones. It says nothing about how to write the function;
when the result equals a known wrong answer it names the cause, else it says where and by how much it is off.
Each lesson calls a check right under its stub, and the same call is the graded test.
"""

import torch

from minildm import schedules


def passed(name: str):
    """Say so; a check that failed has raised AssertionError before it gets here."""
    print(f"✓ {name}")


def fail(name: str, message: str):
    raise AssertionError(f"{name}: {message}") from None


def close(a, b, tol: float) -> bool:
    """Equal to `tol`, relative or absolute; False for other shapes or anything not finite."""
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=tol, atol=tol)


def compare(name: str, got, want, likely: dict, tol: float = 1e-4):
    """Fail unless `got` equals `want`; `likely` maps a cause in words to the wrong answer it leads to."""
    if got is None:
        fail(name, "your function returned None: is the `return` missing?")
    if not isinstance(got, torch.Tensor):
        fail(name, f"your function returned a {type(got).__name__}, a tensor is wanted")
    if close(got, want, tol):
        return
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


# --- lesson 03

def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def check_alpha_bar(f):
    betas = torch.rand(6, generator=torch.Generator().manual_seed(3)) * 0.4
    kept, want = (1 - betas).cumprod(0), schedules.from_betas(betas).alpha(torch.linspace(0, 1, 7))**2
    compare("alpha_bar", f(betas.clone()), want, {
        "shares of what is left multiply: this is a sum": torch.cat([torch.ones(1), 1 - betas.cumsum(0)]),
        "the product is of what a step keeps, 1 - beta": torch.cat([torch.ones(1), betas.cumprod(0)]),
        "the 1 in front is missing: before the first step all is there": kept,
        "one place late: entry 1 is what the first step left": torch.cat([torch.ones(2), kept[:-1]]),
        "this is its root: the share of the *variance* is wanted": want.sqrt()})
    passed("alpha_bar")


def check_add_noise(f):
    t, s = torch.tensor([0.1, 0.3, 0.6, 0.9]), schedules.cosine
    for x, n in (randn(4, 4, 4, 4), randn(4, 4, 4, 4, seed=1)), (randn(4, 4), randn(4, 4, seed=1)):
        at = schedules.expand(t, x)
        compare("add_noise", f(s, x, n, t), schedules.add_noise(s, x, n, t), {
            "t (B,) met the last axis: each column has its own time": s.alpha(t) * x + s.sigma(t) * n,
            "alpha is the root of alpha_bar already: no squares": s.alpha(at)**2 * x + s.sigma(at)**2 * n,
            "alpha and sigma have changed places": s.sigma(at) * x + s.alpha(at) * n,
            "the data isn't multiplied by alpha": x + s.sigma(at) * n})
    passed("add_noise")


def check_log_snr(f):
    t, s = torch.linspace(0.1, 0.95, 5), schedules.flow
    want = schedules.log_snr(s, t)
    compare("log_snr", f(s, t), want, {
        "half of it: alpha and sigma are squared": want / 2, "noise over signal: the sign is wrong": -want,
        "the logarithm is missing": want.exp(), "log10: the natural one is wanted": want / 2.302585})
    passed("log_snr")


def check_recover(f):
    data, noise = randn(3, 1, 3, 3), randn(3, 1, 3, 3, seed=1)
    t, s = torch.linspace(0.1, 0.8, 3), schedules.cosine
    x, a, sd = (schedules.add_noise(s, data, noise, t), *(part(schedules.expand(t, data)) for part in s))
    compare("recover", f(s, x, noise, t), data, {
        "not divided by alpha": x - sd * noise, "the noise isn't multiplied by sigma": (x - noise) / a,
        "only x is divided by alpha": x / a - sd * noise, "the noise is added": (x + sd * noise) / a,
        "t (B,) met the last axis: reshape it": (x - s.sigma(t) * noise) / s.alpha(t)})
    passed("recover")


def check_scale_factor(f):
    z = 3 * randn(6, 4, 2, 2) + torch.tensor([5.0, -1, 0, 2])[:, None, None]
    got = f(z)
    compare("scale_factor", got if got is None else torch.as_tensor(got), 1 / z.std(), {
        "the standard deviation: times it, latents get wider": z.std(), "this is 1 / variance": 1 / z.var(),
        "1 / root mean square: the mean is no spread": 1 / z.square().mean().sqrt(),
        "a number for each channel: one for all is wanted": 1 / z.std((0, 2, 3))}, tol=0.01)
    passed("scale_factor")
