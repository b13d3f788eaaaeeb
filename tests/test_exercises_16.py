"""Lesson 16's checks: right answers in any style pass; wrong ones are told what is wrong."""

import re

import pytest
import torch
from support.answers import right_and_wrong, written

from minildm.course.exercises import lesson_16
from minildm.diffusion.schedules import leading_grid, scaled_linear
from minildm.nn.layers import Attention
from minildm.published.names import compvis_unet

HELPERS = {"Attention": Attention, "scaled_linear": scaled_linear, "leading_grid": leading_grid}
FIRST = "if n == 0:\n    return 'conv_in'\n"
PLACE = FIRST + "level, i = divmod(n - 1, blocks + 1)\n"
PART = "('downsamplers.0' if i == blocks else f'resnets.{i}')"
ENDS = ("a, b = beta_start**0.5, beta_end**0.5\n"
        "r = torch.linspace(a, b, steps, dtype=torch.float64)\n")
LINE = "b = torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)\n"
SHOW = ("images = {decode}.clamp(-1, 1)\n"
        "return ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1)")
IMAGES = "images = vae.decode(x / 0.18215)\n"
KEPT = IMAGES + "images = images.clamp(-1, 1)\n"
LAST = ".permute(0, 2, 3, 1)"


def place(name="f'down_blocks.{level}.' + " + PART, start=PLACE):
    return start + "return " + name


def with_two_blocks(body):
    """A place_of whose `blocks` has a default, as in the stub."""
    answer = written("place_of", body)
    answer.__defaults__ = (2,)
    return answer


RIGHT = [
    ("cross_attention_parameters", "dim * dim + 2 * context_dim * dim + (dim * dim + dim)"),
    ("cross_attention_parameters", "return dim * (2 * dim + 2 * context_dim + 1)"),
    ("cross_attention_parameters", """
        with torch.device("meta"):
            q, k, v = (nn.Linear(n, dim, bias=False) for n in (dim, context_dim, context_dim))
            out = nn.Linear(dim, dim)
        return sum(p.numel() for layer in (q, k, v, out) for p in layer.parameters())
     """),
    ("place_of", place()),
    ("place_of", """
        names = ["conv_in"]
        level = 0
        while len(names) <= n:
            names += [f"down_blocks.{level}.resnets.{i}" for i in range(blocks)]
            names.append(f"down_blocks.{level}.downsamplers.0")
            level += 1
        return names[n]
     """),
    ("place_of", FIRST + "level = (n - 1) // (blocks + 1)\n"
     "if n % (blocks + 1) == 0:\n    return 'down_blocks.%d.downsamplers.0' % level\n"
     "return 'down_blocks.{}.resnets.{}'.format(level, n % (blocks + 1) - 1)"),
    ("alpha_bar_table", ENDS + "return torch.cumprod(1 - r**2, 0)"),
    ("alpha_bar_table", ENDS + "return (1 - r.square()).log().cumsum(0).exp()"),
    ("alpha_bar_table", """
        a, b = math.sqrt(beta_start), math.sqrt(beta_end)
        left, table = 1.0, []
        for i in range(steps):
            left *= 1 - (a + (b - a) * i / (steps - 1))**2
            table.append(left)
        return torch.tensor(table, dtype=torch.float64)
     """),
    ("leading_entries", "torch.arange(n - 1, -1, -1) * (1000 // n) + 1"),
    ("leading_entries", "return [1 + i * (1000 // n) for i in reversed(range(n))]"),
    ("leading_entries", "import numpy as np\n"
                        "return (np.arange(0, n) * (1000 // "
                        "n)).round()[::-1].copy().astype(np.int64) + 1"),
    ("leading_entries", "step = 1000 // n\nreturn range((n - 1) * step + 1, 0, -step)"),
    ("leading_entries", "return torch.arange(1, 1001, 1000 // n)[:n].flip(0).int()"),
    ("to_pixels", SHOW.format(decode="vae.decode(x / 0.18215)")),
    ("to_pixels", "images = torch.cat([vae.decode(z[None] / 0.18215) for z in x])\n"
                  "images = (images / 2 + 0.5).clamp(0, 1)\n"
                  "return (images * 255).round().to(torch.uint8).movedim(1, -1)"),
    ("to_pixels", "images = vae.decode(x.double() / 0.18215).clamp_(-1, 1).permute(0, 2, 3, 1)\n"
                  "return images.add_(1).mul_(127.5).round_().byte().contiguous()"),
    ("to_pixels", IMAGES + "images = (images * 127.5 + 127.5).round().clamp(0, 255)\n"
                           "return torch.einsum('bchw->bhwc', images.to(torch.uint8))"),
]

