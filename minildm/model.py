"""Latent diffusion from end to end: label or prompt -> noise -> latent -> picture (Rombach et al. 2022).

    LatentDiffusion.load("mnist").generate([3, 1, 4])
    LatentDiffusion.load("scenes").generate(["a red three left of a blue eight"], negative="green")

Picture k of seed s is the same whatever else is drawn beside it: its noise depends on (s, k) alone.
"""

import functools
from dataclasses import asdict, replace
from pathlib import Path

import torch

from minildm import ZOO, MinildmError
from minildm.data.scenes import captions
from minildm.data.sets import ImageSet
from minildm.data.tokenizer import Tokenizer
from minildm.data.wordings import wordings
from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.guidance import autoguidance, cfg
from minildm.diffusion.samplers import ddim, ddpm, last
from minildm.diffusion.schedules import leading_grid, rounded_grid, shift, time_grid
from minildm.evaluation.classifier import components
from minildm.images import crop_to, pad_to
from minildm.nn.clip import TextTransformer
from minildm.nn.dit import DiTConfig
from minildm.nn.vae import AutoencoderKL
from minildm.published.load import load_pipeline
from minildm.recipes import clip
from minildm.recipes import stages as recipes
from minildm.recipes.clip import pairs_of, tokenize, train_clip
from minildm.recipes.stages import (
    Recipe,
    build,
    encode_all,
    eyes,
    for_data,
    train_denoiser,
    train_vae,
)
from minildm.training import checkpoint
from minildm.training.loop import fit, gains_from_bf16, generator_for
from minildm.training.monitor import check_spread

PIXELS = 512**2     # decoded at once: one picture of Stable Diffusion's
PAIRS = 64**4       # of latent positions, over the pictures drawn at once: again one of its


