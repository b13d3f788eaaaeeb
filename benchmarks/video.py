"""What the zoo's model of films draws, beside frames that know nothing of each other:

    python -m benchmarks video

32 films per seed of real ones, of their copies and by label, 16 for the other arms: the same digit
in all frames, the path, flicker, the frames' Fréchet distance in floors, predictions from two given
frames, captions. Each number is kept in stored/video.json, which lesson 18 shows.
`python -m benchmarks.video 0 trained` measures one arm of a seed again.
"""

import json
import sys
import time
from pathlib import Path

import torch

from benchmarks.claims import claims_of, machine
from minildm import LatentDiffusion, data
from minildm.course import films
from minildm.course import lesson_18 as course
from minildm.data import moving
from minildm.diffusion.editing import inpaint
from minildm.diffusion.films import continued, mixed_noise
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import flow
from minildm.evaluation.classifier import in_batches, load_classifier
from minildm.evaluation.metrics import frechet_distance
from minildm.images import to_float

claim = claims_of("video")
STORED = Path(__file__).parent / "stored" / "video.json"
SEEDS = (0, 1, 2)
N, FEW, STEPS = 32, 16, 12
PIECE = 16      # films drawn at once


class World:
    """A seed's real films, the model, and how it draws."""

    def __init__(self, seed: int):
        digits = data.load("mnist", "test")
        self.seed, self.model = seed, LatentDiffusion.load("moving")
        self.classifier = load_classifier("mnist")
        clips, self.truth = moving.compose(digits.images, digits.labels, N, seed=1000 + 10 * seed)
        others, _ = moving.compose(digits.images, digits.labels, N, seed=1001 + 10 * seed)
        self.clips, self.real, self.others = clips, to_float(clips), to_float(others)
        self.latents = self.model.latent_space.encode(clips).mean.float()
        self.labels = self.truth.labels[:, 0]
        self.words = self.model.conditioner.read(self.labels)

    def noise(self, n: int, share: float | None = None):
        share = self.model.latent_space.share if share is None else share
        generator = torch.Generator().manual_seed(self.seed)
        return mixed_noise((n, *self.model.latent_shape), share, generator)

    def draw(self, denoise_of, n: int, share: float | None = None):
        """n films, where denoise_of(part) is denoise(x, t) for a slice of them."""
        noise, done = self.noise(n, share), []
        for begin in range(0, n, PIECE):
            part = slice(begin, min(begin + PIECE, n))
            done.append(last(ddim(denoise_of(part), flow, noise[part], self.model.times(STEPS))))
        return self.model.decode(torch.cat(done))

    def judged(self, clips) -> dict[str, float]:
        n = len(clips)
        found = course.measures(clips, self.labels[:n], self.classifier, path_distances)
        # the same number of real films on both sides, with the same labels drawn by chance
        features = [in_batches(self.classifier.features, each[:n].flatten(0, 1))
                    for each in (clips, self.real, self.others)]
        floor = frechet_distance(features[1], features[2])
        return {**found, "FD in floors": frechet_distance(features[0], features[2]) / floor}


def path_distances(points, start, velocity, low, high):
    return (points - moving.bounced(start[:, None] + velocity[:, None] * torch.arange(
        points.shape[1])[:, None], low, high)).norm(dim=-1)


# ---- arms: functions of a world -> a measurement

def real(world: World):
    return world.judged(world.real)


def copies(world: World):
    return world.judged(world.model.decode(world.latents))


def closed(share: float):
    def arm(world: World):
        shut = course.with_closed_gates(world.model.denoiser)
        return world.judged(world.draw(
            lambda part: course.told_apart(shut, world.words[part], 2.0), FEW, share))

    return arm


def trained(world: World):
    began = time.perf_counter()
    clips = world.draw(
        lambda part: course.told_apart(world.model.denoiser, world.words[part], 2.0), N)
    seconds = (time.perf_counter() - began) / N
    return {**world.judged(clips), "seconds per film": seconds}


