"""Published weights in our classes: names, sizes, and the numbers of diffusers and transformers."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support.compvis import original_names
from support.tensors import EXACT, random, randomise
from support.towers import TINY as TINY_CLIP
from support.towers import transformers_clip
from torch.testing import assert_close

from minildm import MinildmError, cli, latents
from minildm import model as pipeline
from minildm.course.plotting import grid
from minildm.diffusion.guidance import Cfg, cfg, guided
from minildm.diffusion.samplers import ddim, dpmpp_2m
from minildm.model import LatentDiffusion
from minildm.nn.clip import CLIP, CLIPConfig, TextConfig, TextTransformer
from minildm.nn.dit import DiT, DiTConfig
from minildm.nn.unet import UNet, UNetConfig
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.published import formats
from minildm.published import names as rules_of
from minildm.published.files import read
from minildm.published.formats import Config, Scheduling
from minildm.published.load import (
    STABLE_DIFFUSION,
    load_clip,
    load_dit,
    load_pipeline,
    load_single_file,
    load_text,
    load_tokenizer,
    load_unet,
    load_vae,
    load_weights,
)
from minildm.published.names import renamed

pytestmark = pytest.mark.slow      # importing diffusers' pipelines takes most of its 40 seconds

published = pytest.importorskip("support.published")
PROMPTS, NEGATIVE = ["a red three left of a blue eight", "Lighthouse, at DUSK"], "blurry"
IMAGES = dict(rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    """A small StableDiffusionPipeline, its folder, and what we make of that."""
    root = tmp_path_factory.mktemp("sd")
    theirs = published.stable_diffusion(root / "words")
    theirs.save_pretrained(root / "model")
    return theirs, root / "model", LatentDiffusion.load(root / "model", dtype=torch.float32)


@pytest.fixture(scope="module")
def dit(tmp_path_factory):
    folder, theirs = tmp_path_factory.mktemp("dit") / "model", published.dit_pipeline()
    theirs.save_pretrained(folder)
    return theirs, folder, LatentDiffusion.load(folder, dtype=torch.float32)


# ---- names, shapes and counts of the published models, without their weights

def meta(build, *args, **kwargs):
    with torch.device("meta"):
        return build(*args, **kwargs)


def test_stable_diffusions_own_config_files_are_our_defaults():
    """Word for word from the published folder."""
    down, up = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    unet = {"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu",
            "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768,
            "center_input_sample": False, "down_block_types": down, "downsample_padding": 1, "in_channels": 4,
            "flip_sin_to_cos": True, "freq_shift": 0, "layers_per_block": 2, "mid_block_scale_factor": 1,
            "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
            "up_block_types": up}
    vae = {"_class_name": "AutoencoderKL", "_diffusers_version": "0.6.0", "act_fn": "silu", "in_channels": 3,
           "block_out_channels": [128, 256, 512, 512], "down_block_types": ["DownEncoderBlock2D"] * 4,
           "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3,
           "sample_size": 512, "up_block_types": ["UpDecoderBlock2D"] * 4}
    text = {"architectures": ["CLIPTextModel"], "attention_dropout": 0.0, "bos_token_id": 0, "dropout": 0.0,
            "eos_token_id": 2, "hidden_act": "quick_gelu", "hidden_size": 768, "initializer_factor": 1.0,
            "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05,
            "max_position_embeddings": 77, "model_type": "clip_text_model", "num_attention_heads": 12,
            "num_hidden_layers": 12, "pad_token_id": 1, "torch_dtype": "float32", "vocab_size": 49408}
    schedule = {"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012,
                "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000,
                "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
                "clip_sample": False}
    assert formats.unet_config(Config("x", unet)) == UNetConfig()
    assert formats.vae_config(Config("x", vae)) == VAEConfig()
    assert formats.text_config(Config("x", text)) == TextConfig()
    assert formats.schedule_config(Config("x", schedule)) == STABLE_DIFFUSION
    assert STABLE_DIFFUSION == Scheduling("scaled_linear", "eps", 1, False)


def sized(network, parameters, tensors):
    named = dict(network.named_parameters())
    return (sum(p.numel() for p in named.values()), len(named)) == (parameters, tensors)


def test_sizes_and_names_are_the_published_ones():
    """All tensors, no others, right shapes: `load_weights` refuses the rest. Counted on the meta device."""
    full, meta_device = published.FULL, ("x", torch.float32, "meta")
    unet = meta(published.unet, **full["unet"], context=768).state_dict()
    assert sized(load_weights(UNet, UNetConfig(), unet, *meta_device), 859_520_964, 686)
    theirs = meta(published.vae, **full["vae"]).state_dict()
    scale = {"latent_mean": torch.zeros(4), "latent_std": torch.ones(4)}
    vae = load_weights(AutoencoderKL, VAEConfig(), renamed(theirs, rules_of.VAE_OLD) | scale, *meta_device)
    assert sized(vae, 83_653_863, 248) and len(theirs) == 248
    theirs = meta(published.text, 49408, **full["text"]).state_dict()
    assert sized(load_weights(TextTransformer, TextConfig(), renamed(theirs, rules_of.TEXT), *meta_device),
                 123_060_480, 196)
    hub = {"text_model." + name.removeprefix("text_model."): t for name, t in theirs.items()}
    hub["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    assert renamed(hub, rules_of.TEXT).keys() == renamed(theirs, rules_of.TEXT).keys()
    theirs = meta(transformers_clip, CLIPConfig()).state_dict()
    ours = load_weights(CLIP, CLIPConfig(), renamed(theirs, rules_of.TOWER), *meta_device)
    assert sized(ours, 427_616_513, 590)
    theirs = meta(published.dit, num_attention_heads=16, attention_head_dim=72, num_layers=28,
                  sample_size=32).state_dict()
    ours = load_weights(DiT, DiTConfig(), renamed(theirs, rules_of.DIT), *meta_device)
    assert sum(p.numel() for p in ours.parameters()) == 674_834_720


def test_names_of_the_original_file_are_as_diffusers_reads_them():
    unet, vae = original_names(UNetConfig(), VAEConfig())
    assert len(unet) == 686 and len(vae) == 248
    for names, prefix, rules in ((unet, "model.diffusion_model.", rules_of.compvis_unet(2)),
                                 (vae, "first_stage_model.", rules_of.compvis_vae(4))):
        numbered = {name.removeprefix(prefix): torch.tensor(i) for i, name in enumerate(names)}
        ours = {name: t.item() for name, t in renamed(numbered, rules).items()}
        assert ours == {name: i for i, name in enumerate(names.values())}
    assert set(unet.values()) == set(meta(UNet, UNetConfig()).state_dict())
    ours = set(meta(AutoencoderKL, VAEConfig()).state_dict())
    assert set(vae.values()) == ours - {"latent_mean", "latent_std"}


# ---- numbers

@torch.no_grad()
def test_vae_equals_diffusers(sd):
    theirs, _, ours = sd
    images, z = random(2, 3, 16, 24), random(2, 4, 8, 12, seed=1)
    found, wanted = ours.vae.encode(images), theirs.vae.encode(images).latent_dist
    assert found.mean.std() > 0.1
    assert_close(found.mean, wanted.mean, **EXACT)
    assert_close(found.logvar, wanted.logvar, **EXACT)
    assert_close(ours.vae.decode(z), theirs.vae.decode(z).sample, **EXACT)
    assert_close(ours.vae.denormalise(z), z / 0.18215)


@torch.no_grad()
def test_tokens_text_and_unet_equal_theirs(sd):
    theirs, _, ours = sd
    texts = [*PROMPTS, "", NEGATIVE, "it's 12 o'clock  " * 3]
    ids = theirs.tokenizer(texts, padding="max_length", max_length=77, truncation=True).input_ids
    assert ours.tokenizer(texts).tolist() == ids
    states, wanted = ours.encode_prompts(texts), theirs.text_encoder(torch.tensor(ids)).last_hidden_state
    assert states.std() > 0.5
    assert_close(states, wanted, **EXACT)
    x = random(5, 4, 8, 8, seed=2)
    for i in 1, 500, 981:       # entry i of their table is our t = (i + 1) / 1000
        found = ours.denoiser.predict(x, torch.tensor((i + 1) / 1000), states)
        assert found.std() > 0.1
        assert_close(found, theirs.unet(x, i, wanted).sample, **EXACT)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")      # diffusers' own
@pytest.mark.parametrize("n", [20, 50])
@pytest.mark.parametrize("sampler, scheduler", [(ddim, "DDIM"), (dpmpp_2m, "DPMPP")],
                         ids=["ddim", "dpmpp_2m"])
def test_whole_images_equal_diffusers(sd, sampler, scheduler, n):
    theirs, _, ours = sd
    theirs.scheduler = getattr(published, scheduler)
    wanted = 2 * theirs(PROMPTS[0], negative_prompt=NEGATIVE, num_inference_steps=n, guidance_scale=7.5,
                        latents=ours.noise(1, seed=3), output_type="pt").images - 1
    found = ours.generate(PROMPTS[:1], n, guidance_scale=7.5, seed=3, sampler=sampler, negative=NEGATIVE)
    assert found.shape == (1, 3, 16, 16) and (wanted.abs() < 1).float().mean() > 0.9      # unclipped
    assert_close(found, wanted, **IMAGES)


def test_everything_that_is_said_matters_a_hundred_times_more_than_that(sd):
    ours = sd[2]
    said = dict(wanted=PROMPTS[:1], num_inference_steps=5, guidance_scale=7.5, seed=3, negative=NEGATIVE)
    image = ours.generate(**said)
    for change in (dict(negative=""), dict(wanted=PROMPTS[1:]), dict(guidance_scale=6.5),
                   dict(num_inference_steps=4), dict(sampler=dpmpp_2m)):
        other = ours.generate(**said | change)
        assert (other - image).abs().max() > 1e-2


@torch.no_grad()
def test_dit_equals_diffusers(dit, monkeypatch):
    theirs, _, ours = dit
    x, labels = random(3, 4, 8, 8), torch.tensor([0, 7, 1000])
    for i in 1, 500, 980:
        found = ours.denoiser.network(x, i / 1000, labels)
        assert found.shape == (3, 8, 8, 8) and found.std() > 0.1
        wanted = theirs.transformer(x, torch.full((3,), i), labels).sample
        assert_close(found, wanted, **EXACT)
    eps = {block.norm3.eps for block in theirs.transformer.transformer_blocks}      # too small to be seen
    assert eps == {ours.denoiser.network.config.mlp_eps} == {1e-5}
    wanted = labels[:2].tolist()
    module = "diffusers.pipelines.dit.pipeline_dit.randn_tensor"
    monkeypatch.setattr(module, lambda shape, **_: ours.noise(shape[0], seed=3))
    for n in 20, 50:
        images = 2 * theirs(wanted, guidance_scale=4.0, num_inference_steps=n, output_type="pt").images - 1
        found = ours.generate(wanted, n, seed=3)
        assert found.shape == (2, 3, 16, 16) and (images.abs() < 1).float().mean() > 0.9
        assert_close(found, images, **IMAGES)
    assert (ours.generate(wanted[::-1], 20, seed=3) - ours.generate(wanted, 20, seed=3)).abs().max() > 1e-2


def official(state):
    """DiT's own names and fused layers, from diffusers' (what its conversion script does, backwards)."""
    first = "transformer_blocks.0.norm1.emb."
    file = {"pos_embed": torch.zeros(1, 16, 48)}
    plain = {"pos_embed.proj": "x_embedder.proj", first + "timestep_embedder.linear_1": "t_embedder.mlp.0",
             first + "timestep_embedder.linear_2": "t_embedder.mlp.2", "proj_out_2": "final_layer.linear",
             first + "class_embedder.embedding_table": "y_embedder.embedding_table",
             "proj_out_1": "final_layer.adaLN_modulation.1"}
    for k in range(3):
        block = f"transformer_blocks.{k}."
        plain |= {block + "norm1.linear": f"blocks.{k}.adaLN_modulation.1",
                  block + "attn1.to_out.0": f"blocks.{k}.attn.proj",
                  block + "ff.net.0.proj": f"blocks.{k}.mlp.fc1", block + "ff.net.2": f"blocks.{k}.mlp.fc2"}
        for kind in "weight", "bias":
            parts = [state[f"{block}attn1.to_{letter}.{kind}"] for letter in "qkv"]
            file[f"blocks.{k}.attn.qkv.{kind}"] = torch.cat(parts)
    return file | {f"{after}.{kind}": state[f"{before}.{kind}"] for before, after in plain.items()
                   for kind in ("weight", "bias") if f"{before}.{kind}" in state}


@torch.no_grad()
def test_dits_official_file_computes_as_its_code_does(dit, tmp_path):
    """Three differences: the time's waves, an eps, and guidance over the first three channels alone."""
    theirs, folder, _ = dit
    torch.save({"ema": official(theirs.transformer.state_dict())}, tmp_path / "DiT.pt")
    ours = load_dit(tmp_path / "DiT.pt", dim=48, depth=3, heads=4)
    reference = published.dit(**published.DIT, norm_eps=1e-6).eval()
    reference.load_state_dict(theirs.transformer.state_dict())
    for block in reference.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    x, labels, null = random(2, 4, 8, 8), torch.tensor([3, 9]), torch.full((2,), 1000)
    for i in 1, 700:
        wanted = reference(x, torch.full((2,), i), labels).sample
        assert_close(ours(x, i / 1000, labels), wanted, **EXACT)
    from_folder = load_dit(folder / "transformer", freq_shift=0, mlp_eps=1e-6)
    assert_close(from_folder(x, 0.7, labels), wanted, **EXACT)
    assert (load_dit(folder / "transformer")(x, 0.7, labels) - wanted).abs().max() > 1e-3

    def eps(x, t, context):
        return ours(x, t, context)[:, :4]

    guided = cfg(eps, labels, null, 4.0, channels=3)(x, torch.tensor(0.7))
    cond, uncond = eps(x, 0.7, labels), eps(x, 0.7, null)
    assert_close(guided[:, :3], (uncond + 4 * (cond - uncond))[:, :3], **EXACT)
    assert_close(guided[:, 3:], cond[:, 3:], **EXACT)


