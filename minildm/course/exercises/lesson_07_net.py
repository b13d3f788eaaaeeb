"""The check of lesson 07 on the small network that draws what words say."""

import torch
import torch.nn.functional as F
from torch import nn

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import compare, fail
from minildm.course.exercises.fakes import randn, uniform
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_04 import spread
from minildm.course.exercises.lesson_07 import WordBlock, made
from minildm.nn import unet
from minildm.nn.dit import positions
from minildm.nn.layers import ResidualBlock, TimeEmbedding

HEADS = 4


class WordNet(nn.Module):
    """x (B, 3, 16, 16), t (B,) or a number, ids (B, M) -> the clean picture, (B, 3, 16, 16)."""

    def __init__(self, vocabulary, length, width):
        super().__init__()
        self.word = nn.Embedding(vocabulary, width)
        self.order = nn.Parameter(torch.randn(length, width))
        self.place = nn.Parameter(positions(8, 8, width).T.reshape(width, 8, 8))
        self.time = TimeEmbedding(width, 4 * width)
        self.enter = nn.Conv2d(12, width, 3, padding=1)
        self.res1 = ResidualBlock(width, width, 4 * width, groups=8)
        self.ask1 = WordBlock(width, width, HEADS)
        self.res2 = ResidualBlock(width, width, 4 * width, groups=8)
        self.ask2 = WordBlock(width, width, HEADS)
        self.norm = nn.GroupNorm(8, width)
        self.leave = nn.Conv2d(width, 12, 3, padding=1)

    def forward(self, x, t, ids, said=None):
        emb = F.silu(self.time(t))                                        # (B, 4 width)
        words = self.word(ids) + self.order                               # (B, M, width)
        said = words if said is None else self.word(said) + self.order
        h = self.enter(F.pixel_unshuffle(x, 2)) + self.place              # (B, width, 8, 8)
        h = self.ask1(self.res1(h, emb), words, said)
        h = self.ask2(self.res2(h, emb), words, said)
        return F.pixel_shuffle(self.leave(F.silu(self.norm(h))), 2)


@check(reference=WordNet, forbidden=[unet.UNet])
def check_WordNet(answer):
    for sizes, batch in ((9, 5, 16), 3), ((6, 4, 8), 2):
        judge_start(answer(*sizes), sizes)
        wanted = spread(WordNet(*sizes))
        network = made(answer, wanted, sizes, ["x", "t", "ids", "said"])
        vocabulary, length, _ = sizes
        x, t = randn(batch, 3, 16, 16).requires_grad_(), uniform(batch, seed=3)
        ids = (torch.arange(batch * length) * 5 % vocabulary).view(batch, length)
        want = wanted(x, t, ids)
        likely = likely_networks(wanted, x, t, ids)
        got = network.case((x, t, ids), want, likely, tol=1e-3, where=f"{length} words")
        compare_gradients(got, want, tol=1e-3, x=x)
        other = (ids + 1) % vocabulary
        network.case((x, t, ids, other), wanted(x, t, ids, other), {
            "`said` is left aside: hand its words on to both blocks": want.detach(),
            "the keys come from `ids`, only the values from `said`": wanted(x, t, other).detach(),
            "`said` lacks the vectors of the order": walked(
                wanted, x, t, ids, said=wanted.word(other)),
        }, tol=1e-3, where="with `said`")
        if len(list(attentions(network.function))) != 2:
            fail("two blocks ask the words: two modules with an attribute `attention`")
        answer.right += 1


def judge_start(network, sizes):
    """Whether the parameters of the student's own start as they should."""
    _, length, width = sizes
    place, order = getattr(network, "place", None), getattr(network, "order", None)
    begin = positions(8, 8, width)
    if isinstance(place, nn.Parameter) and place.shape == (width, 8, 8):
        compare(place.detach(), begin.T.reshape(width, 8, 8), {
            "`place` starts with channels and positions mixed: transpose positions(...) before the "
            "reshape": begin.reshape(width, 8, 8),
            "`place` starts on its side: rows and columns changed places":
                begin.T.reshape(width, 8, 8).mT,
            "`place` starts as zeros: sines and cosines of row and column are wanted":
                torch.zeros(width, 8, 8),
        }, where="`place` at the start")
    # few numbers: one is told from 0 and from 0.02
    if isinstance(order, nn.Parameter) and not 0.4 < order.std() < 1.8:
        fail("`order` starts as normal numbers, of standard deviation 1: "
             f"here it is {order.std():.2f}")


def attentions(network):
    """The cross-attention layers of a network."""
    for module in network.modules():
        if isinstance(getattr(module, "attention", None), nn.Module):
            yield module.attention


def walked(net, x, t, ids, **other):
    """A pass through the network without a graph; other: parts of it that are replaced, by name."""
    parts = {"emb": F.silu(net.time(t)), "words": net.word(ids) + net.order, "place": net.place,
             "last": lambda h: F.silu(net.norm(h)), "res2": net.res2, "ask1": net.ask1,
             "ask2": net.ask2, **other}
    words, emb = parts["words"], parts["emb"]
    said = parts.get("said", words)
    with torch.no_grad():
        h = net.enter(F.pixel_unshuffle(x, 2)) + parts["place"]
        h = parts["ask1"](net.res1(h, emb), words, said)
        h = parts["ask2"](parts["res2"](h, emb), words, said)
        return F.pixel_shuffle(net.leave(parts["last"](h)), 2)


def likely_networks(net, x, t, ids):
    """{cause: result} of networks with a likely mistake."""
    def nothing(h, *others):
        return h

    def pooled(h, words, said):
        # one vector for all positions, the bag of words
        return net.ask1(h, words.mean(1, keepdim=True), said.mean(1, keepdim=True))

    clock = net.time(t)
    return {
        "the words lack the vectors of their order": walked(net, x, t, ids, words=net.word(ids)),
        "the order alone: the words themselves are missing":
            walked(net, x, t, ids, words=net.order.expand(len(ids), -1, -1)),
        "`place` is missing: each position must know where it is": walked(net, x, t, ids, place=0),
        "the blocks get the time after a SiLU": walked(net, x, t, ids, emb=clock),
        "the time is t, not 1 - t": walked(net, x, t, ids, emb=F.silu(net.time(1 - t))),
        "TimeEmbedding multiplies by 1000 itself: it gets t in [0, 1]":
            walked(net, x, t, ids, emb=F.silu(net.time(1000 * t))),
        "all pictures got the first one's time": walked(net, x, t, ids, emb=F.silu(clock[:1])),
        "the second block of words is missing": walked(net, x, t, ids, ask2=nothing),
        "the first block of words is missing": walked(net, x, t, ids, ask1=nothing),
        "the second residual block is missing": walked(net, x, t, ids, res2=nothing),
        "the first block got the mean of the words: each word by itself":
            walked(net, x, t, ids, ask1=pooled),
        "the last SiLU is missing": walked(net, x, t, ids, last=net.norm),
        "the last norm is missing": walked(net, x, t, ids, last=F.silu),
        "the network answers with the clean picture itself: x isn't added":
            walked(net, x, t, ids) + x.detach(),
    }
