"""What the networks are made of: residual block, time embedding, adaLN-Zero, control, the U-Net.

The U-Net is drawn from a `UNetConfig`: `unet_rows` walks through it as the network itself does,
and a test compares its shapes with those that a real network's layers return.
"""

import math

from minildm.course.diagrams.drawing import (
    FAINT,
    arrow,
    box,
    chain,
    frame,
    label,
    operator,
    page,
)
from minildm.course.figures import describe
from minildm.nn.unet import UNetConfig

# small enough to read, and like the networks that the lessons train
SMALL = UNetConfig(4, 4, channels=(32, 64, 128), attention=(False, True, True), blocks=1,
                   context_dim=64, heads=4, groups=8)


def unet_rows(config: UNetConfig, height: int, width: int) -> list[dict]:
    """Shapes (C, H, W) level by level: what the way down leaves, what goes up as skips, out.

    Each row has `size` (H, W); `down`, the channels after the level's blocks; `skips`, the
    channels that its way up concatenates, in the order of use; `up`, the channels after it.
    """
    c = config
    last = len(c.channels) - 1
    # each level's entrance: the first convolution's map, or the halved map of the level above
    stack = [(0, c.channels[0])]
    for level, channels in enumerate(c.channels):
        stack += [(level, channels)] * c.blocks
        if level < last:
            stack.append((level + 1, channels))
    rows = []
    for level, channels in enumerate(c.channels):
        rows.append({
            "size": (height >> level, width >> level),
            "down": channels,
            "skips": [],
            "up": channels,
        })
    for level in reversed(range(len(c.channels))):
        for _ in range(c.blocks + 1):
            _, channels = stack.pop()
            rows[level]["skips"].append(channels)
    return rows


def shape(channels: int, size: tuple[int, int]) -> str:
    """A map's shape as it stands in the diagram."""
    return f"({channels}, {size[0]}, {size[1]})"


def unet(config: UNetConfig = SMALL, height: int = 32, width: int = 32):
    """The U-Net of a configuration: its shapes, its skip connections, where it attends."""
    rows = unet_rows(config, height, width)
    figure, axes = page(1.25 + 1.15 * len(rows))
    top = 0.05 + 1.15 * len(rows)
    before = box(axes, 1.0, top + 0.75, "$x_t$", "noise",
                 shape(config.in_channels, rows[0]["size"]), width=1.2, tensor=True)
    after = box(axes, 7.0, top + 0.75, "prediction", "data",
                shape(config.out_channels, rows[0]["size"]), width=1.2, tensor=True)
    last = len(rows) - 1
    for level, row in enumerate(rows):
        y = top - 1.15 * level
        indent = 0.35 * level
        down, up = _level(axes, config, level, row, y, indent)
        arrow(axes, down.right, up.left, kind="data")
        # where the U is narrow, their number alone has room
        skips = f"{len(row['skips'])} skips"
        channels = f"{skips}: {' + '.join(map(str, row['skips']))} channels"
        room = up.left[0] - down.right[0]
        label(axes, 4.0, y + 0.17, channels if 0.07 * len(channels) < room else skips, "data")
        if level == 0:
            arrow(axes, before.bottom, (before.x, down.at(0, 1)[1]))
            arrow(axes, (after.x, up.at(0, 1)[1]), after.bottom)
        else:
            x = 1.15 + indent
            arrow(axes, (x, y + 0.9), (x, y + 0.25))
            label(axes, x + 0.12, y + 0.57, "halve", align="left", ink=FAINT)
            arrow(axes, (8 - x, y + 0.25), (8 - x, y + 0.9))
            label(axes, 8 - x - 0.12, y + 0.57, "double", align="right", ink=FAINT)
    _middle(axes, config, rows[last], top - 1.15 * last, 0.35 * last)
    label(axes, 4.0, top + 0.9, "time t: added in every residual block", "condition")
    label(axes, 4.0, top + 0.65, "context: attended to where a level says so", "condition")
    sizes = ", ".join(shape(row["down"], row["size"]) for row in rows)
    return describe(figure, f"""A U-Net with {len(rows)} levels, drawn as a U: on the left the way
        down, on the right the way up, each level half the size of the one above, with maps of
        {sizes}; a middle block at the bottom. At each level an arrow, the skip connections, goes
        from left to right. Time enters every residual block; the context enters the middle and
        the levels that attend.""")


def _level(axes, config, level: int, row: dict, y: float, indent: float):
    """Draw a level's boxes on both sides: -> (down, up)."""
    attends = " + attention" if config.attention[level] else ""
    sides = []
    for x, n, channels in ((1.3 + indent, config.blocks, row["down"]),
                           (6.7 - indent, config.blocks + 1, row["up"])):
        name = f"{n} residual{attends}"
        sides.append(box(axes, x, y, name, "network", shape(channels, row["size"]), width=2.05))
    return sides


