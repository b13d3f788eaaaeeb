"""Lesson 04's checks of the network: right answers in any style pass; wrong ones are told why."""

import textwrap

import pytest
from support.answers import IMPORTED, changed, passes, right_and_wrong, told, written

from minildm.course.exercises import lesson_04, lesson_04_attention
from minildm.nn import layers

# what a student's classes are made of, with their own forward
RESIDUAL = """
class Residual(nn.Module):
    def __init__(self, c_in, c_out, time_dim):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_dim, c_out)
        self.norm2, self.conv2 = nn.GroupNorm(8, c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        same = c_in == c_out
        self.conv_shortcut = nn.Identity() if same else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x, emb):
"""
ATTENTION = """
class SelfAttention(nn.Module):
    def __init__(self, c, heads):
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(8, c)
        self.to_q, self.to_k, self.to_v = (nn.Linear(c, c, bias=False) for _ in range(3))
        self.to_out = nn.Linear(c, c)

    def forward(self, x):
"""
UNET = """
class SmallUNet(nn.Module):
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

    def forward(self, x, t, labels):
"""
CLASSES = {"Residual": RESIDUAL, "SelfAttention": ATTENTION, "SmallUNet": UNET}
HELPERS = {"multi_head": lesson_04_attention.multi_head, "sinusoid": lesson_04.sinusoid,
           "Residual": lesson_04.Residual, "SelfAttention": lesson_04_attention.SelfAttention,
           "layers": layers}


def answer(name, body):
    """The function or class of a student who wrote body in the stub of exercise `name`."""
    if name not in CLASSES:
        return written(name, body, HELPERS)
    scope = {"__name__": "__main__", **IMPORTED, **HELPERS}
    exec(CLASSES[name] + textwrap.indent(textwrap.dedent(body), "        "), scope)
    return scope[name]


WAVES = """
    half = dim // 2
    frequencies = 10_000 ** (-torch.arange(half) / half)
    angles = 1000 * t[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
"""
BLOCK = """
    h = self.conv1(F.silu(self.norm1(x)))
    h = h + self.time_emb_proj(F.silu(emb))[:, :, None, None]
    h = self.conv2(F.silu(self.norm2(h)))
    return self.conv_shortcut(x) + h
"""
HEADS = """
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    weights = (q @ k.transpose(-2, -1) / q.shape[-1]**0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)
"""
LOOK = """
    tokens = self.norm(x).flatten(2).transpose(1, 2)
    mixed = multi_head(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens), self.heads)
    return x + self.to_out(mixed).transpose(1, 2).reshape(x.shape)
"""
PASS = """
    emb = self.clock(sinusoid(t, self.c)) + self.label(labels)
    skip = self.down(self.enter(x), emb)
    h = self.deep(F.avg_pool2d(skip, 2), emb)
    h = self.deeper(self.look(h), emb)
    h = F.interpolate(h, scale_factor=2.0)
    h = self.up(torch.cat([h, skip], dim=1), emb)
    return self.leave(F.silu(self.norm(h)))
"""

RIGHT = [
    ("sinusoid", WAVES),
    ("sinusoid", """
        k = torch.arange(dim // 2)
        angles = torch.outer(1000 * t, torch.exp(-math.log(10_000) * k / (dim // 2)))
        return torch.hstack([torch.cos(angles), torch.sin(angles)])
     """),
    ("Residual", BLOCK),
    ("Residual", """
        h = self.conv1(F.silu(self.norm1(x)))
        b = self.time_emb_proj(F.silu(emb))
        h = h + b.reshape(*b.shape, 1, 1)
        y = F.silu(self.norm2(h))
        return self.conv2(y).add(self.conv_shortcut(x))
     """),
    ("Residual", """
        silu = nn.SiLU()
        time = self.time_emb_proj(silu(emb)).unsqueeze(-1).unsqueeze(-1)
        h = self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(x))) + time)))
        return h + self.conv_shortcut(x)
     """),
    ("multi_head", HEADS),
    ("multi_head", """
        B, L, D = q.shape
        d = D // heads
        out = []
        for i in range(heads):
            a, b, c = (x[..., i * d:(i + 1) * d] for x in (q, k, v))
            out.append(torch.softmax(a @ b.mT / math.sqrt(d), dim=-1) @ c)
        return torch.cat(out, dim=-1)
     """),
    ("multi_head", """
        q, k, v = (x.reshape(*x.shape[:2], heads, -1).permute(0, 2, 1, 3) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
     """),
    ("SelfAttention", LOOK),
    ("SelfAttention", """
        B, C, H, W = x.shape
        y = self.norm(x).permute(0, 2, 3, 1).reshape(B, H * W, C)
        y = self.to_out(multi_head(self.to_q(y), self.to_k(y), self.to_v(y), self.heads))
        return y.reshape(B, H, W, C).permute(0, 3, 1, 2) + x
     """),
    ("SmallUNet", PASS),
    ("SmallUNet", """
        emb = self.label(labels) + self.clock(sinusoid(t, self.c))
        skip = self.down(self.enter(x), emb)
        h = self.look(self.deep(F.interpolate(skip, scale_factor=0.5, mode="area"), emb))
        h = nn.Upsample(scale_factor=2)(self.deeper(h, emb))
        return self.leave(F.silu(self.norm(self.up(torch.cat((h, skip), 1), emb))))
     """),
]

