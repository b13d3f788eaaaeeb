"""The checks of lesson 02 on the losses of two players, and on the weight between them."""

import torch
import torch.nn.functional as F

from minildm.course.exercises.answer import compare_gradients
from minildm.course.exercises.compare import compare, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.training import losses


@check(reference=losses.hinge_critic)
def check_hinge_critic(answer):
    # scores on both sides of both margins
    for shape, gap in ((6, 1, 4, 3), 1.5), ((3, 2, 5, 7), 0.4):
        real = (2 * randn(*shape) + gap).requires_grad_()
        fake = (2 * randn(shape[0] + 2, *shape[1:], seed=1) - gap).requires_grad_()
        want = losses.hinge_critic(real, fake)
        likely = mistaken_hinges(real, fake)
        got = answer.case((real, fake), want, likely, where=f"scores of shape {shape}")
        compare_gradients(got, want, real=real, fake=fake)


def mistaken_hinges(real, fake) -> dict:
    of_real, of_fake = F.relu(1 - real), F.relu(1 + fake)
    want = (of_real.mean() + of_fake.mean()) / 2
    without_relu = (1 - real).mean() + (1 + fake).mean()
    return {
        "the sides have changed places": losses.hinge_critic(fake, real),
        "the factor 1/2 is missing": 2 * want,
        "without relu what is right already pulls on": without_relu / 2,
        "without relu what is right already pulls on, and 1/2 is missing": without_relu,
        "relu of the mean: each score by itself, then the mean":
            (F.relu(1 - real.mean()) + F.relu(1 + fake.mean())) / 2,
        "the margin 1 is missing": (F.relu(-real).mean() + F.relu(fake).mean()) / 2,
        "the margin is 1": (F.relu(0.5 - real).mean() + F.relu(0.5 + fake).mean()) / 2,
        "the signs are wrong": (F.relu(1 + real).mean() + F.relu(1 - fake).mean()) / 2,
        "the real side's sign is wrong": (F.relu(1 + real).mean() + of_fake.mean()) / 2,
        "the fake side's sign is wrong": (of_real.mean() + F.relu(1 - fake).mean()) / 2,
        "only the real side": of_real.mean() / 2,
        "only the real side, and 1/2 is missing": of_real.mean(),
        "only the fake side": of_fake.mean() / 2,
        "only the fake side, and 1/2 is missing": of_fake.mean(),
        "the sides are added, not subtracted": (of_real.mean() - of_fake.mean()) / 2,
        "means, not sums": (of_real.sum() + of_fake.sum()) / 2,
        "the hinge isn't squared": (of_real.square().mean() + of_fake.square().mean()) / 2,
        "that is the loss of the other side, which wants fakes to score high": -fake.mean(),
        "that is cross-entropy's soft hinge: relu":
            (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2,
        "each side has its own mean": torch.cat([of_real, of_fake]).mean(),
    }


@check(reference=losses.hinge_generator)
def check_hinge_generator(answer):
    for shape in (6, 1, 4, 3), (3, 2, 5, 7):
        fake = (1.5 * randn(*shape) + 0.4).requires_grad_()
        want = losses.hinge_generator(fake)
        got = answer.case((fake,), want, {
            "the sign is wrong: the decoder wants high scores": fake.mean(),
            "no relu: the decoder is never good enough": F.relu(1 - fake).mean(),
            "no relu, and no half: the decoder is never good enough": F.relu(1 - fake).mean() / 2,
            "that is what the critic wants of copies": F.relu(1 + fake).mean(),
            "no relu of the scores": -F.relu(fake).mean(),
            "the mean, not the sum": -fake.sum(),
            "the mean over places as well": -fake.sum((1, 2, 3)).mean(),
            "there is no factor 1/2 here": want / 2,
            "that is cross-entropy's soft form": F.softplus(-fake).mean(),
            "1 - D has the same gradient, but the formula is -D": 1 - fake.mean(),
        }, where=f"scores of shape {shape}")
        compare_gradients(got, want, fake=fake)


def adaptive_weight(reconstruction, adversarial, last_layer):
    norms = []
    for loss in reconstruction, adversarial:
        gradient, = torch.autograd.grad(loss, last_layer, retain_graph=True)
        norms.append(gradient.norm())
    return (norms[0] / (norms[1] + 1e-6)).detach()


@check(reference=adaptive_weight, forbidden=[losses.adaptive_weight])
def check_adaptive_weight(answer):
    # gradients of very different lengths, far above the small number that guards the division
    for n, width, scale in (5, 3, 0.1), (7, 4, 2.0):
        weight = randn(2, width).requires_grad_()
        before = randn(n, width, seed=1).requires_grad_()
        out = before @ weight.T
        rec = 3 * out.abs().mean()
        adv = scale * out.square().sum()
        of_rec, = torch.autograd.grad(rec, weight, retain_graph=True)
        of_adv, = torch.autograd.grad(adv, weight, retain_graph=True)
        want = of_rec.norm() / of_adv.norm()
        try:
            got = answer(rec, adv, weight)
            # the training step that follows
            torch.autograd.grad(rec + adv, weight)
        except RuntimeError:
            fail("no backward pass can follow: each gradient needs retain_graph=True")
        compare(got, want, mistaken_ratios(rec, adv, of_rec, of_adv), tol=1e-3)
        if isinstance(got, torch.Tensor) and got.requires_grad:
            fail("a weight, not a term: detach it")
        if weight.grad is not None or before.grad is not None:
            fail("it left a gradient in last_layer.grad or elsewhere: the next step adds to it")


def mistaken_ratios(rec, adv, of_rec, of_adv) -> dict:
    want = of_rec.norm() / of_adv.norm()
    return {
        "upside down: reconstruction's gradient is divided by the critic's": 1 / want,
        "the ratio of the losses: of their gradients": (rec / adv).detach(),
        "the squared lengths' ratio: take norms": want.square(),
        "the ratio of largest values: take norms": of_rec.abs().max() / of_adv.abs().max(),
        "the ratio of sums: take norms": of_rec.sum() / of_adv.sum(),
        "the ratio of means: take norms": of_rec.abs().mean() / of_adv.abs().mean(),
        "the norm of the ratio: the ratio of the norms": (of_rec / of_adv).norm(),
        "the mean of the ratio: the ratio of the norms": (of_rec / of_adv).mean(),
        "that is the gradient's length alone: divide by the critic's": of_rec.norm(),
        "that is the critic's gradient's length alone": of_adv.norm(),
        "a product of the lengths: their ratio": of_rec.norm() * of_adv.norm(),
        "the critic's length isn't a term of a sum":
            of_rec.norm() / (of_adv.norm() + of_rec.norm()),
        "the limit 1 is the training step's, not the formula's": want.clamp(max=1),
    }
