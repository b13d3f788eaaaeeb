"""Figures of lesson 07: maps of a caption's words; and what pictures show of their prompts."""

import matplotlib.pyplot as plt
import torch

from minildm.course.figures import WIDTH, show
from minildm.data.scenes import COLOURS, DIGITS, hue_of

PANELS = 5      # of a row
BRIGHT = 0.4    # ink, from 0 to 1
ENOUGH = 12     # pixels of one colour: fewer may be a stroke's edge


def show_word_maps(picture, words: list[str], maps, alt: str):
    """Draw a picture (3, H, W), then for each word its map (h, w) with the picture's outlines.

    All maps share one scale, from no weight to the largest.
    """
    side = picture.shape[-1]
    light = ((picture + 1) / 2).clamp(0, 1)
    rows = -(-(len(words) + 1) // PANELS)
    figure, axes = plt.subplots(rows, PANELS, figsize=(WIDTH, 1.75 * rows), squeeze=False)
    for each in axes.flat:
        each.axis("off")
    first, *others = axes.flat
    first.imshow(light.permute(1, 2, 0), interpolation="nearest")
    first.set_title("drawn")
    # a pixel's middle lies half a pixel from its edge
    at = torch.arange(side) + 0.5
    for each, word, weights in zip(others, words, maps, strict=False):
        drawn = each.imshow(weights, extent=(0, side, side, 0), vmin=0, vmax=maps.max())
        each.contour(at, at, light.amax(0), levels=[0.5], colors="white", linewidths=1)
        each.set_title(word)
    figure.colorbar(drawn, ax=axes, shrink=0.7, label="weight")
    show(figure, alt=alt)


def colours_seen(images):
    """Which of the six colours pictures (N, 3, H, W) in [-1, 1] show, (N, 6) bool, by their hue."""
    rgb = ((images + 1) / 2).movedim(1, -1)                               # (N, H, W, 3)
    hue = (hue_of(rgb) / 60).round().long() % len(COLOURS)
    bright = rgb.amax(-1) > BRIGHT
    counts = [((hue == k) & bright).sum((1, 2)) for k in range(len(COLOURS))]
    return torch.stack(counts, 1) >= ENOUGH


def shares(right: dict, thing: str = "shape") -> dict[str, float]:
    """Shares of what `agreement` found right, and of pictures with all colours and things, binding.

    Whether each thing has its own colour can only be told where all of both are there.
    """
    there = right["colour"] & right[thing]
    kinds = ("count", "colour", thing, "place", "all")
    found = {kind: right[kind].float().mean().item() for kind in kinds}
    bound = right["binding"][there].float().mean().item()
    return found | {"both there": there.float().mean().item(), "of these bound": bound}


def hard_prompts():
    """Thirty prompts for three digits, thirty with "not", and the colours asked for or refused.

    -> (three, negated, asked (30, 3), refused (30, 1)), colours by their number.
    """
    k = torch.arange(30)
    asked = (k[:, None] + torch.tensor([0, 2, 4])) % 6
    digits = (k[:, None] + torch.tensor([0, 3, 6])) % 10
    three = []
    for colours, numbers in zip(asked.tolist(), digits.tolist(), strict=True):
        things = [f"a {COLOURS[c]} {DIGITS[d]}" for c, d in zip(colours, numbers, strict=True)]
        three.append(" and ".join(things))
    negated = [f"a {DIGITS[i % 10]} that is not {COLOURS[i % 6]}" for i in range(30)]
    return three, negated, asked, k[:, None] % 6


def share_with(images, colours) -> float:
    """The share of pictures (N, 3, H, W) that show all of these colours (N, K)."""
    return colours_seen(images).gather(1, colours).all(1).float().mean().item()
