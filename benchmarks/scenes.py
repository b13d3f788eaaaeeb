"""The zoo's model of scenes, 500 prompts of each kind; the floor is the same scenes, composed."""

import time

from benchmarks.claims import claims_of
from minildm import LatentDiffusion, data
from minildm.data.scenes import agreement, captions, compose, detect
from minildm.evaluation.classifier import load_classifier

claim = claims_of("scenes")

PROMPTS = 500


def shares_right(images, truth, classifier) -> dict[str, float]:
    """The share of pictures whose colours, digits and places are what was asked for."""
    found = agreement(detect(images, classifier), truth)
    return {name: right.float().mean().item() for name, right in found.items()}


def measure():
    model, classifier = LatentDiffusion.load("scenes"), load_classifier("mnist")
    digits = data.load("mnist", "test")
    began, right, floor = time.perf_counter(), {}, {}
    for held_out in False, True:
        real, truth = compose(digits.images, digits.labels, PROMPTS, seed=11, held_out=held_out)
        drawn = model.generate(captions(truth, seed=11))
        right[held_out] = shares_right(drawn, truth, classifier)
        floor[held_out] = shares_right(data.to_float(real), truth, classifier)
    seconds = time.perf_counter() - began
    for name in "colour", "digit", "place":
        yield claim(f"{name} right", right[False][name], seconds,
                    detail=f"{PROMPTS} prompts (real scenes {floor[False][name]:.3f})")
    for name in "colour", "digit", "place":
        value = right[True][name]
        yield claim("right, held-out combinations", value, seconds,
                    detail=f"{name} (real scenes {floor[True][name]:.3f})",
                    holds=value >= right[False][name] - 0.1)

    spent = model.facts["seconds"]
    training = sum(spent[stage] for stage in ("vae", "text", "denoiser"))
    yield claim("minutes of training, CLIP's among them", training / 60, training)
    began = time.perf_counter()
    model.generate(captions(truth[:16]), num_inference_steps=30)
    seconds = time.perf_counter() - began
    yield claim("seconds for 16 at 30 steps", seconds, seconds)
