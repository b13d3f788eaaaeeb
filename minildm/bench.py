"""The seconds of training steps and of the sampler loop, alone or beside diffusers' same networks.

Fairly: one process, the same weights (copied, and the outputs compared first), the same batch,
optimizer and precision, rounds taken in turn A, B, A, B, and the median of each.
"""

import statistics
import time
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F

from minildm import MinildmError
from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import linear, time_grid
from minildm.nn.unet import UNet, UNetConfig
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.training.loop import gains_from_bf16
from minildm.training.memory import kept_memory

UNET = UNetConfig(4, 4, (64, 128), (True, True), blocks=1, context_dim=64, heads=4)
VAE = VAEConfig(1, 4, (32, 64, 64), blocks=1, attention=True, groups=16)
STEPS = 10  # of the sampler loop


def peers(unet: UNet, vae: AutoencoderKL):
    """The same two networks from diffusers, with the same weights."""
    try:
        from diffusers import AutoencoderKL as PeerVAE
        from diffusers import UNet2DConditionModel
    except ImportError:
        raise MinildmError("diffusers is not installed", "bench --peer diffusers",
                           "pip install -e '.[parity]'") from None
    c, v, levels = unet.config, vae.config, len(unet.config.channels)
    peer_unet = UNet2DConditionModel(
        in_channels=c.in_channels,
        out_channels=c.out_channels,
        block_out_channels=c.channels,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        layers_per_block=c.blocks,
        cross_attention_dim=c.context_dim,
        attention_head_dim=c.heads,
        norm_num_groups=c.groups,
    )
    peer_vae = PeerVAE(
        in_channels=v.in_channels, out_channels=v.in_channels, latent_channels=v.latent_channels,
        block_out_channels=v.channels, layers_per_block=v.blocks, norm_num_groups=v.groups,
        down_block_types=("DownEncoderBlock2D",) * len(v.channels),
        up_block_types=("UpDecoderBlock2D",) * len(v.channels), mid_block_add_attention=v.attention)
    peer_unet.load_state_dict(unet.state_dict())
    scale = ("latent_mean", "latent_std")
    peer_vae.load_state_dict({name: t for name, t in vae.state_dict().items() if name not in scale})
    return peer_unet, peer_vae


def training_step(model, loss_fn, autocast):
    """One AdamW step of `model` as a function of nothing that returns the loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            loss = loss_fn()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


class Inputs(NamedTuple):
    """Two networks and what they are fed, the same for us and the peer."""

    unet: UNet
    vae: AutoencoderKL
    x: torch.Tensor             # (128, 4, 8, 8)
    step: torch.Tensor          # (128,), the peer's times, 1 .. 999
    context: torch.Tensor       # (128, 1, 64)
    images: torch.Tensor        # (64, 1, 32, 32)


def make_inputs(device: str) -> Inputs:
    """By one seed; the global generator comes back as it was."""
    # no devices: everything is drawn on the CPU or by the device that is timed
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        unet, vae = UNet(UNET).to(device), AutoencoderKL(VAE).to(device)
        for p in [*unet.parameters(), *vae.parameters()]:
            if p.ndim > 1:      # layers that start at zero would hide a difference
                torch.nn.init.normal_(p, std=0.02)
        x = torch.randn(128, 4, 8, 8).to(device)
        step = torch.randint(1, 1000, (128,)).to(device)
        context = torch.randn(128, 1, 64).to(device)
        images = torch.randn(64, 1, 32, 32).to(device)
    return Inputs(unet, vae, x, step, context, images)


def vae_loss(decode, posterior, images):
    """A loss in which both halves of a VAE have a part."""
    error = F.mse_loss(decode(posterior.mean).float(), images)
    return error + posterior.mean.float().square().mean()


def our_jobs(inputs: Inputs, autocast) -> dict:
    """name -> a function of nothing to time; it returns a number."""
    unet, vae, x, step, context, images = inputs

    def network(x, t, context):
        # our t = i / 1000 is the paper's step i; diffusers counts from 0 and tells its network i -
        # 1
        return unet(x, t - 1 / 1000, context)

    denoiser = Denoiser(network, linear)

    def sample():
        with autocast():
            steps = ddim(lambda x, t: denoiser(x, t, context), linear, x, time_grid(STEPS))
            return last(steps).mean().item()

    def unet_loss():
        return unet(x, step / 1000, context).float().square().mean()

    return {
        "sampler loop": sample,         # first: the steps below change the weights
        "U-Net training step": training_step(unet, unet_loss, autocast),
        "VAE training step": training_step(
            vae, lambda: vae_loss(vae.decode, vae.encode(images), images), autocast)}


def peer_jobs(inputs: Inputs, autocast) -> dict:
    """The same of diffusers' networks, with copies of our weights."""
    from diffusers import DDIMScheduler

    _, _, x, step, context, images = inputs
    unet, vae = (module.to(x.device).train() for module in peers(inputs.unet, inputs.vae))
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")  # our betas and times

    @torch.no_grad()
    def sample():
        scheduler.set_timesteps(STEPS)
        sample = x
        for t in scheduler.timesteps:
            with autocast():
                eps = unet(sample, t, context).sample.float()
            sample = scheduler.step(eps, t, sample).prev_sample
        return sample.mean().item()

    def unet_loss():
        return unet(x, step, context).sample.float().square().mean()

    def reconstruction_loss():
        return vae_loss(lambda z: vae.decode(z).sample, vae.encode(images).latent_dist, images)

    return {"sampler loop": sample, "U-Net training step": training_step(unet, unet_loss, autocast),
            "VAE training step": training_step(vae, reconstruction_loss, autocast)}


