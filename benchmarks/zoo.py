"""The zoo's MNIST model, which most lessons use: does it draw, and is each latent channel used?"""

import time

import torch

from benchmarks.claims import claims_of
from minildm import LatentDiffusion, data
from minildm.evaluation.classifier import load_classifier
from minildm.evaluation.metrics import psnr
from minildm.evaluation.score import score

claim = claims_of("zoo")

N = 1000


@torch.no_grad()
def decibels_lost(model, images) -> list[float]:
    """For each latent channel, how much PSNR its replacement by noise costs."""
    real = data.to_float(images)
    side = model.latent_shape[-1] * model.vae.config.factor
    padded = data.pad_to(real, side)
    latents = model.vae.normalise(model.vae.encode(padded).mean)
    generator = torch.Generator().manual_seed(0)
    whole, lost = psnr(model.decode(latents), real), []
    for channel in range(latents.shape[1]):
        spoilt = latents.clone()
        spoilt[:, channel] = torch.randn(spoilt[:, channel].shape, generator=generator)
        lost.append(whole - psnr(model.decode(spoilt), real))
    return lost


def measure():
    began, model, train = time.perf_counter(), LatentDiffusion.load("mnist"), data.load("mnist")
    labels, classifier = torch.arange(N) % 10, load_classifier("mnist")

    def scores(**sampling) -> dict:
        images = data.to_uint8(model.generate(labels, **sampling))
        return score(images, labels, train, classifier)

    guided, plain = scores(), scores(guidance_scale=1.0)
    seconds = time.perf_counter() - began
    yield claim("mnist: label accuracy, unguided", plain["label_accuracy"], seconds)
    yield claim("mnist: label accuracy, guided", guided["label_accuracy"], seconds)
    yield claim("mnist: Fréchet distance / floor, guided", guided["fd_ratio"], seconds)

    began, test = time.perf_counter(), data.load("mnist", "test").subset(1000)
    lost = min(decibels_lost(model, test.images))
    yield claim("mnist: dB lost where the least used latent channel becomes noise", lost,
                time.perf_counter() - began)
    spent = model.facts["seconds"]
    training = spent["vae"] + spent["denoiser"]
    yield claim("mnist: minutes of training", training / 60, training)
