"""What published files say, in our words: the names of their tensors, the numbers of their config.json.

Names: a list of (pattern, replacement), each applied in turn. What becomes "" is left out; {qkv} is three
layers stored as one, {T} a matrix stored transposed. diffusers' U-Net needs none: its names are ours.
Numbers: what our classes have no structure for is refused, by name and value.
"""

import json
import re
from pathlib import Path

from minildm import MinildmError
from minildm.nn.clip import CLIPConfig, TextConfig, VisionConfig
from minildm.nn.dit import DiTConfig
from minildm.nn.unet import UNetConfig
from minildm.nn.vae import VAEConfig

VAE_OLD = [(r"\.(query|key|value)\.", lambda m: f".to_{m[1][0]}."), (r"\.proj_attn\.", ".to_out.0.")]
TOWER = [(r".*position_ids$", ""), (r"embeddings\.", ""), (r"encoder\.layers", "blocks"),
         (r"self_attn\.out_proj", "attn1.to_out.0"), (r"self_attn\.([qkv])_proj", r"attn1.to_\1"),
         (r"\.layer_norm([12])", r".norm\1"), (r"mlp\.fc1", "ff.net.0.proj"), (r"mlp\.fc2", "ff.net.2"),
         (r"final_layer_norm", "final_norm"), (r"pre_layrnorm", "pre_norm"), (r"post_layernorm", "post_norm")]
TEXT = [(r"^text_model\.", ""), *TOWER]
OPENAI_CLIP = [
    (r"^(input_resolution|context_length|vocab_size)$", ""),
    (r"^visual\.proj$", "visual_projection.weight{T}"), (r"^text_projection$", "text_projection.weight{T}"),
    (r"^visual\.", "vision_model."), (r"^(transformer|token_e|positional_e|ln_final)", r"text_model.\1"),
    (r"transformer\.resblocks", "blocks"),
    (r"\.positional_embedding$", ".position_embedding.weight"), (r"\.conv1\.", ".patch_embedding."),
    (r"\.attn\.in_proj_", ".attn1.to_{qkv}."), (r"\.attn\.out_proj", ".attn1.to_out.0"),
    (r"\.ln_([12])\.", r".norm\1."), (r"\.ln_(pre|post|final)\.", r".\1_norm."),
    (r"\.c_fc\.", ".ff.net.0.proj."), (r"\.c_proj\.", ".ff.net.2."), (r"\.mlp\.ff", ".ff")]
FIRST = "transformer_blocks.0.norm1.emb."    # diffusers keeps a copy of DiT's embeddings in each block
DIT = [(r"^pos_embed\.pos_embed$", ""), (re.escape(FIRST) + "timestep_embedder", "time_embedding"),
       (re.escape(FIRST) + r"class_embedder\.embedding_table", "class_embedding"),
       (r".*\.norm1\.emb\..*", ""), (r"norm1\.linear", "adaLN")]
DIT_OFFICIAL = [
    (r"^pos_embed$", ""), (r"^x_embedder", "pos_embed"), (r"^y_embedder\.embedding_table", "class_embedding"),
    (r"^t_embedder\.mlp\.0", "time_embedding.linear_1"), (r"^t_embedder\.mlp\.2", "time_embedding.linear_2"),
    (r"^blocks", "transformer_blocks"), (r"attn\.qkv", "attn1.to_{qkv}"), (r"attn\.proj", "attn1.to_out.0"),
    (r"mlp\.fc1", "ff.net.0.proj"), (r"mlp\.fc2", "ff.net.2"), (r"^final_layer\.linear", "proj_out_2"),
    (r"^final_layer\.adaLN_modulation\.1", "proj_out_1"), (r"adaLN_modulation\.1", "adaLN")]
SINGLE_FILE_EXTRAS = re.compile(      # averages, tables and losses of training
    r"model_ema\.|(sqrt_|log_)?(one_minus_|recip_|recipm1_)?alphas_cumprod|betas$|posterior_|lvlb_weights$|"
    r"logvar$|first_stage_model\.loss\.")


