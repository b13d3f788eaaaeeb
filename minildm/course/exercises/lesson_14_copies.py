"""The checks of lesson 14 on copies: how near is too near, and how many are."""

import torch

from minildm.course.exercises.compare import compare, describe, fail
from minildm.course.exercises.fakes import generator, randn, uniform
from minildm.course.exercises.harness import check
from minildm.evaluation import metrics


def closeness(query, training, k):
    q = (query.double() / 127.5 - 1).flatten(1)
    r = (training.double() / 127.5 - 1).flatten(1)
    nearest = (q[:, None] - r).norm(dim=2).sort(1).values[:, :k]
    return (nearest[:, 0] / nearest.mean(1)).float()


@check(reference=closeness, forbidden=[metrics.nearest_neighbours, metrics.memorisation])
def check_closeness(answer):
    for n, m, height, width, k in (6, 12, 4, 5, 3), (5, 9, 7, 2, 4), (1, 8, 3, 6, 8):
        # pictures that are alike: their differences are below 0 and above
        query = (90 + 130 * uniform(n, 1, height, width)).byte()
        training = (60 + 160 * uniform(m, 1, height, width, seed=1)).byte()
        want = closeness(query, training, k)
        where = f"{n} and {m} pictures of {height} x {width}, k = {k}"
        answer.case((query, training, k), want, wrong_closeness(query, training, k), where=where)


def wrong_closeness(query, training, k):
    q, r = query.float().flatten(1), training.float().flatten(1)
    steps = (q[:, None] - r) / 127.5
    away = steps.norm(dim=2)
    ordered = away.sort(1).values
    nearest = ordered[:, :k]
    wrapped = (query[:, None] - training[None]).float().flatten(2).norm(dim=2).sort(1).values
    squares = steps.square().sum(2).sort(1).values[:, :k]
    absolute = steps.abs().sum(2).sort(1).values[:, :k]
    flipped = away.T.sort(1).values[:, :k]
    wrong = {
        "uint8 has no negative numbers: 3 - 5 is 254. Floats come before the difference":
            wrapped[:, 0] / wrapped[:, :k].mean(1),
        "squares of distances: their roots are wanted": squares[:, 0] / squares.mean(1),
        "the root of the sum of squares, not the sum of absolute values":
            absolute[:, 0] / absolute.mean(1),
        "that is the distance of the nearest: it is divided by the mean of k": nearest[:, 0],
        "upside down: the nearest over the mean": nearest.mean(1) / nearest[:, 0],
        "the difference: a ratio is wanted": nearest.mean(1) - nearest[:, 0],
        "the mean of the k nearest, not of all": ordered[:, 0] / ordered.mean(1),
        "the mean of the k nearest, the nearest among them":
            ordered[:, 0] / ordered[:, 1:k + 1].mean(1),
        "the mean of the k nearest: this has k - 1": ordered[:, 0] / ordered[:, :k - 1].mean(1),
        "the mean of the k nearest, not their sum": nearest[:, 0] / nearest.sum(1),
        "the mean of the k nearest, not their median": nearest[:, 0] / nearest.median(1).values,
        "the mean of the k nearest, not the k-th": nearest[:, 0] / nearest[:, -1],
        "the k nearest, not the k farthest":
            ordered.flip(1)[:, 0] / ordered.flip(1)[:, :k].mean(1),
        "the nearest, not the farthest, is divided": ordered[:, -1] / nearest.mean(1),
        "one number for each query: this is their mean": (nearest[:, 0] / nearest.mean(1)).mean(),
        "the mean is of each query's own neighbours": nearest[:, 0] / nearest.mean(),
    }
    if len(query) != len(training) and k <= len(query):
        wrong["the other axis: for each query, not for each training picture"] = (
            flipped[:, 0] / flipped.mean(1))
    return wrong


def share_of_copies(samples, held_out, alarm):
    limit = torch.quantile(held_out, alarm)
    p, q = (samples < limit).float().mean(), (held_out < limit).float().mean()
    error = (p * (1 - p) / len(samples) + q * (1 - q) / len(held_out)).sqrt()
    return p - q, p - q - 1.96 * error, p - q + 1.96 * error


