"""A small world for lesson 07: one or two coloured shapes on 16 x 16 pixels, and sentences.

    images, scenes = draw_scenes(20_000, seed=0)       # (N, 3, 16, 16) in [-1, 1]
    ids = ids_of(sentences(scenes))                    # (N, 8): "a red disc west of a blue ring"
    right = agreement(find_shapes(images), scenes)     # is what is there what was asked for?

Of the 18 pairs of a colour and a shape, three are held out: training never shows a red disc, a
yellow ring or a green dot, in whatever place. Shapes are stamps that lie on whole pixels, so they
can be found again by comparing each place with each stamp.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

SIZE, STAMP = 16, 7         # sides of a picture and of a shape, in pixels
REACH = STAMP // 2          # from a stamp's middle to its edge
COLOURS = "red", "yellow", "green", "cyan", "blue", "magenta"
SHAPES = "disc", "ring", "dot"
# of the first thing to the second; the index is the axis, x or y, along which they differ
RELATIONS = "west", "north"
WORDS = ("·", "a", "of", *COLOURS, *SHAPES, *RELATIONS)
LENGTH = 8                  # words of a caption; shorter ones end with "·"
EMPTY = torch.zeros(1, LENGTH, dtype=torch.long)        # no caption at all
NOTHING = -1                # the colour and shape of a thing that is not there
RGB = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0.1, 0.2, 1], [1, 0, 1]])
CLEAR = 0.5                 # a stamp must explain this share of the ink under it to be found


def stamps():
    """The three shapes as ink, (3, 7, 7), 0 or 1."""
    at = torch.arange(STAMP) - REACH
    radius = (at[:, None]**2 + at**2).sqrt()
    disc = radius < 3.3
    ring = disc & (radius > 1.9)
    dot = radius < 1.9
    return torch.stack([disc, ring, dot]).float()


@dataclass(frozen=True, eq=False)
class Scenes:
    """What N pictures show: colours, shapes (N, K), -1 for nothing; centres (N, K, 2) as x, y."""

    colours: torch.Tensor
    shapes: torch.Tensor
    centres: torch.Tensor
    relations: torch.Tensor     # (N,): of the first to the second, -1 where there is one thing

    def __len__(self):
        return len(self.colours)

    def __getitem__(self, rows):
        """Some of the scenes."""
        return Scenes(self.colours[rows], self.shapes[rows], self.centres[rows],
                      self.relations[rows])


def is_held_out(colours, shapes):
    """Whether training lacks this pair of a colour and a shape."""
    return (colours == shapes) & (shapes >= 0)


def draw_scenes(n: int, seed: int = 0, held_out: bool = False, alone: float = 0.25,
                same_shape: bool = False, same_colour: bool = False):
    """n random pictures (n, 3, 16, 16) in [-1, 1] and their Scenes.

    A share `alone` shows one thing, the others two of different colours and shapes, unless one of
    them shall be the same. held_out: the first thing is a pair that training lacks; else none is.
    """
    generator = torch.Generator().manual_seed(seed)
    first, second = _pairs(held_out), _pairs(False)
    chosen = torch.randint(len(first), (n,), generator=generator)
    one = first[chosen]                                                    # (n, 2)
    # of all second things, a random one that fits the first
    alike = second[None] == one[:, None]                                   # (n, K, 2)
    fits = (alike[..., 0] == same_colour) & (alike[..., 1] == same_shape)
    luck = torch.rand(fits.shape, generator=generator)
    two = second[(luck * fits).argmax(1)]
    relations = torch.randint(len(RELATIONS), (n,), generator=generator)
    single = torch.rand(n, generator=generator) < alone
    two[single] = NOTHING
    relations[single] = NOTHING
    pair = torch.stack([one, two], 1)                                      # (n, 2, 2)
    scenes = Scenes(pair[..., 0], pair[..., 1], _centres(relations, generator), relations)
    return paint(scenes), scenes


def _pairs(held_out: bool):
    """The pairs (colour, shape) that are held out, or those that are not: (K, 2)."""
    every = torch.cartesian_prod(torch.arange(len(COLOURS)), torch.arange(len(SHAPES)))
    return every[is_held_out(*every.T) == held_out]


def _centres(relations, generator):
    """Where things lie: one alone near the middle, of two each in its half; (N, 2, 2)."""
    n, middle = len(relations), SIZE // 2
    central = torch.randint(middle - 2, middle + 2, (n, 2, 2), generator=generator)
    # along their axis, two things lie at either side
    apart = torch.randint(REACH, REACH + 2, (n, 2), generator=generator)
    apart[:, 1] += middle
    axis = relations.clamp(min=0)[:, None, None].expand(-1, 2, 1)
    placed = central.scatter(2, axis, apart[..., None])
    return torch.where((relations < 0)[:, None, None], central, placed)


def paint(scenes: Scenes):
    """The pictures of scenes, (N, 3, 16, 16) in [-1, 1]; things lie on black."""
    light = torch.zeros(len(scenes), 3, SIZE, SIZE)
    for k in range(scenes.shapes.shape[1]):
        for shape, stamp in enumerate(stamps()):
            rows = (scenes.shapes[:, k] == shape).nonzero()[:, 0]
            spot = _spots(scenes.centres[rows, k], SIZE)
            ink = F.conv2d(spot, stamp[None, None], padding=REACH)
            colour = RGB[scenes.colours[rows, k]]
            light[rows] += ink * colour[:, :, None, None]
    return 2 * light.clamp(0, 1) - 1


def _spots(places, side: int):
    """Black pictures with one white pixel each, at places (N, 2) as x, y: (N, 1, side, side)."""
    spot = torch.zeros(len(places), 1, side, side)
    x, y = places.T
    spot[torch.arange(len(places)), 0, y, x] = 1.0
    return spot


# ---- words

def sentences(scenes: Scenes) -> list[str]:
    """A sentence for each scene: "a red disc", "a red disc west of a blue ring"."""
    found = []
    for k in range(len(scenes)):
        things = []
        pairs = zip(scenes.colours[k].tolist(), scenes.shapes[k].tolist(), strict=True)
        for colour, shape in pairs:
            if shape != NOTHING:
                things.append(f"a {COLOURS[colour]} {SHAPES[shape]}")
        found.append(f" {RELATIONS[scenes.relations[k]]} of ".join(things))
    return found


def ids_of(captions: list[str], length: int = LENGTH):
    """The numbers of a caption's words, (N, length), filled up with 0, the word "·"."""
    rows = []
    for caption in captions:
        ids = [WORDS.index(word) for word in caption.split()]
        rows.append((ids + [0] * length)[:length])
    return torch.tensor(rows)


