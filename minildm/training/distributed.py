"""One training by several processes, a GPU each: `torchrun --nproc-per-node 8 -m minildm train`.

The loss is a mean over the batch. So process r of n takes the examples [r::n] of the batch that one
process would take, and the mean of the n gradients is that batch's gradient: all make the same
step. Batch size, rate, order and checkpoints are those of one process, and a run may go on with
another number of them. What is drawn differs: the process is one more counter of its noise. The
first process alone writes, prints and measures.

Without torchrun every function here does nothing, and `rank`, `world` are 0 and 1.
"""

import contextlib
import functools
import json
import os
import sys
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist

from minildm import MinildmError
from minildm.training.interrupts import noted

# A process that ended is noticed at once; so long one may live that does not answer.
TIMEOUT = timedelta(minutes=5)
# So long others wait while the first works alone: it measures, or trains what it measures with.
PATIENCE = timedelta(days=1)

_alone = False          # inside `alone`


# --- who is here

def world() -> int:
    """The number of processes."""
    together = dist.is_available() and dist.is_initialized() and not _alone
    return dist.get_world_size() if together else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if world() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that writes, prints and measures."""
    # also inside `alone`, which asks for no others
    return not dist.is_available() or not dist.is_initialized() or dist.get_rank() == 0


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Work without the others inside the block: what is trained there is trained here alone."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


@contextlib.contextmanager
def session() -> Iterator[None]:
    """Join the processes that torchrun started, if it did; at the end wait for all of them.

    MinildmError for more processes than the machine has GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(device_number())
    with _answered():
        dist.init_process_group(backend, timeout=TIMEOUT)
    yield
    # after an error nothing is waited for: the process ends, by which the others notice
    any_of(False)
    dist.destroy_process_group()


def device_number() -> int:
    """The GPU of this process, "cuda" from now on."""
    number, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number >= there:
        raise MinildmError(f"process {number + 1} of this machine finds {there} GPUs", "torchrun",
                           f"start as many processes as GPUs: --nproc-per-node {there}")
    return number


@functools.cache
def _patient(everyone):
    """A group of all processes for what the host asks, over the network, and with much time."""
    return dist.new_group(backend="gloo", timeout=PATIENCE)


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    """Say what to do when another process does not answer inside the block."""
    try:
        yield
    except RuntimeError as error:
        lost = MinildmError("another process of this run has ended, or does not answer",
                            "torch.distributed", "see what it said, then start the same command "
                            "again: a training goes on from its last checkpoint")
        if dist.is_initialized() and torch.cuda.is_available():
            # what is queued on the GPU waits for the lost one: neither a save nor an end in order
            # is possible any more
            print(f"minildm: {lost}\n  cause: {error}", file=sys.stderr, flush=True)
            os._exit(2)
        raise lost from error


# --- what a step needs

def check_can_share(config, model: torch.nn.Module) -> None:
    """Raise MinildmError for a training that several processes would not make as one does."""
    n, size = world(), config.batch_size
    if size % n:
        raise MinildmError(f"a batch of {size} can't be shared by {n} processes", config,
                           f"start a number of processes that divides {size}")
    kinds = torch.nn.modules.batchnorm._BatchNorm
    for name, module in model.named_modules():
        # each process would normalise by its own share of the batch
        if n > 1 and isinstance(module, kinds) and not isinstance(module, torch.nn.SyncBatchNorm):
            raise MinildmError(f"{name} is a BatchNorm, which looks at the whole batch", "train",
                               "train in one process; or on GPUs convert the model by "
                               "torch.nn.SyncBatchNorm.convert_sync_batchnorm")


def counters() -> tuple:
    """What this process draws from beside seed and step; nothing for the first."""
    return ("rank", rank()) if rank() else ()


def part_of(indices: torch.Tensor) -> torch.Tensor:
    """This process' share of the indices of a batch."""
    return indices[rank()::world()]


@torch.no_grad()
def average_gradients(weights: list) -> None:
    """Give all processes the mean of their gradients, sent as one tensor."""
    if world() == 1:
        return
    weights = [p for p in weights if p.grad is not None]
    flat = torch.cat([p.grad.flatten() for p in weights])
    average(flat)
    parts = flat.split([p.numel() for p in weights])
    for p, part in zip(weights, parts, strict=True):
        p.grad = part.view_as(p)


