"""The checks of lesson 12's first half: thin edges of a picture, a layer that starts at zero."""

import torch
import torch.nn.functional as F
from torch import nn

from minildm.course.exercises.compare import compare, describe, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.data import maps
from minildm.data.maps import AROUND, shifted
from minildm.nn import control

# ---- edges ---------------------------------------------------------------------------------------


def edges(images, low, high):
    return detected(images, low, high)


def detected(images, low, high, grey=None, pad="replicate", quarter=4.0, size=None, turn=0,
             mirrored=False, thin=None, grow=None, crest=None):
    """Canny's edges; the words replace a right part by a likely mistake."""
    bright = (images.amax(1, keepdim=True) + 1) / 2 if grey is None else grey
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / quarter
    padded = F.pad(bright, (1, 1, 1, 1), mode=pad)
    right = F.conv2d(padded, across[None, None])
    down = F.conv2d(padded, across.T[None, None])
    steep = size(right, down) if size else (right.square() + down.square()).sqrt()
    sign = -1 if mirrored else 1
    towards = ((torch.atan2(sign * down, right) / (torch.pi / 4)).round() + turn) % 4
    peaks = torch.zeros_like(steep, dtype=torch.bool)
    for k, (dy, dx) in enumerate(AROUND):
        behind, ahead = shifted(steep, -dy, -dx), shifted(steep, dy, dx)
        peaks |= (towards == k) & (crest or single)(steep, behind, ahead)
    peaks = thin(steep) if thin else peaks
    found, weak = (peaks & (steep > high)).float(), (peaks & (steep > low)).float()
    return (grow or grown)(found, weak)


def single(steep, behind, ahead):
    """Whether it is steeper than behind, and of two equal ones the first."""
    return (steep > behind) & (steep >= ahead)


def grown(found, weak, rounds: int = 0):
    """The found ones, and the weak ones that are connected with them; rounds 0: until the end."""
    done = 0
    while True:
        more = F.max_pool2d(found, 3, 1, 1) * weak
        done += 1
        if torch.equal(more, found) or done == rounds:
            return more
        found = more


def plus_shaped(found, weak):
    """Grow to the four nearest neighbours alone."""
    while True:
        beside = torch.maximum(F.max_pool2d(found, (3, 1), 1, (1, 0)),
                               F.max_pool2d(found, (1, 3), 1, (0, 1)))
        more = torch.maximum(beside, found) * weak
        if torch.equal(more, found):
            return more
        found = more


@check(reference=edges, forbidden=[maps.edges, maps.slopes])
def check_edges(answer):
    for shape, low, high, seed in (((2, 3, 14, 11), 0.16, 0.34, 0), ((3, 1, 9, 16), 0.1, 0.3, 4)):
        # smooth blobs, so that slopes have directions; no two values are equal
        n, channels, height, width = shape
        images = F.avg_pool2d(randn(n, channels, height + 2, width + 2, seed=seed), 3, 1)
        images = (2 * images).clamp(-0.99, 0.99)
        answer.case((images, low, high), edges(images, low, high),
                    likely_edges(images, low, high),
                    where=f"{shape[1]} channels, {shape[2]} x {shape[3]}")
    for what, images, low, high in sharp_pictures():
        answer.case((images, low, high), edges(images, low, high),
                    likely_edges(images, low, high), where=what)


def sharp_pictures():
    """(what, images, low, high) with equal slopes side by side, and with a long weak edge."""
    blocks = (randn(2, 2, 4, 5, seed=6) > 0).float().repeat_interleave(3, 2)
    yield "squares of black and white", 2 * blocks.repeat_interleave(3, 3) - 1, 0.3, 0.7
    # a bright half that fades to the right: strong at one end alone
    faded = torch.zeros(1, 1, 7, 40)
    faded[:, :, 3:] = torch.linspace(1, 0.35, 40)
    yield "a long edge that gets weaker", 2 * faded - 1, 0.2, 0.9


def likely_edges(images, low, high):
    """{cause: where a likely mistake leads}."""
    bright = images.amax(1, keepdim=True)

    def of(**words):
        return detected(images, low, high, **words)

    return {
        "the brightness is in [0, 1], the picture in [-1, 1]: slopes are twice as large here":
            of(grey=bright),
        "the brightness is the brightest channel's, not the channels' mean":
            of(grey=(images.mean(1, keepdim=True) + 1) / 2),
        "the brightness is the brightest channel's, not the first one's":
            of(grey=(images[:, :1] + 1) / 2),
        "outside, the picture goes on as at its border: zeros make an edge there":
            of(pad="constant"),
        "divide the filter by 4, so that a step from 0 to 1 has the slope 1": of(quarter=1.0),
        "divide the filter by 4, not by 8: the weights on one side add up to 4": of(quarter=8.0),
        "steepness is the length of the slope, sqrt(right^2 + down^2), not the sum of its parts":
            of(size=lambda right, down: right.abs() + down.abs()),
        "steepness is the length of the slope: the square root is missing":
            of(size=lambda right, down: right.square() + down.square()),
        "steepness is the length of the slope, not the larger of its parts":
            of(size=lambda right, down: torch.maximum(right.abs(), down.abs())),
        **likely_crests(images, low, high),
    }


