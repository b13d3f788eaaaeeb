"""The checks of lesson 00."""

import torch

from minildm.course.exercises.answer import Answer
from minildm.course.exercises.compare import describe, fail
from minildm.course.exercises.fakes import randn, warped
from minildm.course.exercises.harness import check
from minildm.diffusion import guidance, samplers, schedules
from minildm.evaluation import metrics
from minildm.images import to_uint8 as package_to_uint8


def to_uint8(x):
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


@check(reference=to_uint8, forbidden=[package_to_uint8])
def check_to_uint8(answer):
    for shape in (1, 1, 4, 6), (3, 2, 5, 7):
        count = torch.Size(shape).numel()
        # no fraction near 1/2: two right formulas may round it to two bytes
        fraction = 0.15 * (torch.arange(count) % 6) - 0.4
        grey = (torch.linspace(-30, 290, count).round() + fraction).reshape(shape)
        x = grey / 127.5 - 1
        want = grey.round().clamp(0, 255).byte()
        answer.case((x,), want, {
            "255 + 1 is 0 in uint8, so white turns black: clamp first": grey.round().long().byte(),
            "the fraction was cut off: round": grey.clamp(0, 255).byte(),
            "-1 is black, not grey: add 1 first":
                (x * 127.5).round().clamp(0, 255).byte(),
            "the range is 2 wide: times 127.5":
                (2 * grey).round().clamp(0, 255).byte(),
            "black is 0, not 1: the range is 0 to 255": want.clamp(min=1),
            "the pictures go from -1 to 1, not from 0 to 1":
                (x * 255).round().clamp(0, 255).byte(),
        }, tol=0)


@check(reference=metrics.psnr)
def check_psnr(answer):
    # grey and in channels; the values stay inside (-1, 1), so the peak can't be taken from them
    for shape in (4, 1, 5, 6), (3, 2, 7, 4):
        # each picture has an error of its own
        share = torch.linspace(0.8, 0.2, shape[0]).reshape(-1, 1, 1, 1)
        a = randn(*shape).tanh() * share
        b = randn(*shape, seed=1).tanh() * share
        error = a - b
        mse = error.square().mean((1, 2, 3))
        sums = error.square().sum((1, 2, 3))
        signal = a.square().mean((1, 2, 3))

        def decibel(ratio):
            return (10 * ratio.log10()).mean()

        answer.case((a, b), decibel(4 / mse), {
            "the peak is 2, from -1 to 1, and it is squared": decibel(1 / mse),
            "the peak isn't squared": decibel(2 / mse),
            "the peak is 2 here, not 255": decibel(255**2 / mse),
            "base 10": (10 * (4 / mse).log()).mean(),
            "the logarithm has base 10, not 2": (10 * (4 / mse).log2()).mean(),
            "the sign is wrong: a smaller error has a larger PSNR": decibel(mse / 4),
            "10, not 20: mse is a square already": 2 * decibel(4 / mse),
            "mse is a mean over the values, not a sum": decibel(4 / sums),
            "a root was taken: mse stays a square": decibel(4 / mse.sqrt()),
            "errors are squared, not absolute":
                decibel(4 / error.abs().mean((1, 2, 3))),
            "the peak is the range of all pictures, not the signal's own power":
                decibel(signal / mse),
            "the errors were averaged first: the mean of the pictures' PSNRs":
                decibel(4 / mse.mean()),
            "the sum over the pictures: their mean": shape[0] * decibel(4 / mse),
        }, where=f"pictures of shape {shape}")


def guess_error(denoise, alpha, sigma, data, noise, t):
    x = alpha(t) * data + sigma(t) * noise
    x0 = denoise(x, t)
    return (x0 - data).square().mean()


def wave(x, t):
    """A fake denoiser that depends on x, not linearly, and on t."""
    return torch.sin(x) * (0.3 + t) + 0.2 * x.flip(-1)


