"""Lesson 10's checks of the whole DiT and of its training: right ones pass; wrong ones are told why."""

import re

import pytest
import torch
from support.answers import passes, right_and_wrong, told
from support.modules import class_of

from minildm.course.exercises.lesson_10_block import AdaLNZeroBlock
from minildm.course.exercises.lesson_10_norm import FinalLayer
from minildm.course.exercises.lesson_10_tokens import LabelEmbedding, patchify, unpatchify
from minildm.course.exercises.lesson_10_training import rate_at
from minildm.diffusion.denoiser import logit_normal, uniform
from minildm.diffusion.schedules import add_noise, flow
from minildm.nn import dit
from minildm.nn.layers import TimeEmbedding

HELPERS = {"AdaLNZeroBlock": AdaLNZeroBlock, "FinalLayer": FinalLayer, "patchify": patchify,
           "LabelEmbedding": LabelEmbedding, "unpatchify": unpatchify, "positions": dit.positions,
           "TimeEmbedding": TimeEmbedding}
NETWORK = """
class DiT(nn.Module):
    def __init__(self, channels, dim, depth, heads, patch, classes):
        super().__init__()
        self.multiple, self.null_context = patch, classes
        self.embed = nn.Linear(patch * patch * channels, dim)
        self.time = TimeEmbedding(256, dim)
        self.label = LabelEmbedding(classes, dim)
        self.blocks = nn.ModuleList(AdaLNZeroBlock(dim, heads) for _ in range(depth))
        self.final = FinalLayer(dim, patch * patch * channels)

    def forward(self, x, t, labels, dropped=None):
        p = self.multiple
        h, w = x.shape[2] // p, x.shape[3] // p
        tokens = self.embed(patchify(x, p))
        tokens = tokens + positions(h, w, tokens.shape[-1])
        c = self.time(t) + self.label(labels, dropped)
        for block in self.blocks:
            tokens = block(tokens, c)
        return unpatchify(self.final(tokens, c), h, p)
"""
LOOP = "for block in self.blocks:\n            tokens = block(tokens, c)"
PLACES = "positions(h, w, tokens.shape[-1])"
C = "self.time(t) + self.label(labels, dropped)"

RIGHT_NETWORKS = [
    (),
    (("self.time", "self.clock"), ("self.label", "self.what")),
    ((LOOP, "for i in range(len(self.blocks)):\n            tokens = self.blocks[i](tokens, c)"),),
    ((C, "self.label(labels, dropped)\n        c = c + self.time(t)"),),
]
WRONG_NETWORKS = [
    ("positions are missing", (f"tokens = tokens + {PLACES}", "")),
    ("rows come first", (PLACES, "positions(w, h, tokens.shape[-1])")),
    ("added before the blocks, once", (PLACES, f"2 * {PLACES}")),
    ("label has no part", (C, "self.time(t) + 0 * self.label(labels, dropped)")),
    ("time has no part", (C, "self.label(labels, dropped)")),
    ("multiplies by 1000", ("self.time(t)", "self.time(1000 * t)")),
    ("left aside", ("labels, dropped)\n        for", "labels)\n        for")),
    ("final layer gets c", ("self.final(tokens, c)", "self.final(tokens, self.time(t))")),
    ("blocks get time and label", ("block(tokens, c)", "block(tokens, self.time(t))")),
    ("last block", ("in self.blocks:", "in self.blocks[:-1]:")),
    ("first block", ("in self.blocks:", "in self.blocks[1:]:")),
    ("in their order", ("in self.blocks:", "in reversed(self.blocks):")),
    ("around all of the blocks",
     (LOOP, "start = tokens\n        " + LOOP + "\n        tokens = tokens + start")),
    ("answers zero|x is not added", ("return unpatchify", "return x + unpatchify")),
    ("plain list", ("nn.ModuleList(AdaLNZeroBlock(dim, heads) for _ in range(depth))",
                    "[AdaLNZeroBlock(dim, heads) for _ in range(depth)]")),
    ("one and the same", ("nn.ModuleList(AdaLNZeroBlock(dim, heads) for _ in range(depth))",
                          "nn.ModuleList([AdaLNZeroBlock(dim, heads)] * depth)")),
    ("blocks, .* are wanted", ("range(depth)", "range(2)")),
    ("keep the lines", ("self.multiple, self.null_context", "self.multiple, self.nothing")),
    ("self.blocks", ("self.blocks", "self.layers")),
    ("raised|shape", ("tokens, c), h, p)", "tokens, c), w, p)")),
    ("raised|shape|parameter", ("self.embed = nn.Linear(patch * patch * channels, dim)",
                                "self.embed = nn.Linear(12, dim)")),
    ("return", ("return unpatchify", "unpatchify")),
]


