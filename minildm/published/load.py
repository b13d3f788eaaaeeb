"""Published weights in our own classes: Stable Diffusion 1.x, DiT-XL/2, CLIP ViT-L/14.

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
from minildm.data.tokenizer import END, START, Tokenizer
from minildm.diffusion.guidance import Cfg
from minildm.latents import VAELatents
from minildm.model import LatentDiffusion
from minildm.nn.clip import CLIP, CLIPConfig, TextConfig, TextTransformer
from minildm.nn.dit import DiT, DiTConfig
from minildm.nn.unet import UNet, UNetConfig
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.published import formats, names
from minildm.published.files import check_file, read, read_folder, read_json
from minildm.published.formats import Config, Scheduling
from minildm.published.names import renamed
from minildm.spec import Sampling, make_denoiser
from minildm.training.loop import gains_from_bf16

SCALE = 0.18215     # of Stable Diffusion's latents: 1 / their standard deviation
STABLE_DIFFUSION = Scheduling("scaled_linear", "eps", steps_offset=1, set_alpha_to_one=False)
SIDE = 512          # of the pictures that a single file draws
STEPS = 50
PROMPTS_SCALE, CLASSES_SCALE = 7.5, 4.0     # of guidance, as the two are used
LISTED = 30         # tensors that an error names
VOCABULARY_BYTES = 64 * 2**20


# ---- weights of one network

def load_weights(kind, config, tensors: dict, where, dtype, device):
    """A network of this configuration with these tensors: all, no others, of the right shapes."""
    with torch.device("meta"):
        network = kind(config)
    wanted = network.state_dict()
    if kind is AutoencoderKL:
        tensors = {name: as_matrix(t, wanted.get(name)) for name, t in tensors.items()}
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


def as_matrix(tensor, wanted):
    """A 1 x 1 convolution as the linear layer that it is; older VAEs store their attention so."""
    if wanted is not None and tensor.ndim == 4 and wanted.ndim == 2:
        return tensor.flatten(1)
    return tensor


def load_vae_weights(config: VAEConfig, tensors: dict, scale: float, where, dtype, device):
    """A VAE with these tensors and its latents' scale, which is no tensor of theirs."""
    std = torch.full((config.latent_channels,), 1 / scale)
    tensors = {**tensors, "latent_mean": torch.zeros_like(std), "latent_std": std}
    vae = load_weights(AutoencoderKL, config, tensors, where, dtype, device)
    vae.latent_std = std.to(device)             # float32, whatever the weights are
    return vae


# ---- diffusers' and transformers' folders, and the original files

def load_vae(folder, dtype=torch.float32, device="cpu") -> AutoencoderKL:
    """diffusers' folder `vae`."""
    config = Config.read(folder)
    ours, scale = formats.vae_config(config), config.number("scaling_factor", SCALE)
    tensors = renamed(read_folder(Path(folder)), names.VAE_OLD)
    return load_vae_weights(ours, tensors, scale, folder, dtype, device)


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
    for name, tensor in read(path).items():
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


# ---- words

def load_tokenizer(folder) -> Tokenizer:
    """diffusers' folder `tokenizer`.

    Stable Diffusion 2's, which pads with another token, is refused, and so are words that were
    added to the vocabulary, as textual inversion does, if the tokenizer does not read each as its
    own token.
    """
    folder = Path(folder)
    # before the tokenizer opens them: a pipe in a file's place would not end
    for name in "vocab.json", "merges.txt", "tokenizer.json":
        if (folder / name).exists():
            check_file(folder / name, VOCABULARY_BYTES)
    config = Config(folder, {})
    if (folder / "tokenizer_config.json").exists():
        config = Config.read(folder, "tokenizer_config.json")
        if isinstance(config.get("pad_token"), dict):
            config["pad_token"] = config["pad_token"].get("content")
        config.check({"pad_token": END})
    try:
        tokenizer = Tokenizer.load(folder)
    except RecursionError:
        what = "its JSON is nested without end"
        raise MinildmError(what, folder, "don't trust this folder") from None
    added = added_words(folder, config)
    # asked of the tokenizer itself, whatever it can and can't do
    lost = [word for word, i in added.items() if tokenizer.encode(word) != [i]]
    if lost:
        what = f"added tokens would be read as ordinary words: {', '.join(lost)[:200]}"
        raise MinildmError(what, folder, "take a tokenizer without added tokens")
    return tokenizer


def added_words(folder: Path, config: Config) -> dict[str, int]:
    """Words beside CLIP's own that a tokenizer's files add to the vocabulary, and their ids."""
    found = {}
    if (folder / "added_tokens.json").exists():
        found |= read_json(folder / "added_tokens.json")
    listed = config.get("added_tokens_decoder")
    if isinstance(listed, dict):
        found |= {token.get("content"): i for i, token in listed.items() if isinstance(token, dict)}
    try:
        return {str(word): int(i) for word, i in found.items() if word not in (START, END)}
    except (TypeError, ValueError) as error:
        what = f"its added tokens cannot be read: {error}"[:200]
        raise MinildmError(what, folder, "is the download whole?") from None


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
    # other pipelines have the same folders, and compute something else with them
    kinds = ("StableDiffusionPipeline", "DiTPipeline")
    index.check({"_class_name": kinds[1] if index["_class_name"] == kinds[1] else kinds[0]})
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
