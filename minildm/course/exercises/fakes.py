"""What checks hand to an answer: random numbers by seed, an odd schedule, a recording network."""

import os

import torch

from minildm.course.exercises.compare import fail
from minildm.diffusion.schedules import Schedule, expand

# hidden tests are the same checks on other numbers: a grader moves all seeds
SEEDS_FROM = int(os.environ.get("MINILDM_CHECK_SEEDS", 0))


def generator(seed: int = 0):
    return torch.Generator().manual_seed(SEEDS_FROM + seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=generator(seed))


# alpha^2 + sigma^2 and alpha + sigma are not 1, and the ends not 1 and 0: nobody may count on them.
warped = Schedule(alpha=lambda t: 1.3 - 0.9 * t**2, sigma=lambda t: 0.2 + 1.5 * t)


class Network:
    """A fake network (x, t, context) -> prediction that depends on all three and records its calls.

    x (B, ...), t a number or (B,), context (B,), (B, ...) or None. It is not linear in x.
    """

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, context=None):
        t = torch.as_tensor(t)
        if t.ndim and t.shape != x.shape[:1]:
            wanted = f"times of shape (B,) = ({len(x)},)"
            fail(f"the network wants {wanted}, it got {tuple(t.shape)}")
        self.calls.append((x.detach().clone(), t.clone(), context))
        wave = torch.sin(x) * (0.5 + expand(t, x))
        out = wave + 0.3 * x.flip(-1)
        if context is None:
            return out
        told = context.reshape(len(context), -1).float().mean(1)
        return out + 0.2 * expand(torch.cos(told), x)


def follows_generator(answer, inputs):
    """The result for seed 0, of an answer that draws from its generator and from nowhere else.

    inputs: a function of a generator, the tuple of all the answer's inputs.
    """
    first = answer(*inputs(generator(0)))
    again = answer(*inputs(generator(0)))
    other = answer(*inputs(generator(1)))
    results = first, again, other
    # what is no tensor is left to compare, which says so in words
    if not all(isinstance(result, torch.Tensor) for result in results):
        return first
    if not alike(first, again):
        fail("one seed, two results: draw every random number from `generator`")
    if alike(first, other):
        fail("another seed gives the same result: draw from `generator`, and don't seed it")
    return first


def alike(a, b) -> bool:
    return a.shape == b.shape and torch.equal(a, b)
