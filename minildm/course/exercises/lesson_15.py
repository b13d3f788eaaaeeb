"""The checks of lesson 15 on the velocity, drawing, the table's effects and the last layer."""

import torch

from minildm.course import arms, equal_cost
from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import compare, describe, fail
from minildm.course.exercises.fakes import Network, expand, randn
from minildm.course.exercises.harness import check
from minildm.diffusion import samplers
from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.schedules import time_grid

__all__ = ["check_draw_arm", "check_effects", "check_silent_share", "check_to_velocity",
           "check_velocity_of"]


# ---- data or velocity ----------------------------------------------------------------------------

def to_velocity(x0, x, t, low=0.05):
    return (x - x0) / t.clamp(min=low)[:, None, None, None]


@check(reference=to_velocity, forbidden=[arms.to_velocity])
def check_to_velocity(answer):
    # as many pictures as columns at first: times along the width give a wrong result, not an error
    cases = [((4, 2, 5, 4), [0.6, 0.01, 0.2, 1.0], ()),
             ((3, 5, 2, 4), [0.9, 0.03, 0.5], (0.3,)),
             ((5, 1, 3, 2), [0.0, 0.04, 0.3, 0.03, 0.8], (0.02,)),
             ((1, 3, 4, 2), [0.003], ())]
    for shape, times, low in cases:
        x0, noise = randn(*shape), randn(*shape, seed=1)
        t = torch.tensor(times)
        at = t[:, None, None, None]
        x = (1 - at) * x0 + at * noise
        # far from exact, as a network's guess is: at t = 0 the true difference is 0
        x0 = x0 + 0.3 * randn(*shape, seed=2)
        x0.requires_grad_()
        least = low[0] if low else 0.05
        want = (x - x0) / at.clamp(min=least)
        likely = wrong_velocities(x0.detach(), x, t, least)
        where = f"low = {least}" if low else "low as it is by default"
        got = answer.case((x0, x, t, *low), want, likely, where=where)
        compare_gradients(got, want, x0=x0)


def wrong_velocities(x0, x, t, low):
    at = t[:, None, None, None]
    safe = at.clamp(min=low)
    way = x - x0
    likely = {
        "`low` is an argument: it isn't 0.05 always": way / at.clamp(min=0.05),
        "at t near 0 it divides by next to nothing: t is taken as `low` there": way / at,
        "wrong direction: it points from data to noise, as t does": -way / safe,
        "wrong direction: it points from data to noise, and t isn't taken as `low`": -way / at,
        "time runs from data to noise here: not by 1 - t": way / (1 - at).clamp(min=low),
        "time runs from data to noise here: not by 1 - t, nor by next to nothing":
            way / (1 - at),
        "`low` is added to t, not the least that t can be": way / (at + low),
        "`low` is the least, not the most, that t can be": way / at.clamp(max=low),
        "all are divided by `low`: t is that only where it is less": way / low,
        "the difference is not divided by t": way,
        "it multiplies where it should divide": way * safe,
        "the division is by t, not by its square": way / safe.square(),
        "the division is by t, not by its root": way / safe.sqrt(),
        "where t is less than `low` the velocity isn't 0":
            torch.where(at < low, torch.zeros_like(way), way / safe),
        "where t is less than `low` the division goes on, by `low`":
            torch.where(at < low, way, way / safe),
        "this is the noise: data is taken out whole": (x - (1 - at) * x0) / safe,
        "noise less data is right, yet this noise is not x": x - x0 / safe,
        "noise less data: this is noise plus data": (x - (1 - at) * x0) / safe + x0,
        "x is noisy data: both are divided by t": x / safe - x0,
        "it is a difference, not a sum": (x + x0) / safe,
        "all pictures got the first one's time": way / t[0].clamp(min=low),
        "all pictures got the mean time": way / t.mean().clamp(min=low),
        "the velocity has no bounds of its own": (way / safe).clamp(-1, 1),
        "the velocity's least is not `low`: t's is": (way / at).clamp(min=low),
    }
    if x.shape[-1] == len(t):
        likely["t lies along the width: a picture has one time"] = way / t.clamp(min=low)
    return likely


