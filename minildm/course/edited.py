"""What lesson 11 and its benchmark edit, and how they judge it: as asked, overlap, seam."""

from dataclasses import dataclass, replace

import torch

from minildm.data.detection import INK
from minildm.data.scenes import COLOURS, Truth, agreement, captions, compose, detect
from minildm.images import to_float

OVERLAP = 0.6       # ink that overlaps by more than this is the same digit in the same place


@dataclass(frozen=True)
class Task:
    """Scenes, uint8 (N, 3, 32, 32); what they show and what they shall show, also in words."""

    images: torch.Tensor
    shown: Truth
    wanted: Truth
    source: list[str]
    target: list[str]


def readable_scenes(digits, classifier, n: int, seed: int, pairs: bool = False):
    """n composed scenes of one digit, or of two, that the rules read as they were composed.

    `digits` is an ImageSet. What the rules misread before any edit would count against the edit.
    """
    images, truth = compose(digits.images, digits.labels, 3 * n + 50, 500 + seed, held_out=False)
    right = agreement(detect(to_float(images), classifier), truth)["all"]
    rows = ((truth.digits[:, 1] >= 0) == pairs) & right
    rows = rows.nonzero()[:n, 0]
    return images[rows], truth[rows]


def task_of(digits, classifier, kind: str, n: int, seed: int = 0) -> Task:
    """n edits of one kind: "colour", "one of two" or "digit"; what is new is drawn by seed."""
    images, shown = readable_scenes(digits, classifier, n, seed, pairs=kind == "one of two")
    generator = torch.Generator().manual_seed(seed)
    if kind == "digit":
        new = shown.digits.clone()
        new[:, 0] = (new[:, 0] + torch.randint(1, 10, (n,), generator=generator)) % 10
        wanted = replace(shown, digits=new)
    else:
        wanted = replace(shown, colours=other_colours(shown.colours, generator))
    # the same draws of words: both sentences are alike but for what changes
    return Task(images, shown, wanted, captions(shown, seed), captions(wanted, seed))


def other_colours(colours, generator):
    """Give the first digit of each scene a colour that neither has, each alike often."""
    new = colours.clone()
    for row, (first, second) in enumerate(colours.tolist()):
        free = [c for c in range(len(COLOURS)) if c not in (first, second)]
        new[row, 0] = free[int(torch.randint(len(free), (), generator=generator))]
    return new


def overlap(a, b):
    """Intersection over union of the ink of float pictures (N, C, H, W) in [-1, 1]: (N,)."""
    ink_a, ink_b = ((x.amax(1) + 1) / 2 > INK for x in (a, b))
    both = (ink_a & ink_b).sum((1, 2))
    return both / (ink_a | ink_b).sum((1, 2)).clamp(min=1)


def judged(images, task: Task, classifier) -> dict[str, float]:
    """Shares of the pictures that are as asked, and how much of the ink is where it was."""
    right = agreement(detect(images, classifier), task.wanted)
    kept = overlap(images, to_float(task.images))
    found = {name: right[name].float().mean().item()
             for name in ("all", "digit", "colour", "place")}
    both = right["all"] & (kept > OVERLAP)
    return {**found, "overlap": kept.mean().item(), "both": both.float().mean().item()}


def seam(images, mask):
    """The mean difference of neighbouring pixels across the edge of a mask.

    images (N, C, H, W), mask (N or 1, 1, H, W) bool.
    """
    total, count = 0.0, 0
    mask = mask.expand(len(images), -1, -1, -1)
    for axis in (2, 3):
        size = images.shape[axis] - 1
        a, b = images.narrow(axis, 0, size), images.narrow(axis, 1, size)
        edge = mask.narrow(axis, 0, size) != mask.narrow(axis, 1, size)
        step = (a - b).abs().mean(1, keepdim=True)
        total += (step * edge).sum().item()
        count += int(edge.sum())
    return total / max(count, 1)


def within(share: float, n: int) -> float:
    """Half the width of the 95 % interval of a share of n (Agresti & Coull 1998)."""
    centre = (share * n + 2) / (n + 4)
    return 1.96 * (centre * (1 - centre) / (n + 4)) ** 0.5
