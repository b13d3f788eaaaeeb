"""Lesson 08's checks: right answers in any style pass; wrong ones are told what is wrong."""

import re

import pytest
from support.answers import cases, passes, told, written

from minildm.diffusion.guidance import cfg

EPS = "    eps = eps_null + guidance_scale * (eps_cond - eps_null)\n"


def made(body):
    """towards_both whose denoise has this body; `ask` is the denoiser at x and t."""
    lines = [f"        {line.strip()}" for line in body.strip().splitlines()]
    if "return" not in body:
        lines = [f"        return {body}"]
    ask = "        ask = lambda context: denoiser(x, t, context)"
    return "\n".join(["    def denoise(x, t):", ask, *lines, "    return denoise"])


RIGHT = [
    ("guided_by_eps", EPS + "    return (x - sigma * eps) / alpha"),
    ("guided_by_eps", """
        theirs = guidance_scale - 1
        eps = (1 + theirs) * eps_cond - theirs * eps_null
        return x / alpha - sigma / alpha * eps
     """),
    ("guided_by_eps", """
        null, cond = ((x.double() - sigma * e) / alpha for e in (eps_null, eps_cond))
        return (null + guidance_scale * (cond - null)).to(x.dtype)
     """),
    ("guided_by_eps", "(x - sigma * torch.lerp(eps_null, eps_cond, guidance_scale)) / alpha"),
    ("classifier_step", "x0 + w * sigma**2 / alpha * gradient"),
    ("classifier_step", "torch.add(x0, gradient, alpha=float(w * sigma * sigma / alpha))"),
    ("classifier_step", """
        eps_step = -w * sigma * gradient.double()
        return (x0 - sigma / alpha * eps_step).float()
     """),
    ("towards_both", made("ask(null) + w_a * (ask(a) - ask(null)) + w_b * (ask(b) - ask(null))")),
    ("towards_both", made("(1 - w_a - w_b) * ask(null) + w_a * ask(a) + w_b * ask(b)")),
    ("towards_both", """
        def denoise(x, t):
            t = torch.as_tensor(t).expand(len(x))
            contexts = torch.cat([null, a, b])
            every = denoiser(x=torch.cat([x] * 3), t=t.repeat(3), context=contexts)
            x0, x0_a, x0_b = every.chunk(3)
            return x0 + w_a * (x0_a - x0) + w_b * (x0_b - x0)
        return denoise
     """),
    ("towards_both", """
        scales = {0: (a, w_a), 1: (b, w_b)}
        def denoise(x, t):
            start = denoiser(x, t, context=null)
            out = start.clone()
            for context, scale in scales.values():
                out += scale * (denoiser(x, t, context=context) - start)
            return out
        return denoise
     """),
]

