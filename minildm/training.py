"""Training: one loop for every model, a generator that yields after the optimizer's step.

Logging, sampling and a second model's turn are the caller's business:  `for step in train(...): ...`
Randomness is counted, not carried along: order = f(seed, epoch), noise = f(seed, step). So none of it is saved,
previews cannot shift a run, and a resumed run equals the uninterrupted one, bit for bit on a CPU.
"""

import contextlib
import ctypes
import functools
import hashlib
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
from torch import Tensor
from tqdm import tqdm

from minildm import MinildmError, checkpoint


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
    ema: float = 0.999
    seed: int = 0
    save_every: int = 0         # 0 saves at the end, and on Ctrl-C
    precision: str = "auto"     # auto | float32 | bf16 (autocast)

    def __post_init__(self):
        for good, allowed in ((min(self.steps, self.batch_size) >= 1, "steps and batch_size at least 1"),
                              (0 < self.lr < math.inf and 0 <= self.ema < 1, "lr positive, ema in [0, 1)"),
                              (self.decay in ("linear", "cosine", "none"), "decay linear, cosine or none"),
                              (self.precision in ("auto", "float32", "bf16"), "precision auto, float32 or bf16")):
            if not good:
                raise MinildmError("this training configuration cannot work", self, allowed)


@dataclass(frozen=True)
class Step:
    i: int                      # steps completed: 1, 2, ...
    losses: dict[str, float]
    lr: float
    grad_norm: float            # before clipping
    ema: "EMA"
    seconds: float              # since the run began, earlier sessions included


def generator_for(seed: int, *counters: int | str, device="cpu") -> torch.Generator:
    """A generator that depends on the seed and the counters alone."""
    digest = hashlib.sha256(repr((seed, *counters)).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:4], "little"))    # a CPU's takes 4 bytes


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=generator_for(seed, "order", epoch))


def lr_at(config: TrainConfig, i: int) -> float:
    """The learning rate of step i = 1 ... steps."""
    warmup = min(config.warmup, config.steps // 2)
    if i <= warmup:
        return config.lr * i / warmup
    done = (i - 1 - warmup) / (config.steps - warmup)
    decay = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "none": 1.0}
    return config.lr * decay[config.decay]


class EMA:
    """A running average of weights, average <- d average + (1 - d) weights, d = min(decay, (1 + i) / (10 + i)).

    It pairs tensors, not names, so no wrapper (like torch.compile's) can unhook it.
    """

    def __init__(self, model, decay: float):
        self.decay, self.sources = decay, _tensors(model)
        self.averages = {name: source.detach().clone() for name, source in self.sources.items()}

    @torch.no_grad()
    def update(self, i: int):
        """Average in the weights after step i; buffers are copied."""
        d = min(self.decay, (1 + i) / (10 + i))
        weights = [n for n, source in self.sources.items() if isinstance(source, torch.nn.Parameter)]
        torch._foreach_lerp_([self.averages[n] for n in weights], [self.sources[n] for n in weights], 1 - d)
        for name in self.sources.keys() - weights:
            self.averages[name].copy_(self.sources[name])

    @contextlib.contextmanager
    def applied(self):
        """Inside the block the model holds the average."""
        kept = {name: source.detach().clone() for name, source in self.sources.items()}
        _copy(self.averages, self.sources)
        try:
            yield
        finally:
            _copy(kept, self.sources)

    def copy_to(self, model):
        _copy(self.averages, _tensors(model))


def tune_allocator():
    """Let glibc keep large tensors' memory, otherwise given back and faulted in anew every step (Linux only)."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)             # M_MMAP_MAX: large tensors come from the heap
        libc.mallopt(-1, 2**31 - 1)     # M_TRIM_THRESHOLD: which does not shrink


def gains_from_bf16(device: torch.device) -> bool:
    """True for CUDA with bf16 and for CPUs with avx512_bf16, which those with AMX have too."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()