def compvis_vae(levels: int) -> list:
    """The VAE of a single file; its way up counts levels from the finest."""
    return [(r"^decoder\.up\.(\d+)", lambda m: f"decoder.up_blocks.{levels - 1 - int(m[1])}"),
            (r"^encoder\.down\.(\d+)", r"encoder.down_blocks.\1"), (r"\.block\.", ".resnets."),
            (r"\.(up|down)sample\.", r".\1samplers.0."), (r"\.nin_shortcut\.", ".conv_shortcut."),
            (r"\.norm_out\.", ".conv_norm_out."), (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
            (r"\.mid\.block_2\.", ".mid_block.resnets.1."), (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
            (r"(attentions\.0)\.norm\.", r"\1.group_norm."), (r"(attentions\.0)\.([qkv])\.", r"\1.to_\2."),
            (r"(attentions\.0)\.proj_out\.", r"\1.to_out.0.")]


def compvis_unet(blocks: int) -> list:
    """The U-Net of a single file, which numbers its blocks through."""
    def block(way, first):
        def name(m):
            level, i = divmod(int(m[1]) - first, blocks + 1)
            part = f"{way}samplers.0.conv" if m[3] else f"{'attentions' if m[2] == '1' else 'resnets'}.{i}"
            return "conv_in." if level < 0 else f"{way}_blocks.{level}.{part}."
        return name

    middle = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
    return [(r"^time_embed\.0", "time_embedding.linear_1"), (r"^time_embed\.2", "time_embedding.linear_2"),
            (r"^out\.0", "conv_norm_out"), (r"^out\.2", "conv_out"),
            (r"^input_blocks\.(\d+)\.(\d)\.(op\.)?", block("down", 1)),
            (r"^output_blocks\.(\d+)\.(\d)\.(conv\.)?", block("up", 0)),
            (r"^middle_block\.(\d)", lambda m: f"mid_block.{middle[m[1]]}"), (r"in_layers\.0", "norm1"),
            (r"in_layers\.2", "conv1"), (r"emb_layers\.1", "time_emb_proj"), (r"out_layers\.0", "norm2"),
            (r"out_layers\.3", "conv2"), (r"skip_connection", "conv_shortcut")]


class Config(dict):
    """What a JSON file says; a key that is asked for and not there is an error that names it."""

    def __init__(self, where: Path, values: dict):
        super().__init__(values)
        self.where = where

    @classmethod
    def read(cls, folder, name: str = "config.json") -> "Config":
        try:
            return cls(Path(folder) / name, json.loads((Path(folder) / name).read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise MinildmError(f"{name} cannot be read: {error}"[:200], folder,
                               "is it in diffusers' layout, and the download whole?") from None

    def __missing__(self, key):
        raise MinildmError(f"{key} is missing", self.where, "is the download whole?")

    def check(self, fixed: dict, free: str | None = None):
        """Refuse what we have no structure for: `fixed` keys must have their values, where they are given.

        With `free`, a list of names, every other key must be off (None, False, 0).
        """
        others = [] if free is None else [k for k in self if k not in free.split() and k[0] != "_"]
        for key, wanted in {**dict.fromkeys(others), **fixed}.items():
            value = self.get(key, wanted)
            if value != wanted and (wanted is not None or value):
                raise MinildmError(f"{key} is {value!r}: our classes have no structure for it", self.where,
                                   f"take a model whose {key} is {wanted!r}")


def vae_config(config: Config) -> VAEConfig:
    n = len(config["block_out_channels"])
    config.check({"act_fn": "silu", "out_channels": config["in_channels"], "use_quant_conv": True,
                  "use_post_quant_conv": True, "down_block_types": ["DownEncoderBlock2D"] * n,
                  "up_block_types": ["UpDecoderBlock2D"] * n},
                 "in_channels block_out_channels layers_per_block latent_channels norm_num_groups "
                 "sample_size scaling_factor force_upcast mid_block_add_attention")
    return VAEConfig(config["in_channels"], config["latent_channels"], tuple(config["block_out_channels"]),
                     config["layers_per_block"], config.get("mid_block_add_attention", True),
                     config["norm_num_groups"])


def unet_config(config: Config) -> UNetConfig:
    """By `attention_head_dim` diffusers means the number of heads; older files hold it alone."""
    heads = config["attention_head_dim"]
    attention = tuple(name == "CrossAttnDownBlock2D" for name in config["down_block_types"])
    config.check({"act_fn": "silu", "norm_eps": 1e-5, "downsample_padding": 1, "mid_block_scale_factor": 1,
                  "mid_block_type": "UNetMidBlock2DCrossAttn", "transformer_layers_per_block": 1,
                  "resnet_time_scale_shift": "default", "resnet_out_scale_factor": 1, "conv_in_kernel": 3,
                  "time_embedding_type": "positional", "conv_out_kernel": 3, "flip_sin_to_cos": True,
                  "freq_shift": 0, "attention_type": "default", "addition_embed_type_num_heads": 64,
                  "attention_head_dim": heads if isinstance(heads, int) else "one number",
                  "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention],
                  "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attention[::-1]]},
                 "in_channels out_channels block_out_channels layers_per_block cross_attention_dim "
                 "norm_num_groups sample_size dropout")
    return UNetConfig(config["in_channels"], config["out_channels"], tuple(config["block_out_channels"]),
                      attention, config["layers_per_block"], config["cross_attention_dim"],
                      heads, config["norm_num_groups"])


def text_config(config: Config) -> TextConfig:
    return TextConfig(config["vocab_size"], config["max_position_embeddings"], *tower(config))


def tower(config: Config) -> tuple[int, int, int]:
    config.check({"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
                  "intermediate_size": 4 * config["hidden_size"]})
    return config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]


def clip_config(config: Config) -> CLIPConfig:
    text, vision = (Config(config.where, config[name]) for name in ("text_config", "vision_config"))
    return CLIPConfig(text_config(text), VisionConfig(vision.get("num_channels", 3), vision["image_size"],
                                                      vision["patch_size"], *tower(vision)),
                      config["projection_dim"])


def dit_config(config: Config) -> DiTConfig:
    """As diffusers computes: its time's sinusoid has freq_shift 1, its second norm an eps of its own."""
    config.check({"activation_fn": "gelu-approximate", "attention_bias": True, "norm_type": "ada_norm_zero"},
                 "num_attention_heads attention_head_dim in_channels out_channels num_layers dropout "
                 "norm_num_groups sample_size patch_size num_embeds_ada_norm norm_eps")
    heads = config["num_attention_heads"]
    return DiTConfig(config["in_channels"], config["out_channels"] or config["in_channels"],
                     heads * config["attention_head_dim"], config["num_layers"], heads, config["patch_size"],
                     config["num_embeds_ada_norm"], freq_shift=1, mlp_eps=config["norm_eps"])


def schedule_config(config: Config) -> dict:
    """The fields of a Recipe that a scheduler's file decides; the sampler is the caller's choice."""
    off = ("clip_sample thresholding trained_betas rescale_betas_zero_snr use_karras_sigmas use_lu_lambdas "
           "use_exponential_sigmas use_beta_sigmas use_flow_sigmas")
    config.check({"num_train_timesteps": 1000} | dict.fromkeys(off.split()))
    known = {("linear", 1e-4, 0.02): "linear", ("scaled_linear", 0.00085, 0.012): "scaled_linear"}
    betas = tuple(config.get(f"beta_{key}", default) for key, default in
                  (("schedule", "linear"), ("start", 1e-4), ("end", 0.02)))
    kinds = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
    kind, spacing = config.get("prediction_type", "epsilon"), config.get("timestep_spacing", "leading")
    for value, allowed in (betas, known), (kind, kinds), (spacing, ("leading", "linspace")):
        if value not in allowed:
            raise MinildmError(f"{value!r} is not one of {', '.join(map(str, allowed))}", config.where,
                               "take a model with such a schedule")
    return {"schedule": known[betas], "prediction_type": kinds[kind],
            "steps_offset": config.get("steps_offset", 0),
            "set_alpha_to_one": config.get("set_alpha_to_one", config.get("_class_name") != "PNDMScheduler")}
