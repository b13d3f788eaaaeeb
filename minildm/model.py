"""Latent diffusion from end to end: label or prompt -> noise -> latent -> picture.

(Rombach et al. 2022, arXiv:2112.10752.)

    LatentDiffusion.load("mnist").generate([3, 1, 4])
    LatentDiffusion.load("scenes").generate(["a red three left of a blue eight"], negative="green")

A trained model is a latent space, a denoiser that works there, a conditioner that tells it what is
asked for, and guidance, which is a value: `model.guidance = (Cfg(1.4), Autoguidance(guide, 2.4))`.
Picture k of seed s is the same whatever else is drawn beside it, with every sampler and batch
size: all of its noise depends on (s, k) and the step alone.
"""

import functools
import inspect
import math
from pathlib import Path

import torch

from minildm import MinildmError, saved
from minildm.conditioners import Conditioner, Prompts
from minildm.data.tokenizer import Tokenizer
from minildm.devices import room, to_device
from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.guidance import Cfg, as_tuple, guided, has_cfg, with_guides, with_scale
from minildm.diffusion.recorded import CudaGraphs, Recorder
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import leading_grid, rounded_grid, shift, time_grid
from minildm.latents import FeatureLatents, LatentSpace
from minildm.nn.clip import TextTransformer
from minildm.nn.vae import AutoencoderKL
from minildm.spec import (
    SAMPLERS,
    USUAL,
    FeatureSpec,
    ModelSpec,
    Sampling,
    guidance_to_json,
    guides_in,
    schedule_name,
)
from minildm.training import checkpoint
from minildm.training.loop import gains_from_bf16, generator_for, seed_for

# pairs of latent positions, over the pictures drawn at once: as many as one of Stable Diffusion's
PAIRS = 64**4
AT_ONCE = 250       # pictures drawn at once, at most; a large GPU takes as many times more as it is
DEFAULT = object()  # `generate(guidance=DEFAULT)` is the model's own; None is off
# On a published table diffusers spaces the schedulers of these names "linspace", others "leading".
LINSPACE = ("euler", "heun", "dpmpp_2m", "dpmpp_2m_sde")