def average(values: torch.Tensor) -> None:
    """Replace a tensor by its mean over the processes, in place."""
    if world() > 1:
        with _answered():
            dist.all_reduce(values)         # the sum: gloo knows no mean
        values.div_(world())


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Put the rows of all processes together, for a loss that compares all with all.

    Own rows (B, ...) -> (n B, ...), in the order of the processes. Every process computes the same
    loss of them, and its gradient flows to its own rows alone. Times n: the *mean* of the
    gradients, which `average_gradients` takes, is then the gradient of that loss.
    """
    n = world()
    if n == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(n)]
    with _answered():
        dist.all_gather(parts, rows.detach().contiguous())
    own = rows.clone()
    if own.requires_grad:
        own.register_hook(lambda gradient: n * gradient)
    parts[rank()] = own
    return torch.cat(parts)


# --- the same in every process

def any_of(mine: bool) -> bool:
    """Whether it is true in any process; all wait for all, as long as it takes."""
    if world() == 1:
        return mine
    found = torch.tensor(float(mine))
    with _answered():
        dist.all_reduce(found, group=_patient(dist.group.WORLD))
    return bool(found)


def from_first(value):
    """The first process' value, which JSON can hold, in every process."""
    if world() == 1:
        return value
    content = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
    size = torch.tensor(len(content))
    with _answered():
        dist.broadcast(size, 0, group=_patient(dist.group.WORLD))
        if not is_first():
            content = torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(content, 0, group=_patient(dist.group.WORLD))
    return json.loads(bytes(content.tolist()))


def share(state) -> None:
    """Give every process the first one's `TrainState`: weights, averages, moments, step."""
    if world() == 1:
        return
    tensors = state.tensors() if is_first() else {}
    forms = {name: [str(t.dtype).removeprefix("torch."), *t.shape] for name, t in tensors.items()}
    i, forms = from_first([state.i, forms])
    for name, (dtype, *shape) in forms.items():
        if not is_first():
            tensors[name] = torch.empty(shape, dtype=getattr(torch, dtype))
        # by way of the device, where processes of several GPUs meet
        sent = tensors[name].detach().to(state.broken.device).contiguous()
        with _answered():
            dist.broadcast(sent, 0)
        tensors[name] = sent
    if not is_first():
        state.restore(tensors, i)


def leave_together(steps: Iterator, terminable: bool) -> Iterator:
    """Yield the steps of a training; after Ctrl-C in any process all stop after the same step.

    It raises KeyboardInterrupt there. A second Ctrl-C passes at once.
    """
    with noted(terminable) as pressed, contextlib.closing(steps):
        for step in steps:
            yield step
            if any_of(bool(pressed)):
                raise KeyboardInterrupt


# --- pictures by number

def shard(n: int, which: int | None = None) -> range:
    """The numbers, out of n, that this process takes, or the process `which`."""
    which = rank() if which is None else which
    return range(n * which // world(), n * (which + 1) // world())


def gather(part: torch.Tensor, n: int) -> torch.Tensor:
    """Put the shards of n rows together, in order, in every process: (own, ...) -> (n, ...)."""
    if world() == 1:
        return part
    # shards differ by one at most, and what is sent must not
    longest = -(-n // world())
    padded = part.new_zeros(longest, *part.shape[1:])
    padded[:len(part)] = part
    parts = [torch.empty_like(padded) for _ in range(world())]
    with _answered():
        dist.all_gather(parts, padded)
    return torch.cat([parts[r][:len(shard(n, r))] for r in range(world())])


def generate(model, wanted, **options) -> torch.Tensor:
    """`model.generate`, of which each process draws a shard; all get all, in order.

    Picture k of a seed is the same whoever draws it.
    """
    if len(wanted) < world():
        return model.generate(wanted, **options)
    mine = shard(len(wanted))
    drawn = model.generate(wanted[mine.start:mine.stop], first=mine.start, **options)
    return gather(drawn, len(wanted))
