"""The checks of lesson 01 on the training step and on drawing from a Gaussian."""

import torch
from torch import nn

from minildm.course.exercises.compare import close, compare, describe, fail
from minildm.course.exercises.fakes import follows_generator, generator, randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_01 import reparameterise, vae_loss


def train_step(model, optimizer, images, noise, kl_weight):
    mean, logvar = model.encode(images)
    z = reparameterise(mean, logvar, noise)
    loss = vae_loss(images, model.decode(z), mean, logvar, kl_weight)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


class SmallVAE(nn.Module):
    """A VAE of two matrices, for pictures (B, 1, 3, 4) and 2 latents, that counts its calls."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Parameter(randn(12, 4, seed=5) / 4)
        self.decoder = nn.Parameter(randn(2, 12, seed=6) / 2)
        self.encoded = self.decoded = 0

    def encode(self, images):
        self.encoded += 1
        return (images.flatten(1) @ self.encoder).chunk(2, dim=1)

    def decode(self, z):
        self.decoded += 1
        return torch.tanh(z @ self.decoder).unflatten(1, (1, 3, 4))


def trained(step, calls: int = 2) -> tuple:
    """The losses of some steps on a fresh small VAE, and its weights after them."""
    model = SmallVAE()
    # two steps, as gradients that are not deleted spoil only the second
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for i in range(calls):
        loss = step(model, optimizer, randn(7, 1, 3, 4, seed=i), randn(7, 2, seed=9 + i), 0.3)
        if loss is None:
            fail("train_step returns the loss: this is None")
        if not isinstance(loss, (torch.Tensor, float)):
            fail(f"train_step returns the loss, one number: this is {describe(loss)}")
        losses.append(torch.as_tensor(loss).detach().float())
    if not all(loss.numel() == 1 for loss in losses):
        fail(f"train_step returns the loss, one number: its shape is {tuple(losses[0].shape)}")
    weights = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    return torch.stack([loss.reshape(()) for loss in losses]), weights, model


def variant(order="zero backward step", kl=1.0, noise=1.0, other=None):
    """A training step with a likely mistake."""

    def step(model, optimizer, images, eps, kl_weight):
        mean, logvar = model.encode(images)
        z = reparameterise(mean, logvar, noise * eps)
        copies = other(model, mean, logvar, eps) if other else model.decode(z)
        loss = vae_loss(images, copies, mean, logvar, kl * kl_weight)
        for word in order.split():
            if word == "zero":
                optimizer.zero_grad()
            if word == "backward":
                loss.backward()
            if word == "step":
                optimizer.step()
        return loss.detach()

    return step


WRONG_STEPS = {
    "gradients of earlier steps add up: is zero_grad missing?": variant("backward step"),
    # so does a step whose gradients were deleted after backward
    "the weights stay as they were: optimizer.step() needs the gradients of backward()":
        variant("zero backward"),
    "the step comes before the gradients": variant("zero step backward"),
    "the noise isn't used: the decoder gets a sample, not the mean": variant(noise=0),
    "the KL has no part in it: pass kl_weight on": variant(kl=0),
    "kl_weight isn't the one that is given": variant(kl=1 / 0.3),
    "the decoder gets the noise alone": variant(other=lambda m, mean, var, eps: m.decode(eps)),
    "mean and logvar have changed places in the sample":
        variant(other=lambda m, mean, var, eps: m.decode(reparameterise(var, mean, eps))),
}


@check(reference=train_step)
def check_train_step(answer):
    want_losses, want, _ = trained(train_step)
    losses, weights, model = trained(answer)
    if close(weights, want) and close(losses, want_losses):
        return
    for cause, step in WRONG_STEPS.items():
        wrong_losses, wrong, _ = trained(step)
        if close(weights, wrong) and close(losses, wrong_losses):
            fail(cause)
    # Adam's steps would hide a wrong scale of the loss, SGD's do not
    if close(weights, want):
        fail(f"the weights are right, the loss that is returned isn't: {losses[0]:.4f}, "
             f"{want_losses[0]:.4f} is wanted")
    if not model.encoded or not model.decoded:
        fail("the step calls model.encode and model.decode")
    compare(losses[:1], want_losses[:1], where="the loss of the first step")
    fail("the losses are right at first, the weights after two steps are not")


def draw_gaussian(decode, mean, cov, n, generator):
    root = torch.linalg.cholesky(cov)                              # cov = root root^T
    noise = torch.randn(n, len(mean), generator=generator, device=mean.device)
    z = mean + noise @ root.T                                      # (n, latents)
    with torch.no_grad():
        images = decode(z)
    return images.clamp(-1, 1)


class Recorder:
    """A fake decoder that remembers the latents it gets, and whether gradients were on."""

    def __init__(self, latents):
        self.weight = randn(latents, 6, seed=3).requires_grad_()
        self.z = None

    def __call__(self, z):
        if z.ndim != 2 or z.shape[1] != len(self.weight):
            fail(f"the decoder wants latents (n, {len(self.weight)}), it got {tuple(z.shape)}")
        self.z = z.detach()
        return (z @ self.weight).unflatten(1, (1, 2, 3))


@check(reference=draw_gaussian)
def check_draw_gaussian(answer):
    # judged by mean and covariance: any root of cov, and any order of drawing, will do
    n = 20_000
    for latents in (3, 5):
        mean = 2 * randn(latents, seed=4)
        root = randn(latents, latents, seed=latents).tril()
        cov = root @ root.T + 0.1 * torch.eye(latents)
        decode = Recorder(latents)
        # pictures of one seed, then of another: the last call is the one that is judged
        follows_generator(answer, lambda g: (decode, mean, cov, n, g))  # noqa: B023
        images = answer(decode, mean, cov, n, generator(0))
        check_latents(decode.z, n, mean, cov)
        want = (decode.z @ decode.weight.detach()).unflatten(1, (1, 2, 3))
        if isinstance(images, torch.Tensor) and images.requires_grad:
            fail("gradients are kept: decode under torch.no_grad()")
        answer.right += 1
        compare(images, want.clamp(-1, 1), {
            "pictures are in [-1, 1]: clamp what the decoder gives": want,
            "pictures are in [-1, 1], not in [0, 1]": want.clamp(0, 1),
            "clamp, not tanh: grey values that are right stay": want.tanh(),
        }, where="the pictures")


def check_latents(z, n, mean, cov):
    """Whether latents (n, D) have this mean and covariance, as far as chance allows."""
    if z is None:
        fail("decode wasn't called")
    if len(z) != n:
        fail(f"{len(z)} latents were decoded, {n} are wanted")
    root = torch.linalg.cholesky(cov)
    off = (z.mean(0) - mean).abs() / cov.diagonal().sqrt()
    spread = z.T.cov()
    likely = {
        "this is N(0, I) about the mean: the covariance isn't used": torch.eye(len(mean)),
        "cov is multiplied with the noise: its root, L with L L^T = cov, is wanted": cov @ cov,
        "noise @ L has covariance L^T L: each row is L eps, so noise @ L.T": root.T @ root,
        "the latents are independent: cov says how they vary together":
            torch.diag(cov.diagonal()),
        "the variances are in the place of standard deviations":
            torch.diag(cov.diagonal().square()),
        "cov.sqrt() takes the root of each number: a root of the matrix is wanted":
            cov.abs().sqrt() @ cov.abs().sqrt().T,
    }
    # about six standard errors of a covariance of 20,000 draws
    if (spread - cov).abs().max() > 0.06 * cov.diagonal().max():
        for cause, wrong in likely.items():
            if (spread - wrong).abs().max() < 0.05 * wrong.diagonal().max():
                fail(cause)
        fail("the latents' covariance isn't cov")
    if (off > 0.05).any():
        missing = (z.mean(0).abs() / cov.diagonal().sqrt() < 0.05).all()
        fail("the mean is missing" if missing else "the latents' mean isn't `mean`")
