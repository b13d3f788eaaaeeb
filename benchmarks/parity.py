"""Ours against diffusers and transformers: the same random weights, saved by them, loaded by us."""

import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.claims import ROOT, claims_of
from minildm import LatentDiffusion
from minildm.diffusion.samplers import ddim, dpmpp_2m
from minildm.published.load import SCALE, load_clip, load_vae

claim = claims_of("parity")

sys.path.insert(0, str(ROOT / "tests"))     # for tests/support
PROMPTS, NEGATIVE = ["a red three left of a blue eight", "Lighthouse, at DUSK"], "blurry"


def largest(ours, theirs) -> float:
    return (ours - theirs).abs().max().item()


@torch.no_grad()
def stable_diffusion(folder: Path) -> tuple[dict, dict]:
    """Largest differences of the parts, and of whole images."""
    from support import published

    g = torch.Generator().manual_seed(0)
    theirs = published.stable_diffusion(folder / "words")
    theirs.save_pretrained(folder / "sd")
    ours = LatentDiffusion.load(folder / "sd", dtype=torch.float32)
    images, x = torch.randn(2, 3, 16, 16, generator=g), torch.randn(2, 4, 8, 8, generator=g)
    ids = ours.tokenizer(PROMPTS)
    states, their_states = ours.text_encoder(ids)[0], theirs.text_encoder(ids).last_hidden_state
    steps = []
    for i in 1, 500, 981:
        prediction = ours.denoiser.network(x, i / 1000, states)
        steps.append(largest(prediction, theirs.unet(x, i, their_states).sample))
    encoded = theirs.vae.encode(images).latent_dist.mean
    parts = {"VAE encode": largest(ours.vae.encode(images).mean, encoded),
             "VAE decode": largest(ours.vae.decode(x), theirs.vae.decode(x).sample),
             "text states": largest(states, their_states),
             "U-Net at steps 1, 500, 981": max(steps)}
    whole = {}
    for sampler, scheduler in (ddim, published.DDIM), (dpmpp_2m, published.DPMPP):
        for n in 20, 50:
            theirs.scheduler = scheduler                            # their guidance scale is 7.5
            wanted = theirs(PROMPTS, negative_prompt=[NEGATIVE] * 2, num_inference_steps=n,
                            latents=ours.noise(2), output_type="pt").images
            drawn = ours.generate(PROMPTS, n, guidance_scale=7.5, sampler=sampler,
                                  negative=NEGATIVE)
            whole[f"{sampler.__name__}, {n} steps"] = largest(drawn, 2 * wanted - 1)
    return parts, whole


@torch.no_grad()
def later(folder: Path) -> tuple[dict, dict]:
    """Stable Diffusion 2.1 and the VAEs that stand alone: differences of parts, and of an image."""
    from support import published

    g = torch.Generator().manual_seed(0)
    theirs = published.stable_diffusion(folder / "words2", published.SMALL_2, published.V_DDIM,
                                        pad_token="!")
    theirs.save_pretrained(folder / "sd2")
    ours = LatentDiffusion.load(folder / "sd2", dtype=torch.float32)
    x, ids = torch.randn(2, 4, 8, 8, generator=g), ours.tokenizer(PROMPTS)
    states, their_states = ours.text_encoder(ids)[0], theirs.text_encoder(ids).last_hidden_state
    answer = theirs.unet(x, 500, their_states).sample
    parts = {"SD 2.1, text states": largest(states, their_states),
             "SD 2.1, U-Net": largest(ours.denoiser.network(x, 0.5, states), answer)}
    for name, scale in ("SDXL-VAE", 0.13025), ("SD-VAE-FT-MSE", SCALE):
        theirs.vae.register_to_config(scaling_factor=scale)
        theirs.vae.save_pretrained(folder / name)
        vae = load_vae(folder / name)
        parts[f"{name}, decode"] = largest(vae.decode(vae.denormalise(x)),
                                           theirs.vae.decode(x / scale).sample)
    theirs.vae.register_to_config(scaling_factor=SCALE)
    wanted = theirs(PROMPTS, negative_prompt=[NEGATIVE] * 2, num_inference_steps=20,
                    latents=ours.noise(2), output_type="pt").images
    drawn = ours.generate(PROMPTS, 20, guidance_scale=7.5, negative=NEGATIVE)
    return parts, {"SD 2.1, ddim, 20 steps": largest(drawn, 2 * wanted - 1)}


@torch.no_grad()
def dit_and_clip(folder: Path) -> dict:
    from support import published
    from support.towers import TINY, transformers_clip

    g = torch.Generator().manual_seed(0)
    theirs = published.dit_pipeline()
    theirs.save_pretrained(folder / "dit")
    ours = LatentDiffusion.load(folder / "dit", dtype=torch.float32)
    labels = torch.tensor([7, 1000])                        # 1000 is no class
    x = torch.randn(2, 4, 8, 8, generator=g)
    wanted = theirs.transformer(x, torch.full((2,), 500), labels).sample
    found = {"DiT": largest(ours.denoiser.network(x, 0.5, labels), wanted)}

    clip = published.randomise(transformers_clip(TINY))
    clip.save_pretrained(folder / "clip")
    images = torch.randn(3, 2, 12, 12, generator=g)
    ids = torch.tensor([[58, 7, 3, 59], [58, 1, 59, 59]])
    wanted, towers = clip(input_ids=ids, pixel_values=images), load_clip(folder / "clip")
    found["CLIP, pictures"] = largest(towers.encode_images(images), wanted.image_embeds)
    found["CLIP, texts"] = largest(towers.encode_text(ids), wanted.text_embeds)
    return found


def measure():
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        parts, whole = stable_diffusion(Path(folder))
        parts |= dit_and_clip(Path(folder))
        more, images = later(Path(folder))
    parts, whole = parts | more, whole | images
    seconds = time.perf_counter() - began
    for bar, found in ("largest difference", parts), ("images, largest difference", whole):
        for name, value in found.items():
            yield claim(bar, value, seconds, detail=name, shown=f"{value:.1e}")
