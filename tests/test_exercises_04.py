"""Lesson 04's checks of the U-Net's parts: right answers pass; wrong ones are told what is wrong."""

import re

import pytest
import torch
from support.answers import cases, passes, told, written

from minildm.nn import layers


def waves(t, dim, unit=1000, half=None, order=("cos", "sin")):
    angles = unit * t[:, None] * 10_000 ** (-torch.arange(dim // 2) / (half or dim // 2))
    return torch.cat([getattr(angles, name)() for name in order], dim=1)


def cut(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(q, k, v, unit, axis=-1):
    return (q @ k.transpose(-2, -1) / unit).softmax(axis) @ v


def glue(x):
    return x.transpose(1, 2).flatten(2)


HELPERS = {"waves": waves, "cut": cut, "attend": attend, "glue": glue, "layers": layers}
WIDE = "scale, shift = emb[:, :, None, None].chunk(2, dim=1)\nreturn "
CUT = "d = q.shape[-1] // heads\nq, k, v = cut(q, heads), cut(k, heads), cut(v, heads)\nreturn "

RIGHT = [
    ("sinusoid", "waves(t, dim)"),
    ("sinusoid", """
        f = torch.exp(-math.log(10_000) * torch.arange(0, dim, 2).float() / dim)
        angles = torch.outer(1000 * t, f)
        return torch.hstack([torch.cos(angles), torch.sin(angles)])
     """),
    ("sinusoid", """
        out = torch.empty(len(t), dim)
        for k in range(dim // 2):
            angle = 1000 * t / 10_000**(2 * k / dim)
            out[:, k] = angle.cos()
            out[:, dim // 2 + k] = angle.sin()
        return out
     """),
    ("time_scale", WIDE + "h * (1 + scale) + shift"),
    ("time_scale", """
        c = h.shape[1]
        out = [h[:, i] * (1 + emb[:, i, None, None]) + emb[:, c + i, None, None] for i in range(c)]
        return torch.stack(out, 1)
     """),
    ("time_scale", "scale, shift = emb.view(len(h), 2, -1).unbind(1)\n"
                   "return h + torch.einsum('bchw,bc->bchw', h, scale) + shift[..., None, None]"),
    ("multi_head", CUT + "glue(attend(q, k, v, d**0.5))"),
    ("multi_head", "q, k, v = cut(q, heads), cut(k, heads), cut(v, heads)\n"
                   "return glue(F.scaled_dot_product_attention(q, k, v))"),
    ("multi_head", """
        out = []
        for q, k, v in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1)):
            weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
            out.append(weights @ v)
        return torch.cat(out, -1)
     """),
    ("multi_head", """
        q, k, v = (x.reshape(*x.shape[:2], heads, -1) for x in (q, k, v))
        scores = torch.einsum('blhd,bmhd->bhlm', q, k) * q.shape[-1]**-0.5
        return torch.einsum('bhlm,bmhd->blhd', scores.softmax(-1), v).flatten(2)
     """),
]

WRONG = [
    ("sinusoid", "multiply", "waves(t, dim, unit=1)"),
    ("sinusoid", "cosines come first", "waves(t, dim, order=('sin', 'cos'))"),
    ("sinusoid", "take turns", "torch.stack(waves(t, dim).chunk(2, 1), -1).flatten(1)"),
    ("sinusoid", "dim / 2 - 1", "waves(t, dim, half=dim // 2 - 1)"),
    ("sinusoid", "not by dim", "waves(t, dim, half=dim)"),
    ("sinusoid", "dim numbers in all", "waves(t, 2 * dim)"),
    ("sinusoid", "sines|cosines", "waves(t, dim, order=('cos', 'cos'))"),
    ("sinusoid", "2 pi t", "waves(t, dim, unit=2 * math.pi)"),
    ("sinusoid", "slowest|differs|wrong", "waves(t, dim, half=-dim // 2)"),
    ("sinusoid", "wrong|differs", "waves(t, dim, unit=1000 * 2 * math.pi)"),
    ("sinusoid", "wrong|differs", "waves((1000 * t).round() / 1000 + 1e-3, dim)"),
    ("sinusoid", "reshape", "waves(t[:, None], dim)"),
    ("sinusoid", "shape|axis", "waves(t, dim)[:, :dim // 2]"),
    ("sinusoid", "raised|shape|axes", "waves(t, dim).T"),
    ("sinusoid", "first inputs", "waves(t, 8)"),
    ("sinusoid", "first inputs", "waves(t, dim, half=4)"),
    ("sinusoid", "package", "layers.sinusoid(t, dim)"),
    ("sinusoid", "in place", "waves(t.mul_(1000), dim, unit=1)"),
    ("sinusoid", "return", "y = waves(t, dim)\nreturn"),
    ("sinusoid", "float64", "waves(t.double(), dim)"),
    ("sinusoid", "wrong|differs|ratio",
     "a = 1000 * t[:, None] * 1000 ** (-torch.arange(dim // 2) / (dim // 2))\n"
                                        "return torch.cat([a.cos(), a.sin()], 1)"),
    ("time_scale", "the 1 is missing", WIDE + "h * scale + shift"),
    ("time_scale", "first half", "shift, scale = emb[:, :, None, None].chunk(2, dim=1)\n"
                                 "return h * (1 + scale) + shift"),
    ("time_scale", "last axes", "scale, shift = emb.chunk(2, 1)\nreturn h * (1 + scale) + shift"),
    ("time_scale", "isn't scaled", WIDE + "(h + shift) * (1 + scale)"),
    ("time_scale", "scale is missing", WIDE + "h + shift"),
    ("time_scale", "shift is missing", WIDE + "h * (1 + scale)"),
    ("time_scale", "not subtracted", WIDE + "h * (1 + scale) - shift"),
    ("time_scale", "exponential", WIDE + "h * scale.exp() + shift"),
    ("time_scale", "halves", "e = emb[:, :, None, None]\nreturn h * (1 + e[:, ::2]) + e[:, 1::2]"),
    ("time_scale", "the first one's", WIDE + "h * (1 + scale[:1]) + shift[:1]"),
    ("time_scale", "added to scale", WIDE + "(1 + h) * scale + shift"),
    ("time_scale", "in place", WIDE + "h.mul_(1 + scale).add_(shift)"),
    ("time_scale", "unchanged", "h"),
    ("time_scale", "raised",
     "scale, shift = emb[:, :, None].chunk(2, dim=1)\nreturn h * (1 + scale) + shift"),
    ("time_scale", "raised|first inputs",
     "e = emb[:, :, None, None]\nreturn h * (1 + e[:, :5]) + e[:, 5:]"),
    ("time_scale", "raised", "scale, shift = emb[:, :, None, None].chunk(2, dim=0)\n"
                             "return h * (1 + scale) + shift"),
    ("time_scale", "differs|wrong", WIDE + "h * (1 + scale.mean()) + shift"),
    ("time_scale", "differs|wrong", WIDE + "F.group_norm(h, 1) * (1 + scale) + shift"),
    ("multi_head", "scale is missing", CUT + "glue(attend(q, k, v, 1))"),
    ("multi_head", "not by d", CUT + "glue(attend(q, k, v, d))"),
    ("multi_head", "this multiplies", CUT + "glue(attend(q, k, v, d**-0.5))"),
    ("multi_head", "head's width", CUT + "glue(attend(q, k, v, (d * heads)**0.5))"),
    ("multi_head", "their number", CUT + "glue(attend(q, k, v, heads**0.5))"),
    ("multi_head", "queries", CUT + "glue(attend(q, k, v, d**0.5, -2))"),
    ("multi_head", "over the heads", CUT + "glue(attend(q, k, v, d**0.5, 1))"),
    ("multi_head", "k and v", CUT + "glue(attend(q, v, k, d**0.5))"),
    ("multi_head", "not the keys", CUT + "glue(attend(q, k, k, d**0.5))"),
    ("multi_head", "positions", "d = q.shape[-1] // heads\n"
                                "q, k, v = (x.reshape(len(x), heads, -1, d) for x in (q, k, v))\n"
                                "return glue(attend(q, k, v, d**0.5))"),
    ("multi_head", "nor are they merged", "d = q.shape[-1] // heads\n"
                                          "p, k, v = (x.reshape(len(x), heads, -1, d) for x in "
                                          "(q, k, v))\n"
                                          "return attend(p, k, v, d**0.5).reshape(q.shape)"),
    ("multi_head", "so many-th", "n = q.shape[-1] // heads\n"
                                 "q, k, v = (x.unflatten(-1, (n, heads)).permute(0, 3, 1, 2) for "
                                 "x in (q, k, v))\n"
                                 "return glue(attend(q, k, v, n**0.5))"),
    ("multi_head", "before", "s = q.shape\n" + CUT + "attend(q, k, v, d**0.5).reshape(s)"),
    ("multi_head", "not merged", CUT + "attend(q, k, v, d**0.5)"),
    ("multi_head", "side by side", CUT + "attend(q, k, v, d**0.5).mean(1)"),
    ("multi_head", "one head only", "attend(q, k, v, q.shape[-1]**0.5)"),
    ("multi_head", "no softmax", CUT + "glue(q @ k.transpose(-2, -1) / d**0.5 @ v)"),
    ("multi_head", "first inputs", "q, k, v = (cut(x, 3) for x in (q, k, v))\n"
                                   "return glue(attend(q, k, v, q.shape[-1]**0.5))"),
    ("multi_head", "first inputs", CUT + "glue(attend(q, k, v, 2))"),
    ("multi_head", "package", CUT + "glue(layers.attention(q, k, v))"),
    ("multi_head", "their width",
     "w = q.shape[-1]\nq, k, v = (cut(x, w // heads) for x in (q, k, v))\n"
                                  "return glue(attend(q, k, v, heads**0.5))"),
    ("multi_head", "in place",
     "q /= (q.shape[-1] // heads)**0.5\n" + CUT + "glue(attend(q, k, v, 1))"),
]


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    passes(name, written(name, body, HELPERS))


@pytest.mark.parametrize("name, said, body", cases(WRONG))
def test_wrong_answers_are_told_what_is_wrong(name, said, body):
    assert re.search(said, told(name, written(name, body, HELPERS)))
