"""Lesson 15's checks of velocity, drawing, effects, last layer: right ones pass, wrong ones hear why."""

import re

import pytest
import torch
from support.answers import changed, right_and_wrong, told, written

from minildm.course import arms
from minildm.course.exercises.lesson_15 import to_velocity
from minildm.diffusion import samplers
from minildm.diffusion.denoiser import Denoiser, to_x0
from minildm.diffusion.schedules import flow, time_grid

HELPERS = {"to_velocity": lambda x0, x, t, low=0.05: (x - x0) / t.clamp(min=low)[:, None, None, None],
           "time_grid": time_grid, "arms": arms, "Denoiser": Denoiser, "flow": flow, "samplers": samplers}
HELPERS["velocity_of"] = written(
    "velocity_of", """
    answer = network(x, t, labels)
    return to_velocity(answer, x, t) if predicts == "x0" else answer
""", HELPERS)


def defaults(body, low=0.05):
    """A to_velocity whose `low` has a default, as in the stub."""
    answer = written("to_velocity", body, HELPERS)
    answer.__defaults__ = (low,)
    return answer


AT = "at = t.clamp(min=low)[:, None, None, None]\n"
OF = """
    answer = network(x, t, labels)
    return to_velocity(answer, x, t) if predicts == "x0" else answer
"""
DRAW = """
    x, times = noise, time_grid(steps)
    for t, to in zip(times[:-1], times[1:]):
        x = x + (to - t) * velocity_of(network, predicts, x, t.expand(len(x)), labels)
    return x
"""
EFFECTS = """
    latents, pixels = fd[:, 0, 1] - fd[:, 0, 0], fd[:, 1, 1] - fd[:, 1, 0]
    rows = torch.stack([latents, pixels, pixels - latents])
    return torch.stack([rows.mean(1), t * rows.std(1) / len(fd)**0.5], dim=1)
"""
SILENT = """
    silent = torch.linalg.svd(weight).U[:, weight.shape[1]:]
    centred = patches - patches.mean(0)
    return (centred @ silent).square().sum() / centred.square().sum()
"""

RIGHT = [
    ("to_velocity", AT + "return (x - x0) / at"),
    ("to_velocity", "t = torch.where(t < low, torch.full_like(t, low), t)\n"
                    "return torch.einsum('bchw,b->bchw', x - x0, 1 / t)"),
    ("to_velocity", "return torch.stack([(a - b).double() / max(s, low)"
                    " for a, b, s in zip(x, x0, t.tolist())]).float()"),
    ("velocity_of", OF),
    ("velocity_of", """
        if predicts == "flow":
            return network(x, t, labels)
        return to_velocity(network(x, t, labels), x, t)
     """),
    ("velocity_of", """
        said = network(x, t, labels)
        if predicts == "x0":
            said = (x - said) / t.clamp(min=0.05).view(-1, 1, 1, 1)
        return said
     """),
    ("draw_arm", DRAW),
    ("draw_arm", """
        x = noise.clone()
        for k in range(steps, 0, -1):
            t = torch.full((len(x),), k / steps)
            x -= velocity_of(network, predicts, x, t, labels) / steps
        return x
     """),
    ("draw_arm", """
        x = noise
        for t in torch.linspace(1, 1 / steps, steps):
            answer = network(x, t.repeat(len(x)), labels)
            if predicts == "x0":
                answer = (x - answer) / t
            x = x - answer / steps
        return x
     """),
    ("effects", EFFECTS),
    ("effects", """
        gaps = fd[..., 1] - fd[..., 0]
        rows = torch.cat([gaps, gaps[:, 1:] - gaps[:, :1]], dim=1)
        n = rows.shape[0]
        sd = ((rows - rows.mean(0))**2).sum(0) / (n - 1)
        return torch.column_stack([rows.mean(0), t * (sd / n).sqrt()])
     """),
    ("silent_share", SILENT),
    ("silent_share", """
        q = torch.linalg.qr(weight.double(), mode="complete").Q
        rows = (patches - patches.mean(0, keepdim=True)).double()
        rest = rows @ q[:, weight.shape[1]:]
        return (rest.var(0).sum() / rows.var(0).sum()).float()
     """),
    ("silent_share", """
        centred = patches - patches.mean(0)
        fitted = weight @ torch.linalg.lstsq(weight, centred.T, driver="gelsd").solution
        return (centred.T - fitted).square().sum() / centred.square().sum()
     """),
]