def train(model, loss_fn: Callable, data: tuple[Tensor, ...], config: TrainConfig,
          run_dir: str | Path | None = None, bar: bool = True, identity: dict | None = None) -> Iterator[Step]:
    """Train with AdamW, yielding a `Step` after each step; `bar=False` prints nothing.

    `loss_fn(*batch, generator=g)` returns float32 scalars by name: "loss" is minimised, all are logged. A batch is
    each tensor of `data` (on the model's device) at this step's indices. With `run_dir` the run logs and saves
    there, goes on from its newest checkpoint, and is never overwritten; config and `identity` (model config, data
    checksum, ...) must be as they were. If loss or gradient is not finite, MinildmError, and the weights are those
    before that step.
    """
    device, n = next(model.parameters()).device, len(data[0])
    if config.batch_size > n or any(len(d) != n or d.device != device for d in data):
        raise MinildmError(f"no batch of {config.batch_size} on {device} can be drawn from this data",
                           ", ".join(f"{tuple(d.shape)} on {d.device}" for d in data),
                           f"batch_size <= {n}; tensors of one length, all on {device}")
    if device.type == "cpu":
        tune_allocator()
    settings = {name: value for name, value in asdict(config).items() if name != "save_every"}
    identity = {"config": settings, "examples": n, **(identity or {})}
    bf16 = config.precision == "bf16" or (config.precision == "auto" and gains_from_bf16(device))

    @functools.lru_cache(1)
    def order(epoch):       # of two epochs, since a batch may reach into the next
        return torch.cat([epoch_order(n, config.seed, e) for e in (epoch, epoch + 1)]).to(device)

    with contextlib.ExitStack() as stack:
        stack.callback(model.train, model.training)
        run, log, clock = _Run(model, config), None, time.perf_counter()
        if run_dir is not None:
            stack.enter_context(checkpoint.lock(run_dir))
            run.restore(run_dir, identity)
            log, before = _open_log(run_dir, run.i)
            stack.enter_context(log)
            clock -= before
        begun = saved = run.i
        off = not bar or "CI" in os.environ
        progress = stack.enter_context(tqdm(total=config.steps, initial=begun, leave=False, disable=off))
        try:
            while run.i < config.steps:
                with _hold_interrupt():
                    epoch, first = divmod(run.i * config.batch_size, n)
                    indices = order(epoch)[first:first + config.batch_size]
                    losses, lr, norm = run.step(loss_fn, [d[indices] for d in data], bf16)
                    step = Step(run.i, losses, lr, norm, run.ema, time.perf_counter() - clock)
                    if log:
                        _write(log, step)
                        if run.i == config.steps or config.save_every and run.i % config.save_every == 0:
                            saved = run.save(run_dir, identity)
                progress.update()
                if run.i - begun == 5:
                    early = step.seconds        # the first steps are slow
                if run.i - begun == 20 and bar:
                    tqdm.write(_projection(run.i, config.steps, 15 / (step.seconds - early)))
                yield step
        except (KeyboardInterrupt, GeneratorExit):      # GeneratorExit: the caller left the loop early
            if log and run.whole and run.i > saved:
                with _hold_interrupt():
                    run.save(run_dir, identity)
            raise


def fit(model, loss_fn, data, config, run_dir=None, bar=True, identity=None) -> dict[str, list[float]]:
    """Exhaust `train`, leave the *averaged* weights in the model, return the metrics, a list each."""
    history, step = {}, None
    for step in train(model, loss_fn, data, config, run_dir, bar, identity):
        for name, value in _row(step).items():
            history.setdefault(name, []).append(value)
    if step:
        step.ema.copy_to(model)
    else:
        load_average(model, run_dir)    # the run was finished before
    return read_metrics(run_dir) if run_dir is not None else history


def load_average(model, run_dir: str | Path):
    """Put the averaged weights of a run's newest checkpoint into the model."""
    if (folder := checkpoint.latest(run_dir)) is None:
        raise MinildmError("there is no checkpoint in this run folder", run_dir, "train first")
    _copy(_part(checkpoint.load(folder)[0], "ema."), _tensors(model))


def read_metrics(run_dir: str | Path) -> dict[str, list[float]]:
    """The columns of a run's metrics.csv; row i is step i."""
    names, *rows = (line.split(",") for line in (Path(run_dir) / "metrics.csv").read_text().splitlines())
    return {name: [float(value) for value in column]
            for name, column in zip(names, zip(*rows, strict=True), strict=True)}


