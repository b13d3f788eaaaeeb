"""What lesson 12 and its benchmark draw under control, and how they judge it."""

from dataclasses import dataclass, replace

import torch

from minildm.course.edited import other_colours
from minildm.data.maps import edge_f1, edges
from minildm.data.scenes import Truth, agreement, captions, compose, detect
from minildm.diffusion.guidance import cfg
from minildm.diffusion.samplers import ddim, last
from minildm.images import to_float

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)      # of the control, where it is turned like a dial


@dataclass(frozen=True)
class Scenes:
    """Composed scenes, uint8 (N, 3, 32, 32), what stands in them, and a sentence about each."""

    images: torch.Tensor
    truth: Truth
    prompts: list[str]

    def __len__(self):
        return len(self.images)

    @property
    def pixels(self):
        """The pictures in [-1, 1]."""
        return to_float(self.images)


def some_scenes(digits, n: int, seed: int = 0) -> Scenes:
    """n scenes composed of an ImageSet's digits, none with a combination that training lacks."""
    images, truth = compose(digits.images, digits.labels, n, seed, held_out=False)
    return Scenes(images, truth, captions(truth, seed))


def other_words(scenes: Scenes, what: str, seed: int = 0) -> Scenes:
    """The same pictures, asked for in another "colour", or with other digits ("digit")."""
    generator = torch.Generator().manual_seed(seed)
    truth = scenes.truth
    if what == "colour":
        truth = replace(truth, colours=other_colours(truth.colours, generator))
    else:
        by = torch.randint(1, 10, truth.digits.shape, generator=generator)
        new = (truth.digits + by) % 10
        truth = replace(truth, digits=torch.where(truth.digits >= 0, new, truth.digits))
    return Scenes(scenes.images, truth, captions(truth, seed))


@torch.no_grad()
def draw(model, denoiser, prompts: list[str], scale: float = 4.0, steps: int = 20, seed: int = 0):
    """Pictures of prompts by any denoiser(x, t, context) in the model's latent space."""
    context, null = model.conditions(prompts)
    denoise = cfg(denoiser, context, null, scale)
    noise = model.noise(len(prompts), seed)
    return model.decode(last(ddim(denoise, model.denoiser.schedule, noise, model.times(steps))))


def judged(drawn, scenes: Scenes, classifier) -> dict[str, float]:
    """The mean F1 of the edges, one pixel's play and none, and the shares drawn as asked."""
    found, wanted = edges(drawn), edges(scenes.pixels)
    right = agreement(detect(drawn, classifier), scenes.truth)
    shares = {name: right[name].float().mean().item() for name in ("digit", "colour", "place", "all")}
    return {"edges": edge_f1(found, wanted).mean().item(),
            "exact": edge_f1(found, wanted, tolerance=0).mean().item(), **shares}
