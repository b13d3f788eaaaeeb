"""Lesson 01's checks: right answers in any style pass; wrong ones are told what is wrong."""

import re

import pytest
from support.answers import cases, passes, told, written

from minildm.nn.vae import Gaussian

HELPERS = {"Gaussian": Gaussian, "EACH": (0, 2, 3)}

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
    ("vae_loss", "F.l1_loss(copies, images) + F.mse_loss(copies, images) "
                 "+ kl_weight * Gaussian(mean, logvar).kl().mean()"),
    ("vae_loss", """
        d = images - copies
        kl = (mean**2 + logvar.exp() - 1 - logvar).mean() / 2
        return (d.abs() + d * d).mean() + kl_weight * kl
     """),
    ("vae_loss", """
        losses = torch.stack([(images - copies).abs().mean(), ((images - copies)**2).mean(),
                              Gaussian(mean, logvar).kl().mean()])
        return losses @ torch.tensor([1, 1, kl_weight])
     """),
    ("normalise", "(z - z.mean(EACH, True)) / z.std(EACH, keepdim=True)"),
    ("normalise", "(z - z.mean(EACH)[:, None, None]) / z.std(EACH, False)[:, None, None]"),
    ("normalise", "F.batch_norm(z, None, None, training=True)"),
    ("normalise", """
        out = torch.empty_like(z)
        for c in range(z.shape[1]):
            out[:, c] = (z[:, c] - z[:, c].mean()) / z[:, c].std()
        return out
     """),
    ("normalise", """
        rows = z.transpose(0, 1).flatten(1)
        rows = (rows - rows.mean(1, True)) / (rows.var(1, keepdim=True) + 1e-6).sqrt()
        return rows.reshape(z.transpose(0, 1).shape).transpose(0, 1)
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
    ("vae_loss", "Means", "((images - copies).abs() + (images - copies)**2).sum() "
                          "+ kl_weight * Gaussian(mean, logvar).kl().sum()"),
    ("vae_loss", "latents", "F.l1_loss(copies, images) + F.mse_loss(copies, images) "
                            "+ kl_weight * Gaussian(mean, logvar).kl().sum(1).mean()"),
    ("vae_loss", "KL is summed", "F.l1_loss(copies, images) + F.mse_loss(copies, images) "
                                 "+ kl_weight * Gaussian(mean, logvar).kl().sum()"),
    ("vae_loss", "isn't weighted", "F.l1_loss(copies, images) + F.mse_loss(copies, images) "
                                   "+ Gaussian(mean, logvar).kl().mean()"),
    ("vae_loss", "not subtracted", "F.l1_loss(copies, images) + F.mse_loss(copies, images) "
                                   "- kl_weight * Gaussian(mean, logvar).kl().mean()"),
    ("vae_loss", "L1 is missing",
     "F.mse_loss(copies, images) + kl_weight * Gaussian(mean, logvar).kl().mean()"),
    ("vae_loss", "L2 is missing",
     "F.l1_loss(copies, images) + kl_weight * Gaussian(mean, logvar).kl().mean()"),
    ("vae_loss", "KL is missing", "F.l1_loss(copies, images) + F.mse_loss(copies, images)"),
    ("vae_loss", "errors are missing", "kl_weight * Gaussian(mean, logvar).kl().mean()"),
    ("vae_loss", "for the KL alone",
     "kl_weight * (F.l1_loss(copies, images) + F.mse_loss(copies, images) "
                                     "+ Gaussian(mean, logvar).kl().mean())"),
    ("vae_loss", "mean and logvar", "F.l1_loss(copies, images) + F.mse_loss(copies, images) "
                                    "+ kl_weight * Gaussian(logvar, mean).kl().mean()"),
    ("vae_loss", "without a root", "F.l1_loss(copies, images) + F.mse_loss(copies, images).sqrt() "
                                   "+ kl_weight * Gaussian(mean, logvar).kl().mean()"),
    ("vae_loss", "not averaged", "(F.l1_loss(copies, images) + F.mse_loss(copies, images)) / 2 "
                                 "+ kl_weight * Gaussian(mean, logvar).kl().mean()"),
    ("vae_loss", "absolute", "(copies - images).mean() + F.mse_loss(copies, images) "
                             "+ kl_weight * Gaussian(mean, logvar).kl().mean()"),
    ("vae_loss", "reaches copies",
     "F.l1_loss(copies.detach(), images) + F.mse_loss(copies.detach(), images) "
                                   "+ kl_weight * Gaussian(mean, logvar).kl().mean()"),
    ("vae_loss", "reaches mean", "F.l1_loss(copies, images) + F.mse_loss(copies, images) "
                                 "+ kl_weight * Gaussian(mean.detach(), logvar).kl().mean()"),
    ("vae_loss", "no gradient", "(F.l1_loss(copies, images) + F.mse_loss(copies, images) "
                                "+ kl_weight * Gaussian(mean, logvar).kl().mean()).item()"),
    ("vae_loss", "gradient to copies",
     "F.l1_loss(copies.detach(), images) + F.mse_loss(copies, images) "
                                       "+ kl_weight * Gaussian(mean, logvar).kl().mean()"),
    ("vae_loss", "should be", "F.l1_loss(copies, images) + F.mse_loss(copies, images) "
                              "+ 0.1 * Gaussian(mean, logvar).kl().mean()"),
    ("vae_loss", "should be", "F.smooth_l1_loss(copies, images) + F.mse_loss(copies, images) "
                              "+ kl_weight * Gaussian(mean, logvar).kl().mean()"),
    ("vae_loss", "the shape",
     "(copies - images).abs().mean((1, 2, 3)) + (copies - images).square().mean((1, 2, 3))"
                              " + kl_weight * Gaussian(mean, logvar).kl().mean(1)"),
    ("vae_loss", "a tuple of 3", "F.l1_loss(copies, images), F.mse_loss(copies, images), "
                                 "kl_weight * Gaussian(mean, logvar).kl().mean()"),
    ("normalise", "isn't subtracted", "z / z.std(EACH, keepdim=True)"),
    ("normalise", "variance", "(z - z.mean(EACH, True)) / z.var(EACH, keepdim=True)"),
    ("normalise", "multiplies", "(z - z.mean(EACH, True)) * z.std(EACH, keepdim=True)"),
    ("normalise", "all channels", "(z - z.mean()) / z.std()"),
    ("normalise", "each picture", "F.instance_norm(z)"),
    ("normalise", "each picture",
     "(z - z.mean((2, 3), True)) / z.std((2, 3), keepdim=True, correction=0)"),
    ("normalise", "each position", "(z - z.mean(0)) / z.std(0)"),
    ("normalise", "over its channels", "(z - z.mean(1, True)) / z.std(1, keepdim=True)"),
    ("normalise", "all but the batch", "F.layer_norm(z, z.shape[1:])"),
    ("normalise", "brackets", "z - z.mean(EACH, True) / z.std(EACH, keepdim=True)"),
    ("normalise", "isn't divided by", "z - z.mean(EACH, True)"),
    ("normalise", "mean is added", "(z + z.mean(EACH, True)) / z.std(EACH, keepdim=True)"),
    ("normalise", "one number", "(z - z.mean(EACH, True)) / z.std()"),
    ("normalise", "raised", "(z - z.mean(EACH)) / z.std(EACH)"),
    ("normalise", "raised",
     "(z - z.mean(EACH).reshape(1, 4, 1, 1)) / z.std(EACH).reshape(1, 4, 1, 1)"),
    ("normalise", "in place", "z -= z.mean(EACH, True)\nreturn z / z.std(EACH, keepdim=True)"),
    ("normalise", "differs", "(z - z.mean(EACH, True)) / z.abs().amax(EACH, True)"),
    ("normalise", "differs",
     "(z - z.amin(EACH, True)) / (z.amax(EACH, True) - z.amin(EACH, True))"),
    ("normalise", "wrong", "(z - z.mean(EACH, True)) / (z.std(EACH, keepdim=True) + 0.1)"),
    ("normalise", "wrong", "(z - z.mean(EACH, True)) / z.std(EACH, keepdim=True).clamp(min=1)"),
    ("normalise", "a tuple of 2", "z.mean(EACH, True), z.std(EACH, keepdim=True)"),
    ("normalise", "type|float64",
     "((z - z.mean(EACH, True)) / z.std(EACH, keepdim=True)).double()"),
    ("normalise", "unchanged", "z"),
]


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    passes(name, written(name, body, HELPERS))


@pytest.mark.parametrize("name, said, body", cases(WRONG))
def test_wrong_answers_are_told_what_is_wrong(name, said, body):
    assert re.search(said, told(name, written(name, body, HELPERS)))
