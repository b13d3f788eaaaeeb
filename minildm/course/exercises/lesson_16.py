"""The checks of lesson 16."""

import numpy as np
import torch

from minildm.course.exercises.compare import equal, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.diffusion import schedules
from minildm.nn.layers import Attention
from minildm.published.load import SCALE
from minildm.published.names import compvis_unet


def cross_attention_parameters(dim, context_dim):
    return 2 * dim**2 + 2 * context_dim * dim + dim


@check(reference=cross_attention_parameters, forbidden=[Attention])
def check_cross_attention_parameters(answer):
    for dim, context in (320, 768), (1280, 768), (97, 64), (40, 40), (7, 30):
        want = 2 * dim**2 + 2 * context * dim + dim
        # float64 has such counts exactly
        answer.case((dim, context), torch.tensor(want, dtype=torch.float64), {
            "only the output has a bias: q, k and v have none": want + 3 * dim,
            "only the output has a bias, one: keys and values have none": want + 2 * dim,
            "only the output has a bias, one: queries have none": want + dim,
            "the output has a bias": want - dim,
            "the output's bias is dim numbers": want - dim + 1,
            "the output's bias is dim numbers, as is its result": want - dim + context,
            "keys and values read the context: their matrices have its width": 4 * dim**2 + dim,
            "only the keys read the context here: values do, too":
                3 * dim**2 + context * dim + dim,
            "queries come from the picture, whose width is dim":
                3 * context * dim + dim**2 + dim,
            "the output goes to the picture, from the picture's width":
                dim**2 + 3 * context * dim + dim,
            "dim and context_dim changed places": 2 * context**2 + 2 * context * dim + context,
            "keys and values are two matrices": want - context * dim,
            "the queries are missing": want - dim**2,
            "the output's layer is missing": want - dim**2 - dim,
            "the keys and values are missing": 2 * dim**2 + dim,
            "keys and values have the width dim after them, not before and after":
                2 * dim**2 + 2 * context**2 + dim,
            "a matrix has width times width numbers, not their sum":
                2 * (dim + dim) + 2 * (context + dim) + dim,
            "heads share the width dim between them: nothing is multiplied by them": 8 * want,
        }, tol=1e-9, where=f"dim {dim}, context_dim {context}")


def place_of(n, blocks=2):
    if n == 0:
        return "conv_in"
    level, i = divmod(n - 1, blocks + 1)
    part = "downsamplers.0" if i == blocks else f"resnets.{i}"
    return f"down_blocks.{level}.{part}"


@check(reference=place_of, forbidden=[compvis_unet])
def check_place_of(answer):
    # without `blocks` first: it is 2 unless said
    for blocks in (), (2,), (1,), (3,), (4,):
        depth = blocks[0] if blocks else 2
        # of four levels the last has no halving
        numbers = range(4 * (depth + 1))
        got = [answer(n, *blocks) for n in numbers]
        # one answer alone is right by many a wrong rule: all of them tell which
        tables = [wrong_places(n, depth) for n in numbers]
        for cause in tables[0]:
            by_rule = [table[cause] for table in tables]
            if got == by_rule != [place_of(n, depth) for n in numbers]:
                fail(f"with {depth} blocks a level, {cause}")
        for n in numbers:
            where = f"input_blocks.{n}, {depth} blocks a level"
            equal(got[n], place_of(n, depth), where=where)


def wrong_places(n, blocks):
    """Where number n would be by each of some wrong rules."""
    level, i = divmod(n - 1, blocks + 1)
    late_level, late = divmod(n - 1, blocks)
    down = f"down_blocks.{level}."
    right = place_of(n, blocks)
    is_halving = i == blocks
    wrong = {
        "count from 1, as number 0 is conv_in": place_of(n + 1, blocks),
        "the first block comes right after conv_in: one too far back": place_of(n - 1, blocks),
        "there are not always 2 blocks": place_of(n, 2),
        "last on a level is no block but the halving": f"{down}resnets.{i}",
        "the halving counts, too": f"down_blocks.{late_level}.resnets.{late}",
        "levels count from 0": right.replace(down, f"down_blocks.{level + 1}."),
        "blocks count from 0": right if is_halving else f"{down}resnets.{i + 1}",
        "the halving is after the blocks, not before":
            f"{down}resnets.{i - 1}" if i else f"{down}downsamplers.0",
        "the halving's number is 0, not the level's":
            right.replace("downsamplers.0", f"downsamplers.{level}"),
        "the halving's number is 0, not the blocks'":
            right.replace("downsamplers.0", f"downsamplers.{i}"),
        "the halving has a number, 0": right.replace("downsamplers.0", "downsamplers"),
        "level and block changed places": f"down_blocks.{i}.resnets.{level}",
        "down_blocks are meant: input_blocks is the other spelling":
            right.replace("down_blocks", "input_blocks"),
        "residual blocks are called resnets": right.replace("resnets", "attentions"),
        "a block's name has no dot at its end": right + ".",
        "a name is wanted, not level and number": (level, i),
    }
    if n == 0:
        return {cause: "conv_in" for cause in wrong} | {"number 0 is conv_in": place_of(1, blocks)}
    return wrong | {"number 0 is conv_in": place_of(n + 1, blocks)}


