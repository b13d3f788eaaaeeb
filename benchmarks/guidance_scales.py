"""What guidance gains and costs on MNIST:  python -m benchmarks guidance_scales

Each seed draws N digits at every scale, with classifier-free guidance, with a classifier of noisy
latents, and with a negative label. `score` judges them against real digits. The results are kept in
stored/guidance_scales.json, which lesson 08 shows. `python -m benchmarks.guidance_scales 0 cfg`
measures one seed and one group, for machines that are needed for other things as well.
"""

import json
import sys
import time
from pathlib import Path

import torch

from benchmarks.claims import claims_of, machine
from minildm import LatentDiffusion, data
from minildm.data.scenes import COLOURS, detect
from minildm.data.wordings import DIGITS, with_article
from minildm.diffusion.guidance import cfg, classifier_guidance
from minildm.diffusion.noisy_classifier import NoisyClassifier
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import flow, time_grid
from minildm.evaluation.classifier import in_batches, load_classifier
from minildm.evaluation.score import score
from minildm.latents import encode_all
from minildm.training.loop import TrainConfig, fit

claim = claims_of("guidance_scales")

STORED = Path(__file__).parent / "stored" / "guidance_scales.json"
SEEDS = (0, 1, 2)
N, STEPS, BATCH = 500, 10, 100
SCALES = (1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 12.0)
CLASSIFIER_SCALES = (1.0, 5.0, 20.0)
NO_FIRST = 5.0          # the scale that is also drawn without a step at t = 1
NEGATIVE_SCALES = (1.0, 1.5, 2.0)
UNWANTED = 7
WORDS = 160             # pictures for each negative prompt
UNWANTED_COLOURS = ("red", "green", "blue")
KEPT = ("label_accuracy", "fd", "precision", "recall", "diversity")
BEYOND = 1.05           # pixels past this, before they are clipped, are no grey of a picture


class Judge:
    """The zoo's model and classifier, and the test digits that drawings are compared with."""

    def __init__(self):
        self.model = LatentDiffusion.load("mnist-unet")
        self.classifier = load_classifier("mnist")
        self.reference = data.load("mnist", "test")
        self.labels = torch.arange(N) % 10
        self.null = torch.full_like(self.labels, 10)

    @torch.no_grad()
    def draw(self, denoise_of, seed: int):
        """Latents (N, c, h, w) of the seed; denoise_of(rows) -> denoise(x, t) of those pictures."""
        drawn = []
        for rows in torch.arange(N).split(BATCH):
            noise = self.model.noise(len(rows), seed, first=int(rows[0]))
            drawn.append(last(ddim(denoise_of(rows), flow, noise, time_grid(STEPS))))
        return torch.cat(drawn)

    @torch.no_grad()
    def pixels(self, latents):
        """What the decoder answers before anything is clipped, without the padding."""
        space = self.model.vae
        return torch.cat([space.decode(space.denormalise(z))[..., 2:-2, 2:-2]
                          for z in latents.split(BATCH)])

    def __call__(self, latents, seed: int) -> dict:
        """The scores of `KEPT` with their floors, and how far latents and pixels go too far."""
        pixels = self.pixels(latents)
        images = data.to_uint8(pixels.clamp(-1, 1))
        found = score(images, self.labels, self.reference, self.classifier, seed)
        return {**{name: found[name] for name in KEPT},
                **{f"{name}_floor": found[f"{name}_floor"] for name in KEPT},
                "std": latents.std().item(),
                "beyond": (pixels.abs() > BEYOND).float().mean().item(),
                **self.sevens(images)}

    def sevens(self, images) -> dict:
        """How many are read as the unwanted digit, and how many are read without doubt at all."""
        chances = in_batches(self.classifier, images).softmax(1)
        surest, digit = chances.max(1)
        return {"unwanted": (digit == UNWANTED).float().mean().item(),
                "clear": (surest > 0.9).float().mean().item()}


def free_of_a_classifier(judge: Judge, seed: int) -> dict:
    """Classifier-free guidance at each scale."""
    found = {}
    for scale in SCALES:
        def denoise_of(rows, scale=scale):
            return cfg(judge.model.denoiser, judge.labels[rows], judge.null[rows], scale)

        found[scale] = judge(judge.draw(denoise_of, seed), seed)
    return found


def away_from_sevens(judge: Judge, seed: int) -> dict:
    """Any digit, with seven as the negative label; at scale 1 it has no part in the answer."""
    found, sevens = {}, torch.full_like(judge.labels, UNWANTED)
    for scale in NEGATIVE_SCALES:
        def denoise_of(rows, scale=scale):
            return cfg(judge.model.denoiser, judge.null[rows], sevens[rows], scale)

        found[scale] = judge(judge.draw(denoise_of, seed), seed)
    return found


def noisy_classifier(judge: Judge, seed: int):
    """A classifier of noisy latents, and the latents' means: of each class, less that of all."""
    train = data.load("mnist").subset(4000)
    padded = data.pad_to(train.images, judge.model.latent_shape[-1] * judge.model.vae.config.factor)
    latents, _ = encode_all(judge.model.vae, padded)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = NoisyClassifier(latents.shape[1], 10, width=32)
    fit(model, lambda z, y, generator: model.loss(z, y, flow, generator), (latents, train.labels),
        TrainConfig(400, 64, lr=2e-3, ema=0.98, seed=seed), bar=False)
    means = torch.stack([latents[train.labels == k].mean(0) for k in range(10)])
    return model.eval().requires_grad_(False), means - latents.mean(0)


