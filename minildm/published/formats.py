"""What published files say, in our words: the numbers of their config.json.

What our classes have no structure for is refused, by name and value. So is what no model has: sizes
are looked at before a network is built, since one of a million layers would never be finished.
"""

from pathlib import Path
from typing import NamedTuple

from minildm import MinildmError
from minildm.nn.clip import CLIPConfig, TextConfig, VisionConfig
from minildm.nn.dit import DiTConfig
from minildm.nn.unet import UNetConfig
from minildm.nn.vae import VAEConfig
from minildm.published.files import read_json

# the largest of each kind, a few times what any published model has
WIDEST = 8192       # channels of a layer, heads, tokens
DEEPEST = 64        # layers
LEVELS = 8
CHANNELS = 256      # of pictures and latents
LARGEST = 1_000_000     # words and classes


class Config(dict):
    """What a JSON file says; a key that is asked for and not there is an error that names it."""

    def __init__(self, where, values: dict):
        super().__init__(values)
        self.where = where

    @classmethod
    def read(cls, folder, name: str = "config.json") -> "Config":
        return cls(Path(folder) / name, read_json(Path(folder) / name))

    def __missing__(self, key):
        raise MinildmError(f"{key} is missing", self.where, "is the download whole?")

    def refuse(self, key, value, allowed):
        """Raise MinildmError for a value, naming what is allowed."""
        raise MinildmError(f"{key} is {repr(value)[:99]}, not {allowed}", self.where,
                           "don't trust this file, or take a model of this size")

    def integer(self, key: str, most: int, default: int | None = None, least: int = 1) -> int:
        """A whole number in bounds, looked at before a network of this size is built."""
        value = self[key] if default is None else self.get(key, default)
        # isinstance would let true pass, as 1
        if type(value) is not int or not least <= value <= most:
            self.refuse(key, value, f"a whole number from {least} to {most:,}")
        return value

    def integers(self, key: str, most: int, length: int = LEVELS) -> tuple[int, ...]:
        """A list of whole numbers from 1 to most."""
        values = self[key]
        good = isinstance(values, list | tuple) and 1 <= len(values) <= length
        if not good or not all(type(value) is int and 1 <= value <= most for value in values):
            self.refuse(key, values, f"up to {length} whole numbers from 1 to {most:,}")
        return tuple(values)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number above 0."""
        value = self[key] if default is None else self.get(key, default)
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if not plain or not 0 < value < float("inf"):
            self.refuse(key, value, "a number above 0")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, value, "true or false")
        return value

    def choice(self, key: str, allowed, default: str) -> str:
        value = self.get(key, default)
        if not isinstance(value, str) or value not in allowed:
            what = f"{key}: {repr(value)[:99]} is not one of {', '.join(allowed)}"
            raise MinildmError(what, self.where, "take a model that has one of them")
        return value

    def section(self, key: str) -> "Config":
        """An object inside this one."""
        values = self[key]
        if not isinstance(values, dict):
            self.refuse(key, values, "an object")
        return Config(self.where, values)

    def divides(self, key: str, value: int, *others: int):
        """Refuse a number of heads or groups that the widths can't be divided by."""
        for other in others:
            if other % value:
                self.refuse(key, value, f"a divisor of {other}")

    def check(self, fixed: dict, free: str | None = None):
        """Refuse what we have no structure for: `fixed` keys must have their values, where given.

        With `free`, a list of names, every other key must be off (None, False, 0).
        """
        # keys that begin with _ are diffusers' notes about itself
        others = [] if free is None else [k for k in self if k not in free.split() and k[:1] != "_"]
        for key, wanted in {**dict.fromkeys(others), **fixed}.items():
            value = self.get(key, wanted)
            if value != wanted and (wanted is not None or value):
                what = f"{key} is {repr(value)[:199]}: our classes have no structure for it"
                fix = f"take a model whose {key} is {repr(wanted)[:199]}"
                raise MinildmError(what, self.where, fix)