class LatentDiffusion:
    """A VAE and a denoiser of its latents, with what they were trained on.

    With a text encoder, ids (B, L) -> (states (B, L, D), pooled), and its tokenizer it draws prompts, else
    labels. `dtype` is what it computes in; None: float32, with products in bf16 where that is faster.
    `weak` is a lesser denoiser of the same latents and labels, whose mistakes guidance leads away from.
    """

    def __init__(self, recipe: Recipe, vae: AutoencoderKL, denoiser: Denoiser, class_names, image_size: int,
                 text_encoder=None, tokenizer=None, dtype: torch.dtype | None = None,
                 weak: Denoiser | None = None):
        self.recipe, self.vae, self.denoiser = recipe, vae.eval(), denoiser.eval()
        self.weak = weak and weak.eval()
        self.text_encoder, self.tokenizer = text_encoder and text_encoder.eval(), tokenizer
        self.class_names, self.image_size, self.dtype = tuple(class_names), image_size, dtype

    @property
    def device(self):
        return self.vae.latent_mean.device

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of what is drawn: a latent, and the recipe's features beside it."""
        side = padded(self.image_size, self.recipe) // self.vae.config.factor
        return self.vae.config.latent_channels + self.recipe.features, side, side

    def noise(self, n: int, seed: int = 0, first: int = 0):
        """Starting noise of pictures first .. first + n - 1 of a seed, (n, c, h, w)."""
        generators = [generator_for(seed, "image", first + k) for k in range(n)]
        return torch.stack([torch.randn(self.latent_shape, generator=g) for g in generators]).to(self.device)

    @torch.no_grad()
    def decode(self, latents):
        """Normalised latents -> images (B, C, size, size) in [-1, 1], so many at once as fit in memory.

        Features beside the latents, which a denoiser may draw, are left aside.
        """
        latents = latents[:, :self.vae.config.latent_channels]
        parts = self.vae.denormalise(latents).split(max(1, PIXELS // self.image_size**2))
        images = torch.cat([self.vae.decode(z).float().clamp(-1, 1) for z in parts])
        return crop_to(images, self.image_size)

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]):
        """Prompts -> the states of their tokens (N, L, D), padding's too: all are attended to, as in CLIP."""
        ids = self.tokenizer(list(prompts), self.text_encoder.config.length)
        return self.text_encoder(ids.to(self.device))[0]

    def conditions(self, wanted, negative: str = ""):
        """Labels or prompts, and what guidance leads away from: no class, or the negative prompt."""
        if isinstance(wanted, str) or not len(wanted):
            raise MinildmError(f"{wanted!r} is no list of prompts or labels", "generate",
                               'pass ["a red three"], or [3]')
        said = [isinstance(word, str) for word in wanted]
        if self.text_encoder is not None:
            if not all(said):
                raise MinildmError("this model draws prompts, not labels", "generate",
                                   'pass a list of sentences: ["a red three"]')
            return self.encode_prompts(wanted), self.encode_prompts([negative] * len(wanted))
        if any(said) or negative:
            raise MinildmError("this model knows no words, it draws labels", "generate",
                               f"use 0..{len(self.class_names) - 1}: {', '.join(self.class_names)}")
        labels = torch.as_tensor(wanted, device=self.device)
        if len(labels) and not (0 <= labels.min() and labels.max() < len(self.class_names)):
            raise MinildmError(f"labels {labels.min()}..{labels.max()} are not all classes", "generate",
                               f"use 0..{len(self.class_names) - 1}: {', '.join(self.class_names)}")
        return labels, torch.full_like(labels, self.denoiser.network.null_class)

    def times(self, n: int | None = None, sampler=ddim):
        """The times of n steps, (n + 1,): for published models those of diffusers' scheduler of that name."""
        n, offset = self.recipe.num_inference_steps if n is None else n, self.recipe.steps_offset
        if offset is None:
            ts = shift(time_grid(n), self.recipe.shift)
        elif sampler in (ddim, ddpm):
            ts = leading_grid(n, offset, 0.0 if self.recipe.set_alpha_to_one else 1 / 1000)
        else:
            ts = rounded_grid(n)
        return ts.to(self.device)

    @torch.no_grad()
    def generate(self, wanted, num_inference_steps: int | None = None, guidance_scale: float | None = None,
                 seed: int = 0, sampler=ddim, batch_size: int | None = None, negative: str = ""):
        """Draw one picture a label, or a prompt: N of them -> float images (N, C, size, size) in [-1, 1].

        By default 250 at once, or fewer of large latents, whose positions all look at each other. The
        guidance scale is that of the labels or prompts; a weak model's is the recipe's.
        """
        context, null = self.conditions(wanted, negative)
        ts = self.times(num_inference_steps, sampler)
        scale = self.recipe.guidance_scale if guidance_scale is None else guidance_scale
        pairs = (self.latent_shape[1] * self.latent_shape[2])**2
        batch_size, images = batch_size or min(250, max(1, PAIRS // pairs)), []
        mixed = self.dtype is None and gains_from_bf16(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            for first in range(0, len(context), batch_size):
                part = slice(first, first + batch_size)
                noise = self.noise(len(context[part]), seed, first)
                denoise = cfg(self.denoiser, context[part], null[part], scale)
                if self.weak:
                    lesser = functools.partial(self.weak, context=context[part])
                    denoise = autoguidance(denoise, lesser, self.recipe.weak_scale, self.recipe.weak_phi,
                                           self.vae.config.latent_channels)
                images.append(self.decode(last(sampler(denoise, self.denoiser.schedule, noise, ts))))
        return torch.cat(images)

    def save(self, folder, measured: dict | None = None):
        """One folder: weights as fp16, the recipe, class names, and what was measured."""
        if self.recipe.training is None:
            raise MinildmError("published weights are not saved anew", folder, "copy the folder they are in")
        tensors = {f"vae.{k}": t.half() for k, t in self.vae.state_dict().items()}
        tensors |= {f"denoiser.{k}": t.half() for k, t in self.denoiser.state_dict().items()}
        if self.weak:
            tensors |= {f"weak.{k}": t.half() for k, t in self.weak.state_dict().items()}
        meta = {"recipe": asdict(self.recipe), "class_names": self.class_names,
                "image_size": self.image_size, "measured": measured or {}}
        if self.text_encoder is not None:
            tensors |= {f"text.{k}": t.half() for k, t in self.text_encoder.state_dict().items()}
            meta["merges"] = self.tokenizer.merges
        checkpoint.save(folder, tensors, meta)

    @classmethod
    def load(cls, folder, device="cpu", dtype: torch.dtype | None = None) -> "LatentDiffusion":
        """From a folder that `save` wrote, or by name from the zoo of trained models.

        A folder in diffusers' layout, or a file of Stable Diffusion 1.x, is loaded by `pretrained`;
        `dtype` is that of the weights, by default bf16 for published ones where that is faster.
        """
        path = Path(folder)
        if path.is_file() or (path / "model_index.json").is_file():
            return cls(*load_pipeline(path, dtype, device))
        path = path if path.is_dir() else ZOO / str(folder)
        if not path.is_dir():
            raise MinildmError(f"there is no model {str(folder)!r}", ZOO,
                               "pass a folder that holds one, or train it: minildm demo")
        tensors, meta = checkpoint.load(path)
        recipe = checkpoint.from_dict(Recipe, meta["recipe"])
        vae, denoiser = build(recipe)
        parts, text, tokenizer = {"vae.": vae, "denoiser.": denoiser}, None, None
        if recipe.text:
            text = parts["text."] = TextTransformer(recipe.text.clip.text)
            tokenizer = Tokenizer([tuple(m) for m in meta["merges"]])
        if recipe.weak_step:
            parts["weak."] = build(recipe)[1]
        for name, module in parts.items():
            own = {k.removeprefix(name): t.float() for k, t in tensors.items() if k.startswith(name)}
            module.load_state_dict(own)
            module.to(device, dtype)
        return cls(recipe, vae, denoiser, meta["class_names"], meta["image_size"], text, tokenizer, dtype,
                   parts.get("weak."))


def padded(size: int, recipe: Recipe) -> int:
    """The side that the networks see: the next multiple of what VAE and denoiser divide by (28 -> 32)."""
    multiple = recipe.vae.factor * recipe.network.multiple
    return -(-size // multiple) * multiple


def with_captions(recipe: Recipe, images: ImageSet) -> Recipe:
    """A row for labels made one for prompts: with a CLIP of the set, whose tokens the network attends to."""
    if recipe.text:
        return recipe
    recipe = for_data(recipe, images)
    text = clip.RECIPES["mnist" if images.images.shape[1] == 1 else "cifar10"]
    side = -(-images.images.shape[-1] // text.clip.vision.patch) * text.clip.vision.patch
    towers = replace(text.clip, vision=replace(text.clip.vision, image_size=side))
    training = replace(text.training, steps=min(text.training.steps, recipe.training.steps))
    tokens = {"num_classes": 0, "context_dim": towers.text.dim}
    if isinstance(recipe.network, DiTConfig):
        tokens["cross_attention"] = True
    return replace(recipe, network=replace(recipe.network, **tokens),
                   text=replace(text, clip=towers, training=training))


def train(recipe: Recipe, data: ImageSet, run_dir=None, bar: bool = True):
    """Train every stage on a set, going on where run_dir stopped: (pipeline, VAE's metrics, denoiser's)."""
    recipe = for_data(recipe, data)
    vae, denoiser = (module.to(data.images.device) for module in build(recipe))
    images = pad_to(data.images, padded(data.images.shape[-1], recipe))
    stage = {k: Path(run_dir) / k if run_dir else None for k in ("vae", "text", "denoiser")}
    vae_metrics = train_vae(vae, images, recipe, stage["vae"], bar)
    labels = data.labels
    if recipe.mirror:
        images, labels = torch.cat([images, images.flip(-1)]), labels.repeat(2)
    latents = encode_all(vae.eval(), images)
    if recipe.features:
        more = components(eyes(images), images, recipe.features, latents[0].shape[-1])
        latents = [torch.cat(pair, 1) for pair in zip(latents, (more, torch.zeros_like(more)), strict=True)]
    weak = build(recipe)[1].to(data.images.device) if recipe.weak_step else None
    text = tokenizer = None
    if recipe.text:
        both, tokenizer, _ = train_clip(recipe.text, *pairs_of(data), stage["text"], bar)
        text, recipe = both.text_model, replace(recipe, text=replace(recipe.text, clip=both.config))
        metrics = train_on_captions(denoiser, text, tokenizer, latents, data, recipe, stage["denoiser"], bar,
                                    weak)
    else:
        metrics = train_denoiser(denoiser, latents, labels, recipe, stage["denoiser"], bar, weak)
    size = data.images.shape[-1]
    pipe = LatentDiffusion(recipe, vae, denoiser, data.class_names, size, text, tokenizer, weak=weak)
    return pipe, vae_metrics, metrics


def train_on_captions(denoiser: Denoiser, text: TextTransformer, tokenizer: Tokenizer, latents,
                      data: ImageSet, recipe: Recipe, run_dir=None, bar: bool = True,
                      weak: Denoiser | None = None) -> dict:
    """Train on the latents of `encode_all` and the states of captions' tokens. Returns the metrics.

    The text tower stays as it is, as Stable Diffusion's does. Each picture has some wordings, one of which is
    drawn each time; a tenth are replaced by the empty one, whose states are then what guidance leads away
    from (Ho & Salimans 2022, alg. 1). Of scenes a fifth leave something out, so that a word alone means
    something, too.
    """
    check_spread(*latents, bar)
    device, length = data.images.device, text.config.length
    if data.truth is None:
        sentences, meanings = wordings(data), data.labels
    else:
        sentences = list(zip(*(captions(data.truth, seed, partial=0.2) for seed in range(4)), strict=True))
        meanings = torch.arange(len(data), device=device)
    ids = tokenize(tokenizer, sentences, length).to(device)                               # (M, wordings, L)
    meanings = meanings.repeat(len(latents[0]) // len(meanings))                          # mirrored ones, too
    empty = tokenizer([""], length).to(device)

    def loss(mean, std, meaning, generator):
        n = len(meaning)
        noise = torch.randn(mean.shape, generator=generator, device=device)
        which = torch.randint(ids.shape[1], (n,), generator=generator, device=device)
        dropped = torch.rand(n, 1, generator=generator, device=device) < 0.1
        with torch.no_grad():
            states = text(torch.where(dropped, empty, ids[meaning, which]))[0]            # (B, L, D)
        return denoiser.loss(mean + std * noise, states, generator, drop=0)

    identity = {**recipes.identity_of(recipe), "text": asdict(text.config)}
    return fit(denoiser, loss, (*latents, meanings), recipe.training, run_dir, bar, identity,
               snapshot=weak and (recipe.weak_step, weak))
