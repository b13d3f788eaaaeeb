"""A small world for lesson 07: one or two coloured shapes on 16 x 16 pixels, and sentences.

    images, scenes = draw_scenes(20_000, seed=0)       # (N, 3, 16, 16) in [-1, 1]
    ids = ids_of(sentences(scenes))                    # (N, 8): "a red disc west of a blue ring"
    right = agreement(find_shapes(images), scenes)     # is what is there what was asked for?

Of the 18 pairs of a colour and a shape, three are held out: training never shows a red disc, a
yellow ring or a green dot, in whatever place. Shapes are stamps that lie on whole pixels, so they
can be found again by comparing each place with each stamp.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

SIZE, STAMP = 16, 7         # sides of a picture and of a shape, in pixels
COLOURS = "red", "yellow", "green", "cyan", "blue", "magenta"
SHAPES = "disc", "ring", "dot"
RELATIONS = "west", "north"
WORDS = ("·", "a", "of", *COLOURS, *SHAPES, *RELATIONS)
LENGTH = 8                  # words of a caption; shorter ones end with "·"
EMPTY = torch.zeros(1, LENGTH, dtype=torch.long)        # no caption at all
NOTHING = -1                # the colour and shape of a thing that is not there
RGB = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0.1, 0.2, 1], [1, 0, 1]])
CLEAR = 0.5                 # a stamp must explain this share of the ink under it to be found


def stamps():
    """The three shapes as ink, (3, 7, 7), 0 or 1."""
    at = torch.arange(STAMP) - STAMP // 2
    radius = (at[:, None]**2 + at**2).sqrt()
    disc = radius < 3.3
    return torch.stack([disc, disc & (radius > 1.9), radius < 1.9]).float()


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
    one = first[torch.randint(len(first), (n,), generator=generator)]              # (n, 2)
    # of all second things, a random one that fits the first
    other = second[None].expand(n, -1, -1)
    fits = (other[..., 0] == one[:, None, 0]) == same_colour
    fits &= (other[..., 1] == one[:, None, 1]) == same_shape
    pick = (torch.rand(fits.shape, generator=generator) * fits).argmax(1)
    pair = torch.stack([one, second[pick]], 1)                                     # (n, 2, 2)
    relations = torch.randint(len(RELATIONS), (n,), generator=generator)
    single = torch.rand(n, generator=generator) < alone
    pair[single, 1] = NOTHING
    relations[single] = NOTHING
    scenes = Scenes(pair[..., 0], pair[..., 1], _centres(relations, generator), relations)
    return paint(scenes), scenes


def _pairs(held_out: bool):
    """The pairs (colour, shape) that are held out, or those that are not: (K, 2)."""
    every = torch.cartesian_prod(torch.arange(len(COLOURS)), torch.arange(len(SHAPES)))
    return every[is_held_out(*every.T) == held_out]


def _centres(relations, generator):
    """Where things lie: one alone near the middle, of two each in its half; (N, 2, 2)."""
    n = len(relations)
    low, middle = STAMP // 2, SIZE // 2
    anywhere = torch.randint(middle - 2, middle + 2, (n, 2, 2), generator=generator)
    near = torch.randint(low, low + 2, (n, 2), generator=generator)
    near[:, 1] += SIZE // 2
    axis = relations.clamp(min=0)[:, None, None].expand(-1, 2, 1)
    placed = anywhere.scatter(2, axis, near[..., None])
    return torch.where((relations < 0)[:, None, None], anywhere, placed)


def paint(scenes: Scenes):
    """The pictures of scenes, (N, 3, 16, 16) in [-1, 1]; things lie on black."""
    light = torch.zeros(len(scenes), 3, SIZE, SIZE)
    for colour, shape, centre in zip(scenes.colours.T, scenes.shapes.T,
                                     scenes.centres.transpose(0, 1), strict=True):
        for k, stamp in enumerate(stamps()):
            rows = (shape == k).nonzero()[:, 0]
            x, y = centre[rows].T
            spot = torch.zeros(len(rows), 1, SIZE, SIZE)
            spot[torch.arange(len(rows)), 0, y, x] = 1.0
            ink = F.conv2d(spot, stamp[None, None], padding=STAMP // 2)
            light[rows] += ink * RGB[colour[rows]][:, :, None, None]
    return 2 * light.clamp(0, 1) - 1


# ---- words

def sentences(scenes: Scenes) -> list[str]:
    """A sentence for each scene: "a red disc", "a red disc west of a blue ring"."""
    found = []
    for colours, shapes, relation in zip(scenes.colours.tolist(), scenes.shapes.tolist(),
                                         scenes.relations.tolist(), strict=True):
        things = [f"{COLOURS[c]} {SHAPES[s]}" for c, s in zip(colours, shapes, strict=True)
                  if s >= 0]
        found.append("a " + f" {RELATIONS[relation]} of a ".join(things))
    return found


def ids_of(captions: list[str], length: int = LENGTH):
    """The numbers of a caption's words, (N, length), filled up with 0, the word "·"."""
    rows = []
    for caption in captions:
        ids = [WORDS.index(word) for word in caption.split()][:length]
        rows.append(ids + [0] * (length - len(ids)))
    return torch.tensor(rows)