def alpha_bar_table(beta_start, beta_end, steps):
    roots = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64)
    return torch.cumprod(1 - roots**2, 0)


@check(reference=alpha_bar_table, forbidden=[schedules.from_betas])
def check_alpha_bar_table(answer):
    for start, end, steps in (0.00085, 0.012, 1000), (0.002, 0.3, 37), (0.01, 0.05, 6):
        want = alpha_bar_table(start, end, steps)
        likely = wrong_tables(start, end, steps)
        where = f"betas from {start} to {end}, {steps} steps"
        answer.case((start, end, steps), want, likely, tol=1e-6, where=where)


def wrong_tables(start, end, steps):
    even = torch.linspace(start, end, steps, dtype=torch.float64)
    roots = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64)
    longer = torch.linspace(start**0.5, end**0.5, steps + 1, dtype=torch.float64)
    betas = roots**2
    right = torch.cumprod(1 - betas, 0)
    one = torch.ones(1, dtype=torch.float64)
    powers = torch.logspace(0, 1, steps, base=end / start, dtype=torch.float64)
    squares = torch.linspace(start**2, end**2, steps, dtype=torch.float64).sqrt()

    def product(betas):
        return torch.cumprod(1 - betas, 0)

    return {
        "the roots of the betas are equally spaced, not the betas": product(even),
        "the roots are equally spaced, not the squares": product(squares),
        "the roots are equally spaced, not the logarithms": product(start * powers),
        "square them again: those were the roots": product(roots),
        "the betas' roots, not the betas to the power 4, count": product(betas**2),
        "the ends are roots, too": product(torch.linspace(start, end, steps).double()**2),
        "these are the betas": betas,
        "these are the roots of the betas": roots,
        "these are the alphas: they want to be multiplied up": 1 - betas,
        "that is sqrt(alpha_bar)": right.sqrt(),
        "that is the square of alpha_bar": right**2,
        "a running product, not a running sum": 1 - betas.cumsum(0),
        "a running product of 1 - beta, not of the betas": torch.cumprod(betas, 0),
        "a step leaves 1 - beta, not 1 + beta": product(-betas),
        "an exponential of a sum is near it for small betas only": (-betas.cumsum(0)).exp(),
        "that is 1 - alpha_bar": 1 - right,
        "that is the signal to the noise: alpha_bar is wanted": right / (1 - right),
        "the table begins with its first beta, not with 1": torch.cat([one, right[:-1]]),
        "the table begins with its first beta, not a 1 in front": torch.cat([one, right]),
        "the last beta is in the table, the first is not left out": product(longer[1:]**2),
        "the last beta is in the table, as the first is": product(longer[:-1]**2),
        "from beta_start to beta_end, not back": product(betas.flip(0)),
        "the first step comes first": right.flip(0),
    }


def leading_entries(n):
    return torch.arange(n).flip(0) * (1000 // n) + 1


@check(reference=leading_entries, forbidden=[schedules.leading_grid])
def check_leading_entries(answer):

    def as_a_tensor(n):
        entries = answer(n)
        # a list of numbers, or what counts, is as good
        if isinstance(entries, (range, list, tuple, np.ndarray)):
            entries = torch.as_tensor(np.asarray(entries))
        return entries

    listed = answer.wrap(as_a_tensor, names=["n"])
    for n in 50, 30, 7, 1:
        want = leading_entries(n)
        likely = wrong_entries(n)
        listed.case((n,), want, likely, tol=1e-6, where=f"n = {n}")


def wrong_entries(n):
    apart = 1000 // n
    back = torch.arange(n).flip(0)
    want = back * apart + 1
    over = back * 1000 / n
    return {
        "from noise to data: the largest first": want.flip(0),
        "steps_offset: each is one further on": want - 1,
        "steps_offset: each is one further on, and the largest comes first": want.flip(0) - 1,
        "steps_offset is 1, added once": want + 1,
        "the offset is 1, once, not 1 a step": back * (apart + 1),
        "multiples from 0, not from 1": want + apart,
        "multiples from 0, not from 1, and each one further on": want + apart - 1,
        "spread over the whole table: that is \"linspace\"": torch.linspace(999, 0, n).round(),
        "spread over the whole table: that's \"linspace\"": torch.linspace(1000, 1, n).round(),
        "spread over the whole table: that is \"linspace\", cut off":
            torch.linspace(999, 0, n).long(),
        "that counts down from the table's end: that is \"trailing\"": 999 - back.flip(0) * apart,
        "multiples of the whole 1000 // n, not of a fraction": over.round() + 1,
        "multiples of the whole 1000 // n, not of a fraction that is cut off": over.long() + 1,
        "multiples of the whole 1000 // n: it isn't 20 always": back * 20 + 1,
        "an entry is a number of 0..999, not a time of 0..1": (want + 1) / 1000,
        "an entry is a number of 0..999, not a part of 1": want / 1000,
        "the first n entries: they are spread over the table": back,
        "the first n entries: they are spread over the table, 1000 // n apart": back + 1,
        "entries, not the distances between them": torch.full((n,), apart),
    }


class Decoder:
    """In place of a VAE: pixels that depend on all latents, some of them beyond [-1, 1]."""

    def __init__(self):
        self.pictures = 0

    def decode(self, z):
        if not isinstance(z, torch.Tensor) or z.ndim != 4 or z.shape[1] != 4:
            fail("vae.decode takes latents (B, 4, h, w), and isn't given such")
        self.pictures += len(z)
        mixed = z[:, :3] + 0.2 * z[:, 3:] ** 2
        return mixed.repeat_interleave(2, 2).repeat_interleave(2, 3)


def to_pixels(vae, x):
    images = vae.decode(x / SCALE).clamp(-1, 1)
    return ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1)


