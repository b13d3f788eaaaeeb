"""The command line: `minildm demo | train | sample | edit | evaluate | bench | grade`.

Flags are the fields of the dataclasses below; all but edit and grade run bare.
Arguments are checked before torch is imported, so a slip is answered at once, in at most six lines.
Exit codes: 0 done, 2 something you can fix, 1 a bug of ours, 130 interrupted.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from minildm import __version__, torchrun
from minildm.answers import exit_code, report, unboxed
from minildm.edit_command import Edit
from minildm.grade_command import Grade
from minildm.options import (
    SETS,
    check,
    check_data,
    check_not_empty,
    check_out_folder,
    check_out_picture,
    check_seed,
    check_size,
    expanded,
)

ABOUT = ("Latent diffusion from scratch. Most commands run bare: minildm demo is the one to begin "
         "with; minildm --version says which this is.")
Budget = Literal["auto", "smoke", "cpu", "gpu-short", "gpu"]
Backbone = Literal["auto", "dit", "unet"]
Objective = Literal["flow", "eps", "x0", "v"]
Sampler = Literal["ddim", "ddpm", "euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "consistency"]
# off is not the opposite of on here, but leaves it to the recipe: two flags, not a pair of one
Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]
LARGEST_LABEL = 10**6

# ---- the commands
@dataclass(frozen=True)
class Run:
    """What the commands that train have in common."""

    data: str = "mnist"  # mnist, fashion-mnist, cifar10, glyphs, scenes, scenes-glyphs, folder:PATH
    out: Path | None = None  # folder of the run and the model; by default runs/COMMAND-DATA-CHANGES
    seed: int = 0  # of training and drawing
    recipe: Budget = "auto"  # how much to train; auto follows MINILDM_BUDGET, then the hardware
    backbone: Backbone = "auto"  # the denoiser's network; auto is the recipe's own
    objective: Objective = "flow"  # what it learns to predict
    size: int | None = None  # side of a folder's pictures, resized; by default their own, or 32
    mirror: Switch = False  # train on mirror images as well, whatever the recipe says
    no_mirror: Switch = False  # never train on mirror images, as is right for letters and signs

    def check_run(self, sets: tuple[str, ...]):
        check_data(self.data, sets)
        check_seed(self.seed)
        check_size(self.size, self.data)
        both = self.mirror and self.no_mirror
        check("--mirror", not both, "no --no-mirror beside it", "--no-mirror")
        for folder in self.folders():
            check_out_folder(folder)

    def folders(self) -> list[Path]:
        """The folder of this run's files, or of `--data auto` the two that it may become."""
        if self.out is not None:
            return [expanded("--out", self.out)]
        # asking which one it is would download, and these are checks
        names = ("mnist", "glyphs") if self.data == "auto" else (self.data,)
        return [self.folder_of(name) for name in names]

    def folder_of(self, name: str) -> Path:
        """runs/COMMAND-DATA, then what is not the default; a folder of pictures gives its own name.

        Two runs that differ in what they train have two folders, so that the second is not refused.
        """
        if self.out is not None:
            return expanded("--out", self.out)
        if name.startswith("folder:"):
            # `.` and `..` have a name, too, and a folder `mnist` is not MNIST
            name = expanded("--data", Path(name.removeprefix("folder:"))).resolve().name
            name = f"folder-{name}" if name in SETS else name
        words = [type(self).__name__.lower(), name]
        chosen = (self.recipe, self.backbone, self.objective)
        words += [word for word in chosen if word not in ("auto", "flow")]
        if getattr(self, "captions", False):
            words.append("captions")
        if self.seed:
            words.append(f"seed{self.seed}")
        if self.size:
            words.append(f"size{self.size}")
        if self.mirror or self.no_mirror:
            words.append("mirror" if self.mirror else "no-mirror")
        return Path("runs") / "-".join(words)

    def changes(self) -> dict:
        """The options of pictures that were given; the others are the recipe's own."""
        given = {"size": self.size}
        if self.mirror or self.no_mirror:
            given["mirror"] = self.mirror
        return {name: value for name, value in given.items() if value is not None}

    def can_go_on(self) -> bool:
        """Whether an interrupted run has a checkpoint to go on from."""
        return any(list(folder.glob("*/step-*")) for folder in self.folders())


