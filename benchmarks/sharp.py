"""What perceptual and adversarial losses give back, and cost: lesson 02's race with three seeds.

    python -m benchmarks sharp        measures what benchmarks/stored/sharp.json lacks, about 20 minutes

All arms train the decoder of one VAE, f4 c8, for the same steps on the same batches. A seed is
another order of batches, other noise and another critic. Rates are halved and doubled for the
first seed. The judge is the zoo's classifier of CIFAR-10, on 1,000 test pictures against the other
9,000; a second judge is a fresh critic, trained on each arm's copies and asked about test pictures.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.claims import claims_of
from minildm.course import sharpness
from minildm.course.exercises.lesson_02_step import adversarial_step
from minildm.evaluation.metrics import psnr
from minildm.evaluation.spectra import power_and_coherence, with_power_of
from minildm.images import to_float
from minildm.training.losses import FinePatchDiscriminator, hinge_critic, perceptual

claim = claims_of("sharp")
STORED = Path(__file__).parent / "stored" / "sharp.json"
SEEDS = range(3)
WARM, N, FINE = 600, 1000, slice(9, 17)         # steps, test pictures, rings of high frequency
PERCEPTUAL, ADVERSARIAL = 1.0, 0.35
SHARP = "L1 + perceptual + adversarial"


class Track:
    """The VAE that all arms begin from, and what scores them."""

    def __init__(self):
        name, self.photos, test = sharpness.photographs("cpu")
        if name != "cifar10":
            sys.exit("benchmarks: sharp is about photographs and needs CIFAR-10: see data/README.md")
        self.x = to_float(test.images[:N])
        self.eyes, classifier = sharpness.two_classifiers(name, self.photos, 0)
        self.judge = sharpness.Judge(classifier, self.x, test.images[N:])
        self.vae, _ = sharpness.squared_error_vae(self.photos, WARM)
        self.losses = {
            "L2": lambda images, copies: (images - copies).square().mean(),
            "L1": lambda images, copies: (images - copies).abs().mean(),
            "perceptual": self.seen,
            "L1 + perceptual": self.mixed,
            SHARP: self.mixed,
        }

    def seen(self, images, copies):
        return PERCEPTUAL * perceptual(self.eyes.feature_maps, images, copies)

    def mixed(self, images, copies):
        return (images - copies).abs().mean() + self.seen(images, copies)

    def run(self, arm: str, seed: int, rate: float) -> dict:
        """Train one arm and score it: the row that is stored."""
        began = time.process_time()
        config = replace(sharpness.RACE, lr=sharpness.RACE.lr * rate, seed=seed)
        play, critic = sharpness.alone(self.losses[arm]), None
        if arm == SHARP:
            critic = self.critic(lambda images: sharpness.copies_of(self.vae, images), 60, seed)
            play = sharpness.against(adversarial_step, self.losses[arm], ADVERSARIAL)
        vae, _ = sharpness.train_decoder(self.vae, self.photos, play, config, critic)
        minutes = (time.process_time() - began) / 60
        copies = sharpness.copies_of(vae, self.x)
        row = {"cpu minutes": minutes, **self.scores(copies)}
        # the same copies through 17 gains, which give each ring the power of the originals
        filtered = with_power_of(self.x, copies)
        row["filtered"] = self.scores(filtered)
        if rate == 1 and arm in ("L2", "L1 + perceptual", SHARP):
            row["told"] = self.told(vae, seed, lambda images, copies: copies)
            row["filtered"]["told"] = self.told(vae, seed, with_power_of)
        return row

    def critic(self, copier, steps: int, seed: int):
        """A fresh critic that has had so many steps on copies."""
        critic = sharpness.fresh(FinePatchDiscriminator, 3, 32, seed=seed)
        sharpness.head_start(critic, hinge_critic, copier, self.photos, steps, seed)
        return critic

    def told(self, vae, seed: int, after) -> float:
        """How well a critic that no decoder has met tells these copies from photographs."""

        def copier(images):
            return after(images, sharpness.copies_of(vae, images))

        critic = self.critic(copier, 100, 100 + seed)
        return sharpness.judged_rightly(critic, self.x, copier(self.x))

    def scores(self, copies) -> dict:
        power, coherence = power_and_coherence(self.x, copies)
        return {
            "PSNR": psnr(copies, self.x), "FD": self.judge.distance(copies),
            "power": power[FINE].mean().item(), "coherence": coherence[FINE].mean().item(),
            "power by ring": [round(value, 4) for value in power.tolist()],
            "coherence by ring": [round(value, 4) for value in coherence.tolist()],
        }


def wanted() -> list[tuple]:
    """Each run: arm, seed, rate."""
    arms = ("L2", "L1", "L1 + perceptual", SHARP)
    runs = [(arm, seed, 1.0) for seed in SEEDS for arm in arms]
    runs += [(arm, 0, rate) for rate in (0.5, 2.0) for arm in ("L2", SHARP)]
    return [*runs, ("perceptual", 0, 1.0)]


def stored_rows() -> dict:
    """Every run's row by its name, measured now where it isn't stored."""
    found = json.loads(STORED.read_text()) if STORED.exists() else {}
    track = None
    for arm, seed, rate in wanted():
        key = f"{arm}, seed {seed}, rate x {rate:g}"
        if key in found:
            continue
        track = track or Track()
        found["floor"] = track.judge.floor
        found[key] = track.run(arm, seed, rate)
        # after each run, as all take a while
        STORED.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        print(key, {name: value for name, value in found[key].items() if "ring" not in name})
    return found


def measure():
    torch.manual_seed(0)
    rows = stored_rows()
    seconds = 60 * sum(row["cpu minutes"] for row in rows.values() if isinstance(row, dict))

    def mean(arm, name):
        return sum(rows[f"{arm}, seed {seed}, rate x 1"][name] for seed in SEEDS) / len(SEEDS)

    detail = f"{len(SEEDS)} seeds"
    yield claim("Fréchet distance of reconstructions / L2's", mean(SHARP, "FD") / mean("L2", "FD"),
                seconds, detail=detail)
    yield claim("high-frequency power / real", mean(SHARP, "power"), seconds, detail=detail)
    yield claim("PSNR below L2's, dB", mean("L2", "PSNR") - mean(SHARP, "PSNR"), seconds,
                detail=detail)
