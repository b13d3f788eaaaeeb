"""The checks of lesson 13's second half: the gradient of log p(y | x_t), and the restoring loop."""

import torch

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import equal
from minildm.course.exercises.fakes import follows_generator, generator, randn, warped
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_00 import wave
from minildm.course.exercises.lesson_00_loop import silent
from minildm.course.exercises.lesson_11 import at
from minildm.course.exercises.lesson_13 import odd_operator
from minildm.course.points import Blobs
from minildm.course.restored import ranks as package_ranks
from minildm.diffusion import guidance, restoration, schedules
from minildm.diffusion.operators import conjugate_gradients

# ---- log p(y | x_t), exact and at the guess ------------------------------------------------------


def exact_log_likelihood(x, t, y, sd, schedule, world):
    return exact_log(x, t, y, sd, schedule, world)


def exact_log(x, t, y, sd, schedule, world, own=True, pulled=True, weighed=True, half=0.5,
              norm=True, column=0, noise=True):
    """The logarithm of the sum over the blobs; the words leave out or change a part of it."""
    alpha = schedule.alpha(t)
    pull = world.pull(schedule, t)
    logs = world.exponents(schedule, x, t)[0].log_softmax(1)               # (N, K)
    centres, seen = world.centres[:, column], x[:, column:column + 1]
    mean = centres + pull * (seen - alpha * centres) if pulled else centres.expand(len(x), -1)
    variance = sd**2 * noise + (1 - alpha * pull) * world.width**2 * own
    each = -half * (y - mean) ** 2 / variance
    if norm:
        each = each - torch.log(2 * torch.pi * variance) / 2
    if not weighed:
        logs = torch.zeros_like(logs) - torch.tensor(len(centres)).log()
    return (logs + each).logsumexp(1)


@check(reference=exact_log_likelihood)
def check_exact_log_likelihood(answer):
    for schedule, t, k, n, y, sd, width in ((schedules.flow, 0.4, 5, 4, 0.3, 0.2, 0.15),
                                            (warped, 0.3, 3, 6, -0.5, 0.5, 0.6)):
        world = Blobs(randn(k, 2, seed=1), width)
        x, t = randn(n, 2, seed=2), torch.tensor(t)
        inputs = x, t, y, sd, schedule, world
        want = exact_log(*inputs)
        # a term without x has no gradient: both are right
        without = exact_log(*inputs, norm=False)
        answer.case(inputs, want, {
            "a blob's own width is seen by the instrument, too: it adds to sd^2":
                exact_log(*inputs, own=False),
            "within a blob, x draws the clean point towards it: the pull is missing":
                exact_log(*inputs, pulled=False),
            "the blobs are not alike, given x: weigh them": exact_log(*inputs, weighed=False),
            "the factor 1/2 is missing": exact_log(*inputs, half=1.0),
            "the exponent is negative": exact_log(*inputs, half=-0.5),
            "the instrument sees the first coordinate": exact_log(*inputs, column=1),
            "the instrument has noise of its own, sd": exact_log(*inputs, noise=False),
            "its logarithm is wanted": want.exp(),
            "that is the likelihood at the guess: sum over the blobs": at_guess(inputs),
        }, also=(without,), where=f"{k} blobs")
        leaf = x.clone().requires_grad_()
        compare_gradients(answer(leaf, *inputs[1:]), exact_log(leaf, *inputs[1:]), tol=1e-3, x=leaf)


def at_guess(inputs):
    x, t, y, sd, schedule, world = inputs
    guess = world.denoiser(schedule)(x, t)[:, 0]
    return -(y - guess) ** 2 / (2 * sd**2)


def guess_log_likelihood(denoise, apply, x, t, y, variance):
    missing = y - apply(denoise(x, t))
    return -(missing**2).flatten(1).sum(1) / (2 * variance)


@check(reference=guess_log_likelihood, forbidden=[restoration.likelihood])
def check_guess_log_likelihood(answer):
    for shape, numbers, t, variance in ((3, 1, 2, 4), 5, 0.6, 0.3), ((4, 3), 2, 0.2, 1.7):
        apply = odd_operator(shape[-1], numbers).apply
        x, t = randn(*shape), torch.tensor(t)
        y = randn(*shape[:-1], numbers, seed=3)
        missing = y - apply(wave(x, t))
        want = guess_log_likelihood(wave, apply, x, t, y, variance)
        answer.case((wave, apply, x, t, y, variance), want, {
            "measure the guess, not x_t": -((y - apply(x)) ** 2).flatten(1).sum(1) / 2 / variance,
            "the factor 1/2 is missing": 2 * want,
            "a likelihood falls with the error: the sign is wrong": -want,
            "divide by the variance as it is given, not by its square": want / variance,
            "divide by the variance, not by its root": want * variance**0.5,
            "the variance is missing": want * variance,
            "squares are summed, not averaged": want / missing[0].numel(),
            "one number per row: sum over all axes but the first": want.sum(),
            "its logarithm is wanted": want.exp(),
        }, where=f"x {tuple(shape)}")
        leaf = x.clone().requires_grad_()
        rest = leaf, t, y, variance
        compare_gradients(answer(wave, apply, *rest), guess_log_likelihood(wave, apply, *rest),
                          tol=1e-3, x=leaf)