def _middle(axes, config, row: dict, y: float, indent: float):
    """Draw the middle block below the lowest level, and its two arrows."""
    middle = box(axes, 4.0, y - 0.75, "middle: residual, attention, residual", "network",
                 shape(config.channels[-1], row["size"]), width=2.9)
    left, right = 1.3 + indent, 6.7 - indent
    arrow(axes, (left, y - 0.25), (left, y - 0.75), middle.left)
    arrow(axes, middle.right, (right, y - 0.75), (right, y - 0.25))


def residual_block():
    """The residual block: two convolutions, the time added between them, a way around them."""
    figure, axes = page(2.6)
    x = box(axes, 0.6, 1.2, "$x$", "data", "(B, C, H, W)", tensor=True)
    first = box(axes, 2.3, 1.2, "norm, SiLU,\nconv 3×3", "network", "C → D", width=1.15,
                height=0.72)
    plus = operator(axes, 3.55, 1.2, "+")
    second = box(axes, 4.85, 1.2, "norm, SiLU,\nconv 3×3", "network", "zero at first", width=1.15,
                 height=0.72)
    total = operator(axes, 6.2, 1.2, "+")
    out = box(axes, 7.3, 1.2, "out", "data", "(B, D, H, W)", tensor=True)
    chain(axes, x, first, plus, second, total, out)
    time = box(axes, 1.35, 2.25, "time embedding", "condition", "(B, T)", width=1.3, tensor=True)
    linear = box(axes, 3.55, 2.25, "SiLU, linear", "network", "(B, D, 1, 1)", width=1.15)
    arrow(axes, time.right, linear.left)
    arrow(axes, linear.bottom, plus.top)
    # the way around both convolutions
    short = box(axes, 3.9, 0.4, "1×1 conv, or x itself if C = D", "network", width=2.5, height=0.36)
    arrow(axes, (1.4, 1.2), (1.4, 0.4), short.left)
    arrow(axes, short.right, (6.2, 0.4), total.bottom)
    label(axes, 6.1, 2.25, "the same for all H × W positions")
    return describe(figure, """x (B, C, H, W) goes through norm, SiLU and a convolution from C to D
        channels; the time embedding, through SiLU and a linear layer, is added to every position;
        then norm, SiLU and a second convolution that starts at zero. A shortcut, a 1 by 1
        convolution or x itself, is added to the result.""")


def time_embedding():
    """From a number t to the vector that every block receives."""
    figure, axes = page(2.3)
    t = box(axes, 0.55, 1.3, "t", "condition", "(B,)", width=0.7, tensor=True)
    waves = box(axes, 2.1, 1.3, "cos and sin of\n1000 t × frequency", "condition",
                "(B, d)", width=1.6, height=0.75)
    first = box(axes, 3.95, 1.3, "linear, SiLU", "network", "(B, T)", width=1.1)
    second = box(axes, 5.45, 1.3, "linear", "network", "(B, T)", width=0.8)
    blocks = box(axes, 7.1, 1.3, "every residual\nblock", "network", width=1.3, height=0.6)
    chain(axes, t, waves, first, second, blocks)
    # three of the waves, over t from 0 to 1
    for i, (periods, name) in enumerate(((6, "fast"), (2, "slower"), (0.5, "slow"))):
        left, y = 0.95 + 2.3 * i, 0.35
        points = [k / 80 for k in range(81)]
        ys = [y + 0.16 * math.cos(2 * math.pi * periods * p) for p in points]
        axes.plot([left + 1.5 * p for p in points], ys, color="#B37A00", linewidth=1.4)
        label(axes, left - 0.07, y, name, align="right")
    label(axes, 4.0, 2.05, "like a clock's hands: the slow ones say about when, the fast ones when "
          "exactly")
    return describe(figure, """A time t becomes cosines and sines of 1000 t at d / 2 frequencies,
        then goes through linear, SiLU, linear to a vector of width T that every residual block
        receives. Below, three of the waves over t: fast, slower, slow.""")