def word_columns(ids):
    """Which words of two-thing captions (N, 8) are colours and shapes: (N, 2 kinds, 2 things)."""
    return torch.tensor([[1, 6], [2, 7]]).expand(len(ids), 2, 2)


# ---- what is there

def find_shapes(images, most: int = 2) -> Scenes:
    """Find up to so many things in pictures (N, 3, 16, 16), the clearest first.

    Each place is compared with each stamp: the share of the ink there that the stamp explains is
    1 - |ink - stamp|^2 / |stamp|^2. The best one is found, wiped out, and the search goes on.
    Relations are left out: two things may lie left of and above each other.
    """
    light = ((images + 1) / 2).clamp(0, 1)
    ink, bank = light.amax(1, keepdim=True), stamps()[:, None]
    strokes = bank.sum((1, 2, 3))[None, :, None, None]
    things = []
    for _ in range(most):
        # |ink - stamp|^2 = |ink|^2 - 2 ink . stamp + |stamp|^2 in each window
        energy = F.conv2d(ink.square(), torch.ones_like(bank[:1]))
        explained = (2 * F.conv2d(ink, bank) - energy) / strokes               # (N, 4, 10, 10)
        score, at = explained.flatten(1).max(1)
        shape, y, x = torch.unravel_index(at, explained.shape[1:])
        window = F.conv_transpose2d(_one_hot(x, y, explained.shape[-1]), torch.ones_like(bank[:1]))
        mask = F.conv_transpose2d(_one_hot(x, y, explained.shape[-1]), bank[:, :1].squeeze(1)[None])
        mask = mask[torch.arange(len(mask)), shape][:, None]
        mean = (light * mask).sum((2, 3)) / mask.sum((2, 3))                   # (N, 3)
        there = score > CLEAR
        colour = torch.cdist(mean, RGB).argmin(1)
        things.append((torch.where(there, colour, NOTHING), torch.where(there, shape, NOTHING),
                       torch.stack([x, y], 1) + STAMP // 2))
        ink = ink * (1 - window)
    colours, shapes, centres = (torch.stack(part, 1) for part in zip(*things, strict=True))
    return Scenes(colours, shapes, centres, torch.full((len(images),), NOTHING))


def _one_hot(x, y, side: int):
    spot = torch.zeros(len(x), 1, side, side)
    spot[torch.arange(len(x)), 0, y, x] = 1.0
    return spot


def in_order(found: Scenes, wanted: Scenes) -> Scenes:
    """The found things, two a picture, with the one first that is more like the first wanted."""
    def likeness(a, b):
        return (2 * (found.colours[:, a] == wanted.colours[:, b]).long()
                + (found.shapes[:, a] == wanted.shapes[:, b]).long())

    turned = likeness(1, 0) + likeness(0, 1) > likeness(0, 0) + likeness(1, 1)
    return _turned(found, turned, wanted.relations)


def _turned(scenes: Scenes, turned, relations) -> Scenes:
    """Scenes whose two things change places where `turned` (N,) is true."""
    order = torch.where(turned[:, None], torch.tensor([1, 0]), torch.tensor([0, 1]))
    centres = scenes.centres.gather(1, order[..., None].expand(-1, -1, 2))
    return Scenes(scenes.colours.gather(1, order), scenes.shapes.gather(1, order), centres,
                  relations)


def by_place(found: Scenes, before: Scenes) -> Scenes:
    """The found things, two a picture, in the order of those that lay nearest to them before."""
    gap = (found.centres[:, :, None] - before.centres[:, None]).float().norm(dim=-1)    # (N, 2, 2)
    turned = gap[:, 0, 1] + gap[:, 1, 0] < gap[:, 0, 0] + gap[:, 1, 1]
    return _turned(found, turned, before.relations)


def agreement(found: Scenes, wanted: Scenes) -> dict[str, torch.Tensor]:
    """What of each picture is right, each value (N,) bool.

    count: as many things; colour, shape: these and no others, wherever they are; binding: each
    shape has its colour; place: of two, the thing that is first in the sentence lies where it says;
    all: everything.
    """
    placed = in_order(found, wanted)
    binding = _same(10 * found.shapes + found.colours, 10 * wanted.shapes + wanted.colours)
    place = stands(placed.centres, wanted.relations) & (placed.shapes == wanted.shapes).any(1)
    return {"count": _same(found.shapes >= 0, wanted.shapes >= 0),
            "colour": _same(found.colours, wanted.colours),
            "shape": _same(found.shapes, wanted.shapes),
            "binding": binding, "place": place, "all": binding & place}


def stands(centres, relations):
    """Whether the first of two things lies as the relation says, clear of the second: (N,) bool.

    Where there is no relation, -1, it does.
    """
    across = centres[:, 1] - centres[:, 0]                                     # (N, 2): x, y
    ahead = across.gather(1, relations.clamp(min=0)[:, None])[:, 0]
    return (relations < 0) | (ahead > STAMP // 2)


def _same(a, b):
    """Whether rows (N, K) have the same entries, in any order."""
    return (a.long().sort(1).values == b.long().sort(1).values).all(1)


def inside(points, centres):
    """Whether points (..., 2), x and y in pixels, lie in the squares of things at centres."""
    return ((points - centres - 0.5).abs() <= STAMP / 2).all(-1)