class _Run:
    """What a checkpoint holds: the model, its average, the optimizer's moments and the number of steps done."""

    def __init__(self, model, config):
        self.model, self.config, self.ema, self.i = model, config, EMA(model, config.ema), 0
        self.whole = True       # not between two steps' states
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, betas=config.betas, weight_decay=config.weight_decay,
                                           fused=self.weights[0].device.type in ("cpu", "cuda"))

    def step(self, loss_fn, batch, bf16: bool):
        i, seed, device = self.i + 1, self.config.seed, batch[0].device
        self.whole = False
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        # dropout draws from the global generator: seeded by (seed, step) as well, and given back as it was
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(generator_for(seed, "global", i).initial_seed())
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                losses = loss_fn(*batch, generator=generator_for(seed, "noise", i, device=device))
            losses["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.config.clip or math.inf)
        values = [torch.as_tensor(v, device=device).detach().float() for v in (*losses.values(), norm)]
        *values, norm = torch.stack(values).tolist()            # the one wait for the device in a step
        losses = dict(zip(losses, values, strict=True))
        if not math.isfinite(losses["loss"] + norm):
            self.optimizer.zero_grad(set_to_none=True)
            found = ", ".join(f"{name} {value:.4g}" for name, value in {**losses, "gradient norm": norm}.items())
            raise MinildmError(f"step {i} is not finite: {found}", "training; the weights are as before this step",
                               f"lower lr (it is {self.config.lr:g}), look for bad values in the data")
        self.optimizer.param_groups[0]["lr"] = lr = lr_at(self.config, i)
        self.optimizer.step()
        self.ema.update(i)
        self.i, self.whole = i, True
        return losses, lr, norm

    def save(self, run_dir, identity) -> int:
        tensors = {f"model.{name}": t for name, t in self.ema.sources.items()}
        tensors |= {f"ema.{name}": t for name, t in self.ema.averages.items()}
        tensors |= {f"optimizer.{j}.{key}": t
                    for j, state in self.optimizer.state_dict()["state"].items() for key, t in state.items()}
        if broken := [name for name, t in tensors.items() if not t.isfinite().all()]:
            raise MinildmError(f"step {self.i} is not saved: {broken[0]} is not finite", run_dir, "lower lr")
        checkpoint.save(Path(run_dir) / f"step-{self.i:06d}", tensors, {"step": self.i, **identity})
        checkpoint.prune(run_dir)
        return self.i

    def restore(self, run_dir, identity):
        if (folder := checkpoint.latest(run_dir)) is None:
            return
        tensors, meta = checkpoint.load(folder)
        was = {name: value for name, value in meta.items() if name not in ("step", "format", "versions")}
        if different := checkpoint.differences(was, identity):
            raise MinildmError("this run was begun with other settings: " + "; ".join(different), run_dir,
                               "use the same settings, or another run folder")
        _copy(_part(tensors, "model."), self.ema.sources)
        _copy(_part(tensors, "ema."), self.ema.averages)
        states = {j: _part(tensors, f"optimizer.{j}.") for j in range(len(self.weights))}
        self.optimizer.load_state_dict({"state": {j: state for j, state in states.items() if state},
                                        "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.i = meta["step"]


def _tensors(model) -> dict[str, Tensor]:
    """Parameters and saved buffers by name; those of a compiled model have the bare model's names."""
    return {name.replace("_orig_mod.", ""): t for name, t in model.state_dict(keep_vars=True).items()}


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix):]: t for name, t in tensors.items() if name.startswith(prefix)}


@torch.no_grad()
def _copy(sources: dict[str, Tensor], targets: dict[str, Tensor]):
    shapes = ({name: list(t.shape) for name, t in tensors.items()} for tensors in (sources, targets))
    if different := checkpoint.differences(*shapes):
        raise MinildmError("these weights are another model's: " + "; ".join(different),
                           fix="build the model from the configuration that it was saved with")
    for name, target in targets.items():
        target.copy_(sources[name])


def _row(step: Step) -> dict[str, float]:
    return {"step": step.i, "seconds": step.seconds, "lr": step.lr, "grad_norm": step.grad_norm, **step.losses}


def _write(log, step: Step):
    row = _row(step)
    for line in (row, row.values()) if step.i == 1 else (row.values(),):
        print(*line, sep=",", file=log)


def _open_log(run_dir, i: int):
    """metrics.csv cut back to the first i steps and open for more, and the seconds that these took."""
    path = Path(run_dir) / "metrics.csv"
    lines = path.read_text().splitlines(keepends=True)[:i + 1] if i and path.exists() else []
    path.with_suffix(".new").write_text("".join(lines))
    os.replace(path.with_suffix(".new"), path)
    return open(path, "a", buffering=1), float(lines[-1].split(",")[1]) if lines else 0.0


def _projection(i: int, steps: int, rate: float) -> str:
    minutes, seconds = divmod(round((steps - i) / rate), 60)
    return f"step {i}/{steps}: {rate:.1f} steps/s, done in about {f'{minutes} min ' * (minutes > 0)}{seconds} s"


@contextlib.contextmanager
def _hold_interrupt():
    """Hold Ctrl-C back to the end of the block, so that a step or a save is whole; a second one passes."""
    def hold(*arguments):
        pressed.append(arguments)
        if len(pressed) > 1:
            signal.default_int_handler(*arguments)

    pressed, here = [], threading.current_thread() is threading.main_thread()   # Ctrl-C reaches no other thread
    before = signal.signal(signal.SIGINT, hold) if here else None
    try:
        yield
    finally:
        if here:
            signal.signal(signal.SIGINT, before)
    if pressed:
        signal.raise_signal(signal.SIGINT)
