"""What is wrong with a result that no known mistake explains: a factor, a sign, an axis, a place.

Exercises know their own likely mistakes; this file knows those that any formula can have.
"""

import itertools

import torch


def diagnose(got, want, inputs: dict, tol: float) -> str:
    """Describe in one sentence how the tensor got differs from want; inputs: {name: tensor}."""
    if not got.double().isfinite().all():
        return ("it has NaN or infinite values: "
                "look for a division by zero, or the log or root of less than 0")
    got, want = got.double(), want.double()
    for name, value in inputs.items():
        if equal_to(value, got, tol):
            return f"that is `{name}`, unchanged"
    if got.shape != want.shape:
        return shape_story(got, want, tol)
    return value_story(got, want, inputs, tol)


def equal_to(value, got, tol: float) -> bool:
    """Tell whether the tensor value is got, within tol of got's largest value."""
    if not isinstance(value, torch.Tensor) or value.shape != got.shape or got.numel() == 0:
        return False
    limit = tol * got.abs().max().clamp(min=1e-9)
    return bool(((value.double() - got).abs() <= limit).all())


# ---- another shape -------------------------------------------------------------------------------

def shape_story(got, want, tol: float) -> str:
    have = tuple(got.shape)
    wanted = tuple(want.shape) if want.ndim else "one number"
    cause = (rearranged(got, want, tol) or reduced(got, want, tol) or unreduced(got, want, tol)
             or one_more_or_less(got, want, tol))
    return f"the shape is {have}, {wanted} is wanted" + (f": {cause}" if cause else "")


def rearranged(got, want, tol: float) -> str:
    """The numbers are right and only their axes are not."""
    if got.numel() != want.numel():
        return ""
    if equal_to(got.squeeze(), want.squeeze(), tol):
        return "the numbers are right, an axis of length 1 is too many or missing"
    if equal_to(got.flatten(), want.flatten(), tol):
        return "the numbers are right and in the right order: reshape"
    if got.ndim <= 4:
        for order in itertools.permutations(range(got.ndim)):
            if equal_to(got.permute(order), want, tol):
                return "the numbers are right, their axes have changed places"
    return ""


def reductions(x):
    """Yield each mean and sum of x over some of its axes, with its name."""
    for count in range(1, x.ndim + 1):
        for axes in itertools.combinations(range(x.ndim), count):
            over = "everything" if count == x.ndim else f"axis {', '.join(map(str, axes))}"
            yield f"mean over {over}", x.mean(axes)
            yield f"sum over {over}", x.sum(axes)


def reduced(got, want, tol: float) -> str:
    """A mean or a sum was taken that is not asked for."""
    for name, less in reductions(want):
        if equal_to(less, got.squeeze(), tol):
            return f"that is the {name}, which is not asked for"
    return ""


def unreduced(got, want, tol: float) -> str:
    """A mean or a sum is still to be taken."""
    for name, less in reductions(got):
        if equal_to(less, want, tol):
            return f"the {name} is missing"
    return ""


def one_more_or_less(got, want, tol: float) -> str:
    """An entry too many, or too few, at an end of an axis."""
    if got.ndim != want.ndim:
        return ""
    for axis in range(got.ndim):
        n = min(got.shape[axis], want.shape[axis])
        missing = "missing" if n == got.shape[axis] else "too much"
        if equal_to(want.narrow(axis, 0, n), got.narrow(axis, 0, n), tol):
            return f"the end of axis {axis} is {missing}"
        if equal_to(want.narrow(axis, -n, n), got.narrow(axis, -n, n), tol):
            return f"the beginning of axis {axis} is {missing}"
    return ""


# ---- the right shape -----------------------------------------------------------------------------

def value_story(got, want, inputs: dict, tol: float) -> str:
    for cause, wrong in relatives(want):
        if equal_to(wrong, got, tol):
            return cause
    return (factor_or_offset(got, want, tol) or wrong_term(got, want, inputs, tol)
            or places(got, want, tol))


