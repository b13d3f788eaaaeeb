"""A student's function as a check calls it.

It gets copies of its inputs; what it changes, raises or draws from elsewhere is told in words.
"""

import inspect

import torch

from minildm.course.exercises.compare import TOLERANCE, Wrong, compare, describe, fail


class Raised(Wrong):
    """The student's code raised an exception: `error`."""

    def __init__(self, error: Exception):
        super().__init__(f"your code raised {in_words(error)}")
        self.error = error


def in_words(error: Exception) -> str:
    first = str(error).split("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


IN_PLACE = "your function changes its input{} in place: work on a copy"
LEAF = "your function makes its input{} require gradients: do that to a copy, as {}.detach()"
SWITCHED = ("your function leaves gradients switched {} for all that comes after it: "
            "`with torch.{}():` ends by itself")


class Answer:
    """A student's function, called on copies: what it changes, raises or draws is told in words."""

    def __init__(self, function, names=()):
        self.function, self.names = function, list(names)
        self.calls = 0      # how often a check has called it
        self.right = 0      # how many of the check's cases it has got right

    def __call__(self, *inputs):
        self.calls += 1
        before = [copied(value) for value in inputs]
        given = [copied(value, keep_graph=True) for value in inputs]
        state = torch.get_rng_state()
        result = self._run(given)
        for i, old in enumerate(before):
            name = f" `{self.names[i]}`" if i < len(self.names) else ""
            if not unchanged(given[i], old):
                fail(IN_PLACE.format(name))
            if made_leaf(given[i], inputs[i]):
                fail(LEAF.format(name, name.strip(" `") or "x"))
        has_generator = any(isinstance(value, torch.Generator) for value in inputs)
        if has_generator and not torch.equal(state, torch.get_rng_state()):
            fail("it draws from torch's global generator: pass `generator=generator`")
        return result

    def _run(self, given):
        positional, named = bound(self.function, given, self.names)
        recorded = torch.is_grad_enabled()
        try:
            result = self.function(*positional, **named)
            if torch.is_grad_enabled() != recorded:
                torch.set_grad_enabled(recorded)
                fail(SWITCHED.format(*("off", "no_grad") if recorded else ("on", "enable_grad")))
            return result
        except Wrong:
            raise           # a fake network's word on how it was called
        except NotImplementedError as error:
            if str(error):
                raise Raised(error) from None
            fail("not written yet")
        except Exception as error:
            # autograd's word for an in-place change of a leaf
            if "in-place operation" in str(error):
                fail(IN_PLACE.format(""))
            raise Raised(error) from None

    def case(self, inputs, want, likely=None, tol=TOLERANCE, also=(), where=""):
        """Call with these inputs, `compare` the result with want, and return it."""
        named = dict(zip(self.names, inputs, strict=False))
        try:
            result = self(*inputs)
            compare(result, want, likely, tol=tol, also=also, inputs=named, where=where)
        except Raised as raised:
            self._only_for_some(raised)
            raise
        except Wrong as wrong:
            if self._is_random(inputs):
                fail("two calls with the same inputs give two results: is something random?")
            self._only_for_some(wrong)
            raise
        self.right += 1
        return result

    def _only_for_some(self, wrong):
        """Tell that other inputs went well: a size or a schedule may be written into it."""
        if self.right:
            wrong.args = (f"right for the first inputs, not for others: {wrong}",)

    def _is_random(self, inputs) -> bool:
        """Tell whether two calls with the same inputs, no generator among them, differ."""
        if any(isinstance(value, torch.Generator) for value in inputs):
            return False
        first, second = self(*inputs), self(*inputs)
        if not isinstance(first, torch.Tensor) or first.device.type != "cpu":
            return False
        # NaN, which is not equal to itself, is no sign of random numbers
        if not first.isfinite().all():
            return False
        return first.shape != second.shape or not torch.equal(first, second)

    def wrap(self, result, what="a function", names=()):
        """An Answer of the function or module that this one returned."""
        if not callable(result) or isinstance(result, type):
            fail(f"return {what}: this is {describe(result)}")
        return Answer(result, names)


def bound(function, given, names):
    """Arguments by position or, for a function that wants them so, by the stub's names."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return given, {}    # written in C: it has none
    named = dict(zip(names, given, strict=False))
    if fits(signature, given, {}):
        return given, {}
    if fits(signature, [], named):
        return [], named
    wanted = ", ".join(names[:len(given)])
    fail(f"your function takes {signature}, it is called with ({wanted})")


def fits(signature, positional, keywords) -> bool:
    try:
        signature.bind(*positional, **keywords)
    except TypeError:
        return False
    return True


def parameter_names(function) -> list[str]:
    return list(inspect.signature(function).parameters) if function else []


def copied(value, keep_graph=False):
    """A copy of tensors, alone or in lists, tuples and dicts; all else as it is.

    keep_graph: what requires gradients stays as it is, as a copy would be cut off from its graph.
    """
    if isinstance(value, torch.Tensor):
        return value if keep_graph and value.requires_grad else value.detach().clone()
    if type(value) in (list, tuple):
        return type(value)(copied(part, keep_graph) for part in value)
    if type(value) is dict:
        return {key: copied(part, keep_graph) for key, part in value.items()}
    return value


def unchanged(value, before) -> bool:
    """Tell whether value, which a student's function had, still is what it was before."""
    if type(before) in (list, tuple):
        if len(value) != len(before):
            return False
        return all(unchanged(a, b) for a, b in zip(value, before, strict=True))
    if type(before) is dict:
        if value.keys() != before.keys():
            return False
        return all(unchanged(value[key], before[key]) for key in before)
    if not isinstance(before, torch.Tensor):
        return True
    if not isinstance(value, torch.Tensor) or value.shape != before.shape:
        return False
    return value.dtype == before.dtype and torch.equal(value.detach(), before)


def made_leaf(value, before) -> bool:
    """Tell whether a tensor that required no gradients, and that a function had, now does."""
    tensors = isinstance(value, torch.Tensor) and isinstance(before, torch.Tensor)
    return tensors and value.requires_grad and not before.requires_grad


def compare_gradients(got, want, tol=TOLERANCE, **leaves):
    """Raise Wrong unless got sends the same gradients as want to the leaves, given by name."""
    if not isinstance(got, torch.Tensor) or not got.requires_grad:
        fail("the numbers are right, but no gradient flows: is there a detach() or no_grad()?")
    for name, leaf in leaves.items():
        there = gradient(got, leaf)
        if there is None:
            fail(f"the numbers are right, but no gradient reaches {name}: is there a detach()?")
        try:
            compare(there, gradient(want, leaf), tol=tol)
        except Wrong as wrong:
            fail(f"the numbers are right, the gradient to {name} is not: {wrong}")


def gradient(result, leaf):
    """The gradient to leaf of result's weighted sum; None if none reaches it."""
    # unequal weights, so that nothing cancels in the sum
    weights = torch.linspace(0.5, 1.5, result.numel(), dtype=result.dtype)
    total = (result.flatten() * weights).sum()
    return torch.autograd.grad(total, leaf, retain_graph=True, allow_unused=True)[0]


def copy_weights(module, source):
    """Give a student's module the weights of source: by name, or in order if names differ."""
    theirs, ours = dict(module.named_parameters()), dict(source.named_parameters())
    if len(theirs) != len(ours):
        fail(f"it has {len(theirs)} parameters, {len(ours)} are wanted: {', '.join(ours)}")
    with torch.no_grad():
        for name, own in zip(theirs, ours, strict=True):
            other = name if theirs.keys() == ours.keys() else own
            have, wanted = tuple(theirs[name].shape), tuple(ours[other].shape)
            if have != wanted:
                fail(f"its parameter `{name}` is {have}, {wanted} is wanted")
            if ours[other].requires_grad and not theirs[name].requires_grad:
                fail(f"its parameter `{name}` is frozen, requires_grad=False: it would never learn")
            theirs[name].copy_(ours[other])