def measured_denoiser(denoise, log_likelihood, schedule):
    return guidance.classifier_guidance(denoise, log_likelihood, schedule)


@check(reference=measured_denoiser, forbidden=[guidance.classifier_guidance])
def check_measured_denoiser(answer):
    for shape, schedule, t in (((3, 2, 5, 4), warped, 0.63), ((5, 2), schedules.flow, 0.3),
                               ((4, 3), schedules.flow, 1.0)):
        x, t = randn(*shape), torch.tensor(t)
        weight = randn(*shape[1:], seed=4).requires_grad_()

        def log_likelihood(x, t, weight=weight):
            return -(torch.cosh(x - t) * weight).flatten(1).sum(1)

        gradient = -torch.sinh(x - t) * weight.detach()
        alpha, sigma = at(schedule, t)
        x0 = wave(x, t)
        made = answer(wave, log_likelihood, schedule)
        told = answer.wrap(made, "a function denoise(x, t)", ["x", "t"])
        told.right = answer.right
        # samplers run without gradients
        with torch.no_grad():
            if alpha == 0:
                told.case((x, t), x0, where="alpha = 0: no step")
                continue
            told.case((x, t), x0 + sigma**2 / alpha * gradient, {
                "that is downhill: the sign is wrong": x0 - sigma**2 / alpha * gradient,
                "that is the step alone: add it to x0": sigma**2 / alpha * gradient,
                "sigma is squared": x0 + sigma / alpha * gradient,
                "divide by alpha": x0 + sigma**2 * gradient,
                "alpha is not squared": x0 + sigma**2 / alpha**2 * gradient,
                "that is the step of the noise: x0 moves by sigma^2 / alpha times the gradient":
                    x0 + sigma * gradient,
                "that is the gradient without its factor": x0 + gradient,
                "that is denoise alone: the measurement has no say": x0,
            }, where=f"x {tuple(shape)}")
        answer.right = told.right


# ---- a draw given y, and the loop ----------------------------------------------------------------

def latents_given(decode, operator, y, target, guess, variance, target_variance, iterations):
    return restoration.latents_given(decode, operator, y, target, guess, variance, target_variance,
                                     iterations)


def bend(z):
    """A decoder that is not linear, each of its slopes another one."""
    return 1.5 * z + 0.4 * torch.sin(z.flip(-1) + 0.3)


def gauss_newton(operator, y, target, guess, variance, target_variance, iterations, start=None,
                 toward=None, aside=True):
    """By the matrix of the decoder's slopes; the words replace a right part by a mistake."""
    start = guess if start is None else start
    out, pull = torch.func.vjp(bend, start)

    # its pull is linear, so that the pull of that is the slope
    _, push = torch.func.vjp(lambda w: pull(w)[0], torch.zeros_like(out))

    def slope(d):
        return push(d)[0]

    def matrix(d):
        seen = pull(operator.transpose(operator.apply(slope(d))))[0] / variance
        return seen + d / target_variance

    missing = pull(operator.transpose(y - operator.apply(out)))[0] / variance
    aim = target if toward is None else toward
    right = missing + (aim - start) / target_variance * aside
    return start + conjugate_gradients(matrix, right, iterations)


@check(reference=latents_given, forbidden=[restoration.latents_given, restoration.posterior])
def check_latents_given(answer):
    for size, numbers, variance, target_variance, iterations in ((5, 3, 0.3, 0.7, 9),
                                                                 (4, 6, 1.4, 0.2, 3)):
        operator = odd_operator(size, numbers)
        target, guess = randn(3, 1, 1, size, seed=1), randn(3, 1, 1, size, seed=2)
        y = 2 * randn(3, 1, 1, numbers, seed=3)
        inputs = bend, operator, y, target, guess, variance, target_variance, iterations
        rest = operator, y, target, guess, variance, target_variance, iterations
        want = gauss_newton(*rest)
        turned = operator, y, target, guess, target_variance, variance, iterations
        roots = operator, y, target, guess, variance**0.5, target_variance**0.5, iterations
        answer.case(inputs, want, {
            "that is the step d: add it to the guess": want - guess,
            "the step leads from the guess: add it there, not to the target":
                want - guess + target,
            "the decoder's slope is taken at the guess, and the step starts there, not at the "
            "target": gauss_newton(*rest, start=target),
            "the target has no say in the right side: (target - guess) / target_variance":
                gauss_newton(*rest, aside=False),
            "the two variances changed places": gauss_newton(*turned),
            "the variances are squared already": gauss_newton(*roots),
            "one iteration too few": gauss_newton(*rest[:-1], iterations - 1),
            "one iteration too many": gauss_newton(*rest[:-1], iterations + 1),
        }, tol=1e-3, where=f"{numbers} numbers of {size} pixels")