@check(reference=guess_error)
def check_guess_error(answer):
    # the odd schedule first: on it alpha is not 1 - sigma, and sigma is not t
    for name, (alpha, sigma), t, shape in (("an odd one", warped, 0.61, (3, 2, 5, 4)),
                                           ("flow", schedules.flow, 0.3, (4, 1, 3, 5))):
        data, noise, t = randn(*shape), randn(*shape, seed=1), torch.tensor(t)
        x = alpha(t) * data + sigma(t) * noise
        error = wave(x, t) - data
        swapped = sigma(t) * data + alpha(t) * noise
        answer.case((wave, alpha, sigma, data, noise, t), error.square().mean(), {
            "the guess is for the clean picture: compare it with data, not with x":
                (wave(x, t) - x).square().mean(),
            "the guess is for the clean picture: compare it with data, not with the noise":
                (wave(x, t) - noise).square().mean(),
            "x itself is not the guess: ask denoise": (x - data).square().mean(),
            "denoise must see x, not the clean data": (wave(data, t) - data).square().mean(),
            "denoise must see x, not the noise alone": (wave(noise, t) - data).square().mean(),
            "alpha multiplies the data, sigma the noise":
                (wave(swapped, t) - data).square().mean(),
            "the data must be multiplied by alpha(t)":
                (wave(data + sigma(t) * noise, t) - data).square().mean(),
            "the noise must be multiplied by sigma(t)":
                (wave(alpha(t) * data + noise, t) - data).square().mean(),
            "alpha and sigma are given: they are not always 1 - t and t":
                (wave((1 - t) * data + t * noise, t) - data).square().mean(),
            "alpha and sigma are functions of t: sigma is not always 1 - alpha":
                (wave(alpha(t) * data + (1 - alpha(t)) * noise, t) - data).square().mean(),
            "errors are squared: a mean of signed errors lets them cancel": error.mean(),
            "errors are squared, not absolute": error.abs().mean(),
            "the mean of the squares, without a root": error.square().mean().sqrt(),
            "a mean over all values, not a sum": error.square().sum(),
            "a mean over the pictures too, not their sum": error.square().mean() * shape[0],
        }, where=f"schedule: {name}")


def draw(denoise, alpha, sigma, noise, times):
    x, film = noise, []
    for t, s in zip(times[:-1], times[1:], strict=True):
        x0 = denoise(x, t)
        eps = (x - alpha(t) * x0) / sigma(t)
        x = alpha(s) * x0 + sigma(s) * eps
        film.append((s, x, x0))
    return film


class Wrongly:
    """The loop with one mistake: `step` and `ask` replace a right part; the film as one tensor."""

    def __init__(self, alpha, sigma, noise, times):
        self.alpha, self.sigma, self.noise, self.times = alpha, sigma, noise, times

    def right(self, x, x0, t, s):
        eps = (x - self.alpha(t) * x0) / self.sigma(t)
        return self.alpha(s) * x0 + self.sigma(s) * eps

    def film(self, step=None, ask=wave, times=None, frozen=False):
        """Films of step(x, x0, t, s) and ask(x, t), as `stacked` makes them; frozen: x0 once."""
        x, frames = self.noise, []
        times = self.times if times is None else times
        first = ask(x, times[0])
        for t, s in zip(times[:-1], times[1:], strict=True):
            x0 = first if frozen else ask(x, t)
            x = (step or self.right)(x, x0, t, s)
            frames.append(torch.stack([x, x0]))
        return torch.stack(frames)

    def likely(self) -> dict:
        """What wrong loops return, by mistake."""
        alpha, sigma = self.alpha, self.sigma

        def eps_at(x, x0, t):
            return (x - alpha(t) * x0) / sigma(t)

        return {
            "x jumps to the guess: go only as far as time s": self.film(lambda x, x0, t, s: x0),
            "fresh noise is not needed, and the start's is not x's: find the noise in x":
                self.film(lambda x, x0, t, s: alpha(s) * x0 + sigma(s) * self.noise),
            "the step ends at s: alpha and sigma of s there": self.film(lambda x, x0, t, s: x),
            "the data's share at the end is alpha(s), not alpha(t)":
                self.film(lambda x, x0, t, s: alpha(t) * x0 + sigma(s) * eps_at(x, x0, t)),
            "the noise's share at the end is sigma(s), not sigma(t)":
                self.film(lambda x, x0, t, s: alpha(s) * x0 + sigma(t) * eps_at(x, x0, t)),
            "the noise in x is of unit size: divide by sigma(t)":
                self.film(lambda x, x0, t, s: alpha(s) * x0 + sigma(s) * (x - alpha(t) * x0)),
            "x holds alpha(t) x0, not x0": self.film(
                lambda x, x0, t, s: alpha(s) * x0 + sigma(s) * (x - x0) / sigma(t)),
            "x is not noise: take the data out of it first":
                self.film(lambda x, x0, t, s: alpha(s) * x0 + sigma(s) * x),
            "the guess is multiplied by alpha(s)":
                self.film(lambda x, x0, t, s: x0 + sigma(s) * eps_at(x, x0, t)),
            "the sign of the noise is wrong":
                self.film(lambda x, x0, t, s: alpha(s) * x0 - sigma(s) * eps_at(x, x0, t)),
            "the noise is missing: only at t = 0 is none left":
                self.film(lambda x, x0, t, s: alpha(s) * x0),
            "alpha and sigma are given: they are not always 1 - t and t":
                self.film(lambda x, x0, t, s: x0 + s / t * (x - x0)),
            "denoise is asked anew in each step": self.film(frozen=True),
            "each step starts where the last one ended: denoise must see x, not the noise":
                self.film(ask=lambda x, t: wave(self.noise, t)),
            "x is at time t when denoise sees it: tell it t, not s": self.late(),
            "the times go from noise down to data, as they are given":
                self.film(times=self.times.flip(0)),
        }

    def late(self):
        """The film of a loop that tells denoise the time at the step's end."""
        x, frames = self.noise, []
        for t, s in zip(self.times[:-1], self.times[1:], strict=True):
            x0 = wave(x, s)
            x = self.right(x, x0, t, s)
            frames.append(torch.stack([x, x0]))
        return torch.stack(frames)