@dataclass(frozen=True)
class Demo(Run):
    """Train a latent diffusion model from nothing, draw with it, and measure what it draws."""

    data: str = "auto"  # mnist, fashion-mnist, cifar10, glyphs, folder:PATH; auto: mnist if it can
    num: int = 1000  # pictures to draw and measure, 10 to 100000

    def check(self):
        check("--num", 10 <= self.num <= 100_000, "10 to 100000", self.num)
        self.check_run(("auto",))

    def run(self):
        from minildm import data
        from minildm.demo import demo

        # which set `auto` turns out to be is in the folder's name
        out = self.folder_of(data.default() if self.data == "auto" else self.data)
        words = (self.backbone, self.objective)
        demo(self.data, out, self.num, self.seed, self.recipe, words, **self.changes())


@dataclass(frozen=True)
class Train(Run):
    """Train a VAE and a denoiser of its latents, and keep the model."""

    captions: bool = False  # draw prompts in the place of labels; of scenes that is always so

    def check(self):
        self.check_run(("scenes", "scenes-glyphs"))

    def run(self):
        from minildm.demo import train_model

        words = (self.backbone, self.objective)
        out = self.folder_of(self.data)
        train_model(self.data, out, self.seed, self.recipe, words, self.captions, **self.changes())


@dataclass(frozen=True)
class Sample:
    """Draw pictures with a trained model: of prompts, of labels, or of every class in turn."""

    model: str | None = None  # a folder of a model, Stable Diffusion's too, or a name in data/zoo
    prompt: tuple[str, ...] = ()  # sentences, one picture each: "a red three left of a blue eight"
    negative: str = ""  # a prompt to stay away from
    labels: tuple[int, ...] = ()  # class numbers, one picture each; by default every class in turn
    num: int = 100  # pictures, 1 to 10000, when no labels are given
    steps: int | None = None  # of the sampler, 1 to 1000; by default the model's own
    guidance_scale: float | None = None  # 1 is off; by default the model's own
    sampler: Sampler | None = None  # by default the model's own
    seed: int = 0
    out: Path = Path("samples.png")

    def check(self):
        scale, steps = self.guidance_scale, self.steps
        check("--num", 1 <= self.num <= 10_000, "1 to 10000", self.num)
        check("--steps", steps is None or 1 <= steps <= 1000, "1 to 1000", steps)
        check("--guidance-scale", scale is None or 0 <= scale <= 100, "0 to 100", scale)
        check_seed(self.seed)
        one_kind = not (self.prompt and self.labels)
        check("--prompt", one_kind, "the place of --labels", " ".join(self.prompt))
        has_place = bool(self.prompt) or not self.negative
        check("--negative", has_place, "its place beside --prompt", self.negative)
        fit = all(0 <= label < LARGEST_LABEL for label in self.labels)
        check("--labels", fit, "class numbers from 0", self.labels)
        if self.model is not None:
            expanded("--model", Path(self.model))
        check_out_picture(self.out)

    def run(self):
        import torch

        from minildm import samples
        from minildm.model import LatentDiffusion
        from minildm.spec import SAMPLERS
        from minildm.training import distributed

        name = self.model or ("scenes" if self.prompt else "mnist")
        model = LatentDiffusion.load(name, "cuda" if torch.cuda.is_available() else "cpu")
        # models of prompts have no classes
        every = torch.arange(self.num) % max(1, len(model.class_names))
        wanted = self.prompt or (torch.tensor(self.labels) if self.labels else every)
        guidance = model.guidance_of(guidance_scale=self.guidance_scale)
        began = time.perf_counter()
        images = distributed.generate(
            model, wanted, num_inference_steps=self.steps, guidance_scale=self.guidance_scale,
            seed=self.seed, sampler=SAMPLERS.get(self.sampler), negative=self.negative)
        names = self.prompt or [model.class_names[label] for label in wanted]
        cols = min(4, len(names)) if self.prompt else None
        out = expanded("--out", self.out)
        if distributed.is_first():
            samples.save_pictures(out, images, names, cols)
        guided_by = ", ".join(map(str, guidance)) or "no guidance"
        seconds = time.perf_counter() - began
        plural = "" if len(wanted) == 1 else "s"
        print(f"{len(wanted)} picture{plural} in {seconds:.1f} s, {guided_by}: {out}")


