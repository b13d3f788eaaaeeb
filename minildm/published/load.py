"""Published weights in our own classes: Stable Diffusion 1.x and 2.x, SDXL's VAE, DiT-XL/2, CLIP.

    # a folder in diffusers' layout, or one file
    model = LatentDiffusion.load("stable-diffusion-v1-5")
    model.generate(["a lighthouse at dusk"], 30, guidance_scale=7.5, negative="blurry")

Nothing is computed here. A published model is a configuration of our classes, read from its
config.json, and tensors that get our names: all of them and no others, or what is missing and left
over is listed. No file is read but those of the folder.
"""

import re
from dataclasses import replace
from pathlib import Path

import torch

from minildm import MinildmError
from minildm.conditioners import Conditioner, Labels, Prompts
from minildm.diffusion.guidance import Cfg
from minildm.latents import VAELatents
from minildm.model import LatentDiffusion
from minildm.nn.clip import CLIP, CLIPConfig, TextConfig, TextTransformer
from minildm.nn.dit import DiT, DiTConfig
from minildm.nn.unet import UNet, UNetConfig
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.published import formats, names
from minildm.published.files import read, read_folder
from minildm.published.formats import Config, Scheduling
from minildm.published.names import renamed
from minildm.published.words import load_tokenizer
from minildm.spec import Sampling, make_denoiser
from minildm.training.loop import gains_from_bf16

SCALE = 0.18215     # of Stable Diffusion's latents: 1 / their standard deviation
STABLE_DIFFUSION = Scheduling("scaled_linear", "eps", steps_offset=1, set_alpha_to_one=False)
SIDE = 512          # of the pictures that a single file draws
STEPS = 50
PROMPTS_SCALE, CLASSES_SCALE = 7.5, 4.0     # of guidance, as the two are used
LISTED = 30         # tensors that an error names


# ---- weights of one network

def load_weights(kind, config, tensors: dict, where, dtype, device):
    """A network of this configuration with these tensors: all, no others, of the right shapes."""
    with torch.device("meta"):
        network = kind(config)
    wanted = network.state_dict()
    if kind in (AutoencoderKL, UNet):
        tensors = {name: as_wanted(t, wanted.get(name)) for name, t in tensors.items()}
    wrong = [f"{name} is missing" for name in wanted if name not in tensors]
    for name, tensor in tensors.items():
        if name not in wanted:
            wrong.append(f"{name} is not expected")
        elif tensor.shape != wanted[name].shape:
            shapes = tuple(tensor.shape), tuple(wanted[name].shape)
            wrong.append(f"{name} is {shapes[0]}, not {shapes[1]}")
    if wrong:
        listed = ", ".join(wrong[:LISTED])
        more = f" and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
        what = f"{len(wrong)} tensors do not fit {kind.__name__}: {listed}{more}"
        raise MinildmError(what, where, "is it this model, and the download whole?")
    # only what was found to fit is copied, and takes memory
    state = {name: t.to(device, dtype, copy=True).contiguous() for name, t in tensors.items()}
    network.load_state_dict(state, assign=True)
    return network.eval()


def as_wanted(tensor, wanted):
    """A 1 x 1 convolution as the linear layer that it is, and a linear layer as a convolution.

    Older VAEs store their attention as the first; Stable Diffusion 2's U-Net has the second where
    1.x and ours have convolutions.
    """
    if wanted is not None and tensor.ndim == 4 and wanted.ndim == 2:
        return tensor.flatten(1)
    if wanted is not None and tensor.ndim == 2 and wanted.shape[2:] == (1, 1):
        return tensor[:, :, None, None]
    return tensor


def load_vae_weights(config: VAEConfig, tensors: dict, scale: float, where, dtype, device):
    """A VAE with these tensors and its latents' scale, which is no tensor of theirs."""
    std = torch.full((config.latent_channels,), 1 / scale)
    tensors = {**tensors, "latent_mean": torch.zeros_like(std), "latent_std": std}
    vae = load_weights(AutoencoderKL, config, tensors, where, dtype, device)
    vae.latent_std = std.to(device)             # float32, whatever the weights are
    return vae


# ---- diffusers' and transformers' folders, and the original files

