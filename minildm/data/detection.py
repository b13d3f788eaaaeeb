"""Rules that find again what stands in a scene, and say what of it is as it was asked for."""

from dataclasses import dataclass

import torch

from minildm.data.combinations import ABOVE, ALONE, CENTRES, LEFT, NOTHING, Truth
from minildm.data.geometry import SIZE, boxes_of, hue_of, resample

GAP = slice(12, 20)     # where the empty column or row between two digits can be
DARK = 0.25             # brightest value of an empty column
MINOR = 0.2             # smallest share of the ink that counts as a second digit
INK = 0.3               # what belongs to a digit's box
CROP, DIGIT = 28, 20    # side of a classifier's picture, and of the digit in it


@dataclass(frozen=True, eq=False)
class Cut:
    """Where N pictures are cut in two along one axis: if there is a gap, and what is before it."""

    there: torch.Tensor
    before: torch.Tensor    # (N, 1, 32) or (N, 32, 1) bool


@torch.no_grad()
def detect(images, classifier) -> Truth:
    """Find what stands in float pictures (N, 3, 32, 32) in [-1, 1] on the CPU.

    The colour is told by hue, the place by the box, the digit by a classifier of grey digits 28 x
    28. Two digits have an empty column or row between them; else it is one. An empty picture has
    digits -1.
    """
    rgb = (images + 1) / 2
    ink = rgb.amax(1)                                               # (N, H, W)
    columns, rows = _cut(ink, 2), _cut(ink, 1)
    sideways = columns.there
    stacked = rows.there & ~sideways
    pair = sideways | stacked
    # side by side counts first: two digits of unequal height may have an empty row too
    before = torch.where(sideways[:, None, None], columns.before.expand_as(ink),
                         rows.before.expand_as(ink))
    one = ~pair[:, None, None]
    masks = torch.stack([before | one, ~before & ~one], 1)          # (N, 2, H, W)
    parts = ink[:, None] * masks
    boxes = boxes_of((parts > INK).flatten(0, 1)).unflatten(0, (-1, 2))         # (N, 2, 4)
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2

    # of a digit alone; two digits are told apart by the gap between them
    nearest = torch.cdist(centre[:, 0], CENTRES[:ALONE]).argmin(1)
    first = torch.where(sideways, LEFT, torch.where(stacked, ABOVE, nearest))
    places = torch.stack([first, first + 1], 1)
    digits = digits_in(parts, boxes, centre, classifier)
    colours = _colours_in(parts, rgb)
    expected = torch.stack([torch.ones_like(pair), pair], 1)
    there = (boxes[..., 2] > 0) & expected
    digits = torch.where(there, digits, NOTHING)
    colours = torch.where(there, colours, NOTHING)
    places = torch.where(there, places, NOTHING)
    return Truth(digits, colours, places, boxes)


def _cut(ink, axis: int) -> Cut:
    """The darkest column (axis 2) or row (axis 1) in the middle of pictures (N, 32, 32)."""
    other = 3 - axis
    profile = ink.amax(other)                                       # (N, 32)
    mass = ink.sum(other).cumsum(1)
    darkest, cut = profile[:, GAP].min(1)
    cut = cut + GAP.start
    share = mass.gather(1, cut[:, None])[:, 0] / mass[:, -1].clamp(min=1e-6)
    # a thin stroke's end is no second digit
    balanced = (share > MINOR) & (share < 1 - MINOR)
    before = torch.arange(SIZE) < cut[:, None]                      # (N, 32)
    return Cut((darkest < DARK) & balanced, before.unsqueeze(other))


def _colours_in(parts, rgb):
    """The colour of each part (N, 2, H, W) by its mean pixel in rgb (N, 3, H, W): (N, 2)."""
    # squared, so that the soft edges, where hues are uncertain, count little
    weight = parts.square()
    mean = torch.einsum("nkhw,nchw->nkc", weight, rgb)
    return (hue_of(mean) / 60).round().long() % 6


def digits_in(parts, boxes, centre, classifier):
    """The digit in each part (N, 2, H, W), after moving it to where the classifier expects it."""
    brightest = parts.amax((2, 3), keepdim=True).clamp(min=1e-6)
    crops = (parts / brightest).flatten(0, 1)[:, None]              # (2 N, 1, H, W)
    side = (boxes[..., 2:] - boxes[..., :2]).amax(-1).flatten()
    centre = centre.flatten(0, 1)
    middle = torch.full_like(centre, CROP / 2)
    crops = resample(crops, centre, middle, DIGIT / side.clamp(min=1), CROP)
    digits = [classifier(batch).argmax(1) for batch in (2 * crops - 1).split(500)]
    return torch.cat(digits).unflatten(0, (-1, 2))


def agreement(found: Truth, wanted: Truth) -> dict[str, torch.Tensor]:
    """Tell what of each scene is right, each value (N,) bool.

    count: as many digits; digit, colour: these and no others, wherever they are; binding: each
    digit has its colour; place: laid out as asked, with a digit or the colours in the order
    asked; all: everything.
    """
    digits = (found.digits == wanted.digits).all(1)
    colours = (found.colours == wanted.colours).all(1)
    layout = (found.places == wanted.places).all(1)
    alone = wanted.digits[:, 1] < 0
    # one number for a digit in its colour
    found_things = 10 * found.digits + found.colours
    wanted_things = 10 * wanted.digits + wanted.colours
    return {
        "count": _same(found.digits >= 0, wanted.digits >= 0),
        "digit": _same(found.digits, wanted.digits),
        "colour": _same(found.colours, wanted.colours),
        "binding": _same(found_things, wanted_things),
        "place": layout & (alone | digits | colours),
        "all": digits & colours & layout,
    }


def _same(a, b):
    """Whether rows (N, 2) have the same entries, in any order."""
    return (a.int().sort(1).values == b.int().sort(1).values).all(1)
