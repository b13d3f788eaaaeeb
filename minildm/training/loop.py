"""One training loop for every model: `for step in train(...)`, which yields after the update.

`take_steps` is the loop itself. `train` wraps it as needed, generators around a generator:
resumable in a folder, whole steps on Ctrl-C, a bar, warnings. Randomness is counted, not carried:
order = f(seed, epoch), noise = f(seed, step). None of it is saved, previews between steps cannot
shift a run, and a resumed run equals the uninterrupted one, bit for bit.
"""

import contextlib
import hashlib
import inspect
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from minildm import MinildmError
from minildm.training.ema import EMA, check_same_form, copy_tensors, tensors_of
from minildm.training.interrupts import whole_steps
from minildm.training.memory import kept_memory
from minildm.training.monitored import monitored
from minildm.training.progress import progress
from minildm.training.resumable import read_metrics, resumable
from minildm.training.state import TrainState, backward, clip


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
    muon: float = 0.0           # learning rate of `Muon` for kernels (4 axes), which leave AdamW
    ema: float = 0.999
    seed: int = 0
    save_every: int = 0         # steps; 0 saves every few minutes. Always at the end, and on Ctrl-C
    precision: str = "auto"     # auto | float32 | bf16 (autocast)

    def __post_init__(self):
        counts = self.steps >= 1 and self.batch_size >= 1 and self.save_every >= 0
        rates = 0 < self.lr < math.inf and 0 <= self.ema < 1
        if not (counts and rates and self.clip >= 0 and self.muon >= 0):
            raise MinildmError("impossible numbers", self, "steps, batch_size >= 1; lr > 0; "
                               "0 <= ema < 1; clip, muon, save_every >= 0")
        choices = {"decay": ("linear", "cosine", "none"), "precision": ("auto", "float32", "bf16")}
        for name, words in choices.items():
            if getattr(self, name) not in words:
                raise MinildmError(f"{name} {getattr(self, name)!r}", self,
                                   f"{name} is one of: {' '.join(words)}")


@dataclass(frozen=True)
class Step:
    """What one step did."""

    i: int                          # steps completed: 1, 2, ...
    losses: dict[str, float]
    lr: float
    grad_norms: dict[str, float]    # of each part, by the name of its loss; before clipping
    ema: EMA
    seconds: float                  # what this step took

    def row(self) -> dict[str, float]:
        """All numbers by name, as the log has them."""
        row = {"step": self.i, "seconds": self.seconds, "lr": self.lr}
        for name, norm in self.grad_norms.items():
            row[f"grad_norm_{name}".removesuffix("_loss")] = norm
        return {**row, **self.losses}


# --- the loop

def take_steps(state: TrainState, loss_fn: Callable,
               data: tuple[torch.Tensor, ...]) -> Iterator[Step]:
    """The loop itself: a batch, its losses and their gradients, the update, the average."""
    config, device = state.config, data[0].device
    draw = BatchOrder(len(data[0]), config.batch_size, config.seed, device)
    while state.i < config.steps:
        began, i = time.perf_counter(), state.i + 1
        indices = draw(i)
        batch = [tensor[indices] for tensor in data]
        state.model.train()
        state.model.zero_grad(set_to_none=True)
        with state.unchanged_on_error():
            with counted_dropout(config.seed, i, device), autocast(config, device):
                noise = generator_for(config.seed, "noise", i, device=device)
                losses = call_loss(loss_fn, batch, noise, i)
            # no weight has moved yet: all that can fail in a step comes before the update
            moving = backward(losses, state.weights)
            norms = clip(state.weights, config.clip)
            losses, norms = as_numbers(losses, norms, device)
            refuse_not_finite(i, losses, norms, config.lr)
        lr = lr_at(config, i)
        state.update(moving, lr)
        yield Step(i, losses, lr, norms, state.ema, time.perf_counter() - began)


