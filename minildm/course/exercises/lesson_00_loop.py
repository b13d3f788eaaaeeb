"""The checks of lesson 00's loop, its guidance, and both together."""

import torch

from minildm.course.exercises.answer import Answer
from minildm.course.exercises.compare import describe, fail
from minildm.course.exercises.fakes import randn, warped
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_00 import wave
from minildm.diffusion import guidance, samplers, schedules
from minildm.model import LatentDiffusion


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
    # lengths first: only then can frames be compared one by one
    for frame in film:
        if not isinstance(frame, list | tuple) or len(frame) != 3:
            fail(f"a frame of the film is (s, x, x0): this is {describe(frame)}")
    frames = [torch.stack([x, x0]) for _, x, x0 in film]
    # x += ... in a loop writes into the frames before, too
    if n > 1 and all(torch.equal(frame[0], frames[0][0]) for frame in frames):
        fail("all frames hold the same x: is it changed in place, or outside the loop?")
    if any(abs(float(frame[0]) - float(s)) > 1e-6 for frame, s in zip(film, times[1:],
                                                                      strict=True)):
        fail("a frame's time is the one that the step reached: s")
    return torch.stack(frames)


@check(reference=draw, forbidden=[samplers.ddim, samplers.euler, samplers.ddpm])
def check_draw(answer):
    # times unequally far apart; the last step may end at 0 or before it
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
    # scales between and beyond: 0 is without the label, 1 with it alone
    for scale, t, shape in (2.5, 0.37, (3, 2, 5, 4)), (0.0, 0.8, (2, 3)), (1.0, 0.2, (4, 2, 3)):
        denoise = answer.wrap(answer(wave, silent, scale), "a function of x and t", ["x", "t"])
        # a later case says that the first went well
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


def generate(pipe, labels, scale, noise, times):
    alpha, sigma = pipe.denoiser.schedule
    null = torch.full_like(labels, pipe.denoiser.network.null_context)

    def with_label(x, t):
        return pipe.denoiser(x, t, labels)

    def without_label(x, t):
        return pipe.denoiser(x, t, null)

    film = draw(guided(with_label, without_label, scale), alpha, sigma, noise, times)
    return pipe.decode(film[-1][1])


class FakePipe:
    """What `generate` may ask of a model: a denoiser, and a decoder, both of all they are told."""

    def __init__(self, schedule, null: int):
        # the answer asks for pipe.denoiser.network.null_context: all three are this object
        self.denoiser = self
        self.network = self
        self.schedule, self.null_context = schedule, null

    def __call__(self, x, t, labels):
        if not isinstance(labels, torch.Tensor) or labels.shape != x.shape[:1]:
            fail(f"the denoiser is told labels of shape (B,) = ({len(x)},): {describe(labels)}")
        # each label's guess differs by a constant of its own
        return wave(x, t) + torch.cos(labels.float()).reshape(-1, 1, 1, 1)

    def decode(self, latents):
        # wider than a latent, so that one that was not decoded has another shape
        return latents.repeat_interleave(2, dim=-1).tanh()


@check(reference=generate, forbidden=[LatentDiffusion, LatentDiffusion.generate, samplers.ddim])
def check_generate(answer):
    # the null label is not 10, and the schedule not flow
    for schedule, null, scale, shape in ((warped, 4, 2.5, (3, 2, 5, 4)),
                                         (schedules.flow, 11, 0.5, (2, 1, 3, 3))):
        pipe, noise = FakePipe(schedule, null), randn(*shape)
        labels, times = torch.arange(shape[0]) + 1, torch.tensor([1.0, 0.7, 0.25, 0.1])
        want = generate(pipe, labels, scale, noise, times)
        alpha, sigma = schedule

        def latents(denoise, of=1, alpha=alpha, sigma=sigma, noise=noise, times=times):
            return draw(denoise, alpha, sigma, noise, times)[-1][of]

        def told(x, t, pipe=pipe, labels=labels):
            return pipe(x, t, labels)

        def not_told(x, t, pipe=pipe, labels=labels, null=null):
            return pipe(x, t, torch.full_like(labels, null))

        def ten(x, t, pipe=pipe, labels=labels):
            return pipe(x, t, torch.full_like(labels, 10))

        # the right way, which each mistake below leaves at one place
        both = guided(told, not_told, scale)
        answer.case((pipe, labels, scale, noise, times), want, {
            "a latent is no picture yet: decode it": latents(both),
            "the picture is the last x, not the last guess": pipe.decode(latents(both, of=2)),
            "the guidance is missing": pipe.decode(latents(told)),
            "the label is missing: that is the guess without it": pipe.decode(latents(not_told)),
            "the denoisers with and without the label changed places":
                pipe.decode(latents(guided(not_told, told, scale))),
            "the null is not always label 10: null_context says which":
                pipe.decode(latents(guided(told, ten, scale))),
            "the schedule is the model's, not always flow": pipe.decode(
                latents(both, alpha=schedules.flow.alpha, sigma=schedules.flow.sigma)),
            "the last frame, not the first":
                pipe.decode(draw(both, alpha, sigma, noise, times)[0][1]),
            "that is the first guess alone": pipe.decode(both(noise, times[0])),
            "alpha comes first in a schedule, then sigma":
                pipe.decode(latents(both, alpha=sigma, sigma=alpha)),
        }, where=f"null label {null}, scale {scale}")
