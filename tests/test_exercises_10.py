"""Lesson 10's checks: right answers in any style pass; wrong ones are told what is wrong."""


import torch
from support.answers import right_and_wrong, told

from minildm.course.exercises.lesson_10_tokens import patchify
from minildm.nn.dit import modulate, unpatchify

SQUARES = """
    x = x.unflatten(3, (-1, p)).unflatten(2, (-1, p))
    return x.permute({}).flatten(3).flatten(1, 2){}
"""


def squares(order, after=""):
    return SQUARES.format(order, after)


JOINED = """
    s = tokens.unflatten(2, {}).unflatten(1, (h, -1))
    return s.permute({}).flatten(4).flatten(2, 3){}
"""


def joined(order, after="", split="(p, p, -1)"):
    return JOINED.format(split, order, after)


NORM = "F.layer_norm(x, x.shape[-1:], eps=1e-6)"


def modulated(normed=NORM, result="n * (1 + scale) + shift"):
    return f"""
        shift, scale = shift[:, None], scale[:, None]
        n = {normed}
        return {result}
    """


RIGHT = [
    ("patchify", squares("0, 2, 4, 3, 5, 1")),
    ("patchify", """
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // p, p, w // p, p)
        return torch.einsum("bchpwq->bhwpqc", x).reshape(b, h * w // p**2, p * p * c)
     """),
    ("patchify", """
        tokens = []
        for i in range(0, x.shape[2], p):
            for j in range(0, x.shape[3], p):
                tokens.append(x[:, :, i:i + p, j:j + p].permute(0, 2, 3, 1).flatten(1))
        return torch.stack(tokens, dim=1)
     """),
    ("patchify", """
        numbers = F.unfold(x, p, stride=p).mT.unflatten(2, (x.shape[1], p * p))
        return numbers.transpose(2, 3).flatten(2)
     """),
    ("patchify", """
        squares = x.unfold(2, p, p).unfold(3, p, p)
        return squares.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
     """),
    ("unpatchify", joined("0, 5, 1, 3, 2, 4")),
    ("unpatchify", """
        b, n, size = tokens.shape
        c, w = size // p**2, n // h
        x = tokens.reshape(b, h, w, p, p, c)
        return torch.einsum("bhwpqc->bchpwq", x).reshape(b, c, h * p, w * p)
     """),
    ("unpatchify", """
        squares = tokens.unflatten(2, (p * p, -1)).transpose(2, 3).flatten(2).mT
        return F.fold(squares, (h * p, tokens.shape[1] // h * p), p, stride=p)
     """),
    ("unpatchify", """
        rows = []
        for row in tokens.chunk(h, dim=1):
            squares = [token.unflatten(1, (p, p, -1)) for token in row.unbind(1)]
            rows.append(torch.cat(squares, dim=2))
        return torch.cat(rows, dim=1).movedim(3, 1)
     """),
    ("modulate", modulated()),
    ("modulate", """
        norm = nn.LayerNorm(x.shape[-1], eps=1e-6, elementwise_affine=False)
        return torch.addcmul(shift[:, None], norm(x), 1 + scale[:, None])
     """),
    ("modulate", """
        y = x.double()
        mean, var = y.mean(-1, keepdim=True), y.var(-1, keepdim=True, unbiased=False)
        n = (y - mean) * torch.rsqrt(var + 1e-6)
        return (n + n * scale.unsqueeze(1) + shift.unsqueeze(1)).to(x.dtype)
     """),
    ("modulate", """
        out = []
        for one, a, b in zip(x, shift, scale):
            out.append(F.layer_norm(one, [one.shape[-1]], weight=1 + b, bias=a, eps=1e-6))
        return torch.stack(out)
     """),
]

