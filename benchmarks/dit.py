"""DiTs and U-Nets of equal cost on MNIST's latents:  python -m benchmarks dit

Two sizes of each family, in pairs of nearly equal multiply-adds, learn the same flow on the three
latent channels of `mnist-unet`'s VAE, in as many steps. Each network's learning rate is found with
one seed: the best of three factors of two, and of further ones until it has a worse one on either
side. Three other seeds are then trained at that rate. The loss is measured on test digits, with
latents drawn as in training, at times and noise that are the same for all networks.

Every training is kept in stored/dit.json, which lesson 10 shows, and none is repeated.
python -m benchmarks.dit 9  goes on for nine minutes, for machines that are needed elsewhere.
"""

import json
import sys
import time
from pathlib import Path

import torch

from benchmarks.claims import claims_of, machine
from minildm import LatentDiffusion, data
from minildm.course.lesson_04 import multiply_adds
from minildm.course.race import at_best_rate, gain_of_size, interval, pairs_of
from minildm.diffusion.denoiser import Denoiser, logit_normal
from minildm.diffusion.schedules import flow
from minildm.latents import encode_all, sample_latents
from minildm.nn.dit import DiT, DiTConfig
from minildm.nn.unet import UNet, UNetConfig
from minildm.training.loop import TrainConfig, fit

claim = claims_of("dit")

STORED = Path(__file__).parent / "stored" / "dit.json"

STEPS, BATCH = 180, 64
TRAINING, HELD_OUT = 16_000, 2_000      # digits
RATES = (8e-3, 1.6e-2, 3.2e-2)
SWEEP_SEED, SEEDS = 0, (1, 2, 3)


def dit(dim: int, depth: int):
    return DiT(DiTConfig(3, 3, dim=dim, depth=depth, heads=4, num_classes=10))


def unet(*channels: int):
    return UNet(UNetConfig(3, 3, channels, (False, True), blocks=1, context_dim=channels[-1],
                           heads=4, groups=4, num_classes=10))


# from small to large; a DiT and the U-Net in the same place cost about the same
NETWORKS = {
    "DiT 44×3": lambda: dit(44, 3), "DiT 64×6": lambda: dit(64, 6),
    "U-Net 8, 16": lambda: unet(8, 16), "U-Net 16, 32": lambda: unet(16, 32),
}


def cost(network) -> float:
    """Multiply-adds of one latent, forward."""
    latent, t, label = torch.zeros(1, 3, 8, 8), torch.tensor(0.5), torch.tensor([3])
    return 1e6 * sum(multiply_adds(network, latent, t, label).values())


class Race:
    """The latents that all networks learn, and the table of trainings, kept in a file."""

    def __init__(self, path: Path = STORED):
        self.path = path
        self.runs = json.loads(path.read_text())["runs"] if path.exists() else []
        vae = LatentDiffusion.load("mnist-unet").vae
        train, test = (data.load("mnist", split, pad=32) for split in ("train", "test"))
        self.mean, self.std = encode_all(vae, train.images[:TRAINING])
        self.labels = train.labels[:TRAINING]
        held = encode_all(vae, test.images[:HELD_OUT])
        # latents drawn as in training: on the means alone some channels would have less variance
        self.held = sample_latents(*held, torch.Generator().manual_seed(1))
        self.held_labels = test.labels[:HELD_OUT]

    def held_out_loss(self, model: Denoiser) -> float:
        """At even times, each latent with its own noise: the same for every network."""
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            return model.eval().loss(self.held, self.held_labels, generator)["loss"].item()

    def train(self, name: str, lr: float, seed: int) -> dict:
        """Train one network and measure it: a row of the table."""
        torch.manual_seed(seed)
        model = Denoiser(NETWORKS[name](), flow, "flow", times=logit_normal)

        def loss(mean, std, labels, generator):
            return model.loss(sample_latents(mean, std, generator), labels, generator, drop=0.1)

        # the rate falls to zero, which does what an average of weights would
        config = TrainConfig(STEPS, BATCH, lr, warmup=20, ema=0.0, seed=seed)
        began = time.process_time()
        fit(model, loss, (self.mean, self.std, self.labels), config, bar=False)
        seconds = time.process_time() - began
        return {"network": name, "lr": lr, "seed": seed, "loss": self.held_out_loss(model),
                "seconds": round(seconds, 1)}

    def run(self, name: str, lr: float, seed: int) -> float:
        """The held-out loss of one training, which is done if it isn't in the table yet."""
        for row in self.runs:
            if (row["network"], row["lr"], row["seed"]) == (name, lr, seed):
                return row["loss"]
        self.runs.append(self.train(name, lr, seed))
        self.save()
        print(self.runs[-1], flush=True)
        return self.runs[-1]["loss"]

    def best_rate(self, name: str) -> float:
        """The rate with the least loss, once rates half and twice as large were tried and lost."""
        losses = {lr: self.run(name, lr, SWEEP_SEED) for lr in RATES}
        while True:
            best = min(losses, key=losses.get)
            around = [lr for lr in (best / 2, best * 2) if lr not in losses]
            if not around:
                return best
            losses |= {lr: self.run(name, lr, SWEEP_SEED) for lr in around}

    def finish(self):
        """Everything that is missing, small networks first."""
        for name in sorted(NETWORKS, key=lambda name: cost(NETWORKS[name]())):
            rate = self.best_rate(name)
            for seed in SEEDS:
                self.run(name, rate, seed)

    def save(self):
        facts = {"steps": STEPS, "batch": BATCH, "training": TRAINING, "held_out": HELD_OUT,
                 "sweep_seed": SWEEP_SEED, "seeds": SEEDS, "hardware": machine(),
                 "day": time.strftime("%Y-%m-%d")}
        networks = {}
        for name, make in NETWORKS.items():
            network = make()
            count = sum(weight.numel() for weight in network.parameters())
            networks[name] = {"parameters": count, "multiply_adds": cost(network)}
        text = json.dumps({"facts": facts, "networks": networks, "runs": self.runs}, indent=1,
                          ensure_ascii=False)
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(text + "\n")


def measure():
    race = Race()
    race.finish()
    table = json.loads(race.path.read_text())
    seconds = sum(row["seconds"] for row in race.runs)
    for a, b in pairs_of(table):
        costs = [table["networks"][name]["multiply_adds"] for name in (a, b)]
        less = at_best_rate(table, a)[1] - at_best_rate(table, b)[1]
        yield row_of("held-out loss, DiT - U-Net", less, seconds,
                     f"{a}, {b}, {costs[0] / costs[1]:.2f} of its multiply-adds", wanted=-1)
    # differences of losses: what no network can lower cancels in them
    yield row_of("what size lowers the loss by, DiT - U-Net", gain_of_size(table), seconds,
                 "smallest to largest", wanted=1)


def row_of(name: str, values, seconds: float, detail: str, wanted: int):
    """A claim that holds if the whole interval lies on the wanted side of zero."""
    mean, half = interval(values)
    return claim(name, mean, seconds, detail=f"{detail}, 3 seeds, 95 %",
                 shown=f"{mean:+.4f} ± {half:.4f}", holds=wanted * mean > half)


if __name__ == "__main__":
    minutes = float(sys.argv[1]) if sys.argv[1:] else float("inf")
    until = time.monotonic() + 60 * minutes

    class Until(Race):
        """A race that stops before a training that would begin too late."""

        def train(self, *run):
            if time.monotonic() > until:
                sys.exit("more is missing: run this again")
            return super().train(*run)

    Until().finish()
