"""Latents or pixels, data or velocity, at equal cost on CIFAR-10:  python -m benchmarks equal_cost

Four arms: one transformer of 16 tokens, in a VAE's latents or in pixels, asked for the clean data
(`x0`) or for the velocity (`flow`). All have the same loss (the velocity's), steps and batches, and
nearly the same multiply-adds. Each arm's learning rate is the best of three factors of two, and of
further ones until it has a worse one on either side, by the mean loss of a training of another
seed. (Pictures are drawn with replacement; five of six are new to it.) The distance won't do for
that: so early it hardly depends on the rate, and prefers a training whose loss runs away. Three
seeds are then trained at that rate. All latents are those of one VAE.

Everything is kept in stored/equal_cost.json, which lesson 15 shows, and nothing is repeated.
python -m benchmarks.equal_cost 9  goes on for nine minutes, for machines that are needed elsewhere,
and then with two arms in pixels whose network is as wide as a patch has numbers, and shallower in
turn, and with a classifier's features beside the latents (`Cost.further`).
"""

import json
import sys
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks.claims import BUILD, claims_of, machine
from minildm import data
from minildm.course import arms
from minildm.course.equal_cost import effects, two_by_two
from minildm.diffusion.denoiser import Denoiser, logit_normal
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import flow, shift_channels, time_grid
from minildm.evaluation.classifier import in_batches, load_classifier
from minildm.evaluation.metrics import frechet_distance, psnr
from minildm.evaluation.pixels import random_features, thumbnails
from minildm.evaluation.score import split_reference
from minildm.latents import encode_all
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.recipes.stages import VAELoss, feature_extractor, features_of, seeded, train_vae
from minildm.training.loop import TrainConfig

claim = claims_of("equal_cost")

STORED = Path(__file__).parent / "stored" / "equal_cost.json"
KEPT = BUILD / "equal_cost"

PHOTOS, BATCH = 16_384, 32
STEPS = 192
VAE_STEPS, VAE_SEED = 500, 0
VAE = VAEConfig(3, 4, (32,), blocks=0, attention=False, groups=0, patch=2)      # f2 c4
RATES = (4e-3, 8e-3, 1.6e-2)
SWEEP_SEED, SEEDS = 100, (0, 1, 2)
N, DRAWING = 1000, 10           # pictures, Euler's steps
NARROW, WIDE = {"dim": 128, "depth": 4}, {"dim": 192, "depth": 2}
FEATURES = 1                    # channels beside the latents: 16 numbers a token

# a name -> (space, what is predicted, sizes)
ARMS = {name: (*arm, NARROW) for name, arm in arms.TWO_BY_TWO.items()}
ARMS |= {"wide pixels, x0": ("pixels", "x0", WIDE), "wide pixels, flow": ("pixels", "flow", WIDE)}
# features: how many times less noisy than the latents they are
BESIDE = {"latents and features, flow": 1.0, "latents and less noisy features, flow": 2.0}


class Judge:
    """Distances of pictures to the same test pictures, in three kinds of features."""

    def __init__(self, test):
        self.kinds = {"fd": load_classifier("cifar10").features, "coarse": thumbnails,
                      "random": random_features}
        self.labels = torch.arange(N) % 10
        own, others = split_reference(test, self.labels, torch.Generator().manual_seed(0))
        self.own = test.images[own]
        path = KEPT / f"reference-{N}.pt"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save({kind: in_batches(function, test.images[others])
                        for kind, function in self.kinds.items()}, path)
        self.reference = torch.load(path)
        self.floor = self.distances(self.own)

    def distances(self, images) -> dict[str, float]:
        return {kind: frechet_distance(in_batches(function, images), self.reference[kind])
                for kind, function in self.kinds.items()}


