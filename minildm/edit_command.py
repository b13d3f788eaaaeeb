"""`minildm edit IMAGE --prompt ...`: one of five ways to change a picture, by its options."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from minildm import MinildmError
from minildm.options import check, check_out_picture, check_seed, expanded

USUAL_STRENGTH = 0.6


@dataclass(frozen=True)
class Edit:
    """Edit a picture: all of it by --strength, a part by --mask or --box, its words by --invert."""

    image: Annotated[Path, tyro.conf.arg(metavar="IMAGE"), tyro.conf.Positional]  # any picture
    prompt: str = ""  # what is wanted; of a model of labels the name or number of a class
    model: str = "scenes"  # a folder of a model, or a name in data/zoo
    mask: Path | None = None  # a picture of the same size, white where to draw anew
    box: tuple[int, int, int, int] | None = None  # x0 y0 x1 y1 to draw anew, in the model's pixels
    move: tuple[int, int] | None = None  # pixels right and down; what comes into view is drawn
    strength: float | None = None  # 0 keeps the picture, 1 forgets it; alone, the default is 0.6
    invert: str | None = None  # what it shows now; --prompt then changes as little as it can
    steps: int | None = None  # of the sampler, 1 to 1000; by default the model's own
    guidance_scale: float | None = None  # by default the model's own; with --invert 1
    seed: int = 0
    out: Path = Path("edited.png")

    def check(self):
        """What can be refused before torch is imported."""
        check("--prompt", bool(self.prompt.strip()), "what is wanted: a sentence, or a class", "''")
        image = expanded("IMAGE", self.image)
        check("IMAGE", image.is_file(), "a picture that exists", self.image)
        ways = [name for name in ("mask", "box", "move", "strength", "invert")
                if getattr(self, name) is not None]
        check("--" + ways[-1] if ways else "", len(ways) <= 1, "its place alone", " ".join(ways))
        if self.mask is not None:
            is_file = expanded("--mask", self.mask).is_file()
            check("--mask", is_file, "a picture that exists", self.mask)
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            inside = 0 <= x0 < x1 and 0 <= y0 < y1
            check("--box", inside, "x0 y0 x1 y1 with 0 <= x0 < x1 and 0 <= y0 < y1", self.box)
        if self.move is not None:
            check("--move", self.move != (0, 0), "pixels, not both 0", self.move)
        if self.strength is not None:
            check("--strength", 0 <= self.strength <= 1, "0 to 1", self.strength)
        if self.invert is not None:
            check("--invert", bool(self.invert.strip()), "what the picture shows now", "''")
        scale, steps = self.guidance_scale, self.steps
        check("--steps", steps is None or 1 <= steps <= 1000, "1 to 1000", steps)
        check("--guidance-scale", scale is None or 0 <= scale <= 100, "0 to 100", scale)
        check_seed(self.seed)
        expanded("--model", Path(self.model))
        check_out_picture(self.out)

    def run(self):
        import torch

        from minildm import edits, samples
        from minildm.data.pictures import read_size
        from minildm.model import LatentDiffusion

        image, out = expanded("IMAGE", self.image), expanded("--out", self.out)
        edits.check_files(image, self.mask and expanded("--mask", self.mask))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = LatentDiffusion.load(self.model, device)
        picture = edits.open_picture(image, model)
        began = time.perf_counter()
        edited = self.edited(model, picture)
        seconds = time.perf_counter() - began
        both = torch.cat([edited.originals.to(edited.images.device), edited.images])
        samples.save_pictures(out, both, ["original", self.prompt], 2)
        side = model.image_size
        own_size = read_size(image)
        resized = "" if own_size == (side, side) else f", resized from {own_size[0]}×{own_size[1]}"
        print(f"edited in {seconds:.1f} s at {side}×{side}{resized}: {out}")

    def edited(self, model, picture):
        """The edit that the options ask for."""
        from minildm import edits

        wanted = condition(model, self.prompt)
        words = {"seed": self.seed, "num_inference_steps": self.steps}
        if self.invert is not None:
            scale = 1.0 if self.guidance_scale is None else self.guidance_scale
            return edits.edit(model, picture, condition(model, self.invert), wanted,
                              guidance_scale=scale, **words)
        words["guidance_scale"] = self.guidance_scale
        if self.move is not None:
            return edits.outpaint(model, picture, self.move, wanted, **words)
        if self.mask is not None:
            mask = edits.open_mask(expanded("--mask", self.mask), model.image_size)
            return edits.inpaint(model, picture, mask, wanted, **words)
        if self.box is not None:
            mask = edits.box_mask(self.box, model.image_size)
            return edits.inpaint(model, picture, mask, wanted, **words)
        strength = USUAL_STRENGTH if self.strength is None else self.strength
        return edits.img2img(model, picture, wanted, strength, **words)


def condition(model, text: str) -> list:
    """What a text asks of a model: the prompt itself, or for a model of labels the number."""
    if not model.class_names or model.spec.text is not None:
        return [text]
    word = text.strip().lower()
    names = [name.lower() for name in model.class_names]
    if word in names:
        return [names.index(word)]
    if word.isdecimal() and int(word) < len(names):
        return [int(word)]
    some = ", ".join(model.class_names[:10])
    raise MinildmError(f"this model draws classes, not sentences, and {text!r} is none", "edit",
                       f"pass one of {some}, or --model with a model of prompts, as scenes")
