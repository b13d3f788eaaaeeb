"""Names of tensors in the original files of Stable Diffusion 1.x, and diffusers' names of the same."""

import re

import torch

from minildm.nn.unet import UNetConfig
from minildm.nn.vae import VAEConfig


def ldm_resnet(name, changes=True):
    layers = ["in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3"]
    return [f"{name}.{layer}" for layer in layers + ["skip_connection"] * changes]


def ldm_transformer(name):
    block = [f"transformer_blocks.0.{part}" for part in (
        *(f"attn{k}.to_{to}" for k in (1, 2) for to in ("q", "k", "v", "out.0")), "ff.net.0.proj", "ff.net.2",
        "norm1", "norm2", "norm3")]
    return [f"{name}.{layer}" for layer in ["norm", "proj_in", *block, "proj_out"]]


def ldm_unet(widths, attention, blocks):
    """Layers in the order in which CompVis' UNetModel makes them (openaimodel.py)."""
    layers, n, width, skips = ["time_embed.0", "time_embed.2", "input_blocks.0.0"], 1, widths[0], [widths[0]]
    for level, wide in enumerate(widths):
        for _ in range(blocks):
            layers += ldm_resnet(f"input_blocks.{n}.0", wide != width)
            layers += ldm_transformer(f"input_blocks.{n}.1") * attention[level]
            n, width = n + 1, wide
            skips.append(width)
        if level < len(widths) - 1:
            layers.append(f"input_blocks.{n}.0.op")
            n += 1
            skips.append(width)
    layers += ldm_resnet("middle_block.0", False) + ldm_transformer("middle_block.1")
    layers += ldm_resnet("middle_block.2", False)
    n = 0
    for level, wide in reversed(list(enumerate(widths))):
        for i in range(blocks + 1):
            layers += ldm_resnet(f"output_blocks.{n}.0", skips.pop() + width != wide)
            layers += ldm_transformer(f"output_blocks.{n}.1") * attention[level]
            if level and i == blocks:
                layers.append(f"output_blocks.{n}.{1 + attention[level]}.conv")
            n, width = n + 1, wide
    return [*layers, "out.0", "out.2"]


def ldm_vae(widths, blocks=2):
    """As CompVis' Encoder and Decoder (diffusionmodules/model.py)."""
    def block(name, changes=False):
        parts = ["norm1", "conv1", "norm2", "conv2"] + ["nin_shortcut"] * changes
        return [f"{name}.{part}" for part in parts]

    middle = [*block("mid.block_1"), *(f"mid.attn_1.{part}" for part in ("norm", "q", "k", "v", "proj_out")),
              *block("mid.block_2")]
    encoder, decoder, last = [], [], len(widths) - 1
    for level, wide in enumerate(widths):
        for i in range(blocks):
            encoder += block(f"down.{level}.block.{i}", i == 0 and wide != widths[max(level - 1, 0)])
        encoder += [f"down.{level}.downsample.conv"] * (level < last)
        for i in range(blocks + 1):
            decoder += block(f"up.{level}.block.{i}", i == 0 and wide != widths[min(level + 1, last)])
        decoder += [f"up.{level}.upsample.conv"] * (level > 0)
    ends = ["conv_in", *middle, "norm_out", "conv_out"]
    return [*(f"encoder.{name}" for name in encoder + ends), *(f"decoder.{name}" for name in decoder + ends),
            "quant_conv", "post_quant_conv"]


def tensors_of(layers):
    """A name each for weights and biases; q, k, v of the U-Net have no bias."""
    return [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")
            if kind == "weight" or not re.search(r"attn\d\.to_[qkv]$", layer)]


def original_names(unet: UNetConfig, vae: VAEConfig):
    """CompVis' name -> diffusers', by diffusers' own conversion of numbered tensors: U-Net's, VAE's."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

    found = []
    for prefix, names, convert, config in (
            ("model.diffusion_model.", tensors_of(ldm_unet(unet.channels, unet.attention, unet.blocks)),
             convert_ldm_unet_checkpoint, {"layers_per_block": unet.blocks}),
            ("first_stage_model.", tensors_of(ldm_vae(vae.channels)),
             convert_ldm_vae_checkpoint, {f"{way}_block_types": vae.channels for way in ("down", "up")})):
        numbered = {prefix + name: torch.tensor(i) for i, name in enumerate(names)}
        theirs = {t.item(): name for name, t in convert(dict(numbered), config).items()}
        found.append({name: theirs.pop(i.item()) for name, i in numbered.items()})
        assert not theirs
    return found
