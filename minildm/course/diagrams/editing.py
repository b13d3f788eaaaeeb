"""Editing a picture that exists: how far it is noised, and a step of the way back to the noise."""

from minildm.course.diagrams.drawing import arrow, box, curve, dot, frame, label, page
from minildm.course.diagrams.vectors import towards
from minildm.course.figures import describe

LEFT, LONG = 0.95, 6.3      # where t = 0 stands, and how long the axis of time is


def place(t: float) -> float:
    """Where a time stands on the axis, in inches."""
    return LEFT + LONG * t


def strength_line():
    """Image to image: one jump up to the strength, then the sampler's steps back to t = 0."""
    figure, axes = page(3.0)
    strength = 0.6
    picture = box(axes, LEFT, 2.4, "picture $x_0$", "data", "encoded", width=1.15, tensor=True)
    edited = box(axes, LEFT, 1.2, "edited", "data", "to be decoded", width=1.15, tensor=True)
    noisy = box(axes, place(strength), 1.8, "$x_t$", "noise", "t = strength", width=1.05,
                height=0.6, tensor=True)
    arrow(axes, picture.right, (noisy.x, 2.4), noisy.top, kind="noise")
    label(axes, 3.0, 2.6, r"one jump: $\alpha_t\,x_0+\sigma_t\,\varepsilon$", "noise")
    # the grid's times below the strength are the sampler's
    arrow(axes, noisy.bottom, (noisy.x, 1.2), (place(0.4), 1.2), kind="network")
    arrow(axes, (place(0.4), 1.2), (place(0.25), 1.2), kind="network")
    arrow(axes, (place(0.25), 1.2), edited.right, kind="network")
    for t in (0.4, 0.25):
        dot(axes, place(t), 1.2, "network")
    label(axes, 3.0, 1.45, "steps with the new prompt", "network")
    frame(axes, place(0.71), 0.95, place(1.04), 2.65)
    label(axes, place(0.875), 1.8, "left out:\nthe layout is decided\nhere, and is kept")
    _axis_of_time(axes)
    return describe(figure, """An axis of time from 0, data, on the left to 1, noise, on the right.
        An arrow, one jump of adding noise, leads from the picture to x_t at t = strength, here 0.6.
        From there three steps of the sampler with the new prompt lead back to t = 0, the edited
        latent. A dashed frame marks the times above the strength, which are left out.""")


def _axis_of_time(axes):
    """Draw time from 0 to 1 with its meaning as a strength."""
    arrow(axes, (LEFT, 0.6), (place(1.04), 0.6))
    for t in (0, 0.2, 0.4, 0.6, 0.8, 1):
        curve(axes, (place(t), place(t)), (0.56, 0.64), "noise")
        label(axes, place(t), 0.42, f"{t:g}")
    label(axes, LEFT, 0.18, "strength 0: kept", "data")
    label(axes, place(0.93), 0.18, "strength 1: forgotten", "noise")
    label(axes, place(0.48), 0.18, "time t")


def inversion_round_trip():
    """One step backwards: asked at its wrong end it misses; a fixed point comes back."""
    figure, axes = page(3.2)
    early, late = 1.6, 5.1
    # at the late time the slope is larger the higher one stands
    known, plain, exact, missed = 1.15, 1.5, 2.45, 0.45
    towards(axes, (early, known), (late, plain), "loss")
    towards(axes, (late, plain), (early, missed), "loss")
    towards(axes, (early, known), (late, exact), "network")
    towards(axes, (late, exact), (early, known), "network")
    # the sweeps between the plain step and the fixed point
    for y in (2.02, 2.26):
        dot(axes, late, y, "network", 0.04)
    for x, y, kind in ((early, known, "data"), (early, missed, "loss"), (late, plain, "loss"),
                       (late, exact, "network")):
        dot(axes, x, y, kind, 0.08)
    label(axes, early - 0.2, known + 0.05, "$x_s$, known", "data", align="right")
    label(axes, early - 0.2, missed, "where it returns", "loss", align="right")
    label(axes, early - 0.2, 0.8, "the miss", "loss", align="right")
    curve(axes, (early - 0.1, early - 0.1), (missed + 0.1, known - 0.1), "loss", dashed=True)
    label(axes, late + 0.2, plain, "plain: asked at $x_s$, s", "loss", align="left")
    label(axes, late + 0.2, exact + 0.14, "$x_t$, the fixed point:", "network", align="left")
    label(axes, late + 0.2, exact - 0.06, "asked at $x_t$, t, both ways", "network", align="left")
    label(axes, late + 0.2, 2.1, "two sweeps on the way", "network", align="left")
    arrow(axes, (early, 0.15), (late + 0.4, 0.15))
    label(axes, late + 0.85, 0.15, "time")
    label(axes, 3.3, 2.95, r"$x_t=x_s+(\alpha_t-\alpha_s)\,\hat x_0(x_t,t)"
                           r"+(\sigma_t-\sigma_s)\,\hat\varepsilon(x_t,t)$", size=11)
    return describe(figure, """Time runs to the right. From the known x_s two arrows lead to the
        later time t. The plain one uses what the denoiser says at x_s; the sampler's step back from
        its end has another slope and returns below x_s: the miss. The other one ends at the fixed
        point, higher up, where the denoiser's answer at x_t leads back to x_s exactly. Two small
        dots are sweeps on the way there. Above, the equation with x_t on both sides.""")
