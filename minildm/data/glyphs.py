"""Digits drawn from fonts under random poses, by seed: they need no download and are the same everywhere."""

import torch
import torch.nn.functional as F

from minildm.data.wordings import DIGITS

FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-Bold",
         "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic",
         "cmr10", "cmb10", "cmss10", "cmtt10", "cmti10")


def draw_glyphs(counts: dict[str, int]) -> dict[str, tuple]:
    """Digits as distances to their outlines, (64, 64) each, under random affine maps, cut at a random level.

    The level is the weight of the stroke, the softness of the cut the anti-aliasing. (n, 1, 28, 28) a split.
    """
    from matplotlib import get_data_path
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    axis = torch.linspace(-1, 1, 64)
    points = torch.cartesian_prod(axis, axis).flip(1) * torch.tensor([1, -1])       # row by row, y upwards
    fields = []
    for digit in "0123456789":
        for font in FONTS:
            properties = FontProperties(fname=f"{get_data_path()}/fonts/ttf/{font}.ttf")
            outline = TextPath((0, 0), digit, 100, properties)
            loops = [torch.from_numpy(loop).float() for loop in outline.to_polygons()]
            low, high = torch.cat(loops).amin(0), torch.cat(loops).amax(0)
            loops = [(loop - (low + high) / 2) / (high - low)[1] for loop in loops]     # centred, of height 1
            fields.append(_distance_inside(loops, points).view(64, 64))
    fields, sets = torch.stack(fields)[:, None], {}
    for seed, (split, n) in enumerate(counts.items()):
        labels = torch.arange(n) % 10
        u = torch.rand(n, 8, generator=torch.Generator().manual_seed(seed))
        which = labels * len(FONTS) + (u[:, 0] * len(FONTS)).long()
        turn, slant, level = 0.6 * (u[:, 1] - 0.5), 0.6 * (u[:, 2] - 0.5), 0.055 * u[:, 3] - 0.005
        height, width, shift = 1.1 + 0.45 * u[:, 4], 1.0 + 0.55 * u[:, 5], 0.24 * (u[:, 6:, None] - 0.5)
        rotate = torch.stack([turn.cos(), turn.sin(), -turn.sin(), turn.cos()], 1).view(n, 2, 2)
        shear = torch.stack([1 / width, slant / height, 0 * width, 1 / height], 1).view(n, 2, 2)
        pose = shear @ rotate                                                            # canvas -> glyph
        affine = torch.cat([pose, -pose @ shift], 2)
        pixel = 2 / 28 / (height * width).sqrt()
        images = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
        for i in torch.arange(n).split(1000):
            grid = F.affine_grid(affine[i], (len(i), 1, 28, 28), align_corners=False)
            inside = F.grid_sample(fields[which[i]], grid, padding_mode="border", align_corners=True)
            ink = 0.5 + (inside + level[i, None, None, None]) / pixel[i, None, None, None]
            images[i] = (255 * ink.clamp(0, 1)).round().to(torch.uint8)
        sets[split] = images, labels, list(DIGITS), []
    return sets


def _distance_inside(loops, points):
    """How far inside the closed loops [(S, 2)] each of the points (P, 2) lies, (P,); negative outside."""
    a, b = torch.cat([loop[:-1] for loop in loops]), torch.cat([loop[1:] for loop in loops])
    ab, ap = b - a, points[:, None] - a                                                  # (S, 2), (P, S, 2)
    along = ((ap * ab).sum(-1) / (ab * ab).sum(-1).clamp(min=1e-12)).clamp(0, 1)
    distance = (ap - along[..., None] * ab).norm(dim=-1).amin(1)
    crossed = (a[:, 1] <= points[:, 1:]) != (b[:, 1] <= points[:, 1:])               # by the ray to the right
    right = (ab[:, 0] * ap[..., 1] < ab[:, 1] * ap[..., 0]) == (ab[:, 1] < 0)
    return torch.where((crossed & right).sum(1) % 2 == 1, distance, -distance)           # even-odd rule