@check(reference=arms.velocity_of, forbidden=[Denoiser])
def check_velocity_of(answer):
    for shape, times in ((4, 2, 5, 4), [0.6, 0.02, 0.2, 1.0]), ((3, 1, 2, 6), [0.9, 0.5, 0.01]):
        x, t, labels = randn(*shape), torch.tensor(times), torch.arange(shape[0]) + 2
        said = Network()(x, t, labels)
        turned = arms.to_velocity(said, x, t)
        for predicts, want, other in ("x0", turned, said), ("flow", said, turned):
            network = Network()
            answer.case((network, predicts, x, t, labels), want, {
                "the two are mixed up: an answer that is the data becomes a velocity": other,
                "the labels don't reach the network": mixed(predicts, x, t, None),
                "the network is asked at 1 - t": mixed(predicts, x, 1 - t, labels, at=t),
                "the data becomes a velocity by (x - x0) / t": (said - x) / expand(t, x),
                "an error in x0 is divided by t, not multiplied": (x - said) * expand(t, x),
                "t is at least 0.05 in `to_velocity`": (x - said) / expand(t, x),
            }, where=f"a network that predicts {predicts!r}")
            if len(network.calls) != 1:
                fail(f"the network is asked once, yours asked it {len(network.calls)} times")


def mixed(predicts, x, t, labels, at=None):
    """The velocity by a network that is asked with these, turned at times `at`."""
    said = Network()(x, t, labels)
    return arms.to_velocity(said, x, t if at is None else at) if predicts == "x0" else said


# ---- drawing -------------------------------------------------------------------------------------

@check(reference=arms.draw_arm, forbidden=[Denoiser, samplers.ddim])
def check_draw_arm(answer):
    for shape, steps in ((3, 2, 5, 4), 4), ((5, 1, 2, 6), 7):
        noise, labels = randn(*shape), torch.arange(shape[0]) + 1
        for predicts in "flow", "x0":
            network = Network()
            inputs = network, predicts, noise, labels, steps
            answer.case(inputs, arms.draw_arm(Network(), *inputs[1:]),
                        wrong_drawings(predicts, noise, labels, steps),
                        where=f"{steps} steps, a network that predicts {predicts!r}")
            if len(network.calls) != steps:
                fail(f"the network is asked {len(network.calls)} times in {steps} steps: once each")


def wrong_drawings(predicts, noise, labels, steps) -> dict:
    """{cause: where it leads}."""
    other = "flow" if predicts == "x0" else "x0"

    def walk(times, told=lambda t, to: t, kind=predicts, sign=1.0, names=labels):
        x = noise
        for t, to in zip(times[:-1], times[1:], strict=True):
            at = told(t, to).expand(len(x))
            velocity = arms.velocity_of(Network(), kind, x, at, names)
            x = x + sign * (to - t) * velocity
        return x

    times = time_grid(steps)
    return {
        "time falls: the step is (s - t), which is negative": walk(times, sign=-1.0),
        "from 1 to 0: noise is at t = 1": walk(times.flip(0)),
        "the velocity is asked for at the beginning of a step": walk(times, lambda t, to: to),
        "the velocity is asked for at the beginning of a step, not in its middle":
            walk(times, lambda t, to: (t + to) / 2),
        "the last step, to t = 0, is missing": walk(times[:-1]),
        "the first step, from t = 1, is missing": walk(times[1:]),
        "one step too many": walk(time_grid(steps + 1)),
        "steps times, steps - 1 steps: there are steps + 1 times": walk(time_grid(steps - 1)),
        "the labels don't reach the network": walk(times, names=None),
        "the network's answer is not always a velocity: `velocity_of`": walk(times, kind=other),
    }


# ---- the table -----------------------------------------------------------------------------------

