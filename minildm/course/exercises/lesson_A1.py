"""The checks of appendix A1."""

import math

import torch

from minildm.course.exercises.compare import equal
from minildm.course.exercises.fakes import randn, uniform
from minildm.course.exercises.harness import check


def horizon(decay):
    return 1 / (1 - decay)


@check(reference=horizon)
def check_horizon(answer):
    for decay in 0.9, 0.97, 0.9999, 0.35:
        share = 1 - decay
        answer.case((decay,), torch.tensor(1 / share, dtype=torch.float64), {
            "that is one step short: the newest weight itself counts, too": decay / share,
            "that is one step too many": 1 / share + 1,
            "1 - decay is a step's share; how many such shares make a whole?": share,
            "that is the decay": decay,
            "1 / decay is about 1 for any slow average": 1 / decay,
            "that is the half-life, after which half is left: the horizon is longer":
                math.log(0.5) / math.log(decay),
            "that is near the half-life, after which half is left: the horizon is longer":
                math.log(2) / share,
            "that is when 1 / e is left: near the horizon for slow averages only":
                -1 / math.log(decay),
            "that is when a tenth is left": math.log(0.1) / math.log(decay),
            "that is when a hundredth is left": math.log(0.01) / math.log(decay),
            "twice too many: that is the common rule for the window of a plain mean":
                2 / share - 1,
            "twice too many": 2 / share,
            "half of it: that is the mean's place in a window of that length": 1 / share / 2,
            "no square: shares are 1 - decay": 1 / (1 - decay**2),
            "no root: shares are 1 - decay": (1 / share)**0.5,
            "squared: once is enough": 1 / share**2,
            "the sign: decay is less than 1": -1 / share,
            "it need not be a whole number: leave it as it is": round(1 / share),
            "it need not be a whole number: leave the rest": int(1 / share),
            "it need not be a whole number: don't go up": math.ceil(1 / share),
        }, tol=1e-6, where=f"a decay of {decay}")


def in_range(images):
    return bool(images.min() < 0 and images.abs().max() < 2)


def batches():
    """Yield what a batch is, the batch, whether it may go on, and what is overlooked if not so."""
    shape = 5, 3, 7, 4
    noise = randn(*shape)
    pictures = (noise - 0.1).clamp(-1, 1)
    unit = pictures.clamp(min=0)
    yield "pictures in [-1, 1]", pictures, True, "these are as they should be"
    yield "pictures in [0, 1]", unit, False, "look at the least value too: is any below 0?"
    grey = 0.1 + 0.9 * uniform(*shape)
    yield "bright pictures in [0, 1]", grey, False, "look at the least value too"
    yield "a decoder's", 1.04 * pictures, True, "it overshoots: allow a little more"
    above = torch.where(pictures > 0, 1.04 * pictures, pictures)
    yield "a decoder's, too bright", above, True, "it overshoots at one end: allow a little more"
    below = torch.where(pictures < 0, 1.04 * pictures, pictures)
    yield "a decoder's, too dark", below, True, "it overshoots at one end: allow a little more"
    yield "pictures in [0, 255]", 255 * unit, False, "no picture goes to 255 here"
    yield "latents with values to 12", 12 * pictures, False, "how far out is too far?"
    yield "latents from -12", pictures - 11 * (noise < -2), False, "below -1 is out of range, too"
    yield "latents up to 12", pictures + 11 * (noise > 2), False, "above 1 is out of range, too"
    # the darkest and brightest stay: only the mean is another
    bright = torch.where(pictures > -1, (0.4 + pictures).clamp(max=1), pictures)
    yield "bright pictures in [-1, 1]", bright, True, "the mean need not be below 0"
    dark = torch.where(pictures < 1, (pictures - 0.6).clamp(min=-1), pictures)
    yield "dark pictures in [-1, 1]", dark, True, "no mean is asked for"
    yield "pale pictures", 0.6 * pictures, True, "none need be black or white"
    one_white = pictures.clone()
    one_white[1] = 1
    yield "pictures, one of them white", one_white, True, "the batch has values below 0"
    last_is_wild = pictures.clone()
    last_is_wild[-1] *= 12
    yield "a batch whose last goes to 12", last_is_wild, False, "all pictures count"
    blue_is_wild = pictures.clone()
    blue_is_wild[:, -1] *= 12
    yield "a batch whose last channel goes to 12", blue_is_wild, False, "all channels count"
    quiet = 0.1 * pictures
    quiet[2, 1, 3, 2] = 12
    yield "quiet latents, one value is 12", quiet, False, "the largest counts, not the usual"
    yield "one picture", pictures[3:4, :1], True, "a batch of one is one"