@pytest.mark.parametrize("changes", RIGHT_NETWORKS)
def test_right_networks_pass(changes):
    passes("DiT", class_of(NETWORK, "DiT", HELPERS, *changes))


@pytest.mark.parametrize("said, change", WRONG_NETWORKS, ids=lambda v: v if isinstance(v, str) else "")
def test_wrong_networks_are_told_what_is_wrong(said, change):
    assert re.search(said, told("DiT", class_of(NETWORK, "DiT", HELPERS, change)))


def test_the_packages_network_is_nobodys_answer():
    assert "write yours" in told("DiT", dit.DiT)


TRAINING = {"rate_at": rate_at, "add_noise": add_noise, "flow": flow, "logit_normal": logit_normal,
            "uniform": uniform}
LESSON = """
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, betas=(0.9, 0.95))
    losses = []
    for i in range(steps):
        optimizer.param_groups[0]["lr"] = lr * rate_at(i, steps)
        picked = torch.randint(len(mean), (batch,), generator=generator)
        data = mean[picked] + std[picked] * torch.randn(mean[picked].shape, generator=generator)
        noise = torch.randn(data.shape, generator=generator)
        t = logit_normal(batch, generator)
        dropped = torch.rand(batch, generator=generator) < 0.1
        velocity = network(add_noise(flow, data, noise, t), t, labels[picked], dropped)
        loss = (velocity - (noise - data)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses
"""


def changed(*pairs):
    body = LESSON
    for old, new in pairs:
        assert old in body, old
        body = body.replace(old, new)
    return body