def word_columns(ids):
    """Which words of two-thing captions (N, 8) are colours and shapes: (N, 2 kinds, 2 things)."""
    return torch.tensor([[1, 6], [2, 7]]).expand(len(ids), 2, 2)


# ---- what is there

def find_shapes(images, most: int = 2) -> Scenes:
    """Find up to so many things in pictures (N, 3, 16, 16), the clearest first.

    Each place is compared with each stamp: the share of the ink there that the stamp explains is
    1 - |ink - stamp|^2 / |stamp|^2. The best one is found, wiped out, and the search goes on.
    Relations are left out: two things may lie west and north of each other.
    """
    light = ((images + 1) / 2).clamp(0, 1)
    ink = light.amax(1, keepdim=True)
    things = []
    for _ in range(most):
        score, shape, corner = _best_stamp(ink)
        # the stamp that was found, and its whole window, at its place
        spot = _spots(corner, SIZE - STAMP + 1)
        window = F.conv_transpose2d(spot, torch.ones(1, 1, STAMP, STAMP))
        mask = F.conv_transpose2d(spot, stamps()[None])
        mask = mask[torch.arange(len(mask)), shape][:, None]               # (N, 1, 16, 16)
        mean = (light * mask).sum((2, 3)) / mask.sum((2, 3))               # (N, 3)
        colour = torch.cdist(mean, RGB).argmin(1)
        seen = torch.stack([colour, shape], 1)
        seen[score < CLEAR] = NOTHING
        things.append(torch.cat([seen, corner + REACH], 1))
        ink = ink * (1 - window)
    found = torch.stack(things, 1)                                         # (N, K, 4)
    nothing = torch.full((len(images),), NOTHING)
    return Scenes(found[..., 0], found[..., 1], found[..., 2:], nothing)


