"""Who looks at what: self-attention, its sister between text and picture, two towers, frames."""

from minildm.course.diagrams.drawing import (
    INK,
    arrow,
    box,
    chain,
    fill,
    frame,
    label,
    operator,
    page,
)
from minildm.course.figures import describe


def self_attention():
    """softmax(Q K^T / sqrt(d)) V, with the shape of each tensor."""
    figure, axes = page(2.9)
    tokens = box(axes, 0.7, 1.5, "tokens", "data", "(B, L, D)", width=0.9, tensor=True)
    made = []
    for y, name in ((2.5, "Q"), (1.5, "K"), (0.5, "V")):
        linear = box(axes, 1.95, y, "linear", "network", width=0.65, height=0.36)
        tensor = box(axes, 3.05, y, name, "data", "(B, H, L, d)", width=1.0, tensor=True)
        made.append(tensor)
        chain(axes, linear, tensor)
        arrow(axes, tokens.right, (1.38, 1.5), (1.38, y), linear.left)
    query, key, value = made
    scores = box(axes, 4.55, 2.0, r"$QK^\top/\sqrt{d}$", "", "(B, H, L, L)", width=1.1)
    softmax = box(axes, 5.95, 2.0, "softmax", "", "rows sum to 1", width=1.05)
    # the weights multiply the values
    mix = operator(axes, 5.95, 0.5, "×")
    out = box(axes, 7.2, 0.5, "mixed, linear", "network", "(B, L, D)", width=1.15)
    arrow(axes, query.right, (3.78, 2.5), (3.78, 2.1), scores.at(-1, 0.4))
    arrow(axes, key.right, (3.78, 1.5), (3.78, 1.9), scores.at(-1, -0.4))
    chain(axes, scores, softmax)
    arrow(axes, softmax.bottom, mix.top)
    arrow(axes, value.right, mix.left)
    chain(axes, mix, out)
    label(axes, 5.75, 2.65, "who looks at whom: a weight for each pair of positions")
    label(axes, 7.12, 1.15, "H heads of width d\nside by side: D = H d")
    label(axes, 4.85, 1.15, "each row mixes all values")
    return describe(figure, """Tokens (B, L, D) go through three linear layers to Q, K and V, each
        (B, H, L, d). Q times K transposed over the root of d gives (B, H, L, L); a softmax makes
        its rows sum to 1; times V, the heads side by side, through a linear layer it is (B, L, D)
        again.""")


def cross_attention_block():
    """Where the words enter: the transformer block between two residual blocks."""
    figure, axes = page(3.4)
    frame(axes, 0.95, 0.85, 7.05, 2.45, "transformer block")
    before = box(axes, 0.45, 1.3, "map", "data", "(B, L, D)", width=0.8, tensor=True)
    names = (("self-attention", "to the picture"), ("cross-attention", "to the words"),
             ("feed-forward", "each by itself"))
    last = before
    for i, (name, remark) in enumerate(names):
        x = 2.0 + 1.95 * i
        layer = box(axes, x, 1.9, name, "network", remark, width=1.3)
        plus = operator(axes, x + 0.75, 1.3, "+")
        # each layer is a residual step: around it, and added
        entry = x - 0.85
        arrow(axes, last.right, plus.left)
        arrow(axes, (entry, 1.3), (entry, 1.9), layer.left)
        arrow(axes, layer.right, (x + 0.75, 1.9), plus.top)
        last = plus
        if i == 1:
            words = layer
    after = box(axes, 7.55, 1.3, "map", "data", "(B, L, D)", width=0.8, tensor=True)
    arrow(axes, last.right, after.left)
    text = box(axes, 1.6, 3.0, "a red three", "condition", "text", width=1.1, tensor=True)
    tower = box(axes, 3.95, 3.0, "text encoder", "network", "tokens (B, M, C)", width=1.35)
    chain(axes, text, tower)
    arrow(axes, tower.bottom, words.top)
    label(axes, 6.2, 2.85, "K and V are made of the words,\nQ of the picture: weights (L, M)")
    label(axes, 4.0, 0.55, "before it and after it: residual blocks, which know the time; "
          "L = H × W positions")
    label(axes, 4.0, 0.25, "norms before each layer are left out")
    return describe(figure, """A transformer block: the map's positions go through self-attention,
        cross-attention and a feed-forward network, each added to its input. The text goes through
        a text encoder to tokens, which enter the cross-attention from above as keys and values;
        the picture makes the queries.""")


