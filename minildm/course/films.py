"""What a film of a moving digit shows: where the digit is, which it is, and how steady it is.

Films are float (N, F, 1, 32, 32) in [-1, 1]. A path of `data.moving` is known from a start and a
velocity; `fit_paths` finds them again from the centres of mass, and what is left over is the path's
error. Digits are read frame by frame by a classifier of grey digits, as in `data.detection`.
"""

from typing import NamedTuple

import torch

from minildm.data.detection import INK, digits_in
from minildm.data.geometry import boxes_of, resample
from minildm.data.moving import HIGH, LOW, SPEEDS, bounced, mass_centre
from minildm.evaluation.classifier import Classifier, in_batches
from minildm.evaluation.metrics import frechet_distance

FAINT = 0.15        # ink below this is haze of the decoder, which would pull the centre of mass
NEAR = 1.0          # pixels that each frame of a right path may be away from it
SLACK = 0.25        # how far a right path's speed may be outside of the data's, relative
ALIGNED = 24        # side of the window in which two frames are compared


class Paths(NamedTuple):
    """The bouncing paths that fit N films best; distances (N, F) from them in pixels."""

    start: torch.Tensor         # (N, 2)
    velocity: torch.Tensor      # (N, 2), pixels per frame
    distances: torch.Tensor

    @property
    def error(self):
        """The mean distance over the frames of each film: (N,)."""
        return self.distances.mean(1)

    @property
    def right(self):
        """Whether each frame is near the path, and the digit moves as fast as digits do: (N,)."""
        speed = self.velocity.norm(dim=1)
        slow, fast = SPEEDS
        moves = ((1 - SLACK) * slow < speed) & (speed < (1 + SLACK) * fast)
        return (self.distances.amax(1) < NEAR) & moves


def ink_of(films):
    """How bright each pixel is, without haze: (N, F, 1, H, W) in [-1, 1] -> (N, F, H, W)."""
    ink = ((films[:, :, 0] + 1) / 2).clamp(0, 1)
    return ink * (ink > FAINT)


def centres_of(films):
    """The digit's centre of mass in each frame, (N, F, 2) as (x, y) in pixels."""
    return mass_centre(ink_of(films))


def fit_paths(points) -> Paths:
    """Find the start and the velocity whose bouncing path is nearest to points (N, F, 2).

    Both coordinates are fitted alone, by a search over a grid, and then over two finer ones
    around the best.
    """
    axes = [_fit_axis(points[..., k]) for k in (0, 1)]
    start, velocity = (torch.stack([axis[i] for axis in axes], -1) for i in (0, 1))
    i = torch.arange(points.shape[1])
    path = bounced(start[:, None] + velocity[:, None] * i[:, None])
    return Paths(start, velocity, (points - path).norm(dim=-1))


def _fit_axis(x):
    """Start and velocity (N,) of one coordinate x (N, F)."""
    n = len(x)
    start = torch.arange(LOW, HIGH + 0.1, 0.5).expand(n, -1)
    velocity = torch.arange(-3.0, 3.01, 0.1).expand(n, -1)
    for width, step in ((0.5, 0.1), (0.1, 0.02), (None, None)):
        best = [_best(x[k], start[k], velocity[k]) for k in range(n)]
        found = torch.tensor(best)                                          # (N, 2)
        if width is not None:
            around = torch.arange(-width, width + step / 2, step)
            start = (found[:, :1] + around).clamp(LOW, HIGH)
            velocity = found[:, 1:] + 0.2 * around
    return found[:, 0], found[:, 1]


def _best(x, starts, velocities):
    """The pair of a grid whose path is nearest to x (F,) in squares."""
    i = torch.arange(len(x))
    path = bounced(starts[:, None, None] + velocities[:, None] * i)         # (S, V, F)
    error = (path - x).square().mean(-1)
    at = error.argmin()
    return (starts[at // len(velocities)].item(), velocities[at % len(velocities)].item())


def digits_of(films, classifier: Classifier):
    """The digit that the classifier reads in each frame: (N, F)."""
    ink = ink_of(films).flatten(0, 1)                                       # (N F, H, W)
    boxes = boxes_of(ink > INK)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    read = digits_in(ink[:, None], boxes[:, None], centre[:, None], classifier)
    return read.reshape(films.shape[:2])


def flicker(films):
    """How much the digit's ink changes from frame to frame once its movement is taken out: (N,).

    Each frame is shifted so that its centre of mass stands in the middle of a window; the mean
    absolute difference of neighbours there, in units of their mean ink. 0: a rigid digit.
    """
    n, frames = films.shape[:2]
    ink = ink_of(films).flatten(0, 1)[:, None]
    middle = torch.full((n * frames, 2), ALIGNED / 2)
    one = torch.ones(n * frames)
    still = resample(ink, centres_of(films).flatten(0, 1), middle, one, ALIGNED)
    still = still.reshape(n, frames, -1)
    change = still.diff(dim=1).abs().mean((1, 2))
    return change / still.mean((1, 2)).clamp(min=1e-6)


def judge_films(films, labels, real, classifier: Classifier) -> dict[str, float]:
    """All measures of films that were asked to show labels (N,), as shares and means.

    `real` are real films that their frames are compared with: another set than the floor's.
    """
    read = digits_of(films, classifier)
    found = fit_paths(centres_of(films))
    frames = in_batches(classifier.features, films.flatten(0, 1))
    theirs = in_batches(classifier.features, real.flatten(0, 1))
    return {
        "same digit": (read == read[:, :1]).all(1).float().mean().item(),
        "as asked": (read == labels[:, None]).all(1).float().mean().item(),
        "path error": found.error.mean().item(),
        "path right": found.right.float().mean().item(),
        "flicker": flicker(films).mean().item(),
        "frames' FD": frechet_distance(frames, theirs),
    }