class Cost:
    """All trainings, kept in a file; a VAE's weights stay in build/."""

    def __init__(self, path: Path = STORED):
        self.path = path
        self.kept = {"vae": {}, "sweeps": [], "runs": []}
        if path.exists():
            self.kept = json.loads(path.read_text())
        self.photos = data.load("cifar10").subset(PHOTOS, seed=0)
        self.judge = Judge(data.load("cifar10", "test"))
        self.spaces = {}

    def space(self, name: str) -> arms.Space:
        """Pixels, latents, or latents with features."""
        if name not in self.spaces:
            images, labels = self.photos.images, self.photos.labels
            if name == "pixels":
                made = arms.pixel_space(images, labels, BATCH)
            elif name == "latents":
                made = arms.latent_space(self.vae(), images, labels, BATCH)
            else:
                made = self.with_features()
            self.spaces[name] = made
        return self.spaces[name]

    def vae(self) -> AutoencoderKL:
        with seeded(VAE_SEED):
            vae = AutoencoderKL(VAE)
        path = KEPT / f"vae-{VAE_SEED}.pt"
        if not path.exists():
            began = time.process_time()
            plan = TrainConfig(VAE_STEPS, BATCH, 3e-3, warmup=100, decay="cosine", ema=0.98,
                               seed=VAE_SEED)
            train_vae(vae, self.photos.images, plan, VAELoss(kl_weight=1e-4), bar=False)
            mean, _ = encode_all(vae.eval(), self.photos.images)
            seconds = time.process_time() - began
            self.keep_vae(vae, seconds)
            torch.save(vae.state_dict(), path)
        vae.load_state_dict(torch.load(path))
        return vae.eval()

    @torch.no_grad()
    def keep_vae(self, vae, seconds: float):
        own = data.to_float(self.judge.own)
        copies = torch.cat([vae.decode(vae.encode(part).mean) for part in own.split(250)])
        row = {"seconds": round(seconds, 1), "psnr": psnr(copies.clamp(-1, 1), own),
               **self.judge.distances(copies.clamp(-1, 1))}
        self.kept["vae"] = row
        self.save(row)

    def with_features(self) -> arms.Space:
        """Latents, and behind them channels of the small classifier's features, not decoded."""
        plain = arms.latent_space(self.vae(), self.photos.images, self.photos.labels, BATCH)
        mean, std = encode_all(self.vae(), self.photos.images)
        seen = features_of(feature_extractor(self.photos.images))(
            self.photos.images, FEATURES, plain.shape[-1], False)

        def batch(generator):
            picked = arms.choose(len(mean), BATCH, generator, mean.device)
            noise = torch.randn(mean[picked].shape, generator=generator)
            z = mean[picked] + std[picked] * noise
            return torch.cat([z, seen[picked]], dim=1), self.photos.labels[picked]

        channels = plain.shape[0]
        shape = channels + FEATURES, *plain.shape[1:]
        return arms.Space(shape, batch, lambda z: plain.decode(z[:, :channels]))

    # ---- one training

    def train(self, name: str, lr: float, seed: int) -> dict:
        """Train an arm and judge what it draws: a row of the table."""
        loss, drawn, network, space = self.parts(name, seed)
        generator, began = torch.Generator().manual_seed(seed), time.process_time()
        (_, mean_loss, averaged), = arms.race(
            network, loss, arms.clipped_step, space.batch, [STEPS], lr, generator)
        seconds = time.process_time() - began
        row = {"arm": name, "seed": seed, "lr": lr, "steps": STEPS, "loss": mean_loss,
               "seconds": round(seconds, 1)}
        if seed == SWEEP_SEED:
            return row
        noise = space.noise(N, seed + 1000)
        images = space.decode(drawn(averaged.eval(), noise, self.judge.labels))
        return row | self.judge.distances(images)

    def parts(self, name: str, seed: int) -> tuple:
        """The loss, what draws, the network and the space of an arm."""
        if name in BESIDE:
            space = self.space("features")
            network = arms.make_network(space.shape, seed, **NARROW)
            return *parts_beside(BESIDE[name], space.shape[0]), network, space
        where, predicts, sizes = ARMS[name]
        space = self.space(where)
        network = arms.make_network(space.shape, seed, **sizes)

        def loss(network, images, labels, generator):
            return arms.velocity_loss(network, predicts, images, labels, generator)

        def drawn(network, noise, labels):
            return arms.draw_arm(network, predicts, noise, labels, DRAWING)

        return loss, drawn, network, space

    # ---- all of them

    def swept(self, name: str, lr: float) -> float:
        for row in self.kept["sweeps"]:
            if (row["arm"], row["lr"]) == (name, lr):
                return row["loss"]
        row = self.train(name, lr, SWEEP_SEED)
        self.kept["sweeps"].append(row)
        self.save(row)
        return row["loss"]

    def best_rate(self, name: str) -> float:
        """The rate with the least loss, once rates half and twice as large were worse."""
        found = {row["lr"]: row["loss"] for row in self.kept["sweeps"] if row["arm"] == name}
        found |= {lr: self.swept(name, lr) for lr in RATES}
        while True:
            best = min(found, key=found.get)
            around = [lr for lr in (best / 2, best * 2) if lr not in found]
            if not around:
                return best
            found |= {lr: self.swept(name, lr) for lr in around}

    def run(self, name: str, lr: float, seed: int):
        """One training of the table, unless it is there."""
        if any((row["arm"], row["seed"]) == (name, seed) for row in self.kept["runs"]):
            return
        row = self.train(name, lr, seed)
        self.kept["runs"].append(row)
        self.save(row)

    def finish(self):
        """Everything that is missing of the two-by-two."""
        rates = {name: self.best_rate(name) for name in arms.TWO_BY_TWO}
        for seed in SEEDS:
            for name in arms.TWO_BY_TWO:
                self.run(name, rates[name], seed)

    def further(self):
        """Arms beyond the four, at the rate of the arm that each differs from in one thing."""
        rates = {f"wide {name}": self.best_rate(name) for name in ("pixels, x0", "pixels, flow")}
        rates |= dict.fromkeys(reversed(BESIDE), self.best_rate("latents, flow"))
        for seed in SEEDS:
            for name, rate in rates.items():
                self.run(name, rate, seed)

    def save(self, *rows):
        costs = {}
        for name, (where, _, sizes) in ARMS.items():
            shape = (4, 16, 16) if where == "latents" else (3, 32, 32)
            config = arms.config_for(shape, **sizes)
            costs[name] = {"multiply_adds": arms.multiply_adds(config, shape[1]),
                           "in_token": shape[0] * config.patch**2, "dim": config.dim}
        self.kept["costs"] = costs
        self.kept["facts"] = {
            "photos": PHOTOS, "batch": BATCH, "steps": STEPS,
            "vae_steps": VAE_STEPS, "seeds": SEEDS, "sweep_seed": SWEEP_SEED, "n": N,
            "drawing": DRAWING, "floor": self.judge.floor,
            "hardware": machine(), "threads": torch.get_num_threads(),
            "day": time.strftime("%Y-%m-%d")}
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(self.kept, indent=1) + "\n")
        for row in rows:
            print(row, flush=True)


