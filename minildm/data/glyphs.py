"""Digits drawn from fonts under random poses, by seed: they need no download and are the same
everywhere.

A digit of a font is kept as a field of distances to its outline (as in Green 2007, "Improved
alpha-tested magnification"): cut at a level it is the digit, and the level is the weight of its
stroke.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from minildm.data.cache import Part
from minildm.data.wordings import DIGITS

FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-Bold",
         "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic",
         "cmr10", "cmb10", "cmss10", "cmtt10", "cmti10")
SIDE = 28       # of a picture, in pixels
FIELD = 64      # side of a field of distances
AT_ONCE = 1000  # pictures drawn at a time, for the sake of memory


@dataclass(frozen=True, eq=False)
class Pose:
    """How n digits lie in their pictures: `affine` (n, 2, 3) from picture to field, `level` and
    `pixel` (n,).

    level: where the field is cut; pixel: the side of a pixel in the field's units, the width of
    an edge.
    """

    affine: torch.Tensor
    level: torch.Tensor
    pixel: torch.Tensor


def draw_glyphs(counts: dict[str, int]) -> dict[str, Part]:
    """Draw counts[split] digits for each split, all ten in turn: images (n, 1, 28, 28) uint8."""
    fields = _distance_fields()                             # (10 * fonts, 1, 64, 64)
    parts = {}
    for seed, (split, n) in enumerate(counts.items()):
        labels = torch.arange(n) % 10
        draws = torch.rand(n, 8, generator=torch.Generator().manual_seed(seed))
        font = (draws[:, 0] * len(FONTS)).long()
        glyph = labels * len(FONTS) + font
        # the order of the draws decides what a seed draws
        images = _render(fields, glyph, _pose(draws[:, 1:]))
        parts[split] = Part(images, labels, DIGITS)
    return parts


def _pose(draws) -> Pose:
    """The pose that uniform draws (n, 7) stand for: turn, slant, weight, stretch, shift."""
    n = len(draws)
    turn = 0.6 * (draws[:, 0] - 0.5)                        # radians
    slant = 0.6 * (draws[:, 1] - 0.5)
    level = 0.055 * draws[:, 2] - 0.005
    height = 1.1 + 0.45 * draws[:, 3]
    width = 1.0 + 0.55 * draws[:, 4]
    shift = 0.24 * (draws[:, 5:, None] - 0.5)               # (n, 2, 1)
    rotate = torch.stack([turn.cos(), turn.sin(), -turn.sin(), turn.cos()], 1).view(n, 2, 2)
    shear = torch.stack([1 / width, slant / height, 0 * width, 1 / height], 1).view(n, 2, 2)
    # grid_sample asks, for a point of the picture, where in the field it is: the inverse of the
    # pose
    inverse = shear @ rotate
    affine = torch.cat([inverse, -inverse @ shift], 2)
    pixel = 2 / SIDE / (height * width).sqrt()
    return Pose(affine, level, pixel)


def _render(fields, glyph, pose: Pose):
    """Cut the fields of these glyphs (n,) under their poses: (n, 1, 28, 28) uint8."""
    n = len(glyph)
    images = torch.zeros(n, 1, SIDE, SIDE, dtype=torch.uint8)
    for i in torch.arange(n).split(AT_ONCE):
        shape = (len(i), 1, SIDE, SIDE)
        grid = F.affine_grid(pose.affine[i], shape, align_corners=False)
        inside = F.grid_sample(fields[glyph[i]], grid, padding_mode="border", align_corners=True)
        level = pose.level[i, None, None, None]
        pixel = pose.pixel[i, None, None, None]
        # soft over the width of a pixel: that is the anti-aliasing
        ink = 0.5 + (inside + level) / pixel
        images[i] = (255 * ink.clamp(0, 1)).round().to(torch.uint8)
    return images


def _distance_fields():
    """The distance to the outline, positive inside, for each digit and font: (140, 1, 64, 64)."""
    # here, since importing it takes a second that other sets don't need
    from matplotlib import get_data_path
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    axis = torch.linspace(-1, 1, FIELD)
    upwards = torch.tensor([1, -1])                    # pictures count rows downwards, fonts do not
    points = torch.cartesian_prod(axis, axis).flip(1) * upwards
    fields = []
    for digit in "0123456789":
        for font in FONTS:
            properties = FontProperties(fname=f"{get_data_path()}/fonts/ttf/{font}.ttf")
            outline = TextPath((0, 0), digit, 100, properties)
            loops = [torch.from_numpy(loop).float() for loop in outline.to_polygons()]
            loops = _centred(loops)
            fields.append(_distance_inside(loops, points).view(FIELD, FIELD))
    return torch.stack(fields)[:, None]


def _centred(loops: list) -> list:
    """Closed loops (S, 2) moved to the middle, and scaled to a height of 1."""
    corners = torch.cat(loops)
    low = corners.amin(0)
    high = corners.amax(0)
    height = (high - low)[1]
    return [(loop - (low + high) / 2) / height for loop in loops]


def _distance_inside(loops, points):
    """How far inside closed loops [(S, 2)] the points (P, 2) lie, negative outside: (P,)."""
    start = torch.cat([loop[:-1] for loop in loops])
    end = torch.cat([loop[1:] for loop in loops])
    edge = end - start                                                          # (S, 2)
    to_point = points[:, None] - start                                          # (P, S, 2)
    length = (edge * edge).sum(-1).clamp(min=1e-12)
    along = ((to_point * edge).sum(-1) / length).clamp(0, 1)                    # (P, S)
    distance = (to_point - along[..., None] * edge).norm(dim=-1).amin(1)        # (P,)
    # a point is inside if the ray to its right crosses the outline an odd number of times
    crossed = (start[:, 1] <= points[:, 1:]) != (end[:, 1] <= points[:, 1:])
    cross = edge[:, 0] * to_point[..., 1] < edge[:, 1] * to_point[..., 0]
    right = cross == (edge[:, 1] < 0)
    odd = (crossed & right).sum(1) % 2 == 1
    return torch.where(odd, distance, -distance)
