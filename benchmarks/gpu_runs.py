"""Whole runs of the GPU recipes within given seconds, and what they are worth along the way.

The clock runs from the pictures on the device to the trained model: VAE, features, encoding,
text tower, denoiser, compilers (whose programs an earlier row may have left on the disk). Averages
are kept at some times and judged when all is trained, so that judging costs no time of the run. A
run's rate falls to zero at its end: what an average in its midst is worth is less than what a
shorter run would reach.
"""

import contextlib
import importlib
import math
import time
from dataclasses import replace
from unittest import mock

import torch
from PIL import Image

from benchmarks.gpu_peaks import wait
from benchmarks.gpu_steps import SECONDS, executions_on, step_row
from benchmarks.gpu_trainings import (
    RECIPES,
    executed,
    fit_replaced,
    kind_of,
    made_up,
    noted,
    scaled,
)
from benchmarks.scenes import shares_right
from minildm import LatentDiffusion, data
from minildm.data.scenes import captions, compose
from minildm.diffusion.guidance import Cfg
from minildm.evaluation.classifier import load_classifier
from minildm.evaluation.score import score
from minildm.recipes import conditions
from minildm.recipes.stages import Options
from minildm.training import loop
from minildm.training.ema import copy_tensors, tensors_of
from minildm.training.loop import train

SETS = {"mnist": "mnist", "scenes": "scenes", "colour": "cifar10"}
# of the seconds of a run: VAE, text tower; the rest is the denoiser's
VAE_SHARE = {"mnist": 0.25, "scenes": 0.15, "colour": 0.2}
CLIP_SHARE = {"mnist": 0, "scenes": 0.2, "colour": 0}
MINUTES = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8)      # when averages are kept
BESIDE = 60                 # seconds beside the training: data, judging
N = 1000                    # pictures that are judged


def run(bench) -> None:
    name = bench.stage
    measure_steps(bench, name)
    needed = bench.seconds[name] + BESIDE
    bench.measure("run", bench.choose(5, needed), lambda: whole_run(bench, name))
    if name == "colour":
        bench.measure("judged at 10,000", bench.choose(5, 60), lambda: judge_again(bench, name))


def measure_steps(bench, name: str) -> None:
    """Rows of the stage `steps` that the plan of a run needs, where they are not there yet."""
    parts = ("vae", "denoiser", "clip") if CLIP_SHARE[name] else ("vae", "denoiser")
    for part in parts:
        for execution in executions_on(bench.device):
            job = f"{name} {part}"
            bench.rows.measure("steps", f"{job}, {execution}", SECONDS[execution],
                               lambda job=job, execution=execution: step_row(bench, job, execution))


def whole_run(bench, name: str) -> dict:
    """Train one recipe, judge its last average and those before."""
    images = load(bench, name)
    sizes, plans = sizes_within(bench, name)
    guide = guide_within(bench, name, sizes)
    watch = Watch(bench.device, bench.choose((0.0001,), MINUTES))
    options = Options(bench.choose("smoke", "gpu"), bar=False)
    with fit_replaced(watch.fit), shorter_clip(bench, name, plans), noted() as said:
        wait(bench.device)
        watch.begin()
        trained = RECIPES[name].train(images, options, sizes=sizes, **guide)
        wait(bench.device)
        whole = watch.elapsed()
    model = trained.model
    model.save(bench.work / "models" / name)
    row = {"seconds": whole, "parts": watch.parts, **said, "vae_steps": sizes.vae_training.steps,
           "steps": sizes.training.steps, "pictures_seen": watch.pictures, "plans": plans}
    row |= judge(bench, name, model, images)
    save_pictures(bench.out / f"pictures-{name}.png", draw(bench, name, model, 64)[0])
    row["history"] = [judged_then(bench, name, model, images, kept) for kept in watch.kept]
    return row