def openai(state):
    """OpenAI's names, fused and transposed layers, from transformers'."""
    names = [("text_model.embeddings.token_embedding", "token_embedding"),
             ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
             ("text_model.encoder.layers", "transformer.resblocks"),
             ("text_model.final_layer_norm", "ln_final"),
             ("vision_model.embeddings.patch_embedding", "visual.conv1"),
             ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
             ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
             ("vision_model.encoder.layers", "visual.transformer.resblocks"),
             ("vision_model.pre_layrnorm", "visual.ln_pre"),
             ("vision_model.post_layernorm", "visual.ln_post"),
             ("visual_projection.weight", "visual.proj"), ("text_projection.weight", "text_projection"),
             ("self_attn.out_proj", "attn.out_proj"), ("layer_norm", "ln_"), ("mlp.fc1", "mlp.c_fc"),
             ("mlp.fc2", "mlp.c_proj")]
    file = {"context_length": torch.tensor(10), "vocab_size": torch.tensor(60)}
    for name, tensor in state.items():
        for before, after in names:
            name = name.replace(before, after)
        if "self_attn.q_proj" in name:
            own = next(key for key in state if key.endswith("q_proj." + name.rsplit(".", 1)[1])
                       and state[key] is tensor)
            parts = [state[own.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            file[name.replace("self_attn.q_proj.", "attn.in_proj_")] = torch.cat(parts)
        elif "self_attn" not in name:
            file[name] = tensor.T.contiguous() if name.endswith(("proj", "text_projection")) else tensor
    return file


@torch.no_grad()
def test_clip_equals_transformers_from_both_layouts(tmp_path):
    theirs = randomise(transformers_clip(TINY_CLIP))
    theirs.save_pretrained(tmp_path / "clip")
    save_file(openai(theirs.state_dict()), tmp_path / "openai.safetensors")
    images, ids = random(3, 2, 12, 12), torch.tensor([[58, 7, 3, 59], [58, 1, 59, 59]])
    wanted = theirs(input_ids=ids, pixel_values=images)
    for path, config in (tmp_path / "clip", None), (tmp_path / "openai.safetensors", TINY_CLIP):
        ours = load_clip(path, config=config)
        assert ours.config == TINY_CLIP
        assert_close(ours.encode_images(images), wanted.image_embeds, **EXACT)
        assert_close(ours.encode_text(ids), wanted.text_embeds, **EXACT)
        assert_close(ours(images, ids), wanted.logits_per_image, rtol=0, atol=1e-4)


# ---- files

def same(a, b, exact=True):
    a, b = a.state_dict(), b.state_dict()
    a = a if exact else {name: t.half().float() for name, t in a.items() if not name.startswith("latent")}
    return all(torch.equal(t, b.pop(name)) for name, t in a.items()) and not b


def test_shards_fp16_and_pickles_of_tensors(sd, tmp_path):
    theirs, folder, ours = sd
    unet = ours.denoiser.network
    theirs.unet.save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    assert same(unet, load_unet(tmp_path / "shards"))
    plain = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    for name, write in (("fp16.safetensors", save_file), ("bin", torch.save), ("fp16.bin", torch.save)):
        part = tmp_path / name
        part.mkdir()
        shutil.copy(folder / "unet" / "config.json", part)
        half = "fp16" in name
        tensors = {k: t.half() if half else t for k, t in plain.items()}
        write(tensors, part / f"diffusion_pytorch_model.{name}")
        assert same(unet, load_unet(part), exact=not half)
        assert next(load_unet(part).parameters()).dtype == torch.float32
    text = tmp_path / "fp16.safetensors.index"
    text.mkdir()
    shutil.copy(folder / "text_encoder" / "config.json", text)
    tensors = load_file(folder / "text_encoder" / "model.safetensors")
    save_file(tensors, text / "model.fp16-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys(tensors, "model.fp16-00001-of-00001.safetensors")}
    (text / "model.safetensors.index.fp16.json").write_text(json.dumps(index))
    assert same(ours.text_encoder, load_text(text))


def test_old_names(sd, tmp_path):
    _, folder, ours = sd
    for part, stem in ("vae", "diffusion_pytorch_model"), ("text_encoder", "model"):
        (tmp_path / part).mkdir()
        shutil.copy(folder / part / "config.json", tmp_path / part)
        old, old_names = {}, {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        for name, tensor in load_file(folder / part / f"{stem}.safetensors").items():
            if part == "text_encoder":
                old["text_model." + name.removeprefix("text_model.")] = tensor
            else:
                for new, before in old_names.items():
                    name = name.replace(new, before)
                attention = any(before in name for before in old_names.values())
                old[name] = tensor[..., None, None].clone() if attention and tensor.ndim == 2 else tensor
        if part == "text_encoder":
            old["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        save_file(old, tmp_path / part / f"{stem}.safetensors")
    old = load_file(tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    assert old["encoder.mid_block.attentions.0.query.weight"].shape == (32, 32, 1, 1)
    assert same(ours.vae, load_vae(tmp_path / "vae"))
    assert same(ours.text_encoder, load_text(tmp_path / "text_encoder"))


def single_file(folder, model):
    """The folder's tensors as one original checkpoint holds them, with what training leaves in it."""
    unet, vae = original_names(model.denoiser.network.config, model.vae.config)
    state = {"betas": torch.ones(1000), "sqrt_one_minus_alphas_cumprod": torch.ones(1000),
             "model_ema.decay": torch.ones(()), "model_ema.num_updates": torch.ones(())}
    for names, part in (unet, "unet"), (vae, "vae"):
        tensors = load_file(folder / part / "diffusion_pytorch_model.safetensors")
        for theirs, name in names.items():
            one_by_one = part == "vae" and "attn_1" in theirs and tensors[name].ndim == 2
            state[theirs] = tensors[name][..., None, None].clone() if one_by_one else tensors[name]
    prefix = "cond_stage_model.transformer.text_model."
    state[prefix + "embeddings.position_ids"] = torch.arange(77)[None]
    text = load_file(folder / "text_encoder" / "model.safetensors")
    return state | {prefix + name.removeprefix("text_model."): t for name, t in text.items()}


def test_the_original_file_is_the_folder(sd, tmp_path, monkeypatch):
    _, folder, ours = sd
    state = single_file(folder, ours)
    configs = dict(vae=ours.vae.config, unet=ours.denoiser.network.config, text=ours.text_encoder.config)
    save_file(state, tmp_path / "v1-5.safetensors")
    torch.save({"state_dict": state, "global_step": 7}, tmp_path / "v1-5.ckpt")
    for name in "v1-5.safetensors", "v1-5.ckpt":
        vae, unet, text = load_single_file(tmp_path / name, **configs)
        assert same(ours.vae, vae) and same(ours.denoiser.network, unet) and same(ours.text_encoder, text)
    with pytest.raises(MinildmError, match="lora_up.*not expected"):
        save_file(state | {"lora_up": torch.ones(1)}, tmp_path / "more.safetensors")
        load_single_file(tmp_path / "more.safetensors", **configs)
    monkeypatch.setattr("minildm.published.load.load_single_file", lambda *_: (vae, unet, text))
    monkeypatch.setattr("minildm.published.load.SIDE", 16)
    with pytest.raises(MinildmError, match="tokenizer"):
        LatentDiffusion.load(tmp_path / "v1-5.ckpt")
    shutil.copytree(folder / "tokenizer", tmp_path / "tokenizer")
    whole = LatentDiffusion.load(tmp_path / "v1-5.ckpt", dtype=torch.float32)
    assert torch.equal(whole.generate(PROMPTS, 2), ours.generate(PROMPTS, 2))


@pytest.mark.parametrize("part, changes, words", [
    ("unet", {"dual_cross_attention": True}, "dual_cross_attention is True"),
    ("unet", {"act_fn": "gelu"}, "act_fn is 'gelu'"),
    ("unet", {"attention_head_dim": [5, 10, 20, 20]}, r"attention_head_dim is \[5, 10, 20, 20\]"),
    ("unet", {"addition_embed_type": "text_time"}, "addition_embed_type is 'text_time'"),
    ("unet", {"a_new_idea": 3}, "a_new_idea is 3"),
    ("unet", {"up_block_types": ["UpBlock2D"] * 4}, "up_block_types is"),
    ("vae", {"use_quant_conv": False}, "use_quant_conv is False"),
    ("vae", {"shift_factor": 0.1}, "shift_factor is 0.1"),
    ("text_encoder", {"hidden_act": "relu"}, "hidden_act: 'relu' is not one of"),
    ("scheduler", {"clip_sample": True}, "clip_sample is True"),
    ("scheduler", {"beta_end": 0.02}, "'scaled_linear', 0.00085, 0.02"),
    ("scheduler", {"prediction_type": "flow"}, "'flow' is not one of epsilon"),
    ("scheduler", {"timestep_spacing": "trailing"}, "'trailing' is not one of leading"),
    ("tokenizer", {"pad_token": "no word"}, "pad_token is 'no word'"),
    (".", {"_class_name": "StableDiffusionXLPipeline"}, "StableDiffusionXLPipeline"),
])
def test_what_has_no_structure_here_is_refused_by_name_and_value(sd, tmp_path, part, changes, words):
    _, folder, _ = sd
    shutil.copytree(folder, tmp_path / "model")
    names = {".": "model_index", "scheduler": "scheduler_config", "tokenizer": "tokenizer_config"}
    name = names.get(part, "config")
    file = tmp_path / "model" / part / f"{name}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(MinildmError, match=words):
        load_pipeline(tmp_path / "model")


def test_missing_unexpected_and_misshapen_tensors_are_listed(sd, tmp_path):
    _, folder, _ = sd
    shutil.copytree(folder / "vae", tmp_path / "vae")
    file = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    whole = load_file(file)
    tensors = dict(whole)
    del tensors["quant_conv.bias"], tensors["encoder.conv_in.weight"]
    save_file(tensors | {"wings": torch.ones(2), "decoder.conv_out.bias": torch.ones(4)}, file)
    with pytest.raises(MinildmError) as raised:
        load_vae(tmp_path / "vae")
    for words in ("4 tensors", "quant_conv.bias is missing", "encoder.conv_in.weight is missing",
                  "wings is not expected", "decoder.conv_out.bias is (4,), not (3,)"):
        assert words in raised.value.what
    twice = "encoder.mid_block.attentions.0.query.weight"
    save_file(whole | {twice: whole[twice.replace("query", "to_q")].clone()}, file)
    with pytest.raises(MinildmError, match="1 tensors.*0.to_q.weight, a second one, is not expected"):
        load_vae(tmp_path / "vae")


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/x.safetensors", "a/b.safetensors", "..",
                                  "..\\x.safetensors", ".hidden.safetensors", "C:x.safetensors"])
def test_an_index_does_not_lead_out_of_its_folder(sd, tmp_path, name):
    _, folder, _ = sd
    (tmp_path / "unet").mkdir()
    shutil.copy(folder / "unet" / "config.json", tmp_path / "unet")
    shutil.copy(folder / "unet" / "diffusion_pytorch_model.safetensors", tmp_path / "other.safetensors")
    index = tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"conv_in.weight": name}}))
    with pytest.raises(MinildmError, match="no file of this folder"):
        load_unet(tmp_path / "unet")


