"""Lesson 12's checks of edges, the zero convolution and the training: wrong answers are told why."""

import torch
from support.answers import changed, right_and_wrong, told

from minildm.course.exercises import lesson_12
from minildm.data import maps
from minildm.data.maps import AROUND, shifted
from minildm.diffusion.schedules import add_noise, flow
from minildm.nn import control

HELPERS = {"shifted": shifted, "AROUND": AROUND, "add_noise": add_noise, "flow": flow,
           "maps": maps}
EDGES = """
    grey = (images.amax(1, keepdim=True) + 1) / 2
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    right = F.conv2d(padded, across[None, None])
    down = F.conv2d(padded, across.T[None, None])
    steep = (right**2 + down**2).sqrt()
    towards = (torch.atan2(down, right) / (torch.pi / 4)).round() % 4
    thin = torch.zeros_like(steep, dtype=torch.bool)
    for k, (dy, dx) in enumerate(AROUND):
        thin |= (towards == k) & (steep > shifted(steep, -dy, -dx)) & (steep >= shifted(steep, dy, dx))
    found, weak = (thin & (steep > high)).float(), (thin & (steep > low)).float()
    for _ in range(100):
        found = F.max_pool2d(found, 3, 1, 1) * weak
    return found
"""
ZERO = """
    conv = nn.Conv2d(before, after, 1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv
"""
TRAIN = """
    optimizer = torch.optim.AdamW(control.parameters(), lr=lr)
    losses = []
    for i in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - i / steps)
        picked = torch.randint(len(latents), (batch,), generator=generator)
        data, noise = latents[picked], torch.randn(latents[picked].shape, generator=generator)
        t = times(batch, generator)
        dropped = torch.rand(batch, generator=generator) < 0.1
        context = torch.where(dropped[:, None, None], null, contexts[picked])
        velocity = predict(add_noise(flow, data, noise, t), t, context, hints[picked])
        loss = (velocity - (noise - data)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
"""


def edges(*pairs):
    return changed(EDGES, *pairs)


def training(*pairs):
    return changed(TRAIN, *pairs)


LOOP = """    for _ in range(100):
        found = F.max_pool2d(found, 3, 1, 1) * weak
"""
PEAK = "(steep > shifted(steep, -dy, -dx)) & (steep >= shifted(steep, dy, dx))"
RATE = 'optimizer.param_groups[0]["lr"] = lr * (1 - i / steps)'
CONTEXT = "torch.where(dropped[:, None, None], null, contexts[picked])"
DROP = "torch.rand(batch, generator=generator) < 0.1"