class LatentDiffusion:
    """What a trained model is: its parts, and how it draws with them.

    `guidance` is a tuple of values of `diffusion.guidance`, or (): the denoiser alone. `sampling`
    holds the defaults of drawing. `dtype` is what is computed in; None: float32, with products in
    bf16 where that is faster. `facts` is anything JSON can hold: what was measured, how long it
    trained.
    """

    def __init__(self, *, latent_space: LatentSpace, denoiser: Denoiser, conditioner: Conditioner,
                 guidance=(), sampling: Sampling = USUAL, class_names=(),
                 dtype: torch.dtype | None = None, facts: dict | None = None):
        self.latent_space = latent_space
        self.denoiser = denoiser.eval()
        self.conditioner = conditioner
        self.guidance = as_tuple(guidance)
        self.sampling = sampling
        self.class_names = tuple(class_names)
        self.dtype = dtype
        self.facts = facts or {}

    @property
    def guidance(self) -> tuple:
        """A tuple of values of `diffusion.guidance`; one value or None may be assigned as well."""
        return self._guidance

    @guidance.setter
    def guidance(self, guidance):
        self._guidance = as_tuple(guidance)
        for guide in guides_in(self._guidance):
            guide.eval()

    @property
    def vae(self) -> AutoencoderKL:
        return self.latent_space.vae

    @property
    def image_size(self) -> int:
        return self.latent_space.image_size

    @property
    def text_encoder(self) -> TextTransformer:
        return self.conditioner.encoder

    @property
    def tokenizer(self) -> Tokenizer:
        return self.conditioner.tokenizer

    @property
    def device(self) -> torch.device:
        return self.vae.latent_mean.device

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of what is drawn."""
        return self.latent_space.shape

    @property
    def spec(self) -> ModelSpec:
        """What `save` writes beside the weights."""
        space = self.latent_space
        with_features = isinstance(space, FeatureLatents)
        return ModelSpec(
            vae=self.vae.config,
            network=self.denoiser.network.config,
            schedule=schedule_name(self.denoiser.schedule),
            prediction_type=self.denoiser.prediction_type,
            text=self.text_encoder.config if isinstance(self.conditioner, Prompts) else None,
            features=FeatureSpec(space.channels, space.feature_shift) if with_features else None,
            guidance=guidance_to_json(self.guidance),
            sampling=self.sampling)

    def noise(self, n: int, seed: int = 0, first: int = 0, step: int | None = None):
        """Noise (n, c, h, w) of a seed's pictures from `first` on: to start from, or of a step."""
        at = () if step is None else ("step", step)
        noise = torch.empty(n, *self.latent_shape)
        generator = torch.Generator()
        for k in range(n):
            generator.manual_seed(seed_for(seed, "image", first + k, *at))
            noise[k] = self.latent_space.noise(generator)
        return to_device(noise, self.device)

    def decode(self, latents):
        """Normalised latents (N, c, h, w) -> images (N, C, size, size) in [-1, 1]."""
        return self.latent_space.decode(latents)

    def encode_prompts(self, prompts: list[str]):
        """Prompts -> the states of their tokens (N, L, D)."""
        return self.conditioner.embed(self.conditioner.read(prompts))

    def conditions(self, wanted, negative: str = ""):
        """The contexts of N labels or prompts, and N nulls that guidance leads away from."""
        context = self.conditioner.embed(self.conditioner.read(wanted))
        return context, self.conditioner.null(len(context), negative)

    def times(self, n: int | None = None, sampler=ddim):
        """The times of n steps, (n + 1,), from 1 (noise) down to 0 (data), on the CPU.

        Published models use diffusers' spacing of the sampler: its attribute `grid`, "leading" or
        "linspace", says which; without one, `LINSPACE` names those of the second kind.
        """
        n = self.sampling.num_inference_steps if n is None else n
        if not self.sampling.published:
            return shift(time_grid(n), self.sampling.time_shift)
        if grid_of(sampler) == "leading":
            end = 0.0 if self.sampling.set_alpha_to_one else 1 / 1000
            return leading_grid(n, self.sampling.steps_offset, end)
        return rounded_grid(n)

    def guidance_of(self, guidance=DEFAULT, guidance_scale: float | None = None) -> tuple:
        """The guidance that `generate` uses: the model's own, another, or none.

        guidance_scale is short for another scale of the model's `Cfg`; 1 is off, whatever the
        model has.
        """
        if guidance_scale is None:
            return self.guidance if guidance is DEFAULT else as_tuple(guidance)
        if guidance is not DEFAULT:
            raise MinildmError("guidance and guidance_scale are both given", "generate",
                               "pass one of them")
        # off means off: no guide speaks, either
        if guidance_scale == 1:
            return ()
        if not has_cfg(self.guidance):
            return (Cfg(guidance_scale), *self.guidance)
        return with_scale(self.guidance, guidance_scale)

    @torch.no_grad()
    def generate(self, wanted, num_inference_steps: int | None = None, *, guidance=DEFAULT,
                 guidance_scale: float | None = None, seed: int = 0, sampler=None,
                 batch_size: int | None = None, negative: str = "", record: bool = True,
                 first: int = 0):
        """Draw one picture a label, or a prompt -> float images (N, C, size, size) in [-1, 1].

        The pictures are those of the seed from number `first` on.
        By default 250 at once on a CPU and more on a large GPU, or fewer of large latents, whose
        positions all look at each other. On CUDA the networks' calls are recorded and replayed
        (`diffusion.recorded`), but for `record=False`. Raises MinildmError for what can't be drawn,
        and for networks that answer with NaN.
        """
        context, null = self.conditions(wanted, negative)
        guidance = self.guidance_of(guidance, guidance_scale)
        sampler = sampler or SAMPLERS[self.sampling.sampler]
        ts = self.times(num_inference_steps, sampler)
        batch_size = batch_size or self._at_once(len(context))
        denoiser, guidance = self._recorded(guidance, record)
        mixed = self.dtype is None and gains_from_bf16(self.device)
        images = []
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            for begin in range(0, len(context), batch_size):
                part = slice(begin, begin + batch_size)
                n = len(context[part])
                denoise = guided(denoiser, context[part], null[part], guidance)
                sources = self._noise_sources(sampler, n, seed, first + begin)
                noise = self.noise(n, seed, first + begin)
                latents = last(sampler(denoise, self.denoiser.schedule, noise, ts, **sources))
                images.append(self.decode(latents))
        images = torch.cat(images)
        # asked of the pictures, not of all weights at each call: it costs nothing, and here the
        # CPU waits for a GPU for the first time
        if not images.isfinite().all():
            raise MinildmError("this model draws NaN or infinity", "generate",
                               saved.first_broken(self._modules()))
        return images

    def _at_once(self, n: int) -> int:
        """How many of n pictures are drawn at once."""
        height, width = self.latent_shape[-2:]
        rooms = room(self.device)
        # attention costs memory by pairs of positions: large latents are drawn a few at a time
        most = min(AT_ONCE * rooms, max(1, PAIRS * rooms // (height * width)**2))
        if self.device.type == "cpu":
            return most
        # parts of one size: a recording serves one size
        parts = math.ceil(n / most)
        return math.ceil(n / parts)

    def _recorded(self, guidance: tuple, record: bool):
        """The denoiser and the guidance as a GPU is best asked for them; on a CPU as they are."""
        if self.device.type != "cuda":
            return self.denoiser, guidance
        recorder = Recorder(CudaGraphs(self.device) if record else None)
        return recorder(self.denoiser), with_guides(guidance, recorder)

    def _noise_sources(self, sampler, n: int, seed: int, first: int) -> dict:
        """Where a sampler that draws gets its noise: from (seed, picture, step)."""
        takes = inspect.signature(sampler).parameters
        if "noise_sampler" in takes:
            return {"noise_sampler": lambda i: self.noise(n, seed, first, step=i)}
        # a sampler of somebody's own: at least the seed counts
        if "generator" in takes:
            return {"generator": generator_for(seed, "batch", first, device=self.device)}
        return {}

    def _modules(self) -> dict[str, torch.nn.Module]:
        """The networks by the names that their weights are saved under."""
        modules = {"vae": self.vae, "denoiser": self.denoiser}
        if guides := guides_in(self.guidance):
            modules["guide"] = guides[0]
        if isinstance(self.conditioner, Prompts):
            modules["text"] = self.conditioner.encoder
        return modules

    def save(self, folder, facts: dict | None = None):
        """Write one folder: weights as fp16, the `ModelSpec`, class names, facts.

        Raises MinildmError, before anything is written, for weights that fp16 can't hold, and for
        guides that the folder has no place for.
        """
        if self.sampling.published:
            raise MinildmError("published weights are not saved anew", folder,
                               "copy the folder they are in")
        for guide in guides_in(self.guidance):
            # one set of weights is kept, for a network built as the denoiser's is
            first = guide is guides_in(self.guidance)[0]
            if not first or guide.network.config != self.denoiser.network.config:
                raise MinildmError("guidance holds more than one network of the denoiser's form",
                                   folder, "save with one guide of the denoiser's configuration")
        tensors = saved.half(saved.tensors_of(self._modules()), folder)
        meta = {"model": self.spec.to_json(), "class_names": self.class_names,
                "image_size": self.image_size, "facts": {**self.facts, **(facts or {})}}
        if isinstance(self.conditioner, Prompts):
            meta["merges"] = self.tokenizer.merges
        checkpoint.save(folder, tensors, meta)

    @classmethod
    def load(cls, folder, device="cpu", dtype: torch.dtype | None = None) -> "LatentDiffusion":
        """Load a folder that `save` wrote, or a model of the zoo by its name.

        A folder in diffusers' layout, or a file of Stable Diffusion 1.x, is loaded by `published`;
        `dtype` is that of the weights, by default bf16 for published ones where that is faster.
        """
        path = Path(folder)
        if path.is_file() or (path / "model_index.json").is_file():
            # that wing stands above this file, and is needed for such folders alone
            from minildm.published.load import load_pipeline

            return load_pipeline(path, dtype, device)
        return cls(**saved.load_parts(folder, device, dtype))


def grid_of(sampler) -> str:
    """The spacing of a sampler's times on a published table: "leading" or "linspace"."""
    while isinstance(sampler, functools.partial):
        sampler = sampler.func
    name = getattr(sampler, "__name__", "")
    return getattr(sampler, "grid", "linspace" if name in LINSPACE else "leading")
