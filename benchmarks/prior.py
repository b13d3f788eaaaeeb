"""What the learned prior of lesson 04 is worth: Fréchet distances of 1,000 digits, three seeds.

Random latents are decoded: from N(0, I), from the Gaussian with the latents' mean and covariance,
and as the zoo's `mnist-unet` draws them, 20 steps of DDIM without guidance. The reference is the
9,000 test digits that remain when 1,000 are set aside; those 1,000, 100 of each, give the floor.
"""

import time

import torch

from benchmarks.claims import claims_of
from minildm import LatentDiffusion, data
from minildm.course.autoencoders import Judge
from minildm.latents import encode_all

claim = claims_of("prior")

N = 1000
SEEDS = 3


@torch.no_grad()
def measure():
    began, model = time.perf_counter(), LatentDiffusion.load("mnist-unet")
    labels = torch.arange(N) % 10
    judge = Judge(data.load("mnist", "test"), N, labels)
    mean, std = encode_all(model.vae, data.load("mnist", pad=32).subset(20_000).images)
    flat = (mean + std * torch.randn(std.shape, generator=torch.Generator().manual_seed(0)))
    flat = flat.flatten(1)
    # a root of the covariance, with a little added so that it has one
    root = torch.linalg.cholesky(flat.T.cov() + 1e-4 * torch.eye(flat.shape[1]))
    found = {"N(0, I)": [], "Gaussian": [], "learned": []}
    for seed in range(SEEDS):
        # the Gaussian's latents are made of the same noise
        noise = torch.randn(N, *model.latent_shape, generator=torch.Generator().manual_seed(seed))
        blend = (flat.mean(0) + noise.flatten(1) @ root.T).reshape(noise.shape)
        images = {"N(0, I)": model.decode(noise), "Gaussian": model.decode(blend),
                  "learned": model.generate(labels, 20, guidance_scale=1.0, seed=seed)}
        for name, crowd in images.items():
            found[name].append(judge.distance(crowd))
    seconds, floor = time.perf_counter() - began, judge.distance(judge.images)
    for name, values in found.items():
        shown = f"{min(values):.2f} to {max(values):.2f} (floor {floor:.2f})"
        what = f"Fréchet distance of 1,000 digits, {name}"
        yield claim(what, max(values), seconds, shown=shown, detail=f"{SEEDS} seeds")