class Code:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickled_code_is_not_run_and_damage_is_named(sd, tmp_path):
    _, folder, _ = sd
    code = Code(tmp_path / "ran")
    for value in {"weight": torch.ones(2), "x": code}, {"state_dict": code}:
        torch.save(value, tmp_path / "model.bin")
        with pytest.raises(MinildmError, match="does not hold tensors and nothing else"):
            read(tmp_path / "model.bin")
    assert not (tmp_path / "ran").exists()
    torch.save({"weight": torch.ones(2), "step": 3}, tmp_path / "model.bin")
    with pytest.raises(MinildmError, match="step is no tensor"):
        read(tmp_path / "model.bin")
    whole = (folder / "vae" / "diffusion_pytorch_model.safetensors").read_bytes()
    for name, content in ("a.safetensors", whole[:-9]), ("a.bin", b"tensors"), ("b.safetensors", b""):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MinildmError, match="nothing else"):
            read(tmp_path / name)
    with pytest.raises(MinildmError, match="no weights in this folder"):
        shutil.copytree(folder / "vae", tmp_path / "empty", ignore=shutil.ignore_patterns("*.safetensors"))
        load_vae(tmp_path / "empty")
    with pytest.raises(MinildmError, match="config.json cannot be read"):
        load_vae(tmp_path / "nowhere")
    with pytest.raises(MinildmError, match="cross_attention_dim is missing"):
        config = json.loads((folder / "unet" / "config.json").read_text())
        del config["cross_attention_dim"]
        formats.unet_config(Config("x", config))
    with pytest.raises(MinildmError, match="no tokenizer"):
        load_tokenizer(tmp_path / "nowhere")


