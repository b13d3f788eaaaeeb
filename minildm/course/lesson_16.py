"""Lesson 16's plumbing: a small folder in the published format, and a model of ours on its table.

Stable Diffusion's U-Net answers eps on a table of 1000 betas; the scenes model of the zoo answers
the flow velocity on a line. Both see the same picture and noise wherever sigma / alpha is equal, so
`OnTable` turns one question into the other exactly, but for a factor of x:

    x / (alpha + sigma) = (1 - s) x0 + s eps,   s = sigma / (alpha + sigma)
"""

import importlib.util
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from minildm.course.exercises.lesson_16_draw import Parts
from minildm.data.tokenizer import Tokenizer
from minildm.nn.clip import TextConfig, TextTransformer
from minildm.nn.unet import UNet, UNetConfig
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.published.load import SCALE

WEIGHTS = "diffusion_pytorch_model.safetensors"
# ours -> transformers' names of a CLIPTextModel
TRANSFORMERS = {
    "token_embedding": "embeddings.token_embedding",
    "position_embedding": "embeddings.position_embedding",
    "blocks": "encoder.layers", "attn1.to_out.0": "self_attn.out_proj",
    "attn1.to_q": "self_attn.q_proj", "attn1.to_k": "self_attn.k_proj",
    "attn1.to_v": "self_attn.v_proj", "norm1": "layer_norm1", "norm2": "layer_norm2",
    "ff.net.0.proj": "mlp.fc1", "ff.net.2": "mlp.fc2", "final_norm": "final_layer_norm"}
SCHEDULER = {
    "_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "beta_end": 0.012, "prediction_type": "epsilon", "clip_sample": False,
    "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading"}
INDEX = {
    "_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"], "safety_checker": [None, None],
    "feature_extractor": [None, None], "requires_safety_checker": False}


# ---- a model of ours, asked as Stable Diffusion's is

class OnTable(nn.Module):
    """A flow network (x, s, context) -> noise - data, asked at the entries of a table of alpha_bar.

    It is called as Stable Diffusion's U-Net: x of the table, t = entry / 1000; the answer is eps,
    or with prediction_type "v" alpha eps - sigma x0.
    """

    def __init__(self, network, alpha_bar, prediction_type: str = "eps"):
        super().__init__()
        self.network, self.prediction_type = network, prediction_type
        self.register_buffer("alpha_bar", alpha_bar)

    def forward(self, x, t, context):
        alpha_bar = self.alpha_bar[round(1000 * float(t))]
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        total = alpha + sigma
        velocity = self.network(x / total, sigma / total, context)         # eps - x0
        x0 = (x - sigma * velocity) / total
        eps = (x + alpha * velocity) / total
        return eps if self.prediction_type == "eps" else alpha * eps - sigma * x0


class ScaledVAE(nn.Module):
    """A VAE of ours, whose raw latents are as Stable Diffusion's: 1 / 0.18215 times as large."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def decode(self, raw):
        return self.vae.decode(self.vae.denormalise(SCALE * raw))


# ---- a folder in the published format

def unet_json(config: UNetConfig, side: int = 8) -> dict:
    """What diffusers' config.json says of such a U-Net."""
    c = config
    down = ["CrossAttnDownBlock2D" if here else "DownBlock2D" for here in c.attention]
    return {"_class_name": "UNet2DConditionModel", "in_channels": c.in_channels,
            "out_channels": c.out_channels, "sample_size": side, "layers_per_block": c.blocks,
            "block_out_channels": c.channels, "norm_num_groups": c.groups,
            "cross_attention_dim": c.context_dim, "attention_head_dim": c.heads,
            "down_block_types": down,
            "up_block_types": [name.replace("Down", "Up") for name in reversed(down)]}


def vae_json(config: VAEConfig) -> dict:
    """What diffusers' config.json says of such a VAE."""
    c, levels = config, len(config.channels)
    return {"_class_name": "AutoencoderKL", "in_channels": c.in_channels,
            "out_channels": c.in_channels, "latent_channels": c.latent_channels,
            "block_out_channels": c.channels, "layers_per_block": c.blocks,
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels, "norm_num_groups": c.groups,
            "scaling_factor": SCALE}


def text_json(config: TextConfig) -> dict:
    """What transformers' config.json says of such a text tower."""
    c = config
    return {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model",
            "vocab_size": c.vocab_size, "hidden_size": c.dim, "intermediate_size": 4 * c.dim,
            "num_hidden_layers": c.depth, "num_attention_heads": c.heads,
            "max_position_embeddings": c.length, "hidden_act": "quick_gelu",
            "bos_token_id": c.vocab_size - 2, "eos_token_id": c.vocab_size - 1}


