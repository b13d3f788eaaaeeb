"""Negative prompts and cost of guidance on the zoo's scenes; its scales: `guidance_scales`."""

import time

import torch

from benchmarks.claims import claims_of
from minildm import LatentDiffusion
from minildm.data.scenes import detect
from minildm.data.wordings import DIGITS, with_article
from minildm.diffusion.guidance import cfg
from minildm.evaluation.classifier import load_classifier

claim = claims_of("guidance")

RED = 0     # of scenes.COLOURS


def measure():
    scenes, classifier = LatentDiffusion.load("scenes"), load_classifier("mnist")
    yield from cost(scenes)
    yield from negative_prompts(scenes, classifier)


@torch.no_grad()
def cost(model):
    """What the second question costs, which goes to the network in the same batch."""
    context, null = model.conditions(["a red three left of a blue eight"] * 16)
    noise, t = model.noise(16), torch.tensor(0.5)
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