@check(reference=share_of_copies)
def check_share_of_copies(answer):
    # in the last case many pictures lie at the limit itself
    for n, m, copies, alarm, steps in ((200, 130, 20, 0.02, 0), (90, 390, 30, 0.05, 0),
                                       (300, 260, 0, 0.01, 0), (150, 210, 10, 0.06, 16)):
        held_out = 0.9 + 0.05 * randn(m, seed=4)
        samples = 0.88 + 0.05 * randn(n, seed=5)
        if steps:
            held_out, samples = ((x * steps).round() / steps for x in (held_out, samples))
        order = torch.randperm(n, generator=generator())
        samples[order[:copies]] = 0.1 * uniform(copies, seed=6)
        got = answer(samples, held_out, alarm)
        if not isinstance(got, tuple | list | torch.Tensor) or not numel_is(got, 3):
            fail(f"return three numbers, the share and its interval's ends: this is "
                 f"{describe(got)}")
        want = share_of_copies(samples, held_out, alarm)
        likely = wrong_copies(samples, held_out, alarm)
        names = "the share", "the interval's lower end", "the interval's upper end"
        for i, name in enumerate(names):
            value = got[i].float() if isinstance(got[i], torch.Tensor) else got[i]
            compare(value, want[i], {cause: wrong[i] for cause, wrong in likely.items()},
                    where=f"{name}; {n} samples, {m} held out, alarm {alarm}")
        answer.right += 1


def numel_is(got, n: int) -> bool:
    shape = got.shape if isinstance(got, torch.Tensor) else (len(got),)
    return tuple(shape) == (n,)


def wrong_copies(samples, held_out, alarm):
    n, m = len(samples), len(held_out)
    limit = torch.quantile(held_out, alarm)
    own = torch.quantile(samples, alarm)
    p, q = (samples < limit).float().mean(), (held_out < limit).float().mean()
    vp, vq = p * (1 - p), q * (1 - q)

    def three(share, variance, factor=1.96):
        return share, share - factor * variance.sqrt(), share + factor * variance.sqrt()

    right = vp / n + vq / m
    other = torch.quantile(held_out, 1 - alarm)
    mirrored = (samples < other).float().mean() - (held_out < other).float().mean()
    at_p, at_q = (samples <= limit).float().mean(), (held_out <= limit).float().mean()
    own_p, own_q = (samples < own).float().mean(), (held_out < own).float().mean()
    return {
        "held-out pictures below the limit are no copies: subtract their share": three(p, vp / n),
        "held-out pictures below the limit are no copies (their share is subtracted)":
            three(p, right),
        "the limit comes from the held-out pictures, not from the samples":
            three(own_p - own_q, own_p * (1 - own_p) / n + own_q * (1 - own_q) / m),
        "the limit has the share `alarm` below it, not above": three(mirrored, right),
        "the held-out pictures' share varies too: both variances add up": three(p - q, vp / n),
        "a variance of a share is p (1 - p) / n": three(p - q, vp + vq),
        "the standard error is the root of the variance": (
            p - q, p - q - 1.96 * right, p - q + 1.96 * right),
        "variances add up, not standard errors": (
            p - q, p - q - 1.96 * ((vp / n).sqrt() + (vq / m).sqrt()),
            p - q + 1.96 * ((vp / n).sqrt() + (vq / m).sqrt())),
        "95 % lie within 1.96 standard errors: this is one": three(p - q, right, 1.0),
        "95 % lie within 1.96 standard errors": three(p - q, right, 3.0),
        "each share has its own number of pictures": three(p - q, vp / m + vq / n),
        "copies lie below the limit: samples' share less the held-out pictures', not the other way "
        "round": three(q - p, right),
        "the alarm is what was meant, the share below the limit what was found":
            three(p - alarm, vp / n),
        "below is <: a picture at the limit itself is not below it":
            three(at_p - at_q, at_p * (1 - at_p) / n + at_q * (1 - at_q) / m),
        "these are numbers of pictures: shares are wanted": three(p * n - q * m, right),
    }