class Watch:
    """Stands in `fit`'s place: trains as it does, keeps the time, and averages along the way."""

    def __init__(self, device, minutes):
        self.device, self.minutes = device, list(minutes)
        self.parts, self.kept, self.pictures = {}, [], 0

    def begin(self):
        self.began = time.perf_counter()

    def elapsed(self) -> float:
        return time.perf_counter() - self.began

    def fit(self, model, loss_fn, data, config, run_dir=None, bar=True, identity=None,
            snapshot=None) -> dict:
        began = time.perf_counter()
        # the denoiser is the one whose way is looked at
        if kind_of(model) == "denoiser":
            history = self.follow(model, loss_fn, data, config, snapshot or (0, None))
        else:
            history = loop.fit(model, loss_fn, data, config, None, False, identity)
        wait(self.device)
        self.parts[kind_of(model)] = round(time.perf_counter() - began, 2)
        return history

    def follow(self, model, loss_fn, data, config, snapshot) -> dict:
        """`fit`, which also keeps the average at the given minutes of the whole run."""
        snapshot_step, other = snapshot
        seen = []
        self.drop_past(self.elapsed() / 60)
        for step in train(model, loss_fn, data, config, None, False):
            if step.i == snapshot_step:
                step.ema.copy_to(other)
            if step.i % max(1, config.steps // 50) == 0:
                seen.append(step)
            if self.minutes and self.elapsed() >= 60 * self.minutes[0]:
                self.keep(step, config)
        step.ema.copy_to(model)
        self.pictures = config.steps * config.batch_size
        rows = [step.row() for step in seen]
        return {name: [row[name] for row in rows] for name in rows[-1]}

    def keep(self, step, config) -> None:
        """Keep this step's average, and how far the run is."""
        wait(self.device)
        minutes = self.elapsed() / 60
        self.drop_past(minutes)
        averages = {name: tensor.clone() for name, tensor in step.ema.averages.items()}
        at = {"minutes": round(minutes, 3), "step": step.i,
              "pictures_seen": step.i * config.batch_size}
        self.kept.append((at, averages))

    def drop_past(self, minutes: float) -> None:
        """Forget the times that have passed."""
        self.minutes = [minute for minute in self.minutes if minute > minutes]


# ---- how long each part trains

def sizes_within(bench, name: str):
    """The recipe's sizes with as many steps as the seconds allow, at most its own; the plans."""
    sizes = RECIPES[name].SIZES[bench.choose("smoke", "gpu")]
    shares = {"vae": VAE_SHARE[name], "denoiser": 1 - VAE_SHARE[name] - CLIP_SHARE[name]}
    plans = {part: plan(bench, f"{name} {part}", bench.seconds[name] * share)
             for part, share in shares.items()}
    vae = planned(sizes.vae_training, plans["vae"])
    start = sizes.vae_loss.adversarial_start * vae.steps / sizes.vae_training.steps
    loss = replace(sizes.vae_loss, adversarial_start=round(start))
    denoiser = planned(sizes.training, plans["denoiser"])
    return replace(sizes, vae_training=vae, training=denoiser, vae_loss=loss), plans


def plan(bench, job: str, seconds: float) -> dict:
    """The execution that takes most steps in these seconds, compiling among them, and how many."""
    plans = []
    for execution in executions_on(bench.device):
        row = bench.rows.get("steps", f"{job}, {execution}")
        if "ms" in row:
            training = max(seconds / 10, seconds - row["first_seconds"])
            steps = max(2, round(1000 * training / row["ms"]))
            plans.append({"execution": execution, "ms": row["ms"], "steps": steps})
    return max(plans, key=lambda each: each["steps"])


def planned(config, plan: dict):
    """A training after a plan, of at most its own steps."""
    steps = min(config.steps, plan["steps"])
    return executed(scaled(config, steps), plan["execution"])


def guide_within(bench, name: str, sizes) -> dict:
    """The guide at its own share of the run; only photographs have one."""
    if name != "colour":
        return {}
    budget = bench.choose("smoke", "gpu")
    guide, own = RECIPES[name].GUIDES[budget], RECIPES[name].SIZES[budget].training.steps
    step = max(1, round(guide.step * sizes.training.steps / own))
    return {"guide": guide._replace(step=step)}


def shorter_clip(bench, name: str, plans: dict):
    """Let the text tower train no longer than its share."""
    if not CLIP_SHARE[name]:
        return contextlib.nullcontext()
    plans["clip"] = plan(bench, f"{name} clip", CLIP_SHARE[name] * bench.seconds[name])
    fitted = conditions.fitted

    def shorter(images, options):
        recipe = fitted(images, options)
        return replace(recipe, training=planned(recipe.training, plans["clip"]))

    return mock.patch.object(conditions, "fitted", shorter)


# ---- what it is worth

def load(bench, name: str) -> data.ImageSet:
    """A training set on the device; made-up pictures where everything is tiny."""
    images = made_up(name, 200) if bench.smoke else data.load(SETS[name])
    return images.to(bench.device)


def draw(bench, name: str, model, n: int):
    """n pictures uint8, and what was asked for: labels, or what the sentences say."""
    if name == "scenes":
        digits = made_up("mnist", 200) if bench.smoke else data.load("mnist", "test")
        _, truth = compose(digits.images, digits.labels, n, seed=11, held_out=False)
        return data.to_uint8(model.generate(captions(truth, seed=11))), truth
    labels = torch.arange(n) % 10
    return data.to_uint8(model.generate(labels)), labels


def judge(bench, name: str, model, images, n: int | None = None) -> dict:
    """Scores of pictures that a model draws, each by the functions that the demo's stand on."""
    began = time.perf_counter()
    drawn, asked = draw(bench, name, model, n or bench.choose(40, N))
    seconds = time.perf_counter() - began
    row = {"n": len(drawn), "seconds_of_sampling": seconds}
    if name == "scenes":
        classifier = load_classifier("mnist")
        shares = shares_right(data.to_float(drawn).cpu(), asked, classifier)
        row |= {f"{what}_right": share for what, share in shares.items()}
    else:
        classifier = load_classifier(SETS[name]).to(bench.device)
        found = score(drawn, asked, images, classifier)
        names = ("label_accuracy", "fd_ratio", "precision", "recall", "diversity", "fd")
        row |= {key: found[key] for key in names}
        row["real"] = {key: found[f"{key}_floor"] for key in names if f"{key}_floor" in found}
    return row | without_labels(drawn, images)


def without_labels(drawn, images) -> dict:
    """Distance of thumbnails and contrast, which need no network, beside those of real pictures."""
    try:
        module = importlib.import_module("minildm.evaluation.pixels")
    except ImportError:
        return {"label_free": "this version has none"}
    found = module.label_free(drawn, images.images)
    return {"fd_pixels_ratio": found["fd_pixels"] / max(found["fd_pixels_floor"], 1e-12),
            "contrast_ratio": found["contrast"] / found["contrast_real"]}


def judged_then(bench, name: str, model, images, kept) -> dict:
    """Scores of an average that was kept on the way, put into the finished model."""
    at, averages = kept
    copy_tensors(averages, tensors_of(model.denoiser))
    own = model.guidance
    if guide_is_later(model, at["step"]):
        # the guide is not yet what it will be: towards the label alone
        model.guidance = (Cfg(own[0].scale),)
    try:
        return {**at, **judge(bench, name, model, images)}
    finally:
        model.guidance = own


def guide_is_later(model, step: int) -> bool:
    """Whether the guide's own step lay after this one: it is a twelfth of the run at most."""
    return len(model.guidance) > 1 and step < model.facts["denoiser_steps"] / 10


def judge_again(bench, name: str) -> dict:
    """The finished model once more, by ten times as many pictures."""
    model = LatentDiffusion.load(bench.work / "models" / name, bench.device)
    return judge(bench, name, model, load(bench, name), bench.choose(50, 10 * N))


def save_pictures(path, images) -> None:
    """uint8 pictures (N, C, H, W) as one PNG, as many rows as columns, each pixel nine."""
    side = math.isqrt(len(images))
    rows = images[:side**2].cpu().unflatten(0, (side, side))                # (R, K, C, H, W)
    grid = rows.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)          # (R H, K W, C)
    grid = grid.expand(-1, -1, 3).contiguous().numpy()
    picture = Image.fromarray(grid)
    picture.resize((3 * grid.shape[1], 3 * grid.shape[0]), Image.NEAREST).save(path)
