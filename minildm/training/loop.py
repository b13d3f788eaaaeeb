"""One training loop for every model, which yields after the optimizer's step: `for step in train(...)`.

A model may have parts, adversaries for example: each has a loss, an optimizer and a gradient of its own.
Randomness is counted, not carried along: order = f(seed, epoch), noise = f(seed, step). None of it is saved,
previews between steps cannot shift a run, and a resumed run equals the uninterrupted one, bit for bit.
"""

import contextlib
import ctypes
import functools
import hashlib
import inspect
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from minildm import MinildmError
from minildm.training import checkpoint, monitor
from minildm.training.ema import EMA, copy, tensors_of, under
from minildm.training.muon import Muon


@dataclass(frozen=True)
class TrainConfig:
    steps: int
    batch_size: int
    lr: float
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    warmup: int = 50            # steps of linear warm-up, at most half of the run
    decay: str = "linear"       # linear | cosine (both to zero at the end) | none
    clip: float = 1.0           # largest norm of the gradient; 0 does not clip
    muon: float = 0.0           # learning rate of `Muon` for kernels (4 axes), which then leave AdamW
    ema: float = 0.999
    seed: int = 0
    save_every: int = 0         # 0 saves at the end, and on Ctrl-C
    precision: str = "auto"     # auto | float32 | bf16 (autocast)

    def __post_init__(self):
        if not (self.steps >= 1 and self.batch_size >= 1 and 0 < self.lr < math.inf
                and 0 <= self.ema < 1 and self.clip >= 0 and self.muon >= 0):
            raise MinildmError("impossible numbers", self,
                               "steps, batch_size >= 1; lr > 0; 0 <= ema < 1; clip, muon >= 0")
        for name, words in {"decay": "linear cosine none", "precision": "auto float32 bf16"}.items():
            if getattr(self, name) not in words.split():
                raise MinildmError(f"{name} {getattr(self, name)!r}", self, f"{name} is one of: {words}")


@dataclass(frozen=True)
class Step:
    i: int                      # steps completed: 1, 2, ...
    losses: dict[str, float]
    lr: float
    grad_norms: dict[str, float]    # of each part, by the name of its loss; before clipping
    ema: EMA
    seconds: float              # what this step took

    def row(self) -> dict[str, float]:
        norms = {f"grad_norm_{name}".removesuffix("_loss"): norm for name, norm in self.grad_norms.items()}
        return dict(step=self.i, seconds=self.seconds, lr=self.lr, **norms, **self.losses)


def generator_for(seed: int, *counters: int | str, device="cpu") -> torch.Generator:
    """A generator that depends on the seed and the counters alone."""
    digest = hashlib.sha256(repr((seed, *counters)).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:4], "little"))    # a CPU's has 4 bytes


def epoch_order(n: int, seed: int, epoch: int) -> torch.Tensor:
    return torch.randperm(n, generator=generator_for(seed, "order", epoch))


