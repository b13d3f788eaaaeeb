"""What a saved model says of itself: numbers and names, from which its networks are built anew.

`ModelSpec` is the JSON beside the weights. It holds the configurations of the networks, the names
of the schedule and of what the network predicts, guidance without its networks, and the defaults
of sampling. What a model was trained with is not in it: a model is what draws.
"""

import importlib
import math
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import partial

import torch

from minildm import MinildmError
from minildm.diffusion import samplers, schedules
from minildm.diffusion.denoiser import Denoiser, logit_normal, uniform
from minildm.diffusion.fewstep import consistency
from minildm.diffusion.guidance import Autoguidance, Cfg, Interval
from minildm.diffusion.schedules import Schedule
from minildm.films import FilmLatents
from minildm.latents import FeatureLatents, LatentSpace, VAELatents
from minildm.nn.clip import TextConfig
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.training import checkpoint

SCHEDULES = {"linear": schedules.linear, "scaled_linear": schedules.scaled_linear,
             "cosine": schedules.cosine, "flow": schedules.flow}
SAMPLERS = {"ddim": samplers.ddim, "ddpm": samplers.ddpm, "euler": samplers.euler,
            "heun": samplers.heun, "dpmpp_2m": samplers.dpmpp_2m,
            "dpmpp_2m_sde": samplers.dpmpp_2m_sde, "consistency": consistency}
NETWORKS = "minildm.nn."    # the modules that a network's class may come from
# No configuration of ours has a larger number; one that does would be built without end.
LARGEST = 100_000


@dataclass(frozen=True)
class Sampling:
    """How a model draws if nothing else is said."""

    num_inference_steps: int = 30
    time_shift: float = 1.0  # times go through `schedules.shift`; 1 leaves them
    # published models: of "leading" times on their table of betas,
    steps_offset: int | None = None
    # which end at the data, or at the table's first entry
    set_alpha_to_one: bool = True
    sampler: str = "ddim"       # one of SAMPLERS

    def __post_init__(self):
        if self.sampler not in SAMPLERS:
            raise MinildmError(f"there is no sampler {self.sampler!r}", "Sampling",
                               f"choose from {', '.join(SAMPLERS)}")

    @property
    def published(self) -> bool:
        return self.steps_offset is not None


USUAL = Sampling()


@dataclass(frozen=True)
class FeatureSpec:
    """Features drawn beside the latents: see `latents.FeatureLatents`."""

    channels: int
    shift: float = 2.0


@dataclass(frozen=True)
class ModelSpec:
    """Everything but the weights that `LatentDiffusion.load` needs."""

    vae: VAEConfig
    network: object  # the configuration of a network in `minildm.nn`: DiTConfig, ...
    schedule: str = "flow"              # one of SCHEDULES
    prediction_type: str = "flow"
    text: TextConfig | None = None      # None: labels
    features: FeatureSpec | None = None
    guidance: tuple[dict, ...] = ()     # values of `diffusion.guidance`, their networks left out
    sampling: Sampling = USUAL

    def to_json(self) -> dict:
        network = {"class": network_class(self.network).__name__, **asdict(self.network)}
        network["module"] = type(self.network).__module__.removeprefix(NETWORKS)
        return {**asdict(self), "network": network}

    @classmethod
    def from_json(cls, values: dict) -> "ModelSpec":
        """Raises MinildmError for configurations that no model of this package has."""
        check_numbers(values)
        try:
            network = dict(values["network"])
            config = config_class(network.pop("module"), network.pop("class"))
            if unknown := network.keys() - {f.name for f in fields(config)}:
                raise MinildmError(
                    f"no {config.__name__} has {', '.join(sorted(unknown))}",
                    "LatentDiffusion.load",
                    "it was saved by another version: train it again",
                )
            rest = {**values, "network": None}
            rest.pop("guidance", None)
            spec = checkpoint.from_dict(cls, rest)
            guidance = tuple(values.get("guidance", ()))
            return replace(spec, network=checkpoint.from_dict(config, network), guidance=guidance)
        except (KeyError, TypeError, AttributeError) as error:
            raise MinildmError(
                f"this is no configuration of a model: {error!r}",
                "LatentDiffusion.load",
                "it was saved by another version, or is damaged",
            ) from None

    def latent_space(self, vae: AutoencoderKL, image_size: int) -> LatentSpace:
        space = VAELatents(vae, image_size, self.network.multiple)
        if hasattr(self.network, "frames"):
            return FilmLatents(space, self.network.frames, self.network.noise_share)
        if self.features:
            return FeatureLatents(space, self.features.channels, self.features.shift)
        return space

    def denoiser(self, network, space: LatentSpace) -> Denoiser:
        """The network on its schedule, with the training times that belong to what it predicts."""
        return make_denoiser(network, space, self.schedule, self.prediction_type, self.sampling)


