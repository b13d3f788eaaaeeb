"""Stable Diffusion 1.5 at its own size with random weights, in bf16, beside diffusers' classes.

Where diffusers is missing the rows hold our times alone, and say so.
"""

import functools
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.claims import ROOT
from minildm.bench import medians
from minildm.conditioners import Prompts
from minildm.data.tokenizer import Tokenizer
from minildm.nn.clip import TextConfig, TextTransformer
from minildm.nn.unet import UNet, UNetConfig
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.published.load import SCALE, STABLE_DIFFUSION, assembled

sys.path.insert(0, str(ROOT / "tests"))     # for tests/support

PROMPT = ["a red three left of a blue eight"]
SMALL = (VAEConfig(3, 4, (16, 32), groups=8), TextConfig(0, 77, dim=24, depth=2, heads=3),
         UNetConfig(4, 4, (16, 32), (True, False), blocks=1, context_dim=24, heads=4, groups=8))
FULL = VAEConfig(), TextConfig(0), UNetConfig()
STEPS = 20          # of a whole picture
SECONDS = {"eager": 20, "compiled": 90}


def run(bench) -> None:
    parts = ("U-Net step", "VAE decode", "text encoder", "whole picture, 20 steps")
    hows = ("eager", "compiled") if bench.device.type == "cuda" else ("eager",)
    for how in hows:
        for part in parts:
            bench.measure(f"{part}, {how}", SECONDS[how],
                          lambda part=part, how=how: pair_row(bench, part, how))


def pair_row(bench, part: str, how: str) -> dict:
    """Milliseconds of ours and of theirs in turn, medians; the largest difference of outputs."""
    ours, theirs = models(bench.device, bench.smoke)
    compiled = []
    if how == "compiled":
        compiled = [module for module in networks_of(part, ours, theirs) if module is not None]
    # in place, as a user of either would
    for module in compiled:
        module.compile()
    try:
        with torch.no_grad():
            return timed(bench, part, ours, theirs)
    finally:
        for module in compiled:
            # what `compile` sets, and has no opposite for
            module._compiled_call_impl = None


def timed(bench, part: str, ours, theirs) -> dict:
    pairs = [job for job in jobs(part, ours, theirs, bench.choose(2, STEPS)) if job is not None]
    outputs = [job().float() for job in pairs]
    rounds = bench.choose(1, 5 if "whole" in part else 20)
    ms = medians([lambda job=job: job().sum().item() for job in pairs], rounds)
    row = {"ours_ms": ms[0]}
    if len(pairs) == 1:
        return {**row, "note": "diffusers is missing"}
    row |= {"theirs_ms": ms[1], "ratio": ms[1] / ms[0]}
    if part in ("U-Net step", "VAE decode"):        # of which both have the same weights
        difference = (outputs[0] - outputs[1]).norm() / outputs[1].norm()
        row["difference"] = difference.item()
    return row


def jobs(part: str, ours, theirs, steps: int) -> tuple:
    """One call of ours and one of theirs, None where there is no diffusers."""
    z, ids = ours.noise(1).to(ours.dtype), ours.tokenizer(PROMPT).to(ours.device)
    states = ours.text_encoder(ids)[0]
    x, context = torch.cat([z, z]), torch.cat([states, states])     # as guidance asks for
    pairs = {
        "U-Net step": (lambda: ours.denoiser.network(x, 0.5, context),
                       lambda: theirs.unet(x, 500, context).sample),
        "VAE decode": (lambda: ours.vae.decode(z), lambda: theirs.vae.decode(z).sample),
        "text encoder": (lambda: ours.text_encoder(ids)[0],
                         lambda: theirs.text_encoder(ids).last_hidden_state),
        "whole picture, 20 steps": (
            lambda: ours.generate(PROMPT, steps, guidance_scale=7.5),
            lambda: theirs(PROMPT, num_inference_steps=steps, latents=z, output_type="pt").images)}
    our_job, their_job = pairs[part]
    return our_job, their_job if theirs is not None else None


def networks_of(part: str, ours, theirs) -> list:
    """What is compiled for a row: ours, and theirs where there is one."""
    if part == "VAE decode":
        return [ours.vae.decoder, theirs and theirs.vae.decoder]
    if part == "text encoder":
        return [ours.text_encoder, theirs and theirs.text_encoder]
    return [ours.denoiser.network, theirs and theirs.unet]


@functools.cache
def models(device: torch.device, small: bool):
    """Our model and diffusers' pipeline with the same U-Net and VAE; None without diffusers."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    vae_config, text_config, unet_config = SMALL if small else FULL
    tokenizer = Tokenizer.train(PROMPT, 600)
    text_config = TextConfig(len(tokenizer), text_config.length, text_config.dim,
                             text_config.depth, text_config.heads)
    # drawn where they are used: a billion weights take minutes on a CPU
    with torch.device(device):
        vae, unet = AutoencoderKL(vae_config), UNet(unet_config)
        text = TextTransformer(text_config)
    for network in vae, unet, text:
        randomise(network).to(dtype)
    # float32 whatever the weights are, as loading leaves it
    vae.latent_mean = torch.zeros(4, device=device)
    vae.latent_std = torch.full((4,), 1 / SCALE, device=device)
    side = 8 * vae_config.factor if small else 512
    ours = assembled(vae, unet, Prompts(text, tokenizer), STABLE_DIFFUSION, side, 7.5, dtype)
    # without diffusers our own times are still worth a row
    try:
        theirs = pipeline(ours, device, dtype, small)
    except ImportError:
        theirs = None
    return ours, theirs


@torch.no_grad()
def randomise(network):
    """Random weights under which 20 guided steps stay finite."""
    for name, p in network.named_parameters():
        if p.ndim > 1:
            p.normal_(std=(0.2 if "conv_out" in name else 0.5) / p[0].numel()**0.5)
    return network.eval().requires_grad_(False)


def pipeline(ours, device, dtype, small: bool):
    """A StableDiffusionPipeline with our U-Net's and VAE's weights; raises ImportError."""
    from diffusers import StableDiffusionPipeline
    from support import published
    from transformers import CLIPTokenizer

    sizes = published.SMALL if small else published.FULL
    with torch.device(device):
        unet = published.unet(**sizes["unet"], context=sizes["text"]["dim"])
        vae = published.vae(**sizes["vae"])
        text = published.text(len(ours.tokenizer), **sizes["text"])
    unet.load_state_dict(ours.denoiser.network.state_dict())
    # ours has the latents' scale beside the weights
    weights = ours.vae.state_dict()
    vae.load_state_dict({name: weights[name] for name in vae.state_dict()})
    with tempfile.TemporaryDirectory() as folder:
        ours.tokenizer.save(Path(folder))
        tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    pipe = StableDiffusionPipeline(
        vae=vae, unet=unet, text_encoder=text, tokenizer=tokenizer, scheduler=published.DDIM,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device, dtype)
