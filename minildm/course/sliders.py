"""Sliders for a function that draws a figure, where somebody is there to turn them."""

import os
from collections.abc import Callable


def sliders(draw: Callable, **ranges):
    """A control for each argument: (low, high, step) is a slider, a text a field.

    It is drawn anew when a slider is let go, not on the way. Returns ipywidgets' widget: the last
    line of a notebook's cell, it shows itself. None under CI, where nobody turns anything: a stored
    lesson then holds no dead controls.
    """
    if "CI" in os.environ:
        return None
    from ipywidgets import interactive

    controls = interactive(draw, **ranges)
    for control in controls.children:
        # drawing takes seconds: a slider on its way would ask for it at every stop
        if hasattr(control, "continuous_update"):
            control.continuous_update = False
    return controls
