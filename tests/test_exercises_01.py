"""Lesson 01's checks: right answers in any style pass; wrong ones are told what is wrong."""

import re

import pytest
import torch
import torch.nn.functional as F
from support.answers import changed, right_and_wrong, told
from torch import nn

from minildm import exercises
from minildm.course.exercises import lesson_01, lesson_01_training
from minildm.nn.vae import Gaussian


def reparameterise(mean, logvar, noise):
    return mean + (0.5 * logvar).exp() * noise


def kl(mean, logvar):
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar)


def vae_loss(images, copies, mean, logvar, kl_weight):
    return F.mse_loss(copies, images) + kl_weight * kl(mean, logvar).mean()


HELPERS = {"Gaussian": Gaussian, "reparameterise": reparameterise, "kl": kl, "vae_loss": vae_loss}

LOSS = "F.mse_loss(copies, images) + kl_weight * kl(mean, logvar).mean()"
STEP = """
    mean, logvar = model.encode(images)
    z = reparameterise(mean, logvar, noise)
    loss = vae_loss(images, model.decode(z), mean, logvar, kl_weight)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()
"""
DRAW = """
    root = torch.linalg.cholesky(cov)
    z = mean + torch.randn(n, len(mean), generator=generator) @ root.T
    with torch.no_grad():
        return decode(z).clamp(-1, 1)
"""


RIGHT = [
    ("reparameterise", "mean + (0.5 * logvar).exp() * noise"),
    ("reparameterise", "torch.addcmul(mean, noise, logvar.exp().sqrt())"),
    ("reparameterise", "mean + noise * torch.sqrt(math.e**logvar)"),
    ("reparameterise", "(mean.double() + noise * torch.exp(logvar.double() / 2)).float()"),
    ("kl", "0.5 * (mean**2 + logvar.exp() - 1 - logvar)"),
    ("kl", "-0.5 * (1 + logvar - mean.pow(2) - logvar.exp())"),
    ("kl", """
        q = torch.distributions.Normal(mean, (logvar / 2).exp())
        return torch.distributions.kl_divergence(q, torch.distributions.Normal(0, 1))
     """),
    ("kl", "((mean.double()**2 + torch.expm1(logvar.double()) - logvar) / 2).to(mean.dtype)"),
    ("vae_loss", LOSS),
    ("vae_loss", "F.mse_loss(copies, images) + kl_weight * Gaussian(mean, logvar).kl().mean()"),
    ("vae_loss", """
        d = images - copies
        divergence = (mean**2 + logvar.exp() - 1 - logvar).mean() / 2
        return (d * d).mean() + kl_weight * divergence
     """),
    ("train_step", STEP),
    ("train_step", changed(STEP, "loss.detach()", "loss.item()")),
    ("train_step", changed(STEP, "return loss.detach()", "return loss.detach()[None]")),
    ("train_step", """
        model.zero_grad(set_to_none=True)
        mean, logvar = model.encode(images)
        copies = model.decode(mean + (logvar / 2).exp() * noise)
        loss = ((copies - images)**2).mean() + kl_weight * kl(mean, logvar).mean()
        loss.backward()
        optimizer.step()
        return loss.item()
     """),
    ("draw_gaussian", DRAW),
    ("draw_gaussian", """
        values, vectors = torch.linalg.eigh(cov)
        noise = torch.randn(len(mean), n, generator=generator)
        z = mean[:, None] + vectors @ (values.sqrt()[:, None] * noise)
        with torch.no_grad():
            pictures = decode(z.T)
        return pictures.clip(-1, 1)
     """),
    ("draw_gaussian", """
        noise = torch.randn((n, mean.shape[0]), generator=generator)
        z = torch.stack([mean + torch.linalg.cholesky(cov) @ row for row in noise])
        return decode(z).detach().clamp(min=-1, max=1)
     """),
]

