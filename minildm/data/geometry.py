"""Hues, boxes and points of pictures: what composing a scene and finding its parts share.

Points are (x, y) in pixels, boxes are left, top, right, bottom.
"""

import torch
import torch.nn.functional as F

SIZE = 32       # side of a scene


def hsv_to_rgb(hue, saturation: float, value):
    """Hue in degrees and value (...) -> red, green, blue (..., 3) (Smith 1978)."""
    # red is full at 0 degrees, green at 120, blue at 240: a third of the circle apart
    sixth = hue[..., None] / 60
    k = (torch.tensor([5.0, 3.0, 1.0]) + sixth) % 6
    away = torch.minimum(k, 4 - k).clamp(0, 1)
    return value[..., None] * (1 - saturation * away)


def hue_of(rgb):
    """Red, green, blue (..., 3) -> hue in degrees, 0 to 360: the angle around the axis of greys."""
    r, g, b = rgb.unbind(-1)
    # the three axes seen along the grey diagonal stand 120 degrees apart
    y = 3**0.5 * (g - b)
    x = 2 * r - g - b
    return torch.rad2deg(torch.atan2(y, x)) % 360


def boxes_of(mask):
    """The smallest box around what is True, zeros where nothing is: (M, H, W) -> (M, 4)."""
    left, right = _ends(mask.any(1))
    top, bottom = _ends(mask.any(2))
    return torch.stack([left, top, right, bottom], 1).float()


def _ends(line):
    """The first True of each row (M, side), and one after the last; both 0 if there is none."""
    side = line.shape[1]
    # argmax gives the first of equals
    first = line.int().argmax(1)
    after = side - line.flip(1).int().argmax(1)
    return first, after * line.any(1)


def resample(images, source, target, scale, size: int):
    """Enlarge images (M, C, h, w) by scale (M,), so that the point source (M, 2) comes to be at
    target.

    Returns (M, C, size, size), which is 0 beyond the image.
    """
    height, width = images.shape[-2:]
    sides = torch.tensor([width, height])
    # grid_sample asks where a point of the output comes from, in units of half a side of the input
    slope = size / (scale[:, None] * sides)
    shift = 2 / sides * ((size / 2 - target) / scale[:, None] + source) - 1
    theta = torch.cat([torch.diag_embed(slope), shift[..., None]], -1)          # (M, 2, 3)
    grid = F.affine_grid(theta, (len(images), 1, size, size), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def centre_of_mass(maps):
    """Where maps (..., h, w) are high, as (x, y) in pixels of a scene (..., 2).

    Only their part above the mean is weighed.
    """
    h, w = maps.shape[-2:]
    # an even background has its centre in the middle, and would pull everything there
    mass = (maps - maps.mean((-2, -1), keepdim=True)).clamp(min=0)
    mass = mass / mass.sum((-2, -1), keepdim=True).clamp(min=1e-12)
    # a cell's centre is half a cell from its edge
    x = SIZE * (torch.arange(w) + 0.5) / w
    y = SIZE * (torch.arange(h) + 0.5) / h
    across = (mass.sum(-2) * x).sum(-1)
    down = (mass.sum(-1) * y).sum(-1)
    return torch.stack([across, down], -1)


def inside(points, boxes):
    """Whether points (..., 2) lie in boxes (..., 4), (...) bool."""
    after = boxes[..., :2] <= points
    before = points <= boxes[..., 2:]
    return (after & before).all(-1)