WRONG = [
    ("unpatchify", "not \\(C, p, q\\)", joined("0, 3, 1, 4, 2, 5", split="(-1, p, p)")),
    ("unpatchify", "of a square go row by row", joined("0, 5, 1, 4, 2, 3")),
    ("unpatchify", "belong together", joined("0, 5, 3, 1, 4, 2")),
    ("unpatchify", "permute first",
     "tokens.reshape(len(tokens), -1, h * p, tokens.shape[1] // h * p)"),
    ("unpatchify", "second axis", joined("0, 5, 1, 3, 2, 4", ".movedim(1, -1)")),
    ("unpatchify", "not of columns", """
        h = tokens.shape[1] // h
        s = tokens.unflatten(2, (p, p, -1)).unflatten(1, (h, -1))
        return s.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
     """),
    ("unpatchify", "raised|shape|not for others", joined("0, 5, 1, 3, 2, 4", split="(2, 2, -1)")),
    ("unpatchify", "raised|shape", joined("0, 5, 1, 3, 2, 4").replace("(h, -1)", "(h, h)")),
    ("unpatchify", "rows and columns changed", """
        s = tokens.unflatten(2, (p, p, -1)).unflatten(1, (-1, h)).transpose(1, 2)
        return s.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
     """),
    ("unpatchify", "unchanged", "tokens"),
    ("unpatchify", "type", joined("0, 5, 1, 3, 2, 4", ".double()")),
    ("unpatchify", "return", "tokens.mT\nreturn"),
    ("patchify", "not \\(C, p, q\\)", squares("0, 2, 4, 1, 3, 5")),
    ("patchify", "not \\(C, p, q\\)", "F.unfold(x, p, stride=p).mT"),
    ("patchify", "not \\(C, q, p\\)", squares("0, 2, 4, 1, 5, 3")),
    ("patchify", "not \\(p, C, q\\)", squares("0, 2, 4, 3, 1, 5")),
    ("patchify", "not column by column", squares("0, 4, 2, 3, 5, 1")),
    ("patchify", "of a square go row by row", squares("0, 2, 4, 5, 3, 1")),
    ("patchify", "rows and columns changed", squares("0, 4, 2, 5, 3, 1")),
    ("patchify", "n-th pixel", """
        x = x.unflatten(3, (p, -1)).unflatten(2, (p, -1))
        return x.permute(0, 3, 5, 2, 4, 1).flatten(3).flatten(1, 2)
     """),
    ("patchify", "in their order", "x.reshape(len(x), -1, p * p * x.shape[1])"),
    ("patchify", "split both axes",
     "x.permute(0, 2, 3, 1).reshape(len(x), -1, p * p * x.shape[1])"),
    ("patchify", "second axis", squares("0, 2, 4, 3, 5, 1", ".mT")),
    ("patchify", "keep the batch", squares("0, 2, 4, 3, 5, 1", ".flatten(0, 1)")),
    ("patchify", "flatten each",
     squares("0, 2, 4, 3, 5, 1").replace(".flatten(3)", "")),
    ("patchify", "rows and columns: flatten",
     squares("0, 2, 4, 3, 5, 1").replace(".flatten(1, 2)", "")),
    ("patchify", "not for others|raised|shape", squares("0, 2, 4, 3, 5, 1").replace("p)", "2)")),
    ("patchify", "raised|shape", """
        x = x.reshape(-1, 3, x.shape[2] // p, p, x.shape[3] // p, p)
        return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
     """),
    ("patchify", "raised|shape", """
        n = x.shape[2] // p
        x = x.reshape(len(x), -1, n, p, n, p)
        return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
     """),
    ("patchify", "unchanged", "x"),
    ("patchify", "type", squares("0, 2, 4, 3, 5, 1", ".double()")),
    ("patchify", "return", "x.unfold(2, p, p).unfold(3, p, p)\nreturn"),
    ("modulate", "1 \\+ scale: at", modulated(result="n * scale + shift")),
    ("modulate", "doesn't divide", modulated(result="n / (1 + scale) + shift")),
    ("modulate", "not 1 - scale", modulated(result="n * (1 - scale) + shift")),
    ("modulate", "here it is added", modulated(result="n + scale + shift")),
    ("modulate", "no logarithm", modulated(result="n * scale.exp() + shift")),
    ("modulate", "changed places", modulated(result="n * (1 + shift) + scale")),
    ("modulate", "no LayerNorm", modulated("x")),
    ("modulate", "after the scale", modulated(result="(n + shift) * (1 + scale)")),
    ("modulate", "not subtracted", modulated(result="n * (1 + scale) - shift")),
    ("modulate", "not to the shift", modulated(result="n * scale + 1 + shift")),
    ("modulate", "not over the tokens", modulated("F.layer_norm(x.mT, x.shape[1:2], eps=1e-6).mT")),
    ("modulate", "over tokens and width", modulated("F.layer_norm(x, x.shape[1:], eps=1e-6)")),
    ("modulate", "norm comes first",
     modulated("x * (1 + scale) + shift", "F.layer_norm(n, n.shape[-1:], eps=1e-6)")),
    ("modulate", "subtracts the mean", modulated("F.rms_norm(x, x.shape[-1:], eps=1e-6)")),
    ("modulate", "divides by the spread", modulated("x - x.mean(-1, keepdim=True)")),
    ("modulate", "by its root",
     modulated("(x - x.mean(-1, True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-6)")),
    ("modulate", "n - 1",
     modulated("(x - x.mean(-1, True)) / (x.var(-1, keepdim=True) + 1e-6).sqrt()")),
    ("modulate", "n - 1", modulated("(x - x.mean(-1, True)) / (x.std(-1, keepdim=True) + 1e-6)")),
    ("modulate", "default 1e-5", modulated("F.layer_norm(x, x.shape[-1:])")),
    ("modulate", "default 1e-5", modulated("nn.LayerNorm(x.shape[-1])(x)")),
    ("modulate", "under the root",
     modulated("(x - x.mean(-1, True)) / (x.std(-1, keepdim=True, unbiased=False) + 1e-6)")),
    ("modulate", "eps is missing",
     modulated("(x - x.mean(-1, True)) / x.std(-1, keepdim=True, unbiased=False)")),
    ("modulate", "shift is missing", modulated(result="n * (1 + scale)")),
    ("modulate", "scale is missing", modulated(result="n + shift")),
    ("modulate", "LayerNorm alone", NORM),
    ("modulate", "raised", f"{NORM} * (1 + scale) + shift"),
    ("modulate", "raised", modulated("nn.LayerNorm(8, eps=1e-6)(x)")),
    ("modulate", "reaches scale", modulated(result="n * (1 + scale.detach()) + shift")),
    ("modulate", "no gradient", "with torch.no_grad():\n    "
     f"return {NORM} * (1 + scale[:, None]) + shift[:, None]"),
    ("modulate", "gradient to x", modulated(
        "(x - x.mean(-1, True).detach()) / (x.var(-1, keepdim=True, unbiased=False) + 1e-6)"
        ".sqrt().detach()")),
    ("modulate", "type", modulated(result="(n * (1 + scale) + shift).double()")),
    ("modulate", "return", modulated() .replace("return", "y =") + "    return"),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG)


def test_the_packages_functions_are_nobodys_answer():
    assert "write yours" in told("modulate", modulate)
    assert "write yours" in told("unpatchify", unpatchify)

    def back(tokens, h, p):
        return unpatchify(tokens, h, p).clone() + 0

    assert "write yours" in told("unpatchify", back)


def test_the_checks_know_what_the_package_does():
    x = torch.randn(2, 3, 6, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(unpatchify(patchify(x, 2), 3, 2), x)
