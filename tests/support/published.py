"""Small models as they are published: diffusers' and transformers' classes with random weights."""

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from minildm.data.tokenizer import Tokenizer
from support.tensors import randomise

BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
DDIM = DDIMScheduler(**BETAS, clip_sample=False, timestep_spacing="leading", steps_offset=1,
                     set_alpha_to_one=False)        # as Stable Diffusion's users have it
DPMPP = DPMSolverMultistepScheduler(**BETAS)
SMALL = {   # Stable Diffusion 1.5, but for sizes
    "unet": dict(channels=(16, 32), attention=(True, False), blocks=1, heads=4, groups=8, side=8),
    "vae": dict(channels=(16, 32), groups=8), "text": dict(dim=24, depth=2, heads=3)}
MEDIUM = {  # so large that arithmetic counts, and Python less
    "unet": dict(channels=(64, 128, 256, 256), heads=8, groups=32, side=16),
    "vae": dict(channels=(32, 64, 128, 128), groups=32), "text": dict(dim=256, depth=6, heads=4)}
FULL = {
    "unet": dict(channels=(320, 640, 1280, 1280), heads=8, groups=32, side=64),
    "vae": dict(channels=(128, 256, 512, 512), groups=32), "text": dict(dim=768, depth=12, heads=12)}
SMALL_2 = {     # Stable Diffusion 2.1, but for sizes
    "unet": dict(channels=(16, 32, 32), attention=(True, True, False), blocks=1, heads=[2, 4, 8], groups=8,
                 side=8, use_linear_projection=True, upcast_attention=True),
    "vae": SMALL["vae"], "text": dict(dim=24, depth=3, heads=3, hidden_act="gelu")}
FULL_2 = {
    "unet": dict(channels=(320, 640, 1280, 1280), heads=[5, 10, 20, 20], groups=32, side=96,
                 use_linear_projection=True, upcast_attention=True),
    "vae": FULL["vae"], "text": dict(dim=1024, depth=23, heads=16, hidden_act="gelu")}
V_DDIM = DDIMScheduler(**BETAS, clip_sample=False, timestep_spacing="leading", steps_offset=1,
                       set_alpha_to_one=False, prediction_type="v_prediction")
V_DPMPP = DPMSolverMultistepScheduler(**BETAS, prediction_type="v_prediction")
DIT = dict(num_attention_heads=4, attention_head_dim=12, num_layers=3, sample_size=8)
WORDS = ["a red three left of a blue eight", "a lighthouse at dusk, it's photographed; blurry"]


def vae(channels, groups):
    n = len(channels)
    return AutoencoderKL(block_out_channels=channels, layers_per_block=2, norm_num_groups=groups,
                         down_block_types=("DownEncoderBlock2D",) * n, latent_channels=4,
                         up_block_types=("UpDecoderBlock2D",) * n)


def unet(channels, heads, groups, side, context, attention=(True, True, True, False), blocks=2, **more):
    return UNet2DConditionModel(**more,
        down_block_types=[("CrossAttn" if here else "") + "DownBlock2D" for here in attention],
        up_block_types=[("CrossAttn" if here else "") + "UpBlock2D" for here in reversed(attention)],
        block_out_channels=channels, layers_per_block=blocks, attention_head_dim=heads,
        norm_num_groups=groups, sample_size=side, cross_attention_dim=context)


def control(unet, widths):
    """A ControlNet of a small U-Net of theirs, every weight random."""
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=widths)
    return randomise(net)


def text(vocabulary, dim, depth, heads, **more):
    return CLIPTextModel(CLIPTextConfig(**more,
        vocab_size=vocabulary, hidden_size=dim, intermediate_size=4 * dim, num_hidden_layers=depth,
        num_attention_heads=heads, bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1))


def dit(**sizes):
    return DiTTransformer2DModel(**sizes, in_channels=4, out_channels=8, num_embeds_ada_norm=1000,
                                 norm_type="ada_norm_zero")


def quieter(network, last):
    """Random weights that let 50 guided steps neither explode nor forget where they began."""
    randomise(network)
    with torch.no_grad():
        for p in last(network).parameters():
            p.mul_(0.3)
    return network


def small_vae(sizes=SMALL):
    return quieter(vae(**sizes["vae"]), lambda network: network.decoder.conv_out)


def stable_diffusion(folder, sizes=SMALL, scheduler=DDIM, **words):
    """A StableDiffusionPipeline of these sizes; `folder` is for its vocabulary, `words` the tokenizer's."""
    Tokenizer.train(WORDS, 600).save(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77, **words)
    network = quieter(unet(**sizes["unet"], context=sizes["text"]["dim"]), lambda network: network.conv_out)
    pipe = StableDiffusionPipeline(
        vae=small_vae(sizes), unet=network, text_encoder=randomise(text(len(tokenizer), **sizes["text"])),
        tokenizer=tokenizer, scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def dit_pipeline():
    """A DiTPipeline; as in published weights, its blocks hold copies of one embedding."""
    network = quieter(dit(**DIT), lambda network: network.proj_out_2)
    first = network.transformer_blocks[0].norm1.emb
    for block in network.transformer_blocks:
        block.norm1.emb.load_state_dict(first.state_dict())
    pipe = DiTPipeline(network.eval(), small_vae(), DDIMScheduler(clip_sample=False))
    pipe.set_progress_bar_config(disable=True)
    return pipe