def two_towers(n: int = 5):
    """CLIP: pictures and captions become vectors; the matrix of their cosines has a diagonal."""
    figure, axes = page(3.0)
    pictures = box(axes, 0.85, 2.4, "N pictures", "data", "(N, 3, H, W)", width=1.1, tensor=True)
    vision = box(axes, 2.4, 2.4, "vision tower", "network", "ViT", width=1.15)
    seen = box(axes, 3.75, 2.4, "unit vectors", "data", "(N, D)", width=1.0, tensor=True)
    captions = box(axes, 0.85, 0.9, "N captions", "condition", "(N, L)", width=1.1, tensor=True)
    text = box(axes, 2.4, 0.9, "text tower", "network", "transformer", width=1.15)
    read = box(axes, 3.75, 0.9, "unit vectors", "condition", "(N, D)", width=1.0, tensor=True)
    chain(axes, pictures, vision, seen)
    chain(axes, captions, text, read)
    # the matrix: true pairs on the diagonal
    side, left, top = 0.36, 5.3, 2.55
    for i in range(n):
        for j in range(n):
            kind = "network" if i == j else "noise"
            axes.add_patch(_cell(left + side * j, top - side * (i + 1), side, kind))
    middle = top - side * n / 2
    arrow(axes, seen.right, (4.65, 2.4), (4.65, middle + 0.2), (left, middle + 0.2))
    arrow(axes, read.right, (4.65, 0.9), (4.65, middle - 0.2), (left, middle - 0.2))
    label(axes, left + side * n / 2, top + 0.2, "scale × cosine, (N, N)")
    label(axes, left + side * n + 0.1, middle + 0.3, "rows:\npictures", align="left")
    label(axes, left + side * n + 0.1, middle - 0.3, "columns:\ncaptions", "condition",
          align="left")
    label(axes, 5.6, 0.4, "cross-entropy along rows and along columns:\n"
          "the pairs on the diagonal should win", "loss")
    return describe(figure, """Pictures go through a vision tower, captions through a text tower;
        both give N unit vectors. Their N by N matrix of scaled cosines has the true pairs on its
        green diagonal; cross-entropy along rows and columns makes these the largest.""")


def _cell(x, y, side, kind):
    from matplotlib.patches import Rectangle

    strength = 0.75 if kind == "network" else 0.12
    return Rectangle((x, y), side, side, facecolor=fill(kind, strength), edgecolor=INK,
                     linewidth=0.8, zorder=2)


def attention_along_time():
    """Video: attention within each frame, then along time at each position."""
    figure, axes = page(3.0)
    titles = "within a frame: H × W tokens", "along time: F tokens"
    for left, title, along_time in zip((0.4, 4.5), titles, (False, True), strict=True):
        label(axes, left + 1.6, 2.8, title, size=10)
        for f in range(3):
            _frame_of_cells(axes, left + 1.15 * f, 1.2, f, along_time)
        y = 1.2 + 0.45
        if along_time:
            # there and back: each frame looks at the others
            for f in (0, 1):
                arrow(axes, (left + 1.15 * f + 0.6, y), (left + 1.15 * (f + 1) + 0.3, y),
                      kind="network")
                arrow(axes, (left + 1.15 * (f + 1) + 0.3, y - 0.1),
                      (left + 1.15 * f + 0.6, y - 0.1), kind="network")
    label(axes, 2.0, 0.75, "(B F, H W, D): frames are the batch")
    label(axes, 6.1, 0.75, "(B H W, F, D): positions are the batch")
    label(axes, 4.0, 0.3, "one after the other in each block: far cheaper than all F × H × W "
          "tokens at once")
    return describe(figure, """Three frames of 3 by 3 cells, twice. Left: within one frame all cells
        are coloured, as each attends to all others of its frame. Right: only the middle cell of
        each frame is coloured, and arrows join them along time.""")


def _frame_of_cells(axes, left, bottom, f, along_time):
    """Draw a frame of 3 x 3 cells; those that attend to each other are coloured."""
    for i in range(3):
        for j in range(3):
            chosen = (i, j) == (1, 1) if along_time else f == 1
            kind = "network" if chosen else "noise"
            axes.add_patch(_cell(left + 0.3 * j, bottom + 0.3 * i, 0.3, kind))
    label(axes, left + 0.45, bottom + 1.1, f"frame {f + 1}")