@check(reference=to_pixels)
def check_to_pixels(answer):
    for shape in (2, 4, 3, 5), (3, 4, 4, 2), (1, 4, 2, 7):
        x = 0.2 * randn(*shape)
        likely = wrong_pixels(x)
        want = to_pixels(Decoder(), x)
        vae = Decoder()
        result = answer(vae, x)
        wants_bytes(result)
        answer.case((Decoder(), x), want, likely, tol=0, where=f"latents {shape}")
        if vae.pictures != len(x):
            fail(f"{vae.pictures} pictures were decoded for {len(x)} latents: once is enough")


def wants_bytes(result):
    """Tell of another type first: whatever the values are, none of it can be a picture's file."""
    if isinstance(result, torch.Tensor) and result.dtype != torch.uint8:
        fail(f"a picture's file wants bytes, uint8: this is {result.dtype}")


def pixels(values):
    # as a cast does it: beyond 255 a byte begins at 0 again
    return values.int().byte().permute(0, 2, 3, 1)


def drawn(images):
    return pixels(((images.clamp(-1, 1) + 1) * 127.5).round())


def wrong_pixels(x):
    images = Decoder().decode(x / SCALE)
    kept = images.clamp(-1, 1)
    grey = (kept + 1) * 127.5

    right = pixels(grey.round())
    return {
        "undo the scale: training multiplied by 0.18215, here it is multiplied again":
            drawn(Decoder().decode(x * SCALE)),
        "the latents were scaled by 0.18215 in training: undo it": drawn(Decoder().decode(x)),
        "the scale is the latents', not the pictures'": drawn(Decoder().decode(x) / SCALE),
        "the scale is the latents', not the pictures', and it is undone": drawn(images / SCALE),
        "clamp the pictures, not the latents":
            pixels(((Decoder().decode((x / SCALE).clamp(-1, 1)) + 1) * 127.5).round()),
        "clamp first: beyond 255 a byte begins at 0 again": pixels(((images + 1) * 127.5).round()),
        "the decoder's pixels are in [-1, 1]: those below 0 were cut off":
            pixels((images.clamp(0, 1) * 255).round()),
        "the decoder's pixels are in [-1, 1]: 1 is added before they are multiplied":
            pixels((kept * 127.5 + 1).round()),
        "the decoder's pixels are in [-1, 1], which is 2 wide: bright ones begin at 0 again":
            pixels(((kept + 1) * 255).round()),
        "up to 255, not to 256": pixels(((kept + 1) * 128).round()),
        "up to 255, not 254": pixels(((kept + 1) * 127).round()),
        "round, don't cut: everything came out a little too dark": pixels(grey),
        "round to the nearest, not up": pixels(grey.ceil()),
        "round at the end: before, pixels are all -1, 0 or 1": pixels((kept.round() + 1) * 127.5),
        "channels come last in a picture's file": right.permute(0, 3, 1, 2),
        "channels come last, height and width as they were": right.permute(0, 2, 1, 3),
        "channels come last: their order is that of the decoder, red first": right.flip(-1),
        "channels come last: axes change places, a new shape mixes pixels":
            right.permute(0, 3, 1, 2).reshape(right.shape),
        "bright is 255: this is the negative": 255 - right,
        "all pictures of the batch are wanted": right[0],
    }
