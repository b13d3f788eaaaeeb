"""The checks of lesson 16."""

import re

import torch

from minildm.course.exercises.compare import compare, fail, passed, randn
from minildm.diffusion.schedules import leading_grid, scaled_linear
from minildm.nn.layers import Attention
from minildm.published.load import SCALE
from minildm.published.names import compvis_unet

NONE = "your function returned None: is the `return` missing?"

def check_cross_attention_parameters(f):
    name = "cross_attention_parameters"
    for dim, context, heads in ((320, 768, 8), (1280, 768, 8), (96, 64, 4)):
        with torch.device("meta"):
            want = sum(p.numel() for p in Attention(dim, context, heads).parameters())
        got = f(dim, context)
        causes = {
            "only the output has a bias: q, k and v have none": want + 3 * dim,
            "the output has a bias": want - dim,
            "keys and values read the context: their matrices are context_dim wide": 4 * dim**2 + dim,
            "queries come from the picture: theirs is dim x dim": 3 * context * dim + dim**2 + dim,
            "the output's layer is missing": want - dim**2 - dim,
            "heads share the width dim between them: nothing is multiplied by them": heads * want,
            NONE: None}
        if got != want:
            where = f"dim {dim}, context_dim {context}: {got} should be {want}"
            fail(name, next((cause for cause, wrong in causes.items() if got == wrong), where))
    passed(name)


def original_place(n: int, blocks: int) -> str:
    """By the rules with which `pretrained` reads such files."""
    place = f"input_blocks.{n}.0." + "op." * (n > 0 and n % (blocks + 1) == 0)
    for pattern, replacement in compvis_unet(blocks):
        place = re.sub(pattern, replacement, place)
    return place.removesuffix(".").removesuffix(".conv")


def check_place_of(f):
    name = "place_of"
    for blocks in (2, 1):
        wanted = [original_place(n, blocks) for n in range(4 * (blocks + 1))]
        for n, want in enumerate(wanted[:-1]):
            got = f(n, blocks)
            if got != want:
                where = f"input_blocks.{n}, {blocks} blocks a level: {got!r} should be {want!r}"
                causes = {NONE: got is None,
                          "number 0 is the first convolution": n == 0,
                          "count from 1, as number 0 is conv_in": got == wanted[n + 1],
                          "right for 2 blocks a level, not for 1": blocks == 1,
                          "last on a level is no block but the halving": f"resnets.{blocks}" in str(got)}
                fail(name, ": ".join([*[c for c, found in causes.items() if found][:1], where]))
    passed(name)


def check_alpha_bar_table(f):
    ends = 0.00085, 0.012
    want = scaled_linear.alpha(torch.arange(1, 1001, dtype=torch.float64) / 1000)**2

    def table(betas):
        return torch.cumprod(1 - betas, 0)

    roots = torch.linspace(ends[0]**0.5, ends[1]**0.5, 1000, dtype=torch.float64)
    passed(compare("alpha_bar_table", f(*ends, 1000), want, {
        "the roots of the betas are equally spaced, not the betas": table(torch.linspace(*ends, 1000)),
        "square them again: those were the roots": table(roots),
        "these are the betas": roots**2,
        "these are the alphas: they want to be multiplied up": 1 - roots**2,
        "that is sqrt(alpha_bar)": want.sqrt(),
        "a running product, not a running sum": 1 - (roots**2).cumsum(0),
        "the table begins with its first beta, not with 1": torch.cat([torch.ones(1), want[:-1]]),
        "that is 1 - alpha_bar": 1 - want}, tol=1e-5))


def check_leading_entries(f):
    for n in (50, 30):
        want = (leading_grid(n, 1)[:-1] * 1000).round().long() - 1
        i = torch.arange(n)
        compare("leading_entries", f(n), want, {
            "from noise to data: the largest first": want.flip(0),
            "steps_offset: each is one further on": want - 1,
            "the offset is 1, once, not 1 a step": i.flip(0) * (1000 // n + 1),
            "spread over the whole table: \"linspace\"": torch.linspace(999, 0, n).round().long(),
            "that counts down from the table's end: that is \"trailing\"": 999 - i * (1000 // n),
            "the whole multiples of 1000 // n, not multiples of a fraction":
                (i.flip(0) * 1000 / n).round().long() + 1,
            "an entry is a number of 0..999, not a time of 0..1": (want + 1) / 1000})
    passed("leading_entries")


class Decoder:
    """In place of a VAE: its picture is what it is asked to decode."""

    def decode(self, z):
        return z[:, :3]


def check_to_pixels(f):
    x = 0.3 * randn(2, 4, 8, 8)
    images = (x / SCALE)[:, :3]
    want = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
    got = f(Decoder(), x)
    if isinstance(got, torch.Tensor) and got.dtype != torch.uint8:
        fail("to_pixels", f"a picture's file wants uint8, this is {got.dtype}: end with .byte()")
    passed(compare("to_pixels", got, want, {
        "divide by 0.18215: training multiplied by it":
            (((x * SCALE)[:, :3].clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1),
        "the latents were scaled by 0.18215 in training: undo it":
            ((x[:, :3].clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1),
        "clamp first: beyond 255 a byte begins at 0 again":
            ((images + 1) * 127.5).round().int().byte().permute(0, 2, 3, 1),
        "the decoder's pixels are in [-1, 1], not in [0, 1]":
            (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1),
        "channels come last in a picture's file: permute": want.permute(0, 3, 1, 2),
        "round, don't cut: everything came out a little too dark":
            ((images.clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1)}, tol=0))