WRONG = [
    ("reparameterise", "root", "mean + logvar.exp() * noise"),
    ("reparameterise", "logarithm", "mean + 0.5 * logvar * noise"),
    ("reparameterise", "not the standard deviation", "mean + logvar * noise"),
    ("reparameterise", "grows", "mean + (-0.5 * logvar).exp() * noise"),
    ("reparameterise", "multiplied by std", "mean + noise"),
    ("reparameterise", "added to std", "mean + (logvar / 2).exp() + noise"),
    ("reparameterise", "the noise alone", "(mean + noise) * (logvar / 2).exp()"),
    ("reparameterise", "changed places", "(0.5 * logvar).exp() + mean * noise"),
    ("reparameterise", "noise is missing", "mean + (0.5 * logvar).exp() * torch.ones_like(noise)"),
    ("reparameterise", "reaches logvar", "mean + (0.5 * logvar).exp().detach() * noise"),
    ("reparameterise", "reaches mean", "mean.detach() + (0.5 * logvar).exp() * noise"),
    ("reparameterise", "no gradient flows", "(mean + (0.5 * logvar).exp() * noise).detach()"),
    ("reparameterise", "no gradient flows",
     "with torch.no_grad():\n    return mean + (0.5 * logvar).exp() * noise"),
    ("reparameterise", "two results", "mean + (0.5 * logvar).exp() * torch.randn_like(noise)"),
    ("reparameterise", "in place", "noise *= (0.5 * logvar.detach()).exp()\nreturn mean + noise"),
    ("reparameterise", "in place", "mean += (0.5 * logvar).exp() * noise\nreturn mean"),
    ("reparameterise", "noise.*is missing|mean", "mean"),
    ("reparameterise", "half of logvar, not twice", "mean + (logvar * 2).exp() * noise"),
    ("reparameterise", "differs", "mean + 0.5 * logvar.exp() * noise"),
    ("reparameterise", "NaN", "mean + logvar.log().exp() ** 0.5 * noise"),
    ("reparameterise", "wrong|differs", "mean + (0.5 * logvar).exp() * noise.clamp(-1, 1)"),
    ("kl", "1/2", "mean**2 + logvar.exp() - 1 - logvar"),
    ("kl", "never negative", "0.5 * (1 + logvar - mean**2 - logvar.exp())"),
    ("kl", "standard deviation", "0.5 * (mean**2 + (logvar / 2).exp() - 1 - logvar)"),
    ("kl", "isn't squared", "0.5 * (mean + logvar.exp() - 1 - logvar)"),
    ("kl", "mean is missing", "0.5 * (logvar.exp() - 1 - logvar)"),
    ("kl", "brackets", "0.5 * mean**2 + logvar.exp() - 1 - logvar"),
    ("kl", "-1 is missing", "0.5 * (mean**2 + logvar.exp() - logvar)"),
    ("kl", r"\+1", "0.5 * (mean**2 + logvar.exp() + 1 - logvar)"),
    ("kl", r"\+logvar", "0.5 * (mean**2 + logvar.exp() - 1 + logvar)"),
    ("kl", "other way round", "0.5 * ((1 + mean**2) / logvar.exp() - 1 + logvar)"),
    ("kl", "NaN", "0.5 * (mean**2 + logvar - 1 - logvar.log())"),
    ("kl", "sum", "(0.5 * (mean**2 + logvar.exp() - 1 - logvar)).sum()"),
    ("kl", "their mean", "(0.5 * (mean**2 + logvar.exp() - 1 - logvar)).mean()"),
    ("kl", "sum over axis 1", "(0.5 * (mean**2 + logvar.exp() - 1 - logvar)).sum(1)"),
    ("kl", "mean over axis 1", "(0.5 * (mean**2 + logvar.exp() - 1 - logvar)).mean(1)"),
    ("kl", "sum over axis 0", "(0.5 * (mean**2 + logvar.exp() - 1 - logvar)).sum(0)"),
    ("kl", "in place", "logvar.exp_()\nreturn 0.5 * (mean**2 + logvar - 1 - logvar.log())"),
    ("kl", "package's `Gaussian`", "Gaussian(mean, logvar).kl()"),
    ("kl", "differs|wrong", "0.5 * (logvar**2 + mean.exp() - 1 - mean)"),
    ("kl", "differs|wrong", "0.5 * (mean**2 + logvar.clamp(-1, 1).exp() - 1 - logvar)"),
    ("kl", "float64", "0.5 * (mean**2 + logvar.double().exp() - 1 - logvar)"),
    ("kl", "axis", "(0.5 * (mean**2 + logvar.exp() - 1 - logvar))[None]"),
    ("kl", "axes|raised|wrong|shape",
     "(0.5 * (mean**2 + logvar.exp() - 1 - logvar)).transpose(0, 1)"),
    ("vae_loss", "Means", "(copies - images).square().sum() + kl_weight * kl(mean, logvar).sum()"),
    ("vae_loss", "latents", changed(LOSS, "logvar).mean", "logvar).sum(1).mean")),
    ("vae_loss", "KL is summed", changed(LOSS, "logvar).mean", "logvar).sum")),
    ("vae_loss", "errors are summed", changed(LOSS, "images)", "images, reduction='sum')")),
    ("vae_loss", "isn't weighted", changed(LOSS, "kl_weight * ", "")),
    ("vae_loss", "for the KL alone", "kl_weight * (F.mse_loss(copies, images) + kl(mean, logvar).mean())"),
    ("vae_loss", "not subtracted", changed(LOSS, "+", "-")),
    ("vae_loss", "not absolute", changed(LOSS, "mse_loss", "l1_loss")),
    ("vae_loss", "without a root", changed(LOSS, "images)", "images).sqrt()")),
    ("vae_loss", "mean and logvar", changed(LOSS, "mean, logvar", "logvar, mean")),
    ("vae_loss", "KL is missing", "F.mse_loss(copies, images)"),
    ("vae_loss", "error is missing", "kl_weight * kl(mean, logvar).mean()"),
    ("vae_loss", "reaches copies", changed(LOSS, "copies, images", "copies.detach(), images")),
    ("vae_loss", "reaches mean", changed(LOSS, "kl(mean", "kl(mean.detach()")),
    ("vae_loss", "no gradient", "(" + LOSS + ").item()"),
    ("vae_loss", "should be", changed(LOSS, "kl_weight", "0.1")),
    ("train_step", "add up", changed(STEP, "    optimizer.zero_grad()\n", "")),
    ("train_step", r"step\(\) needs", changed(STEP, "    optimizer.step()\n", "")),
    ("train_step", r"step\(\) needs", changed(
        STEP, "    optimizer.zero_grad()\n    loss.backward()\n",
        "    loss.backward()\n    optimizer.zero_grad()\n")),
    ("train_step", "noise isn't used", changed(STEP, "model.decode(z)", "model.decode(mean)")),
    ("train_step", "noise alone", changed(STEP, "model.decode(z)", "model.decode(noise)")),
    ("train_step", "no part", changed(STEP, "logvar, kl_weight", "logvar, 0")),
    ("train_step", "isn't the one", changed(STEP, "logvar, kl_weight", "logvar, 1")),
    ("train_step", "changed places", changed(STEP, "reparameterise(mean, logvar",
                                             "reparameterise(logvar, mean")),
    ("train_step", "None", changed(STEP, "return loss.detach()", "return None")),
    ("train_step", "raised", changed(STEP, "model.decode(z)", "model(z)")),
    ("train_step", "not written", "raise NotImplementedError()"),
    ("draw_gaussian", "covariance isn't used", changed(DRAW, " @ root.T", "")),
    ("draw_gaussian", "its root", changed(DRAW, "@ root.T", "@ cov")),
    ("draw_gaussian", "noise @ L.T", changed(DRAW, "root.T", "root")),
    ("draw_gaussian", "independent", changed(DRAW, "@ root.T", "* cov.diagonal().sqrt()")),
    ("draw_gaussian", "variances", changed(DRAW, "@ root.T", "* cov.diagonal()")),
    ("draw_gaussian", "mean is missing", changed(DRAW, "mean + ", "")),
    ("draw_gaussian", "mean isn't", changed(DRAW, "mean + ", "2 * mean + ")),
    ("draw_gaussian", "clamp", changed(DRAW, ".clamp(-1, 1)", "")),
    ("draw_gaussian", r"\[0, 1\]", changed(DRAW, "clamp(-1", "clamp(0")),
    ("draw_gaussian", "no_grad", changed(DRAW, "with torch.no_grad()", "with torch.enable_grad()")),
    ("draw_gaussian", "global generator|one seed", changed(DRAW, ", generator=generator", "")),
    ("draw_gaussian", "20000 are wanted", changed(DRAW, "randn(n", "randn(100")),
    ("draw_gaussian", "another seed", changed(DRAW, "generator=generator",
                                              "generator=torch.Generator().manual_seed(0)")),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)