def stacked(film, times):
    """A film [(s, x, x0), ...] as one tensor (n, 2, ...), or Wrong about what it is instead."""
    n = len(times) - 1
    if not isinstance(film, list | tuple):
        fail(f"return the film, a list of (s, x, x0): this is {describe(film)}")
    if len(film) != n:
        fail(f"{n} steps have {n} frames in the film, yours has {len(film)}: one from each time "
             "to the next")
    for frame in film:
        if not isinstance(frame, list | tuple) or len(frame) != 3:
            fail(f"a frame of the film is (s, x, x0): this is {describe(frame)}")
    frames = [torch.stack([x, x0]) for _, x, x0 in film]
    if n > 1 and all(torch.equal(frame[0], frames[0][0]) for frame in frames):
        fail("all frames hold the same x: is it changed in place, or outside the loop?")
    if any(abs(float(frame[0]) - float(s)) > 1e-6 for frame, s in zip(film, times[1:],
                                                                      strict=True)):
        fail("a frame's time is the one that the step reached: s")
    return torch.stack(frames)


@check(reference=draw, forbidden=[samplers.ddim, samplers.euler, samplers.ddpm])
def check_draw(answer):
    cases = [("an odd schedule", warped, [1.0, 0.81, 0.34, 0.07], (3, 2, 5, 4)),
             ("flow, to t = 0", schedules.flow, [1.0, 0.55, 0.3, 0.0], (2, 3)),
             ("cosine, one step", schedules.cosine, [0.9, 0.4], (4, 1, 3, 2))]
    for where, (alpha, sigma), times, shape in cases:
        noise, times = randn(*shape), torch.tensor(times)
        calls = Wrongly(alpha, sigma, noise, times)

        def film(*inputs, times=times):
            return stacked(answer(*inputs), times)

        # the film as one tensor, so that it can be compared with those of wrong loops
        told = Answer(film)
        told.right = answer.right
        told.case((wave, alpha, sigma, noise, times), calls.film(), calls.likely(), where=where)
        answer.right = told.right


def guided(with_label, without_label, scale):
    def denoise(x, t):
        plain = without_label(x, t)
        return plain + scale * (with_label(x, t) - plain)

    return denoise


def silent(x, t):
    """A second fake denoiser, for the guess without a label."""
    return torch.cos(x) * (0.7 - 0.4 * t) - 0.1 * x.flip(-1)


@check(reference=guided, forbidden=[guidance.cfg, guidance.Cfg, guidance.guided])
def check_guided(answer):
    for scale, t, shape in (2.5, 0.37, (3, 2, 5, 4)), (0.0, 0.8, (2, 3)), (1.0, 0.2, (4, 2, 3)):
        denoise = answer.wrap(answer(wave, silent, scale), "a function of x and t", ["x", "t"])
        denoise.right = answer.right
        x, t = randn(*shape), torch.tensor(t)
        label, plain = wave(x, t), silent(x, t)
        denoise.case((x, t), plain + scale * (label - plain), {
            "that is the guess with the label alone": label,
            "that is the guess without a label alone": plain,
            "start from the guess without a label: scale 1 gives the one with it":
                label + scale * (label - plain),
            "the sign of the difference is wrong: it leads from no label to the label":
                plain + scale * (plain - label),
            "the two guesses changed places": label + scale * (plain - label),
            "that is the difference alone: add it to the guess without a label":
                scale * (label - plain),
            "the difference is multiplied by scale": plain + label - plain,
            "the guess without a label has the weight 1 - scale": plain + scale * label,
            "the guess with the label alone is not enlarged, the difference is": scale * label,
            "weights of scale and 1 - scale, not half of both": (label + plain) / 2,
            "both denoisers are told x and t": plain + scale * (wave(x, 1 - t) - plain),
        }, where=f"scale {scale}")
        answer.right = denoise.right