def adaln_zero_block():
    """The block of a DiT: shift, scale and gate are made of time and label."""
    figure, axes = page(4.1)
    x = box(axes, 0.6, 1.55, "tokens", "data", "(B, L, D)", width=0.9, tensor=True)
    # attention, then the feed-forward network: the same parts twice
    total = None
    for left, name in ((1.25, "attention"), (4.4, "feed-forward")):
        norm = box(axes, left + 0.6, 1.55, "norm", "", width=0.55, height=0.4)
        scale = box(axes, left + 0.6, 2.45, "× (1+scale)\n+ shift", "condition", width=1.0,
                    height=0.5)
        layer = box(axes, left + 1.75, 2.45, name, "network", width=1.0)
        gate = box(axes, left + 2.6, 2.0, "× gate", "condition", width=0.62, height=0.32)
        before, total = total or x, operator(axes, left + 2.6, 1.0, "+")
        if before is x:
            arrow(axes, x.right, norm.left)
            arrow(axes, (1.3, 1.55), (1.3, 1.0), total.left)
        else:
            arrow(axes, before.right, (4.35, 1.0), (4.35, 1.55), norm.left)
            arrow(axes, (4.35, 1.0), total.left)
        arrow(axes, norm.top, scale.bottom)
        arrow(axes, scale.right, layer.left)
        arrow(axes, layer.right, (gate.x, 2.45), gate.top)
        arrow(axes, gate.bottom, total.top)
    out = box(axes, 7.5, 0.45, "tokens", "data", "(B, L, D)", width=0.8, tensor=True)
    arrow(axes, total.right, (7.5, 1.0), out.top)
    told = box(axes, 1.2, 3.65, "time + label", "condition", "c: (B, D)", width=1.1, tensor=True)
    maker = box(axes, 3.1, 3.65, "SiLU, linear", "network", "zero at first", width=1.15)
    six = box(axes, 5.3, 3.65, "shift, scale, gate: twice", "condition", "6 of (B, 1, D)",
              width=1.9)
    chain(axes, told, maker, six)
    arrow(axes, (4.6, 3.4), (4.6, 3.1), (1.85, 3.1), (1.85, 2.7))
    arrow(axes, (5.0, 3.4), (5.0, 2.7))
    label(axes, 6.6, 3.05, "gates are 0 at first:\nthe block is the identity")
    return describe(figure, """A block of a DiT, from left to right: norm, times one plus scale plus
        shift, attention, times gate, added to the tokens; then the same with the feed-forward
        network. Time and label, through SiLU and a linear layer that starts at zero, give the six
        vectors: shift, scale and gate, twice. As the gates start at zero, the block starts as the
        identity.""")


def control_copy():
    """A frozen network and its trainable copy, joined by convolutions that start at zero."""
    figure, axes = page(3.6)
    frame(axes, 0.15, 0.2, 3.2, 2.95, "frozen", "network")
    frame(axes, 4.8, 0.2, 6.75, 2.95, "copy, trained", "network")
    x = box(axes, 0.7, 2.35, "$x_t$", "noise", width=0.6, height=0.4, tensor=True)
    down = box(axes, 2.4, 2.35, "down", "network", width=1.1, height=0.42)
    middle = box(axes, 2.4, 1.5, "middle", "network", width=1.1, height=0.42)
    up = box(axes, 2.4, 0.65, "up", "network", width=1.1, height=0.5)
    out = box(axes, 0.8, 0.65, "prediction", "data", width=1.0, height=0.42, tensor=True)
    chain(axes, x, down)
    arrow(axes, down.bottom, middle.top)
    arrow(axes, middle.bottom, up.top)
    arrow(axes, up.left, out.right)
    plus = operator(axes, 5.75, 2.35, "+")
    copies = [box(axes, 5.75, 1.55, "copy of down", "network", width=1.25, height=0.42),
              box(axes, 5.75, 0.55, "copy of middle", "network", width=1.35, height=0.42)]
    arrow(axes, plus.bottom, copies[0].top)
    arrow(axes, copies[0].bottom, copies[1].top)
    arrow(axes, x.top, (0.7, 3.3), (5.75, 3.3), plus.top)
    control = box(axes, 7.3, 3.3, "edges, depth", "condition", width=1.1, height=0.4, tensor=True)
    # the control enters where x_t does, and changes nothing at first
    first = box(axes, 7.3, 2.35, "zero conv", "network", "0 at first", width=0.85)
    arrow(axes, control.bottom, first.top)
    arrow(axes, first.left, plus.right)
    zeros = [box(axes, 4.1, copy.y, "zero conv", "network", "0 at first", width=0.85)
             for copy in copies]
    for copy, zero in zip(copies, zeros, strict=True):
        arrow(axes, copy.left, zero.right)
    arrow(axes, zeros[0].left, (3.4, 1.55), (3.4, 0.75), up.at(1, 0.4))
    arrow(axes, zeros[1].left, up.at(1, -0.4))
    return describe(figure, """Left, frozen: x_t goes down, through the middle and up to the
        prediction. Right, trained: a copy of down and middle receives x_t plus the control, edges
        or depth, through a zero convolution; what the copies find goes through zero convolutions
        and is added on the way up. As zero convolutions give 0 at first, training starts from the
        frozen network's own answer.""")