def wrong_term(got, want, inputs: dict, tol: float) -> str:
    """Both are sums of the inputs, each times a factor: which factor is wrong?"""
    terms = {name: value.detach().double() for name, value in inputs.items()
             if isinstance(value, torch.Tensor) and value.shape == want.shape}
    if not terms or want.ndim == 0:
        return ""
    # the first of a batch is enough, where each has factors of its own
    for part in (slice(None), slice(0, 1)):
        columns = torch.stack([value[part].flatten() for value in terms.values()], 1)
        # as many numbers as factors can always be fitted
        if len(columns) < len(terms) + 2:
            continue
        mine, should = (factors(columns, x[part].flatten(), tol) for x in (got, want))
        if mine is None or should is None:
            continue
        for name, factor, right in zip(terms, mine.tolist(), should.tolist(), strict=True):
            if abs(factor - right) > tol * should.abs().max():
                return f"the factor of `{name}` is {factor:.4g}, {right:.4g} is wanted"
    return ""


def factors(columns, values, tol: float):
    """The factors by which columns (n, terms) add up to values (n,), or None if they do not."""
    solution = torch.linalg.lstsq(columns, values[:, None]).solution
    return solution[:, 0] if equal_to((columns @ solution)[:, 0], values, tol) else None


def relatives(want):
    """Yield (cause, wrong result) for mistakes that any formula can have."""
    yield "the sign is wrong", -want
    yield "it is the square of what is wanted", want.square()
    yield "it is 1 minus what is wanted", 1 - want
    yield "it is the exponential of what is wanted", want.exp()
    if (want >= 0).all():
        yield "it is the root of what is wanted", want.sqrt()
    if (want != 0).all():
        yield "it is upside down: 1 divided by what is wanted", 1 / want
    yield "it is the absolute value of what is wanted", want.abs()
    if want.ndim and want.numel() > 1:
        first, mean = want[:1], want.mean(0, True)
        yield "all are the first of the batch's: each has its own", first.expand_as(want)
        yield "all are the mean over the batch: each has its own", mean.expand_as(want)
    for axis in range(want.ndim):
        yield f"it stands in reverse order along axis {axis}", want.flip(axis)
        yield f"it is one place late along axis {axis}", want.roll(1, axis)
        yield f"it is one place early along axis {axis}", want.roll(-1, axis)
    for one, other in itertools.combinations(range(want.ndim), 2):
        if want.shape[one] == want.shape[other]:
            yield f"axes {one} and {other} have changed places", want.transpose(one, other)


NICE = 2, 3, 4, 10, 100, 127.5, 255, 1000     # factors that tell something of a single number


def factor_or_offset(got, want, tol: float) -> str:
    """One factor, or one number added, makes got of want."""
    if not want.abs().max() > 0:
        return ""
    many = want.numel() > 1
    factor = ((got * want).sum() / want.square().sum()).item()
    # one number is always some multiple of another
    if (many or is_nice(factor)) and abs(factor) > 1e-3:
        if equal_to(factor * want, got, tol):
            return f"it is {factor:.4g} times what is wanted"
    offset = (got - want).mean().item()
    if many and equal_to(want + offset, got, tol):
        return f"it is what is wanted plus {offset:.4g}"
    return ""


def is_nice(factor: float) -> bool:
    for n in NICE:
        if abs(factor / n - 1) < 1e-3 or abs(factor * n - 1) < 1e-3:
            return True
    return False


def places(got, want, tol: float) -> str:
    """How far off it is, and where."""
    if got.ndim == 0:
        return f"it is {got.item():.4g}, should be {want.item():.4g}"
    error = (got - want).abs()
    at = tuple(int(i) for i in torch.unravel_index(error.argmax(), error.shape))
    here = f"{list(at)}: {got[at]:.4g}, should be {want[at]:.4g}"
    wrong = error > tol * want.abs().max().clamp(min=1e-2)
    by_row = wrong.double().reshape(len(wrong), -1).mean(1)
    if len(by_row) > 1 and by_row[0] == 0 and by_row[1:].min() > 0.5:
        return f"it is right for the first of the batch only; at {here}"
    if not wrong.all():
        return f"{int(wrong.sum())} of {wrong.numel()} values are wrong, most at {here}"
    return f"it differs by up to {error.max():.3g}, at {here}"
