"""Lesson 05's checks: right answers in any style pass; wrong ones are told what is wrong."""

import re

import pytest
import torch
from support.answers import cases, passes, told, written

from minildm import exercises
from minildm.diffusion import samplers
from minildm.diffusion.samplers import ddpm, last
from minildm.diffusion.schedules import cosine, time_grid

HELPERS = {"samplers": samplers, "time_grid": time_grid}
AT = ("a, a_s = schedule.alpha(t), schedule.alpha(s)\n"
      "sd, sd_s = schedule.sigma(t), schedule.sigma(s)\n")
KEEP = AT + "keep = a / a_s * (sd_s / sd)**2\nvar = (sd_s / sd)**2 * (1 - (a / a_s)**2)\n"
PAIR = "return torch.stack([{}, ({}).expand(x.shape)])"
MEAN = "keep * x + (a_s - keep * a) * x0"
EPS = AT + "eps = (x - a * x0) / sd\nreturn "
X0 = "a, sd = schedule.alpha(t), schedule.sigma(t)\nx0 = (x - sd * eps) / a\nreturn "
LOOP = """
    x, ts = noise, {ts}
    for i in range({n}):
        {each}
    return {out}
"""
WALK = {"ts": "torch.linspace(1, 0, n + 1)", "n": "n", "out": "x",
        "each": "x = step(x, denoise(x, ts[i]), ts[i], ts[i + 1])"}


def loop(**changed):
    return LOOP.format(**WALK | changed)


def pair(mean=MEAN, var="var"):
    return KEEP + PAIR.format(mean, var)


RIGHT = [
    ("posterior", pair()),
    ("posterior", pair(var="sd_s**2 - (keep * sd)**2")),
    ("posterior", pair("a_s * x0 + keep * (x - a * x0)")),
    ("posterior", KEEP + "return torch.stack([" + MEAN + ", torch.full_like(x, var.item())])"),
    ("posterior", AT + """
alpha_ts = (a / a_s)**2
mean = x * alpha_ts.sqrt() * (1 - a_s**2) / (1 - a**2) + x0 * a_s * (1 - alpha_ts) / (1 - a**2)
return torch.stack((mean, (1 - a_s**2) / (1 - a**2) * (1 - alpha_ts) * torch.ones(x.shape)))
     """),
    ("ddim_step", EPS + "a_s * x0 + sd_s * eps"),
    ("ddim_step", AT + "r = sd_s / sd\nreturn r * x + (a_s - r * a) * x0"),
    ("ddim_step", "(a, b), (c, d) = ([part(u) for part in schedule] for u in (t, s))\n"
                  "return torch.lerp(c * x0, x - (a - c) * x0, d / b) - (d / b - 1) * 0 * x"
     .replace("torch.lerp(c * x0, x - (a - c) * x0, d / b) - (d / b - 1) * 0 * x",
              "c * x0 + (x.double() - a * x0).mul(d / b).float()")),
    ("eps_to_v", X0 + "a * eps - sd * x0"),
    ("eps_to_v", "a, sd = (part(t) for part in schedule)\nreturn (a + sd**2 / a) * eps - sd / a * "
                 "x"),
    ("eps_to_v", "a, sd = schedule.alpha(t).item(), schedule.sigma(t).item()\n"
                 "return torch.stack([a * e - sd * (y - sd * e) / a for y, e in zip(x, eps)])"),
    ("sample", loop()),
    ("sample", loop(ts="time_grid(n)")),
    ("sample", """
        x = noise
        for i in range(n, 0, -1):
            t, s = torch.tensor(i / n), torch.tensor((i - 1) / n)
            x = step(x, denoise(x, t), t, s)
        return x
     """),
    ("sample", """
        x, ts = noise, [1 - i / n for i in range(n + 1)]
        for t, s in zip(ts, ts[1:]):
            x0 = denoise(x, t)
            x = step(x, x0, t, s)
        return x
     """),
    ("sample", """
        def go(x, i):
            if i == n:
                return x
            t, s = (torch.full((len(x),), 1 - j / n) for j in (i, i + 1))
            return go(step(x, denoise(x, t), t, s), i + 1)
        return go(noise, 0)
     """),
    ("look_ahead", "x0 + (x0 - before) / (lam - lam_before) * (lam_next - lam) / 2"),
    ("look_ahead", "r = (lam - lam_before) / (lam_next - lam)\n"
                   "return (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before"),
    ("look_ahead", "torch.lerp(before, x0, ((lam + lam_next) / 2 - lam_before) / (lam - "
                   "lam_before))"),
]