WRONG_COUNT = [
    ("q, k and v have none", "return 2 * dim**2 + 2 * context_dim * dim + 4 * dim"),
    ("keys and values have none", "return 2 * dim**2 + 2 * context_dim * dim + 3 * dim"),
    ("queries have none", "return 2 * dim**2 + 2 * context_dim * dim + 2 * dim"),
    ("output has a bias", "return 2 * dim**2 + 2 * context_dim * dim"),
    ("dim numbers", "return 2 * dim**2 + 2 * context_dim * dim + 1"),
    ("as is its result", "return 2 * dim**2 + 2 * context_dim * dim + context_dim"),
    ("read the context", "return 4 * dim**2 + dim"),
    ("only the keys", "return 3 * dim**2 + context_dim * dim + dim"),
    ("queries come from", "return dim**2 + 3 * context_dim * dim + dim"),
    ("changed places", "return 2 * context_dim**2 + 2 * context_dim * dim + context_dim"),
    ("two matrices", "return 2 * dim**2 + context_dim * dim + dim"),
    ("queries are missing", "return dim**2 + 2 * context_dim * dim + dim"),
    ("output's layer", "return dim**2 + 2 * context_dim * dim"),
    ("keys and values are missing", "return 2 * dim**2 + dim"),
    ("before and after", "return 2 * dim**2 + 2 * context_dim**2 + dim"),
    ("not their sum", "return 4 * dim + 2 * (context_dim + dim) + dim"),
    ("heads share", "return 8 * (2 * dim**2 + 2 * context_dim * dim + dim)"),
    ("should be", "return dim * context_dim"),
    ("should be", "return 2 * dim**2 + 2 * 768 * dim + dim"),
    ("should be", "return 1189440 - 494080"),
    ("None", "2 * dim**2 + 2 * context_dim * dim + dim\nreturn"),
    ("tuple|should be", "return 2 * dim**2 + 2 * context_dim * dim, dim"),
    ("package", "return sum(p.numel() for p in Attention(dim, context_dim, 1).parameters())"),
    ("NaN", "return float('nan')"),
]
WRONG_PLACE = [
    ("count from 1", place(start=FIRST + "level, i = divmod(n, blocks + 1)\n")),
    ("number 0 is conv_in", place(start="level, i = divmod(n, blocks + 1)\n")),
    ("first convolution|should be", place(start="level, i = divmod(n - 1, blocks + 1)\n")),
    ("no block but the halving", place("f'down_blocks.{level}.resnets.{i}'")),
    ("halving counts", place("f'down_blocks.{level}.resnets.{i}'",
                             FIRST + "level, i = divmod(n - 1, blocks)\n")),
    ("levels count", place("f'down_blocks.{level + 1}.' + " + PART)),
    ("blocks count", place("f'down_blocks.{level}.' + " + PART.replace("{i}", "{i + 1}"))),
    ("not before", place("f'down_blocks.{level}.' + ('downsamplers.0' if i == 0 else "
     "f'resnets.{i - 1}')")),
    ("not always 2", place(start=PLACE.replace("blocks + 1", "3")).replace("== blocks", "== 2")),
    ("number is 0", place("f'down_blocks.{level}.' + " + PART.replace(".0'",
     ".' + str(level)"))),
    ("number is 0", place("f'down_blocks.{level}.' + " + PART.replace(".0'", ".' + str(i)"))),
    ("has a number", place("f'down_blocks.{level}.' + " + PART.replace("downsamplers.0",
     "downsamplers"))),
    ("changed places", place("f'down_blocks.{i}.resnets.{level}'")),
    ("other spelling", place("f'input_blocks.{level}.' + " + PART)),
    ("should be", place("f'down.{level}.' + " + PART)),
    ("no dot", place("f'down_blocks.{level}.' + " + PART + " + '.'")),
    ("should be", place("f'down_blocks.{level}.' + " + PART + " + '.conv'")),
    ("a name is wanted", place("level, i")),
    ("residual blocks",
     place("f'down_blocks.{level}.' + " + PART.replace("resnets", "attentions"))),
    ("should be", place("f'down_blocks.{level}.' + " + PART.replace("downsamplers", "downsample"))),
    ("None", place().replace("return f", "f")),
    ("too far back|should be", place(start=FIRST + "level, i = divmod(max(n - 2, 0), blocks + "
     "1)\n")),
    ("raised", place(start=FIRST + "level, i = divmod(n - 1, block + 1)\n")),
    ("should be", place("f'down_blocks.{level}.' + " + PART).replace("'conv_in'",
     "'conv_in.weight'")),
]
WRONG_TABLE = [
    ("not the betas", LINE + "return torch.cumprod(1 - b, 0)"),
    ("not the squares", "b = torch.linspace(beta_start**2, beta_end**2, steps).double().sqrt()\n"
                        "return torch.cumprod(1 - b, 0)"),
    ("logarithms", "b = torch.linspace(math.log(beta_start), math.log(beta_end), "
     "steps).double().exp()\n"
                   "return torch.cumprod(1 - b, 0)"),
    ("square them again", ENDS + "return torch.cumprod(1 - r, 0)"),
    ("power 4", ENDS + "return torch.cumprod(1 - r**4, 0)"),
    ("ends are roots", LINE + "return torch.cumprod(1 - b**2, 0)"),
    ("these are the betas", ENDS + "return r**2"),
    ("roots of the betas", ENDS + "return r"),
    ("multiplied up", ENDS + "return 1 - r**2"),
    ("sqrt", ENDS + "return torch.cumprod(1 - r**2, 0).sqrt()"),
    ("square of alpha_bar", ENDS + "return torch.cumprod(1 - r**2, 0)**2"),
    ("running sum", ENDS + "return 1 - torch.cumsum(r**2, 0)"),
    ("not of the betas", ENDS + "return torch.cumprod(r**2, 0)"),
    (r"not 1 \+ beta", ENDS + "return torch.cumprod(1 + r**2, 0)"),
    ("small betas", ENDS + "return torch.exp(-torch.cumsum(r**2, 0))"),
    ("1 - alpha_bar", ENDS + "return 1 - torch.cumprod(1 - r**2, 0)"),
    ("signal to the noise", ENDS + "a = torch.cumprod(1 - r**2, 0)\nreturn a / (1 - a)"),
    ("differs", ENDS + "return (1 - torch.cumprod(1 - r**2, 0)).sqrt()"),
    ("not with 1", ENDS + "return torch.cat([torch.ones(1), torch.cumprod(1 - r**2, 0)[:-1]])"),
    ("in front", ENDS + "return torch.cat([torch.ones(1), torch.cumprod(1 - r**2, 0)])"),
    ("last beta", ENDS.replace("steps", "steps + 1") + "return torch.cumprod(1 - r**2, 0)[:-1]"),
    ("not back", ENDS + "return torch.cumprod(1 - r.flip(0)**2, 0)"),
    ("first step comes first", ENDS + "return torch.cumprod(1 - r**2, 0).flip(0)"),
    ("type is", ENDS.replace(", dtype=torch.float64", "") + "return torch.cumprod(1 - r**2, 0)"),
    ("type is", ENDS + "return torch.cumprod(1 - r**2, 0).float()"),
    ("first inputs", ENDS.replace("steps", "1000") + "return torch.cumprod(1 - r**2, 0)"),
    ("first inputs", "beta_start, beta_end = 0.00085, 0.012\n" + ENDS + "return torch.cumprod(1 "
     "- r**2, 0)"),
    ("type is", "t = torch.arange(1, steps + 1) / steps\nreturn scaled_linear.alpha(t)**2"),
    ("a list", ENDS + "return torch.cumprod(1 - r**2, 0).tolist()"),
    ("shape", ENDS + "return torch.prod(1 - r**2)"),
    ("None", ENDS + "torch.cumprod(1 - r**2, 0)\nreturn"),
    ("NaN", ENDS + "return torch.cumprod(1 - r**2, 0).sub(2).log()"),
]
STEP = "i, apart = torch.arange(n - 1, -1, -1), 1000 // n\nreturn "
WRONG_ENTRIES = [
    ("largest first", STEP + "(i * apart + 1).flip(0)"),
    ("one further on", STEP + "i * apart"),
    ("and the largest", STEP + "(i * apart).flip(0)"),
    ("plus -2", STEP + "i * apart - 1"),
    ("added once", STEP + "i * apart + 2"),
    ("not 1 a step", STEP + "i * (apart + 1)"),
    ("multiples from 0", STEP + "(i + 1) * apart + 1"),
    ("multiples from 0", STEP + "(i + 1) * apart"),
    ("linspace", "return torch.linspace(999, 0, n).round().long()"),
    ("linspace", "return torch.linspace(1000, 1, n).round().long()"),
    ("cut off", "return torch.linspace(999, 0, n).long()"),
    ("trailing", "return torch.arange(999, -1, -(1000 // n))[:n]"),
    ("multiples from 0", "return torch.arange(1000, 0, -(1000 // n))[:n]"),
    ("not of a fraction", STEP + "(i * 1000 / n).round().long() + 1"),
    ("fraction", STEP + "(i * 1000 / n).long() + 1"),
    ("20 always", STEP + "i * 20 + 1"),
    ("not a time", STEP + "(i * apart + 2) / 1000"),
    ("part of 1", STEP + "(i * apart + 1) / 1000"),
    ("too much|missing", "return torch.arange(n, -1, -1) * (1000 // n) + 1"),
    ("first n", "return torch.arange(n - 1, -1, -1)"),
    ("first n", "return torch.arange(n, 0, -1)"),
    ("distances", "return torch.full((n,), 1000 // n)"),
    ("type is", STEP + "(i * apart + 1).float()"),
    ("type is", STEP + "[float(k * apart + 1) for k in i]"),
    ("missing|too much|shape", "return torch.arange(1, 1000, 1000 // n).flip(0)[1:]"),
    ("first inputs|shape|should be", "return torch.arange(981, 0, -20)"),
    ("package", "return (leading_grid(n, 1)[:-1] * 1000).round().long() - 1"),
    ("None", STEP.replace("return ", "") + "i * apart + 1\nreturn"),
    ("shape", STEP + "(i * apart + 1)[:, None]"),
    ("raised", "return torch.arange(n) * (1000 // steps)"),
]
WRONG_PIXELS = [
    ("multiplied again", SHOW.format(decode="vae.decode(x * 0.18215)")),
    ("undo it", SHOW.format(decode="vae.decode(x)")),
    ("not the pictures'", SHOW.format(decode="(vae.decode(x) / 0.18215)")),
    ("it is undone", SHOW.format(decode="(vae.decode(x / 0.18215) / 0.18215)")),
    ("not the latents", "images = vae.decode((x / 0.18215).clamp(-1, 1))\n"
                        "return ((images + 1) * 127.5).round().int().byte()" + LAST),
    ("clamp first", IMAGES + "return ((images + 1) * 127.5).round().int().byte()" + LAST),
    ("cut off", IMAGES + "return (images.clamp(0, 1) * 255).round().byte()" + LAST),
    ("cut off", KEPT + "return (images * 255).clamp(0, 255).round().byte()" + LAST),
    ("before they are multiplied",
     KEPT + "return (images * 127.5 + 1).round().int().byte()" + LAST),
    ("2 wide", KEPT + "return ((images + 1) * 255).round().int().byte()" + LAST),
    ("not to 256", KEPT + "return ((images + 1) * 128).round().int().byte()" + LAST),
    ("not 254", KEPT + "return ((images + 1) * 127).round().byte()" + LAST),
    ("differs|wrong", KEPT + "return ((images + 1) / 2).round().byte()" + LAST),
    ("differs|wrong", IMAGES + "low, high = images.min(), images.max()\n"
                         "return ((images - low) / (high - low) * 255).round().byte()" + LAST),
    ("don't cut", KEPT + "return ((images + 1) * 127.5).byte()" + LAST),
    ("not up", KEPT + "return ((images + 1) * 127.5).ceil().byte()" + LAST),
    ("at the end", KEPT + "return ((images.round() + 1) * 127.5).byte()" + LAST),
    ("channels come last", KEPT + "return ((images + 1) * 127.5).round().byte()"),
    ("as they were", KEPT + "return ((images + 1) * 127.5).round().byte().permute(0, 3, 2, 1)"),
    ("red first", KEPT + "return ((images + 1) * 127.5).round().byte().permute(0, 2, 3, "
     "1).flip(-1)"),
    ("mixes", KEPT + "b, c, h, w = images.shape\n"
                     "return ((images + 1) * 127.5).round().byte().reshape(b, h, w, c)"),
    ("negative", KEPT + "return (255 - ((images + 1) * 127.5).round()).byte()" + LAST),
    ("all pictures", KEPT + "return ((images + 1) * 127.5).round().byte()[0].permute(1, 2, 0)"),
    ("uint8", KEPT + "return ((images + 1) * 127.5).round()" + LAST),
    ("uint8", KEPT + "return ((images + 1) * 127.5).round().long()" + LAST),
    ("uint8", KEPT + "return (images / 2 + 0.5)" + LAST),
    ("in place", "x /= 0.18215\n" + SHOW.format(decode="vae.decode(x)")),
    ("raised|given such", SHOW.format(decode="vae(x / 0.18215)")),
    ("given such", SHOW.format(decode="vae.decode((x / 0.18215).flatten(1))")),
    ("decoded", "vae.decode(x)\n" + SHOW.format(decode="vae.decode(x / 0.18215)")),
    ("numpy", KEPT + "return ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()"),
    ("None", KEPT.rstrip() + "\nreturn"),
    ("wrong|differs", SHOW.format(decode="vae.decode(x / 0.13025)")),
]
WRONG_ROWS = {"cross_attention_parameters": WRONG_COUNT, "place_of": WRONG_PLACE,
              "alpha_bar_table": WRONG_TABLE, "leading_entries": WRONG_ENTRIES,
              "to_pixels": WRONG_PIXELS}
