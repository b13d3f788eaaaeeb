"""The checks of lesson 06 on the contrastive loss, its training step and reading by sentences."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import Wrong, close, compare, describe, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.spied import in_order, judge_mode
from minildm.nn import clip
from minildm.recipes import clip as recipes


def cross_entropies(logits):
    """CLIP's two losses, of rows and of columns."""
    k = torch.arange(len(logits))
    return F.cross_entropy(logits, k), F.cross_entropy(logits.T, k)


def mean_of_both(logits):
    rows, columns = cross_entropies(logits)
    return (rows + columns) / 2


def clip_loss(image_vectors, text_vectors, temperature):
    images = F.normalize(image_vectors, dim=1)
    texts = F.normalize(text_vectors, dim=1)
    return mean_of_both(images @ texts.T / temperature)


@check(reference=clip_loss, forbidden=[clip.contrastive_loss])
def check_clip_loss(answer):
    # temperatures on both sides of 1: dividing and multiplying differ
    for size, width, temperature in (5, 8, 0.3), (7, 4, 1.6):
        i = 2 * randn(size, width)
        # pairs that belong together a little, and lengths far from 1
        t = 3 * randn(size, width, seed=1) + 0.5 * i
        i.requires_grad_()
        t.requires_grad_()
        # CLIP learns its temperature, so the gradient must reach it
        tau = torch.tensor(temperature, requires_grad=True)
        want = clip_loss(i, t, tau)
        got = answer.case((i, t, tau), want, likely_clip_losses(i, t, temperature),
                          where=f"{size} pairs of width {width}, temperature {temperature}")
        compare_gradients(got, want, image_vectors=i, text_vectors=t, temperature=tau)


def likely_clip_losses(i, t, tau):
    a = F.normalize(i, dim=1)
    b = F.normalize(t, dim=1)
    cosines = a @ b.T
    logits = cosines / tau
    rows, columns = cross_entropies(logits)
    over_batch = F.normalize(i, dim=0) @ F.normalize(t, dim=0).T
    k = torch.arange(len(i))
    count = len(i)
    shares = logits.softmax(1)
    return {
        "only the pictures choose: sentences choose a picture, too": rows,
        "only the sentences choose: pictures choose a sentence, too": columns,
        "the mean of both directions, not their sum": rows + columns,
        "the mean over the batch, not the sum": count * mean_of_both(logits),
        "the mean over the batch and both directions, not the sum": count * (rows + columns),
        "divide by the temperature: the smaller it is, the surer": mean_of_both(cosines * tau),
        "the temperature is missing": mean_of_both(cosines),
        "the temperature is the divisor itself, not its logarithm":
            mean_of_both(cosines * torch.tensor(tau).exp()),
        "vectors must have length one first": mean_of_both(i @ t.T / tau),
        "vectors must have length one first, and the temperature is missing": mean_of_both(i @ t.T),
        "the sentences' vectors must have length one, too": mean_of_both(a @ t.T / tau),
        "the pictures' vectors must have length one, too": mean_of_both(i @ b.T / tau),
        "length one along the features, dim=1, not over the batch": mean_of_both(over_batch / tau),
        "divided by the square of the length": mean_of_both(
            (i / i.square().sum(1, True)) @ (t / t.square().sum(1, True)).T / tau),
        "only the true pairs' cosines: cross-entropy makes them compete": -cosines.diag().mean(),
        "only the true pairs' logits: cross-entropy makes them compete": -logits.diag().mean(),
        "cross_entropy takes logits: it has the softmax inside":
            mean_of_both_shares(shares, logits.T.softmax(1)),
        "the sign is wrong: a better match has a smaller loss": -mean_of_both(logits),
        "the distances stand in for the cosines": mean_of_both(torch.cdist(a, b) / tau),
        "each pair is judged by itself: they must compete":
            F.binary_cross_entropy_with_logits(logits, torch.eye(count)),
        "pictures are compared with pictures: with sentences": mean_of_both(a @ a.T / tau),
        "the right column of row k is k": F.cross_entropy(logits, k.flip(0)),
    }