def test_blocks_of_a_dit_that_disagree_about_their_embedding_are_refused(dit, tmp_path):
    shutil.copytree(dit[1] / "transformer", tmp_path / "transformer")
    file = tmp_path / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["transformer_blocks.2.norm1.emb.timestep_embedder.linear_1.bias"] += 1
    save_file(tensors, file)
    with pytest.raises(MinildmError, match="blocks.2.*ours is one for all blocks"):
        load_dit(tmp_path / "transformer")


# ---- the pipeline and the command line

def test_a_dit_folder_has_classes(dit, tmp_path):
    _, folder, ours = dit
    assert len(ours.class_names) == 1000 and ours.guidance == (Cfg(4),)
    shutil.copytree(folder, tmp_path / "named")
    file = tmp_path / "named" / "model_index.json"
    labels = {"1": "fish", "0": "tench", "10": "cock"}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"id2label": labels}))
    assert LatentDiffusion.load(tmp_path / "named").class_names == ("tench", "fish", "cock")


@torch.no_grad()
def test_bf16_stays_close_and_keeps_the_latents_scale(sd):
    _, folder, ours = sd
    low = LatentDiffusion.load(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in low.vae.parameters()} == {torch.bfloat16}
    assert torch.equal(low.vae.latent_std, ours.vae.latent_std) and low.vae.latent_std.dtype == torch.float32
    found, wanted = (pipe.generate(PROMPTS, 5, guidance_scale=2.0) for pipe in (low, ours))
    assert found.dtype == torch.float32 and (found - wanted).std() < 0.1 * wanted.std()
    assert low.vae.encode(found).mean.std() > 0


