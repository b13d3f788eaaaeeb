"""Lesson 04's checks: right answers in any style pass; wrong ones are told what is wrong."""

import re

import pytest
import torch
from support.answers import cases, passes, told, written

from minildm.diffusion.schedules import add_noise
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


HELPERS = {"waves": waves, "cut": cut, "attend": attend, "glue": glue, "add_noise": add_noise,
           "layers": layers}
WIDE = "scale, shift = emb[:, :, None, None].chunk(2, dim=1)\nreturn "
CUT = "d = q.shape[-1] // heads\nq, k, v = cut(q, heads), cut(k, heads), cut(v, heads)\nreturn "
NOISY = "x = add_noise(schedule, data, noise, t)\nreturn "
DRAW = "u = torch.rand(len(labels), generator=generator)\nreturn "
UP = """
    skips = [channels[0]]
    for level, c in enumerate(channels):
        skips += {down}
    h, inputs = {begin}, []
    for c in {order}:
        for _ in range({times}):
            inputs.append({take})
            h = c
    return inputs
"""
PLAN = {"down": "[c] * blocks + [c] * (level < len(channels) - 1)", "begin": "channels[-1]",
        "order": "reversed(channels)", "times": "blocks + 1", "take": "h + skips.pop()"}


def plan(**changed):
    return UP.format(**PLAN | changed)


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
    ("up_inputs", plan()),
    ("up_inputs", """
        skips = [channels[0]]
        for i in range(len(channels)):
            for _ in range(blocks):
                skips.append(channels[i])
            if i + 1 < len(channels):
                skips.append(channels[i])
        widths = []
        below = channels[-1]
        for c in channels[::-1]:
            for _ in range(blocks + 1):
                widths.append(below + skips.pop(-1))
                below = c
        return tuple(widths)
     """),
    ("up_inputs", plan() .replace("return inputs", "return torch.tensor(inputs)")),
    ("loss_each", NOISY + "(network(x, t) - noise).square().mean((1, 2, 3))"),
    ("loss_each", NOISY + "F.mse_loss(network(x, t), noise, reduction='none').flatten(1).mean(1)"),
    ("loss_each", """
        losses = []
        for i in range(len(t)):
            x = add_noise(schedule, data[i:i + 1], noise[i:i + 1], t[i:i + 1])
            losses.append(F.mse_loss(network(x, t[i:i + 1]), noise[i:i + 1]))
        return torch.stack(losses)
     """),
    ("loss_each", """
        each = t[:, None, None, None]
        x = schedule.alpha(each) * data + schedule.sigma(each) * noise
        return torch.linalg.vector_norm(network(x, t) - noise, dim=(1, 2, 3))**2 / data[0].numel()
     """),
    ("drop_labels", DRAW + "torch.where(u < p, null, labels)"),
    ("drop_labels", DRAW + "labels.masked_fill(u < p, null)"),
    ("drop_labels", "labels.clone().masked_fill(torch.bernoulli(torch.full(labels.shape, p), "
                    "generator=generator).bool(), null)"),
    ("drop_labels", """
        out = labels.clone()
        for i in range(len(labels)):
            if torch.rand((), generator=generator) < p:
                out[i] = null
        return out
     """),
    ("drop_labels", "keep = torch.rand(labels.shape, generator=generator) >= p\n"
                    "return labels * keep + null * ~keep"),
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
    ("sinusoid", "wrong|differs|ratio", "a = 1000 * t[:, None] * 1000 ** (-torch.arange(dim // 2) / (dim // 2))\n"
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
    ("time_scale", "raised", "scale, shift = emb[:, :, None].chunk(2, dim=1)\nreturn h * (1 + scale) + shift"),
    ("time_scale", "raised|first inputs", "e = emb[:, :, None, None]\nreturn h * (1 + e[:, :5]) + e[:, 5:]"),
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
                                          "p, k, v = (x.reshape(len(x), heads, -1, d) for x in (q, k, v))\n"
                                          "return attend(p, k, v, d**0.5).reshape(q.shape)"),
    ("multi_head", "so many-th", "n = q.shape[-1] // heads\n"
                                 "q, k, v = (x.unflatten(-1, (n, heads)).permute(0, 3, 1, 2) for x in (q, k, v))\n"
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
    ("multi_head", "their width", "w = q.shape[-1]\nq, k, v = (cut(x, w // heads) for x in (q, k, v))\n"
                                  "return glue(attend(q, k, v, heads**0.5))"),
    ("multi_head", "in place", "q /= (q.shape[-1] // heads)**0.5\n" + CUT + "glue(attend(q, k, v, 1))"),
    ("up_inputs", "glued on", plan(take="h")),
    ("up_inputs", "skips alone", plan(take="skips.pop()")),
    ("up_inputs", "newest", plan(take="h + skips.pop(0)")),
    ("up_inputs", "halvings", plan(down="[c] * blocks", take="h + (skips.pop() if skips else 0)")),
    ("up_inputs", "no halving at the last", plan(down="[c] * (blocks + 1)")),
    ("up_inputs", "last level comes first", plan().replace("return inputs", "return inputs[::-1]")),
    ("up_inputs", r"blocks \+ 1", plan(times="blocks")),
    ("up_inputs", "raised", plan(times="blocks + 2")),
    ("up_inputs", "should be", plan(order="channels", begin="channels[0]")),
    ("up_inputs", "should be", plan(begin="channels[0]")),
    ("up_inputs", "width of the level below", plan(take="c + skips.pop()")),
    ("up_inputs", "should be", plan().replace("[channels[0]]", "[channels[-1]]")),
    ("up_inputs", "should be", plan(take="h * skips.pop()")),
    ("up_inputs", "should be|raised", plan().replace("skips = [channels[0]]", "skips = []")),
    ("up_inputs", "no halving at the last", plan(take="h + c")),
    ("up_inputs", "an int", "sum(channels) * blocks"),
    ("up_inputs", "outputs' widths", "[c for c in reversed(channels) for _ in range(blocks + 1)]"),
    ("up_inputs", "should be|raised|too many", plan(down="[c] * 2 + [c] * (level < len(channels) - 1)", times="3")),
    ("up_inputs", "return", plan().replace("return inputs", "return")),
    ("loss_each", "not at the data", NOISY + "(network(x, t) - data).square().mean((1, 2, 3))"),
    ("loss_each", "not at x_t", NOISY + "(network(x, t) - x).square().mean((1, 2, 3))"),
    ("loss_each", "noise - data", NOISY + "(network(x, t) - (noise - data)).square().mean((1, 2, 3))"),
    ("loss_each", "one number", NOISY + "F.mse_loss(network(x, t), noise)"),
    ("loss_each", "a sum", NOISY + "(network(x, t) - noise).square().sum((1, 2, 3))"),
    ("loss_each", "absolute", NOISY + "(network(x, t) - noise).abs().mean((1, 2, 3))"),
    ("loss_each", "no root", NOISY + "(network(x, t) - noise).square().mean((1, 2, 3)).sqrt()"),
    ("loss_each", "mean of the squares", NOISY + "(network(x, t) - noise).mean((1, 2, 3)).square()"),
    ("loss_each", "noisy", "(network(data, t) - noise).square().mean((1, 2, 3))"),
    ("loss_each", r"t in \[0, 1\]", NOISY + "(network(x, 1000 * t) - noise).square().mean((1, 2, 3))"),
    ("loss_each", "first one's", NOISY + "(network(x, t[:1].expand(len(t))) - noise).square().mean((1, 2, 3))"),
    ("loss_each", "times of shape", NOISY + "(network(x, t[:, None, None, None]) - noise).square().mean((1, 2, 3))"),
    ("loss_each", "changed places", "x = add_noise(schedule, noise, data, t)\n"
                                    "return (network(x, t) - noise).square().mean((1, 2, 3))"),
    ("loss_each", "the schedule scales", "(network(data + noise, t) - noise).square().mean((1, 2, 3))"),
    ("loss_each", "isn't asked", NOISY + "(x - noise).square().mean((1, 2, 3))"),
    ("loss_each", "the shape", NOISY + "(network(x, t) - noise).square().mean((2, 3))"),
    ("loss_each", "the shape", NOISY + "(network(x, t) - noise).square().mean((0, 2, 3))"),
    ("loss_each", "axis of length 1", NOISY + "(network(x, t) - noise).square().mean((1, 2, 3), keepdim=True)"),
    ("loss_each", "in place", "data += noise\nreturn (network(data, t) - noise).square().mean((1, 2, 3))"),
    ("loss_each", "two results", "noise = torch.randn_like(data)\n" + NOISY
     + "(network(x, t) - noise).square().mean((1, 2, 3))"),
    ("loss_each", "two results", "t = torch.rand(len(t))\n" + NOISY
     + "(network(x, t) - noise).square().mean((1, 2, 3))"),
    ("loss_each", "half|0.5 times", NOISY + "0.5 * (network(x, t) - noise).square().mean((1, 2, 3))"),
    ("drop_labels", "in place", "labels[torch.rand(len(labels), generator=generator) < p] = null\nreturn labels"),
    ("drop_labels", "not 0", DRAW + "torch.where(u < p, 0, labels)"),
    ("drop_labels", "not -1", DRAW + "torch.where(u < p, -1, labels)"),
    ("drop_labels", "not 10", DRAW + "torch.where(u < p, 10, labels)"),
    ("drop_labels", "all or none", "torch.where(torch.rand(1, generator=generator) < p, null, labels)"),
    ("drop_labels", "all or none|an int", "null if torch.rand((), generator=generator) < p else labels"),
    ("drop_labels", "1 - p", DRAW + "torch.where(u > p, null, labels)"),
    ("drop_labels", "1 - p", DRAW + "torch.where(u < 1 - p, null, labels)"),
    ("drop_labels", "global generator", "torch.where(torch.rand(len(labels)) < p, null, labels)"),
    ("drop_labels", "another seed", "torch.where(torch.rand(len(labels), generator=generator.manual_seed(0)) < p, "
                                    "null, labels)"),
    ("drop_labels", "all or none", "labels"),
    ("drop_labels", "not p", DRAW + "torch.where(u < 0.1, null, labels)"),
    ("drop_labels", "not p", "u = torch.randn(len(labels), generator=generator)\n"
                             "return torch.where(u < p, null, labels)"),
    ("drop_labels", "whatever the seed",
     "out = labels.clone()\n"
     "out[torch.randperm(len(labels), generator=generator)[:round(p * len(labels))]] = null\nreturn out"),
    ("drop_labels", "in rows|not p", "u = torch.rand(len(labels) // 10 + 1, generator=generator)"
                                     ".repeat_interleave(10)[:len(labels)]\n"
                                     "return torch.where(u < p, null, labels)"),
    ("drop_labels", "type", DRAW + "torch.where(u < p, float(null), labels.float())"),
    ("drop_labels", "which are dropped|type", DRAW + "u < p"),
    ("drop_labels", "shape", DRAW + "labels[u >= p]"),
    ("drop_labels", "of label", "u = torch.rand(int(labels.max()) + 1, len(labels), generator=generator)[0]\n"
                                "return torch.where((u < 2 * p) & (labels % 2 == 0), null, labels)"),
    ("drop_labels", "stays", DRAW + "torch.where(u < p, null, labels.flip(0))"),
    ("drop_labels", "not p|p = 0", DRAW + "torch.where(u < max(p, 0.1), null, labels)"),
    ("drop_labels", "a tuple", DRAW + "torch.where(u < p, null, labels), u < p"),
]


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    passes(name, written(name, body, HELPERS))


@pytest.mark.parametrize("name, said, body", cases(WRONG))
def test_wrong_answers_are_told_what_is_wrong(name, said, body):
    assert re.search(said, told(name, written(name, body, HELPERS)))