# --- the network, a class

class Network(nn.Module):
    """A right answer in another style: other names, functions in place of methods."""

    def __init__(self, latents, width=16):
        super().__init__()
        self.a = nn.Conv2d(1, width, 6, 4, 1)
        self.b = nn.Conv2d(width, width * 2, 4, 2, 1)
        self.c = nn.Linear(width * 32, latents * 2)
        self.d = nn.Linear(latents, width * 32)
        self.e = nn.ConvTranspose2d(width * 2, width, 4, 2, 1)
        self.f = nn.ConvTranspose2d(width, 1, 6, 4, 1)
        self.act = nn.SiLU()

    def numbers(self, images):
        return self.c(self.act(self.b(self.act(self.a(images)))).reshape(len(images), -1))

    def encode(self, images):
        both = self.numbers(images)
        half = both.shape[1] // 2
        return both[:, :half], both[:, half:]

    def decode(self, z):
        h = self.act(self.d(z)).view(len(z), self.b.out_channels, 4, 4)
        return self.f(self.act(self.e(h)))


def network(**methods):
    """The right answer with some of its methods replaced."""
    return type("VAE", (Network,), {"__module__": "__main__"} | methods)


def test_right_networks_pass():
    exercises.check_VAE(Network)
    exercises.check_VAE(network(encode=lambda self, x: self.numbers(x).tensor_split(2, dim=1)))


