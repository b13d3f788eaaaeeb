"""Pictures in the plane: the schedule's clock, a sampler's step, guidance, crossing lines."""

import math

from minildm.course.diagrams.drawing import (
    arrow,
    box,
    circle_points,
    curve,
    dot,
    label,
    page,
)
from minildm.course.figures import describe


def towards(axes, start, end, kind, gap=0.1):
    """Draw a thick arrow from point to point that stops before the dot at its end."""
    length = math.dist(start, end)
    tip = [b - gap * (b - a) / length for a, b in zip(start, end, strict=True)]
    arrow(axes, start, tip, kind=kind, width=2.2)


def schedule_clock():
    """(alpha, sigma) as a point that moves with t, on the quarter circle and on the line."""
    figure, axes = page(3.5)
    names = (r"cosine: $\alpha^2+\sigma^2=1$", r"flow: $\alpha=1-t,\ \sigma=t$")
    for left, name in zip((0.9, 4.8), names, strict=True):
        arrow(axes, (left, 0.5), (left + 2.75, 0.5))
        arrow(axes, (left, 0.5), (left, 3.2))
        label(axes, left + 2.9, 0.5, r"$\alpha$", size=11)
        label(axes, left - 0.18, 3.1, r"$\sigma$", size=11)
        label(axes, left + 2.35, 0.22, "t = 0: data", "data")
        label(axes, left - 0.1, 2.75, "1", "noise", align="right")
        label(axes, left + 1.45, 3.2, name, size=10)
    curve(axes, *circle_points(0.9, 0.5, 2.25, 0, 90), kind="network")
    curve(axes, (7.05, 4.8), (0.5, 2.75), kind="network")
    # where the point is at t = 0, 1/4, ..., 1
    for i in range(5):
        t = i / 4
        kind = "data" if t < 0.5 else "noise"
        angle = math.pi * t / 2
        dot(axes, 0.9 + 2.25 * math.cos(angle), 0.5 + 2.25 * math.sin(angle), kind)
        dot(axes, 4.8 + 2.25 * (1 - t), 0.5 + 2.25 * t, kind)
    for left, x, y in ((0.9, 0.7071, 0.7071), (4.8, 0.5, 0.5)):
        at = left + 2.25 * x, 0.5 + 2.25 * y
        label(axes, at[0] + 0.38, at[1] + 0.15, "t = ½")
        curve(axes, (at[0], at[0]), (0.5, at[1]), "data", dashed=True)
        curve(axes, (left, at[0]), (at[1], at[1]), "noise", dashed=True)
        label(axes, at[0] - 0.3, 0.68, f"{x:.2f}", "data")
        label(axes, left + 0.3, at[1] - 0.16, f"{y:.2f}", "noise")
    label(axes, 1.45, 2.86, "t = 1: noise", "noise")
    label(axes, 5.4, 2.86, "t = 1: noise", "noise")
    return describe(figure, """Two panels with alpha to the right and sigma upwards; dots at t = 0,
        a quarter, a half, three quarters and 1. Cosine: the point moves along the quarter circle,
        and at one half both are 0.71. Flow: it moves along the straight line, and at one half both
        are 0.50. Both begin at (1, 0), data, and end at (0, 1), noise.""")


def sampler_step():
    """One step of DDIM in the plane: from x at time t towards the guess, to the smaller time s."""
    figure, axes = page(3.1)
    noisy, guess, after = (6.9, 2.45), (1.3, 0.75), (4.66, 1.77)
    towards(axes, noisy, after, "network")
    curve(axes, (after[0], guess[0]), (after[1], guess[1]), "data", dashed=True)
    # a parabola that leaves x_t in the direction of the guess
    middle, end = (5.2, 1.934), (1.2, 1.95)
    ways = [i / 40 for i in range(41)]
    path = [[(1 - u)**2 * a + 2 * u * (1 - u) * b + u**2 * c for u in ways]
            for a, b, c in zip(noisy, middle, end, strict=True)]
    curve(axes, *path, "noise", dashed=True)
    dot(axes, *noisy, "noise", 0.08)
    dot(axes, *after, "noise", 0.08)
    dot(axes, *guess, "data", 0.08)
    dot(axes, *end, "data", 0.08)
    label(axes, 6.9, 2.75, "$x_t$", "noise", size=11)
    label(axes, 4.75, 1.5, "$x_s$", "noise", size=11)
    label(axes, 1.3, 0.45, r"guess $\hat x_0$ = denoise($x_t$, t)", "data")
    label(axes, 6.45, 1.9, "the step", "network")
    label(axes, 3.4, 2.3, "exact path: it bends as the guess improves", "noise")
    label(axes, 1.2, 2.18, "its end", "data")
    label(axes, 5.75, 0.8, r"$\hat\varepsilon=(x_t-\alpha_t\,\hat x_0)\,/\,\sigma_t$", size=11)
    label(axes, 5.75, 0.4, r"$x_s=\alpha_s\,\hat x_0+\sigma_s\,\hat\varepsilon$", size=11)
    label(axes, 2.2, 2.8, "drawn for flow's line, where s/t of the way is left", align="left")
    return describe(figure, """From the noisy x_t at the right a thick arrow points along a straight
        line towards the network's guess of x_0 at the lower left, and stops at x_s, part of the
        way. A dashed curve, the exact path, bends away and ends above the guess. Beside it the two
        equations of DDIM: the noise that the guess leaves, and x_s made of both.""")