def load_vae(path, dtype=torch.float32, device="cpu", config: VAEConfig = VAEConfig(),
             scale: float = SCALE) -> AutoencoderKL:
    """A VAE alone: diffusers' folder, of which SDXL-VAE and SD-VAE-FT-MSE are two, or its file.

    A file in CompVis' names says neither sizes nor scale: `config`, and 0.13025 for SDXL's.
    """
    path = Path(path)
    if path.is_file():
        tensors = {name: t for name, t in read(path).items() if not names.VAE_EXTRAS.match(name)}
        tensors = renamed(tensors, names.compvis_vae(len(config.channels)))
    else:
        written = Config.read(path)
        config, scale = formats.vae_config(written), written.number("scaling_factor", SCALE)
        tensors = renamed(read_folder(path), names.VAE_OLD)
    return load_vae_weights(config, tensors, scale, path, dtype, device)


def load_unet(folder, dtype=torch.float32, device="cpu") -> UNet:
    """diffusers' folder `unet`, whose names are ours."""
    config = formats.unet_config(Config.read(folder))
    return load_weights(UNet, config, read_folder(Path(folder)), folder, dtype, device)


def load_text(folder, dtype=torch.float32, device="cpu") -> TextTransformer:
    """diffusers' folder `text_encoder`, which is transformers' CLIPTextModel."""
    config = formats.text_config(Config.read(folder))
    tensors = renamed(read_folder(Path(folder)), names.TEXT)
    return load_weights(TextTransformer, config, tensors, folder, dtype, device)


def load_clip(path, dtype=torch.float32, device="cpu", config: CLIPConfig | None = None) -> CLIP:
    """Both towers: a folder of transformers' CLIPModel, or a file of OpenAI's, by `config`."""
    path = Path(path)
    if path.is_dir():
        config = formats.clip_config(Config.read(path))
        tensors = renamed(read_folder(path), names.TOWER)
    else:
        config = config or CLIPConfig()
        tensors = renamed(read(path), names.OPENAI_CLIP)
    return load_weights(CLIP, config, tensors, path, dtype, device)


def load_dit(path, dtype=torch.float32, device="cpu", **changes) -> DiT:
    """A DiT: diffusers' folder `transformer`, or the official file, DiT-XL/2 but for `changes`.

    Each computes as its own code does. freq_shift=0, mlp_eps=1e-6 let a folder compute as the
    official code, which also guides 3 of 4 channels: see `guidance.cfg`.
    """
    path = Path(path)
    if path.is_dir():
        config = formats.dit_config(Config.read(path))
        tensors = read_folder(path)
        check_copies(tensors, path)
        tensors = renamed(tensors, names.DIT)
    else:
        config = DiTConfig()
        tensors = renamed(read(path), names.DIT_OFFICIAL)
    return load_weights(DiT, replace(config, **changes), tensors, path, dtype, device)


def check_copies(tensors: dict, where):
    """Refuse a DiT whose blocks hold embeddings of their own, for which we have no structure."""
    for name, tensor in tensors.items():
        first = re.sub(r"^transformer_blocks\.\d+\.norm1\.emb\.", names.FIRST, name)
        if first in tensors and not torch.equal(tensor, tensors[first]):
            raise MinildmError(f"{name} is not what {first} is: ours is one for all blocks", where,
                               "take DiT's published weights, whose blocks hold copies")


def load_single_file(path, dtype=torch.float32, device="cpu", vae: VAEConfig = VAEConfig(),
                     unet: UNetConfig = UNetConfig(), text: TextConfig = TextConfig()):
    """VAE, U-Net and text encoder of an original Stable Diffusion 1.x file."""
    parts = {"first_stage_model.": {}, "model.diffusion_model.": {},
             "cond_stage_model.transformer.": {}, "": {}}
    path = Path(path)
    tensors = read(path)
    check_single_file(tensors, path)
    for name, tensor in tensors.items():
        if names.SINGLE_FILE_EXTRAS.match(name):
            continue
        prefix = next(prefix for prefix in parts if name.startswith(prefix))
        parts[prefix][name.removeprefix(prefix)] = tensor
    vae_tensors, unet_tensors, text_tensors, others = parts.values()
    vae_tensors = renamed(vae_tensors, names.compvis_vae(len(vae.channels)))
    # what belongs to nothing is given to the U-Net, which refuses it by name
    unet_tensors = renamed(unet_tensors, names.compvis_unet(unet.blocks)) | others
    text_tensors = renamed(text_tensors, names.TEXT)
    return (load_vae_weights(vae, vae_tensors, SCALE, path, dtype, device),
            load_weights(UNet, unet, unet_tensors, path, dtype, device),
            load_weights(TextTransformer, text, text_tensors, path, dtype, device))