def test_large_pictures_are_drawn_and_decoded_one_by_one(sd, monkeypatch):
    _, _, ours = sd
    whole, drawn, decoded = ours.generate(PROMPTS, 2), [], []
    monkeypatch.setattr(pipeline, "PAIRS", 64**2)
    monkeypatch.setattr(pipeline, "guided", lambda d, c, *rest: drawn.append(len(c)) or guided(d, c, *rest))
    assert_close(ours.generate(PROMPTS, 2), whole, **IMAGES)
    assert drawn == [1, 1]
    decode = ours.vae.decode
    monkeypatch.setattr(latents, "PIXELS", 16**2)
    monkeypatch.setattr(ours.vae, "decode", lambda z: decoded.append(len(z)) or decode(z))
    assert_close(ours.generate(PROMPTS, 2, batch_size=2), whole, **IMAGES)
    assert decoded == [1, 1] and drawn == [1, 1, 2]


def test_the_command_line_draws_from_such_a_folder(sd, tmp_path, capsys, monkeypatch):
    _, folder, _ = sd
    out = tmp_path / "x.png"
    words = ["sample", "--model", str(folder), "--prompt", PROMPTS[0], "--negative", NEGATIVE, "--steps", "3",
             "--guidance-scale", "7.5", "--seed", "42", "--out", str(out)]
    assert cli.main(words) == 0
    assert out.read_bytes().startswith(b"\x89PNG") and "1 picture in" in capsys.readouterr().out
    assert cli.main(["sample", "--model", str(folder), "--num", "2", "--out", str(out)]) == 2
    assert "draws prompts" in capsys.readouterr().err
    asked, picture = [], random(1, 3, 256, 256, scale=0.3)
    monkeypatch.setattr(LatentDiffusion, "generate", lambda *a, **k: asked.append((a[1:], k)) or picture)
    assert cli.main(words) == 0
    # none is named: the model's own
    said = dict(num_inference_steps=3, guidance_scale=7.5, seed=42, sampler=None, negative=NEGATIVE)
    assert LatentDiffusion.load(folder).sampling.sampler == "ddim"
    assert asked == [(((PROMPTS[0],),), {"first": 0, **said})]
    assert np.array_equal(np.asarray(Image.open(out)), grid(picture))           # pixel for pixel


def test_published_weights_are_not_saved_anew(sd, tmp_path):
    with pytest.raises(MinildmError, match="copy the folder"):
        sd[2].save(tmp_path / "ours")


@pytest.mark.skipif("MINILDM_SD15" not in os.environ, reason="MINILDM_SD15 names no folder")
@torch.no_grad()
def test_the_real_one():
    from diffusers import StableDiffusionPipeline

    folder = Path(os.environ["MINILDM_SD15"])
    ours = LatentDiffusion.load(folder, dtype=torch.float32)
    assert ours.spec.schedule == STABLE_DIFFUSION.schedule and ours.image_size == 512
    theirs = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    theirs.scheduler = published.DDIM
    images = theirs(["a lighthouse at dusk"], negative_prompt=["blurry"], num_inference_steps=20,
                    latents=ours.noise(1, seed=42), output_type="pt").images
    found = ours.generate(["a lighthouse at dusk"], 20, guidance_scale=7.5, seed=42, negative="blurry")
    assert_close(found, 2 * images - 1, rtol=0, atol=1e-2)
