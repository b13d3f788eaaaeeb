"""Moving digits: short films of one or two digits that bounce in a 32 x 32 frame, with the truth.

    films, truth = compose(digits, labels, 2000)        # uint8 (2000, 12, 1, 32, 32)
    captions(truth)[0]                                  # "a three moves right and down and bounces"

The point that moves is a digit's centre of mass. Each of its two coordinates runs at constant
velocity and turns round at the limits `LOW` and `HIGH`, so that a path is known from four numbers.
(Srivastava et al. 2015 draw such films of two digits, arXiv:1502.04681.)
"""

from dataclasses import dataclass, fields

import torch

from minildm.data.geometry import SIZE, boxes_of, resample
from minildm.data.wordings import DIGITS, with_article

FRAMES = 12
LOW, HIGH = 9.0, 23.0       # where a digit's centre of mass turns round, in pixels
SIDE = 16.0                 # the longer side of a digit
SPEEDS = 1.0, 2.2           # pixels per frame, slowest and fastest
AT_ONCE = 200               # films drawn at a time, for the sake of memory
# eight directions of 45 degrees each, the first around "right"; y points down
DIRECTIONS = ("right", "right and down", "down", "left and down",
              "left", "left and up", "up", "right and up")
NOTHING = -1


@dataclass(frozen=True, eq=False)
class Truth:
    """What happens in N films of F frames with K digits; -1 stands where there is no second digit.

    labels (N, K) int64; positions (N, F, K, 2) and velocities (N, K, 2) as (x, y) in pixels and
    pixels per frame. The velocities are those of the first frame, before any bounce.
    """

    labels: torch.Tensor
    positions: torch.Tensor
    velocities: torch.Tensor

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, pick) -> "Truth":
        return Truth(*(getattr(self, f.name)[pick] for f in fields(self)))

    @property
    def directions(self):
        """Which of `DIRECTIONS` each digit sets out in: (N, K)."""
        x, y = self.velocities.unbind(-1)
        eighths = torch.atan2(y, x) / (torch.pi / 4)
        return eighths.round().long() % len(DIRECTIONS)

    @property
    def bounces(self):
        """Whether each digit turns round in the film: (N, K) bool."""
        steps = self.positions.diff(dim=1)                                  # (N, F - 1, K, 2)
        # away from the limits every step is the same
        return ((steps - self.velocities[:, None]).abs() > 1e-3).any(-1).any(1)


def bounced(straight, low: float = LOW, high: float = HIGH):
    """Fold coordinates of any size into [low, high], as mirrors at both limits would."""
    span = high - low
    phase = (straight - low) % (2 * span)
    return low + torch.where(phase > span, 2 * span - phase, phase)


def paths(start, velocity, frames: int = FRAMES):
    """Positions (..., frames, 2) from a start and a velocity (..., 2), with the bounces."""
    i = torch.arange(frames).to(start)
    return bounced(start[..., None, :] + velocity[..., None, :] * i[:, None])


def compose(digits, labels, n: int, seed: int = 0, frames: int = FRAMES, count: int = 1):
    """Draw n films of grey digits (M, 1, h, w) uint8 with labels (M,), and their Truth.

    -> uint8 (n, frames, 1, 32, 32). `count` is the largest number of digits: with 2 every other
    film has two of them, which pass through each other.
    """
    draws = torch.rand(n, 2, 6, generator=torch.Generator().manual_seed(seed))[:, :count]
    which = (draws[..., 0] * len(labels)).long()                            # (n, K)
    start = LOW + (HIGH - LOW) * draws[..., 1:3]
    slow, fast = SPEEDS
    speed = slow + (fast - slow) * draws[..., 3]
    angle = 2 * torch.pi * draws[..., 4]
    velocity = speed[..., None] * torch.stack([angle.cos(), angle.sin()], -1)
    positions = paths(start, velocity, frames).movedim(1, 2)                # (n, F, K, 2)
    there = torch.ones(n, count, dtype=torch.bool)
    there[::2, 1:] = False

    films = torch.zeros(n, frames, 1, SIZE, SIZE, dtype=torch.uint8)
    for i in torch.arange(n).split(AT_ONCE):
        ink = torch.zeros(len(i), frames, 1, SIZE, SIZE)
        for k in range(count):
            moving = _moved(digits[which[i, k]], positions[i, :, k])
            # the brighter of two digits is seen where they cross
            ink = torch.maximum(ink, moving * there[i, k].reshape(-1, 1, 1, 1, 1))
        films[i] = (255 * ink).round().clamp(0, 255).to(torch.uint8)
    return films, Truth(torch.where(there, labels[which], NOTHING), positions, velocity)


def _moved(digits, positions):
    """One digit a film, (n, 1, h, w) uint8, at its positions (n, F, 2): ink (n, F, 1, 32, 32)."""
    frames = positions.shape[1]
    ink = digits.float() / 255
    box = boxes_of(ink[:, 0] > 0.25)                                        # (n, 4)
    scale = SIDE / (box[:, 2:] - box[:, :2]).amax(1)
    centre = mass_centre(ink[:, 0])
    each = [values.repeat_interleave(frames, 0) for values in (ink, centre, scale)]
    moved = resample(each[0], each[1], positions.flatten(0, 1), each[2], SIZE)
    return moved.unflatten(0, (-1, frames))


def mass_centre(ink):
    """The centre of mass (x, y) of ink (..., h, w), in pixels; the middle where there is none."""
    h, w = ink.shape[-2:]
    mass = ink.sum((-2, -1)).clamp(min=1e-6)
    # a pixel's centre is half a pixel from its edge
    x = (ink.sum(-2) * (torch.arange(w) + 0.5)).sum(-1) / mass
    y = (ink.sum(-1) * (torch.arange(h) + 0.5)).sum(-1) / mass
    there = ink.sum((-2, -1)) > 1e-6
    return torch.stack([torch.where(there, x, w / 2), torch.where(there, y, h / 2)], -1)


def captions(truth: Truth) -> list[str]:
    """A sentence a film: "a three moves left and up and bounces"; two digits are joined by "while".
    """
    directions, bounces = truth.directions.tolist(), truth.bounces.tolist()
    sentences = []
    for i, labels in enumerate(truth.labels.tolist()):
        parts = []
        for k, label in enumerate(labels):
            if label >= 0:
                ending = " and bounces" if bounces[i][k] else ""
                name = with_article(DIGITS[label])
                parts.append(f"{name} moves {DIRECTIONS[directions[i][k]]}{ending}")
        sentences.append(" while ".join(parts))
    return sentences