RIGHT = [
    ("edges", EDGES),
    ("edges", edges((LOOP, """
    while True:
        more = torch.maximum(found, F.max_pool2d(found, 3, 1, 1) * weak)
        if (more == found).all():
            break
        found = more
"""))),
    ("edges", edges(("(right**2 + down**2).sqrt()", "torch.hypot(right, down)"),
                    ("torch.atan2(down, right) / (torch.pi / 4)",
                     "torch.rad2deg(torch.atan2(down, right)) / 45"))),
    ("zero_conv", ZERO),
    ("zero_conv", """
     conv = nn.Conv2d(before, after, kernel_size=1)
     with torch.no_grad():
         for weight in conv.parameters():
             weight.zero_()
     return conv
     """),
    ("zero_conv", "return nn.Conv2d(before, after, 1).apply(lambda m: (nn.init.zeros_(m.weight), "
                  "nn.init.zeros_(m.bias)))"),
    ("train_control", TRAIN),
    ("train_control", training(("(velocity - (noise - data)).square().mean()",
                                "F.mse_loss(velocity, noise - data)"))),
    ("train_control", training(("add_noise(flow, data, noise, t)",
                                "(1 - t[:, None, None, None]) * data + t[:, None, None, None] * noise"))),
    ("train_control", training((f"context = {CONTEXT}", """context = contexts[picked].clone()
        context[dropped] = null"""))),
    ("train_control", training(("optimizer = torch.optim.AdamW(control.parameters(), lr=lr)", """
    optimizer = torch.optim.Adam(control.parameters(), lr=lr)"""))),
]
WRONG = [
    ("edges", r"in \[0, 1\]", edges(("(images.amax(1, keepdim=True) + 1) / 2",
                                     "images.amax(1, keepdim=True)"))),
    ("edges", "not the channels' mean", edges(("images.amax(1, keepdim=True)",
                                               "images.mean(1, keepdim=True)"))),
    ("edges", "not the first one's", edges(("images.amax(1, keepdim=True)", "images[:, :1]"))),
    ("edges", "zeros make an edge", edges((', mode="replicate"', ""))),
    ("edges", "divide the filter by 4", edges(("]]) / 4", "]])"))),
    ("edges", "not by 8", edges(("]]) / 4", "]]) / 8"))),
    ("edges", "not the sum of its parts", edges(("(right**2 + down**2).sqrt()",
                                                 "right.abs() + down.abs()"))),
    ("edges", "square root is missing", edges((".sqrt()", ""))),
    ("edges", "not across it", edges((".round() % 4", ".round().add(2) % 4"))),
    ("edges", "diagonals changed places", edges(("atan2(down, right)", "atan2(-down, right)"))),
    ("edges", "right and down changed places", edges(("atan2(down, right)", "atan2(right, down)"))),
    ("edges", "the largest along its direction", edges((f"& {PEAK}", ""))),
    ("edges", "not with all eight", edges((PEAK, "(steep >= F.max_pool2d(steep, 3, 1, 1))"))),
    ("edges", "weak edges are missing", edges((LOOP, ""))),
    ("edges", "every weak edge was taken", edges((LOOP, "    found = weak\n"))),
    ("edges", "one round", edges(("range(100)", "range(1)"))),
    ("edges", "keeps both", edges(("(steep > shifted", "(steep >= shifted"))),
    ("edges", "keeps none", edges(("(steep >= shifted", "(steep > shifted"))),
    ("edges", "changed places", edges((PEAK, PEAK.replace(">=", "=").replace(">", ">=").replace(
        "(steep = ", "(steep > ")))),
    ("edges", "ten rounds", edges(("range(100)", "range(10)"))),
    ("edges", "of weak edges as well", edges(("(thin & (steep > low))", "(steep > low)"))),
    ("edges", "is an edge", edges(("return found", "return 1 - found"))),
    ("edges", "their type is", edges(("return found", "return found.bool()"))),
    ("edges", "return", edges(("return found", "return"))),
    ("edges", "write yours", "maps.edges(images, low, high)"),
    ("zero_conv", "is not zero", "nn.Conv2d(before, after, 1)"),
    ("zero_conv", "is not zero", changed(ZERO, ("    nn.init.zeros_(conv.bias)\n", ""))),
    ("zero_conv", "is not zero", changed(ZERO, ("    nn.init.zeros_(conv.weight)\n", ""))),
    ("zero_conv", "no bias", changed(ZERO, ("after, 1)", "after, 1, bias=False)"),
                                     ("    nn.init.zeros_(conv.bias)\n", ""))),
    ("zero_conv", "a 1 x 1 convolution", changed(ZERO, ("after, 1)", "after, 3, padding=1)"))),
    ("zero_conv", "a 1 x 1 convolution", changed(ZERO, ("before, after, 1", "after, before, 1"))),
    ("zero_conv", "does not require", changed(ZERO, ("return conv", "return conv.requires_grad_(False)"))),
    ("zero_conv", "an nn.Module", "return torch.zeros(after, before, 1, 1)"),
    ("zero_conv", "an nn.Module", "return 0"),
    ("zero_conv", "return", changed(ZERO, ("return conv", "return"))),
    ("train_control", "as long as the first|last steps", training((RATE, "pass"))),
    ("train_control", "last steps|full rate", training(("(1 - i / steps)", "(i / steps)"))),
    ("train_control", "with AdamW", training(("torch.optim.AdamW", "torch.optim.SGD"))),
    ("train_control", "one step early", training(("(1 - i / steps)", "(1 - (i + 1) / steps)"))),
    ("train_control", "weights decay, by 0.1", training(("lr=lr)", "lr=lr, weight_decay=0.1)"))),
    ("train_control", "forgets its moments", training((
        RATE, "optimizer = torch.optim.AdamW(control.parameters(), lr=lr * (1 - i / steps))"))),
    ("train_control", "cut before the step", training((
        "        optimizer.step()", "        nn.utils.clip_grad_norm_(control.parameters(), 1.0)\n"
                                    "        optimizer.step()"))),
    ("train_control", "as torch has it", training(("lr=lr)", "lr=lr, betas=(0.5, 0.9))"))),
    ("train_control", "training mode", training(("    losses = []", "    losses = []\n    control.eval()"))),
    ("train_control", "number 39 is never drawn", training((
        "torch.randint(len(latents),", "torch.randint(len(latents) - 1,"))),
    ("train_control", "add up", training(("        optimizer.zero_grad()\n", ""))),
    ("train_control", "backward", training(("        loss.backward()\n", ""))),
    ("train_control", "stay as they were", training(("        optimizer.step()\n", ""))),
    ("train_control", "not of the same scenes", training((
        "hints[picked]", "hints[torch.randint(len(latents), (batch,), generator=generator)]"))),
    ("train_control", "not of the same scenes", training(("hints[picked]", "hints[picked.flip(0)]"))),
    ("train_control", "not of the same scenes", training(("contexts[picked]", "contexts[:batch]"))),
    ("train_control", "changed places", training(("add_noise(flow, data, noise, t)",
                                                  "add_noise(flow, noise, data, t)"))),
    ("train_control", "isn't", training(("data, noise = latents[picked]", "data, noise = latents[:batch]"))),
    ("train_control", "same noise", training((
        "torch.randn(latents[picked].shape, generator=generator)",
        "torch.randn(latents[:1].shape, generator=generator).expand_as(latents[picked])"))),
    ("train_control", "0 and 1 are wanted", training(("torch.randn(latents", "torch.rand(latents"))),
    ("train_control", "not data - noise", training(("(noise - data)).square", "(data - noise)).square"))),
    ("train_control", "not the noise", training(("(noise - data)).square", "noise).square"))),
    ("train_control", "not the data", training(("(noise - data)).square", "data).square"))),
    ("train_control", "not their sum", training((".square().mean()", ".square().sum()"))),
    ("train_control", "is wanted", training((".square().mean()", ".abs().mean()"))),
    ("train_control", "of its own", training(("velocity = predict(add_noise(flow, data, noise, t), t,",
                                              "velocity = predict(add_noise(flow, data, noise, t), t[0],"))),
    ("train_control", "each step draws its own", training(("times(batch, generator)",
                                                           "torch.rand(batch, generator=generator)"))),
    ("train_control", "ever dropped", training((CONTEXT,
                                                "contexts[picked]"))),
    ("train_control", "not kept", training((DROP, DROP.replace("<", ">")))),
    ("train_control", "10 % are wanted", training((DROP, DROP.replace("0.1", "0.2")))),
    ("train_control", "ever dropped|10 % are wanted", training((
        DROP, "torch.rand(1, generator=generator).expand(batch) < 0.1"))),
    ("train_control", "times in", training(("range(steps)", "range(steps - 1)"))),
    ("train_control", "are asked for", training(("(batch,)", "(16,)"), ("times(batch,", "times(16,"),
                                                ("rand(batch", "rand(16"))),
    ("train_control", "plain numbers", training(("loss.item()", "loss"))),
    ("train_control", "list with the loss", training(("return losses", "return loss.item()"))),
    ("train_control", "global generator|one seed", training(("(batch,), generator=generator)", "(batch,))"))),
    ("train_control", "same batch", training(
        ("    for i in range(steps):\n", "    picked = torch.randint(len(latents), (batch,), "
         "generator=generator)\n    for i in range(steps):\n"),
        ("        picked = torch.randint(len(latents), (batch,), generator=generator)\n", ""))),
    ("train_control", "return", training(("return losses", "return"))),
]

test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(
    RIGHT, WRONG, HELPERS)


def test_the_packages_own_are_nobodys_answer():
    assert "write yours" in told("edges", maps.edges)
    assert "write yours" in told("zero_conv", control.zero_conv)


def test_the_check_and_the_package_agree_on_edges():
    x = torch.rand(3, 3, 20, 17, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(lesson_12.edges(x, 0.1, 0.5), maps.edges(x, 0.1, 0.5))
