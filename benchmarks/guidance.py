"""Negative prompts and cost on the zoo's scenes; adherence and diversity on its MNIST."""

import time
from itertools import pairwise

import torch

from benchmarks.claims import claims_of
from minildm import LatentDiffusion
from minildm.data.scenes import detect
from minildm.data.wordings import DIGITS, with_article
from minildm.diffusion.guidance import cfg
from minildm.evaluation.classifier import load_classifier
from minildm.evaluation.metrics import diversity, label_accuracy

claim = claims_of("guidance")

SCALES = (1.0, 2.0, 3.0, 5.0, 7.5)
RED = 0     # of scenes.COLOURS


def measure():
    scenes, classifier = LatentDiffusion.load("scenes"), load_classifier("mnist")
    yield from scale_one_and_cost(scenes)
    yield from negative_prompts(scenes, classifier)
    yield from adherence_and_diversity(classifier)


@torch.no_grad()
def scale_one_and_cost(model):
    context, null = model.conditions(["a red three left of a blue eight"] * 16)
    noise, t = model.noise(16), torch.tensor(0.5)
    plain = cfg(model.denoiser, context, null, 1.0)(noise, t)
    same = torch.equal(plain, model.denoiser(noise, t, context))
    answer = "yes" if same else "no"
    yield claim("scale 1 is the conditional model, bit for bit", answer, 0, holds=same)

    seconds = {}
    for scale in (1.0, 4.0):
        denoise = cfg(model.denoiser, context, null, scale)
        denoise(noise, t)                                       # the first call is slow
        rounds = []
        for _ in range(20):
            began = time.perf_counter()
            denoise(noise, t)
            rounds.append(time.perf_counter() - began)
        seconds[scale] = min(rounds)
    ratio = seconds[4.0] / seconds[1.0]
    yield claim("a guided step / an unguided one, seconds", ratio, sum(seconds.values()))


def share_of_red(model, classifier, negative: str, n: int = 480) -> float:
    """Of pictures that ask for no colour, how many are red."""
    prompts = [f"{with_article(DIGITS[k % 8])} in the middle" for k in range(n)]
    images = model.generate(prompts, guidance_scale=2.0, negative=negative).cpu()
    colours = detect(images, classifier).colours[:, 0]
    return (colours == RED).float().mean().item()


def negative_prompts(model, classifier):
    """Of pictures that ask for no colour, how many are red, and how many with a negative prompt."""
    began = time.perf_counter()
    base = share_of_red(model, classifier, "")
    for negative in "red", "a red digit":
        taken = 1 - share_of_red(model, classifier, negative) / base
        yield claim("of the share of red a negative prompt takes away", taken,
                    time.perf_counter() - began, detail=f'"{negative}"',
                    shown=f"{taken:.2f} of {base:.3f}")


def adherence_and_diversity(classifier):
    began, model = time.perf_counter(), LatentDiffusion.load("mnist")
    labels = torch.arange(10).repeat_interleave(20)
    adherence, spread = [], []
    for scale in SCALES:
        features = classifier.features(model.generate(labels, guidance_scale=scale)).detach()
        adherence.append(label_accuracy(classifier.head(features), labels))
        spread.append(diversity(features, labels))
    seconds, at = time.perf_counter() - began, f"at scales {', '.join(map(str, SCALES))}"
    rises = all(a <= b for a, b in pairwise(adherence))
    falls = all(a >= b for a, b in pairwise(spread))
    yield claim("MNIST, label right", ", ".join(f"{a:.3f}" for a in adherence), seconds,
                detail=at, holds=rises)
    yield claim("MNIST, diversity", ", ".join(f"{a:.2f}" for a in spread), seconds,
                detail=at, holds=falls)