WRONG = [(name, *row) for name, rows in WRONG_ROWS.items() for row in rows]


def answer_to(name, body):
    return with_two_blocks(body) if name == "place_of" else written(name, body, HELPERS)


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(
    RIGHT, WRONG, answer=answer_to)


def test_the_count_is_that_of_the_packages_attention():
    with torch.device("meta"):
        layers = Attention(96, 64, 4)
    count = sum(p.numel() for p in layers.parameters())
    assert lesson_16.cross_attention_parameters(96, 64) == count


@pytest.mark.parametrize("blocks", [1, 2])
def test_places_are_those_that_published_files_are_read_by(blocks):
    # the names that other people's files give to the same places
    for n in range(4 * (blocks + 1)):
        is_halving = n > 0 and n % (blocks + 1) == 0
        name = f"input_blocks.{n}.0." + ("op." if is_halving else "")
        for pattern, replacement in compvis_unet(blocks):
            name = re.sub(pattern, replacement, name)
        place = name.removesuffix(".").removesuffix(".conv")
        assert lesson_16.place_of(n, blocks) == place


def test_the_table_is_the_packages_schedule():
    table = lesson_16.alpha_bar_table(0.00085, 0.012, 1000)
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    torch.testing.assert_close(scaled_linear.alpha(t)**2, table)


def test_the_entries_are_the_packages_grid():
    times = leading_grid(30, 1)[:-1]
    entries = (times * 1000).round().long() - 1
    assert torch.equal(lesson_16.leading_entries(30), entries)