def likely_crests(images, low, high):
    """The same of the crests, and of what grows from them."""
    def of(**words):
        return detected(images, low, high, **words)

    return {
        "compare with the neighbours along the slope, not across it: along it an edge is thin":
            of(turn=2),
        "the two diagonals changed places: down is positive where the next row is brighter":
            of(mirrored=True),
        "right and down changed places: atan2 takes (down, right)":
            of(turn=2, mirrored=True),
        "keep only where the slope is the largest along its direction, of weak edges as well":
            of(thin=lambda steep: steep > 0),
        "compare with the two neighbours along the slope, not with all eight":
            of(thin=lambda steep: steep >= F.max_pool2d(steep, 3, 1, 1)),
        "the weak edges are missing: those above `low` that touch an edge are edges":
            of(grow=lambda found, weak: found),
        "every weak edge was taken: only those connected with a strong one are edges":
            of(grow=lambda found, weak: weak),
        "one round of growing is not enough: go on until nothing changes":
            of(grow=lambda found, weak: grown(found, weak, 1)),
        "ten rounds of growing are not enough: go on until nothing changes":
            of(grow=lambda found, weak: grown(found, weak, 10)),
        "of two equal slopes a single one stays: yours keeps both": of(
            crest=lambda steep, behind, ahead: (steep >= behind) & (steep >= ahead)),
        "of two equal slopes a single one stays: yours keeps none": of(
            crest=lambda steep, behind, ahead: (steep > behind) & (steep > ahead)),
        "of two equal slopes the first one stays: behind and ahead changed places": of(
            crest=lambda steep, behind, ahead: (steep >= behind) & (steep > ahead)),
        "neighbours are all eight, the diagonal ones too": of(grow=plus_shaped),
        "that marks what is no edge: 1 is an edge": 1 - of(),
    }


# ---- a layer that starts at zero -----------------------------------------------------------------

def zero_conv(before, after):
    conv = nn.Conv2d(before, after, 1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


@check(reference=zero_conv, forbidden=[control.zero_conv, control.zero_])
def check_zero_conv(answer):
    for before, after in ((3, 5), (6, 2)):
        conv = answer(before, after)
        if not isinstance(conv, nn.Module):
            fail(f"return a layer, an nn.Module: this is {describe(conv)}")
        weights = dict(conv.named_parameters())
        judge_weights(conv, weights, before, after)
        x = randn(2, before, 4, 3).requires_grad_()
        y = answer.wrap(conv, names=["x"])(x)
        compare(y, torch.zeros(2, after, 4, 3), where="a fresh layer answers zero, for any x")
        judge_gradients(conv, x, y)
        judge_moved(answer, conv, before, after)
        if answer(before, after) is conv:
            fail("every call makes a new layer: this is one and the same")


def judge_weights(conv, weights, before, after):
    shapes = sorted(tuple(weight.shape) for weight in weights.values())
    kernel = (after, before, 1, 1)
    if kernel not in shapes:
        fail(f"its weights are {shapes}: a 1 x 1 convolution from {before} to {after} channels has "
             f"{kernel}")
    if (after,) not in shapes:
        fail("it has no bias")
    stuck = [name for name, weight in weights.items() if not weight.requires_grad]
    if stuck:
        fail(f"`{stuck[0]}` does not require a gradient: this layer is to be trained")
    for name, weight in weights.items():
        if weight.abs().max() > 0:
            fail(f"`{name}` is not zero")


def judge_gradients(conv, x, y):
    """Whether a gradient reaches the weights at the first step, and none the input."""
    y.sum().backward()
    with_gradient = [weight.grad is not None and weight.grad.abs().max() > 0
                     for weight in conv.parameters()]
    if not all(with_gradient):
        fail("no gradient reaches its weights: it could never leave zero")
    if x.grad is not None and x.grad.abs().max() > 0:
        fail("x gets a gradient through a layer that is zero: is there a way around it?")


def judge_moved(answer, conv, before, after):
    """Whether it is a plain convolution once its weights have moved."""
    with torch.no_grad():
        for i, weight in enumerate(conv.parameters()):
            weight.copy_(randn(*weight.shape, seed=i + 1))
    kernel, bias = (next(w for w in conv.parameters() if w.ndim == n) for n in (4, 1))
    x = randn(2, before, 4, 3, seed=9)
    want = F.conv2d(x, kernel, bias)
    answer.wrap(conv, names=["x"]).case((x,), want.detach(), {
        "once trained it must not stay zero: its answer is that of its weights": 0 * want.detach(),
        "the input is added: this layer has no way around it":
            want.detach() + x if before == after else 0 * want.detach() - 1,
    }, where="after its weights have moved")