def _best_stamp(ink):
    """How well the best stamp explains ink (N, 1, 16, 16), which it is, and its corner (N, 2)."""
    bank = stamps()[:, None]                                               # (3, 1, 7, 7)
    strokes = bank.sum((1, 2, 3))[:, None, None]
    # |ink - stamp|^2 = |ink|^2 - 2 ink . stamp + |stamp|^2 in each window
    energy = F.conv2d(ink.square(), torch.ones_like(bank[:1]))
    explained = (2 * F.conv2d(ink, bank) - energy) / strokes               # (N, 3, 10, 10)
    score, at = explained.flatten(1).max(1)
    shape, y, x = torch.unravel_index(at, explained.shape[1:])
    return score, shape, torch.stack([x, y], 1)


def in_order(found: Scenes, wanted: Scenes) -> Scenes:
    """The found things, two a picture, with the one first that is more like the first wanted."""
    colours = found.colours[:, :, None] == wanted.colours[:, None]         # (N, 2, 2)
    likeness = 2 * colours.long() + (found.shapes[:, :, None] == wanted.shapes[:, None])
    return _turned(found, _crossed(likeness) > 0, wanted.relations)


def by_place(found: Scenes, before: Scenes) -> Scenes:
    """The found things, two a picture, in the order of those that lay nearest to them before."""
    across = found.centres[:, :, None] - before.centres[:, None]           # (N, 2, 2, 2)
    gap = across.float().norm(dim=-1)
    return _turned(found, _crossed(gap) < 0, before.relations)


def _crossed(table):
    """The sum of the two crossed pairs of (N, 2, 2) less that of the two straight ones: (N,)."""
    straight = table[:, 0, 0] + table[:, 1, 1]
    return table[:, 0, 1] + table[:, 1, 0] - straight


def _turned(scenes: Scenes, turned, relations) -> Scenes:
    """Scenes whose two things change places where `turned` (N,) is true."""
    order = torch.where(turned[:, None], torch.tensor([1, 0]), torch.tensor([0, 1]))
    centres = scenes.centres.gather(1, order[..., None].expand(-1, -1, 2))
    return replace(scenes, colours=scenes.colours.gather(1, order), centres=centres,
                   shapes=scenes.shapes.gather(1, order), relations=relations)


def agreement(found: Scenes, wanted: Scenes) -> dict[str, torch.Tensor]:
    """What of each picture is right, each value (N,) bool.

    count: as many things; colour, shape: these and no others, wherever they are; binding: each
    shape has its colour; place: of two, the thing that is first in the sentence lies where it says;
    all: everything.
    """
    placed = in_order(found, wanted)
    # one number for a shape in its colour
    binding = _same(10 * found.shapes + found.colours, 10 * wanted.shapes + wanted.colours)
    something = (placed.shapes == wanted.shapes).any(1)
    place = stands(placed.centres, wanted.relations) & something
    return {"count": _same(found.shapes >= 0, wanted.shapes >= 0),
            "colour": _same(found.colours, wanted.colours),
            "shape": _same(found.shapes, wanted.shapes),
            "binding": binding, "place": place, "all": binding & place}


def stands(centres, relations):
    """Whether the first of two things lies as the relation says, clear of the second: (N,) bool.

    Where there is no relation, -1, it does.
    """
    across = centres[:, 1] - centres[:, 0]                                 # (N, 2): x, y
    ahead = across.gather(1, relations.clamp(min=0)[:, None])[:, 0]
    return (relations < 0) | (ahead > REACH)


def _same(a, b):
    """Whether rows (N, K) have the same entries, in any order."""
    return (a.long().sort(1).values == b.long().sort(1).values).all(1)


def inside(points, centres):
    """Whether points (..., 2), x and y in pixels, lie in the squares of things at centres."""
    return ((points - centres - 0.5).abs() <= STAMP / 2).all(-1)
