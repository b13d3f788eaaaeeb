"""Lesson 08's checks of scales: right answers in any style pass; wrong ones are told why."""

import re

import pytest
from support.answers import cases, passes, told, written

from minildm.diffusion.guidance import rescaled

HELPERS = {"PIXELS": (1, 2, 3)}

STD = """
    of_cond = x0_cond.std((1, 2, 3), keepdim=True)
    of_guided = x0_guided.std((1, 2, 3), keepdim=True)
"""
INSIDE = "    inside = (low < t) & (t <= high)\n"


RIGHT = [
    ("rescaled", STD + "    return (phi * of_cond / of_guided + 1 - phi) * x0_guided"),
    ("rescaled", """
        ratio = x0_cond.flatten(1).std(1) / x0_guided.flatten(1).std(1)
        new = torch.einsum("b,bchw->bchw", ratio, x0_guided)
        return torch.lerp(x0_guided, new, phi)
     """),
    ("rescaled", """
        out = []
        for c, g in zip(x0_cond.double(), x0_guided.double()):
            out.append(phi * g * (c.var() / g.var())**0.5 + (1 - phi) * g)
        return torch.stack(out).float()
     """),
    ("rescaled", """
        a, b = (x.var(PIXELS, unbiased=False, keepdim=True) for x in (x0_cond, x0_guided))
        return x0_guided - phi * (1 - (a / b).sqrt()) * x0_guided
     """),
    ("scale_at", INSIDE + "    return torch.where(inside, w, 1.0)"),
    ("scale_at", INSIDE + "    return 1 + (w - 1) * inside"),
    ("scale_at", "torch.tensor([w if low < one <= high else 1.0 for one in t])"),
    ("scale_at", """
        scale = torch.ones_like(t)
        scale[(t > low) * (t <= high)] = w
        return scale
     """),
    ("scale_at", "torch.where(t <= low, 1.0, torch.where(t > high, 1.0, torch.full(t.shape, w)))"),
]

WRONG = [
    ("rescaled", "whole batch",
     "(phi * x0_cond.std() / x0_guided.std() + 1 - phi) * x0_guided"),
    ("rescaled", "over its channels", STD.replace("(1, 2, 3)", "(2, 3)")
     + "    return (phi * of_cond / of_guided + 1 - phi) * x0_guided"),
    ("rescaled", "over its positions", STD.replace("(1, 2, 3)", "1")
     + "    return (phi * of_cond / of_guided + 1 - phi) * x0_guided"),
    ("rescaled", "over the batch$|over the batch", STD.replace("(1, 2, 3)", "0")
     + "    return (phi * of_cond / of_guided + 1 - phi) * x0_guided"),
    ("rescaled", "share of the corrected",
     STD + "    return ((1 - phi) * of_cond / of_guided + phi) * x0_guided"),
    ("rescaled", "upside down",
     STD + "    return (phi * of_guided / of_cond + 1 - phi) * x0_guided"),
    ("rescaled", "not the variance", STD.replace("std", "var")
     + "    return (phi * of_cond / of_guided + 1 - phi) * x0_guided"),
    ("rescaled", "from the mean", """
        ratio = x0_cond.flatten(1).norm(dim=1) / x0_guided.flatten(1).norm(dim=1)
        return (phi * ratio[:, None, None, None] + 1 - phi) * x0_guided
     """),
    ("rescaled", "phi is not used", STD + "    return of_cond / of_guided * x0_guided"),
    ("rescaled", "rest of the guided", STD + "    return phi * of_cond / of_guided * x0_guided"),
    ("rescaled", "in full", STD + "    return phi * of_cond / of_guided * x0_guided + x0_guided"),
    ("rescaled", "takes the guidance", "phi * x0_cond + (1 - phi) * x0_guided"),
    ("rescaled", "not the conditional one$|not the conditional",
     STD + "    return (phi * of_cond / of_guided + 1 - phi) * x0_cond"),
    ("rescaled", "not the conditional one's",
     STD + "    return phi * of_cond / of_guided * x0_guided + (1 - phi) * x0_cond"),
    ("rescaled", "not multiplied", STD + "    return (phi * of_cond + 1 - phi) * x0_guided"),
    ("rescaled", "by its own spread", STD + "    return (phi / of_guided + 1 - phi) * x0_guided"),
    ("rescaled", "mean is scaled", STD + """
    mean = x0_guided.mean((1, 2, 3), keepdim=True)
    return mean + (phi * of_cond / of_guided + 1 - phi) * (x0_guided - mean)"""),
    ("rescaled", "raised", STD.replace(", keepdim=True", "")
     + "    return (phi * of_cond / of_guided + 1 - phi) * x0_guided"),
    ("rescaled", "not for others|should be|wrong",
     STD + "    return (0.7 * of_cond / of_guided + 0.3) * x0_guided"),
    ("rescaled", "unchanged|nothing has", "x0_guided"),
    ("rescaled", "in place",
     STD + "    x0_guided *= phi * of_cond / of_guided + 1 - phi\n    return x0_guided"),
    ("rescaled", "return", STD + "    return"),
    ("scale_at", "off is 1", INSIDE + "    return torch.where(inside, w, 0.0)"),
    ("scale_at", "off is 1", INSIDE + "    return w * inside"),
    ("scale_at", "changed places", INSIDE + "    return torch.where(inside, 1.0, w)"),
    ("scale_at", "never ends", "torch.where(low < t, w, 1.0)"),
    ("scale_at", "never begins", "torch.where(t <= high, w, 1.0)"),
    ("scale_at", "low belongs outside, high", "torch.where((low <= t) & (t < high), w, 1.0)"),
    ("scale_at", "high belongs inside", "torch.where((low < t) & (t < high), w, 1.0)"),
    ("scale_at", "low belongs outside", "torch.where((low <= t) & (t <= high), w, 1.0)"),
    ("scale_at", "both conditions", "torch.where((low < t) | (t <= high), w, 1.0)"),
    ("scale_at", "off everywhere", "torch.where((t < low) & (t >= high), w, 1.0)"),
    ("scale_at", "not 1 \\+ w", INSIDE + "    return 1 + w * inside"),
    ("scale_at", "not t", INSIDE + "    return torch.where(inside, w, t)"),
    ("scale_at", "where it is on", INSIDE + "    return inside"),
    ("scale_at", "raised", "torch.where(low < t <= high, w, 1.0)"),
    ("scale_at", "raised", "w if low < t <= high else 1.0"),
    ("scale_at", "in place",
     INSIDE + "    t[inside] = w\n    t[~inside] = 1\n    return t"),
    ("scale_at", "list", "[w if low < one <= high else 1.0 for one in t.tolist()]"),
    ("scale_at", "type", INSIDE + "    return torch.where(inside, w, 1.0).double()"),
    ("scale_at", "type", INSIDE + "    return torch.where(inside, int(w), 1)"),
    ("scale_at", "not for others|wrong", "torch.where((0.25 < t) & (t <= 0.625), w, 1.0)"),
    ("scale_at", "return", INSIDE + "    torch.where(inside, w, 1.0)\n    return"),
    ("scale_at", "shape", INSIDE + "    return torch.full((int(inside.sum()),), w)"),
]


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    passes(name, written(name, body, HELPERS))


@pytest.mark.parametrize("name, said, body", cases(WRONG))
def test_wrong_answers_are_told_what_is_wrong(name, said, body):
    assert re.search(said, told(name, written(name, body, HELPERS)))


def test_the_packages_functions_are_nobodys_answer():
    assert "write yours" in told("rescaled", lambda x0_cond, x0_guided, phi: rescaled(
        x0_cond, x0_guided, phi))
