"""One training loop for every model: `for step in train(...)`, which yields after the update.

`take_steps` is the loop itself, and `plain_step` what it does with one batch. `train` wraps it as
needed, generators around a generator: resumable in a folder, whole steps on Ctrl-C, a bar,
warnings. On a GPU, which is faster than a host that launches its work anew, `recorded` takes the
place of the plain step, and the host reads a step's numbers later. Randomness is counted, not
carried: order = f(seed, epoch), noise = f(seed, step). A resumed run equals the uninterrupted one,
bit for bit.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from minildm import MinildmError
from minildm.devices import gains_from_bf16
from minildm.training import distributed
from minildm.training.counted import (
    BatchOrder,
    epoch_order,
    generator_for,
    global_generators_kept,
    seed_for,
    seed_step,
)
from minildm.training.ema import check_same_form, copy_tensors, tensors_of
from minildm.training.interrupts import whole_steps
from minildm.training.memory import explained_out_of_memory, kept_memory
from minildm.training.monitored import monitored
from minildm.training.numbers import Numbers, Step
from minildm.training.progress import progress
from minildm.training.recorded import EXECUTIONS, changes_at, fast_step, takes_step
from minildm.training.resumable import read_metrics, resumable
from minildm.training.state import TrainState, backward, clip

__all__ = ["Step", "TrainConfig", "changes_at", "epoch_order", "fit", "generator_for", "lr_at",
           "read_metrics", "seed_for", "take_steps", "train"]


@dataclass(frozen=True)
class TrainConfig:
    """The numbers of a training; MinildmError names one that is impossible."""

    steps: int
    batch_size: int
    lr: float
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    warmup: int = 50            # steps of linear warm-up, at most half of the run
    decay: str = "linear"       # linear | cosine (both to zero at the end) | none
    clip: float = 1.0           # largest norm of the gradient; 0 does not clip
    muon: float = 0.0           # learning rate of `Muon` for what leaves AdamW; 0: nothing does
    muon_on: str = "kernels"    # of 4 axes, their lengths set | matrices: linear maps, convolutions
    ema: float = 0.999
    seed: int = 0
    save_every: int = 0         # steps; 0 saves every few minutes. Always at the end, and on Ctrl-C
    precision: str = "auto"     # auto | float32 | bf16 (autocast)
    execution: str = "auto"     # auto | eager | graph | compile: see `recorded`; no result of it

    def __post_init__(self):
        counts = self.steps >= 1 and self.batch_size >= 1 and self.save_every >= 0
        rates = 0 < self.lr < math.inf and 0 <= self.ema < 1
        if not (counts and rates and self.clip >= 0 and self.muon >= 0):
            raise MinildmError("impossible numbers", self, "steps, batch_size >= 1; lr > 0; "
                               "0 <= ema < 1; clip, muon, save_every >= 0")
        choices = {"decay": ("linear", "cosine", "none"), "precision": ("auto", "float32", "bf16"),
                   "execution": EXECUTIONS, "muon_on": ("kernels", "matrices")}
        for name, words in choices.items():
            if getattr(self, name) not in words:
                raise MinildmError(f"{name} {getattr(self, name)!r}", self,
                                   f"{name} is one of: {' '.join(words)}")


# --- the loop

def take_steps(state: TrainState, loss_fn: Callable,
               data: tuple[torch.Tensor, ...]) -> Iterator[Step]:
    """The loop itself: for each step a batch, its randomness, its rate, and what is done with it.
    """
    distributed.share(state)
    config, device = state.config, data[0].device
    order = BatchOrder(len(data[0]), config.batch_size, config.seed, device)
    noise = torch.Generator(device)
    with fast_step(plain_step, state, loss_fn, data, noise) as take_step:
        while state.i < config.steps:
            began, i = time.perf_counter(), state.i + 1
            lr = lr_at(config, i)
            state.begin(lr)
            with state.unchanged_on_error(), global_generators_kept(device):
                seed_step(noise, config.seed, i)
                numbers = take_step(distributed.part_of(order(i)), i, lr)
            step = Step(i, numbers.sent(state.mailbox), lr, state.ema, time.perf_counter() - began)
            state.finish(step)
            yield step


def plain_step(state: TrainState, loss_fn: Callable, data: tuple[torch.Tensor, ...],
               indices: torch.Tensor, noise: torch.Generator, i: int, lr: float) -> Numbers:
    """Take one step: a batch, its losses and their gradients, the update, the average."""
    config, device = state.config, data[0].device
    batch = [tensor[indices] for tensor in data]
    state.model.train()
    state.model.zero_grad(set_to_none=True)
    with autocast(config, device):
        losses = call_loss(loss_fn, batch, noise, i)
    moving = backward(losses, state.weights)
    distributed.average_gradients([p for name in moving for p in state.weights[name]])
    norms = clip(state.weights, config.clip)
    numbers = Numbers(losses, norms, device)
    distributed.average(numbers.values)
    # no weight has moved yet: all that can fail in a step comes before the update
    state.guard(numbers, lr)
    state.update(moving)
    return numbers


def train(model: torch.nn.Module, loss_fn: Callable, data: tuple[torch.Tensor, ...],
          config: TrainConfig, run_dir=None, bar: bool = True,
          identity: dict | None = None) -> Iterator[Step]:
    """Train with AdamW, yielding a `Step` after each step; `bar=False` prints nothing.

    `loss_fn(*batch, generator=g)` gives float32 scalars by name: "loss" is minimised, all are
    logged. If it has an argument `step`, it also gets i. It must depend on its arguments alone: on
    a GPU one step is recorded and replayed, unless the loss asks for `step` (see `recorded`, and
    `changes_at`). A batch is each tensor of `data` at this step's indices. A ModuleDict is a model
    of parts: each moves by the gradient of the loss of its own name alone, all at once, and stands
    still while that loss has no gradient (an adversary that has not started). A run whose numbers
    leave healthy bounds (`monitor`) is told so.

    With a `run_dir` the run logs and saves there, goes on from its newest checkpoint and is never
    overwritten; config, `identity` (a description of the model and of floating-point data) and all
    integer tensors of `data` must be as they were. Ctrl-C, and with a run_dir SIGTERM and SIGHUP,
    finish the step, save and raise KeyboardInterrupt. A loss or gradient that is not finite:
    MinildmError, and no weight is touched; on a GPU it is raised up to `state.LAG` steps later,
    and reading a step's losses waits for it.

    On a CPU, glibc keeps large tensors' memory while the training lasts, a quarter of its time.
    """
    yield from _wrapped(TrainState(model, config), loss_fn, data, run_dir, bar, identity)


def fit(model: torch.nn.Module, loss_fn: Callable, data: tuple[torch.Tensor, ...],
        config: TrainConfig, run_dir=None, bar: bool = True, identity: dict | None = None,
        snapshot: tuple[int, torch.nn.Module] | None = None) -> dict[str, list]:
    """Exhaust `train`, leave the *averaged* weights in the model, return the metrics, a list each.

    With `snapshot`, (step, another model of the same form), that model gets the average after that
    step; it is saved with the run.
    """
    snapshot_step, other = snapshot or (0, None)
    if other is not None:
        check_same_form(tensors_of(model), tensors_of(other))
        if not 1 <= snapshot_step <= config.steps:
            raise MinildmError(f"no average can be kept of step {snapshot_step}", config,
                               f"choose a step from 1 to {config.steps}")
    # also of a run that has all its steps: the state is then what its last checkpoint holds
    state = TrainState(model, config, snapshot_step)
    steps = list(_wrapped(state, loss_fn, data, run_dir, bar, identity))
    rows = [step.row() for step in steps]
    copy_tensors(state.ema.averages, tensors_of(model))
    if other is not None:
        copy_tensors(state.snapshot, tensors_of(other))
    # several processes have one log, and one kept it
    first = distributed.is_first()
    if run_dir is not None:
        return distributed.from_first(read_metrics(run_dir) if first else {})
    return {name: [row[name] for row in rows] for name in rows[0]}


def _wrapped(state: TrainState, loss_fn: Callable, data: tuple, run_dir, bar: bool,
             identity: dict | None) -> Iterator[Step]:
    """The loop with what `train` promises around it."""
    config, device = state.config, next(state.model.parameters()).device
    n = len(data[0])
    fits = [len(tensor) == n and tensor.device == device for tensor in data]
    if config.batch_size > n or not all(fits):
        what = f"no batch of {config.batch_size} on {device} can be drawn from this data"
        raise MinildmError(what, [(*tensor.shape, str(tensor.device)) for tensor in data],
                           f"batch_size <= {n}; equal lengths, the model's device")
    distributed.check_can_share(config, state.model)
    first = distributed.is_first()
    # the order matters: what is held back on Ctrl-C includes the save, and not the printing
    steps = take_steps(state, loss_fn, data)
    if run_dir is not None and first:
        steps = resumable(steps, state, data, run_dir, identity or {})
    stoppable = whole_steps if distributed.world() == 1 else distributed.leave_together
    steps = stoppable(steps, terminable=run_dir is not None)
    if bar and first:
        steps = progress(monitored(steps, state), state)
    was_training = state.model.training
    try:
        with kept_memory(device.type), explained_out_of_memory(config):
            yield from steps
    finally:
        state.model.train(was_training)


# --- what a step needs

def lr_at(config: TrainConfig, i: int) -> float:
    """The learning rate of step i = 1 ... steps."""
    warmup = min(config.warmup, config.steps // 2)
    done = max(0, i - 1 - warmup) / (config.steps - warmup)
    decay = 1.0
    if config.decay == "linear":
        decay = 1 - done
    if config.decay == "cosine":
        decay = 0.5 + math.cos(math.pi * done) / 2
    return config.lr * min(1, i / max(1, warmup)) * decay


def autocast(config: TrainConfig, device: torch.device):
    """Autocast to bf16 where the configuration asks for it, or on "auto" the device gains by it."""
    wanted = config.precision == "bf16"
    if config.precision == "auto":
        wanted = gains_from_bf16(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def call_loss(loss_fn: Callable, batch: list, generator: torch.Generator, i: int) -> dict:
    """The losses of a batch by name, from a function that may or may not ask for the step."""
    if takes_step(loss_fn):
        return loss_fn(*batch, generator=generator, step=i)
    return loss_fn(*batch, generator=generator)