def check_single_file(tensors: dict, where):
    """Refuse the files of later models, and say in which part they differ."""
    parts = {"cond_stage_model.model.": "the text encoder is OpenCLIP's, as in Stable Diffusion 2",
             "conditioner.embedders.": "there are two text encoders, as in SDXL",
             "model.diffusion_model.joint_blocks.": "the network is no U-Net, as in SD3"}
    for prefix, what in parts.items():
        if any(name.startswith(prefix) for name in tensors):
            raise MinildmError(f"{what}: single files of 1.x only are read", where,
                               "take diffusers' folder of the model, if it is of 1.x or 2.x")


# ---- whole models

def load_pipeline(path, dtype: torch.dtype | None = None, device="cpu") -> LatentDiffusion:
    """A model from diffusers' folder of a StableDiffusionPipeline or a DiTPipeline, or from a
    single file that has the folder `tokenizer` beside it.

    `dtype` is by default bf16 where that is faster, else float32.
    """
    path, device = Path(path), torch.device(device)
    dtype = dtype or (torch.bfloat16 if gains_from_bf16(device) else torch.float32)
    if path.is_file():
        vae, unet, text = load_single_file(path, dtype, device)
        words = Prompts(text, load_tokenizer(path.parent / "tokenizer"))
        return assembled(vae, unet, words, STABLE_DIFFUSION, SIDE, PROMPTS_SCALE, dtype)
    index = Config.read(path, "model_index.json")
    kinds = ("StableDiffusionPipeline", "DiTPipeline")
    check_pipeline(index, kinds)
    scheduling = formats.schedule_config(Config.read(path / "scheduler", "scheduler_config.json"))
    vae = load_vae(path / "vae", dtype, device)
    if index["_class_name"] == kinds[0]:
        network, folder = load_unet(path / "unet", dtype, device), path / "unet"
        text = load_text(path / "text_encoder", dtype, device)
        conditioner, scale = Prompts(text, load_tokenizer(path / "tokenizer")), PROMPTS_SCALE
    else:
        network, folder = load_dit(path / "transformer", dtype, device), path / "transformer"
        conditioner, scale = Labels(class_names(index, network), device), CLASSES_SCALE
    side = formats.image_side(Config.read(folder)) * vae.config.factor
    return assembled(vae, network, conditioner, scheduling, side, scale, dtype)


def check_pipeline(index: Config, kinds: tuple[str, str]):
    """Refuse other pipelines: they have folders of the same names, and compute something else."""
    known = {"vae": "AutoencoderKL", "unet": "UNet2DConditionModel", "tokenizer": "CLIPTokenizer",
             "text_encoder": "CLIPTextModel", "transformer": "DiTTransformer2DModel"}
    if index["_class_name"] in kinds:
        return
    # [library, class] for each folder; null where a part is left out
    parts = {name: part[1] for name, part in index.items()
             if isinstance(part, list) and len(part) == 2 and isinstance(part[1], str)}
    harmless = "scheduler", "feature_extractor", "safety_checker"
    others = [f"{name} ({kind})"[:60] for name, kind in parts.items()
              if known.get(name) != kind.removesuffix("Fast") and name not in harmless]
    what = f"_class_name is {index['_class_name']!r:.99}"
    if others:
        what += f", whose {', '.join(others)[:300]} we have no class for"
    raise MinildmError(what, index.where, f"take a {' or a '.join(kinds)}")


def class_names(index: Config, network: DiT) -> list[str]:
    """The names of a DiT's classes in order of their numbers; without a list, the numbers."""
    labels = index.get("id2label") or {i: i for i in range(network.config.num_classes)}
    try:
        return [str(labels[key]) for key in sorted(labels, key=int)]
    except (TypeError, ValueError) as error:
        raise MinildmError(f"id2label cannot be read: {error}"[:200], index.where,
                           "is the download whole?") from None


def assembled(vae: AutoencoderKL, network, conditioner: Conditioner, scheduling: Scheduling,
              side: int, scale: float, dtype: torch.dtype) -> LatentDiffusion:
    """A model of these parts, which draws pictures of this side."""
    space = VAELatents(vae, side, network.config.multiple)
    sampling = Sampling(num_inference_steps=STEPS, steps_offset=scheduling.steps_offset,
                        set_alpha_to_one=scheduling.set_alpha_to_one)
    denoiser = make_denoiser(network, space, scheduling.schedule, scheduling.prediction_type,
                             sampling)
    classes = conditioner.class_names if isinstance(conditioner, Labels) else ()
    return LatentDiffusion(latent_space=space, denoiser=denoiser, conditioner=conditioner,
                           guidance=(Cfg(scale),), sampling=sampling, class_names=classes,
                           dtype=dtype)
