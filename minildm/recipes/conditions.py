"""What a denoiser is told with each latent: a set's labels, or sentences that name what is in a
picture.

Sentences want a text tower. It is trained first, beside a vision tower that is then put away
(`clip`).
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from minildm.conditioners import Conditioner, Labels, Prompts
from minildm.data.scenes import captions
from minildm.data.sets import ImageSet
from minildm.data.wordings import wordings
from minildm.latents import padded
from minildm.recipes import clip
from minildm.recipes.stages import Options, fit_to

SENTENCES = 4       # of one scene
PARTIAL = 0.2       # share of scenes' sentences that leave something out


@dataclass(frozen=True, eq=False)
class Told:
    """A conditioner, and what is asked for with each of N latents: see `stages.train_denoiser`."""

    conditioner: Conditioner
    asked: torch.Tensor                         # (N,) labels, or numbers of meanings
    wordings: torch.Tensor | None = None        # (M, W, L) token ids of M meanings
    frozen: tuple[nn.Module, ...] = ()          # the text tower

    @property
    def dim(self) -> int:
        """Width of a token's state; 0 for labels."""
        return self.conditioner.encoder.config.dim if self.frozen else 0


def condition(
    images: ImageSet, options: Options, run_dir=None, mirror: bool | None = False
) -> Told:
    """Labels of a set, or with options.captions sentences that name them; twice over with mirror
    images.
    """
    labels = images.labels.repeat(2 if mirror else 1)
    if not options.captions:
        return Told(Labels(images.class_names, images.labels.device), labels)
    towers, tokenizer, _ = clip.train_clip(fitted(images, options), *clip.pairs_of(images), run_dir,
                                           options.bar)
    return told(towers.text_model, tokenizer, wordings(images), labels)


def sentences_of_scenes(images: ImageSet, options: Options, run_dir=None) -> Told:
    """Each scene is a meaning of its own, of which some sentences say all and some only a part."""
    towers, tokenizer, _ = clip.train_clip(fitted(images, options), *clip.pairs_of(images), run_dir,
                                           options.bar)
    each = [captions(images.truth, seed, partial=PARTIAL) for seed in range(SENTENCES)]
    # no two scenes are alike: each picture is a meaning of its own
    meanings = torch.arange(len(images), device=images.labels.device)
    return told(towers.text_model, tokenizer, list(zip(*each, strict=True)), meanings)


def told(tower, tokenizer, sentences, meanings) -> Told:
    conditioner = Prompts(tower, tokenizer)
    tokens = clip.tokenize(tokenizer, sentences, conditioner.length).to(meanings.device)
    return Told(conditioner, meanings, tokens, (tower,))


def fitted(images: ImageSet, options: Options) -> clip.CLIPRecipe:
    """The CLIP recipe of a set, for its channels and sides, this budget and seed."""
    smoke = options.budget == "smoke"
    if images.truth is not None:
        recipe = clip.RECIPES["scenes-smoke" if smoke else "scenes"]
    else:
        recipe = clip.RECIPES["mnist" if images.images.shape[1] == 1 else "cifar10"]
    vision = recipe.clip.vision
    side = padded(images.images.shape[-1], vision.patch)
    training = fit_to(recipe.training, images, options.seed)
    # what a budget of seconds allows, whatever the recipe says
    if smoke:
        training = replace(training, steps=min(training.steps, 20))
    return replace(recipe, training=training,
                   clip=replace(recipe.clip, vision=replace(vision, image_size=side)))