def make_denoiser(network, space: LatentSpace, schedule: str, prediction_type: str,
                  sampling: Sampling) -> Denoiser:
    """A denoiser of a latent space. Times are logit-normal for flows, else uniform, and shifted."""
    base = SCHEDULES[schedule]
    on = space.shift_schedule(base) if isinstance(space, FeatureLatents) else base
    draw = logit_normal if prediction_type == "flow" else uniform
    times = partial(shifted_times, draw=draw, by=sampling.time_shift)
    # published networks call our t = 1 / 1000, the first of their table's entries, 0
    t_offset = 1 / 1000 if sampling.published else 0.0
    return Denoiser(network, on, prediction_type, times, t_offset)


def shifted_times(n: int, generator=None, device=None, *, draw=uniform, by: float = 1.0):
    """n training times, moved towards the noise as sampling's are (Esser et al. 2024, eq. 23)."""
    return schedules.shift(draw(n, generator, device), by)


def network_class(config):
    """The network of a configuration: the class of its name without "Config", in its module."""
    module = importlib.import_module(type(config).__module__)
    return getattr(module, type(config).__name__.removesuffix("Config"))


def config_class(module: str, name: str):
    """The configuration's class of a network; nothing outside `minildm.nn` is imported."""
    # a name with a dot could lead out of the folder
    if not module.isidentifier() or not name.isidentifier():
        raise MinildmError(
            f"{module}.{name} is no network", "LatentDiffusion.load", "don't trust this file"
        )
    try:
        found = getattr(importlib.import_module(NETWORKS + module), name + "Config")
    except (ImportError, AttributeError):
        raise MinildmError(f"there is no network {module}.{name}", "LatentDiffusion.load",
                           "update minildm, or add the network's file to minildm/nn") from None
    if not is_dataclass(found):
        raise MinildmError(
            f"{module}.{name} is no network", "LatentDiffusion.load", "don't trust this file"
        )
    return found


def check_numbers(values):
    """Refuse configurations so large or so strange that building them would not end."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list | tuple):
        for value in values:
            check_numbers(value)
    elif isinstance(values, int | float) and not (math.isfinite(values) and abs(values) <= LARGEST):
        raise MinildmError(f"a configuration with {values}", "LatentDiffusion.load",
                           "no model of this package has such numbers: don't trust this file")


def schedule_name(schedule: Schedule) -> str:
    """The name of a denoiser's schedule, channels' shifts aside; it is known by its values."""
    times = torch.linspace(0, 1, 5)
    for name, known in SCHEDULES.items():
        if torch.equal(known.alpha(times), schedule.base.alpha(times)):
            return name
    raise MinildmError("this model's schedule has no name", "LatentDiffusion.save",
                       f"a model that can be saved stands on one of {', '.join(SCHEDULES)}")


# what a saved model's guidance may be made of, by the name that is written down
GUIDANCE = {kind.__name__: kind for kind in (Cfg, Autoguidance, Interval)}


def guides_in(values) -> list[torch.nn.Module]:
    """The networks that guidance holds, however deep."""
    if isinstance(values, torch.nn.Module):
        return [values]
    if is_dataclass(values):
        values = [getattr(values, f.name) for f in fields(values)]
    if not isinstance(values, tuple | list):
        return []
    found = []
    for value in values:
        found += guides_in(value)
    return found


def guidance_to_json(values) -> tuple[dict, ...]:
    """Guidance as JSON: {"kind": "Cfg", "scale": 2.0, ...}; a network in it becomes `true`."""
    def plain(value):
        if isinstance(value, tuple | list):
            return tuple(plain(each) for each in value)
        if not is_dataclass(value):
            return True if isinstance(value, torch.nn.Module) else value
        settings = {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        return {"kind": type(value).__name__, **settings}

    return tuple(plain(value) for value in values)


def guidance_from_json(values, guide: Denoiser | None) -> tuple:
    """The way back. `guide` takes the place of the network that was left out."""
    def real(value):
        if isinstance(value, tuple | list):
            return tuple(real(each) for each in value)
        if not isinstance(value, dict):
            return value
        kind = GUIDANCE.get(value.get("kind"))
        if kind is None:
            raise MinildmError(
                f"there is no guidance {value.get('kind')!r}",
                "LatentDiffusion.load",
                "update minildm: this model was saved by another version",
            )
        settings = {name: real(setting) for name, setting in value.items() if name != "kind"}
        if "guide" in settings:
            if guide is None:
                raise MinildmError("the guide's weights are missing", "LatentDiffusion.load",
                                   "use a whole copy of this folder")
            settings["guide"] = guide
        return kind(**settings)

    if not all(isinstance(value, dict) for value in values):
        raise MinildmError(f"{values!r:.99} is no guidance", "LatentDiffusion.load",
                           "use a whole copy of this folder")
    return tuple(real(value) for value in values)
