"""Other people's training loops on our networks: same weights, batch, bf16 autocast and device.

They are written from the scripts: diffusers' train_unconditional_image_generation.py and
train.py of facebookresearch/DiT, with what they do in every step and nothing that reads files.
Latents lie on the device already, which is kinder to them than a DataLoader.
"""

import copy
import math
import statistics
import time
from collections import OrderedDict
from itertools import count as counting

import torch
import torch.nn.functional as F

from benchmarks.gpu_peaks import wait
from benchmarks.gpu_trainings import trainings_of
from minildm.training.loop import gains_from_bf16

TOKENS = 24         # of a sentence about a scene
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)


def run_peers(bench, jobs) -> None:
    for job in jobs:
        bench.measure(f"{job}, diffusers' loop", 6,
                      lambda job=job: peer_row(bench, job, DiffusersLoop))
    bench.measure(f"{jobs[0]}, DiT's loop", 4, lambda: peer_row(bench, jobs[0], DiTLoop))
    if bench.device.type == "cuda":
        bench.measure(f"{jobs[0]}, diffusers' loop, network compiled", 30,
                      lambda: peer_row(bench, jobs[0], DiffusersLoop, compiled=True))


def peer_row(bench, job: str, loop_class, compiled: bool = False) -> dict:
    """Milliseconds of a step of another's loop; each ends with a wait, for the loss is logged."""
    name = job.split()[0]
    training = trainings_of(name, bench.device, bench.smoke)["denoiser"]
    network = copy.deepcopy(training.model.network).train()
    if compiled:
        network.compile()
    step = loop_class(network, bench.device)
    draw = batches(name, training, network)
    times = []
    began = time.perf_counter()
    for i in range(bench.choose(2, 45)):
        batch = next(draw)
        # drawing the batch is not part of the step
        wait(bench.device)
        asked = time.perf_counter()
        step(*batch)
        wait(bench.device)
        times.append(1000 * (time.perf_counter() - asked))
        if i == 14:
            first = time.perf_counter() - began
    if bench.smoke:
        return {"ms": statistics.median(times), **step.notes}
    return {"ms": statistics.median(times[15:]), "first_seconds": first, **step.notes}


def bf16(device):
    """Autocast as our own loop has it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=gains_from_bf16(device))


def batches(name: str, training, network):
    """Batches of latents and what is asked for: labels, or states of tokens."""
    mean, asked, size = training.data[0], training.data[2], training.config.batch_size
    n, device = len(mean), mean.device
    for i in counting():
        indices = (torch.arange(size, device=device) + i * size) % n
        context = asked[indices]
        if name == "scenes":
            # what a text tower would answer, drawn here: its time is not the loop's
            context = torch.randn(size, TOKENS, network.config.context_dim, device=device)
        yield mean[indices].float(), context


class DiffusersLoop:
    """A step of diffusers' script: noise, MSE, clipping, AdamW, a schedule, EMA, and a log."""

    def __init__(self, network, device):
        self.network, self.device = network, device
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, betas=(0.95, 0.999),
                                           weight_decay=1e-6, eps=1e-8)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda i: min(1.0, i / 500) * (0.5 + math.cos(i / 1e5) / 2))
        self.notes = {}
        try:
            from diffusers import DDPMScheduler
            from diffusers.training_utils import EMAModel

            self.noise_scheduler = DDPMScheduler(num_train_timesteps=1000)
            self.ema = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True,
                                inv_gamma=1.0, power=0.75)
        except ImportError:
            self.noise_scheduler, self.ema = PlainScheduler(), PlainEMA(network)
            self.notes = {"note": "diffusers is missing: its scheduler and EMA in plain code"}

    def __call__(self, images, context) -> float:
        noise = torch.randn(images.shape, device=self.device)
        timesteps = torch.randint(0, 1000, (len(images),), device=self.device).long()
        noisy = self.noise_scheduler.add_noise(images, noise, timesteps)
        with bf16(self.device):
            output = self.network(noisy, timesteps / 1000, context)
        loss = F.mse_loss(output[:, :images.shape[1]].float(), noise.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.lr_scheduler.step()
        self.optimizer.zero_grad()
        self.ema.step(self.network.parameters())
        # the script logs every step's loss
        return loss.detach().item()


class PlainScheduler:
    """What diffusers' `add_noise` computes."""

    def __init__(self):
        self.alphas_cumprod = torch.cumprod(1 - BETAS, 0).float()

    def add_noise(self, x, noise, timesteps):
        # copied once, as diffusers keeps it
        self.alphas_cumprod = self.alphas_cumprod.to(x.device)
        alphas = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return alphas**0.5 * x + (1 - alphas)**0.5 * noise


class PlainEMA:
    """What diffusers' `EMAModel.step` computes, a parameter at a time, as it does by default."""

    def __init__(self, network):
        self.averages = [p.detach().clone() for p in network.parameters()]

    @torch.no_grad()
    def step(self, parameters):
        for average, p in zip(self.averages, parameters, strict=True):
            average.sub_((1 - 0.9999) * (average - p))


class DiTLoop:
    """A step of DiT's train.py, without the term of its learned variance."""

    notes = {"note": "bf16 autocast as ours; without the term of the learned variance"}

    def __init__(self, network, device):
        self.network, self.device = network, device
        self.ema = copy.deepcopy(network)
        requires_grad(self.ema, False)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0)
        alphas_cumprod = torch.cumprod(1 - BETAS, 0)
        # numpy arrays, which go to the device whenever they are needed
        self.signal = alphas_cumprod.sqrt().numpy()
        self.noise = (1 - alphas_cumprod).sqrt().numpy()

    def __call__(self, x, labels) -> float:
        t = torch.randint(0, 1000, (len(x),), device=self.device)
        noise = torch.randn_like(x)
        x_t = self.extract(self.signal, t, x) * x + self.extract(self.noise, t, x) * noise
        with bf16(self.device):
            output = self.network(x_t, t / 1000, labels)
        # the mean over each picture first, as its `mean_flat` does
        squares = (noise - output[:, :x.shape[1]].float())**2
        loss = squares.mean(dim=list(range(1, squares.ndim))).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.update_ema()
        # running_loss += loss.item()
        return loss.item()

    def extract(self, table, t, like):
        """`_extract_into_tensor` of its diffusion."""
        values = torch.from_numpy(table).to(t.device)[t].float()
        return values.view(-1, 1, 1, 1).expand(like.shape)

    @torch.no_grad()
    def update_ema(self, decay: float = 0.9999):
        averages = OrderedDict(self.ema.named_parameters())
        for name, parameter in OrderedDict(self.network.named_parameters()).items():
            averages[name].mul_(decay).add_(parameter.data, alpha=1 - decay)


def requires_grad(network, flag: bool) -> None:
    for p in network.parameters():
        p.requires_grad = flag
