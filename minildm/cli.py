"""The command line: `minildm demo | train | sample | evaluate | bench`, every one of which runs bare.

Flags are the fields of the dataclasses below. Arguments are checked before torch is imported, so a slip is
answered at once. Exit codes: 0 done, 2 something you can fix, 1 a bug of ours, 130 interrupted.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from minildm import MinildmError

ABOUT = "Latent diffusion from scratch. Every command runs bare: minildm demo is the one to begin with."
Budget = Literal["auto", "smoke", "cpu", "gpu-short", "gpu"]
Backbone = Literal["auto", "dit", "unet"]
Objective = Literal["flow", "eps", "x0", "v"]


def check(option: str, good: bool, allowed: str, value):
    """Refuse an option's value, naming what is allowed."""
    if not good:
        raise MinildmError(f"{option} {value}: not allowed", "command line", f"{option} takes {allowed}")


def check_data(name: str, extra: tuple[str, ...] = ()):
    names = (*extra, "mnist", "fashion-mnist", "cifar10", "glyphs")
    known = name in names or name.startswith("folder:") and len(name) > len("folder:")
    check("--data", known, ", ".join(names) + " or folder:PATH", name)
    if name.startswith("folder:"):
        check("--data", Path(name[7:]).expanduser().is_dir(), "folder:PATH of a folder that exists", name)


def check_out(path: Path | None, suffix: str = ""):
    """An output that can't be written is better known before the training than after it."""
    if path is None:
        return
    if suffix:
        check("--out", path.suffix == suffix, f"a file name that ends in {suffix}", path)
    at = next(p for p in [path, *path.absolute().parents] if p.exists())
    writable = suffix and at == path or at.is_dir() and os.access(at, os.W_OK)
    check("--out", writable, "a place that can be written", path)


@dataclass(frozen=True)
class Demo:
    """Train a latent diffusion model from nothing, draw with it, and measure what it draws."""

    data: str = "auto"  # mnist, fashion-mnist, cifar10, glyphs, folder:PATH; auto is mnist if it can be had
    out: Path | None = None  # folder of results and resumable run; by default runs/demo-DATA
    num: int = 1000  # pictures to draw and measure, 10 to 100000
    seed: int = 0  # of training and drawing
    recipe: Budget = "auto"  # how much to train; auto follows MINILDM_BUDGET, then the hardware
    backbone: Backbone = "auto"  # the denoiser's network; auto is the recipe's own
    objective: Objective = "flow"  # what it learns to predict

    def check(self):
        check_data(self.data, ("auto",))
        check("--num", 10 <= self.num <= 100_000, "10 to 100000", self.num)
        check("--seed", 0 <= self.seed < 2**31, "0 to 2147483647", self.seed)
        check_out(self.out)

    def run(self):
        from minildm.demo import demo

        demo(self.data, self.out, self.num, self.seed, self.recipe, (self.backbone, self.objective))


@dataclass(frozen=True)
class Train:
    """Train a VAE and a denoiser of its latents, and keep the model."""

    data: str = "mnist"  # mnist, fashion-mnist, cifar10, glyphs, scenes, scenes-glyphs or folder:PATH
    out: Path | None = None  # folder of the run and the model; by default runs/train-DATA
    seed: int = 0
    recipe: Budget = "auto"  # how much to train; auto follows MINILDM_BUDGET, then the hardware
    backbone: Backbone = "auto"  # the denoiser's network; auto is the recipe's own
    objective: Objective = "flow"  # what it learns to predict
    captions: bool = False  # draw prompts in the place of labels; of scenes that is always so

    def check(self):
        check_data(self.data, ("scenes", "scenes-glyphs"))
        check("--seed", 0 <= self.seed < 2**31, "0 to 2147483647", self.seed)
        check_out(self.out)

    def run(self):
        from minildm.demo import train_model

        train_model(self.data, self.out, self.seed, self.recipe, (self.backbone, self.objective),
                    self.captions)


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
    sampler: Literal["ddim", "ddpm", "euler", "heun", "dpmpp_2m", "dpmpp_2m_sde"] = "ddim"
    seed: int = 0
    out: Path = Path("samples.png")

    def check(self):
        check("--num", 1 <= self.num <= 10_000, "1 to 10000", self.num)
        check("--steps", self.steps is None or 1 <= self.steps <= 1000, "1 to 1000", self.steps)
        check("--guidance-scale", self.guidance_scale is None or 0 <= self.guidance_scale <= 100, "0 to 100",
              self.guidance_scale)
        check("--seed", 0 <= self.seed < 2**31, "0 to 2147483647", self.seed)
        check("--prompt", not (self.prompt and self.labels), "the place of --labels", " ".join(self.prompt))
        check("--negative", self.prompt or not self.negative, "its place beside --prompt", self.negative)
        check("--labels", all(label >= 0 for label in self.labels), "class numbers from 0", self.labels)
        check_out(self.out, ".png")

    def run(self):
        import torch
        from PIL import Image

        from minildm import plotting
        from minildm.diffusion import samplers
        from minildm.model import LatentDiffusion

        model = self.model or ("scenes" if self.prompt else "mnist")
        pipe = LatentDiffusion.load(model, "cuda" if torch.cuda.is_available() else "cpu")
        every = torch.arange(self.num) % max(1, len(pipe.class_names))
        wanted = self.prompt or (torch.tensor(self.labels) if self.labels else every)
        began, sampler = time.perf_counter(), getattr(samplers, self.sampler)
        images = pipe.generate(wanted, self.steps, self.guidance_scale, self.seed, sampler,
                               negative=self.negative)
        names = self.prompt or [pipe.class_names[i] for i in wanted]
        if images.shape[-1] < 256:
            plotting.show_images(images, names, min(4, len(names)) if self.prompt else None, path=self.out)
        else:                           # large enough to be looked at pixel by pixel
            self.out.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(plotting.grid(images).squeeze()).save(self.out)
        print(f"{len(wanted)} pictures in {time.perf_counter() - began:.1f} s: {self.out}")


@dataclass(frozen=True)
class Evaluate:
    """Measure a samples.npz against the real images, each score beside what real images get."""

    samples: Path = Path("runs/demo-mnist/samples.npz")  # images uint8 (N, H, W[, 3]), labels int (N,)
    data: str = "mnist"  # the set that the samples imitate

    def check(self):
        check_data(self.data)
        exists = "a samples.npz that exists; minildm demo writes one"
        check("--samples", self.samples.is_file(), exists, self.samples)

    def run(self):
        from minildm.demo import evaluate_file

        evaluate_file(self.samples, self.data)


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


Command = Demo | Train | Sample | Evaluate | Bench


def main(argv: list[str] | None = None) -> int:
    """Run a command; the console script exits with what this returns."""
    argv = sys.argv[1:] if argv is None else argv
    debug = "--debug" in argv  # show the traceback of an error
    argv = [word for word in argv if word != "--debug"]
    command = tyro.cli(Command, prog="minildm", args=argv, description=ABOUT)
    try:
        command.check()
        command.run()
        return 0
    except MinildmError as error:
        if debug:
            raise
        print(f"minildm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = "; the same command goes on from the last checkpoint" * isinstance(command, Demo | Train)
        print(f"minildm: interrupted{kept}", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            raise
        print(f"minildm: {type(error).__name__}: {error}", file=sys.stderr)
        print("  this is a bug of ours: --debug shows where", file=sys.stderr)
        return 1