@check(reference=equal_cost.effects, forbidden=[equal_cost.interval])
def check_effects(answer):
    for seeds, t in (3, 4.303), (5, 2.776), (2, 12.71):
        # seeds differ much, and arms of one seed little
        fd = 50 + 20 * randn(seeds, 1, 1) + 3 * randn(seeds, 2, 2, seed=1)
        fd[:, 1, 1] += 30
        where = f"{seeds} seeds, t = {t}"
        got = answer(fd, t)
        want = equal_cost.effects(fd, t)
        if not isinstance(got, torch.Tensor) or got.shape != (3, 2):
            shape = tuple(got.shape) if isinstance(got, torch.Tensor) else describe(got)
            fail(f"a tensor (3, 2) is wanted, a row for each difference: this is {shape}")
        compare(got, want, wrong_effects(fd, t), where=where)
        answer.right += 1


def wrong_effects(fd, t) -> dict:
    latents, pixels = (fd[:, :, 1] - fd[:, :, 0]).T
    gaps = torch.stack([latents, pixels, pixels - latents])
    mean, n = gaps.mean(1), len(fd)

    def with_half(half, means=mean):
        return torch.stack([means, half], dim=1)

    half = t * gaps.std(1) / n**0.5
    apart = (fd[:, :, 1].var(0) + fd[:, :, 0].var(0)).sqrt()
    apart = torch.stack([*apart, apart.square().sum().sqrt()])
    across = fd[:, 1] - fd[:, 0]
    spaces = torch.stack([across[:, 0], across[:, 1], across[:, 1] - across[:, 0]])
    return {
        "the differences are x0's less flow's: they are flow's less x0's": with_half(half, -mean),
        "the last row is pixels less latents":
            with_half(half, torch.stack([mean[0], mean[1], -mean[2]])),
        "those are pixels less latents for each target: the targets are compared first":
            with_half(t * spaces.std(1) / n**0.5, spaces.mean(1)),
        "the standard deviation of three seeds divides by n - 1":
            with_half(t * gaps.std(1, unbiased=False) / n**0.5),
        "a mean of n varies less than one by the root of n": with_half(t * gaps.std(1)),
        "a mean of n varies less by the root of n, not by n": with_half(t * gaps.std(1) / n),
        "t times the standard error": with_half(gaps.std(1) / n**0.5),
        "that is the variance: its root": with_half(t * gaps.var(1) / n**0.5),
        "half the interval's width": with_half(2 * half),
        "take differences within a seed: seeds are alike in both": with_half(t * apart / n**0.5),
        "t is an argument: it isn't 4.303 always": with_half(4.303 * half / t),
        "mean and half width are the columns": with_half(half).flip(1),
    }


# ---- the last layer ------------------------------------------------------------------------------

@check(reference=arms.silent_share)
def check_silent_share(answer):
    for values, width, n in (12, 7, 50), (9, 3, 40), (6, 6, 30), (5, 8, 30):
        weight = randn(values, width)
        patches = randn(n, values, seed=1) @ randn(values, values, seed=2) + 3
        if values > width:
            answer.case((weight, patches), arms.silent_share(weight, patches),
                        wrong_shares(weight, patches),
                        where=f"{values} numbers in a patch, width {width}")
            continue
        share = float(answer(weight, patches))
        if not abs(share) < 1e-5:
            fail(f"a layer as wide as a patch can say everything: 0, and not {share:.3f}")


def wrong_shares(weight, patches) -> dict:
    values, width = weight.shape
    basis = torch.linalg.svd(weight).U
    silent, said = basis[:, width:], basis[:, :width]
    centred = patches - patches.mean(0)
    total = centred.square().sum()

    def share(rows, columns, of=total):
        return (rows @ columns).square().sum() / of

    return {
        "that is the share that the layer can say": share(centred, said),
        "variance is about the mean: a bias can say that":
            share(patches, silent, patches.square().sum()),
        "the mean patch is no variance: take it away from both": share(patches, silent),
        "a share of directions, not of variance": torch.tensor((values - width) / values),
        "rows and columns are mixed up: directions are columns of U":
            share(centred, basis.T[:, width:]),
        "the last columns are silent, not the first": share(centred, basis[:, :values - width]),
        "a share of variance has no root": share(centred, silent).sqrt(),
        "variances add up, numbers don't":
            (centred @ silent).abs().sum() / centred.abs().sum(),
        "that is the variance, not its share": (centred @ silent).square().sum(),
        "the variance per direction, not of all of them": (centred @ silent).var(0).mean()
            / centred.var(0).mean(),
    }
