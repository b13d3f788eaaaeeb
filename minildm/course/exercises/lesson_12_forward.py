"""The check of lesson 12 on the frozen U-Net's forward pass, where control is added to it."""

import torch
import torch.nn.functional as F

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import compare
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_12_copy import CONFIGS, encode, inputs_of, small_unet
from minildm.nn import unet
from minildm.nn.unet import UNet


def controlled_unet(unet, x, t, context, control):
    return walked(unet, x, t, context, control)


def walked(unet, x, t, context, control, skips=None, join=None, last=None):
    """The U-Net with control added; the words replace a right part by a likely mistake."""
    emb = F.silu(unet.time_embedding(t))
    found = encode(unet, unet.conv_in(x), emb, context)
    found = (skips or added)(found, control)
    h = found.pop()
    for level in unet.up_blocks:
        for i in range(len(level.resnets)):
            h = (join or in_order)(h, found.pop())
            h = level.block(i, h, emb, context)
        if hasattr(level, "upsamplers"):
            h = level.upsamplers[0](h)
    return unet.conv_out((last or (lambda h: F.silu(unet.conv_norm_out(h))))(h))


def added(found, control):
    return [y + extra for y, extra in zip(found, control, strict=True)]


def in_order(h, skip):
    return torch.cat([h, skip], dim=1)


FORWARD = [unet.run_encoder, UNet.forward]


@check(reference=controlled_unet, forbidden=FORWARD)
def check_controlled_unet(answer):
    for config in CONFIGS:
        base = small_unet(config)
        x, t, context, _ = inputs_of(config)
        shapes = [y.shape for y in encode(base, base.conv_in(x), base.time_embedding(t), context)]
        extra = [randn(*shape, seed=10 + i) for i, shape in enumerate(shapes)]
        nothing = [torch.zeros(shape) for shape in shapes]
        plain = UNet.forward(base, x, t, context)
        got = answer(base, x, t, context, nothing)
        compare(got, plain, likely_forwards(base, x, t, context, nothing, plain),
                where="with a control of zeros it is the U-Net itself")
        got = answer(base, x, t, context, extra)
        want = controlled_unet(base, x, t, context, extra)
        compare(got, want, likely_forwards(base, x, t, context, extra, plain),
                where=f"{len(extra)} tensors of control")
        judge_gradients(answer, base, (x, t, context), extra)
        answer.right += 1


def judge_gradients(answer, base, inputs, extra):
    """Whether gradients reach what the copy found: nothing else is trained."""
    control = [one.requires_grad_() for one in extra]
    want = controlled_unet(base, *inputs, control)
    compare_gradients(answer(base, *inputs, control), want, tol=1e-3,
                      **{f"control[{i}]": one for i, one in enumerate(control)})


def likely_forwards(base, x, t, context, control, plain) -> dict:
    def walk(**words):
        return walked(base, x, t, context, control, **words)

    def without_middle(found, control):
        return [*added(found[:-1], control[:-1]), found[-1]]

    def middle_alone(found, control):
        return [*found[:-1], found[-1] + control[-1]]

    def instead(found, control):
        return list(control)

    def subtracted(found, control):
        return [y - extra for y, extra in zip(found, control, strict=True)]

    unmoved = {} if not any(extra.any() for extra in control) else {
        "the control has no part in it": plain,
        "the middle's control is missing: the last tensor is the middle's":
            walk(skips=without_middle),
        "only the middle has its control": walk(skips=middle_alone),
        "the control is added to what the U-Net found, it doesn't replace it": walk(skips=instead),
        "the control is added, not subtracted": walk(skips=subtracted),
    }
    return {
        **unmoved,
        "concatenate what comes from below first, then the skip":
            walk(join=lambda h, skip: torch.cat([skip, h], dim=1)),
        "the last SiLU is missing": walk(last=base.conv_norm_out),
        "the last norm is missing": walk(last=F.silu),
        "the last norm and SiLU are missing": walk(last=lambda h: h),
    }
