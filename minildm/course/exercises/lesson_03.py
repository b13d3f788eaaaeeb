"""The checks of lesson 03."""

import torch

from minildm.course.exercises.legacy import compare, passed, randn
from minildm.diffusion import schedules


def check_alpha_bar(f):
    betas, one = torch.linspace(0.05, 0.4, 6), torch.ones(1)
    kept = (1 - betas).cumprod(0)
    passed(compare("alpha_bar", f(betas.clone()), want := torch.cat([one, kept]), {
        "shares multiply: this is a sum": torch.cat([one, 1 - betas.cumsum(0)]), "a root": want.sqrt(),
        "the product is of 1 - beta": torch.cat([one, betas.cumprod(0)]), "the 1 in front is missing": kept,
        "one place late: entry 1 is what the first step left": torch.cat([one, one, kept[:-1]])}))


def check_add_noise(f):
    for shape, s in ((4, 4, 4, 4), schedules.cosine), ((4, 4), schedules.flow):
        x, n, t = randn(*shape), randn(*shape, seed=1), torch.tensor([0.1, 0.3, 0.6, 0.9])
        a, sd = (part(schedules.expand(t, x)) for part in s)
        compare("add_noise", f(s, x, n, t), schedules.add_noise(s, x, n, t), {
            "t (B,) met the last axis: each column has its own time": s.alpha(t) * x + s.sigma(t) * n,
            "alpha and sigma changed places": sd * x + a * n, "alpha is missing": x + sd * n,
            "alpha is the root of alpha_bar already: no squares": a**2 * x + sd**2 * n})
    passed("add_noise")


def check_scale_factor(f):
    z = 3 * randn(6, 4, 2, 2) + torch.tensor([5.0, -1, 0, 2])[:, None, None]
    passed(compare("scale_factor", torch.as_tensor(got) if (got := f(z)) is not None else None, 1 / z.std(), {
        "the standard deviation: times it, latents get wider": z.std(), "this is 1 / variance": 1 / z.var(),
        "a number for each channel: one for all is wanted": 1 / z.std((0, 2, 3))}, tol=0.01))
