"""Sentences about scenes, their wording drawn by seed."""

from dataclasses import dataclass

import torch

from minildm.data.combinations import COLOURS, Truth
from minildm.data.wordings import DIGITS, with_article

# a draw picks from a tuple by its place: an order that must stay, or old seeds say something else
SPOTS = (("in the top left", "in the upper left", "at the top left"),
         ("in the top right", "in the upper right", "at the top right"),
         ("in the bottom left", "in the lower left", "at the bottom left"),
         ("in the bottom right", "in the lower right", "at the bottom right"),
         ("in the middle", "in the centre", "at the centre"))
RELATIONS = {5: ("{} left of {}", "{} to the left of {}", "{} on the left and {} on the right"),
             6: ("{} right of {}", "{} to the right of {}", "{} on the right and {} on the left"),
             7: ("{} above {}", "{} over {}", "{} at the top and {} at the bottom"),
             8: ("{} below {}", "{} under {}", "{} at the bottom and {} at the top")}
STARTS = ("", "", "a picture of ", "there is ")
OMISSIONS = ("colours", "digits", "places", "all but one word")


@dataclass(frozen=True)
class Draws:
    """Uniform numbers that decide the wording of one sentence, in the order of drawing."""

    start: float        # how it begins
    order: float        # which of two digits is named first
    wording: float      # which words say the place
    partial: float      # whether something is left out
    omission: float     # what is
    inverted: float     # whether the place of a digit alone comes first


def captions(truth: Truth, seed: int = 0, partial: float = 0.0) -> list[str]:
    """A sentence a scene, its wording drawn by seed; a share `partial` of them leaves something
    out.

    That is colours, digits, places, or all but one word: so prompts may be short, and negative
    ones too.
    """
    generator = torch.Generator().manual_seed(seed)
    # eight numbers a sentence, of which two are spare: with six, old seeds would say something else
    rows = torch.rand(len(truth), 8, generator=generator).tolist()
    scenes = zip(truth.digits.tolist(), truth.colours.tolist(), truth.places.tolist(), strict=True)
    sentences = []
    for (digits, colours, places), numbers in zip(scenes, rows, strict=True):
        draws = Draws(*numbers[:6])
        # the draws are made whether they are used or not: a seed's other words stay as they are
        omission = ""
        if draws.partial < partial:
            omission = OMISSIONS[int(len(OMISSIONS) * draws.omission)]
        things = [(COLOURS[colour], DIGITS[digit])
                  for digit, colour in zip(digits, colours, strict=True) if digit >= 0]
        sentences.append(_sentence(things, places, draws, omission))
    return sentences


def _sentence(things: list[tuple[str, str]], places: list[int], draws: Draws, omission: str) -> str:
    """A sentence about one or two things, (colour, digit) each."""
    first = int(draws.order * len(things))
    if omission == "all but one word":
        return things[first][int(2 * draws.wording)]
    names = [_name(colour, digit, omission) for colour, digit in things]
    if len(names) == 1:
        sentence = _about_one(names[0], places[0], draws, omission)
    elif omission == "places":
        sentence = f"{names[first]} and {names[1 - first]}"
    else:
        relation = RELATIONS[places[first]][int(3 * draws.wording)]
        sentence = relation.format(names[first], names[1 - first])
    if sentence.startswith(("in", "at")):       # "a picture of in the middle" is no English
        return sentence
    return STARTS[int(4 * draws.start)] + sentence


def _name(colour: str, digit: str, omission: str) -> str:
    """A thing with its article: "a red three", "a three", "a red digit"."""
    if omission == "colours":
        return with_article(digit)
    if omission == "digits":
        return with_article(f"{colour} digit")
    return with_article(f"{colour} {digit}")


def _about_one(name: str, place: int, draws: Draws, omission: str) -> str:
    if omission == "places":
        return name
    spot = SPOTS[place][int(3 * draws.wording)]
    # three in thirteen sentences begin with the place
    if int(1.3 * draws.inverted) == 1:
        return f"{spot}, {name}"
    return f"{name} {spot}"