def parts_beside(ratio: float, channels: int) -> tuple:
    """The loss and what draws, where the last channels are `ratio` times less noisy."""
    ratios = torch.ones(channels)
    ratios[-FEATURES:] = ratio
    schedule = shift_channels(flow, ratios)
    model_of = partial(Denoiser, schedule=schedule, prediction_type="flow", times=logit_normal)

    def loss(network, latents, labels, generator):
        return model_of(network).loss(latents, labels, generator, drop=0.1)["loss"]

    def drawn(network, noise, labels):
        model = model_of(network)
        return last(ddim(lambda x, t: model(x, t, labels), schedule, noise, time_grid(DRAWING)))

    return loss, drawn


def measure():
    cost = Cost()
    cost.finish()
    yield from judged(json.loads(cost.path.read_text()))


def judged(kept: dict):
    """The claims of what is stored; one holds if its whole interval lies above zero."""
    rows = *kept["sweeps"], *kept["runs"], kept["vae"]
    seconds = sum(row["seconds"] for row in rows)
    _, pixels, more = effects(two_by_two(kept)).tolist()
    for name, (mean, half) in (("pixels, Fréchet distance of flow - of x0", pixels),
                               ("what flow costs in pixels - in latents", more)):
        yield claim(name, mean, seconds, detail="3 seeds, 95 %", shown=f"{mean:+.1f} ± {half:.1f}",
                    holds=mean > half)


if __name__ == "__main__":
    minutes = float(sys.argv[1]) if sys.argv[1:] else float("inf")
    until = time.monotonic() + 60 * minutes

    class Until(Cost):
        """Stops before a training that would begin too late."""

        def train(self, *run):
            if time.monotonic() > until:
                sys.exit("more is missing: run this again")
            return super().train(*run)

    cost = Until()
    cost.finish()
    cost.further()