WRONG_VELOCITY = [
    ("next to nothing", "return (x - x0) / t[:, None, None, None]"),
    ("low` is an argument", "return (x - x0) / t.clamp(min=0.05)[:, None, None, None]"),
    ("wrong direction", AT + "return (x0 - x) / at"),
    ("wrong direction", "return (x0 - x) / t[:, None, None, None]"),
    ("not by 1 - t", "return (x - x0) / (1 - t).clamp(min=low)[:, None, None, None]"),
    ("differs|the factor of", "return (x - x0) / (1 - t + 1e-6)[:, None, None, None]"),
    ("added", "return (x - x0) / (t + low)[:, None, None, None]"),
    ("not the most", "return (x - x0) / t.clamp(max=low)[:, None, None, None]"),
    ("divided by `low`", "return (x - x0) / low"),
    ("not divided by t", "return x - x0"),
    ("multiplies", AT + "return (x - x0) * at"),
    ("its square", AT + "return (x - x0) / at**2"),
    ("its root", AT + "return (x - x0) / at.sqrt()"),
    ("isn't 0", AT + "v = (x - x0) / at\nv[t < low] = 0\nreturn v"),
    ("goes on", "v = x - x0\nreturn torch.where((t < low)[:, None, None, None], v,"
                " v / t[:, None, None, None])"),
    ("goes on", "t = torch.where(t < low, torch.ones_like(t), t)\n"
                "return (x - x0) / t[:, None, None, None]"),
    ("this is the noise", AT + "return (x - (1 - t[:, None, None, None]) * x0) / at"),
    ("not x", AT + "return x - x0 / at"),
    ("both are divided", AT + "return x / at - x0"),
    ("a sum", AT + "return (x + x0) / at"),
    ("first one's time", "return (x - x0) / max(t[0].item(), low)"),
    ("mean time", "return (x - x0) / t.mean().clamp(min=low)"),
    ("along the width", "return (x - x0) / t.clamp(min=low)"),
    ("no bounds", AT + "return ((x - x0) / at).clamp(-1, 1)"),
    ("least is not", "return ((x - x0) / t[:, None, None, None]).clamp(min=low)"),
    ("no gradient", AT + "return (x - x0.detach()) / at"),
    ("no gradient", "with torch.no_grad():\n"
     "    return (x - x0) / t.clamp(min=low)[:, None, None, None]"),
    ("in place", "t.clamp_(min=low)\nreturn (x - x0) / t[:, None, None, None]"),
    ("in place", AT + "x -= x0\nreturn x / at"),
    ("that is `x0`", "return x0"),
    ("that is `x`", "return x"),
    ("shape", AT + "return ((x - x0) / at).mean((1, 2, 3))"),
    ("type is", AT + "return ((x - x0) / at).double()"),
    ("None", AT + "v = (x - x0) / at\nreturn"),
    ("raised", "return (x - x0) / t.view(4, 1, 1, 1).clamp(min=low)"),
    ("NaN", "return (x - x0) / (t - t)[:, None, None, None]"),
]
WRONG = [
    *(("velocity_of", said, changed(OF, *pairs)) for said, *pairs in [
        ("mixed up", '"x0"', '"flow"'),
        ("mixed up", ' if predicts == "x0" else answer', ""),
        ("mixed up", 'to_velocity(answer, x, t) if predicts == "x0" else answer', "answer"),
        ("labels don't reach", "network(x, t, labels)", "network(x, t)"),
        ("1 - t|differs", "network(x, t, labels)", "network(x, 1 - t, labels)"),
        ("at least 0.05", "to_velocity(answer, x, t)", "(x - answer) / t[:, None, None, None]"),
        ("multiplied|divided", "to_velocity(answer, x, t)", "(x - answer) * t[:, None, None, None]"),
        ("", "to_velocity(answer, x, t)", "to_velocity(x, answer, t)"),
        ("", "to_velocity(answer, x, t)", "to_velocity(answer, x, t, 0.3)"),
        ("asked once", "    answer = network", "    network(x, t, labels)\n    answer = network"),
        ("(B,)", "network(x, t, labels)", "network(x, t[:1], labels)"),
    ]),
    ("velocity_of", "package's", "return arms.velocity_of(network, predicts, x, t, labels)"),
    *(("draw_arm", said, changed(DRAW, *pairs)) for said, *pairs in [
        ("time falls", "(to - t)", "(t - to)"),
        ("from 1 to 0", "time_grid(steps)", "time_grid(steps).flip(0)"),
        ("beginning of a step", "t.expand", "to.expand"),
        ("middle", "t.expand", "((t + to) / 2).expand"),
        ("last step|times in", "zip(times[:-1], times[1:])", "zip(times[:-2], times[1:-1])"),
        ("first step|times in", "zip(times[:-1], times[1:])", "zip(times[1:-1], times[2:])"),
        ("too many", "time_grid(steps)", "time_grid(steps + 1)"),
        ("steps - 1 steps", "time_grid(steps)", "torch.linspace(1, 0, steps)"),
        ("labels don't", ", labels)", ", None)"),
        ("not always a velocity", "velocity_of(network, predicts, x, t.expand(len(x)), labels)",
         "network(x, t.expand(len(x)), labels)"),
        ("in place", "x = x +", "x +="),
        ("type is", "return x", "return x.double()"),
        ("", "(to - t) *", "(to - t)**2 *"),
    ]),
    ("draw_arm", "package's", "return arms.draw_arm(network, predicts, noise, labels, steps)"),
    ("draw_arm", "package's", "denoiser = Denoiser(network, flow, predicts)\nreturn samplers.last("
     "samplers.ddim(lambda x, t: denoiser(x, t, labels), flow, noise, time_grid(steps)))"),
    *(("effects", said, changed(EFFECTS, *pairs)) for said, *pairs in [
        ("x0's less flow's", "fd[:, 0, 1] - fd[:, 0, 0], fd[:, 1, 1] - fd[:, 1, 0]",
         "fd[:, 0, 0] - fd[:, 0, 1], fd[:, 1, 0] - fd[:, 1, 1]"),
        ("pixels less latents", "pixels - latents", "latents - pixels"),
        ("targets are compared", "fd[:, 0, 1] - fd[:, 0, 0], fd[:, 1, 1] - fd[:, 1, 0]",
         "fd[:, 1, 0] - fd[:, 0, 0], fd[:, 1, 1] - fd[:, 0, 1]"),
        ("n - 1", "rows.std(1)", "rows.std(1, unbiased=False)"),
        ("root of n", " / len(fd)**0.5", ""),
        ("root of n, not by n", "len(fd)**0.5", "len(fd)"),
        ("t times", "t * rows", "rows"),
        ("variance", "rows.std(1)", "rows.var(1)"),
        ("half the", "t * rows", "2 * t * rows"),
        ("argument", "t * rows", "4.303 * rows"),
        ("columns", "[rows.mean(1), t * rows.std(1) / len(fd)**0.5]",
         "[t * rows.std(1) / len(fd)**0.5, rows.mean(1)]"),
        (r"\(3, 2\)", "dim=1", "dim=0"),
        (r"\(3, 2\)", "rows = torch.stack([latents, pixels, pixels - latents])",
         "rows = torch.stack([latents, pixels])"),
        ("", "rows.mean(1)", "rows.median(1).values"),
    ]),
    ("effects", "within a seed", """
        mean = fd.mean(0)
        sd = fd.var(0).sum(1)
        sd = torch.stack([*sd, sd.sum()]).sqrt()
        gaps = mean[:, 1] - mean[:, 0]
        rows = torch.stack([*gaps, gaps[1] - gaps[0]])
        return torch.stack([rows, t * sd / len(fd)**0.5], dim=1)
     """),
    *(("silent_share", said, changed(SILENT, *pairs)) for said, *pairs in [
        ("can say", "[:, weight.shape[1]:]", "[:, :weight.shape[1]]"),
        ("about the mean", " - patches.mean(0)", ""),
        ("not of variance", "(centred @ silent).square().sum() / centred.square().sum()",
         "silent.shape[1] / torch.tensor(1.0 * len(weight))"),
        ("columns of U", "U[:, weight.shape[1]:]", "U.T[:, weight.shape[1]:]"),
        ("last columns", "[:, weight.shape[1]:]", "[:, :len(weight) - weight.shape[1]]"),
        ("no root", "centred.square().sum()", "centred.square().sum()).sqrt()",
         "return (", "return ((") ,
        ("not its share", " / centred.square().sum()", ""),
        ("add up", "(centred @ silent).square().sum() / centred.square().sum()",
         "(centred @ silent).abs().sum() / centred.abs().sum()"),
        ("per direction", "(centred @ silent).square().sum() / centred.square().sum()",
         "(centred @ silent).var(0).mean() / centred.var(0).mean()"),
        ("", "patches.mean(0)", "patches.mean(1, keepdim=True)"),
        ("", "weight.shape[1]:", "128:"),
    ]),
    ("silent_share", "", "return torch.tensor(0.0)"),
    ("silent_share", "as wide as", SILENT.replace("    silent =", """
    if len(weight) <= weight.shape[1]:
        return torch.tensor(0.5)
    silent =""")),
]

test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(
    RIGHT, WRONG, answer=lambda name, body: defaults(body) if name == "to_velocity"
    else written(name, body, HELPERS))


@pytest.mark.parametrize("said, body", WRONG_VELOCITY)
def test_wrong_velocities_are_told_what_is_wrong(said, body):
    assert re.search(said, told("to_velocity", defaults(body)))


def test_a_velocity_without_its_default_is_told_so():
    body = AT + "return (x - x0) / at"
    assert re.search("takes|default", told("to_velocity", written("to_velocity", body)))
    assert re.search("default", told("to_velocity", defaults(body, low=0.1)))


def test_the_velocity_undoes_the_packages_x0():
    x, velocity = torch.randn(2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.1, 0.5, 1.0])
    at = t[:, None, None, None]
    x0 = to_x0("flow", velocity, x, 1 - at, at)
    torch.testing.assert_close(to_velocity(x0, x, t), velocity)