WRONG = [
    ("guided_by_eps", "ours less 1: its 0",
     "(x - sigma * ((1 + guidance_scale) * eps_cond - guidance_scale * eps_null)) / alpha"),
    ("guided_by_eps", "subtracted once",
     "(x - sigma * guidance_scale * (eps_cond - eps_null)) / alpha"),
    ("guided_by_eps", "changed places",
     "(x - sigma * (eps_cond + guidance_scale * (eps_null - eps_cond))) / alpha"),
    ("guided_by_eps", "away",
     "(x - sigma * (eps_null - guidance_scale * (eps_cond - eps_null))) / alpha"),
    ("guided_by_eps", "ours less 1",
     "(x - sigma * (eps_cond + guidance_scale * (eps_cond - eps_null))) / alpha"),
    ("guided_by_eps", "brackets",
     "(x - sigma * (guidance_scale * eps_cond - (guidance_scale + 1) * eps_null)) / alpha"),
    ("guided_by_eps", "stretch",
     "(x - sigma * (eps_null + guidance_scale * eps_cond) / (1 + guidance_scale)) / alpha"),
    ("guided_by_eps", "that is eps", "eps_null + guidance_scale * (eps_cond - eps_null)"),
    ("guided_by_eps", "alpha is missing", EPS + "    return x - sigma * eps"),
    ("guided_by_eps", "sigma is missing", EPS + "    return (x - eps) / alpha"),
    ("guided_by_eps", "divided as well", EPS + "    return x - sigma * eps / alpha"),
    ("guided_by_eps", "divide by alpha", EPS + "    return alpha * (x - sigma * eps)"),
    ("guided_by_eps", "and sigma changed", EPS + "    return (x - alpha * eps) / sigma"),
    ("guided_by_eps", "need not be 1", EPS + "    return (x - (1 - alpha**2)**0.5 * eps) / alpha"),
    ("guided_by_eps", "alpha \\+ sigma need", EPS + "    return (x - (1 - alpha) * eps) / alpha"),
    ("guided_by_eps", "not plus", EPS + "    return (x + sigma * eps) / alpha"),
    ("guided_by_eps", "no root", EPS + "    return (x - sigma * eps) / alpha**0.5"),
    ("guided_by_eps", "isn't squared", EPS + "    return (x - sigma**2 * eps) / alpha"),
    ("guided_by_eps", "no guidance", "(x - sigma * eps_cond) / alpha"),
    ("guided_by_eps", "without the condition", "(x - sigma * eps_null) / alpha"),
    ("guided_by_eps", "not for others|should be",
     "(x - sigma * (eps_null + 4 * (eps_cond - eps_null))) / alpha"),
    ("guided_by_eps", "in place", "x -= sigma * eps_cond\nreturn x / alpha"),
    ("guided_by_eps", "in place",
     "eps_cond -= eps_null\nreturn (x - sigma * (eps_null + guidance_scale * eps_cond)) / alpha"),
    ("guided_by_eps", "return", EPS + "    x0 = (x - sigma * eps) / alpha\n    return"),
    ("guided_by_eps", "type", EPS + "    return ((x - sigma * eps) / alpha).double()"),
    ("classifier_step", "no step of x0", "x0 + w * gradient"),
    ("classifier_step", "one from eps", "x0 + w * sigma / alpha * gradient"),
    ("classifier_step", "added to x0: sigma", "x0 + w * sigma * gradient"),
    ("classifier_step", "subtracted from x0", "x0 - w * sigma * gradient"),
    ("classifier_step", "alpha is missing", "x0 + w * sigma**2 * gradient"),
    ("classifier_step", "sigma is missing", "x0 + w / alpha * gradient"),
    ("classifier_step", "downhill", "x0 - w * sigma**2 / alpha * gradient"),
    ("classifier_step", "downhill, and", "x0 - w * sigma / alpha * gradient"),
    ("classifier_step", "alpha squared", "x0 + w * sigma**2 / alpha**2 * gradient"),
    ("classifier_step", "alpha squared", "x0 + w * (sigma / alpha)**2 * gradient"),
    ("classifier_step", "divide by alpha$|divide by alpha", "x0 + w * sigma**2 * alpha * gradient"),
    ("classifier_step", "changed places", "x0 + w * alpha**2 / sigma * gradient"),
    ("classifier_step", "need not be 1", "x0 + w * (1 - alpha**2) / alpha * gradient"),
    ("classifier_step", "gradient alone", "(x0 + w * sigma**2 * gradient) / alpha"),
    ("classifier_step", "w is missing", "x0 + sigma**2 / alpha * gradient"),
    ("classifier_step", "keeps its own", "w * (x0 + sigma**2 / alpha * gradient)"),
    ("classifier_step", "less 1", "x0 + (w - 1) * sigma**2 / alpha * gradient"),
    ("classifier_step", "add it", "w * sigma**2 / alpha * gradient"),
    ("classifier_step", "w isn't squared", "x0 + w**2 * sigma**2 / alpha * gradient"),
    ("classifier_step", "in place", "x0 += w * sigma**2 / alpha * gradient\nreturn x0"),
    ("classifier_step", "x0`, unchanged", "x0"),
    ("classifier_step", "return", "x0 + w * sigma**2 / alpha * gradient\nreturn"),
    ("classifier_step", "first of the batch|wrong|should be",
     "x0 + w * sigma**2 / alpha * gradient[:1]"),
    ("classifier_step", "right for the first|should be", "x0 + 2.3 * sigma**2 / alpha * gradient"),
    ("towards_both", "scales changed",
     made("ask(null) + w_b * (ask(a) - ask(null)) + w_a * (ask(b) - ask(null))")),
    ("towards_both", "the first scale",
     made("ask(null) + w_a * (ask(a) - ask(null)) + w_a * (ask(b) - ask(null))")),
    ("towards_both", "taken from a",
     made("ask(null) + w_a * (ask(a) - ask(null)) + w_b * (ask(b) - ask(a))")),
    ("towards_both", "first has led", made("""
        x0 = ask(null)
        x0 = x0 + w_a * (ask(a) - x0)
        return x0 + w_b * (ask(b) - x0)
     """)),
    ("towards_both", "first has led", made("""
        x0 = ask(null)
        x0 += w_a * (ask(a) - x0)
        x0 += w_b * (ask(b) - x0)
        return x0
     """)),
    ("towards_both", "second step starts", made("""
        x0 = ask(null)
        x0 = x0 + w_b * (ask(b) - x0)
        return x0 + w_a * (ask(a) - x0)
     """)),
    ("towards_both", "b is pushed",
     made("ask(null) + w_a * (ask(a) - ask(null)) - w_b * (ask(b) - ask(null))")),
    ("towards_both", "both are pushed",
     made("ask(null) - w_a * (ask(a) - ask(null)) - w_b * (ask(b) - ask(null))")),
    ("towards_both", "a place to start",
     made("w_a * (ask(a) - ask(null)) + w_b * (ask(b) - ask(null))")),
    ("towards_both", "not from a's",
     made("ask(a) + w_a * (ask(a) - ask(null)) + w_b * (ask(b) - ask(null))")),
    ("towards_both", "not from b's",
     made("ask(b) + w_a * (ask(a) - ask(null)) + w_b * (ask(b) - ask(null))")),
    ("towards_both", "b is never", made("ask(null) + w_a * (ask(a) - ask(null))")),
    ("towards_both", "a is never", made("ask(null) + w_b * (ask(b) - ask(null))")),
    ("towards_both", "sum of both", made("w_a * ask(a) + w_b * ask(b)")),
    ("towards_both", "in the sum twice",
     made("2 * ask(null) + w_a * (ask(a) - ask(null)) + w_b * (ask(b) - ask(null))")),
    ("towards_both", "mean of two",
     made("ask(null) + (w_a * (ask(a) - ask(null)) + w_b * (ask(b) - ask(null))) / 2")),
    ("towards_both", "shared out", made("(w_a * ask(a) + w_b * ask(b)) / (w_a + w_b)")),
    ("towards_both", "start is missing",
     made("w_a * (ask(a) - ask(null)) + w_b * ask(b) + 0 * ask(null)")),
    ("towards_both", "scaled by both",
     made("ask(null) + w_a * (ask(a) + ask(null)) + w_b * (ask(b) + ask(null))")),
    ("towards_both", "return a function", "denoiser(a, 0.5, null)"),
    ("towards_both", "drawn near",
     made("ask(null) + w_a * (ask(a) - ask(null)) + abs(w_b) * (ask(b) - ask(null))")),
    ("towards_both", "should be|wrong|late", made("""
        x0 = denoiser(x, 0.5, null)
        return x0 + w_a * (denoiser(x, 0.5, a) - x0) + w_b * (denoiser(x, 0.5, b) - x0)
     """)),
    ("towards_both", "return",
     made("ask(null) + w_a * (ask(a) - ask(null))").replace("    return denoise", "")),
    ("towards_both", "second time", """
        kept = []
        def denoise(x, t):
            if not kept:
                kept.append(denoiser(x, t, null))
            x0 = kept[0]
            return x0 + w_a * (denoiser(x, t, a) - x0) + w_b * (denoiser(x, t, b) - x0)
        return denoise
     """),
    ("towards_both", "takes \\(x\\)", """
        def denoise(x):
            return denoiser(x, 0.5, null)
        return denoise
     """),
]


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    passes(name, written(name, body))


@pytest.mark.parametrize("name, said, body", cases(WRONG))
def test_wrong_answers_are_told_what_is_wrong(name, said, body):
    assert re.search(said, told(name, written(name, body)))


def test_the_packages_functions_are_nobodys_answer():
    def by_cfg(denoiser, a, b, null, w_a, w_b):
        def denoise(x, t):
            more = cfg(denoiser, b, null, w_b)(x, t) - denoiser(x, t, null)
            return cfg(denoiser, a, null, w_a)(x, t) + more

        return denoise

    assert "write yours" in told("towards_both", by_cfg)
