"""The check of lesson 04 on the small U-Net."""

import torch
import torch.nn.functional as F
from torch import nn

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.fakes import randn, uniform
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_04 import Residual, made, sinusoid, spread
from minildm.course.exercises.lesson_04_attention import SelfAttention
from minildm.nn import unet


class SmallUNet(nn.Module):
    """Two sizes, a residual block or two at each, attention below, one skip connection."""

    def __init__(self, channels, c, classes):
        super().__init__()
        self.c = c
        self.clock = nn.Sequential(nn.Linear(c, 4 * c), nn.SiLU(), nn.Linear(4 * c, 4 * c))
        self.label = nn.Embedding(classes, 4 * c)
        self.enter = nn.Conv2d(channels, c, 3, padding=1)
        self.down = Residual(c, c, 4 * c)
        self.deep = Residual(c, 2 * c, 4 * c)
        self.look = SelfAttention(2 * c, heads=4)
        self.deeper = Residual(2 * c, 2 * c, 4 * c)
        self.up = Residual(2 * c + c, c, 4 * c)
        self.norm, self.leave = nn.GroupNorm(8, c), nn.Conv2d(c, channels, 3, padding=1)
        # begin by saying nothing
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x, t, labels):
        emb = self.clock(sinusoid(t, self.c)) + self.label(labels)         # (B, 4 c)
        skip = self.down(self.enter(x), emb)                               # (B, c, H, W)
        h = self.deep(F.avg_pool2d(skip, 2), emb)                          # (B, 2 c, H / 2, W / 2)
        h = self.deeper(self.look(h), emb)
        h = F.interpolate(h, scale_factor=2.0)                             # (B, 2 c, H, W)
        h = self.up(torch.cat([h, skip], dim=1), emb)                      # (B, c, H, W)
        return self.leave(F.silu(self.norm(h)))


@check(reference=SmallUNet, forbidden=[unet.UNet])
def check_SmallUNet(answer):
    for sizes, shape in ((5, 8, 7), (3, 5, 4, 6)), ((2, 16, 3), (2, 2, 6, 2)):
        wanted = spread(SmallUNet(*sizes))
        network = made(answer, wanted, *sizes)
        x = randn(*shape).requires_grad_()
        t, labels = uniform(shape[0], seed=3), torch.arange(shape[0]) % sizes[2]
        want = wanted(x, t, labels)
        likely = likely_unets(wanted, x, t, labels)
        got = network.case((x, t, labels), want, likely, tol=1e-3, where=f"x {shape}")
        compare_gradients(got, want, tol=1e-3, x=x)


def walked(net, x, emb, **other):
    """A pass through the U-Net; other: parts of it that are replaced, by name."""
    def double(h):
        return F.interpolate(h, scale_factor=2.0)

    # each part of the way, where a mistake may put another
    parts = {"halve": lambda h: F.avg_pool2d(h, 2), "double": double, "look": net.look,
             "deeper": net.deeper, "join": lambda h, skip: torch.cat([h, skip], dim=1),
             "last": lambda h: F.silu(net.norm(h)), **other}
    entered = net.enter(x)
    skip = net.down(entered, emb)
    h = net.deep(parts["halve"](skip), emb)
    h = parts["deeper"](parts["look"](h), emb)
    h = parts["join"](parts["double"](h), parts.get("skip", lambda a, b: b)(entered, skip))
    return net.leave(parts["last"](net.up(h, emb)))


def likely_unets(net, x, t, labels):
    """{cause: result} of small U-Nets with a likely mistake."""
    clock = net.clock(sinusoid(t, net.c))
    label = net.label(labels)
    emb = clock + label

    # in the place of a layer that was left out
    def nothing(h, emb=None):
        return h

    return {
        "the label is missing": walked(net, x, clock),
        "the time is missing": walked(net, x, label),
        "time and label are added, not multiplied": walked(net, x, clock * label),
        "the clock gets the waves of t, not of 1 - t":
            walked(net, x, net.clock(sinusoid(1 - t, net.c)) + label),
        "sinusoid multiplies by 1000 itself: it gets t in [0, 1]":
            walked(net, x, net.clock(sinusoid(1000 * t, net.c)) + label),
        "all pictures got the first one's label": walked(net, x, clock + label[:1]),
        "all pictures got the first one's time": walked(net, x, clock[:1] + label),
        "each block has its SiLU for emb: none is needed before": walked(net, x, F.silu(emb)),
        "what comes from below first, then the skip":
            walked(net, x, emb, join=lambda h, skip: torch.cat([skip, h], dim=1)),
        "the skip is what `down` made, not its input": walked(net, x, emb, skip=lambda a, b: a),
        "the skip is empty": walked(net, x, emb, skip=lambda a, b: 0 * b),
        "halve by the mean of 2 x 2, not their largest":
            walked(net, x, emb, halve=lambda h: F.max_pool2d(h, 2)),
        "halve by the mean of 2 x 2, not by every second":
            walked(net, x, emb, halve=lambda h: h[:, :, ::2, ::2]),
        "double by repeating: this is bilinear": walked(
            net, x, emb, double=lambda h: F.interpolate(h, scale_factor=2.0, mode="bilinear")),
        "`look` is missing": walked(net, x, emb, look=nothing),
        "`deeper` is missing": walked(net, x, emb, deeper=nothing),
        "`look` comes before `deeper`":
            walked(net, x, emb, look=nothing, deeper=lambda h, emb: net.look(net.deeper(h, emb))),
        "the last SiLU is missing": walked(net, x, emb, last=net.norm),
        "the last norm is missing": walked(net, x, emb, last=F.silu),
        "the last norm and SiLU are missing": walked(net, x, emb, last=nothing),
        "the network predicts the noise: x isn't added at the end": walked(net, x, emb) + x,
    }