def restore(denoise, schedule, decode, operator, y, noise, ts, noise_sd, decoder_sd, generator):
    return restored(denoise, schedule, decode, operator, y, noise, ts, noise_sd, decoder_sd,
                    generator)


def restored(denoise, schedule, decode, operator, y, noise, ts, noise_sd, decoder_sd, generator,
             spread=None, variance=None, fresh=True, perturbed=True, seen_perturbed=True, rounds=5):
    """The loop; the words replace a right part by a likely mistake."""
    x = noise
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        (a_t, sd_t), (a_s, sd_s) = at(schedule, t), at(schedule, s)
        guess = denoise(x, t)
        width = sd_t**2 / (a_t**2 + sd_t**2) if spread is None else spread(a_t, sd_t)
        sees = noise_sd**2 + operator.gain * decoder_sd**2 if variance is None else variance
        target = guess + perturbed * width**0.5 * torch.randn(x.shape, generator=generator)
        seen = y + seen_perturbed * sees**0.5 * torch.randn(y.shape, generator=generator)
        z = restoration.latents_given(decode, operator, seen, target, guess, sees, width, rounds)
        eps = torch.randn(x.shape, generator=generator) if fresh else (x - a_t * guess) / sd_t
        x = a_s * z + sd_s * eps
    return x


@check(reference=restore, forbidden=[restoration.posterior, restoration.projected])
def check_restore(answer):
    for schedule, ts, size, numbers, gain in ((warped, [0.9, 0.6, 0.2], 12, 9, 0.4),
                                              (schedules.flow, [1.0, 0.5, 0.0], 4, 6, 1.0)):
        operator = odd_operator(size, numbers)._replace(gain=gain)
        y, noise = randn(3, 1, 1, numbers, seed=3), randn(3, 1, 1, size)
        inputs = wave, schedule, bend, operator, y, noise, torch.tensor(ts), 0.3, 0.5
        follows_generator(answer, lambda source, inputs=inputs: (silent, *inputs[1:], source))

        def wrong(inputs=inputs, **words):
            return restored(*inputs, generator(), **words)

        answer.case((*inputs, generator()), wrong(), {
            "the guess's variance is sigma^2 / (alpha^2 + sigma^2) at t":
                wrong(spread=lambda alpha, sigma: sigma**2),
            "a variance is a square: sigma^2 / (alpha^2 + sigma^2)":
                wrong(spread=lambda alpha, sigma: (sigma**2 / (alpha**2 + sigma**2))**0.5),
            "the decoder's error is measured through the operator: gain decoder_sd^2":
                wrong(variance=0.3**2 + 0.5**2),
            "the decoder's error is part of what y may be off by": wrong(variance=0.3**2),
            "variances add, standard deviations do not": wrong(
                variance=(0.3 + gain**0.5 * 0.5)**2),
            "x_s has new noise, not the noise that x_t held": wrong(fresh=False),
            "noise is added to the guess: without it you find the middle, not a draw":
                wrong(perturbed=False),
            "noise is added to y as well, for each draw": wrong(seen_perturbed=False),
            "the system gets 5 iterations in each step: yours is solved to its end":
                wrong(rounds=60),
        }, tol=1e-3, where=f"{numbers} numbers of {size} pixels")


# ---- calibration ---------------------------------------------------------------------------------

def ranks(samples, truth):
    return package_ranks(samples, truth)


@check(reference=ranks, forbidden=[package_ranks])
def check_ranks(answer):
    for s, shape in (5, (6, 2, 3, 4)), (3, (9, 7)):
        samples, truth = randn(s, *shape), 1.3 * randn(*shape, seed=1)
        to_samples = (torch.cat([truth[None], samples]) - samples.mean(0)).flatten(2).norm(dim=2)
        near = (samples - truth).flatten(2).norm(dim=2)
        want = package_ranks(samples, truth)
        equal(answer(samples, truth), want, {
            "that counts samples that are farther: 0 is the nearest": s - want,
            "0 is the nearest: counting begins there": want + 1,
            "each is compared with the mean of all others, the truth among them, so that all are "
            "treated alike": (to_samples[1:] < to_samples[0]).sum(0),
            "the truth is compared with the crowd's middle, not with each sample":
                (near < near.mean(0)).sum(0),
        }, where=f"{s} samples")
    # whole numbers, so that equal distances are equal in any way of counting
    samples = (2 * randn(4, 8, 3, seed=2)).round()
    truth = samples[1].clone()
    crowd = torch.cat([truth[None], samples])
    far = (crowd - (crowd.sum(0) - crowd) / 4).norm(dim=2)
    equal(answer(samples, truth), package_ranks(samples, truth), {
        "nearer is <: a sample that is as far as the truth is not nearer":
            (far[1:] <= far[0]).sum(0),
    }, where="a sample that is the truth")
