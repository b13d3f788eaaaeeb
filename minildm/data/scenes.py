"""Scenes: one or two coloured digits on a black 32 x 32 canvas, sentences about them, and what is there.

    images, truth = compose(digits, labels, 40_000)      # "a red three left of a blue eight"
    agreement(detect(images, classifier), truth)         # is what is there what was asked for?

A digit, its colour and where it stands (five places for one alone, or on one side of another) make a
combination; a fifth of the 540 are held out of training, so that a model's pictures of them show whether it
has learned the words or the sentences (Lake & Baroni 2018 ask so of sentences, arXiv:1711.00350).
"""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F

from minildm.data.wordings import DIGITS, with_article

SIZE = 32
COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")     # hues of 0, 60, ... 300 degrees
PLACES = ("top left", "top right", "bottom left", "bottom right", "middle", "left", "right", "above", "below")
CENTRES = torch.tensor([[9, 9], [23, 9], [9, 23], [23, 23], [16, 16], [8, 16], [24, 16], [16, 8], [16, 24.]])
SPOTS = (("in the top left", "in the upper left", "at the top left"),
         ("in the top right", "in the upper right", "at the top right"),
         ("in the bottom left", "in the lower left", "at the bottom left"),
         ("in the bottom right", "in the lower right", "at the bottom right"),
         ("in the middle", "in the centre", "at the centre"))
RELATIONS = {5: ("{} left of {}", "{} to the left of {}", "{} on the left and {} on the right"),
             6: ("{} right of {}", "{} to the right of {}", "{} on the right and {} on the left"),
             7: ("{} above {}", "{} over {}", "{} at the top and {} at the bottom"),
             8: ("{} below {}", "{} under {}", "{} at the bottom and {} at the top")}
STARTS = ("", "", "a picture of ", "there is ")


@dataclass(frozen=True, eq=False)
class Truth:
    """What stands in N scenes, two places each, the left or upper one first; -1 where there is no second.

    digits, colours, places (N, 2) int64; boxes (N, 2, 4) in pixels: left, top, right, bottom.
    """

    digits: torch.Tensor
    colours: torch.Tensor
    places: torch.Tensor
    boxes: torch.Tensor

    def __len__(self):
        return len(self.digits)

    def __getitem__(self, pick) -> "Truth":
        return Truth(*(getattr(self, f.name)[pick] for f in fields(self)))

    @property
    def held_out(self):
        """Whether a combination of the scene is kept from training, (N,)."""
        return (is_held_out(self.digits, self.colours, self.places) & (self.digits >= 0)).any(1)


def is_held_out(digit, colour, place):
    """One combination in five: of each digit and colour some places, of each colour and place two digits."""
    return (digit + 2 * colour + 3 * place) % 5 == 0


def catalogue() -> Truth:
    """Every scene there can be, but for handwriting and jitter: 300 of one digit, 6,000 of two; no boxes."""
    digit, colour = torch.cartesian_prod(torch.arange(10), torch.arange(6)).T               # (60,)
    first, second = torch.cartesian_prod(torch.arange(60), torch.arange(60)).T
    first, second = (i[colour[first] != colour[second]] for i in (first, second))                    # (3000,)
    rows = [torch.stack([digit, colour, torch.full_like(digit, place)], 1) for place in range(5)]
    ones = torch.cat(rows)                                                                  # (300, 3)
    ones = torch.stack([ones, torch.full_like(ones, -1)], 1)                                # (300, 2, 3)
    twos = [torch.stack([torch.stack([digit[i], colour[i], torch.full_like(i, place)], 1)
                         for i, place in ((first, a), (second, a + 1))], 1) for a in (5, 7)]
    table = torch.cat([ones, *twos])                                                        # (6300, 2, 3)
    return Truth(*table.unbind(-1), torch.zeros(len(table), 2, 4))