@dataclass(frozen=True)
class Evaluate:
    """Measure a samples.npz against the real images, each score beside what real images get."""

    samples: Path = Path("runs/demo-mnist/samples.npz")  # images uint8 (N, H, W[, 3]), labels (N,)
    data: str = "mnist"  # the set that the samples imitate
    size: int | None = None  # side of a folder's pictures, as of the demo that drew
    mirror: Switch = False  # the classifier learns mirror images, as of the demo that drew

    def check(self):
        check_data(self.data)
        check_size(self.size, self.data)
        exists = "a samples.npz that exists; minildm demo writes one"
        check("--samples", expanded("--samples", self.samples).is_file(), exists, self.samples)

    def run(self):
        from minildm import data, demo
        from minildm.evaluation.score import format_scores
        from minildm.samples import load_samples

        path = expanded("--samples", self.samples)
        real = data.load(self.data, **({"size": self.size} if self.size else {}))
        images, labels = load_samples(path, real)
        # a classifier that must be trained first is kept beside the samples, where that is allowed
        with tempfile.TemporaryDirectory() as elsewhere:
            folder = path.parent if os.access(path.parent, os.W_OK) else Path(elsewhere)
            scores = demo.measure(images, labels, real, folder, self.mirror or None)
        print(format_scores(scores))


@dataclass(frozen=True)
class Bench:
    """Time training steps and the sampler loop, alone or against the same networks of diffusers."""

    peer: Literal["none", "diffusers"] = "none"
    rounds: int = 10  # timed rounds of each, 3 to 1000, after two to warm up
    json: bool = False  # one JSON object instead of a table

    def check(self):
        check("--rounds", 3 <= self.rounds <= 1000, "3 to 1000", self.rounds)

    def run(self):
        from minildm.bench import bench, table
        from minildm.demo import hardware

        rows = bench(self.peer == "diffusers", self.rounds)
        print(json.dumps({"hardware": hardware(), "rows": rows}) if self.json else table(rows))


Command = Demo | Train | Sample | Edit | Evaluate | Bench | Grade


# ---- from words to a command, and from what happens to an exit code
def parse(argv: list[str]):
    """The command that the words ask for; what they do wrong is said in at most six lines."""
    # tyro draws a box of ten lines and exits: what is in it is caught, and said again
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(Command, prog="minildm", args=argv, description=ABOUT)
    finally:
        report(unboxed(said.getvalue()))


def main(argv: list[str] | None = None) -> int:
    """Run a command; the console script exits with what this returns."""
    argv = sys.argv[1:] if argv is None else argv
    if argv == ["--version"]:
        print(f"minildm {__version__}")
        return 0
    for stream in (sys.stdout, sys.stderr):
        # a name that the terminal can't show is no reason to fail
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in argv                   # show the traceback of an error
    argv = [word for word in argv if word != "--debug"]
    can_go_on = bool            # of what is no command: False
    try:
        check_not_empty(argv)
        command = parse(argv)
        command.check()
        can_go_on = getattr(command, "can_go_on", bool)
        torchrun.run(command)
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        return exit_code(error, can_go_on)
