"""What the numbers of a configuration may be. Each config checks itself with these when it is made.

A configuration can come from a file that someone else wrote. What no network has (no heads at all,
ten million layers) is refused by name here, before a module is built and the memory is gone.
"""

import math

from minildm import MinildmError

# Far above the largest model that the classes here describe, DiT-XL/2: 1152 wide, 28 deep.
WIDTH = 16_384          # channels or dimensions of a layer
DEPTH = 512             # blocks, one after the other
LEVELS = 10             # halvings of the sides
SIDE = 16_384           # pixels
ENTRIES = 10_000_000    # rows of an embedding: tokens, classes


def check_int(where: str, lowest: int, highest: int, **numbers) -> None:
    """Refuse each named number that is not an int from `lowest` to `highest`."""
    for name, value in numbers.items():
        # True is an int to Python, and no number of channels to anyone
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise MinildmError(f"{name} is {shown(value)}", where,
                               f"take a whole number from {lowest} to {highest:,}")


def check_float(where: str, lowest: float, highest: float, **numbers) -> None:
    """Refuse each named number that is not finite and from `lowest` to `highest`."""
    for name, value in numbers.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not lowest <= value <= highest:
            raise MinildmError(f"{name} is {shown(value)}", where,
                               f"take a number from {lowest:g} to {highest:g}")


def check_bool(where: str, **switches) -> None:
    """Refuse each named switch that is neither True nor False."""
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise MinildmError(f"{name} is {shown(value)}", where, "take True or False")


def check_choice(where: str, allowed, **words) -> None:
    """Refuse each named word that is not one of those allowed."""
    for name, value in words.items():
        if not isinstance(value, str) or value not in allowed:
            raise MinildmError(f"{name} is {shown(value)}", where,
                               f"take one of {', '.join(allowed)}")


def check_ints(where: str, most: int, highest: int, **tuples) -> None:
    """Refuse each named tuple that is not one to `most` ints from 1 to `highest`."""
    for name, values in tuples.items():
        if not isinstance(values, tuple | list) or not 1 <= len(values) <= most:
            raise MinildmError(f"{name} is {shown(values)}", where,
                               f"take a tuple of 1 to {most} numbers")
        for i, value in enumerate(values):
            check_int(where, 1, highest, **{f"{name}[{i}]": value})


def check_divides(where: str, divisor: int, what: str, *widths: int) -> None:
    """Refuse widths that cannot be cut into `divisor` equal parts, heads or groups."""
    for width in widths:
        if width % divisor:
            raise MinildmError(f"width {width} is no multiple of {divisor} {what}", where,
                               "change one")


# A message may quote what a hostile file holds, but not all of it.
def shown(value) -> str:
    """A value as text, short even where a file holds something huge."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
