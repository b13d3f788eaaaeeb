"""Maps of pictures, which a control network is told: where edges are, and what stands where.

    edges(images)               (N, 1, H, W)     Canny's thin lines, of any pictures
    segments(images, truth)     (N, 16, H, W)    a digit's class and colour, around its ink

And how well a drawn picture agrees with a map: `edge_f1`, `segment_iou`.
"""

import torch
import torch.nn.functional as F

from minildm.data.combinations import COLOURS, Truth
from minildm.data.detection import INK
from minildm.data.geometry import hue_of

LOW, HIGH = 0.12, 0.3       # of the brightness's slope, whose largest is 1
AROUND = ((0, 1), (1, 1), (1, 0), (1, -1))      # neighbours (down, right) at 0, 45, 90, 135 degrees


def slopes(images):
    """The brightness's slope to the right and downwards: (N, C, H, W) -> two of (N, 1, H, W).

    By Sobel's filter; brightness is the brightest channel's, in [0, 1], so a slope is in [-1, 1].
    """
    grey = (images.amax(1, keepdim=True) + 1) / 2
    right = torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4.0
    filters = torch.stack([right, right.T])[:, None].to(grey)               # (2, 1, 3, 3)
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, filters).chunk(2, dim=1)


def edges(images, low: float = LOW, high: float = HIGH):
    """Thin edges of float pictures (N, C, H, W) in [-1, 1]: (N, 1, H, W) of zeros and ones.

    Canny's detector (1986) without its blur, which pictures of 32 x 32 don't need: an edge is where
    the slope is the steepest along its own direction, and steeper than `high`, or than `low` and
    connected with such a one.
    """
    right, down = slopes(images)
    steep = (right.square() + down.square()).sqrt()
    towards = (torch.atan2(down, right) / (torch.pi / 4)).round() % 4       # 0, 45, 90, 135 degrees
    thin = torch.zeros_like(steep, dtype=torch.bool)
    for k, (dy, dx) in enumerate(AROUND):
        behind, ahead = shifted(steep, -dy, -dx), shifted(steep, dy, dx)
        # of two equal ones only the first is an edge
        thin |= (towards == k) & (steep > behind) & (steep >= ahead)
    found = (thin & (steep > high)).float()
    weak = (thin & (steep > low)).float()
    while True:
        more = F.max_pool2d(found, 3, 1, 1) * weak
        if torch.equal(more, found):
            return found
        found = more


def shifted(x, dy: int, dx: int):
    """The neighbour dy rows below and dx columns to the right of each position; outside is 0."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (1, 1, 1, 1))
    return padded[..., 1 + dy:1 + dy + height, 1 + dx:1 + dx + width]


def edge_f1(drawn, wanted, tolerance: int = 1):
    """F1 of edge maps (N, 1, H, W), where an edge counts that has one so many pixels away: (N,)."""
    side = 2 * tolerance + 1
    near_drawn, near_wanted = (F.max_pool2d(x, side, 1, tolerance) for x in (drawn, wanted))
    precision = (drawn * near_wanted).sum((1, 2, 3)) / drawn.sum((1, 2, 3)).clamp(min=1)
    recall = (wanted * near_drawn).sum((1, 2, 3)) / wanted.sum((1, 2, 3)).clamp(min=1)
    return 2 * precision * recall / (precision + recall).clamp(min=1e-6)


# ---- what stands where

def segments(images, truth: Truth):
    """Which digit, in which colour, each pixel of scenes (N, 3, H, W) in [-1, 1] belongs to.

    (N, 16, H, W) bool: ten channels for the digits' classes, six for the colours. A digit's region
    is its ink and the pixels around it, so that the map says roughly where, and not how, it is
    written.
    """
    ink = F.max_pool2d(((images.amax(1, keepdim=True) + 1) / 2 > INK).float(), 3, 1, 1) > 0
    n, _, height, width = images.shape
    maps = torch.zeros(n, 10 + len(COLOURS), height, width, dtype=torch.bool)
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    rows = torch.arange(n)
    for k in range(2):
        left, top, right, bottom = truth.boxes[:, k, :, None, None].unbind(1)
        # a pixel more on each side, as the ink was widened
        inside = (x > left - 1) & (x < right + 1) & (y > top - 1) & (y < bottom + 1)
        there = truth.digits[:, k] >= 0
        region = ink[:, 0] & inside & there[:, None, None]
        for channel in truth.digits[:, k], 10 + truth.colours[:, k]:
            # a digit that is not there, -1, adds an empty region
            maps[rows, channel.clamp(min=0)] |= region
    return maps


def colour_map(images):
    """The number in COLOURS of each pixel of pictures (N, 3, H, W), or -1: (N, H, W)."""
    rgb = ((images + 1) / 2).movedim(1, -1)
    return torch.where(rgb.amax(-1) > INK, (hue_of(rgb) / 60).round().long() % 6, -1)


def segment_iou(drawn, wanted):
    """Pixels of one colour in both pictures, over those that have ink in either: (N,).

    Both are pictures (N, 3, H, W) in [-1, 1]; 1 where each pixel of ink has the wanted colour.
    """
    drawn, wanted = colour_map(drawn), colour_map(wanted)
    both = ((drawn == wanted) & (drawn >= 0)).sum((1, 2))
    return both / ((drawn >= 0) | (wanted >= 0)).sum((1, 2)).clamp(min=1)
