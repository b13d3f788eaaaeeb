"""Quality against steps: DDPM, DDIM and DPM-Solver++, by a perfect denoiser and by a network.

The perfect one knows a world of a thousand real digits' latents, each blurred a little: what is
wrong with a drawing there is the sampler's fault. The network is the zoo's mnist-unet, told which
digit to draw, without guidance; it was trained on `flow` and is asked through a change of schedule.
All steps are equal in the time of `cosine`, and all samplers start at the same noise.

What has been drawn is kept in build/quality, so that an interrupted measurement goes on where it
was. The scores go to benchmarks/stored/quality.json, which lesson 05 shows.
"""

import json
import time
from pathlib import Path

import torch

from benchmarks.claims import BUILD, ROOT, claims_of, machine
from minildm import data
from minildm.course.points import Blobs
from minildm.diffusion import samplers
from minildm.diffusion.schedules import cosine, time_grid
from minildm.evaluation.classifier import in_batches, load_classifier
from minildm.evaluation.metrics import frechet_distance, label_accuracy
from minildm.evaluation.score import split_reference
from minildm.model import LatentDiffusion

claim = claims_of("quality")

N, SEEDS, CHUNK = 1000, (0, 1, 2), 100
STORED = ROOT / "benchmarks" / "stored" / "quality.json"
KEPT = BUILD / "quality"
# (sampler, steps); one step is the first guess, the same for all, and 2M's second one is DDIM's
WORLD = [("ddim", 1)] + [("ddpm", k) for k in (2, 5, 10, 20, 50, 100, 1000)]
WORLD += [("ddim", k) for k in (2, 5, 10, 20, 50)] + [("dpmpp_2m", k) for k in (5, 10, 20)]
# one seed: a call of the network costs as much as sixty of the formula
NETWORK = [("ddim", 1)] + [(name, k) for name in ("ddpm", "ddim") for k in (2, 5, 20)]
NETWORK += [("dpmpp_2m", 5), ("dpmpp_2m", 20)]


class Judge:
    """The features of latents once decoded, and Fréchet distances between them."""

    def __init__(self, model):
        self.model, self.classifier = model, load_classifier("mnist")

    @torch.no_grad()
    def features(self, latents, name: str):
        """Features of a set of latents, kept under a name."""
        def make():
            return self.of_images(torch.cat([self.model.decode(z) for z in latents.split(250)]))

        return kept(KEPT / f"features-{name}.pt", make)

    def of_images(self, images):
        return in_batches(self.classifier.features, images.clamp(-1, 1))


def run(name: str, steps: int, denoise, noise, noise_sampler):
    """The end of a sampler's steps, equal in time."""
    fresh = {"noise_sampler": noise_sampler} if name == "ddpm" else {}
    sampler = getattr(samplers, name)
    return samplers.last(sampler(denoise, cosine, noise, time_grid(steps), **fresh))


def kept(path: Path, make):
    """What make() returned, the first time or now."""
    if not path.exists():
        began = time.perf_counter()
        value = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(value, path)
        print(f"{path.stem}: {time.perf_counter() - began:.0f} s", flush=True)
    return torch.load(path)


# ---- the perfect denoiser ------------------------------------------------------------------------

def digits_world(model) -> Blobs:
    """A thousand training digits' latents, each with a little noise."""
    images = data.load("mnist").images[:1000]
    with torch.no_grad():
        return Blobs(model.latent_space.encode(images).mean.float(), width=0.1)


def draw_in_world(model, world: Blobs, name: str, steps: int, seed: int):
    """N latents of a seed by the perfect denoiser."""
    generator = torch.Generator().manual_seed(1000 * steps + seed)

    def make():
        noise = model.noise(N, seed)
        return run(name, steps, world.denoiser(cosine), noise,
                   lambda i: torch.randn(noise.shape, generator=generator))

    return kept(KEPT / f"world-{name}-{steps}-{seed}.pt", make)


def score_world(model, judge: Judge) -> dict:
    """FD of each row and seed, and how many drawings end at the picture that many steps end at."""
    world, generator = digits_world(model), torch.Generator().manual_seed(0)
    reference = judge.features(world.draw(10 * N, generator), "world-reference")
    own = [judge.features(world.draw(N, generator), f"world-own-{seed}") for seed in SEEDS]
    floor = [frechet_distance(each, reference) for each in own]
    ends = [draw_in_world(model, world, "dpmpp_2m", 200, seed) for seed in SEEDS]
    found = []
    for name, steps in WORLD:
        drawn = [draw_in_world(model, world, name, steps, seed) for seed in SEEDS]
        seen = [judge.features(latents, f"world-{name}-{steps}-{seed}")
                for latents, seed in zip(drawn, SEEDS, strict=True)]
        fd = [frechet_distance(each, reference) for each in seen]
        same = [nearest(world, a).eq(nearest(world, b)).float().mean().item()
                for a, b in zip(drawn, ends, strict=True)]
        found.append({"sampler": name, "steps": steps, "fd": fd, "same": same})
    return {"rows": found, "floor": floor}