def vae_config(config: Config) -> VAEConfig:
    """The numbers of a VAE, diffusers' AutoencoderKL."""
    channels = config.integers("block_out_channels", WIDEST)
    levels = len(channels)
    groups = config.integer("norm_num_groups", WIDEST)
    config.divides("norm_num_groups", groups, *channels)
    config.check({"act_fn": "silu", "out_channels": config["in_channels"], "use_quant_conv": True,
                  "use_post_quant_conv": True,
                  "down_block_types": ["DownEncoderBlock2D"] * levels,
                  "up_block_types": ["UpDecoderBlock2D"] * levels},
                 "in_channels block_out_channels layers_per_block latent_channels norm_num_groups "
                 "sample_size scaling_factor force_upcast mid_block_add_attention")
    return VAEConfig(
        in_channels=config.integer("in_channels", CHANNELS),
        latent_channels=config.integer("latent_channels", CHANNELS),
        channels=channels,
        blocks=config.integer("layers_per_block", DEEPEST),
        attention=config.flag("mid_block_add_attention", True),
        groups=groups)


# what all of Stable Diffusion's U-Nets have, and ours
UNET_FIXED = {
    "act_fn": "silu", "norm_eps": 1e-5, "downsample_padding": 1, "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn", "transformer_layers_per_block": 1,
    "resnet_time_scale_shift": "default", "resnet_out_scale_factor": 1, "conv_in_kernel": 3,
    "conv_out_kernel": 3, "time_embedding_type": "positional", "flip_sin_to_cos": True,
    "freq_shift": 0, "attention_type": "default", "addition_embed_type_num_heads": 64}