def written_map(self, z):
    return self.d(z).view(len(z), -1, 4, 4)


WRONG_NETWORKS = {
    "mean comes first": {"encode": lambda self, x: self.numbers(x).chunk(2, 1)[::-1]},
    "two tensors": {"encode": lambda self, x: self.numbers(x)},
    "without exp": {"encode": lambda self, x: (self.numbers(x).chunk(2, 1)[0],
                                               self.numbers(x).chunk(2, 1)[1].exp())},
    "other half": {"encode": lambda self, x: (self.numbers(x).chunk(2, 1)[0],) * 2},
    "every second": {"encode": lambda self, x: (self.numbers(x)[:, ::2], self.numbers(x)[:, 1::2])},
    "no SiLU after the convolutions": {
        "encode": lambda self, x: self.c(self.b(self.a(x)).flatten(1)).chunk(2, 1)},
    "no SiLU after down2": {
        "encode": lambda self, x: self.c(self.b(F.silu(self.a(x))).flatten(1)).chunk(2, 1)},
    "a mean may be any number": {"encode": lambda self, x: F.silu(self.numbers(x)).chunk(2, 1)},
    "no SiLU after from_latent": {"decode": lambda self, z: self.f(F.silu(self.e(written_map(self, z))))},
    "no SiLU after up1": {"decode": lambda self, z: self.f(self.e(F.silu(written_map(self, z))))},
    "no SiLU at all": {"decode": lambda self, z: self.f(self.e(written_map(self, z)))},
    "no tanh": {"decode": lambda self, z: Network.decode(self, z).tanh()},
    "no sigmoid": {"decode": lambda self, z: Network.decode(self, z).sigmoid()},
    "raised": {"decode": lambda self, z: self.f(self.e(F.silu(self.d(z))))},
}


@pytest.mark.parametrize("said", WRONG_NETWORKS)
def test_wrong_networks_are_told_what_is_wrong(said):
    assert re.search(said, told("VAE", network(**WRONG_NETWORKS[said])))


def test_a_network_of_other_layers_is_told_so():
    def build(self, latents, width=16):
        Network.__init__(self, latents, width + 1)

    assert "is wanted" in told("VAE", network(__init__=build))
    assert "package's `VAE`" in told("VAE", lesson_01.VAE)


def test_references_are_right_answers():
    """What an unanswered lesson runs on."""
    model = lesson_01.VAE(3)
    images = torch.zeros(2, 1, 32, 32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = torch.zeros(2, 3)
    first, second = (lesson_01_training.train_step(model, optimizer, images, noise, 0) for _ in range(2))
    assert second < first and not first.requires_grad
    drawn = lesson_01_training.draw_gaussian(model.decode, noise[0], torch.eye(3), 4, torch.Generator())
    assert drawn.shape == (4, 1, 32, 32) and drawn.abs().max() <= 1
