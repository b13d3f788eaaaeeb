"""The checks of lesson 12 on the way down and on the trainable copy of the encoder."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from minildm.course.exercises.answer import copy_weights
from minildm.course.exercises.compare import close, compare, describe, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_10_norm import randomise
from minildm.course.exercises.lesson_12 import zero_conv
from minildm.nn import control, unet
from minildm.nn.control import HintEmbedding, joint_widths
from minildm.nn.unet import UNet, UNetConfig

# sizes that the lesson's U-Net does not have
CONFIGS = (UNetConfig(3, 3, (8, 12, 16), (True, False, True), blocks=2, context_dim=6, heads=2,
                      groups=4),
           UNetConfig(2, 2, (12, 8), (False, True), blocks=1, context_dim=5, heads=4, groups=2))


class Parts(UNet):
    """A U-Net whose parts may be used, and whose own way through them may not."""

    def forward(self, *inputs, **words):
        fail("that is the package's way through the U-Net: go through its parts yourself")


def small_unet(config: UNetConfig) -> UNet:
    """A U-Net none of whose weights are zero."""
    network = Parts(config)
    randomise(network)
    return network.requires_grad_(False)


def inputs_of(config: UNetConfig, batch: int = 3):
    """x, t, context and a hint four times as large as x."""
    side = 2 * config.multiple
    return (randn(batch, config.in_channels, side, side + config.multiple, seed=1),
            torch.tensor([0.2, 0.5, 0.9][:batch]), randn(batch, 4, config.context_dim, seed=2),
            randn(batch, 2, 4 * side, 4 * (side + config.multiple), seed=3))


# ---- the way down --------------------------------------------------------------------------------

def encode(network, h, emb, context):
    found = [h]
    for level in network.down_blocks:
        for i in range(len(level.resnets)):
            h = level.block(i, h, emb, context)
            found.append(h)
        if hasattr(level, "downsamplers"):
            h = level.downsamplers[0](h)
            found.append(h)
    return [*found, network.mid_block(h, emb, context)]


def listed(got, n: int) -> list:
    """An answer's list of tensors, or Wrong in words."""
    if got is None:
        fail("your function returned None: is the `return` missing?")
    if not isinstance(got, (list, tuple)):
        fail(f"return a list of tensors: this is {describe(got)}")
    if not all(isinstance(one, torch.Tensor) for one in got):
        fail("the list holds something that is no tensor")
    return list(got)


@check(reference=encode, forbidden=[unet.run_encoder])
def check_encode(answer):
    for config in CONFIGS:
        network = small_unet(config)
        x, t, context, _ = inputs_of(config)
        emb, h = F.silu(network.time_embedding(t)), network.conv_in(x).requires_grad_()
        want = encode(network, h, emb, context)
        got = listed(answer(network, h, emb, context), len(want))
        told = likely_lists(network, want)
        for cause, wrong in told.items():
            if len(got) == len(wrong) and all(map(close, got, wrong)):
                fail(cause)
        if len(got) != len(want):
            fail(f"the list has {len(got)} tensors, {len(want)} are wanted: h itself, every block, "
                 "every halving, the middle")
        for i, (one, other) in enumerate(zip(got, want, strict=True)):
            compare(one, other, where=f"tensor {i} of {len(want)}, counted from 0")
            if not one.requires_grad:
                fail(f"tensor {i} is right, but no gradient flows back from it: the copy's "
                     "encoder could not learn")
        answer.right += 1


def likely_lists(network, want) -> dict:
    """{cause: a list that a likely mistake leads to}."""
    halvings, place = [], 1
    for level in network.down_blocks:
        place += len(level.resnets)
        if hasattr(level, "downsamplers"):
            halvings.append(place)
            place += 1
    return {
        "the list begins with h as it came: the first skip connection": want[1:],
        "the middle block's output is missing: it comes last": want[:-1],
        "what the halvings make is a skip connection, too":
            [one for i, one in enumerate(want) if i not in halvings],
        "the order is that of the way down, the middle last": want[::-1],
        "that is the middle's output alone: all of the skips are wanted": want[-1:],
        "the middle comes last, not first": [want[-1], *want[:-1]],
    }


# ---- the copy ------------------------------------------------------------------------------------

class ControlCopy(nn.Module):
    """A trainable copy of a U-Net's encoder: -> a tensor for each skip, last for the middle."""

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


COPIED = "conv_in", "time_embedding", "down_blocks", "mid_block"


