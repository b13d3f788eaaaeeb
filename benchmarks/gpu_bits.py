"""Are two trainings the same, bit for bit? Eager twice, replayed as a graph, compiled, resumed."""

import copy
import shutil

import torch

from benchmarks.gpu_trainings import executed
from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.schedules import flow
from minildm.nn.dit import DiT, DiTConfig
from minildm.nn.unet import UNet, UNetConfig
from minildm.training.loop import TrainConfig, train

STEPS, STOP = 30, 17        # of the whole run, and where it is stopped to go on
SMOKE_STEPS, SMOKE_STOP = 4, 2
NETWORKS = {
    "DiT": (DiT, DiTConfig(4, 4, dim=64, depth=2, heads=4, patch=2, num_classes=10)),
    "U-Net": (UNet, UNetConfig(4, 4, (32, 64), (False, True), blocks=1, context_dim=32, heads=4,
                               groups=8, num_classes=10))}


def run(bench) -> None:
    kinds = ("eager", "graph", "compile") if bench.device.type == "cuda" else ("eager",)
    for execution in kinds:
        for name in NETWORKS:
            bench.measure(f"{name}, {execution}", 40 if execution == "compile" else 8,
                          lambda name=name, execution=execution: bits(bench, name, execution))


def bits(bench, name: str, execution: str) -> dict:
    """Largest differences of the weights after all steps: from eager's, from a second run's."""
    folder = bench.work / f"bits-{name}-{execution}"
    shutil.rmtree(folder, ignore_errors=True)
    # the reference of all ways of execution
    eager = trained(bench, name, "eager")
    once = trained(bench, name, execution)
    again = trained(bench, name, execution)
    row = {"from_eager": largest(once, eager), "from_itself": largest(once, again)}
    if execution == "compile":
        # each training compiles: two of them are enough of waiting
        return row
    trained(bench, name, execution, folder, bench.choose(SMOKE_STOP, STOP))
    resumed = trained(bench, name, execution, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return {**row, "resumed": largest(once, resumed)}


def trained(bench, name: str, execution: str, run_dir=None, stop: int = 0) -> list:
    """Weights and averages after `stop` of the steps, or all of them."""
    network_class, config = NETWORKS[name]
    if execution == "compile":
        torch.compiler.reset()
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        denoiser = Denoiser(network_class(config), flow, "flow")
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(256, 4, 8, 8, generator=generator)
    data = latents.to(bench.device), (torch.arange(256) % 10).to(bench.device)
    denoiser.to(bench.device)

    def loss(z, labels, generator):
        return denoiser.loss(z, labels, generator, drop=0.1)

    config = TrainConfig(steps=bench.choose(SMOKE_STEPS, STEPS), lr=1e-3,
                         batch_size=bench.choose(8, 64))
    training = executed(config, execution)
    steps = train(denoiser, loss, data, training, run_dir, bar=False)
    for step in steps:
        averages = step.ema.averages
        # to leave the loop is to be interrupted: with a folder, the step is saved
        if step.i == stop:
            break
    steps.close()
    kept = [*denoiser.state_dict().values(), *averages.values()]
    return [copy.deepcopy(tensor.detach()).cpu() for tensor in kept]


def largest(some: list, others: list) -> float:
    """The largest absolute difference; 0 means bit for bit."""
    pairs = zip(some, others, strict=True)
    return max((a.double() - b.double()).abs().max().item() for a, b in pairs)
