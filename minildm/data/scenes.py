"""Scenes: one or two coloured digits on a black 32 x 32 canvas, sentences about them, and what is
there.

    images, truth = compose(digits, labels, 40_000)      # "a red three left of a blue eight"
    agreement(detect(images, classifier), truth)         # is what is there what was asked for?

A digit, its colour and where it stands (five places for one alone, or on one side of another)
make a combination; a fifth of the 540 are held out of training, so that a model's pictures of
them show whether it has learned the words or the sentences (Lake & Baroni 2018 ask so of
sentences, arXiv:1711.00350).
"""

from dataclasses import dataclass

import torch

from minildm.data.captions import RELATIONS, SPOTS, captions
from minildm.data.combinations import (
    CENTRES,
    COLOURS,
    LEFT,
    PLACES,
    Truth,
    catalogue,
    is_held_out,
)
from minildm.data.detection import agreement, detect
from minildm.data.geometry import (
    SIZE,
    boxes_of,
    centre_of_mass,
    hsv_to_rgb,
    hue_of,
    inside,
    resample,
)
from minildm.data.wordings import DIGITS, with_article

__all__ = [
    "CENTRES", "COLOURS", "DIGITS", "PLACES", "RELATIONS", "SIZE", "SPOTS", "Truth", "agreement",
    "boxes_of", "captions", "catalogue", "centre_of_mass", "compose", "detect", "hsv_to_rgb",
    "hue_of", "inside", "is_held_out", "resample", "with_article"]
AT_ONCE = 2000      # scenes drawn at a time, for the sake of memory
CORNERS = PLACES.index("middle")


class Draws:
    """Uniform numbers of n scenes, by name: two rows of eight each, in the order in which they
    are drawn.

    Those of (n,) belong to the scene, those of (n, 2) to its two places.
    """

    def __init__(self, n: int, seed: int):
        table = torch.rand(n, 2, 8, generator=torch.Generator().manual_seed(seed))
        self.scene = table[:, 0, 0]         # which of the scenes with as many digits
        self.count = table[:, 1, 0]         # one digit, or two
        self.writing = table[..., 1]        # whose handwriting
        self.wobble = table[..., 2:4]       # how far a digit is from its place, x and y
        self.size = table[..., 4]
        self.slide = table[:, 0, 5]         # how far two digits move together across their axis
        self.hue = table[..., 6]
        self.value = table[..., 7]


@dataclass(frozen=True, eq=False)
class Layout:
    """How digits are to lie: centre (n, 2, 2), and size of the longer side (n, 2), in pixels."""

    centre: torch.Tensor
    size: torch.Tensor


def compose(digits, labels, n: int, seed: int = 0, held_out: bool | None = None):
    """Draw n scenes of grey digits (M, 1, h, w) uint8 with labels (M,): uint8 (n, 3, 32, 32), and
    their Truth.

    Half show one digit, half two of different colours. held_out True: only scenes with a
    combination that training lacks; False: none of them; None: all alike.
    """
    draws = Draws(n, seed)
    scenes = _choose(draws, held_out)
    there = scenes.digits >= 0                                              # (n, 2)
    which = _handwriting(draws, scenes.digits, labels)                      # (n, 2)
    layout = _layout(draws, scenes.places)
    # up to ten degrees beside the colour: its neighbours are sixty away
    hue = 60 * scenes.colours + 20 * (draws.hue - 0.5)
    rgb = hsv_to_rgb(hue, 0.85, 0.75 + 0.25 * draws.value)                  # (n, 2, 3)

    images = torch.zeros(n, 3, SIZE, SIZE, dtype=torch.uint8)
    boxes = torch.zeros(n, 2, 4)
    for i in torch.arange(n).split(AT_ONCE):
        centre, size = layout.centre[i], layout.size[i]
        ink, half = _place(digits[which[i].flatten()], centre, size)
        box = torch.cat([centre - half, centre + half], -1)
        boxes[i] = box * there[i, :, None]
        ink = ink * there[i, :, None, None]                                 # (n, 2, H, W)
        light = torch.einsum("nkhw,nkc->nchw", ink, rgb[i])
        images[i] = (255 * light).round().clamp(0, 255).to(torch.uint8)
    return images, Truth(scenes.digits, scenes.colours, scenes.places, boxes)


def _choose(draws: Draws, held_out: bool | None) -> Truth:
    """Scenes of the catalogue, half of them with one digit."""
    every = catalogue()
    if held_out is not None:
        every = every[every.held_out == held_out]
    alone = every.digits[:, 1] < 0
    # chosen by half, since the catalogue has twenty times more scenes of two
    ones = alone.nonzero()[:, 0]
    twos = (~alone).nonzero()[:, 0]
    one = ones[(draws.scene * len(ones)).long()]                            # (n,)
    two = twos[(draws.scene * len(twos)).long()]
    return every[torch.where(draws.count < 0.5, one, two)]


def _handwriting(draws: Draws, digits, labels):
    """Which of the pictures with labels (M,) stands for each digit (n, 2)."""
    counts = labels.bincount(minlength=10)
    start = counts.cumsum(0) - counts       # where each digit begins among the sorted pictures
    # "no second digit", -1, takes a nine here, which is never drawn
    place = start[digits] + (draws.writing * counts[digits]).long()
    return labels.argsort(stable=True)[place]


def _layout(draws: Draws, places) -> Layout:
    """Near their places (n, 2): one alone is larger, two move together across their axis."""
    first = places[:, :1]
    corner = first < CORNERS
    pair = first >= LEFT
    alone_size = torch.where(corner, 13, 14) + 3 * draws.size
    size = torch.where(pair, 10.5 + 2 * draws.size, alone_size)
    reach = torch.where(pair, 0.75, 1)
    wobble = 2 * draws.wobble - 1                                           # -1 to 1
    centre = CENTRES[places] + wobble * reach[..., None]                    # (n, 2, 2)
    # side by side they move up and down, one above the other to the sides
    sideways = first[..., None] == LEFT
    across = torch.cat([~sideways, sideways], -1)                           # (n, 1, 2): x, y
    slide = 10 * draws.slide[:, None, None] - 5
    return Layout(centre + slide * pair[..., None] * across, size)


def _place(digits, centre, size):
    """Draw digits (2 n, 1, h, w) as ink (n, 2, 32, 32); and half their sides (n, 2, 2)."""
    ink = digits.float() / 255
    box = boxes_of(ink[:, 0] > 0.25)                                        # (2 n, 4)
    side = box[:, 2:] - box[:, :2]
    middle = (box[:, :2] + box[:, 2:]) / 2
    scale = size.flatten() / side.amax(1)
    ink = resample(ink, middle, centre.flatten(0, 1), scale, SIZE)          # (2 n, 1, 32, 32)
    half = (side * scale[:, None]).unflatten(0, (-1, 2)) / 2
    return ink.unflatten(0, (-1, 2))[:, :, 0], half
