"""The checks of lesson 04 on what hears the time: its waves, and the residual block."""

import torch
import torch.nn.functional as F
from torch import nn

from minildm.course.exercises.answer import compare_gradients, copy_weights
from minildm.course.exercises.compare import describe, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.nn import layers

# ---- time ----------------------------------------------------------------------------------------

def waves(t, dim, unit=1000.0, half=None, period=10_000.0, first="cos"):
    """Cosines and sines of unit * t, float32; half: what the wave's number is divided by."""
    k = torch.arange(dim // 2, dtype=torch.float64)
    angles = unit * t.double()[:, None] * period ** (-k / (half or dim // 2))
    pair = [angles.cos(), angles.sin()]
    if first == "sin":
        pair.reverse()
    return torch.cat(pair, 1).float()


def sinusoid(t, dim):
    half = dim // 2
    frequencies = 10_000 ** (-torch.arange(half, device=t.device) / half)
    angles = 1000 * t[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


@check(reference=sinusoid, forbidden=[layers.sinusoid, layers.TimeEmbedding])
def check_sinusoid(answer):
    # no time is a whole step of a table of 1000; t = 0 alone tells nothing of the unit
    for times, dim in ([0.013, 0.4, 0.0, 1.0], 8), ([0.731, 0.29, 0.0047], 14):
        t = torch.tensor(times)
        half = dim // 2
        want = waves(t, dim)
        cos, sin = want.chunk(2, 1)
        answer.case((t, dim), want, {
            "t runs from 0 to 1, the waves were made for 0 to 1000: multiply":
                waves(t, dim, unit=1),
            "a wave of 2 pi t: the unit is 1000": waves(t, dim, unit=2 * torch.pi),
            "the unit is 1000, not 999": waves(t, dim, unit=999),
            "cosines come first: these are sines, then cosines": waves(t, dim, first="sin"),
            "all cosines, then all sines: yours take turns":
                torch.stack([cos, sin], 2).flatten(1),
            "all cosines, then all sines: yours take turns, sines first":
                torch.stack([sin, cos], 2).flatten(1),
            "k is divided by dim / 2, not by dim / 2 - 1": waves(t, dim, half=half - 1),
            "k is divided by dim / 2, not by dim": waves(t, dim, half=dim),
            "k is divided by dim / 2, not by dim / 4": waves(t, dim, half=half / 2),
            "the slowest wave comes last: frequencies fall with k": waves(t, dim, half=-half),
            "10,000 is the ratio of the frequencies, not 1,000": waves(t, dim, period=1000.0),
            "10,000^(-k / half), without a factor in the exponent":
                waves(t, dim, period=10_000.0**0.5),
            "dim numbers in all: dim / 2 cosines, dim / 2 sines": waves(t, 2 * dim),
            "two times cosines: the second half are sines": torch.cat([cos, cos], 1),
            "two times sines: the first half are cosines": torch.cat([sin, sin], 1),
            "exp of natural logarithms: log10 of 10,000 is 4": waves(t, dim, period=torch.e**4),
        }, tol=1e-3, where=f"{len(t)} times, dim {dim}")


# ---- modules -------------------------------------------------------------------------------------

def spread(module):
    """Give a module weights that leave nothing at 0 or 1, so that each part of it is seen."""
    with torch.no_grad():
        for i, weight in enumerate(module.parameters()):
            if weight.ndim == 1:
                weight.copy_(0.7 + 0.4 * randn(*weight.shape, seed=i))
            else:
                weight.copy_(1.5 * randn(*weight.shape, seed=i) / weight[0].numel()**0.5)
    return module


def made(answer, wanted, *sizes):
    """The student's module of these sizes, with the wanted one's weights, as an answer."""
    module = answer(*sizes)
    if not isinstance(module, nn.Module):
        fail(f"hand over the class: this made {describe(module)}")
    copy_weights(module, wanted)
    names = {"Residual": ["x", "emb"], "SelfAttention": ["x"], "SmallUNet": ["x", "t", "labels"]}
    return answer.wrap(module, names=names[type(wanted).__name__])


class Residual(nn.Module):
    """Norm, SiLU, convolution, twice, the time added between them, and a shortcut."""

    def __init__(self, c_in, c_out, time_dim):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_dim, c_out)
        self.norm2, self.conv2 = nn.GroupNorm(8, c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        same = c_in == c_out
        self.conv_shortcut = nn.Identity() if same else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(F.silu(emb))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return self.conv_shortcut(x) + h


@check(reference=Residual, forbidden=[layers.ResidualBlock])
def check_Residual(answer):
    # in the last B = H and C = W: who forgets the two axes gets a wrong result, not torch's error
    for sizes, shape in (((8, 24, 5), (2, 8, 3, 5)), ((16, 16, 7), (2, 16, 4, 3)),
                         ((8, 16, 6), (3, 8, 3, 16))):
        wanted = spread(Residual(*sizes))
        block = made(answer, wanted, *sizes)
        x = randn(*shape).requires_grad_()
        emb = randn(shape[0], sizes[2], seed=1).requires_grad_()
        want = wanted(x, emb)
        got = block.case((x, emb), want, likely_blocks(wanted, x, emb), where=f"x {shape}")
        compare_gradients(got, want, x=x, emb=emb)


def likely_blocks(block, x, emb):
    """{cause: result} of residual blocks with a likely mistake."""
    short = block.conv_shortcut(x)
    time = block.time_emb_proj(F.silu(emb))[:, :, None, None]
    # what the block has made before the time is added
    first = block.conv1(F.silu(block.norm1(x)))

    def second(h):
        return block.conv2(F.silu(block.norm2(h)))

    # the time without its SiLU
    bare = block.time_emb_proj(emb)[:, :, None, None]
    likely = {
        "the time is missing": short + second(first),
        "the time goes through a SiLU before the linear layer": short + second(first + bare),
        "the SiLU stands before the linear layer, not behind it": short + second(
            first + F.silu(bare)),
        "the time is added, not multiplied": short + second(first * time),
        "the time is added, without a 1 or a factor": short + second(first * (1 + time)),
        "the time comes before the second norm, not behind it":
            short + block.conv2(F.silu(block.norm2(first) + time)),
        "the time comes before the second norm, not at the end": short + second(first) + time,
        "the shortcut is missing: the block adds to its input": second(first + time),
        "the shortcut is the input, not what the first half made": first + second(first + time),
        "the first SiLU is missing":
            short + second(block.conv1(block.norm1(x)) + time),
        "the second SiLU is missing": short + block.conv2(block.norm2(first + time)),
        "no SiLU at the end": F.silu(short + second(first + time)),
        "no SiLU behind the last convolution": short + F.silu(second(first + time)),
        "the first norm is missing": short + second(block.conv1(F.silu(x)) + time),
        "the second norm is missing": short + block.conv2(F.silu(first + time)),
        "ReLU in place of SiLU": short + block.conv2(F.relu(block.norm2(
            block.conv1(F.relu(block.norm1(x))) + time))),
        "the time is the same for all pictures of a batch: each has its own":
            short + second(first + time[:1]),
    }
    if x.shape[0] == x.shape[2] and first.shape[1] == x.shape[3]:
        cause = "emb met the last axes, height and width: it is for pictures and channels"
        likely[cause] = short + second(first + time[:, :, 0, 0])
    return likely
