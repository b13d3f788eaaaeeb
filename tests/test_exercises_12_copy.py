"""Lesson 12's checks of the copied encoder and the controlled U-Net: wrong answers are told why."""

import copy
import re

import pytest
from support.answers import changed, passes, right_and_wrong, told
from support.modules import class_of

from minildm.course.exercises import lesson_12, lesson_12_copy
from minildm.nn import control, unet
from minildm.nn.control import HintEmbedding, joint_widths

HELPERS = {"encode": lesson_12_copy.encode, "zero_conv": lesson_12.zero_conv, "copy": copy,
           "HintEmbedding": HintEmbedding, "joint_widths": joint_widths, "run": unet.run_encoder,
           "control": control}
ENCODE = """
    found = [h]
    for level in network.down_blocks:
        for i in range(len(level.resnets)):
            h = level.block(i, h, emb, context)
            found.append(h)
        if hasattr(level, "downsamplers"):
            h = level.downsamplers[0](h)
            found.append(h)
    found.append(network.mid_block(h, emb, context))
    return found
"""
FORWARD = """
    emb = F.silu(unet.time_embedding(t))
    found = encode(unet, unet.conv_in(x), emb, context)
    skips = [y + extra for y, extra in zip(found, control, strict=True)]
    h = skips.pop()
    for level in unet.up_blocks:
        for i in range(len(level.resnets)):
            h = torch.cat([h, skips.pop()], dim=1)
            h = level.block(i, h, emb, context)
        if hasattr(level, "upsamplers"):
            h = level.upsamplers[0](h)
    return unet.conv_out(F.silu(unet.conv_norm_out(h)))
"""
COPY = """
class ControlCopy(nn.Module):
    def __init__(self, unet, hint_channels, widths):
        super().__init__()
        self.conv_in = copy.deepcopy(unet.conv_in)
        self.time_embedding = copy.deepcopy(unet.time_embedding)
        self.down_blocks = copy.deepcopy(unet.down_blocks)
        self.mid_block = copy.deepcopy(unet.mid_block)
        self.requires_grad_(True)
        self.hint = HintEmbedding(hint_channels, unet.config.channels[0], widths)
        self.joints = nn.ModuleList(zero_conv(n, n) for n in joint_widths(unet))

    def forward(self, x, t, context, hint, weight=1.0):
        emb = F.silu(self.time_embedding(t))
        h = self.conv_in(x) + self.hint(hint)
        found = encode(self, h, emb, context)
        return [weight * joint(y) for joint, y in zip(self.joints, found, strict=True)]
"""
RESULT = "[weight * joint(y) for joint, y in zip(self.joints, found, strict=True)]"
OTHER = "nn.Conv2d(unet.conv_in.in_channels, unet.conv_in.out_channels, 3, padding=1)"
ENTRY = "self.conv_in(x) + self.hint(hint)"
ADDED = "[y + extra for y, extra in zip(found, control, strict=True)]"


def encoding(*pairs):
    return changed(ENCODE, *pairs)


def forward(*pairs):
    return changed(FORWARD, *pairs)


RIGHT = [
    ("encode", ENCODE),
    ("encode", encoding(("return found", "return tuple(found)"))),
    ("encode", encoding(("h = level.block(i, h, emb, context)", """h = level.resnets[i](h, emb)
            if hasattr(level, "attentions"):
                h = level.attentions[i](h, context)"""))),
    ("controlled_unet", FORWARD),
    ("controlled_unet", forward((f"skips = {ADDED}", """skips = list(found)
    for i in range(len(control)):
        skips[i] = skips[i] + control[i]"""))),
    ("controlled_unet", forward((f"skips = {ADDED}\n", "skips, control = list(found), list(control)\n"),
                                ("h = skips.pop()\n", "h = skips.pop() + control.pop()\n"),
                                ("[h, skips.pop()]", "[h, skips.pop() + control.pop()]"))),
]
WRONG = [
    ("encode", "begins with h", encoding(("[h]", "[]"))),
    ("encode", "middle block's output is missing",
     encoding(("    found.append(network.mid_block(h, emb, context))\n", ""))),
    ("encode", "halvings make", encoding(("h = level.downsamplers[0](h)\n            found.append(h)",
                                          "h = level.downsamplers[0](h)"))),
    ("encode", "order", encoding(("return found", "return found[::-1]"))),
    ("encode", "middle's output alone", encoding(("return found", "return found[-1:]"))),
    ("encode", "a list of tensors", encoding(("return found", "return found[-1]"))),
    ("encode", "return", encoding(("return found", "return"))),
    ("encode", "tensor|raised", encoding(("        if hasattr(level, \"downsamplers\"):\n"
                                          "            h = level.downsamplers[0](h)\n"
                                          "            found.append(h)\n", ""))),
    ("encode", "tensor", encoding(("h = level.block(i, h, emb, context)",
                                   "h = level.resnets[i](h, emb)"))),
    ("encode", "tensor|raised", encoding(("level.block(i,", "level.block(0,"))),
    ("encode", "tensor|raised", encoding(("network.mid_block(h, emb, context)", "h"))),
    ("encode", "tensor 1", encoding(("h = level.block(i, h, emb, context)",
                                     "h = h + 1e-2\n            h = level.block(i, h, emb, context)"))),
    ("encode", "in place", encoding(("found = [h]", "h += 1\n    found = [h]"))),
    ("encode", "no gradient flows back", encoding(("found.append(h)", "found.append(h.detach())"))),
    ("encode", "write yours", "run(network, h, emb, context)"),
    ("controlled_unet", "no part", forward((f"skips = {ADDED}", "skips = found"))),
    ("controlled_unet", "middle's control is missing",
     forward((ADDED, "[y + extra for y, extra in zip(found, control[:-1])] + found[-1:]"))),
    ("controlled_unet", "only the middle", forward((ADDED, "found[:-1] + [found[-1] + control[-1]]"))),
    ("controlled_unet", "doesn't replace|the U-Net itself", forward((ADDED, "list(control)"))),
    ("controlled_unet", "not subtracted", forward(("y + extra", "y - extra"))),
    ("controlled_unet", "last SiLU", forward(("F.silu(unet.conv_norm_out(h))", "unet.conv_norm_out(h)"))),
    ("controlled_unet", "last norm is missing", forward(("unet.conv_norm_out(h)", "h"))),
    ("controlled_unet", "below first", forward(("[h, skips.pop()]", "[skips.pop(), h]"))),
    ("controlled_unet", "raised|itself", forward(("skips.pop()],", "skips.pop(0)],"))),
    ("controlled_unet", "raised", forward(("            h = level.upsamplers[0](h)", "            pass"))),
    ("controlled_unet", "itself", forward(("F.silu(unet.time_embedding(t))", "unet.time_embedding(t)"))),
    ("controlled_unet", "return", forward(("return unet", "result = unet")) + "    return"),
    ("controlled_unet", "yourself", "return unet(x, t, context, control=control)"),
    ("controlled_unet", "no gradient", forward(("y + extra for", "y + extra.detach() for"))),
    ("controlled_unet", "no gradient", "with torch.no_grad():" + FORWARD.replace("\n", "\n    ")),
    ("controlled_unet", "in place", forward((f"skips = {ADDED}", """for y, extra in zip(found, control):
        extra += y
    skips = list(control)"""))),
]
test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(
    RIGHT, WRONG, HELPERS)

