"""Lesson 16's mistakes and measurements: nine wrong calls, a world with an exact answer, judges."""

import math

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from minildm.course.exercises.lesson_16_draw import Parts, eps_step, v_step
from minildm.course.figures import show
from minildm.data.scenes import agreement, detect
from minildm.diffusion.schedules import linear
from minildm.published.load import SCALE

# ---- mistakes that raise no error

class Undivided(nn.Module):
    """A decoder that is handed x / 0.18215 and undoes it: as if nobody had divided."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def decode(self, raw):
        return self.vae.decode(SCALE * raw)


def zeroed(text_encoder, n: int):
    """A text tower whose first n texts, the negative prompts, have zeros for states."""
    def encode(ids):
        states, pooled = text_encoder(ids)
        return torch.cat([torch.zeros_like(states[:n]), states[n:]]), pooled

    return encode


def step_to_the_data(x, eps, a, b):
    """`eps_step`, but to alpha_bar = 1 where the published sampler ends at entry 0."""
    at_the_end = b > 0.999
    return eps_step(x, eps, a, torch.ones_like(b) if at_the_end else b)


def mistakes(parts: Parts, entries, captions: list[str]) -> dict[str, dict]:
    """Nine mistakes by name: what `text_to_image` is called with in place of the right thing."""
    n, unet = len(captions), parts.unet
    times = torch.arange(1, 1001, dtype=torch.float64) / 1000
    ids = parts.tokenizer(captions)
    # the first end token of the longest caption is the last that a caption needs
    longest = ids.argmax(1).max() + 1
    return {
        "null of zeros": {"parts": parts._replace(text_encoder=zeroed(parts.text_encoder, n))},
        "no padding": {"parts": parts._replace(
            tokenizer=lambda texts: parts.tokenizer(texts)[:, :longest])},
        "no offset": {"entries": entries - 1},
        "to the data": {"step": step_to_the_data},
        "t late by 1": {"parts": parts._replace(unet=lambda x, t, c: unet(x, t + 0.001, c))},
        "linear betas": {"alpha_bar": linear.alpha(times).square().float()},
        "no 0.18215": {"parts": parts._replace(vae=Undivided(parts.vae))},
        "prompts swapped": {"parts": parts._replace(unet=lambda x, t, c: unet(x, t, c.roll(n, 0)))},
        "read as v": {"step": v_step}}


# ---- how scenes came out

def larger(images, by: int = 3):
    """Each pixel of (N, C, H, W) as a block of by x by, so that small pictures can be judged."""
    return images.repeat_interleave(by, dim=2).repeat_interleave(by, dim=3)


def judged(images, truth, classifier) -> dict[str, float]:
    """The share of scenes that show all that was asked, and of values at full brightness."""
    right = agreement(detect(images, classifier), truth)
    return {"as asked": right["all"].float().mean().item(),
            "full brightness": (images > 0.98).float().mean().item()}


def judge_all(pictures: dict, truth, classifier, right) -> dict[str, dict[str, float]]:
    """`judged` for each set of pictures, after its distance from the right ones."""
    rows = {}
    for name, images in pictures.items():
        distance = (images - right).square().mean().sqrt().item()
        rows[name] = {"rms": distance, **judged(images, truth, classifier)}
    return rows


# ---- what a picture costs

def multiply_adds(network, *inputs) -> dict[str, float]:
    """Multiply-adds of one call of a network on the meta device, by kind of operation, in 1e12."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    # the counter counts two operations for each
    return {str(kind): flops / 2e12 for kind, flops in counter.get_flop_counts()["Global"].items()}


# ---- pictures that are flat: dark, grey or bright

class FlatPictures:
    """64 x 64 latents that are all -1, all 0 or all 1, each alike often: a perfect denoiser.

    Only the mean of the noised latent says which of the three it is; its noise is 1 / 64 as large
    as that of one position. Tensors (N,) hold such means.
    """

    levels = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    sides = 64

    def start(self, n: int, seed: int = 0):
        """The means of n latents of pure noise."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(n, generator=generator, dtype=torch.float64) / self.sides

    def predict(self, mean, alpha_bar, prediction_type: str):
        """E[eps | mean], or E[alpha eps - sigma x0 | mean], by Bayes' rule over the levels."""
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        apart = mean[:, None] - alpha * self.levels                       # (N, 3)
        weights = (-(apart * self.sides / sigma)**2 / 2).softmax(1)
        x0 = weights @ self.levels
        eps = (mean - alpha * x0) / sigma
        return eps if prediction_type == "eps" else alpha * eps - sigma * x0

    def dark_or_bright(self, means) -> float:
        """The share of drawn pictures that are not grey; NaN if the drawing itself is NaN."""
        if not means.isfinite().all():
            return math.nan
        return (means.abs() > 0.75).double().mean().item()


def show_last_entry(tables: dict):
    """Histograms of the means of noised dark, grey and bright latents at each table's end."""
    figure, axes = plt.subplots(1, len(tables), figsize=(8, 2.6), sharey=True)
    flat = FlatPictures()
    for ax, (name, table) in zip(axes, tables.items(), strict=True):
        for k, level in enumerate(("dark", "grey", "bright")):
            means = table[-1].sqrt() * flat.levels[k] + (1 - table[-1]).sqrt() * flat.start(400, k)
            ax.hist(means, torch.linspace(-0.13, 0.13, 60), alpha=0.6, label=level)
        ax.set(title=name, xlabel="mean of the noised latent")
    axes[0].legend()
    ends = ", ".join(f"{name}: alpha {table[-1].sqrt():.3f}" for name, table in tables.items())
    show(figure, alt="Histograms of the means of noised dark, grey and bright latents at the last "
         f"entry of two tables ({ends}). Where alpha is not 0 the three stand apart; where it is 0 "
         "they cover each other.")