def guidance_vectors():
    """Classifier-free guidance as a walk along the difference of two guesses."""
    figure, axes = page(2.7)
    # on one line: the second arrow is twice the first
    null, cond, guided = (1.6, 0.75), (3.4, 1.2), (7.0, 2.1)
    towards(axes, null, cond, "condition")
    towards(axes, cond, guided, "network")
    for place, kind in ((null, "noise"), (cond, "condition"), (guided, "network")):
        dot(axes, *place, kind, 0.085)
    label(axes, 1.6, 0.45, r"$x_0^{\varnothing}$: no prompt, w = 0", "noise")
    label(axes, 4.1, 0.93, "$x_0^{y}$: prompt, w = 1", "condition")
    label(axes, 6.85, 2.4, "guided, w = 3", "network")
    label(axes, 2.0, 1.35, "$x_0^{y}-x_0^{\\varnothing}$", "condition", size=11)
    label(axes, 4.4, 1.95, "beyond 1 we extrapolate", "network")
    label(axes, 2.3, 2.35, r"$x_0=x_0^{\varnothing}+w\,(x_0^{y}-x_0^{\varnothing})$", size=12)
    label(axes, 5.9, 0.4, "a negative prompt takes the place of no prompt")
    return describe(figure, """Three points on one line. At the lower left the guess without a
        prompt, scale w = 0; an arrow, their difference, leads to the guess with the prompt, w = 1;
        the same direction prolonged to three times its length leads to the guided guess, w = 3.""")


def crossing_lines():
    """Straight paths of pairs cross; the mean velocity at a place gives paths that do not."""
    figure, axes = page(3.2)
    for left, name in ((0.5, "paths of single pairs"), (4.5, "paths of the mean field")):
        label(axes, left + 1.5, 3.0, name, size=10)
        label(axes, left + 0.1, 0.38, "noise, t = 1", "noise")
        label(axes, left + 2.9, 0.38, "data, t = 0", "data")
    # four draws of noise, two data points: each pair has its line
    starts, ends = (0.7, 1.2, 2.0, 2.5), (2.5, 0.7)
    for y in starts:
        for end in ends:
            curve(axes, (0.6, 3.4), (y, end), "noise", 1.1)
        dot(axes, 0.6, y, "noise")
        dot(axes, 4.6, y, "noise")
    for end in ends:
        dot(axes, 3.4, end, "data")
        dot(axes, 7.4, end, "data")
    _mean_paths(axes, 4.6, starts, ends)
    label(axes, 2.0, 0.38, "where lines cross, the\nbest guess is their mean")
    label(axes, 6.0, 0.38, "no two cross: bent,\nso few steps miss")
    return describe(figure, """Left: straight lines from each of four noise points to both data
        points; they cross in the middle. Right: the paths that follow the mean velocity of all
        lines through a place; they do not cross, start towards the middle and bend to the nearer
        data point.""")


def _mean_paths(axes, left, starts, ends):
    """Integrate the mean velocity of Gaussian noise around the middle to two data points."""
    middle = (ends[0] + ends[1]) / 2
    for y in starts:
        x, xs, ys, steps = y - middle, [], [], 200
        for i in range(steps):
            t = 1 - i / steps
            xs.append(left + 2.8 * (1 - t))
            ys.append(middle + x)
            # odds of the two data points at x, for noise of standard deviation 0.7
            away = [(x - (1 - t) * (end - middle)) / t for end in ends]
            odds = [math.exp(-a * a / (2 * 0.49)) for a in away]
            guess = sum(o * (end - middle) for o, end in zip(odds, ends, strict=True)) / sum(odds)
            x += (guess - x) / t / steps
        curve(axes, xs, ys, "network")


def mask_consistency():
    """Inpainting: what is known is put back at every step, at that step's noise level."""
    figure, axes = page(2.9)
    known = box(axes, 0.8, 2.2, "known $x_0$", "data", "(B, C, h, w)", tensor=True)
    noised = box(axes, 2.6, 2.2, r"$\alpha_s x_0+\sigma_s\varepsilon$", "noise",
                 "known, noised to s", width=1.45)
    step = box(axes, 2.6, 0.8, "sampler's step", "network", "from t to s", width=1.45)
    before = box(axes, 0.8, 0.8, "$x_t$", "noise", "(B, C, h, w)", tensor=True)
    # each branch keeps its own part of the picture
    inside = box(axes, 4.75, 2.2, "× mask", "condition", "1 where kept", width=1.0)
    outside = box(axes, 4.75, 0.8, "× (1 − mask)", "condition", "0 where kept", width=1.15)
    total = box(axes, 6.1, 1.5, "+", "", width=0.4, height=0.4)
    after = box(axes, 7.3, 1.5, "$x_s$", "noise", "next step", width=0.9, tensor=True)
    arrow(axes, known.right, noised.left)
    arrow(axes, noised.right, inside.left)
    arrow(axes, before.right, step.left)
    arrow(axes, step.right, outside.left)
    arrow(axes, inside.right, (6.1, 2.2), total.top)
    arrow(axes, outside.right, (6.1, 0.8), total.bottom)
    arrow(axes, total.right, after.left)
    arrow(axes, after.bottom, (7.3, 0.25), (0.8, 0.25), before.bottom)
    label(axes, 4.0, 0.42, "again, with s in the place of t, until s = 0")
    label(axes, 3.5, 2.72, "kept where the mask is 1; drawn, and made to fit, where it is 0")
    return describe(figure, """Two branches. Above: the known latent is noised to the level s and
        multiplied by the mask. Below: the sampler's step takes x_t to level s, multiplied by one
        minus the mask. Their sum is x_s, which goes back as the next x_t until s = 0.""")