RATE = 'optimizer.param_groups[0]["lr"] = lr * rate_at(i, steps)'
DROP = "torch.rand(batch, generator=generator) < 0.1"
RIGHT = [
    ("train_dit", LESSON),
    ("train_dit", changed(("logit_normal(batch, generator)",
                           "torch.sigmoid(torch.randn(batch, generator=generator))"))),
    ("train_dit", changed(("loss = (velocity - (noise - data)).square().mean()",
                           "loss = F.mse_loss(velocity, noise - data)"))),
    ("train_dit", changed(("labels[picked], dropped)",
                           "torch.where(dropped, network.null_context, labels[picked]))"))),
    ("train_dit", changed(("lr=lr, betas=(0.9, 0.95))", """lr=lr)
    warm = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: rate_at(i, steps))"""),
                          (RATE, "pass"), ("optimizer.step()", "optimizer.step()\n        warm.step()"))),
]
WRONG = [
    ("train_dit", "as long as the first|full rate|last steps", changed((RATE, "pass"))),
    ("train_dit", "with AdamW it would", changed(("torch.optim.AdamW", "torch.optim.SGD"),
                                                 (", betas=(0.9, 0.95)", ""), (
        "        nn.utils.clip_grad_norm_(network.parameters(), 1.0)\n", ""))),
    ("train_dit", "with AdamW it would", changed(("lr * rate_at(i, steps)", "rate_at(i, steps)"))),
    ("train_dit", "as long as they come", changed((
        "        nn.utils.clip_grad_norm_(network.parameters(), 1.0)\n", ""))),
    ("train_dit", "weights decay", changed(("betas=", "weight_decay=0.2, betas="))),
    ("train_dit", "rate of the step after", changed(("rate_at(i, steps)", "rate_at(i + 1, steps)"))),
    ("train_dit", "add up", changed(("        optimizer.zero_grad()\n", ""))),
    ("train_dit", "backward", changed(("        loss.backward()\n", ""))),
    ("train_dit", "stay as they were", changed(("        optimizer.step()\n", ""))),
    ("train_dit", "without spread", changed(("std[picked] *", "0 *"))),
    ("train_dit", "times the spread", changed(("std[picked] *", "std[picked]**2 *"))),
    ("train_dit", "changed places", changed(("add_noise(flow, data, noise, t)",
                                             "add_noise(flow, noise, data, t)"))),
    ("train_dit", "isn't \\(1 - t\\) data", changed(("mean[picked] + std[picked]",
                                                   "mean[picked.flip(0)] + std[picked]"))),
    ("train_dit", "same noise",
     changed(("noise = torch.randn(data.shape,", "noise = 0 * data + torch.randn(data[0].shape,"))),
    ("train_dit", "0 and 1 are wanted|isn't", changed(("noise = torch.randn(", "noise = torch.rand("))),
    ("train_dit", "not data - noise", changed(("(noise - data)", "(data - noise)"))),
    ("train_dit", "not the noise", changed(("(noise - data)", "noise"))),
    ("train_dit", "not the data", changed(("(noise - data)", "data"))),
    ("train_dit", "not their sum", changed((".square().mean()", ".square().sum()"))),
    ("train_dit", "is wanted", changed((".square().mean()", ".abs().mean()"))),
    ("train_dit", "as with even times", changed(("logit_normal", "uniform"))),
    ("train_dit", "of its own", changed(("t = logit_normal(batch, generator)",
                                         "t = torch.rand((), generator=generator)"))),
    ("train_dit", "ever dropped", changed(("labels[picked], dropped)", "labels[picked])"))),
    ("train_dit", "not kept", changed((DROP, DROP.replace("<", ">")))),
    ("train_dit", "10 % are wanted", changed((DROP, DROP.replace("0.1", "0.2")))),
    ("train_dit", "once a step",
     changed(("velocity = network", "network(data, t, labels[picked])\n        velocity = network"))),
    ("train_dit", "in 100 steps|times in", changed(("range(steps)", "range(steps - 1)"))),
    ("train_dit", "are asked for", changed(("(batch,)", "(64,)"), ("(batch, gen", "(64, gen"))),
    ("train_dit", "plain numbers", changed(("loss.item()", "loss"))),
    ("train_dit", "list with the loss", changed(("return losses", "return loss.item()"))),
    ("train_dit", "global generator|one seed", changed(("(batch,), generator=generator)", "(batch,))"))),
    ("train_dit", "same batch", changed(("    for i in range(steps):\n", ""), (
        "        picked = torch.randint(len(mean), (batch,), generator=generator)\n",
        ""), ("        optimizer.param_groups", "    picked = torch.randint(len(mean), (batch,), "
              "generator=generator)\n    for i in range(steps):\n        optimizer.param_groups"))),
    ("train_dit", "return", changed(("return losses", "return"))),
]


test_right_trainings_pass, test_wrong_trainings_are_told_what_is_wrong = right_and_wrong(
    RIGHT, WRONG, TRAINING)


def test_networks_of_the_check_and_the_package_have_as_many_weights():
    from minildm.course.exercises.lesson_10_dit import DiT

    mine = DiT(3, 8, 2, 2, 2, 10)
    theirs = dit.DiT(dit.DiTConfig(3, 3, dim=8, depth=2, heads=2, num_classes=10))
    count = [sum(weight.numel() for weight in network.parameters()) for network in (mine, theirs)]
    assert count[0] == count[1]
    assert torch.equal(mine(torch.randn(1, 3, 4, 6), 0.5 * torch.ones(1), torch.tensor([1])),
                       torch.zeros(1, 3, 4, 6))
