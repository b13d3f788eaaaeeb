"""Inference beside diffusers, the same weights: Stable Diffusion's shape, smaller without a GPU."""

import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.claims import ROOT, claims_of
from minildm import LatentDiffusion
from minildm.bench import medians

claim = claims_of("published_speed")

sys.path.insert(0, str(ROOT / "tests"))     # for tests/support


def models():
    """Diffusers' pipeline and ours, with the same weights."""
    from support import published

    cuda = torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if cuda else ("cpu", torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        sizes = published.FULL if cuda else published.MEDIUM
        theirs = published.stable_diffusion(Path(folder) / "words", sizes)
        theirs.save_pretrained(Path(folder) / "sd")
        ours = LatentDiffusion.load(Path(folder) / "sd", device, dtype)
    theirs.to(device, dtype)
    theirs.scheduler = published.DDIM
    return theirs, ours, dtype


def jobs(theirs, ours, dtype) -> dict:
    """Pairs of calls, ours and theirs, by name."""
    from support import published

    prompt = published.WORDS[:1]
    z, ids = ours.noise(1).to(dtype), ours.tokenizer(prompt).to(ours.device)
    states = ours.text_encoder(ids)[0]
    x, context = torch.cat([z, z]), torch.cat([states, states])            # as guidance asks for
    network, unet = ours.denoiser.network, theirs.unet
    pairs = {
        "U-Net step": (lambda: network(x, 0.5, context), lambda: unet(x, 500, context).sample),
        "VAE decode": (lambda: ours.vae.decode(z), lambda: theirs.vae.decode(z).sample),
        "text encoder": (lambda: ours.text_encoder(ids)[0],
                         lambda: theirs.text_encoder(ids).last_hidden_state),
        "whole image, 20 steps": (
            lambda: ours.generate(prompt, 20, guidance_scale=7.5),
            lambda: theirs(prompt, num_inference_steps=20, latents=z, output_type="pt").images)}
    if x.is_cuda:
        fast, their_fast = torch.compile(network), torch.compile(unet)
        pairs["U-Net step, compiled"] = (lambda: fast(x, 0.5, context),
                                         lambda: their_fast(x, 500, context).sample)
    return pairs


@torch.no_grad()
def measure():
    theirs, ours, dtype = models()
    kind = "bf16, Stable Diffusion's own size" if torch.cuda.is_available() else "float32, small"
    for name, pair in jobs(theirs, ours, dtype).items():
        began, rounds = time.perf_counter(), 5 if "whole" in name else 20
        our_ms, their_ms = medians([lambda job=job: job().sum().item() for job in pair], rounds)
        yield claim("diffusers' time / ours", their_ms / our_ms,
                    time.perf_counter() - began, detail=f"{name}, {kind}")