def nearest(world: Blobs, latents):
    """The number of the world's picture that each latent (n, c, h, w) is nearest to."""
    return torch.cdist(latents.flatten(1), world.centres.flatten(1)).argmin(1)


# ---- the network ---------------------------------------------------------------------------------

def on_cosine(model, labels):
    """The model's denoiser as denoise(x, t) on cosine: it is asked at equal sigma / alpha."""
    def denoise(x, t):
        total = cosine.alpha(t) + cosine.sigma(t)
        return model.denoiser(x / total, cosine.sigma(t) / total, labels)

    return denoise


@torch.no_grad()
def draw(model, name: str, steps: int, seed: int, first: int):
    """Latents of CHUNK drawings of a seed, from number `first` on, by the network."""
    labels = torch.arange(first, first + CHUNK) % 10

    def make():
        return run(name, steps, on_cosine(model, labels), model.noise(CHUNK, seed, first),
                   lambda i: model.noise(CHUNK, seed, first, step=i))

    return kept(KEPT / f"{name}-{steps}-{seed}-{first}.pt", make)


def draw_all(model, name: str, steps: int, seed: int = 0):
    return torch.cat([draw(model, name, steps, seed, first) for first in range(0, N, CHUNK)])


def spread_of(features, reference, times: int = 20) -> float:
    """The standard deviation of the FD, by drawing N of the N features again and again."""
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(times):
        again = torch.randint(len(features), (len(features),), generator=generator)
        found.append(frechet_distance(features[again], reference))
    return torch.tensor(found).std().item()


def score_network(model, judge: Judge) -> dict:
    """FD, its spread, label accuracy and the distance from the many-step end of each row."""
    test, labels = data.load("mnist", "test"), torch.arange(N) % 10
    own, others = split_reference(test, labels, torch.Generator().manual_seed(0))
    reference = judge.of_images(data.to_float(test.images[others]))
    floor = frechet_distance(judge.of_images(data.to_float(test.images[own])), reference)
    end = draw(model, "dpmpp_2m", 100, 0, 0)
    found = []
    for name, steps in NETWORK:
        latents = draw_all(model, name, steps)
        seen = judge.features(latents, f"{name}-{steps}")
        row = {"sampler": name, "steps": steps, "fd": [frechet_distance(seen, reference)],
               "fd_sd": [spread_of(seen, reference)],
               "right": [label_accuracy(judge.classifier.head(seen), labels)]}
        if name != "ddpm":
            row["gap"] = [(latents[:CHUNK] - end).square().mean().sqrt().item()]
        found.append(row)
    return {"rows": found, "floor": floor}


# ---- both ----------------------------------------------------------------------------------------

def mean_of(scores: dict, name: str, steps: int, key: str = "fd") -> float:
    """The mean over seeds of one row's score."""
    row, = (row for row in scores["rows"] if (row["sampler"], row["steps"]) == (name, steps))
    return sum(row[key]) / len(row[key])


def measure():
    began = time.perf_counter()
    model = LatentDiffusion.load("mnist-unet", "cpu", torch.float32)
    judge = Judge(model)
    world, network = score_world(model, judge), score_network(model, judge)
    facts = {"n": N, "seeds": len(SEEDS), "day": time.strftime("%Y-%m-%d"), "hardware": machine(),
             "world": world, "network": network}
    STORED.parent.mkdir(exist_ok=True)
    STORED.write_text(json.dumps(facts, indent=1) + "\n")
    seconds = time.perf_counter() - began
    many = mean_of(world, "ddpm", 1000)
    for name, steps in ("ddim", 50), ("dpmpp_2m", 20):
        what = f"perfect denoiser, Fréchet distance of {name} in {steps} steps - ddpm's in 1,000"
        yield claim(what, mean_of(world, name, steps) - many, seconds)
    yield claim("network, Fréchet distance of ddim in 5 steps - in 20",
                mean_of(network, "ddim", 5) - mean_of(network, "ddim", 20), seconds)
