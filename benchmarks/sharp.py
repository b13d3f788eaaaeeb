"""What perceptual and adversarial losses give back, and cost: lesson 02's race with two seeds.

    python -m benchmarks sharp        measures what benchmarks/stored/sharp.json lacks

All arms train the decoder of one VAE, f4 c8, for the same steps on the same batches. A seed is
another order of batches, other noise and another critic. The judge is the zoo's classifier of
CIFAR-10, on 1,000 test pictures against the other 9,000. To begin anew, delete the stored file.
"""

import copy
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from benchmarks.claims import BUILD, claims_of
from minildm.course import sharpness
from minildm.evaluation.metrics import psnr
from minildm.evaluation.spectra import amplify, power_and_coherence, ring_gains
from minildm.images import to_float
from minildm.training import checkpoint
from minildm.training.loop import fit
from minildm.training.losses import FinePatchDiscriminator, hinge_critic, perceptual, sharp_losses

claim = claims_of("sharp")
STORED = Path(__file__).parent / "stored" / "sharp.json"
SEEDS = range(2)
WARM, N, FINE = 500, 1000, slice(9, 17)         # steps, test pictures, rings of high frequency
WEIGHTS = SimpleNamespace(kl_weight=0.0, perceptual_weight=1.0, adversarial_weight=0.35,
                          adversarial_start=0)
SHARP = "L1 + perceptual + adversarial"


def warm_vae(photos):
    """The VAE that all arms begin from, kept in build/ between runs."""
    folder = BUILD / "benchmark-sharp-vae"
    if not folder.exists():
        vae, _ = sharpness.squared_error_vae(photos, WARM)
        checkpoint.save(folder, vae.state_dict(), {})
        return vae
    vae = sharpness.new_vae(photos.channels).requires_grad_(False)
    vae.load_state_dict(checkpoint.load(folder)[0])
    return vae


class Track:
    """The VAE that all arms begin from, and what scores them."""

    def __init__(self):
        name, self.photos, test = sharpness.photographs("cpu")
        if name != "cifar10":
            sys.exit("benchmarks: sharp needs CIFAR-10: see data/README.md")
        self.x = to_float(test.images[:N])
        self.eyes, classifier = sharpness.two_classifiers(name, self.photos, 0)
        self.judge = sharpness.Judge(classifier, self.x, test.images[N:])
        self.vae = warm_vae(self.photos)
        self.losses = {
            "L2": lambda images, copies: (images - copies).square().mean(),
            "L1 + perceptual": self.mixed,
        }

    def mixed(self, images, copies):
        seen = perceptual(self.eyes.feature_maps, images, copies)
        return (images - copies).abs().mean() + WEIGHTS.perceptual_weight * seen

    def copier(self, images):
        return sharpness.copies_of(self.vae, images)

    def run(self, arm: str, seed: int, rate: float) -> dict:
        """Train one arm and score it: the row that is stored."""
        config = replace(sharpness.RACE, lr=sharpness.RACE.lr * rate, seed=seed)
        folder = BUILD / f"benchmark-sharp-{arm.replace(' ', '')}-{seed}-{rate:g}"
        vae, seconds = self.train(arm, config, folder)
        copies = sharpness.copies_of(vae, self.x)
        row = {"minutes": seconds / 60, **self.scores(copies)}
        # the same copies through 17 gains, which give each ring the power of the originals
        row["filtered"] = self.scores(amplify(copies, ring_gains(self.x, copies)))
        return row

    def train(self, arm: str, config, folder) -> tuple:
        """Train a copy of the decoder by the package's loop, resumable in folder.

        Lesson 02 shows that its own step of two players gives the same weights.
        """
        vae, critic = copy.deepcopy(self.vae), None
        parts = nn.ModuleDict({"loss": vae.decoder.requires_grad_(True)})
        if arm == SHARP:
            critic = sharpness.fresh(FinePatchDiscriminator, 3, 32, seed=config.seed)
            parts["critic"] = critic
            if not folder.exists():
                sharpness.head_start(critic, hinge_critic, self.copier, self.photos, 60,
                                     config.seed)

        def loss(batch, generator):
            images = to_float(batch)
            if critic is not None:
                return sharp_losses(vae, critic, self.eyes.feature_maps, WEIGHTS, images, generator)
            latents = sharpness.latents_for(vae, images, generator)
            return {"loss": self.losses[arm](images, vae.decoder(latents))}

        history = fit(parts, loss, (self.photos.images,), config, run_dir=folder, bar=False)
        return vae, sum(history["seconds"])

    def scores(self, copies) -> dict:
        power, coherence = power_and_coherence(self.x, copies)
        return {
            "PSNR": psnr(copies, self.x), "FD": self.judge.distance(copies),
            "power": power[FINE].mean().item(), "coherence": coherence[FINE].mean().item(),
            "power by ring": [round(value, 4) for value in power.tolist()],
            "coherence by ring": [round(value, 4) for value in coherence.tolist()],
        }


def wanted() -> dict:
    """Each run by its name: arm, seed, a factor of the rate."""
    runs = [(arm, seed, 1.0) for seed in SEEDS for arm in ("L2", "L1 + perceptual", SHARP)]
    return {f"{arm}, seed {seed}, rate x {rate:g}": (arm, seed, rate) for arm, seed, rate in runs}


def stored() -> dict:
    return json.loads(STORED.read_text()) if STORED.exists() else {}


def rows(names=None) -> dict:
    """Every run's row by its name, measured now where it isn't stored."""
    track = None
    for name, run in wanted().items():
        if name in stored() or (names and name not in names):
            continue
        track = track or Track()
        row = track.run(*run)
        # after each run, as all take a while; others may have been stored meanwhile
        found = stored() | {"floor": track.judge.floor, name: row}
        STORED.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        print(name, {key: value for key, value in row.items() if "ring" not in key}, flush=True)
    return stored()


def measure():
    torch.manual_seed(0)
    found = rows()
    seconds = 60 * sum(row["minutes"] for row in found.values() if isinstance(row, dict))

    def mean(arm, name):
        return sum(found[f"{arm}, seed {seed}, rate x 1"][name] for seed in SEEDS) / len(SEEDS)

    detail = f"{len(SEEDS)} seeds"
    yield claim("Fréchet distance of reconstructions / L2's", mean(SHARP, "FD") / mean("L2", "FD"),
                seconds, detail=detail)
    yield claim("high-frequency power / real", mean(SHARP, "power"), seconds, detail=detail)
    yield claim("PSNR below L2's, dB", mean("L2", "PSNR") - mean(SHARP, "PSNR"), seconds,
                detail=detail)