def mean_of_both_shares(rows, columns):
    k = torch.arange(len(rows))
    return (F.cross_entropy(rows, k) + F.cross_entropy(columns, k)) / 2


LARGEST = math.log(100)


def clip_step(clip, optimizer, pictures, ids):
    temperature = (-clip.log_scale).exp()
    loss = clip_loss(clip.encode_images(pictures), clip.encode_text(ids), temperature)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        clip.log_scale.clamp_(max=LARGEST)
    return loss.detach()


class SmallTowers(nn.Module):
    """Towers of a matrix each, for pictures (B, 1, 3, 4) and 5 words, that count their calls."""

    def __init__(self, log_scale: float):
        super().__init__()
        self.looking = nn.Parameter(randn(12, 6, seed=5) / 4)
        self.reading = nn.Parameter(randn(9, 6, seed=6))
        self.log_scale = nn.Parameter(torch.tensor(log_scale))
        self.looked = self.read = 0

    def encode_images(self, pictures):
        self.looked += 1
        return pictures.flatten(1) @ self.looking

    def encode_text(self, ids):
        self.read += 1
        return self.reading[ids].mean(1)


def trained(step, log_scale: float, lr: float, calls: int = 2) -> tuple:
    """The losses of some steps on fresh towers, their weights after them, and the towers."""
    towers = SmallTowers(log_scale)
    optimizer = torch.optim.SGD(towers.parameters(), lr=lr)
    losses = []
    for i in range(calls):
        ids = (torch.arange(35).reshape(7, 5) * (3 + i) + i) % 9
        try:
            loss = step(towers, optimizer, randn(7, 1, 3, 4, seed=i), ids)
        except Wrong as wrong:
            if "in place" in str(wrong):
                fail("a parameter is changed in place only where no gradients are recorded: "
                     "torch.no_grad()")
            raise
        if loss is None:
            fail("clip_step returns the loss: this is None")
        if not isinstance(loss, (torch.Tensor, float)) or torch.as_tensor(loss).numel() != 1:
            fail(f"clip_step returns the loss, one number: this is {describe(loss)}")
        if isinstance(loss, torch.Tensor) and loss.requires_grad:
            fail("the loss that is returned keeps its graph in memory: detach it")
        losses.append(torch.as_tensor(loss).detach().float().reshape(()))
        judge_mode(towers)
    weights = torch.cat([weight.detach().flatten() for weight in towers.parameters()])
    return torch.stack(losses), weights, towers


def variant(order="zero backward step clamp", loss=clip_loss, temperature=None, least=None):
    """A training step with a likely mistake."""

    def step(clip, optimizer, pictures, ids):
        tau = (temperature or (lambda s: (-s).exp()))(clip.log_scale)
        value = loss(clip.encode_images(pictures), clip.encode_text(ids), tau)
        in_order(order, zero=optimizer.zero_grad, backward=value.backward, step=optimizer.step,
                 clamp=lambda: clip.log_scale.data.clamp_(min=least, max=LARGEST))
        return value.detach()

    return step


def one_sided(image_vectors, text_vectors, temperature):
    i, t = F.normalize(image_vectors, dim=1), F.normalize(text_vectors, dim=1)
    return cross_entropies(i @ t.T / temperature)[0]