def compose(digits, labels, n: int, seed: int = 0, held_out: bool | None = None):
    """n scenes of grey digits (M, 1, h, w) uint8 with labels (M,): uint8 (n, 3, 32, 32), and their Truth.

    Half show one digit, half two of different colours. held_out True: only scenes with a combination that
    training lacks; False: none of them; None: all alike.
    """
    generator = torch.Generator().manual_seed(seed)
    every = catalogue()
    if held_out is not None:
        every = every[every.held_out == held_out]
    alone = every.digits[:, 1] < 0
    ones, twos = alone.nonzero()[:, 0], (~alone).nonzero()[:, 0]
    u = torch.rand(n, 2, 8, generator=generator)
    ones, twos = (rows[(u[:, 0, 0] * len(rows)).long()] for rows in (ones, twos))                       # (n,)
    scenes = every[torch.where(u[:, 1, 0] < 0.5, ones, twos)]
    there = scenes.digits >= 0                                                              # (n, 2)

    counts = labels.bincount(minlength=10)
    first = (counts.cumsum(0) - counts)[scenes.digits]
    which = labels.argsort(stable=True)[first + (u[..., 1] * counts[scenes.digits]).long()]           # (n, 2)
    wobble, corner, pair = 2 * u[..., 2:4] - 1, scenes.places[:, :1] < 4, scenes.places[:, :1] > 4
    size = torch.where(pair, 10.5 + 2 * u[..., 4], torch.where(corner, 13, 14) + 3 * u[..., 4])
    centre = CENTRES[scenes.places] + wobble * torch.where(pair, 0.75, 1)[..., None]               # (n, 2, 2)
    across = 10 * u[:, :1, 5:6] - 5                             # two digits move together across their axis
    sideways = scenes.places[:, :1, None] == 5
    centre = centre + across * pair[..., None] * torch.cat([~sideways, sideways], -1)

    hue = 60 * scenes.colours + 20 * (u[..., 6] - 0.5)
    rgb = hsv_to_rgb(hue, 0.85, 0.75 + 0.25 * u[..., 7])                                    # (n, 2, 3)
    images, boxes = torch.zeros(n, 3, SIZE, SIZE, dtype=torch.uint8), torch.zeros(n, 2, 4)
    for i in torch.arange(n).split(2000):
        ink = digits[which[i].flatten()].float() / 255                                      # (2 n, 1, h, w)
        box = boxes_of(ink[:, 0] > 0.25)                                                    # (2 n, 4)
        side = box[:, 2:] - box[:, :2]
        scale = size[i].flatten() / side.amax(1)
        ink = resample(ink, (box[:, :2] + box[:, 2:]) / 2, centre[i].flatten(0, 1), scale, SIZE)
        half = (side * scale[:, None]).unflatten(0, (-1, 2)) / 2
        boxes[i] = torch.cat([centre[i] - half, centre[i] + half], -1) * there[i, :, None]
        ink = ink.unflatten(0, (-1, 2))[:, :, 0] * there[i, :, None, None]                  # (n, 2, H, W)
        light = torch.einsum("nkhw,nkc->nchw", ink, rgb[i])
        images[i] = (255 * light).round().clamp(0, 255).to(torch.uint8)
    return images, Truth(scenes.digits, scenes.colours, scenes.places, boxes)


def captions(truth: Truth, seed: int = 0, partial: float = 0.0) -> list[str]:
    """A sentence a scene, its wording drawn by seed; a share `partial` of them leaves something out.

    That is colours, digits, places, or all but one word: so prompts may be short, and negative ones too.
    """
    sentences = []
    u = torch.rand(len(truth), 8, generator=torch.Generator().manual_seed(seed)).tolist()
    rows = zip(truth.digits.tolist(), truth.colours.tolist(), truth.places.tolist(), u, strict=True)
    for digits, colours, places, (start, order, wording, leave, what, inverted, *_) in rows:
        n = 1 + (digits[1] >= 0)
        what = int(4 * what) if leave < partial else None
        names = []
        for k in range(n):
            colour = "" if what == 0 else COLOURS[colours[k]] + " "
            thing = colour + ("digit" if what == 1 else DIGITS[digits[k]])
            names.append(with_article(thing))
        k = int(order * n)
        if what == 3:
            sentences.append((COLOURS[colours[k]], DIGITS[digits[k]])[int(2 * wording)])
            continue
        if n == 1:
            spot = SPOTS[places[0]][int(3 * wording)]
            frame = 2 if what == 2 else int(1.3 * inverted)
            sentence = ("{} {}", "{1}, {0}", "{}")[frame].format(names[0], spot)
        else:
            relation = "{} and {}" if what == 2 else RELATIONS[places[k]][int(3 * wording)]
            sentence = relation.format(names[k], names[1 - k])
        sentences.append(("" if sentence.startswith(("in", "at")) else STARTS[int(4 * start)]) + sentence)
    return sentences


def hsv_to_rgb(hue, saturation: float, value):
    """Hue in degrees and value (...) -> red, green, blue (..., 3) (Smith 1978)."""
    k = (torch.tensor([5.0, 3.0, 1.0]) + hue[..., None] / 60) % 6
    return value[..., None] * (1 - saturation * torch.minimum(k, 4 - k).clamp(0, 1))


def hue_of(rgb):
    """Red, green, blue (..., 3) -> hue in degrees from 0 to 360, the angle in the plane of no brightness."""
    r, g, b = rgb.unbind(-1)
    return torch.rad2deg(torch.atan2(3**0.5 * (g - b), 2 * r - g - b)) % 360


def boxes_of(mask):
    """The smallest box around what is True: (M, H, W) -> (M, 4) left, top, right, bottom; empty: zeros."""
    ends = []
    for along in mask.any(1), mask.any(2):                                     # columns, then rows: (M, side)
        ends.append((along.int().argmax(1), (along.shape[1] - along.flip(1).int().argmax(1)) * along.any(1)))
    return torch.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], 1).float()