WRONG = [
    ("sinusoid", "multiply", changed(WAVES, "1000 * ", "")),
    ("sinusoid", "not 999", changed(WAVES, "1000", "999")),
    ("sinusoid", "cosines come first", changed(WAVES, "[angles.cos(), angles.sin()]",
                                               "[angles.sin(), angles.cos()]")),
    ("sinusoid", "take turns", changed(
        WAVES, "torch.cat([angles.cos(), angles.sin()], dim=1)",
        "torch.stack([angles.cos(), angles.sin()], dim=2).flatten(1)")),
    ("sinusoid", "not by dim / 2 - 1", changed(WAVES, "/ half", "/ (half - 1)")),
    ("sinusoid", "not by dim", changed(WAVES, "/ half", "/ dim")),
    ("sinusoid", "frequencies fall|are wrong", changed(WAVES, "(-torch", "(torch")),
    ("sinusoid", "dim / 2 cosines", changed(WAVES, "dim // 2", "dim")),
    ("sinusoid", "sinusoid", "layers.sinusoid(t, dim)"),
    ("sinusoid", "raised", changed(WAVES, "t[:, None]", "t")),
    ("Residual", "time is missing", changed(BLOCK, "h = h + self", "self")),
    ("Residual", "SiLU before the linear", changed(BLOCK, "F.silu(emb)", "emb")),
    ("Residual", "not behind it", changed(BLOCK, "self.time_emb_proj(F.silu(emb))",
                                          "F.silu(self.time_emb_proj(emb))")),
    ("Residual", "not multiplied", changed(BLOCK, "h + self", "h * self")),
    ("Residual", "shortcut is missing", changed(BLOCK, "self.conv_shortcut(x) + ", "")),
    ("Residual", "raised", changed(BLOCK, "self.conv_shortcut(x)", "x")),
    ("Residual", "first SiLU", changed(BLOCK, "F.silu(self.norm1(x))", "self.norm1(x)")),
    ("Residual", "second SiLU", changed(BLOCK, "F.silu(self.norm2(h))", "self.norm2(h)")),
    ("Residual", "first norm", changed(BLOCK, "self.norm1(x)", "x")),
    ("Residual", "second norm", changed(BLOCK, "self.norm2(h)", "h")),
    ("Residual", "ReLU", changed(BLOCK, "F.silu(self", "F.relu(self")),
    ("Residual", "last axes|raised", changed(BLOCK, "[:, :, None, None]", "")),
    ("Residual", "no SiLU at the end", changed(BLOCK, "return self.conv_shortcut(x) + h",
                                               "return F.silu(self.conv_shortcut(x) + h)")),
    ("Residual", "all pictures|all pictures of a batch",
     changed(BLOCK, "[:, :, None, None]", "[:1, :, None, None]")),
    ("Residual", "not at the end", """
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return self.conv_shortcut(x) + h + self.time_emb_proj(F.silu(emb))[:, :, None, None]
     """),
    ("Residual", "detach", changed(BLOCK, "F.silu(emb)", "F.silu(emb.detach())")),
    ("Residual", "in place", changed(BLOCK, "F.silu(emb)", "F.silu(emb, inplace=True)")),
    ("Residual", "None", changed(BLOCK, "return ", "x = ")),
    ("Residual", "random|differs|wrong|times",
     changed(BLOCK, "F.silu(self.norm2(h))", "F.dropout(F.silu(self.norm2(h)), 0.1)")),
    ("multi_head", "scale is missing", changed(HEADS, " / q.shape[-1]**0.5", "")),
    ("multi_head", "root of d, not by d", changed(HEADS, "**0.5", "")),
    ("multi_head", "over the keys", changed(HEADS, "softmax(-1)", "softmax(-2)")),
    ("multi_head", "k and v changed", changed(HEADS, "(q, k, v))", "(q, v, k))")),
    ("multi_head", "positions", changed(HEADS, "x.unflatten(-1, (heads, -1)).transpose(1, 2)",
                                        "x.reshape(len(x), heads, -1, x.shape[-1] // heads)")),
    ("multi_head", "swap the axes back", changed(
        HEADS, ".transpose(1, 2).flatten(2)\n", ".reshape(len(q), -1, heads * q.shape[-1])\n")),
    ("multi_head", "not merged", changed(HEADS, ".transpose(1, 2).flatten(2)\n", "\n")),
    ("multi_head", "one head", "(q @ k.mT / q.shape[-1]**0.5).softmax(-1) @ v"),
    ("multi_head", "number, not their width", changed(HEADS, "(heads, -1)", "(-1, heads)")),
    ("multi_head", "package", "layers.attention(q, k, v)"),
    ("SelfAttention", "input is missing", changed(LOOK, "x + self", "self")),
    ("SelfAttention", "norm is missing", changed(LOOK, "self.norm(x)", "x")),
    ("SelfAttention", "not its norm", changed(LOOK, "x + self.to", "self.norm(x) + self.to")),
    ("SelfAttention", "to_out is missing", changed(LOOK, "self.to_out(mixed)", "mixed")),
    ("SelfAttention", "one head", changed(LOOK, "self.heads", "1")),
    ("SelfAttention", "transpose before", changed(LOOK, ".transpose(1, 2).reshape", ".reshape")),
    ("SelfAttention", "on the way in|cuts channels", changed(
        LOOK, ".flatten(2).transpose(1, 2)", ".reshape(len(x), -1, x.shape[1])")),
    ("SelfAttention", "raised", changed(LOOK, ".flatten(2).transpose(1, 2)", ".flatten(2)")),
    ("SelfAttention", "not to_q", changed(LOOK, "self.to_k", "self.to_q")),
    ("SelfAttention", "made by to_v", changed(LOOK, "self.to_v(tokens)", "tokens")),
    ("SelfAttention", "raised", changed(LOOK, ".reshape(x.shape)", "")),
    ("SelfAttention", "height and width", changed(
        LOOK, "self.norm(x)", "self.norm(x).transpose(2, 3)")),
    ("SelfAttention", "gradient to x", changed(LOOK, "self.norm(x)", "self.norm(x.detach())")),
    ("SmallUNet", "label is missing", changed(PASS, " + self.label(labels)", "")),
    ("SmallUNet", "time is missing", changed(PASS, "self.clock(sinusoid(t, self.c)) + ", "")),
    ("SmallUNet", "not multiplied", changed(PASS, ") + self.label", ") * self.label")),
    ("SmallUNet", "1000", changed(PASS, "sinusoid(t", "sinusoid(1000 * t")),
    ("SmallUNet", "1 - t", changed(PASS, "sinusoid(t", "sinusoid(1 - t")),
    ("SmallUNet", "from below first", changed(PASS, "[h, skip]", "[skip, h]")),
    ("SmallUNet", "not its input", changed(
        PASS, "skip = self.down(self.enter(x), emb)",
        "skip = self.enter(x)\n    down = self.down(skip, emb)", "2d(skip", "2d(down")),
    ("SmallUNet", "largest", changed(PASS, "avg_pool2d", "max_pool2d")),
    ("SmallUNet", "every second", changed(PASS, "F.avg_pool2d(skip, 2)", "skip[:, :, ::2, ::2]")),
    ("SmallUNet", "bilinear", changed(PASS, "scale_factor=2.0",
                                      'scale_factor=2.0, mode="bilinear"')),
    ("SmallUNet", "`look` is missing", changed(PASS, "self.look(h)", "h")),
    ("SmallUNet", "`deeper` is missing", changed(PASS, "self.deeper(self.look(h), emb)",
                                                 "self.look(h)")),
    ("SmallUNet", "before `deeper`", changed(PASS, "self.deeper(self.look(h), emb)",
                                             "self.look(self.deeper(h, emb))")),
    ("SmallUNet", "last SiLU", changed(PASS, "F.silu(self.norm(h))", "self.norm(h)")),
    ("SmallUNet", "last norm is", changed(PASS, "self.norm(h)", "h")),
    ("SmallUNet", "isn't added", changed(PASS, "return self", "return x + self")),
    ("SmallUNet", "none is needed", changed(PASS, "self.label(labels)\n",
                                            "self.label(labels)\n    emb = F.silu(emb)\n")),
    ("SmallUNet", "raised", changed(PASS, "torch.cat([h, skip], dim=1)", "h + skip")),
    ("SmallUNet", "raised", changed(PASS, "F.avg_pool2d(skip, 2)", "skip")),
    ("SmallUNet", "first one's label", changed(PASS, "labels)", "labels[:1])")),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(
    RIGHT, WRONG, answer=answer)


def test_other_names_of_layers_pass():
    class Block(lesson_04.Residual):
        pass

    Block.__module__ = "__main__"
    source = RESIDUAL.replace("norm1", "first").replace("conv_shortcut", "around")
    body = BLOCK.replace("norm1", "first").replace("conv_shortcut", "around")
    scope = {"__name__": "__main__", **IMPORTED}
    exec(source + textwrap.indent(textwrap.dedent(body), "        "), scope)
    passes("Residual", scope["Residual"])


@pytest.mark.parametrize("name, sizes", [("Residual", (8, 8, 4)), ("SelfAttention", (8, 2)),
                                         ("SmallUNet", (3, 8, 10))])
def test_an_instance_is_no_class(name, sizes):
    module = answer(name, {"Residual": BLOCK, "SelfAttention": LOOK, "SmallUNet": PASS}[name])
    told(name, module(*sizes))


def test_the_packages_own_block_is_not_taken():
    assert "package" in told("Residual", layers.ResidualBlock)