@check(reference=in_range)
def check_in_range(answer):
    for what, images, right, hint in batches():
        low, high = images.min().item(), images.max().item()
        where = f"{what} ({low:.2f} to {high:.2f})"
        story = f"{where} are taken for {'wrong' if right else 'right'} ones: {hint}"
        equal(answer(images), right, {story: not right}, where=where)


WORDS = "scale", "not learning", "collapse", "critic", "healthy"
# the last numbers of a run, what it has, and what one who says otherwise has overlooked
PATIENTS = [
    ({"data_std": 0.18, "unexplained": 0.13, "loss": 0.13}, "scale",
     "its loss is low because its target is easy: data_std comes first"),
    ({"data_std": 5.5, "unexplained": 0.05, "loss": 1.6}, "scale", "data_std is not about 1"),
    ({"data_std": 2.9, "unexplained": 0.4, "loss": 0.9}, "scale", "data_std is not about 1"),
    ({"loss": 0.08, "data_std": 0.22}, "scale", "data_std is not about 1"),
    ({"data_std": 1.0, "unexplained": 0.98, "loss": 1.96}, "not learning",
     "it leaves nearly all unexplained"),
    ({"unexplained": 0.95, "loss": 0.31}, "not learning",
     "it leaves nearly all unexplained: how low a loss is depends on its target"),
    ({"data_std": 1.0, "unexplained": 0.46, "loss": 0.92}, "healthy",
     "a loss of 0.92 of a target of 2 is good"),
    ({"data_std": 0.84, "unexplained": 0.31, "loss": 0.54}, "healthy", "data_std is about 1"),
    ({"data_std": 1.21, "unexplained": 0.62, "loss": 1.5}, "healthy",
     "data_std is about 1, a good part is explained"),
    ({"unexplained": 0.5, "loss": 2.4}, "healthy", "half of its target is explained"),
    ({"loss": 0.4, "grad_norm": 0.7}, "healthy", "nothing that it logs is ill"),
    ({"l1": 0.15, "kl": 0.0004}, "collapse", "its latents say nothing: kl is about 0"),
    ({"l1": 0.07, "kl": 0.02, "real": 0.0, "fake": 0.0}, "collapse",
     "its latents say nothing: kl is about 0"),
    ({"l1": 0.02, "kl": 2.4}, "healthy", "kl is a few nats, l1 is small"),
    ({"l1": 0.11, "kl": 1.1}, "healthy", "kl is about one nat"),
    ({"l1": 0.01, "kl": 11.0}, "healthy", "kl is large, so latents say much"),
    ({"l1": 0.02, "kl": 2.4, "real": 0.0, "fake": 0.0}, "healthy",
     "shares of 0: the critic has not begun"),
    ({"l1": 0.03, "kl": 2.4, "real": 0.8, "fake": 0.7}, "healthy",
     "its critic is right, but not always"),
    ({"l1": 0.04, "kl": 3.1, "real": 0.45, "fake": 0.55}, "healthy", "its critic is only guessing"),
    ({"l1": 0.20, "kl": 2.1, "real": 1.0, "fake": 0.999}, "critic", "its critic is always right"),
    ({"real": 0.997, "fake": 1.0}, "critic", "its critic is always right"),
]


def diagnose(numbers):
    if "data_std" in numbers and not 0.3 < numbers["data_std"] < 1.7:
        return "scale"
    if numbers.get("unexplained", 0) > 0.9:
        return "not learning"
    if numbers.get("kl", 1) < 0.1:
        return "collapse"
    shares = numbers.get("real", 0), numbers.get("fake", 0)
    return "critic" if min(shares) > 0.98 else "healthy"


@check(reference=diagnose)
def check_diagnose(answer):
    for numbers, right, why in PATIENTS:
        others = [word for word in WORDS if word != right]
        likely = {f"{numbers}: you say {word!r}, it is {right!r}: {why}": word for word in others}
        equal(answer(numbers), right, likely, where=f"{numbers}")