def lr_at(config: TrainConfig, i: int) -> float:
    """The learning rate of step i = 1 ... steps."""
    warmup = min(config.warmup, config.steps // 2)
    done = max(0, i - 1 - warmup) / (config.steps - warmup)
    decay = {"linear": 1 - done, "cosine": 0.5 + math.cos(math.pi * done) / 2, "none": 1}[config.decay]
    return config.lr * min(1, i / max(1, warmup)) * decay


def tune_allocator():
    """Let glibc keep large tensors' memory, else given back and faulted in anew at each step (Linux only)."""
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        ctypes.CDLL(None).mallopt(-4, 0)            # M_MMAP_MAX: large tensors come from the heap,
        ctypes.CDLL(None).mallopt(-1, 2**31 - 1)    # M_TRIM_THRESHOLD: which does not shrink


def gains_from_bf16(device: torch.device) -> bool:
    """True for CUDA with bf16 and for CPUs with avx512_bf16, which those with AMX have too."""
    return (device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            or device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def train(model, loss_fn: Callable, data: tuple[torch.Tensor, ...], config: TrainConfig, run_dir=None,
          bar: bool = True, identity: dict | None = None) -> Iterator[Step]:
    """Train with AdamW, yielding a `Step` after each step; `bar=False` prints nothing.

    A run whose numbers leave the bands of healthy ones (`health`) is told so, once a band.
    `loss_fn(*batch, generator=g)` gives float32 scalars by name: "loss" is minimised, all are logged. If it
    has an argument `step`, it also gets i. A batch is each tensor of `data` at this step's indices.
    A ModuleDict is a model of parts: each moves by the gradient of the loss of its own name alone, all at
    once, and stands still while that loss has no gradient (an adversary that has not started).
    With a `run_dir` the run logs and saves there, goes on from its newest checkpoint and is never
    overwritten; config, `identity` (the model's) and the data's pictures and labels must be as they were.
    Loss or gradient not finite: MinildmError, before any weight is touched.
    """
    device, n = next(model.parameters()).device, len(data[0])
    if config.batch_size > n or any(len(d) != n or d.device != device for d in data):
        raise MinildmError(f"no batch of {config.batch_size} on {device} can be drawn from this data",
                           [(*d.shape, str(d.device)) for d in data], f"batch_size <= {n}; equal lengths")
    if device.type == "cpu":
        tune_allocator()
    identity = {"config": {**asdict(config), "save_every": "any"}, "examples": n,
                "data": [int(d[:1000].long().sum()) for d in data if not d.is_floating_point()],
                **(identity or {})}
    bf16 = config.precision == "bf16" or (config.precision == "auto" and gains_from_bf16(device))
    order = functools.lru_cache(1)(lambda epoch: torch.cat(     # and of the next, where a batch may end
        [epoch_order(n, config.seed, e) for e in (epoch, epoch + 1)]).to(device))

    with contextlib.ExitStack() as stack:
        stack.callback(model.train, model.training)
        run, log = _Run(model, config), None
        if run_dir is not None:
            stack.enter_context(checkpoint.lock(run_dir))
            if folder := checkpoint.latest(run_dir):
                run.restore(folder, identity)
                checkpoint.prune(run_dir)               # what a crash may have left
            log = stack.enter_context(_open_log(run_dir, run.i))
        begun, saved, watch = run.i, run.i, monitor.Watch()
        progress = stack.enter_context(tqdm(total=config.steps, initial=begun, leave=False,
                                            disable=not bar or "CI" in os.environ))
        try:
            while run.i < config.steps:
                with _hold_interrupt():
                    epoch, first = divmod(run.i * config.batch_size, n)
                    indices = order(epoch)[first:first + config.batch_size]
                    step = run.step(loss_fn, [d[indices] for d in data], bf16)
                    if log:
                        for line in [step.row()] * (log.tell() == 0) + [step.row().values()]:    # names once
                            print(*line, sep=",", file=log)
                        if run.i == config.steps or config.save_every and run.i % config.save_every == 0:
                            saved = run.save(run_dir, identity)
                progress.update()
                if run.i - begun == 5:
                    early = time.perf_counter()         # the first steps are slow
                if run.i - begun == 20 and bar:
                    each = (time.perf_counter() - early) / 15
                    left = round((config.steps - run.i) * each)
                    tqdm.write(f"step {run.i}/{config.steps}: {1 / each:.1f} steps/s, "
                               f"done in about {left // 60} min {left % 60} s")
                for left in watch(step.row()) if bar else ():
                    tqdm.write(f"step {run.i}: {monitor.describe(*left)}")
                yield step
        except (KeyboardInterrupt, GeneratorExit):      # GeneratorExit: the caller left the loop early
            if log and run.whole and run.i > saved:
                with _hold_interrupt():
                    run.save(run_dir, identity)
            raise


def fit(model, loss_fn, data, config, run_dir=None, bar=True, identity=None, snapshot=None) -> dict[str, list]:
    """Exhaust `train`, leave the *averaged* weights in the model, return the metrics, a list each.

    `snapshot`, (step, another model of its form): the average after that step goes there.
    """
    steps, (at, other) = [], snapshot or (0, None)
    for step in train(model, loss_fn, data, config, run_dir, bar, identity):
        steps.append(step)
        if step.i == at:
            step.ema.copy_to(other)
            if run_dir:
                checkpoint.save(Path(run_dir) / "early", other.state_dict(), {})
    if at and (not steps or steps[0].i > at):       # in an earlier session
        copy(checkpoint.load(Path(run_dir) / "early")[0], tensors_of(other))
    ended = steps[-1].ema.averages if steps else under(checkpoint.load(checkpoint.latest(run_dir))[0], "ema.")
    copy(ended, tensors_of(model))
    return read_metrics(run_dir) if run_dir else {k: [s.row()[k] for s in steps] for k in steps[0].row()}


def read_metrics(run_dir) -> dict[str, list[float]]:
    """The columns of a run's metrics.csv; row i is step i."""
    names, *rows = (line.split(",") for line in (Path(run_dir) / "metrics.csv").read_text().splitlines())
    rows = [row for row in rows if len(row) == len(names)]              # a kill may have torn the last
    return {name: [float(row[j]) for row in rows] for j, name in enumerate(names)}


def optimizers_for(weights, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or `Muon` for those with four axes and AdamW for the others."""
    kernels = [p for p in weights if config.muon and p.ndim == 4]
    others = [p for p in weights if not (config.muon and p.ndim == 4)]
    fused = weights[0].device.type in ("cpu", "cuda")
    adam = [torch.optim.AdamW(others, config.lr, config.betas, weight_decay=config.weight_decay,
                              fused=fused)] if others else []
    return adam + ([Muon(kernels, config.muon)] if kernels else [])


class _Run:
    """What a checkpoint holds: the model, its average, the optimizers' moments, the number of steps done."""
    def __init__(self, model, config):
        self.model, self.config, self.ema, self.i = model, config, EMA(model, config.ema), 0
        self.whole = True       # False in the midst of a step
        parts = dict(model.items()) if isinstance(model, torch.nn.ModuleDict) else {"loss": model}
        self.weights = {name: [p for p in part.parameters() if p.requires_grad]
                        for name, part in parts.items()}
        self.optimizers = {name: optimizers_for(weights, config) for name, weights in self.weights.items()}
        self.moments = [(optimizer.state, p) for optimizers in self.optimizers.values()
                        for optimizer in optimizers for p in optimizer.param_groups[0]["params"]]

    def step(self, loss_fn, batch, bf16: bool) -> Step:
        began, i, seed, device = time.perf_counter(), self.i + 1, self.config.seed, batch[0].device
        self.whole = False
        self.model.train()
        self.model.zero_grad(set_to_none=True)
        counter = {"step": i} if "step" in inspect.signature(loss_fn).parameters else {}
        # dropout draws from the global generator: seeded by (seed, step) as well, and given back as it was
        with (torch.random.fork_rng([device] if device.type == "cuda" else []),
              torch.autocast(device.type, torch.bfloat16, enabled=bf16)):
            torch.manual_seed(generator_for(seed, "global", i).initial_seed())
            losses = loss_fn(*batch, generator=generator_for(seed, "noise", i, device=device), **counter)
        moving = [name for name in self.weights if name in losses and losses[name].requires_grad]
        if not moving or self.weights.keys() - losses.keys():
            raise MinildmError(f"losses {[*losses]}, of which {moving} have a gradient, for the parts "
                               f"{[*self.weights]}", "train", "return a loss by each part's name")
        for name in moving:             # `inputs`: what else the loss was computed from gets no gradient
            losses[name].backward(inputs=self.weights[name], retain_graph=name != moving[-1])
        norms = [torch.nn.utils.clip_grad_norm_(weights, self.config.clip or math.inf)
                 for weights in self.weights.values()]
        values = [torch.as_tensor(v, device=device).detach().float() for v in (*losses.values(), *norms)]
        values = torch.stack(values).tolist()                   # the one wait for the device in a step
        losses = dict(zip(losses, values[:len(losses)], strict=True))
        norms = dict(zip(self.weights, values[len(losses):], strict=True))
        if not math.isfinite(sum(losses[name] + norms[name] for name in norms)):
            self.model.zero_grad(set_to_none=True)
            raise MinildmError(f"step {i} is not finite: {losses}, gradient norm {norms}",
                               "training stopped; the weights are as before this step",
                               f"lower lr (now {self.config.lr:g}), look for bad values in the data")
        lr = lr_at(self.config, i)
        for optimizer in (optimizer for name in moving for optimizer in self.optimizers[name]):
            optimizer.param_groups[0]["lr"] = lr * (optimizer.defaults["lr"] / self.config.lr)
            optimizer.step()
        self.ema.update(i)
        self.i, self.whole = i, True
        return Step(i, losses, lr, norms, self.ema, time.perf_counter() - began)

    def save(self, run_dir, identity) -> int:
        moments = {f"optimizer.{j}": state[p] for j, (state, p) in enumerate(self.moments)}
        parts = {"model": self.ema.sources, "ema": self.ema.averages, **moments}
        tensors = {f"{part}.{name}": t for part, named in parts.items() for name, t in named.items()}
        if broken := [name for name, t in tensors.items() if not t.isfinite().all()]:
            raise MinildmError(f"step {self.i} is not saved: {broken[0]} is not finite", run_dir, "lower lr")
        checkpoint.save(Path(run_dir) / f"step-{self.i:06d}", tensors, {"step": self.i, "identity": identity})
        checkpoint.prune(run_dir)
        return self.i

    def restore(self, folder, identity):
        tensors, meta = checkpoint.load(folder)
        if different := checkpoint.differences(meta["identity"], identity):
            raise MinildmError("this run was begun with other settings: " + "; ".join(different), folder,
                               "use the same settings, or another run folder")
        copy(under(tensors, "model."), self.ema.sources)
        copy(under(tensors, "ema."), self.ema.averages)
        for j, (state, p) in enumerate(self.moments):
            state[p] = {name: t.to(p.device) for name, t in under(tensors, f"optimizer.{j}.").items()}
        self.i = meta["step"]


def _open_log(run_dir, i: int):
    """metrics.csv, cut back to the first i steps and open for more."""
    path = Path(run_dir) / "metrics.csv"
    path.touch()
    kept = path.read_bytes().splitlines(keepends=True)[:i + 1 if i else 0]      # its first line has the names
    os.truncate(path, sum(map(len, kept)))
    return open(path, "a", buffering=1)         # written by lines: no save is ahead of the log


@contextlib.contextmanager
def _hold_interrupt():
    """Hold Ctrl-C back to the end of the block, so that a step or a save is whole; a second one passes."""
    def hold(*arguments):
        pressed.append(arguments)
        if len(pressed) > 1:
            signal.default_int_handler(*arguments)
    pressed, here = [], threading.current_thread() is threading.main_thread()   # the only one Ctrl-C reaches
    before = signal.signal(signal.SIGINT, hold) if here else None
    try:
        yield
    finally:
        if here:
            signal.signal(signal.SIGINT, before)
    if pressed:
        signal.raise_signal(signal.SIGINT)
