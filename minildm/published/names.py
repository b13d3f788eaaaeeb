"""What published files call their tensors, in our names.

Each set of rules is a list of (pattern, replacement), applied in turn. A name that becomes "" is
left out; {qkv} is three layers stored as one, {T} a matrix stored transposed. diffusers' U-Net
needs no rules: its names are ours.
"""

import re
from collections.abc import Callable

Rules = list[tuple[str, str | Callable]]

# diffusers' VAE before its attention was named as the U-Net's is
VAE_OLD: Rules = [
    (r"\.(query|key|value)\.", lambda m: f".to_{m[1][0]}."),
    (r"\.proj_attn\.", ".to_out.0."),
]
# transformers' CLIP
TOWER: Rules = [
    (r".*position_ids$", ""),
    (r"embeddings\.", ""),
    (r"encoder\.layers", "blocks"),
    (r"self_attn\.out_proj", "attn1.to_out.0"),
    (r"self_attn\.([qkv])_proj", r"attn1.to_\1"),
    (r"\.layer_norm([12])", r".norm\1"),
    (r"mlp\.fc1", "ff.net.0.proj"),
    (r"mlp\.fc2", "ff.net.2"),
    (r"final_layer_norm", "final_norm"),
    (r"pre_layrnorm", "pre_norm"),          # their spelling
    (r"post_layernorm", "post_norm"),
]
TEXT: Rules = [(r"^text_model\.", ""), *TOWER]
OPENAI_CLIP: Rules = [
    (r"^(input_resolution|context_length|vocab_size)$", ""),
    (r"^visual\.proj$", "visual_projection.weight{T}"),
    (r"^text_projection$", "text_projection.weight{T}"),
    (r"^visual\.", "vision_model."),
    (r"^(transformer|token_e|positional_e|ln_final)", r"text_model.\1"),
    (r"transformer\.resblocks", "blocks"),
    (r"\.positional_embedding$", ".position_embedding.weight"),
    (r"\.conv1\.", ".patch_embedding."),
    (r"\.attn\.in_proj_", ".attn1.to_{qkv}."),
    (r"\.attn\.out_proj", ".attn1.to_out.0"),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.ln_(pre|post|final)\.", r".\1_norm."),
    (r"\.c_fc\.", ".ff.net.0.proj."),
    (r"\.c_proj\.", ".ff.net.2."),
    (r"\.mlp\.ff", ".ff"),
]
# diffusers keeps a copy of DiT's embeddings in each block
FIRST = "transformer_blocks.0.norm1.emb."
DIT: Rules = [
    (r"^pos_embed\.pos_embed$", ""),
    (re.escape(FIRST) + "timestep_embedder", "time_embedding"),
    (re.escape(FIRST) + r"class_embedder\.embedding_table", "class_embedding"),
    (r".*\.norm1\.emb\..*", ""),
    (r"norm1\.linear", "adaLN"),
]
DIT_OFFICIAL: Rules = [
    (r"^pos_embed$", ""),
    (r"^x_embedder", "pos_embed"),
    (r"^y_embedder\.embedding_table", "class_embedding"),
    (r"^t_embedder\.mlp\.0", "time_embedding.linear_1"),
    (r"^t_embedder\.mlp\.2", "time_embedding.linear_2"),
    (r"^blocks", "transformer_blocks"),
    (r"attn\.qkv", "attn1.to_{qkv}"),
    (r"attn\.proj", "attn1.to_out.0"),
    (r"mlp\.fc1", "ff.net.0.proj"),
    (r"mlp\.fc2", "ff.net.2"),
    (r"^final_layer\.linear", "proj_out_2"),
    (r"^final_layer\.adaLN_modulation\.1", "proj_out_1"),
    (r"adaLN_modulation\.1", "adaLN"),
]
# averages, tables and losses of training that a single file holds beside the weights
SINGLE_FILE_EXTRAS = re.compile(
    r"model_ema\.|(sqrt_|log_)?(one_minus_|recip_|recipm1_)?alphas_cumprod|betas$|posterior_|"
    r"lvlb_weights$|logvar$|first_stage_model\.loss\.")

# the same of a VAE's own file
VAE_EXTRAS = re.compile(r"model_ema\.|loss\.")


def compvis_vae(levels: int) -> Rules:
    """Rules for the VAE of a single file; its way up counts levels from the finest."""
    return [
        (r"^decoder\.up\.(\d+)", lambda m: f"decoder.up_blocks.{levels - 1 - int(m[1])}"),
        (r"^encoder\.down\.(\d+)", r"encoder.down_blocks.\1"),
        (r"\.block\.", ".resnets."),
        (r"\.(up|down)sample\.", r".\1samplers.0."),
        (r"\.nin_shortcut\.", ".conv_shortcut."),
        (r"\.norm_out\.", ".conv_norm_out."),
        (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
        (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
        (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
        (r"(attentions\.0)\.norm\.", r"\1.group_norm."),
        (r"(attentions\.0)\.([qkv])\.", r"\1.to_\2."),
        (r"(attentions\.0)\.proj_out\.", r"\1.to_out.0."),
    ]


def compvis_unet(blocks: int) -> Rules:
    """Rules for the U-Net of a single file, which numbers its blocks through."""
    middle = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
    return [
        (r"^time_embed\.0", "time_embedding.linear_1"),
        (r"^time_embed\.2", "time_embedding.linear_2"),
        (r"^out\.0", "conv_norm_out"),
        (r"^out\.2", "conv_out"),
        (r"^input_blocks\.(\d+)\.(\d)\.(op\.)?", _numbered("down", 1, blocks)),
        (r"^output_blocks\.(\d+)\.(\d)\.(conv\.)?", _numbered("up", 0, blocks)),
        (r"^middle_block\.(\d)", lambda m: f"mid_block.{middle[m[1]]}"),
        (r"in_layers\.0", "norm1"),
        (r"in_layers\.2", "conv1"),
        (r"emb_layers\.1", "time_emb_proj"),
        (r"out_layers\.0", "norm2"),
        (r"out_layers\.3", "conv2"),
        (r"skip_connection", "conv_shortcut"),
    ]


def _numbered(way: str, first: int, blocks: int) -> Callable:
    """Name a block by its number: after so many blocks a level has one that changes the size."""
    def name(m):
        level, i = divmod(int(m[1]) - first, blocks + 1)
        if level < 0:
            return "conv_in."
        if m[3]:
            part = f"{way}samplers.0.conv"
        else:
            part = f"attentions.{i}" if m[2] == "1" else f"resnets.{i}"
        return f"{way}_blocks.{level}.{part}."

    return name


def renamed(tensors: dict, rules: Rules) -> dict:
    """Tensors under our names; a second one for a name gets another, which no network has."""
    ours = {}
    for name, tensor in tensors.items():
        new = name
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        if "{qkv}" in new:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                ours[new.replace("{qkv}", letter)] = part
            continue
        if new.endswith("{T}"):
            new, tensor = new.removesuffix("{T}"), tensor.T
        if new in ours:
            new = f"{new}, a second one,"
        if new:
            ours[new] = tensor
    return ours
