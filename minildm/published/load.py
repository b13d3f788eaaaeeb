"""Published weights in our own classes: Stable Diffusion 1.x, DiT-XL/2, CLIP ViT-L/14.

    pipe = LatentDiffusion.load("stable-diffusion-v1-5")      # a folder in diffusers' layout, or one big file
    pipe.generate(["a lighthouse at dusk"], negative="blurry", num_inference_steps=30, guidance_scale=7.5)

Nothing is computed here. A published model is a configuration of our classes, read from its config.json, and
tensors that get our names: all of them and no others, or what is missing and left over is listed. What our
classes have no structure for is refused, by name and value. Files are safetensors, or pickles of nothing but
tensors (torch.load's weights_only): no code is run. No file is read but those of the folder.
"""

import re
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch

from minildm import MinildmError
from minildm.data.tokenizer import END, Tokenizer
from minildm.nn.clip import CLIP, CLIPConfig, TextConfig, TextTransformer
from minildm.nn.dit import DiT, DiTConfig
from minildm.nn.unet import UNet, UNetConfig
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.published import formats
from minildm.published.formats import Config
from minildm.recipes.stages import Recipe, denoiser_of
from minildm.training.loop import gains_from_bf16

SCALE = 0.18215     # of Stable Diffusion's latents: 1 / their standard deviation
STABLE_DIFFUSION = Recipe(
    VAEConfig(), None, UNetConfig(), None, schedule="scaled_linear", prediction_type="eps", times="uniform",
    guidance_scale=7.5, num_inference_steps=50, steps_offset=1, set_alpha_to_one=False, measured="published")


def read(path: Path) -> dict:
    """The tensors of one file, by name, on the CPU."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("state_dict", "ema"):       # CompVis' training, DiT's
            state = state.get(key, state)
        if odd := [name for name, value in state.items() if not torch.is_tensor(value)]:
            raise TypeError(f"{odd[0]} is no tensor")
        return state
    except Exception as error:                  # of torch, pickle, zipfile, safetensors: no common ancestor
        reason = " ".join(str(error).split())[:120]
        raise MinildmError(f"{path.name} does not hold tensors and nothing else: {reason}", path,
                           "take this model's .safetensors, or download it again") from None


def read_folder(folder: Path) -> dict:
    """The tensors of a component: one file or shards, float32 or fp16, safetensors before pickles."""
    for kind, variant in ("safetensors", ""), ("safetensors", ".fp16"), ("bin", ""), ("bin", ".fp16"):
        for stem in ("diffusion_pytorch_model", "model", "pytorch_model"):
            index = folder / f"{stem}.{kind}.index{variant}.json"
            if index.is_file():
                shards = set(map(str, Config.read(folder, index.name)["weight_map"].values()))
                if bad := [name for name in shards if not re.fullmatch(rf"\w[\w.-]*\.{kind}", name)]:
                    raise MinildmError(f"it names {bad[0]!r}, which is no file of this folder", index,
                                       "don't trust this download")
                return {name: t for shard in sorted(shards) for name, t in read(folder / shard).items()}
            if (folder / f"{stem}{variant}.{kind}").is_file():
                return read(folder / f"{stem}{variant}.{kind}")
    raise MinildmError("there are no weights in this folder", folder,
                       "it takes diffusion_pytorch_model or model, .safetensors or .bin, whole or in shards")


def renamed(tensors: dict, rules: list) -> dict:
    """Tensors under our names; a second one for the same name gets another, which `fill` refuses."""
    ours = {}
    for name, tensor in tensors.items():
        new = name
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        if "{qkv}" in new:
            parts = zip("qkv", tensor.chunk(3), strict=True)
            ours |= {new.replace("{qkv}", letter): part for letter, part in parts}
        elif new:
            new, tensor = (new[:-3], tensor.T) if new.endswith("{T}") else (new, tensor)
            ours[f"{new}, a second one," if new in ours else new] = tensor
    return ours


def fill(kind, config, tensors: dict, where, dtype, device):
    """A network of this configuration with these tensors: all of them, no others, of the right shapes."""
    with torch.device("meta"):
        network = kind(config)
    wanted = network.state_dict()
    if kind is AutoencoderKL:       # older files store its attention as 1 x 1 convolutions
        tensors = {name: t.flatten(1) if t.ndim == 4 and name in wanted and wanted[name].ndim == 2 else t
                   for name, t in tensors.items()}
    wrong = [f"{name} is missing" for name in wanted if name not in tensors]
    wrong += [f"{name} is not expected" for name in tensors if name not in wanted]
    wrong += [f"{name} is {tuple(t.shape)}, not {tuple(wanted[name].shape)}" for name, t in tensors.items()
              if name in wanted and t.shape != wanted[name].shape]
    if wrong:
        more = f" and {len(wrong) - 30} more" if len(wrong) > 30 else ""
        raise MinildmError(f"{len(wrong)} tensors do not fit {kind.__name__}: {', '.join(wrong[:30])}{more}",
                           where, "is it this model, and the download whole?")
    state = {name: t.to(device, dtype, copy=True).contiguous() for name, t in tensors.items()}
    network.load_state_dict(state, assign=True)
    return network.eval()


def fill_vae(config: VAEConfig, tensors: dict, scale: float, where, dtype, device) -> AutoencoderKL:
    """With the latents' scale, which is no tensor of theirs."""
    std = torch.full((config.latent_channels,), 1 / scale)
    tensors = {**tensors, "latent_mean": 0 * std, "latent_std": std}
    vae = fill(AutoencoderKL, config, tensors, where, dtype, device)
    vae.latent_std = std.to(device)             # float32, whatever the weights are
    return vae


