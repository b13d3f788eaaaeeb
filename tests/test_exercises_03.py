"""Lesson 03's checks: the solution passes; the wrong answers that students give are told what is wrong."""

import pytest
import torch

from minildm import exercises
from minildm.diffusion.schedules import add_noise, from_betas


def test_solutions_pass():
    exercises.check_alpha_bar(lambda betas: from_betas(betas).alpha(torch.linspace(0, 1, len(betas) + 1))**2)
    exercises.check_add_noise(add_noise)
    exercises.check_scale_factor(lambda z: 1 / z.std(correction=0))
    exercises.check_scale_factor(lambda z: (1 / z.std()).item())


def at(t):
    return t[:, None, None, None]


def like(t, x):
    return t.reshape(-1, *[1] * (x.ndim - 1))


one = torch.ones(1)
WRONG = [
    ("alpha_bar", "sum", lambda b: torch.cat([one, 1 - b.cumsum(0)])),
    ("alpha_bar", "1 - beta", lambda b: torch.cat([one, b.cumprod(0)])),
    ("alpha_bar", "in front", lambda b: (1 - b).cumprod(0)),
    ("alpha_bar", "late", lambda b: torch.cat([torch.ones(2), (1 - b).cumprod(0)[:-1]])),
    ("alpha_bar", "a root", lambda b: torch.cat([one, (1 - b).cumprod(0)]).sqrt()),
    ("alpha_bar", "should be", lambda b: 1 - torch.cat([one, (1 - b).cumprod(0)])),
    ("add_noise", "column", lambda s, x, n, t: s.alpha(t) * x + s.sigma(t) * n),
    ("add_noise", "squares", lambda s, x, n, t: s.alpha(like(t, x))**2 * x + s.sigma(like(t, x))**2 * n),
    ("add_noise", "changed places", lambda s, x, n, t: s.sigma(like(t, x)) * x + s.alpha(like(t, x)) * n),
    ("add_noise", "alpha is missing", lambda s, x, n, t: x + s.sigma(like(t, x)) * n),
    ("add_noise", "should be", lambda s, x, n, t: add_noise(s, x, n, t[0])),
    ("add_noise", "should be", lambda s, x, n, t: s.alpha(at(t)[0]) * x + s.sigma(at(t)[0]) * n),
    ("add_noise", "shape", lambda s, x, n, t: s.alpha(at(t)) * x + s.sigma(at(t)) * n),     # images only
    ("scale_factor", "standard deviation", lambda z: z.std()),
    ("scale_factor", "variance", lambda z: 1 / z.var()),
    ("scale_factor", "should be", lambda z: 1 / z.square().mean().sqrt()),
    ("scale_factor", "each channel", lambda z: 1 / z.std((0, 2, 3))),
    ("scale_factor", "shape", lambda z: 1 / z.std(0)),
    ("scale_factor", "should be", lambda z: 0.18215),
    ("scale_factor", "return", lambda z: None),
]


@pytest.mark.parametrize("name, said, answer", WRONG)
def test_wrong_answers_are_told_the_cause(name, said, answer):
    with pytest.raises(AssertionError, match=said):
        getattr(exercises, f"check_{name}")(answer)