def resample(images, source, target, scale, size: int):
    """Enlarge images (M, C, h, w) by scale (M,), so that the point source (M, 2) comes to be at target.

    Points are (x, y) in pixels; -> (M, C, size, size), 0 beyond the image.
    """
    height, width = images.shape[-2:]
    sides = torch.tensor([width, height])
    slope = size / (scale[:, None] * sides)                                 # of input by output, each -1 to 1
    shift = 2 / sides * ((size / 2 - target) / scale[:, None] + source) - 1
    theta = torch.cat([torch.diag_embed(slope), shift[..., None]], -1)                      # (M, 2, 3)
    grid = F.affine_grid(theta, (len(images), 1, size, size), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


@torch.no_grad()
def detect(images, classifier) -> Truth:
    """What stands in float pictures (N, 3, 32, 32) in [-1, 1] on the CPU: colour by hue, place by the box,
    digit by a classifier of grey digits 28 x 28. An empty picture has digits -1.

    Two digits have an empty column or row between them; else it is one.
    """
    rgb = (images + 1) / 2
    ink = rgb.amax(1)                                                                       # (N, H, W)
    masks, gaps = [], []
    for axis in 2, 1:                                                          # a gap among columns, rows
        profile, mass = ink.amax(3 - axis), ink.sum(3 - axis).cumsum(1)                     # (N, 32)
        gap, cut = profile[:, 12:20].min(1)
        cut = cut + 12
        share = mass.gather(1, cut[:, None])[:, 0] / mass[:, -1].clamp(min=1e-6)
        gaps.append((gap < 0.25) & (share > 0.2) & (share < 0.8))
        before = torch.arange(SIZE) < cut[:, None]                                          # (N, 32)
        masks.append(before[:, None] if axis == 2 else before[:, :, None])
    sideways, stacked = gaps[0], gaps[1] & ~gaps[0]
    pair = sideways | stacked
    masks = torch.where(sideways[:, None, None], *(m.expand_as(ink) for m in masks))
    parts = torch.stack([masks | ~pair[:, None, None], ~masks & pair[:, None, None]], 1)        # (N, 2, H, W)
    parts = ink[:, None] * parts
    boxes = boxes_of((parts > 0.3).flatten(0, 1))                                           # (2 N, 4)
    weight = parts.square()
    mean = torch.einsum("nkhw,nchw->nkc", weight, rgb)                                      # (N, 2, 3)
    colours = (hue_of(mean) / 60).round().long() % 6
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).amax(1)
    crops = (parts / parts.amax((2, 3), keepdim=True).clamp(min=1e-6)).flatten(0, 1)[:, None]
    crops = resample(crops, centre, torch.full_like(centre, 14), 20 / side.clamp(min=1), 28)
    digits = torch.cat([classifier(part).argmax(1) for part in (2 * crops - 1).split(500)])
    digits = digits.unflatten(0, (-1, 2))
    boxes, centre = boxes.unflatten(0, (-1, 2)), centre.unflatten(0, (-1, 2))
    nearest = torch.cdist(centre[:, 0], CENTRES[:5]).argmin(1)
    first = torch.where(sideways, 5, torch.where(stacked, 7, nearest))
    places = torch.stack([first, first + 1], 1)
    there = (boxes[..., 2] > 0) & torch.stack([torch.ones_like(pair), pair], 1)
    return Truth(*(torch.where(there, x, -1) for x in (digits, colours, places)), boxes)


def agreement(found: Truth, wanted: Truth) -> dict[str, torch.Tensor]:
    """What of a scene is right, each (N,) bool.

    count: as many digits; digit, colour: these and no others, wherever they are; binding: each digit has
    its colour; place: laid out as asked, with a digit or the colours in the order asked; all: everything.
    """
    def same(a, b):
        return (a.sort(1).values == b.sort(1).values).all(1)

    whole = [10 * t.digits + t.colours for t in (found, wanted)]
    digits, colours, layout = ((getattr(found, name) == getattr(wanted, name))
                               for name in ("digits", "colours", "places"))
    place = layout.all(1) & ((wanted.digits[:, 1] < 0) | digits.all(1) | colours.all(1))
    return {"count": same((found.digits >= 0).int(), (wanted.digits >= 0).int()),
            "digit": same(found.digits, wanted.digits), "colour": same(found.colours, wanted.colours),
            "binding": same(*whole), "place": place,
            "all": digits.all(1) & colours.all(1) & layout.all(1)}


def centre_of_mass(maps):
    """Where maps (..., h, w) are high, as (x, y) in pixels (..., 2): their part above the mean is weighed."""
    h, w = maps.shape[-2:]
    mass = (maps - maps.mean((-2, -1), keepdim=True)).clamp(min=0)
    mass = mass / mass.sum((-2, -1), keepdim=True).clamp(min=1e-12)
    x, y = (SIZE * (torch.arange(side) + 0.5) / side for side in (w, h))
    return torch.stack([(mass.sum(-2) * x).sum(-1), (mass.sum(-1) * y).sum(-1)], -1)


def inside(points, boxes):
    """Whether points (..., 2) lie in boxes (..., 4), (...) bool."""
    return ((boxes[..., :2] <= points) & (points <= boxes[..., 2:])).all(-1)
