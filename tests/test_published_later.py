"""Stable Diffusion 2.1 and the VAEs that stand alone: names, sizes, and the numbers of diffusers."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.compvis import original_names
from support.tensors import EXACT, random
from torch.testing import assert_close

from minildm import MinildmError
from minildm.diffusion.samplers import ddim, dpmpp_2m
from minildm.model import LatentDiffusion
from minildm.nn.clip import TextConfig, TextTransformer
from minildm.nn.unet import UNet, UNetConfig
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.published import formats
from minildm.published import names as rules_of
from minildm.published.formats import Config, Scheduling
from minildm.published.load import (
    load_pipeline,
    load_single_file,
    load_tokenizer,
    load_vae,
    load_weights,
)
from minildm.published.names import renamed

pytestmark = pytest.mark.slow      # importing diffusers' pipelines takes long

published = pytest.importorskip("support.published")
PROMPTS, NEGATIVE = ["a red three left of a blue eight", "Lighthouse, at DUSK"], "blurry"
IMAGES = dict(rtol=0, atol=1e-4)
SDXL_SCALE = 0.13025


@pytest.fixture(scope="module")
def sd2(tmp_path_factory):
    """A small Stable Diffusion 2.1, its folder, and what we make of that."""
    root = tmp_path_factory.mktemp("sd2")
    theirs = published.stable_diffusion(root / "words", published.SMALL_2, published.V_DDIM, pad_token="!")
    theirs.save_pretrained(root / "model")
    return theirs, root / "model", LatentDiffusion.load(root / "model", dtype=torch.float32)


def test_the_config_files_of_2_1_are_read():
    """As the published folder says, from its facts: heads per level, linear projections, v, OpenCLIP."""
    kinds = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    unet = {"_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": [5, 10, 20, 20],
            "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": False,
            "cross_attention_dim": 1024, "down_block_types": kinds[0], "downsample_padding": 1,
            "dual_cross_attention": False, "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4,
            "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32,
            "num_class_embeds": None, "only_cross_attention": False, "out_channels": 4, "sample_size": 96,
            "up_block_types": kinds[1], "use_linear_projection": True, "upcast_attention": True}
    text = {"architectures": ["CLIPTextModel"], "hidden_act": "gelu", "hidden_size": 1024,
            "intermediate_size": 4096, "layer_norm_eps": 1e-05, "max_position_embeddings": 77,
            "num_attention_heads": 16, "num_hidden_layers": 23, "projection_dim": 512, "vocab_size": 49408}
    schedule = {"_class_name": "DDIMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear",
                "beta_start": 0.00085, "clip_sample": False, "num_train_timesteps": 1000,
                "prediction_type": "v_prediction", "set_alpha_to_one": False, "steps_offset": 1}
    assert formats.unet_config(Config("x", unet)) == UNetConfig(heads=(5, 10, 20, 20), context_dim=1024)
    assert formats.text_config(Config("x", text)) == TextConfig(
        dim=1024, depth=23, heads=16, activation="gelu")
    assert formats.schedule_config(Config("x", schedule)) == Scheduling("scaled_linear", "v", 1, False)
    assert formats.image_side(Config("x", unet)) * VAEConfig().factor == 768


def test_sizes_and_names_of_2_1_are_the_published_ones():
    full, on_meta = published.FULL_2, ("x", torch.float32, "meta")
    with torch.device("meta"):
        unet = published.unet(**full["unet"], context=1024).state_dict()
        text = published.text(49408, **full["text"]).state_dict()
    assert unet["mid_block.attentions.0.proj_in.weight"].shape == (1280, 1280)
    ours = load_weights(UNet, UNetConfig(heads=(5, 10, 20, 20), context_dim=1024), unet, *on_meta)
    assert sum(p.numel() for p in ours.parameters()) == 865_910_724 and len(unet) == 686
    heads = [ours.down_blocks[level].attentions[0].transformer_blocks[0].attn1.heads for level in range(3)]
    assert heads == [5, 10, 20] and ours.mid_block.attentions[0].transformer_blocks[0].attn2.heads == 20
    tower = TextConfig(dim=1024, depth=23, heads=16, activation="gelu")
    load_weights(TextTransformer, tower, renamed(text, rules_of.TEXT), *on_meta)


@torch.no_grad()
def test_tokens_text_and_unet_of_2_1_equal_theirs(sd2):
    theirs, _, ours = sd2
    texts = [*PROMPTS, "", NEGATIVE, "it's 12 o'clock  " * 3, "hi! a red! three"]
    ids = theirs.tokenizer(texts, padding="max_length", max_length=77, truncation=True).input_ids
    assert ours.tokenizer(texts).tolist() == ids and ids[2][2:] == [0] * 75
    states, wanted = ours.encode_prompts(texts), theirs.text_encoder(torch.tensor(ids)).last_hidden_state
    assert states.std() > 0.5 and ours.text_encoder.config.activation == "gelu"
    assert_close(states, wanted, **EXACT)
    x = random(len(texts), 4, 8, 8, seed=2)
    for i in 1, 500, 981:
        found = ours.denoiser.predict(x, torch.tensor((i + 1) / 1000), states)
        assert found.std() > 0.1
        assert_close(found, theirs.unet(x, i, wanted).sample, **EXACT)
    images, z = random(2, 3, 16, 24), random(2, 4, 8, 12, seed=1)
    assert_close(ours.vae.encode(images).mean, theirs.vae.encode(images).latent_dist.mean, **EXACT)
    assert_close(ours.vae.decode(z), theirs.vae.decode(z).sample, **EXACT)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")      # diffusers' own
@pytest.mark.parametrize("n", [20, 50])
@pytest.mark.parametrize("sampler, scheduler", [(ddim, "V_DDIM"), (dpmpp_2m, "V_DPMPP")],
                         ids=["ddim", "dpmpp_2m"])
def test_whole_images_of_2_1_equal_diffusers(sd2, sampler, scheduler, n):
    theirs, _, ours = sd2
    assert ours.denoiser.prediction_type == "v"
    theirs.scheduler = getattr(published, scheduler)
    wanted = 2 * theirs(PROMPTS[0], negative_prompt=NEGATIVE, num_inference_steps=n, guidance_scale=7.5,
                        latents=ours.noise(1, seed=3), output_type="pt").images - 1
    found = ours.generate(PROMPTS[:1], n, guidance_scale=7.5, seed=3, sampler=sampler, negative=NEGATIVE)
    assert (wanted.abs() < 1).float().mean() > 0.9 and wanted.std() > 0.05
    assert_close(found, wanted, **IMAGES)
    ours.denoiser.prediction_type = "eps"
    try:
        other = ours.generate(PROMPTS[:1], n, guidance_scale=7.5, seed=3, sampler=sampler, negative=NEGATIVE)
    finally:
        ours.denoiser.prediction_type = "v"
    assert (other - found).abs().max() > 1e-2


@pytest.mark.parametrize("file, pad", [("tokenizer_config.json", {"pad_token": "!"}),
                                       ("tokenizer_config.json", {"pad_token": {"content": "!"}}),
                                       ("special_tokens_map.json", {"pad_token": "!"})])
def test_the_padding_is_read_from_either_file(sd2, tmp_path, file, pad):
    published.Tokenizer.train(["a red three"], 520).save(tmp_path)
    (tmp_path / file).write_text(json.dumps(pad))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer([""])[0, 2:].tolist() == [tokenizer.vocab["!"]] * 75
    assert tokenizer.decode(tokenizer(["a red three"])[0]) == "a red three"


# ---- VAEs that stand alone

def vae_folder(folder, scale=None, old=False, **more):
    """diffusers' AutoencoderKL as a folder: SDXL's scale, or the old names without any."""
    theirs = published.small_vae()
    theirs.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text()) | more
    config.pop("scaling_factor")
    if scale:
        config["scaling_factor"] = scale
    (folder / "config.json").write_text(json.dumps(config))
    if old:
        words = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        file = folder / "diffusion_pytorch_model.safetensors"
        tensors = {re.sub("|".join(map(re.escape, words)), lambda m: words[m[0]], name): tensor
                   for name, tensor in load_file(file).items()}
        save_file(tensors, file)
    return theirs.eval()


@torch.no_grad()
@pytest.mark.parametrize("scale, old, more", [
    (SDXL_SCALE, False, {"force_upcast": True, "sample_size": 1024, "latents_mean": None,
                         "latents_std": None}),
    (None, True, {"sample_size": 256}),
], ids=["SDXL-VAE", "SD-VAE-FT-MSE"])
def test_vaes_alone_equal_diffusers(tmp_path, scale, old, more):
    theirs = vae_folder(tmp_path, scale, old, **more)
    ours = load_vae(tmp_path)
    images, z = random(2, 3, 16, 24), random(2, 4, 8, 12, seed=1)
    assert_close(ours.encode(images).mean, theirs.encode(images).latent_dist.mean, **EXACT)
    assert_close(ours.encode(images).logvar, theirs.encode(images).latent_dist.logvar, **EXACT)
    assert_close(ours.decode(z), theirs.decode(z).sample, **EXACT)
    assert_close(ours.denormalise(z), z / (scale or 0.18215))


@torch.no_grad()
@pytest.mark.parametrize("scale", [SDXL_SCALE, 0.18215])
def test_a_vaes_own_file_is_its_folder(tmp_path, scale):
    theirs = vae_folder(tmp_path / "vae", scale)
    ours = load_vae(tmp_path / "vae")
    names = original_names(UNetConfig(), ours.config)[1]
    tensors = load_file(tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    state = {name.removeprefix("first_stage_model."): tensors[ours_] for name, ours_ in names.items()}
    state = {name: t[..., None, None].clone() if "attn_1" in name and t.ndim == 2 else t
             for name, t in state.items()}
    torch.save({"state_dict": state | {"loss.logvar": torch.ones(1), "model_ema.decay": torch.ones(1)}},
               tmp_path / "vae.ckpt")
    alone = load_vae(tmp_path / "vae.ckpt", config=ours.config, scale=scale)
    assert alone.state_dict().keys() == ours.state_dict().keys()
    assert all(torch.equal(t, ours.state_dict()[name]) for name, t in alone.state_dict().items())
    z = random(1, 4, 4, 6)
    assert_close(alone.decode(z), theirs.decode(z).sample, **EXACT)
    with pytest.raises(MinildmError, match="not fit AutoencoderKL"):
        load_vae(tmp_path / "vae.ckpt")


def test_sdxls_vae_has_the_published_size():
    with torch.device("meta"):
        theirs = published.vae(**published.FULL["vae"]).state_dict()
    scale = {"latent_mean": torch.zeros(4), "latent_std": torch.ones(4)}
    ours = load_weights(AutoencoderKL, VAEConfig(), renamed(theirs, rules_of.VAE_OLD) | scale, "x",
                        torch.float32, "meta")
    assert sum(p.numel() for p in ours.parameters()) == 83_653_863


# ---- what is another format says which part it is

@pytest.mark.parametrize("name, part", [
    ("cond_stage_model.model.positional_embedding", "text encoder is OpenCLIP"),
    ("conditioner.embedders.0.transformer.x", "two text encoders"),
    ("model.diffusion_model.joint_blocks.0.x", "no U-Net")])
def test_single_files_of_later_models_name_the_part(tmp_path, name, part):
    save_file({name: torch.ones(1)}, tmp_path / "later.safetensors")
    with pytest.raises(MinildmError, match=part):
        load_single_file(tmp_path / "later.safetensors")


def test_other_pipelines_name_the_parts_that_have_no_class(tmp_path):
    index = {"_class_name": "StableDiffusionXLPipeline", "vae": ["diffusers", "AutoencoderKL"],
             "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
             "tokenizer": ["transformers", "CLIPTokenizer"], "force_zeros_for_empty_prompt": True,
             "unet": ["diffusers", "UNet2DConditionModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(MinildmError, match=r"text_encoder_2 \(CLIPTextModelWithProjection\) we have no"):
        load_pipeline(tmp_path)


@pytest.mark.parametrize("change, words", [
    ({"attention_head_dim": [2, 4]}, "attention_head_dim"),
    ({"attention_head_dim": [3, 4, 8]}, "divisor of 16"),
    ({"use_linear_projection": "yes"}, "use_linear_projection"),
    ({"transformer_layers_per_block": [1, 2, 10]}, r"transformer_layers_per_block is \[1, 2, 10\]")])
def test_u_nets_that_differ_are_refused_by_name(sd2, change, words):
    config = json.loads((sd2[1] / "unet" / "config.json").read_text())
    with pytest.raises(MinildmError, match=words):
        formats.unet_config(Config("x", config | change))
