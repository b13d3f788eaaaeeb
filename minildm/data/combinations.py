"""What can stand in a scene: digit, colour and place make a combination, and a fifth of them is
held out.

Two places each, the left or upper one first. A digit alone has one of the first five places; two
digits have the fifth and sixth (left, right) or the seventh and eighth (above, below).
"""

from dataclasses import dataclass, fields

import torch

COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")     # hues of 0, 60, ... 300 degrees
PLACES = ("top left", "top right", "bottom left", "bottom right", "middle",
          "left", "right", "above", "below")
LEFT, ABOVE = PLACES.index("left"), PLACES.index("above")
ALONE = PLACES.index("middle") + 1                                  # places of a digit alone
CENTRES = torch.tensor([[9, 9], [23, 9], [9, 23], [23, 23], [16, 16],
                        [8, 16], [24, 16], [16, 8], [16, 24.]])     # (x, y) in pixels
NOTHING = -1


@dataclass(frozen=True, eq=False)
class Truth:
    """What stands in N scenes, two places each, the left or upper one first; -1 where there is no
    second.

    digits, colours, places (N, 2) int64; boxes (N, 2, 4) in pixels: left, top, right, bottom.
    """

    digits: torch.Tensor
    colours: torch.Tensor
    places: torch.Tensor
    boxes: torch.Tensor

    def __len__(self):
        return len(self.digits)

    def __getitem__(self, pick) -> "Truth":
        return Truth(*(getattr(self, f.name)[pick] for f in fields(self)))

    @property
    def held_out(self):
        """Whether a combination of the scene is kept from training, (N,) bool."""
        held_out = is_held_out(self.digits, self.colours, self.places)
        return (held_out & (self.digits >= 0)).any(1)


def is_held_out(digit, colour, place):
    """Whether training lacks a combination: one in five, of each digit and colour some places."""
    # every pair of digit, colour and place is still seen, each with other thirds
    return (digit + 2 * colour + 3 * place) % 5 == 0


def catalogue() -> Truth:
    """Every scene there can be, without handwriting and jitter: 300 of one digit, 6,000 of two."""
    # 60 things, a digit in a colour; the order of the catalogue decides what a seed draws
    digit, colour = torch.cartesian_prod(torch.arange(10), torch.arange(6)).T           # (60,)
    alone = [_thing(digit, colour, place) for place in range(ALONE)]
    alone = torch.cat(alone)                                                            # (300, 3)
    alone = torch.stack([alone, torch.full_like(alone, NOTHING)], 1)                   # (300, 2, 3)

    first, second = torch.cartesian_prod(torch.arange(60), torch.arange(60)).T
    # of one colour, "the red one" would not say which
    different = colour[first] != colour[second]
    first, second = first[different], second[different]                                 # (3000,)
    pairs = []
    for place in (LEFT, ABOVE):
        one = _thing(digit[first], colour[first], place)
        other = _thing(digit[second], colour[second], place + 1)
        pairs.append(torch.stack([one, other], 1))                                    # (3000, 2, 3)
    table = torch.cat([alone, *pairs])                                                # (6300, 2, 3)
    digits, colours, places = table.unbind(-1)
    return Truth(digits, colours, places, torch.zeros(len(table), 2, 4))


def _thing(digit, colour, place: int):
    """Digits and colours (n,) at one place, as rows (n, 3)."""
    return torch.stack([digit, colour, torch.full_like(digit, place)], 1)