def load_vae(folder, dtype=torch.float32, device="cpu") -> AutoencoderKL:
    """diffusers' folder `vae`."""
    config = Config.read(folder)
    return fill_vae(formats.vae_config(config), renamed(read_folder(Path(folder)), formats.VAE_OLD),
                    config.get("scaling_factor", SCALE), folder, dtype, device)


def load_unet(folder, dtype=torch.float32, device="cpu") -> UNet:
    """diffusers' folder `unet`, whose names are ours."""
    config, tensors = formats.unet_config(Config.read(folder)), read_folder(Path(folder))
    return fill(UNet, config, tensors, folder, dtype, device)


def load_text(folder, dtype=torch.float32, device="cpu") -> TextTransformer:
    """diffusers' folder `text_encoder`, which is transformers' CLIPTextModel."""
    config = formats.text_config(Config.read(folder))
    tensors = renamed(read_folder(Path(folder)), formats.TEXT)
    return fill(TextTransformer, config, tensors, folder, dtype, device)


def load_clip(path, dtype=torch.float32, device="cpu", config: CLIPConfig | None = None) -> CLIP:
    """Both towers: a folder of transformers' CLIPModel, or a file as OpenAI's, of ViT-L/14 or `config`."""
    path = Path(path)
    if path.is_dir():
        config, tensors = formats.clip_config(Config.read(path)), renamed(read_folder(path), formats.TOWER)
    else:
        config, tensors = config or CLIPConfig(), renamed(read(path), formats.OPENAI_CLIP)
    return fill(CLIP, config, tensors, path, dtype, device)


def load_dit(path, dtype=torch.float32, device="cpu", **changes) -> DiT:
    """A DiT: diffusers' folder `transformer`, or the official file, DiT-XL/2 if `changes` say nothing else.

    Each computes as its own code does. freq_shift=0, mlp_eps=1e-6 let a folder compute as the official code,
    which also guides 3 of 4 channels: see `guidance.cfg`.
    """
    path = Path(path)
    if path.is_dir():
        config, tensors = formats.dit_config(Config.read(path)), read_folder(path)
        for name, tensor in tensors.items():
            first = re.sub(r"^transformer_blocks\.\d+\.norm1\.emb\.", formats.FIRST, name)
            if first in tensors and not torch.equal(tensor, tensors[first]):
                raise MinildmError(f"{name} is not what {first} is: ours is one for all blocks", path,
                                   "take DiT's published weights, whose blocks hold copies")
        tensors = renamed(tensors, formats.DIT)
    else:
        config, tensors = DiTConfig(), renamed(read(path), formats.DIT_OFFICIAL)
    return fill(DiT, replace(config, **changes), tensors, path, dtype, device)