WRONG = [
    ("posterior", "not its root", pair(var="var.sqrt()")),
    ("posterior", "logarithm", pair(var="var.log()")),
    ("posterior", "forward step", pair(var="1 - (a / a_s)**2")),
    ("posterior", "without x_t", pair(var="sd_s**2")),
    ("posterior", "squares", pair(var="sd_s / sd * (1 - (a / a_s)**2)")),
    ("posterior", "upside down", pair(var="(sd / sd_s)**2 * (1 - (a / a_s)**2)")),
    ("posterior", "too much", pair("keep * x + a_s * x0")),
    ("posterior", "keep alpha_t", pair("keep * x + (1 - keep) * x0")),
    ("posterior", "x and x0", pair("keep * x0 + (a_s - keep * a) * x")),
    ("posterior", "first the mean",
     KEEP + "return torch.stack([var.expand(x.shape), " + MEAN + "])"),
    ("posterior", "variance is missing", KEEP + "return " + MEAN),
    ("posterior", "a tuple of 2", KEEP + "return " + MEAN + ", var"),
    ("posterior", "DDIM", pair("a_s * x0 + sd_s * (x - a * x0) / sd")),
    ("posterior", "sigmas squared",
     KEEP.replace("keep = a / a_s * (sd_s / sd)**2", "keep = a / a_s * sd_s / sd")
     + PAIR.format(MEAN, "var")),
    ("posterior", "t and s", KEEP.replace("schedule.alpha(t), schedule.alpha(s)",
                                          "schedule.alpha(s), schedule.alpha(t)").replace(
        "schedule.sigma(t), schedule.sigma(s)", "schedule.sigma(s), "
                                                "schedule.sigma(t)") + PAIR.format(MEAN, "var")),
    ("posterior", "raised", KEEP + "return torch.stack([" + MEAN + ", var])"),
    ("posterior", "differs|wrong|first",
     KEEP.replace("a / a_s * (", "(") + PAIR.format(MEAN, "var")),
    ("posterior", "differs|wrong|first",
     KEEP.replace("a / a_s * (", "a_s / a * (") + PAIR.format(MEAN, "var")),
    ("posterior", "first inputs",
     "from minildm.diffusion.schedules import cosine as schedule\n" + pair()),
    ("posterior", "in place", KEEP + "x *= keep\nx += (a_s - keep * a) * x0\n"
                                     "return torch.stack([x, var.expand(x.shape)])"),
    ("posterior", "shape|axis",
     KEEP + "return torch.stack([" + MEAN + ", var.expand(x.shape)], 1)"),
    ("posterior", "differs|wrong|sign", pair("keep * x - (a_s - keep * a) * x0")),
    ("ddim_step", "those of t", EPS + "a * x0 + sd * eps"),
    ("ddim_step", "alpha is that of t", EPS + "a * x0 + sd_s * eps"),
    ("ddim_step", "sigma is that of t", EPS + "a_s * x0 + sd * eps"),
    ("ddim_step", "isn't multiplied", EPS + "x0 + sd_s * eps"),
    ("ddim_step", "unit size", EPS + "a_s * x0 + sd_s * (x - a * x0)"),
    ("ddim_step", "always the root", EPS + "a_s * x0 + (1 - a_s**2).abs().sqrt() * eps"),
    ("ddim_step", "at t either", AT + "eps = (x - a * x0) / (1 - a**2).abs().sqrt()\n"
                                      "return a_s * x0 + (1 - a_s**2).abs().sqrt() * eps"),
    ("ddim_step", "sign of the noise", EPS + "a_s * x0 - sd_s * eps"),
    ("ddim_step", "two results", EPS + "a_s * x0 + sd_s * torch.randn(x.shape)"),
    ("ddim_step", "x and x0", AT + "eps = (x0 - a * x) / sd\nreturn a_s * x + sd_s * eps"),
    ("ddim_step", "t and s", AT + "eps = (x - a_s * x0) / sd_s\nreturn a * x0 + sd * eps"),
    ("ddim_step", "that is the noise", EPS + "eps"),
    ("ddim_step", "the factor of `x`", EPS + "a_s * x + sd_s * eps"),
    ("ddim_step", "the factor of `x`", EPS + "a_s * x0 + (sd_s - sd) * eps"),
    ("ddim_step", "noise is missing", EPS + "a_s * x0"),
    ("ddim_step", "x - alpha_t x0", AT + "eps = (x - x0) / sd\nreturn a_s * x0 + sd_s * eps"),
    ("ddim_step", "data out", AT + "return a_s * x0 + sd_s * x"),
    ("ddim_step", "first inputs", "eps = (x - (1 - t) * x0) / t\nreturn (1 - s) * x0 + s * eps"),
    ("ddim_step", "those of t", "x"),
    ("ddim_step", "unchanged", "x0"),
    ("ddim_step", "in place", AT + "x -= a * x0\nreturn a_s * x0 + sd_s * x / sd"),
    ("ddim_step", "package",
     "samplers.last(samplers.ddim(lambda *_: x0, schedule, x, torch.stack([t, s])))"),
    ("ddim_step", "posterior|DDPM", KEEP + "return " + MEAN),
    ("ddim_step", "raised", "a, sd = schedule(t)\nreturn a * x0 + sd * x"),
    ("eps_to_v", "sign", X0 + "sd * x0 - a * eps"),
    ("eps_to_v", "isn't x0", X0 + "a * eps - sd * x"),
    ("eps_to_v", "changed places", X0 + "sd * eps - a * x0"),
    ("eps_to_v", "flow", X0 + "eps - x0"),
    ("eps_to_v", "both have the plus", X0 + "a * eps + sd * x0"),
    ("eps_to_v", "division is missing", X0.replace(" / a", "") + "a * eps - sd * x0"),
    ("eps_to_v", "minus, not plus", X0.replace("x - sd", "x + sd") + "a * eps - sd * x0"),
    ("eps_to_v", r"alpha\^2", X0 + "(eps - sd * x) / a"),
    ("eps_to_v", "alpha is missing", X0 + "eps - sd * x0"),
    ("eps_to_v", "sigma is missing", X0 + "a * eps - x0"),
    ("eps_to_v", "that is x0", X0 + "x0"),
    ("eps_to_v", "unchanged", X0 + "eps"),
    ("eps_to_v", "without squares", X0 + "a**2 * eps - sd**2 * x0"),
    ("eps_to_v", "wrong way round",
     X0.replace("(x - sd * eps) / a", "(x - a * eps) / sd") + "a * eps - sd * x0"),
    ("eps_to_v", "the factor of `x`",
     "a, sd = torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)\n"
                                        "return a * eps - sd * (x - sd * eps) / a"),
    ("eps_to_v", "eps and x", X0.replace("x - sd * eps", "eps - sd * x") + "a * x - sd * x0"),
    ("eps_to_v", "in place", X0.replace("return", "eps *= a\nreturn") + "eps - sd * x0"),
    ("eps_to_v", "a tuple", X0 + "x0, a * eps - sd * x0"),
    ("sample", "last step", loop(n="n - 1")),
    ("sample", "begin at 1",
     "\n    x, ts = noise, torch.linspace(1, 0, n + 1)[1:]\n    for t, s in zip(ts, ts[1:]):"
                             "\n        x = step(x, denoise(x, t), t, s)\n    return x\n"),
    ("sample", r"n \+ 1 times|raised", loop(ts="torch.linspace(1, 0, n)")),
    ("sample", r"n \+ 1 times", loop(ts="torch.linspace(1, 0, n)", n="n - 1")),
    ("sample", "too many", loop(ts="torch.linspace(1, 0, n + 2)", n="n + 1")),
    ("sample", "not up", loop(ts="torch.linspace(0, 1, n + 1)")),
    ("sample", "ends at 0", loop(ts="torch.linspace(1, 1 / n, n + 1)")),
    ("sample", "goes on from",
     loop(each="x = step(noise, denoise(noise, ts[i]), ts[i], ts[i + 1])")),
    ("sample", "anew",
     "x, ts = noise, torch.linspace(1, 0, n + 1)\nx0 = denoise(x, ts[0])\nfor i in range(n):\n"
                       "    x = step(x, x0, ts[i], ts[i + 1])\nreturn x"),
    ("sample", "last guess",
     loop(each="x0 = denoise(x, ts[i])\n        x = step(x, x0, ts[i], ts[i + 1])", out="x0")),
    ("sample", "first guess", "denoise(noise, torch.tensor(1.0))"),
    ("sample", "one step only",
     "step(noise, denoise(noise, torch.ones(())), torch.ones(()), torch.zeros(()))"),
    ("sample", "asked",
     loop(each="denoise(x, ts[i])\n        x = step(x, denoise(x, ts[i]), ts[i], ts[i + 1])")),
    ("sample", "differs|wrong", loop(each="x = step(x, denoise(x, ts[i + 1]), ts[i], ts[i + 1])")),
    ("sample", "differs|wrong", loop(each="x = step(x, denoise(x, ts[i]), ts[i + 1], ts[i])")),
    ("sample", "differs|wrong", loop(each="x = step(denoise(x, ts[i]), x, ts[i], ts[i + 1])")),
    ("sample", "differs|wrong", loop(ts="torch.linspace(1000, 0, n + 1)")),
    ("sample", "first inputs", loop(ts="torch.linspace(1, 0, 5)", n="4")),
    ("sample", "unchanged", "noise"),
    ("sample", "a list", "x, ts, xs = noise, torch.linspace(1, 0, n + 1), []\nfor i in range(n):\n"
                         "    x = step(x, denoise(x, ts[i]), ts[i], ts[i + 1])\n    "
                         "xs.append(x)\nreturn xs"),
    ("look_ahead", "whole one", "x0 + (lam_next - lam) / (lam - lam_before) * (x0 - before)"),
    ("look_ahead", "a quarter", "x0 + (lam_next - lam) / (lam - lam_before) / 4 * (x0 - before)"),
    ("look_ahead", "upside down", "x0 + (lam - lam_before) / (lam_next - lam) / 2 * (x0 - before)"),
    ("look_ahead", "sign", "x0 - (lam_next - lam) / (lam - lam_before) / 2 * (x0 - before)"),
    ("look_ahead", "sign", "x0 + (lam_next - lam) / (lam - lam_before) / 2 * (before - x0)"),
    ("look_ahead", "not from before",
     "before + (lam_next - lam) / (lam - lam_before) / 2 * (x0 - before)"),
    ("look_ahead", "ratio is missing", "x0 + (x0 - before) / 2"),
    ("look_ahead", "in the past", "(x0 + before) / 2"),
    ("look_ahead", "both together",
     "x0 + (lam_next - lam) / (lam_next - lam_before) / 2 * (x0 - before)"),
    ("look_ahead", "divide by the step", "x0 + (lam_next - lam) / 2 * (x0 - before)"),
    ("look_ahead", "multiply by the step", "x0 + (x0 - before) / (lam - lam_before) / 2"),
    ("look_ahead", "lam_next - lam, not",
     "x0 + (lam_next - lam_before) / (lam - lam_before) / 2 * (x0 - before)"),
    ("look_ahead", "not lam itself", "x0 + lam_next / lam / 2 * (x0 - before)"),
    ("look_ahead", "x0 is where", "(lam_next - lam) / (lam - lam_before) / 2 * (x0 - before)"),
    ("look_ahead", "slope", "(x0 - before) / (lam - lam_before)"),
    ("look_ahead", "unchanged", "x0"),
    ("look_ahead", "the factor of `x0`",
     "x0 + (lam_next - lam).abs().sqrt() / (lam - lam_before) * (x0 - before)"),
    ("look_ahead", "in place",
     "x0 += (lam_next - lam) / (lam - lam_before) / 2 * (x0 - before)\nreturn x0"),
    ("look_ahead", "changed places|differs",
     "before + (lam_next - lam) / (lam - lam_before) / 2 * (before - x0)"),
]


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    passes(name, written(name, body, HELPERS))


@pytest.mark.parametrize("name, said, body", cases(WRONG))
def test_wrong_answers_are_told_what_is_wrong(name, said, body):
    assert re.search(said, told(name, written(name, body, HELPERS)))


def test_the_posterior_is_what_ddpm_draws_from(capsys):
    x, x0, t, s = torch.full((200_000,), 0.5), 1.0, torch.tensor(0.7), torch.tensor(0.4)
    seed = torch.Generator().manual_seed(0)
    drawn = last(ddpm(lambda *_: x0, cosine, x, torch.stack([t, s]), generator=seed))
    mean, variance = exercises.yours("posterior")(cosine, x[:1], x0, t, s)
    assert abs(drawn.mean() - mean) < 0.005 and abs(drawn.var() - variance) < 0.005