def unet_config(config: Config) -> UNetConfig:
    """The numbers of a U-Net, diffusers' UNet2DConditionModel: Stable Diffusion 1.x and 2.x.

    By `attention_head_dim` diffusers means the number of heads, one number or one a level. A linear
    projection is a 1 x 1 convolution with the same numbers (see `load`), and attention is float32
    where weights are, so the two flags of 2.x change nothing that is computed.
    """
    channels = config.integers("block_out_channels", WIDEST)
    kinds = config["down_block_types"]
    if not isinstance(kinds, list | tuple) or len(kinds) != len(channels):
        config.refuse("down_block_types", kinds, f"a list of {len(channels)} names")
    attention = tuple(name == "CrossAttnDownBlock2D" for name in kinds)
    down = ["CrossAttnDownBlock2D" if here else "DownBlock2D" for here in attention]
    up = ["CrossAttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attention)]
    config.check({**UNET_FIXED, "down_block_types": down, "up_block_types": up},
                 "in_channels out_channels block_out_channels layers_per_block cross_attention_dim "
                 "norm_num_groups sample_size dropout attention_head_dim use_linear_projection "
                 "upcast_attention")
    for flag in "use_linear_projection", "upcast_attention":
        config.flag(flag, False)
    groups = config.integer("norm_num_groups", WIDEST)
    config.divides("norm_num_groups", groups, *channels)
    return UNetConfig(
        in_channels=config.integer("in_channels", CHANNELS),
        out_channels=config.integer("out_channels", CHANNELS),
        channels=channels,
        attention=attention,
        blocks=config.integer("layers_per_block", DEEPEST),
        context_dim=config.integer("cross_attention_dim", WIDEST),
        heads=heads_of(config, channels),
        groups=groups)


def heads_of(config: Config, channels: tuple[int, ...]) -> int | tuple[int, ...]:
    """The number of attention heads of a U-Net: one for all levels, or a tuple with one each."""
    key = "attention_head_dim"
    if not isinstance(config[key], list | tuple):
        heads = config.integer(key, WIDEST)
        config.divides(key, heads, *channels)
        return heads
    heads = config.integers(key, WIDEST)
    if len(heads) != len(channels):
        config.refuse(key, config[key], f"one number, or {len(channels)}")
    for count, width in zip(heads, channels, strict=True):
        config.divides(key, count, width)
    return heads


def text_config(config: Config) -> TextConfig:
    """The numbers of a text encoder, transformers' CLIPTextModel."""
    # "gelu" is OpenCLIP's: Stable Diffusion 2's tower
    activation = config.choice("hidden_act", ("quick_gelu", "gelu"), "quick_gelu")
    dim, depth, heads = tower(config, activation)
    return TextConfig(
        vocab_size=config.integer("vocab_size", LARGEST),
        length=config.integer("max_position_embeddings", WIDEST),
        dim=dim, depth=depth, heads=heads, activation=activation)


def tower(config: Config, activation: str = "quick_gelu") -> tuple[int, int, int]:
    """Width, depth and heads of a transformer."""
    dim = config.integer("hidden_size", WIDEST)
    heads = config.integer("num_attention_heads", WIDEST)
    config.divides("num_attention_heads", heads, dim)
    config.check({"hidden_act": activation, "layer_norm_eps": 1e-5, "intermediate_size": 4 * dim})
    return dim, config.integer("num_hidden_layers", DEEPEST), heads


def clip_config(config: Config) -> CLIPConfig:
    """The numbers of both towers, transformers' CLIPModel."""
    vision = config.section("vision_config")
    dim, depth, heads = tower(vision)
    side = vision.integer("image_size", WIDEST)
    patch = vision.integer("patch_size", WIDEST)
    vision.divides("patch_size", patch, side)
    pictures = VisionConfig(
        in_channels=vision.integer("num_channels", CHANNELS, default=3),
        image_size=side, patch=patch, dim=dim, depth=depth, heads=heads)
    projection = config.integer("projection_dim", WIDEST)
    return CLIPConfig(text_config(config.section("text_config")), pictures, projection)


def dit_config(config: Config) -> DiTConfig:
    """As diffusers computes: its sinusoid has freq_shift 1, its second norm an eps of its own."""
    config.check({"activation_fn": "gelu-approximate", "attention_bias": True,
                  "norm_type": "ada_norm_zero"},
                 "num_attention_heads attention_head_dim in_channels out_channels num_layers "
                 "dropout norm_num_groups sample_size patch_size num_embeds_ada_norm norm_eps")
    heads = config.integer("num_attention_heads", WIDEST)
    channels = config.integer("in_channels", CHANNELS)
    # null means as many as come in
    out_channels = channels
    if config["out_channels"] is not None:
        out_channels = config.integer("out_channels", 2 * CHANNELS)
    return DiTConfig(
        in_channels=channels,
        out_channels=out_channels,
        dim=heads * config.integer("attention_head_dim", WIDEST // heads),
        depth=config.integer("num_layers", DEEPEST),
        heads=heads,
        patch=config.integer("patch_size", 64),
        num_classes=config.integer("num_embeds_ada_norm", LARGEST),
        freq_shift=1,
        mlp_eps=config.number("norm_eps"))


def image_side(config: Config, default: int = 64) -> int:
    """The side of the latents that a network was trained on."""
    return default if config["sample_size"] is None else config.integer("sample_size", 1024)


class Scheduling(NamedTuple):
    """What a scheduler's file decides; the sampler is the caller's choice."""

    schedule: str
    prediction_type: str
    steps_offset: int
    set_alpha_to_one: bool


def schedule_config(config: Config) -> Scheduling:
    """Betas, prediction type and spacing of one of diffusers' schedulers."""
    off = ("clip_sample thresholding trained_betas rescale_betas_zero_snr use_karras_sigmas "
           "use_lu_lambdas use_exponential_sigmas use_beta_sigmas use_flow_sigmas")
    config.check({"num_train_timesteps": 1000} | dict.fromkeys(off.split()))
    known = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012)}
    kinds = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
    schedule = config.choice("beta_schedule", known, "linear")
    ends = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    if ends != known[schedule]:
        what = f"{(schedule, *ends)!r} is not {(schedule, *known[schedule])!r}"
        raise MinildmError(what[:200], config.where, "take a model with such a schedule")
    config.choice("timestep_spacing", ("leading", "linspace"), "leading")
    # PNDM, which Stable Diffusion was published with, ends at the table's first entry
    to_one = config.get("_class_name") != "PNDMScheduler"
    return Scheduling(
        schedule=schedule,
        prediction_type=kinds[config.choice("prediction_type", kinds, "epsilon")],
        steps_offset=config.integer("steps_offset", 1000, default=0, least=0),
        set_alpha_to_one=config.flag("set_alpha_to_one", to_one))