def captions(world: World):
    """Films for whole sentences: how many set out in the direction that was asked for."""
    words = world.model.conditioner.read(moving.captions(world.truth)[:FEW])
    clips = world.draw(
        lambda part: course.told_apart(world.model.denoiser, words[part], 2.0), FEW)
    velocity = films.fit_paths(films.centres_of(clips)).velocity[:, None]
    found = moving.Truth(world.truth.labels[:FEW], world.truth.positions[:FEW], velocity)
    right = found.directions == world.truth.directions[:FEW]
    return {**world.judged(clips), "direction": right.float().mean().item()}


def prediction(world: World):
    truth, latents, words = world.truth[:FEW], world.latents[:FEW], world.words[:FEW]
    keep = torch.zeros(moving.FRAMES, 1, 1, 1)
    keep[:2] = 1

    def masked(part):
        plain = course.told_apart(world.model.denoiser, words[part], 1.0)
        return inpaint(plain, latents[part], keep)

    def shown(part):
        denoise = continued(world.model.denoiser, latents[part, :2])
        return lambda x, t: denoise(x, t, words[part])

    ways = {"real": world.model.decode(latents), "masked step": world.draw(masked, FEW),
            "told clean": world.draw(shown, FEW)}
    table = course.predictions(ways, truth, path_distances)
    return {f"{way}, {name}": value for way, row in table.items() for name, value in row.items()}


ARMS = {"real": real, "copies": copies, "closed, share 0": closed(0.0),
        "closed, share 0.5": closed(0.5), "closed, share 1": closed(1.0), "trained": trained,
        "captions": captions, "prediction": prediction}


# ---- what is kept, and the rows of RESULTS.md

def stored() -> dict:
    return json.loads(STORED.read_text()) if STORED.exists() else {}


def keep(arm: str, seed: int, found: dict):
    """Put one result into the file, beside what is there."""
    kept = stored()
    kept |= {"n": N, "few": FEW, "steps": STEPS, "hardware": machine(),
             "day": time.strftime("%Y-%m-%d")}
    short = {key: float(f"{value:.4g}") for key, value in found.items()}
    kept.setdefault("arms", {}).setdefault(arm, {})[str(seed)] = short
    STORED.write_text(json.dumps(kept, indent=1) + "\n")


def sweep(seed: int, arms=tuple(ARMS)):
    world = World(seed)
    for arm in arms:
        began = time.perf_counter()
        found = ARMS[arm](world)
        keep(arm, seed, found)
        print(f"{arm}, seed {seed}: {found}, {time.perf_counter() - began:.0f} s", flush=True)


def measure():
    # lesson 18's own function measures "layers": `train_arm(together, 120, rate)`
    STORED.write_text(json.dumps({"layers": stored().get("layers", {})}))
    began = time.perf_counter()
    for seed in SEEDS:
        sweep(seed)
    yield from claims(time.perf_counter() - began)


def claims(seconds: float = 0.0):
    """The rows of RESULTS.md, from what is stored."""
    kept = course.Results(stored())
    film = kept.of("trained")
    yield claim("the same digit in all frames", kept.mean("trained", "same digit"), seconds,
                detail=film)
    yield claim("path error, pixels", kept.mean("trained", "path error"), seconds, detail=film)
    yield claim("path right", kept.mean("trained", "path right"), seconds, detail=film)
    ratio = kept.mean("trained", "flicker") / kept.mean("real", "flicker")
    yield claim("flicker / real films'", ratio, seconds, detail=film)
    yield claim("frames' Fréchet distance / floor", kept.mean("trained", "FD in floors"), seconds,
                detail=film)
    yield claim("predicted from two frames: right",
                kept.mean("prediction", "told clean, right"), seconds, detail=kept.of("prediction"))
    yield claim("seconds per film", kept.mean("trained", "seconds per film"), seconds,
                detail=f"{STEPS} steps, guided")


if __name__ == "__main__":
    sweep(int(sys.argv[1]), tuple(sys.argv[2:]) or tuple(ARMS))