@check(reference=ControlCopy, forbidden=[control.ControlNet, control.control_for, unet.run_encoder])
def check_ControlCopy(answer):
    for config, widths in zip(CONFIGS, ((4, 6, 8), (2, 3, 5)), strict=True):
        base = small_unet(config)
        before = copy.deepcopy(base.state_dict())
        net = answer(base, 2, widths)
        if not isinstance(net, nn.Module):
            fail(f"hand over the class: this made {describe(net)}")
        judge_parts(net, base)
        if any(weight.requires_grad for weight in base.parameters()):
            fail("the U-Net itself was thawed: it stays frozen, and only its copy is trained")
        inputs = inputs_of(config)
        forward = answer.wrap(net, names=["x", "t", "context", "hint", "weight"])
        fresh = listed(forward(*inputs), 0)
        if any(one.abs().max() > 0 for one in fresh):
            fail("a fresh copy answers with something else than zeros: do its joints start at 0?")
        wanted = ControlCopy(base, 2, widths)
        randomise(wanted)
        copy_weights(net, wanted)
        judge_answers(forward, wanted, inputs)
        judge_learning(net, inputs)
        if any(not torch.equal(before[name], value) for name, value in base.state_dict().items()):
            fail("the U-Net's own weights have changed: work on a copy of its parts")
        answer.right += 1


def judge_parts(net, base):
    """Whether the parts are there, copied and trainable."""
    for name in (*COPIED, "hint", "joints"):
        if not hasattr(net, name):
            fail(f"call its parts {', '.join(COPIED)}, hint, joints: `{name}` is missing")
    theirs = {weight.data_ptr() for weight in base.parameters()}
    mine = dict(net.named_parameters())
    if any(weight.data_ptr() in theirs for weight in mine.values()):
        fail("it shares weights with the U-Net: training would change both. Copy the parts deeply")
    for name in COPIED:
        ours, original = (dict(getattr(one, name).named_parameters()) for one in (net, base))
        if ours.keys() != original.keys() or not all(
                close(ours[key], original[key]) for key in original):
            fail(f"`{name}` is not a copy of the U-Net's: it starts from other weights")
    frozen = [name for name, weight in mine.items() if not weight.requires_grad]
    if frozen:
        fail(f"`{frozen[0]}` does not require a gradient: the U-Net is frozen, and so is a copy "
             "of it, until you say requires_grad_(True)")
    count = len(joint_widths(base))
    if not isinstance(net.joints, nn.ModuleList) or len(net.joints) != count:
        fail(f"`joints` is an nn.ModuleList of {count} zero convolutions, one for each output")


def judge_learning(net, inputs):
    """Whether gradients reach all parts, once the joints have left zero."""
    found = net(*inputs)
    sum((y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum() for y in found).backward()
    for name, weight in net.named_parameters():
        if weight.grad is None:
            fail(f"its outputs are right, but no gradient reaches `{name.split('.')[0]}`, which "
                 "would never learn: is there a detach() or no_grad()?")


def judge_answers(forward, wanted, inputs):
    """Whether the outputs are those of a copy whose weights have moved."""
    for weight in (1.0, 0.3):
        want = wanted(*inputs, weight)
        got = listed(forward(*inputs, weight), len(want))
        for cause, wrong in likely_copies(wanted, inputs, weight).items():
            if len(got) == len(wrong) and all(map(close, got, wrong)):
                fail(cause)
        if len(got) != len(want):
            fail(f"it returns {len(got)} tensors, {len(want)} are wanted: one per joint")
        for i, (one, other) in enumerate(zip(got, want, strict=True)):
            compare(one, other, where=f"tensor {i}, weight {weight}")


def likely_copies(net, inputs, weight) -> dict:
    x, t, context, hint = inputs
    wave, entered, told = net.time_embedding(t), net.conv_in(x), net.hint(hint)

    def outputs(h, emb=None, scale=weight, joints=net.joints):
        found = encode(net, h, F.silu(wave) if emb is None else emb, context)
        return [scale * joint(y) for joint, y in zip(joints, found, strict=True)]

    def unjoined():
        return [weight * y for y in encode(net, entered + told, F.silu(wave), context)]

    def rewoven():
        found = encode(net, entered + told, F.silu(wave), context)
        return [y + weight * joint(y) for joint, y in zip(net.joints, found, strict=True)]

    likely = {
        "the hint is missing: it is added where x has come in": outputs(entered),
        "x is missing: the copy sees x_t as well as the hint": outputs(told),
        "the hint is added, not multiplied": outputs(entered * told),
        "the time's embedding goes through SiLU before the blocks, as in the U-Net":
            outputs(entered + told, wave),
        "the outputs go through the joints": unjoined(),
        "the joint's output alone is handed on: the U-Net adds it to its own": rewoven(),
    }
    if weight != 1:
        likely["the weight is left aside"] = outputs(entered + told, scale=1.0)
        likely["the weight is that of the outputs, not of the hint"] = outputs(
            entered + weight * told, scale=1.0)
    return likely