RIGHT_COPIES = [
    (),
    ((RESULT, "[joint(y) * weight for joint, y in zip(self.joints, found)]"),),
    (("        self.requires_grad_(True)\n", ""), ("(unet.conv_in)", "(unet.conv_in).requires_grad_(True)"),
     ("(unet.time_embedding)", "(unet.time_embedding).requires_grad_(True)"),
     ("(unet.down_blocks)", "(unet.down_blocks).requires_grad_(True)"),
     ("(unet.mid_block)", "(unet.mid_block).requires_grad_(True)")),
    (("        self.conv_in = copy.deepcopy(unet.conv_in)\n",
      "        unet = copy.deepcopy(unet).requires_grad_(True)\n        self.conv_in = unet.conv_in\n"),
     ("copy.deepcopy(unet.time_embedding)", "unet.time_embedding"),
     ("copy.deepcopy(unet.down_blocks)", "unet.down_blocks"),
     ("copy.deepcopy(unet.mid_block)", "unet.mid_block")),
]
WRONG_COPIES = [
    ("shares weights", ("copy.deepcopy(unet.mid_block)", "unet.mid_block")),
    ("shares weights", ("copy.deepcopy(unet.conv_in)", "copy.copy(unet.conv_in)")),
    ("does not require", ("        self.requires_grad_(True)\n", "")),
    ("is missing", ("self.joints", "self.zeros")),
    ("is missing", ("self.conv_in", "self.enter")),
    ("not a copy|other weights", ("copy.deepcopy(unet.conv_in)", OTHER)),
    ("something else than zeros", ("zero_conv(n, n)", "nn.Conv2d(n, n, 1)")),
    ("nn.ModuleList", ("nn.ModuleList(zero_conv(n, n) for n in joint_widths(unet))",
                       "[zero_conv(n, n) for n in joint_widths(unet)]")),
    ("nn.ModuleList", ("joint_widths(unet))", "joint_widths(unet)[:-1])")),
    ("hint is missing", (ENTRY, "self.conv_in(x)")),
    ("x is missing", (ENTRY, "self.hint(hint)")),
    ("not multiplied", (ENTRY, ENTRY.replace("+", "*"))),
    ("through SiLU", ("F.silu(self.time_embedding(t))", "self.time_embedding(t)")),
    ("something else than zeros|go through the joints", (RESULT, "[weight * y for y in found]")),
    ("something else than zeros|joint's output alone", ("weight * joint(y)", "y + weight * joint(y)")),
    ("left aside", ("weight * joint(y)", "joint(y)")),
    ("not of the hint", (ENTRY, "self.conv_in(x) + weight * self.hint(hint)"),
     ("weight * joint(y)", "joint(y)")),
    ("return", (f"return {RESULT}", RESULT)),
    ("list of tensors", (RESULT, "weight * self.joints[-1](found[-1])")),
    ("itself was thawed", ("super().__init__()", "super().__init__()\n        unet.requires_grad_(True)")),
    ("no gradient reaches `conv_in`", ("encode(self, h, ", "encode(self, h.detach(), ")),
    ("have changed", ("super().__init__()", "super().__init__()\n        nn.init.zeros_(unet.conv_in.bias)")),
    ("raised", ("super().__init__()", "pass")),
]


@pytest.mark.parametrize("changes", RIGHT_COPIES)
def test_right_copies_pass(changes):
    passes("ControlCopy", class_of(COPY, "ControlCopy", HELPERS, *changes))


@pytest.mark.parametrize("said, changes", [(said, changes) for said, *changes in WRONG_COPIES])
def test_wrong_copies_are_told_what_is_wrong(said, changes):
    assert re.search(said, told("ControlCopy", class_of(COPY, "ControlCopy", HELPERS, *changes)))


def test_the_packages_network_is_nobodys_answer():
    assert "write yours" in told("ControlCopy", control.ControlNet)