def transformers_name(name: str) -> str:
    """The name that a tensor of ours has in a published text encoder."""
    for ours, theirs in TRANSFORMERS.items():
        name = name.replace(ours, theirs)
    return "text_model." + name


def write_json(path: Path, values: dict):
    """Write one JSON file, with the folder that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1))


def write_part(folder: Path, name: str, tensors: dict, config: dict):
    """Write the config.json and the tensors of one network."""
    write_json(folder / "config.json", config)
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    save_file(tensors, folder / name, {"format": "pt"})


def write_published(folder, unet, text, tokenizer, vae=None):
    """Write U-Net, text tower, words, table and index, and a VAE that has the published form."""
    folder = Path(folder)
    write_part(folder / "unet", WEIGHTS, unet.state_dict(), unet_json(unet.config))
    tensors = {transformers_name(name): t for name, t in text.state_dict().items()}
    # as the hub's older files have it: numbers that are no weights
    tensors["text_model.embeddings.position_ids"] = torch.arange(text.config.length)[None]
    write_part(folder / "text_encoder", "model.safetensors", tensors, text_json(text.config))
    if vae is not None:
        # diffusers' format keeps one scale, in the JSON
        tensors = {k: t for k, t in vae.state_dict().items() if not k.startswith("latent_")}
        write_part(folder / "vae", WEIGHTS, tensors, vae_json(vae.config))
    tokenizer.save(folder / "tokenizer")
    write_json(folder / "tokenizer" / "tokenizer_config.json",
               {"model_max_length": text.config.length, "pad_token": "<|endoftext|>"})
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(folder / "model_index.json", INDEX)


def write_small(folder):
    """Write a Stable Diffusion that is the published one but for its sizes and random weights."""
    words = Tokenizer.train(["a lighthouse at dusk", "blurry"], 600)
    unet = randomised(UNet(UNetConfig(channels=(32, 64), attention=(True, False), blocks=1,
                                      context_dim=32, heads=4, groups=8)))
    vae = randomised(AutoencoderKL(VAEConfig(channels=(16, 32, 32), groups=8)))
    text = randomised(TextTransformer(TextConfig(vocab_size=len(words), dim=32, depth=2, heads=4)))
    # the U-Net is loud enough to change the picture, which is so faint that it is not clipped
    unet.conv_out.weight.data *= 3.0
    vae.decoder.conv_out.weight.data *= 0.3
    write_published(folder, unet, text, words, vae)


def randomised(network):
    """Random weights that keep a signal's size; those of a norm stay near 1 and 0."""
    generator = torch.Generator().manual_seed(0)
    for name, p in network.named_parameters():
        drawn = torch.randn(p.shape, generator=generator)
        if p.ndim > 1:
            p.data = drawn / p[0].numel()**0.5
        else:
            p.data = 0.1 * drawn + name.endswith("weight")
    return network.eval()


# ---- the networks of others, called as ours are

class TheirUNet(nn.Module):
    """diffusers' U-Net of a published folder, called as ours: (x, t in [0, 1], states) -> eps."""

    def __init__(self, folder):
        from diffusers import UNet2DConditionModel

        super().__init__()
        self.network = UNet2DConditionModel.from_pretrained(Path(folder) / "unet").eval()

    def forward(self, x, t, context):
        return self.network(x, 1000 * t, context).sample


class TheirText(nn.Module):
    """transformers' text tower of a published folder, called as ours: ids -> (states, pooled)."""

    def __init__(self, folder):
        from transformers import CLIPTextModel

        super().__init__()
        self.network = CLIPTextModel.from_pretrained(Path(folder) / "text_encoder").eval()

    def forward(self, ids):
        out = self.network(ids)
        return out.last_hidden_state, out.pooler_output


def parity_is_possible() -> bool:
    """Tell whether diffusers and transformers are installed; make them quiet if they are."""
    if not all(importlib.util.find_spec(name) for name in ("diffusers", "transformers")):
        print("this comparison wants two libraries: pip install -e '.[parity]'")
        return False
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    return True


def by_diffusers(folder, **call):
    """The ten lines: the images that diffusers' pipeline draws from a folder, in [-1, 1]."""
    import diffusers

    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return 2 * pipe(**call, output_type="pt").images - 1


def parts_of(model) -> Parts:
    """Tokenizer, text tower, U-Net and VAE of a published model, on its device."""
    def tokenizer(texts):
        return model.tokenizer(texts, model.text_encoder.config.length).to(model.device)

    return Parts(tokenizer, model.text_encoder, model.denoiser.network, model.vae)
