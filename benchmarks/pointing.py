"""Where attention puts the words of colours and digits, on pictures that show what was asked for."""

import time

from benchmarks.claims import claims_of
from minildm import LatentDiffusion, data
from minildm.data.scenes import (
    COLOURS,
    agreement,
    captions,
    centre_of_mass,
    compose,
    detect,
    inside,
)
from minildm.data.wordings import DIGITS
from minildm.evaluation.classifier import load_classifier
from minildm.nn.attention_maps import mean_attention_map, record_attention

claim = claims_of("pointing")


def words_of(truth, i: int, k: int) -> dict[str, str]:
    """The words of digit k of scene i; none for the digit where both are the same one."""
    words = {"colour": COLOURS[truth.colours[i, k]], "digit": DIGITS[truth.digits[i, k]]}
    if truth.digits[i, 0] == truth.digits[i, 1]:
        del words["digit"]
    return words


def measure():
    began, model = time.perf_counter(), LatentDiffusion.load("scenes")
    digits = data.load("mnist", "test")
    _, truth = compose(digits.images, digits.labels, 250, seed=12, held_out=False)
    prompts = captions(truth, seed=12)
    with record_attention(model.denoiser.network) as maps:
        images = model.generate(prompts, guidance_scale=1.0, batch_size=len(prompts))
    found = detect(images, load_classifier("mnist"))
    centres = centre_of_mass(mean_attention_map(maps)).cpu()                       # (N, L, 2)
    ids = model.tokenizer(prompts, centres.shape[1]).tolist()

    hits = {"colour": [], "digit": []}
    complete = agreement(found, truth)["all"].nonzero()[:, 0].tolist()
    for i in complete:
        count = 2 if truth.digits[i, 1] >= 0 else 1
        for k in range(count):
            for kind, word in words_of(truth, i, k).items():
                token = ids[i].index(model.tokenizer.encode(word)[-1])
                hits[kind].append(inside(centres[i, token], found.boxes[i, k]).item())
    for kind, hit in hits.items():
        share = sum(hit) / max(1, len(hit))
        yield claim("words whose attention is centred in their digit's box", share,
                    time.perf_counter() - began, detail=f"{kind} words, of {len(hit)}")