def jobs(device: str, precision: str, with_peer: bool) -> dict[str, list]:
    """name -> [ours, the peer's], each a function to time; both must return the same number."""
    def autocast():
        return torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()

    inputs = make_inputs(device)
    ours = our_jobs(inputs, autocast)
    if not with_peer:
        return {name: [job] for name, job in ours.items()}
    theirs = peer_jobs(inputs, autocast)
    return {name: [job, theirs[name]] for name, job in ours.items()}


def bench(with_peer: bool = False, rounds: int = 10) -> list[dict]:
    """Time each job in each precision: a list of rows with name, precision and ours_ms.

    With a peer also peer_ms, ratio (ours / theirs), and both outputs.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precisions = ["float32"]
    if gains_from_bf16(torch.device(device)):
        precisions.append("bf16")
    rows = []
    with kept_memory(device):
        for precision in precisions:
            for name, pair in jobs(device, precision, with_peer).items():
                rows.append(row_of(name, precision, pair, rounds))
    return rows


def row_of(name: str, precision: str, pair: list, rounds: int) -> dict:
    """One row: outputs first, since a training step changes the weights, then the milliseconds."""
    outputs = [job() for job in pair]
    ms = medians(pair, rounds)
    row = {"name": name, "precision": precision, "ours_ms": ms[0]}
    if len(pair) > 1:
        row |= {"peer_ms": ms[1], "ratio": ms[0] / ms[1], "outputs": outputs}
    return row


def medians(jobs, rounds: int) -> list[float]:
    """Milliseconds of each job, which must wait for the device (.item()); rounds in turn, one more
    before.
    """
    times = [[] for _ in jobs]
    for _ in range(rounds + 1):
        for job, taken in zip(jobs, times, strict=True):
            began = time.perf_counter()
            job()
            taken.append((time.perf_counter() - began) * 1000)
    return [statistics.median(taken[1:]) for taken in times]


def table(rows: list[dict]) -> str:
    """The rows for a terminal."""
    lines = [
        f"{'median of one call':<22}{'precision':>10}{'ours, ms':>11}{'theirs, ms':>12}{'ratio':>8}"
    ]
    for row in rows:
        peer = f"{row['peer_ms']:>12.1f}{row['ratio']:>8.2f}" if "ratio" in row else ""
        lines.append(f"{row['name']:<22}{row['precision']:>10}{row['ours_ms']:>11.1f}{peer}")
    return "\n".join(lines)