def with_a_classifier(judge: Judge, seed: int) -> dict:
    """Guidance by a classifier; at one scale also without its step at t = 1."""
    classifier, means = noisy_classifier(judge, seed)
    found = {}
    for scale, name in [(s, s) for s in CLASSIFIER_SCALES] + [(NO_FIRST, "no first step")]:
        def denoise_of(rows, scale=scale, name=name):
            labels = judge.labels[rows]

            def plain(x, t):
                return judge.model.denoiser(x, t, judge.null[rows])

            first = means[labels] if name == scale else None
            return classifier_guidance(plain, classifier.log_prob(labels), flow, scale, first)

        found[name] = judge(judge.draw(denoise_of, seed), seed)
    return found


@torch.no_grad()
def away_from_words(judge: Judge, seed: int) -> dict:
    """Negative prompts in words: how many pictures have the colour, and the digit asked for."""
    model, found = LatentDiffusion.load("scenes"), {}
    wanted = torch.arange(WORDS) % 8
    prompts = [f"{with_article(DIGITS[k])} in the middle" for k in wanted.tolist()]
    for negative in ["", *UNWANTED_COLOURS, *(f"a {name} digit" for name in UNWANTED_COLOURS)]:
        images = model.generate(prompts, STEPS, guidance_scale=2.0, negative=negative, seed=seed)
        truth = detect(images, judge.classifier)
        share = {name: (truth.colours[:, 0] == k).float().mean().item()
                 for k, name in enumerate(COLOURS)}
        right = (truth.digits[:, 0] == wanted).float().mean().item()
        found[negative] = {"colours": share, "digit_right": right}
    return found


GROUPS = {"cfg": free_of_a_classifier, "negative": away_from_sevens,
          "classifier": with_a_classifier, "words": away_from_words}


def real_digits(judge: Judge) -> dict:
    """What test digits score that went through encoder and decoder, and through no network."""
    rows = torch.arange(N)
    images = judge.reference.images[rows]
    padded = data.pad_to(images, judge.model.latent_shape[-1] * judge.model.vae.config.factor)
    latents, _ = encode_all(judge.model.vae, padded)
    pixels = judge.pixels(latents)
    return {"std": latents.std().item(),
            "beyond": (pixels.abs() > BEYOND).float().mean().item(),
            **judge.sevens(images)}


def stored() -> dict:
    return json.loads(STORED.read_text()) if STORED.exists() else {}


def keep(part: dict):
    """Put what was measured into the file, beside what is there."""
    STORED.parent.mkdir(exist_ok=True)
    rounded = json.loads(json.dumps({**stored(), **part}), parse_float=lambda x: round(float(x), 4))
    STORED.write_text(json.dumps(rounded, indent=1) + "\n")


def sweep(seed: int, groups=tuple(GROUPS)):
    """Measure these groups with one seed and keep them."""
    judge = Judge()
    keep({"n": N, "steps": STEPS, "hardware": machine(), "day": time.strftime("%Y-%m-%d"),
          "real": real_digits(judge)})
    for group in groups:
        began = time.perf_counter()
        found = GROUPS[group](judge, seed)
        minutes = (time.perf_counter() - began) / 60
        keep({f"{group} {seed}": found | {"minutes": minutes}})


def runs_of(group: str) -> list[dict]:
    """What was measured of a group, by seed."""
    return [part for name, part in stored().items() if name.startswith(group + " ")]


def mean_of(group: str, name: str) -> dict:
    """A score's mean over the seeds, by scale."""
    runs = runs_of(group)
    scales = [scale for scale in runs[0] if scale != "minutes"]
    return {scale: sum(run[scale][name] for run in runs) / len(runs) for scale in scales}


def measure():
    began = time.perf_counter()
    for seed in SEEDS:
        # negative prompts are measured with one seed
        sweep(seed, tuple(GROUPS) if seed == 0 else ("cfg", "classifier"))
    seconds = time.perf_counter() - began
    yield from claims(seconds)


def claims(seconds: float):
    """The rows of RESULTS.md, from what is stored."""
    label, distance = mean_of("cfg", "label_accuracy"), mean_of("cfg", "fd")
    recall = mean_of("cfg", "recall")
    at = f"N = {N}, {len(runs_of('cfg'))} seeds"
    yield claim("label accuracy gained from scale 1 to 2", label["2.0"] - label["1.0"], seconds,
                detail=at)
    yield claim("Fréchet distance at scale 5 / at the best scale",
                distance["5.0"] / min(distance.values()), seconds, detail=at)
    yield claim("recall lost from scale 1 to 3", recall["1.0"] - recall["3.0"], seconds, detail=at)
    by_classifier = mean_of("classifier", "label_accuracy")
    best = max(by_classifier.values())
    yield claim("label accuracy, classifier at its best scale", best, seconds,
                detail=f"N = {N}, {len(runs_of('classifier'))} seeds")
    by_scale = stored()["negative 0"]
    taken = 1 - by_scale["1.5"]["unwanted"] / by_scale["1.0"]["unwanted"]
    yield claim("of the share of sevens a negative label takes away at scale 1.5", taken, seconds,
                detail=f"N = {N}, 1 seed")


if __name__ == "__main__":
    sweep(int(sys.argv[1]), tuple(sys.argv[2:]) or tuple(GROUPS))
