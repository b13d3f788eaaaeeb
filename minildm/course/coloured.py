"""Digits in a colour and sentences about them: the pairs from which lesson 06's towers learn.

A picture shows one digit of the set in one of six colours; sixty things can be said of it, a digit
and a colour each. One thing in five is kept from training: no picture and no sentence of it is
seen there, though its digit and its colour are, with others.
"""

from dataclasses import dataclass

import torch

from minildm.data.combinations import COLOURS
from minildm.data.geometry import hsv_to_rgb
from minildm.data.wordings import DIGITS, with_article
from minildm.images import pad_to

# {d} is the digit, {a} the digit with its article, {c} the colour: all of which begin like "red"
WORDINGS = (
    "a {c} {d}", "{c} {d}", "a picture of a {c} {d}", "here you see a {c} {d}", "{a} in {c}",
    "the number {d}, in {c}", "the {d} is {c}", "this is {a}, and it is {c}",
    "{a}, written in {c} ink", "a {c} digit: {d}", "somebody wrote {a} with a {c} pen",
    "{c} ink, and it says {d}", "a handwritten {d} in {c}", "on black, a {c} {d}",
    "it says {d}, in {c} ink", "the digit {d} was painted {c}", "yes, a {c} {d}!",
    "what you see is a {c} {d}, is it not?", "the {c} thing there is {a}", "{d}, {c} on black")
WORDINGS_HELD_OUT = (
    "an image of a {c} {d}", "look, that {d} is {c}!", "{a}, drawn in {c}", "my {d} is {c}",
    "so {c}, and {a}", "a small {c} {d}")
LENGTH = 14         # tokens of the longest sentence


@dataclass(frozen=True, eq=False)
class ColouredDigits:
    """Pictures (N, 3, 32, 32) uint8, and the digits and colours (N,) that they show."""

    pictures: torch.Tensor
    digits: torch.Tensor
    colours: torch.Tensor

    def __len__(self):
        return len(self.digits)

    @property
    def things(self):
        """The digit and the colour as one number of sixty, (N,)."""
        return len(COLOURS) * self.digits + self.colours


def kept_from_training(digit, colour):
    """Whether training lacks this digit in this colour: twelve of the sixty."""
    return (digit + 2 * colour) % 5 == 0


def coloured(images, labels, seed: int = 0, held_out: bool | None = False) -> ColouredDigits:
    """Give grey digits (N, 1, h, w) uint8 with labels (N,) a colour each, by chance.

    held_out False: colours of training; True: those kept from it; None: any.
    """
    generator = torch.Generator().manual_seed(seed)
    digit, colour = torch.cartesian_prod(torch.arange(10), torch.arange(len(COLOURS))).T
    allowed = torch.ones(10, len(COLOURS))
    if held_out is not None:
        allowed = (kept_from_training(digit, colour) == held_out).reshape(10, -1).float()
    colours = allowed[labels].multinomial(1, generator=generator)[:, 0]
    jitter = torch.rand(len(labels), 2, generator=generator)
    # as in the scenes: ten degrees around the colour, and a little darker or lighter
    rgb = hsv_to_rgb(60 * colours + 20 * (jitter[:, 0] - 0.5), 0.85, 0.75 + 0.25 * jitter[:, 1])
    pictures = torch.empty(len(labels), 3, 32, 32, dtype=torch.uint8)
    # a part at a time, for the sake of memory
    for i in torch.arange(len(labels)).split(2000):
        ink = pad_to(images[i], 32).float()
        pictures[i] = (ink * rgb[i, :, None, None]).round().to(torch.uint8)
    return ColouredDigits(pictures, labels, colours)


def say(wording: str, digit: int, colour: int) -> str:
    """One wording about one thing."""
    name = DIGITS[digit]
    return wording.format(d=name, a=with_article(name), c=COLOURS[colour])


def sentences_of(wordings=WORDINGS) -> list[list[str]]:
    """The sentences about each of the sixty things, in the order of `things`."""
    return [[say(wording, digit, colour) for wording in wordings]
            for digit in range(10) for colour in range(len(COLOURS))]


def trained_sentences() -> list[list[str]]:
    """The sentences that training may see, twenty about each of its 48 things."""
    digit, colour = torch.cartesian_prod(torch.arange(10), torch.arange(len(COLOURS))).T
    kept = kept_from_training(digit, colour).tolist()
    return [row for row, apart in zip(sentences_of(), kept, strict=True) if not apart]


def tokens_of(tokenizer, sentences: list[list[str]], length: int = LENGTH):
    """Rows of sentences as ids (rows, sentences in each, length)."""
    return torch.stack([tokenizer(row, length) for row in sentences])