def train(model: torch.nn.Module, loss_fn: Callable, data: tuple[torch.Tensor, ...],
          config: TrainConfig, run_dir=None, bar: bool = True,
          identity: dict | None = None) -> Iterator[Step]:
    """Train with AdamW, yielding a `Step` after each step; `bar=False` prints nothing.

    `loss_fn(*batch, generator=g)` gives float32 scalars by name: "loss" is minimised, all are
    logged. If it has an argument `step`, it also gets i. A batch is each tensor of `data` at this
    step's indices. A ModuleDict is a model of parts: each moves by the gradient of the loss of its
    own name alone, all at once, and stands still while that loss has no gradient (an adversary that
    has not started). A run whose numbers leave healthy bounds (`monitor`) is told so.

    With a `run_dir` the run logs and saves there, goes on from its newest checkpoint and is never
    overwritten; config, `identity` (a description of the model and of floating-point data) and all
    integer tensors of `data` must be as they were. Ctrl-C, and with a run_dir SIGTERM and SIGHUP,
    finish the step, save and raise KeyboardInterrupt. A loss or gradient that is not finite:
    MinildmError, before any weight is touched.

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
    rows = [step.row() for step in _wrapped(state, loss_fn, data, run_dir, bar, identity)]
    copy_tensors(state.ema.averages, tensors_of(model))
    if other is not None:
        copy_tensors(state.snapshot, tensors_of(other))
    if run_dir is not None:
        return read_metrics(run_dir)
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
    # the order matters: what is held back on Ctrl-C includes the save, and not the printing
    steps = take_steps(state, loss_fn, data)
    if run_dir is not None:
        steps = resumable(steps, state, data, run_dir, identity or {})
    steps = whole_steps(steps, terminable=run_dir is not None)
    if bar:
        steps = progress(monitored(steps), config.steps)
    was_training = state.model.training
    try:
        with kept_memory(device.type):
            yield from steps
    finally:
        state.model.train(was_training)


# --- what a step needs

def seed_for(seed: int, *counters: int | str) -> int:
    """32 bits that depend on the seed and the counters alone.

    A CPU generator takes no more (mt19937 is seeded with 32). So of n pictures of one seed,
    n^2 / 2^33 pairs are expected to begin with the same noise: one pair in 93,000 pictures.
    """
    # not hash(), which is another in each process
    digest = hashlib.sha256(repr((seed, *counters)).encode()).digest()
    return int.from_bytes(digest[:4], "little")


def generator_for(seed: int, *counters: int | str, device="cpu") -> torch.Generator:
    """Make a generator that depends on the seed and the counters alone (see `seed_for`)."""
    return torch.Generator(device).manual_seed(seed_for(seed, *counters))


def epoch_order(n: int, seed: int, epoch: int) -> torch.Tensor:
    """The order (n,) in which an epoch takes the examples."""
    return torch.randperm(n, generator=generator_for(seed, "order", epoch))


class BatchOrder:
    """Gives the indices (batch_size,) of step i; batches go on across epochs."""

    def __init__(self, n: int, batch_size: int, seed: int, device: torch.device):
        self.n, self.batch_size, self.seed, self.device = n, batch_size, seed, device
        self.epoch = -1

    def __call__(self, i: int) -> torch.Tensor:
        epoch, first = divmod((i - 1) * self.batch_size, self.n)
        if epoch != self.epoch:
            # of two epochs, since a batch may end in the next
            orders = [epoch_order(self.n, self.seed, e) for e in (epoch, epoch + 1)]
            self.epoch, self.order = epoch, torch.cat(orders).to(self.device)
        return self.order[first:first + self.batch_size]


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


def gains_from_bf16(device: torch.device) -> bool:
    """True for CUDA with bf16 and for CPUs with avx512_bf16, which those with AMX have too."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # the question is private in torch: where it is gone, the answer is no
        return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return False


def autocast(config: TrainConfig, device: torch.device):
    """Autocast to bf16 where the configuration asks for it, or on "auto" the device gains by it."""
    wanted = config.precision == "bf16"
    if config.precision == "auto":
        wanted = gains_from_bf16(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def call_loss(loss_fn: Callable, batch: list, generator: torch.Generator, i: int) -> dict:
    """The losses of a batch by name, from a function that may or may not ask for the step."""
    if "step" in inspect.signature(loss_fn).parameters:
        return loss_fn(*batch, generator=generator, step=i)
    return loss_fn(*batch, generator=generator)


@contextlib.contextmanager
def counted_dropout(seed: int, i: int, device: torch.device):
    """Seed the global generators, from which dropout draws, by (seed, i); restore them afterwards.

    Only the CPU's and the one of `device`: other cards of the machine are not touched.
    """
    value = seed_for(seed, "global", i)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        # not torch.manual_seed, which seeds every device
        torch.default_generator.manual_seed(value)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(value)
        elif device.type != "cpu":
            torch.get_device_module(device).manual_seed(value)
        yield


def as_numbers(losses: dict, norms: dict, device: torch.device) -> tuple[dict, dict]:
    """Losses and norms as floats, fetched at once: the one wait for the device in a step."""
    values = [torch.as_tensor(value, device=device).detach().float()
              for value in (*losses.values(), *norms.values())]
    values = torch.stack(values).tolist()
    return (dict(zip(losses, values[:len(losses)], strict=True)),
            dict(zip(norms, values[len(losses):], strict=True)))


def refuse_not_finite(i: int, losses: dict, norms: dict, lr: float) -> None:
    """Raise MinildmError if the loss or gradient of a part is not finite."""
    for name, norm in norms.items():
        if not math.isfinite(losses[name]) or not math.isfinite(norm):
            raise MinildmError(f"step {i} is not finite: {losses}, gradient norm {norms}",
                               "training stopped; the weights are as before this step",
                               f"lower lr (now {lr:g}), look for bad values in the data")