WRONG_STEPS = {
    "gradients of earlier steps add up: is zero_grad missing?": variant("backward step clamp"),
    "the weights stay as they were: optimizer.step() needs the gradients of backward()":
        variant("zero backward clamp"),
    "the step comes before the gradients": variant("zero step backward clamp"),
    "the scale may grow beyond its limit: 100 for the scale is log 100 for log_scale":
        variant("zero backward step"),
    "log_scale may fall below 0: only its growth has a limit": variant(least=0.0),
    "clamp after the step, or the step passes the limit": variant("clamp zero backward step"),
    "log_scale is the logarithm of 1 / temperature: the sign is wrong":
        variant(temperature=lambda s: s.exp()),
    "log_scale is a logarithm: temperature is exp(-log_scale)":
        variant(temperature=lambda s: 1 / s),
    "log_scale itself is no temperature: exp(-log_scale)": variant(temperature=lambda s: s),
    "the temperature is learned: no gradient reaches log_scale":
        variant(temperature=lambda s: (-s).exp().detach()),
    "the loss is clip_loss, of both directions": variant(loss=one_sided),
}


@check(reference=clip_step)
def check_clip_step(answer):
    # in the second case the scale is beyond its limit, and a step without a clamp leaves it there;
    # in the third it is below 1, which is no limit
    for case in (1.2, 0.3), (LARGEST + 0.5, 1e-4), (-0.4, 0.1):
        want_losses, want, _ = trained(clip_step, *case)
        losses, weights, towers = trained(answer, *case)
        if close(weights, want) and close(losses, want_losses):
            answer.right += 1
            continue
        for cause, step in WRONG_STEPS.items():
            wrong_losses, wrong, _ = trained(step, *case)
            if close(weights, wrong) and close(losses, wrong_losses):
                fail(cause)
        if close(weights, want):
            fail(f"the weights are right, the loss that is returned isn't: {losses[0]:.4f}, "
                 f"{want_losses[0]:.4f} is wanted")
        if not towers.looked or not towers.read:
            fail("the step calls clip.encode_images and clip.encode_text")
        compare(losses[:1], want_losses[:1], where="the loss of the first step")
        fail("the losses are right at first, the weights after two steps are not")


def sentence_scores(image_vectors, text_vectors):
    each = F.normalize(text_vectors, dim=-1)                               # (K, W, D)
    classes = F.normalize(each.mean(1), dim=-1)
    return F.normalize(image_vectors, dim=-1) @ classes.T


@check(reference=sentence_scores, forbidden=[clip.class_vectors, recipes.zero_shot])
def check_sentence_scores(answer):
    for n, classes, wordings, width in (6, 4, 3, 8), (2, 5, 7, 5), (3, 2, 1, 4):
        i = 2 * randn(n, width)
        # lengths that differ between the wordings of a class, or nobody would miss the norm
        t = randn(classes, wordings, width, seed=1) * (1 + 4 * torch.arange(wordings)[:, None])
        answer.case((i, t), sentence_scores(i, t), likely_scores(i, t),
                    where=f"{n} pictures, {classes} classes of {wordings} wordings")


def likely_scores(i, t):
    a, b = F.normalize(i, dim=-1), F.normalize(t, dim=-1)
    mean = b.mean(1)
    scores = a @ F.normalize(mean, dim=-1).T
    every = torch.einsum("nd,kwd->nkw", a, b)
    return {
        "the mean of unit vectors is shorter than 1: normalise it again": a @ mean.T,
        "each wording counts alike: length one first, then the mean":
            a @ F.normalize(t.mean(1), dim=-1).T,
        "each wording counts alike: length one first, then the mean; and normalise that":
            a @ t.mean(1).T,
        "the pictures' vectors must have length one, too": i @ F.normalize(mean, dim=-1).T,
        "nothing here has length one": i @ t.mean(1).T,
        "a class is the mean of its wordings, not the best of them": every.amax(2),
        "a class is the mean of its wordings, not the first": every[:, :, 0],
        "the mean over the wordings, not over the classes": a @ F.normalize(b.mean(0), dim=-1).T,
        "rows are pictures, columns classes: transpose": scores.T,
        "the scores are wanted, not the class": scores.argmax(1),
        "the cosines are wanted, not their softmax": scores.softmax(1),
        "there is one score for each class: take the mean over its wordings": every,
    }
