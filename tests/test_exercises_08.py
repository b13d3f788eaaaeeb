"""Lesson 08's checks: the solution passes; the wrong answers that students give are told what is wrong."""

import pytest
import torch

from minildm import exercises
from minildm.diffusion.guidance import cfg, cfg_rescaled, classifier_guidance, interval
from minildm.diffusion.schedules import Schedule


def guided_by_eps(x, null, cond, alpha, sigma, w):
    """In the package's own words: x0 of each, then guided there."""
    each = torch.cat([(x - sigma * eps) / alpha for eps in (null, cond)])
    denoise = cfg(lambda x, t, context: each, torch.ones(3), torch.zeros(3), w)
    return denoise(x, torch.tensor(0.5))


def classifier_step(x0, gradient, alpha, sigma, w):
    schedule = Schedule(lambda t: alpha, lambda t: sigma)
    denoise = classifier_guidance(lambda x, t: x0, lambda x, t: (x * gradient).flatten(1).sum(1), schedule, w)
    return denoise(x0, torch.tensor(0.5))


def towards_both(denoiser, a, b, null, w_a, w_b):
    def denoise(x, t):
        n = denoiser(x, t, null)
        return n + w_a * (denoiser(x, t, a) - n) + w_b * (denoiser(x, t, b) - n)
    return denoise


def rescaled(cond, guided, phi):
    null = (guided - 2 * cond) / -1             # so that null + 2 (cond - null) is `guided`
    denoise = cfg_rescaled(lambda x, t, c: torch.cat([null, cond]), torch.ones(3), torch.zeros(3), 2.0, phi)
    return denoise(cond, torch.tensor(0.5))


def scale_at(t, w, low, high):
    return interval(lambda x, t: x * w, lambda x, t: x, low, high)(torch.ones_like(t), t)


def test_solutions_pass():
    exercises.check_guided_by_eps(guided_by_eps)
    exercises.check_classifier_step(classifier_step)
    exercises.check_towards_both(towards_both)
    exercises.check_rescaled(rescaled)
    exercises.check_scale_at(scale_at)


@pytest.mark.parametrize("check, wrong, named", [
    ("guided_by_eps", lambda x, n, c, a, s, w: guided_by_eps(x, n, c, a, s, w + 1), "ours less 1"),
    ("guided_by_eps", lambda x, n, c, a, s, w: guided_by_eps(x, c, n, a, s, w), "changed places"),
    ("guided_by_eps", lambda x, n, c, a, s, w: guided_by_eps(x, n, c, a, s, -w), "away"),
    ("guided_by_eps", lambda x, n, c, a, s, w: guided_by_eps(x, n, c, a, s, w / (1 + w)), "mean"),
    ("guided_by_eps", lambda x, n, c, a, s, w: n + w * (c - n), "x0 is wanted"),
    ("guided_by_eps", lambda x, n, c, a, s, w: x - s * (n + w * (c - n)), "alpha is missing"),
    ("guided_by_eps", lambda x, n, c, a, s, w: (x - s * c) / a, "no guidance"),
    ("guided_by_eps", lambda x, n, c, a, s, w: None, "return"),
    ("classifier_step", lambda x0, g, a, s, w: x0 + w * g, "sigma"),
    ("classifier_step", lambda x0, g, a, s, w: x0 + w * s / a * g, "squared"),
    ("classifier_step", lambda x0, g, a, s, w: x0 + w * s**2 * g, "alpha is missing"),
    ("classifier_step", lambda x0, g, a, s, w: x0 - w * s**2 / a * g, "downhill"),
    ("classifier_step", lambda x0, g, a, s, w: x0 + s**2 / a * g, "w is missing"),
    ("towards_both", lambda d, a, b, n, u, v: towards_both(d, b, a, n, u, v), "changed places"),
    ("towards_both", lambda d, a, b, n, u, v: towards_both(d, a, b, n, u, -v), "away"),
    ("towards_both", lambda d, a, b, n, u, v: towards_both(d, a, b, n, u, 0.0), "never asked"),
    ("towards_both", lambda d, a, b, n, u, v: lambda x, t: u * d(x, t, a) + v * d(x, t, b), "differs"),
    ("towards_both", lambda d, a, b, n, u, v: d(a, torch.tensor(0.5), a), "return a function"),
    ("rescaled", lambda c, g, phi: (phi * c.std() / g.std() + 1 - phi) * g, "whole batch"),
    ("rescaled", lambda c, g, phi: rescaled(c, g, 1 - phi), "share"),
    ("rescaled", lambda c, g, phi: rescaled(c, g, 1.0), "not used"),
    ("rescaled", lambda c, g, phi: phi * c + (1 - phi) * g, "takes the guidance back"),
    ("rescaled", lambda c, g, phi: g, "nothing has changed"),
    ("scale_at", lambda t, w, low, high: torch.where((low < t) & (t <= high), w, 0.0), "off is 1"),
    ("scale_at", lambda t, w, low, high: torch.where((low < t) & (t <= high), 1.0, w), "changed places"),
    ("scale_at", lambda t, w, low, high: torch.where(low < t, w, 1.0), "never ends"),
    ("scale_at", lambda t, w, low, high: torch.where(t <= high, w, 1.0), "never begins"),
    ("scale_at", lambda t, w, low, high: torch.where((low <= t) & (t < high), w, 1.0), "high inside"),
])
def test_wrong_answers_are_told_why(check, wrong, named):
    with pytest.raises(AssertionError, match=named):
        getattr(exercises, f"check_{check}")(wrong)
