"""The checks of A1's three numbers: the guess against a factor, the labels' gain, the null."""

import torch

from minildm.course.exercises.compare import compare
from minildm.course.exercises.fakes import Network, follows_generator, generator, randn
from minildm.course.exercises.harness import check
from minildm.diffusion.schedules import expand, flow
from minildm.training import checkup


def against_linear(guess, data, labels, t, generator):
    return checkup.against_linear(guess, flow, data, labels, t, generator)


def label_gain(guess, null_guess, data, labels, t, generator):
    return checkup.label_gain(guess, null_guess, flow, data, labels, t, generator)


def null_off(guess, null_guess, noise, classes):
    return checkup.null_off(guess, null_guess, noise, classes)


def noised(data, t, source):
    """Data at time t of the flow schedule, and its noise."""
    noise = torch.randn(data.shape, generator=source)
    return (1 - t) * data + t * noise, noise


@check(reference=against_linear, forbidden=[checkup.squared_error, checkup.against_linear])
def check_against_linear(answer):
    for shape, size, t in ((6, 2, 3, 4), 1.0, 0.3), ((5, 3), 2.5, 0.8):
        data, labels = size * randn(*shape, seed=3), torch.arange(shape[0])
        network = Network()
        got = follows_generator(answer, lambda g, n=network, d=data, k=labels, t=t: (n, d, k, t, g))
        want = against_linear(Network(), data, labels, t, generator())
        # what the answer saw, from the same draw
        x, noise = noised(data, t, generator())
        error = (Network()(x, t, labels) - data).square().mean()
        v = data.var()
        best = v * t**2 / ((1 - t)**2 * v + t**2)
        compare(got, want, {
            "that is the error of the guess alone: divide by that of the best factor": error,
            "upside down: the guess's error stands above": best / error,
            "the variance of the data is no 1 here": error * ((1 - t)**2 + t**2) / t**2,
            "that is the root of what is wanted: errors are squared": (error / best).sqrt(),
            "compared with saying 0: the best factor times x_t does better": error / v,
            "that is the error in the noise, not in the data":
                (Network()(x, t, labels) - noise).square().mean() / best,
            "alpha and sigma changed places": error * (t**2 * v + (1 - t)**2) / (v * (1 - t)**2),
            "the factor's error has sigma squared above": error * ((1 - t)**2 * v + t**2) / (v * t),
        }, tol=1e-3, where=f"t = {t}, data of std {data.std():.2f}")


@check(reference=label_gain, forbidden=[checkup.squared_error, checkup.label_gain])
def check_label_gain(answer):
    for shape, t in ((6, 2, 3, 4), 0.3), ((5, 3), 0.8):
        data, labels = randn(*shape, seed=3), torch.arange(shape[0])
        network = Network()

        def null_guess(x, t, network=network):
            return network(x, t)

        got = follows_generator(
            answer, lambda g, n=network, u=null_guess, d=data, k=labels, t=t: (n, u, d, k, t, g))
        want = label_gain(network, null_guess, data, labels, t, generator())
        source = generator()
        # a second draw goes on where the first ended
        x, _ = noised(data, t, source)
        other, _ = noised(data, t, source)
        told, untold, apart = (
            (says - data).square().mean()
            for says in (network(x, t, labels), network(x, t), network(other, t)))
        compare(got, want, {
            "the two errors are of two draws of noise: ask both about the same x_t":
                1 - told / apart,
            "that is what is left, not what is gained: 1 minus it": told / untold,
            "upside down: the error without labels stands below": 1 - untold / told,
            "that is the difference: divide by the error without labels": untold - told,
            "the sign: less error is a gain": told / untold - 1,
            "divided by the error with labels: by that without": (untold - told) / told,
            "errors are squared: no root": 1 - (told / untold).sqrt(),
        }, tol=1e-3, where=f"t = {t}")


@check(reference=null_off, forbidden=[checkup.null_off])
def check_null_off(answer):
    for shape, classes in ((4, 2, 3, 5), 3), ((7, 2), 6):
        noise, network = randn(*shape, seed=4), Network()

        # what a class says depends on the time, so that a wrong time is seen
        def guess(x, t, labels, network=network):
            return network(x, t, labels) + 0.3 * t * expand(torch.sin(labels.float()), x)

        def null_guess(x, t, network=network):
            return network(x, t) + 0.1

        def answers(t, guess=guess, noise=noise, classes=classes):
            return torch.stack([guess(noise, torch.tensor(t), torch.full((len(noise),), c))
                                for c in range(classes)])

        want = null_off(guess, null_guess, noise, classes)
        said, null = answers(1.0), null_guess(noise, torch.tensor(1.0))
        mean = said.mean(0)
        off, spread = (null - mean).square().mean(), (said - mean).square().mean()
        early = answers(0.0)
        off_early = (null_guess(noise, torch.tensor(0.0)) - early.mean(0)).square().mean()
        answer.case((guess, null_guess, noise, classes), want, {
            "that is the distance alone: divide by how far the classes' answers are": off,
            "upside down": spread / off,
            "squares, no roots": (off / spread).sqrt(),
            "x is pure noise: t is 1": off_early / (early - early.mean(0)).square().mean(),
            "the spread is a mean over the classes, divided by their number and not by one less":
                off / said.var(0).mean(),
            "the mean over the classes, for each picture: yours is over the pictures as well":
                (null - said.mean()).square().mean() / (said - said.mean()).square().mean(),
            "compared with class 0, not with the mean of the classes":
                (null - said[0]).square().mean() / spread,
            "the last class is missing":
                (null - said[:-1].mean(0)).square().mean()
                / (said[:-1] - said[:-1].mean(0)).square().mean(),
        }, tol=1e-3, where=f"{classes} classes")
