"""The check of lesson 10 on the whole DiT, put together from the student's own parts."""

import torch
from torch import nn

from minildm.course.exercises.answer import Answer, copy_weights
from minildm.course.exercises.compare import compare, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_10_block import AdaLNZeroBlock
from minildm.course.exercises.lesson_10_norm import FinalLayer, made, randomise
from minildm.course.exercises.lesson_10_tokens import LabelEmbedding, patchify, unpatchify
from minildm.nn import dit
from minildm.nn.dit import positions
from minildm.nn.layers import TimeEmbedding


class DiT(nn.Module):
    """x (B, C, H, W), t a number or (B,), labels (B,) -> (B, C, H, W)."""

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


@check(reference=DiT, forbidden=[dit.DiT, dit.DiTBlock, dit.PatchEmbedding, dit.unpatchify])
def check_DiT(answer):
    for channels, dim, depth, patch, classes in ((2, 8, 3, 2, 5), (3, 12, 2, 1, 4)):
        network = made(answer, channels, dim, depth, 2, patch, classes)
        wanted = DiT(channels, dim, depth, 2, patch, classes)
        check_names(network, depth)
        x, t = randn(3, channels, 4, 6), torch.tensor([0.2, 0.5, 0.9])
        labels = torch.tensor([1, 3, classes])
        forward = Answer(network, ["x", "t", "labels", "dropped"])
        compare(forward(x, t, labels), torch.zeros_like(x),
                where="a fresh DiT answers zero, as its final layer does")
        randomise(wanted)
        copy_weights(network, wanted)
        at = f"{depth} blocks, patches of {patch}"
        forward.case((x, t, labels), wanted(x, t, labels), likely_networks(wanted, x, t, labels),
                     where=at)
        forward.case((x, torch.tensor(0.3), labels), wanted(x, torch.tensor(0.3), labels),
                     where="one time for all pictures")
        dropped = torch.tensor([True, False, False])
        forward.case((x, t, labels, dropped), wanted(x, t, labels, dropped), {
            "`dropped` is left aside: hand it on to the label's embedding": wanted(x, t, labels),
        }, where="a label is dropped")
        answer.right += 1


def check_names(network, depth: int):
    """What later cells ask of the network beside its answers."""
    if not hasattr(network, "multiple") or not hasattr(network, "null_context"):
        fail("keep the lines that set `multiple` and `null_context`: samplers ask for them")
    blocks = getattr(network, "blocks", None)
    if not isinstance(blocks, nn.ModuleList):
        fail("call the blocks `self.blocks`, an nn.ModuleList: the optimizer doesn't see the "
             "weights of a plain list, and a later cell looks for it")
    if len(blocks) != depth:
        fail(f"there are {len(blocks)} blocks, {depth} are wanted")
    if len({id(block) for block in blocks}) < depth:
        fail("the blocks are one and the same: each has its own weights")


def likely_networks(network, x, t, labels) -> dict:
    """{cause: result} of networks whose parts are put together in a wrong way."""
    p = network.multiple
    h, w = x.shape[2] // p, x.shape[3] // p
    plain = network.embed(patchify(x, p))
    place = positions(h, w, plain.shape[-1])
    time, label = network.time(t), network.label(labels)
    both = time + label

    def answer(tokens=plain + place, c=both, last=both, blocks=network.blocks, after=0.0):
        start = tokens
        for block in blocks:
            tokens = block(tokens, c)
        return unpatchify(network.final(tokens + after * start, last), h, p)

    return {
        "the tokens don't know where they are: the positions are missing": answer(plain),
        "positions(h, w, dim): rows come first": answer(plain + positions(w, h, place.shape[-1])),
        "positions are added before the blocks, once": answer(plain, after=0.0) + 0 * place.sum()
        if not len(network.blocks) else answer(plain + 2 * place),
        "the label has no part in c": answer(c=time, last=time),
        "the time has no part in c": answer(c=label, last=label),
        "t goes into TimeEmbedding as it is: it multiplies by 1000 itself":
            answer(c=network.time(1000 * t) + label, last=network.time(1000 * t) + label),
        "the final layer gets c as well, the sum of time and label": answer(last=time),
        "the blocks get time and label, both": answer(c=time),
        "the last block is left out": answer(blocks=network.blocks[:-1]),
        "the first block is left out": answer(blocks=network.blocks[1:]),
        "the blocks come in their order": answer(blocks=network.blocks[::-1]),
        "no block is used": answer(blocks=[]),
        "nothing leads around all of the blocks": answer(after=1.0),
        "x is not added to the answer: a DiT predicts the velocity itself": x + answer(),
        "the sign of the answer": -answer(),
    }