def load_single_file(path, dtype=torch.float32, device="cpu", recipe: Recipe = STABLE_DIFFUSION,
                     text: TextConfig | None = None):
    """VAE, U-Net and text encoder of an original Stable Diffusion 1.x checkpoint, .safetensors or .ckpt."""
    parts = {"first_stage_model.": {}, "model.diffusion_model.": {}, "cond_stage_model.transformer.": {},
             "": {}}
    for name, tensor in read(Path(path)).items():
        if not formats.SINGLE_FILE_EXTRAS.match(name):
            prefix = next(prefix for prefix in parts if name.startswith(prefix))
            parts[prefix][name.removeprefix(prefix)] = tensor
    vae, unet, tower, others = parts.values()
    vae = renamed(vae, formats.compvis_vae(len(recipe.vae.channels)))
    unet = renamed(unet, formats.compvis_unet(recipe.network.blocks)) | others      # which are not expected
    return (fill_vae(recipe.vae, vae, SCALE, path, dtype, device),
            fill(UNet, recipe.network, unet, path, dtype, device),
            fill(TextTransformer, text or TextConfig(), renamed(tower, formats.TEXT), path, dtype, device))


def load_tokenizer(folder) -> Tokenizer:
    """diffusers' folder `tokenizer`; Stable Diffusion 2's, which pads with another token, is refused."""
    if (Path(folder) / "tokenizer_config.json").is_file():
        config = Config.read(folder, "tokenizer_config.json")
        if isinstance(config.get("pad_token"), dict):
            config["pad_token"] = config["pad_token"].get("content")
        config.check({"pad_token": END})
    return Tokenizer.load(folder)


def load_pipeline(path, dtype: torch.dtype | None = None, device="cpu") -> tuple:
    """The arguments of `pipeline.LatentDiffusion`: from diffusers' folder of a StableDiffusionPipeline or a
    DiTPipeline, or from a single file that has the folder `tokenizer` beside it.

    `dtype` is by default bf16 where that is faster, else float32.
    """
    path, device = Path(path), torch.device(device)
    dtype = dtype or (torch.bfloat16 if gains_from_bf16(device) else torch.float32)
    if path.is_file():
        vae, unet, text = load_single_file(path, dtype, device)
        return (STABLE_DIFFUSION, vae, denoiser_of(STABLE_DIFFUSION, unet), (), 512, text,
                load_tokenizer(path.parent / "tokenizer"), dtype)
    index = Config.read(path, "model_index.json")
    kinds = ["StableDiffusionPipeline", "DiTPipeline"]
    words = index["_class_name"] == kinds[0]
    index.check({"_class_name": kinds[not words]})
    schedule = formats.schedule_config(Config.read(path / "scheduler", "scheduler_config.json"))
    vae, classes, text, tokenizer = load_vae(path / "vae", dtype, device), (), None, None
    if words:
        network = load_unet(path / "unet", dtype, device)
        text, tokenizer = load_text(path / "text_encoder", dtype, device), load_tokenizer(path / "tokenizer")
    else:
        network = load_dit(path / "transformer", dtype, device)
        labels = index.get("id2label") or {k: k for k in range(network.config.num_classes)}
        classes = [str(labels[key]) for key in sorted(labels, key=int)]
    recipe = replace(STABLE_DIFFUSION, vae=vae.config, network=network.config,
                     guidance_scale=7.5 if words else 4.0, **schedule)
    side = Config.read(path / ("unet" if words else "transformer"))["sample_size"] or 64
    return (recipe, vae, denoiser_of(recipe, network), classes, side * vae.config.factor, text, tokenizer,
            dtype)
