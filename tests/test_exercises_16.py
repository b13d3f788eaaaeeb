"""Lesson 16's checks: the solution passes; the wrong answers that students give are told what is wrong."""

import pytest
import torch

from minildm import exercises


def cross_attention_parameters(dim, context):
    return 2 * dim * dim + 2 * dim * context + dim


def place_of(n, blocks=2):
    level, i = divmod(n - 1, blocks + 1)
    part = "downsamplers.0" if i == blocks else f"resnets.{i}"
    return f"down_blocks.{level}.{part}" if n else "conv_in"


def late(n, blocks=2):
    level, i = divmod(n, blocks + 1)
    part = "downsamplers.0" if i == blocks else f"resnets.{i}"
    return f"down_blocks.{level}.{part}" if n else "conv_in"


def table(low, high, steps):
    betas = torch.linspace(low**0.5, high**0.5, steps, dtype=torch.float64)**2
    return (1 - betas).log().cumsum(0).exp()


def entries(n):
    return torch.arange((n - 1) * (1000 // n) + 1, 0, -(1000 // n))


def pixels(images):
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(1, -1)


def test_solutions_pass():
    exercises.check_cross_attention_parameters(cross_attention_parameters)
    exercises.check_place_of(place_of)
    exercises.check_alpha_bar_table(table)
    exercises.check_leading_entries(entries)
    exercises.check_to_pixels(lambda vae, x: pixels(vae.decode(x / 0.18215)))


@pytest.mark.parametrize("check, wrong, named", [
    ("cross_attention_parameters", lambda d, c: 2 * d * d + 2 * d * c + 4 * d, "q, k and v have none"),
    ("cross_attention_parameters", lambda d, c: 2 * d * d + 2 * d * c, "output has a bias"),
    ("cross_attention_parameters", lambda d, c: 4 * d * d + d, "read the context"),
    ("cross_attention_parameters", lambda d, c: d * d + 3 * d * c + d, "queries come from"),
    ("cross_attention_parameters", lambda d, c: d * d + 2 * d * c, "output's layer"),
    ("cross_attention_parameters", lambda d, c: 8 * cross_attention_parameters(d, c), "heads share"),
    ("cross_attention_parameters", lambda d, c: d * c, "should be"),
    ("cross_attention_parameters", lambda d, c: None, "return"),
    ("place_of", late, "count from 1"),
    ("place_of", lambda n, blocks=2: place_of(n + 1, blocks), "first convolution"),
    ("place_of", lambda n, blocks=2: place_of(n, blocks).replace("downsamplers.0", f"resnets.{blocks}"),
     "halving"),
    ("place_of", lambda n, blocks=2: place_of(n), "not for 1"),
    ("place_of", lambda n, blocks=2: place_of(n, blocks).replace("resnets", "attentions"), "should be"),
    ("place_of", lambda n, blocks=2: None, "return"),
    ("alpha_bar_table", lambda a, b, n: torch.cumprod(1 - torch.linspace(a, b, n), 0), "roots"),
    ("alpha_bar_table", lambda a, b, n: torch.cumprod(1 - torch.linspace(a**0.5, b**0.5, n), 0),
     "square them"),
    ("alpha_bar_table", lambda a, b, n: torch.linspace(a**0.5, b**0.5, n)**2, "are the betas"),
    ("alpha_bar_table", lambda a, b, n: 1 - torch.linspace(a**0.5, b**0.5, n)**2, "multiplied up"),
    ("alpha_bar_table", lambda a, b, n: table(a, b, n)**0.5, "sqrt"),
    ("alpha_bar_table", lambda a, b, n: 1 - (torch.linspace(a**0.5, b**0.5, n)**2).cumsum(0), "sum"),
    ("alpha_bar_table", lambda a, b, n: torch.cat([torch.ones(1), table(a, b, n)[:-1]]), "first beta"),
    ("alpha_bar_table", lambda a, b, n: 1 - table(a, b, n), "1 - alpha_bar"),
    ("leading_entries", lambda n: entries(n).flip(0), "largest first"),
    ("leading_entries", lambda n: entries(n) - 1, "steps_offset"),
    ("leading_entries", lambda n: torch.arange(n).flip(0) * (1000 // n + 1), "once"),
    ("leading_entries", lambda n: torch.linspace(999, 0, n).round().long(), "linspace"),
    ("leading_entries", lambda n: torch.arange(999, -1, -(1000 // n))[:n], "trailing"),
    ("leading_entries", lambda n: (torch.arange(n).flip(0) * 1000 / n).round().long() + 1, "fraction"),
    ("leading_entries", lambda n: (entries(n) + 1) / 1000, "not a time"),
    ("to_pixels", lambda vae, x: pixels(vae.decode(x * 0.18215)), "divide"),
    ("to_pixels", lambda vae, x: pixels(vae.decode(x)), "undo"),
    ("to_pixels", lambda vae, x: ((vae.decode(x / 0.18215) + 1) * 127.5).round().int().byte().movedim(1, -1),
     "clamp first"),
    ("to_pixels", lambda vae, x: pixels(2 * vae.decode(x / 0.18215).clamp(0, 1) - 1), r"not in \[0, 1\]"),
    ("to_pixels", lambda vae, x: pixels(vae.decode(x / 0.18215)).movedim(-1, 1), "channels come last"),
    ("to_pixels", lambda vae, x: ((vae.decode(x / 0.18215).clamp(-1, 1) + 1) * 127.5).byte().movedim(1, -1),
     "round"),
    ("to_pixels", lambda vae, x: pixels(vae.decode(x / 0.18215)).float(), "uint8"),
])
def test_wrong_answers_are_told_why(check, wrong, named):
    with pytest.raises(AssertionError, match=named):
        getattr(exercises, f"check_{check}")(wrong)
