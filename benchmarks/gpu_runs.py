"""Whole runs of the GPU recipes within given seconds, and what they are worth along the way.

The clock runs from the pictures on the device to the trained model: VAE, features, encoding,
text tower, denoiser, compilers (whose programs an earlier row may have left on the disk). Averages
are kept at some times and judged when all is trained, so that judging costs no time of the run. A
run's rate falls to zero at its end: what an average in its midst is worth is less than what a
shorter run would reach.
"""

import contextlib
import time
from dataclasses import replace
from unittest import mock

from benchmarks.gpu_judge import N, draw, judge, load, sampling_row, save_pictures, scoring_row
from benchmarks.gpu_peaks import wait
from benchmarks.gpu_steps import SECONDS, executions_on, step_row
from benchmarks.gpu_trainings import RECIPES, executed, fit_replaced, kind_of, noted, scaled
from minildm import LatentDiffusion
from minildm.diffusion.guidance import Cfg
from minildm.evaluation.classifier import load_classifier
from minildm.recipes import conditions
from minildm.recipes.classifier import COLOUR_CLASSIFIER, train_classifier
from minildm.recipes.stages import Options
from minildm.training import loop
from minildm.training.ema import copy_tensors, tensors_of
from minildm.training.loop import train

# of the seconds of a run: VAE, text tower; the rest is the denoiser's
VAE_SHARE = {"mnist": 0.25, "scenes": 0.15, "colour": 0.2}
CLIP_SHARE = {"mnist": 0, "scenes": 0.2, "colour": 0}
MINUTES = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8)      # when averages are kept
BESIDE = 60                 # seconds beside the training: data, judging


def run(bench) -> None:
    name = bench.stage
    measure_steps(bench, name)
    needed = bench.seconds[name] + BESIDE
    bench.measure("run", bench.choose(5, needed), lambda: whole_run(bench, name))
    if name == "colour":
        bench.measure("classifier of the features", 30, lambda: borrowed(bench))
        bench.measure("judged at 10,000", 60, lambda: judge_again(bench, name, 10 * N))
        bench.measure("sampling", 20, lambda: sampling_row(bench, finished(bench, name)))
    if name == "mnist":
        bench.measure("scoring", 15, lambda: scoring_row(bench))


def measure_steps(bench, name: str) -> None:
    """Rows of the stage `steps` that the plan of a run needs, where they are not there yet."""
    for part, share in shares_of(name).items():
        job = f"{name} {part}"
        cuda = bench.device.type == "cuda"
        step_of(bench, job, "graph" if cuda else "eager")
        # compiling takes longer than a short part
        if cuda and share * bench.seconds[name] > SECONDS["compile"]:
            step_of(bench, job, "compile")
        if not plans_of(bench, job, 1):
            step_of(bench, job, "eager")


def step_of(bench, job: str, execution: str) -> None:
    bench.rows.measure("steps", f"{job}, {execution}", SECONDS[execution],
                       lambda: step_row(bench, job, execution))


def shares_of(name: str) -> dict[str, float]:
    """The share of a run's seconds that each part trains."""
    shares = {"vae": VAE_SHARE[name], "clip": CLIP_SHARE[name]}
    shares["denoiser"] = 1 - sum(shares.values())
    return {part: share for part, share in shares.items() if share}


def whole_run(bench, name: str) -> dict:
    """Train one recipe, judge its last average and those before."""
    images = load(bench, name)
    plans = plans_for(bench, name)
    sizes = sizes_within(bench, name, plans)
    guide = guide_within(bench, name, sizes)
    watch = Watch(bench.device, bench.choose((0.0001,), MINUTES))
    options = Options(bench.choose("smoke", "gpu"), bar=False)
    with fit_replaced(watch.fit), shorter_clip(plans), noted() as said:
        wait(bench.device)
        watch.begin()
        trained = RECIPES[name].train(images, options, sizes=sizes, **guide)
        wait(bench.device)
        whole = watch.elapsed()
    model = trained.model
    # kept whatever happens while it is judged
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
            # the guide of photographs is an early average
            if step.i == snapshot_step:
                step.ema.copy_to(other)
            if step.i % max(1, config.steps // 50) == 0:
                seen.append(step)
            if self.minutes and self.elapsed() >= 60 * self.minutes[0]:
                self.keep(step, config)
        step.ema.copy_to(model)
        self.pictures = config.steps * config.batch_size
        # read now: to read a step's numbers is to wait for it
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

def plans_for(bench, name: str) -> dict[str, dict]:
    """How each part of a run is trained in its share of the seconds."""
    return {part: max(plans_of(bench, f"{name} {part}", share * bench.seconds[name]),
                      key=lambda plan: plan["steps"])
            for part, share in shares_of(name).items()}


def plans_of(bench, job: str, seconds: float) -> list[dict]:
    """Each execution that was measured, and how many steps it takes in these seconds."""
    plans = []
    for execution in executions_on(bench.device):
        row = bench.rows.get("steps", f"{job}, {execution}")
        if "ms" in row:
            # compiling is among the seconds
            training = max(seconds / 10, seconds - row["first_seconds"])
            steps = max(2, round(1000 * training / row["ms"]))
            plans.append({"execution": execution, "ms": row["ms"], "steps": steps})
    return plans


def sizes_within(bench, name: str, plans: dict):
    """The recipe's sizes after the plans."""
    sizes = RECIPES[name].SIZES[bench.choose("smoke", "gpu")]
    vae = planned(sizes.vae_training, plans["vae"])
    # the critic joins after the same share of the run
    start = sizes.vae_loss.adversarial_start * vae.steps / sizes.vae_training.steps
    loss = replace(sizes.vae_loss, adversarial_start=round(start))
    denoiser = planned(sizes.training, plans["denoiser"])
    return replace(sizes, vae_training=vae, training=denoiser, vae_loss=loss)


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


def shorter_clip(plans: dict):
    """Let the text tower train no longer than its share."""
    if "clip" not in plans:
        return contextlib.nullcontext()
    fitted = conditions.fitted

    def shorter(images, options):
        recipe = fitted(images, options)
        return replace(recipe, training=planned(recipe.training, plans["clip"]))

    return mock.patch.object(conditions, "fitted", shorter)


# ---- what it is worth

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


def borrowed(bench) -> dict:
    """What the classifier costs whose features the recipe borrows from the zoo: trained once more.
    """
    images, config = load(bench, "colour"), load_classifier("cifar10-small").config
    training = bench.choose(replace(COLOUR_CLASSIFIER, steps=2, batch_size=16), COLOUR_CLASSIFIER)
    wait(bench.device)
    began = time.perf_counter()
    train_classifier(images, training, bar=False, config=config)
    wait(bench.device)
    return {"seconds": time.perf_counter() - began}


def finished(bench, name: str) -> LatentDiffusion:
    """The model that the run left."""
    return LatentDiffusion.load(bench.work / "models" / name, bench.device)


def judge_again(bench, name: str, n: int) -> dict:
    """The finished model once more, by more pictures."""
    return judge(bench, name, finished(bench, name), load(bench, name), bench.choose(50, n))
