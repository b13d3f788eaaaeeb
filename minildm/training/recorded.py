"""What makes a step fast on a GPU: it is recorded once, and replayed; its networks are compiled.

A small network's step is a thousand launches of a few microseconds each, and the host needs longer
to launch them than the GPU to do them. A CUDA graph holds them all: one launch replays it. What
differs from step to step stands in memory that the graph reads: the indices of the batch, the
learning rate, the state of the generators. Compiled, several operations become one, which reads and
writes the GPU's memory once.

Both compute what `loop.plain_step` says: only the order of sums may differ. Where one of them fails
a line says so, and the step is taken as it is written.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator

import torch
from torch import nn
from tqdm import tqdm

from minildm.training import distributed
from minildm.training.counted import seed_step
from minildm.training.numbers import Numbers

EXECUTIONS = ("auto", "eager", "graph", "compile")
RECORDABLE = ("cuda",)      # devices on which steps can be recorded
# Steps that a graph follows: those before it make the optimizer's state and choose algorithms.
WARM = 3
# shapes are the same at each step; a network that can't be one program is left as it is
COMPILING = {"fullgraph": True, "dynamic": False}
# Steps from which recording and compiling pay for their seconds. On an H200 compiling saved 3 to 10
# ms a step, and cost 7 to 20 s where all blocks of a network share a program, 60 s for a U-Net.
GRAPH_PAYS, BLOCKS_PAY, NETWORK_PAYS = 50, 4000, 15_000


def changes_at(*steps: int) -> Callable:
    """Say of a loss function that takes `step` at which steps it begins to do something else.

    Between those it must do the same whatever the step, so that one of them can be recorded. Such
    a function that says nothing is never recorded.
    """
    def mark(loss_fn: Callable) -> Callable:
        loss_fn.changes_at = steps
        return loss_fn

    return mark


def takes_step(loss_fn: Callable) -> bool:
    """Whether a loss function asks for the number of the step."""
    return "step" in inspect.signature(loss_fn).parameters


def is_fixed(loss_fn: Callable) -> bool:
    """Whether a loss function is known to do the same at each step, but for steps that it names."""
    return not takes_step(loss_fn) or hasattr(loss_fn, "changes_at")


def execution_of(config, device: torch.device, model: nn.Module) -> str:
    """How the steps of a training are executed: eager, graph or compile."""
    if config.execution != "auto":
        return config.execution
    if device.type != "cuda" or config.steps < GRAPH_PAYS:
        return "eager"
    parts = parts_to_compile(model)
    are_blocks = len(parts) > 1 and len({type(part) for part in parts}) == 1
    pays = BLOCKS_PAY if are_blocks else NETWORK_PAYS
    return "compile" if config.steps >= pays else "graph"


@contextlib.contextmanager
def fast_step(plain_step: Callable, state, loss_fn: Callable, data: tuple,
              noise: torch.Generator) -> Iterator[Callable]:
    """Give take_step(indices, i, lr) -> Numbers: the plain step, or what is faster than it."""
    device = data[0].device
    execution = execution_of(state.config, device, state.model)

    def plain(indices, i: int, lr: float) -> Numbers:
        return plain_step(state, loss_fn, data, indices, noise, i, lr)

    take_step = plain
    with contextlib.ExitStack() as undone_at_the_end:
        if execution == "compile":
            compiled = undone_at_the_end.enter_context(compiled_networks(state.model))
            take_step = or_uncompiled(plain, compiled, noise, state.config.seed)
        # what processes send each other is not recorded
        one = distributed.world() == 1
        if execution != "eager" and device.type in RECORDABLE and is_fixed(loss_fn) and one:
            changes = getattr(loss_fn, "changes_at", ())
            take_step = RecordedStep(take_step, CudaGraph, state.config.batch_size, device, noise,
                                     changes)
        yield take_step


# --- recorded

class CudaGraph:
    """One call of a function, recorded: `replay` does again what its launches did."""

    def __init__(self, function: Callable, noise: torch.Generator):
        self.graph = torch.cuda.CUDAGraph()
        # its seed and offset, as they are when it is replayed, are those of the draws
        self.graph.register_generator_state(noise)
        # where recording fails, today's stream is the current one again when this block ends
        with torch.cuda.stream(torch.cuda.current_stream()):
            # another thread, which may be the caller's, may go on using the GPU
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.numbers = function()

    def replay(self) -> Numbers:
        self.graph.replay()
        return self.numbers


class RecordedStep:
    """take_step(indices, i, lr) -> Numbers: some ordinary steps, then one recorded and replayed."""

    def __init__(self, step: Callable, graph: Callable, batch_size: int, device: torch.device,
                 noise: torch.Generator, changes: tuple[int, ...] = ()):
        self.step, self.make_graph, self.noise, self.changes = step, graph, noise, changes
        # where a replay finds its batch
        self.indices = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self.graph = None
        self.ordinary = 0       # ordinary steps since the last change
        self.failed = False

    def __call__(self, indices, i: int, lr: float) -> Numbers:
        if i in self.changes:
            # what was recorded is no longer what the loss does; its memory is given back
            self.graph, self.ordinary = None, 0
        if self.failed:
            return self.step(indices, i, lr)
        if self.ordinary < WARM:
            self.ordinary += 1
            return self.on_side_stream(indices, i, lr)
        if self.graph is None:
            self.record(i, lr)
        if self.failed:
            return self.step(indices, i, lr)
        self.indices.copy_(indices)
        return self.graph.replay()

    def record(self, i: int, lr: float) -> None:
        """Record a step without taking it."""
        try:
            self.graph = self.make_graph(lambda: self.step(self.indices, i, lr), self.noise)
        except Exception as error:
            self.failed = True
            tqdm.write(f"step {i} can't be recorded, so each is launched anew ({brief(error)})")

    def on_side_stream(self, indices, i: int, lr: float) -> Numbers:
        """Take an ordinary step where CUDA wants those that precede a recording."""
        if indices.device.type != "cuda":
            return self.step(indices, i, lr)
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            numbers = self.step(indices, i, lr)
        current.wait_stream(side)
        return numbers


# --- compiled

def parts_to_compile(model: nn.Module) -> list[nn.Module]:
    """The modules of a model that are compiled, each by itself.

    A module names them in `compiled_parts`; a list of blocks means each block, and blocks of one
    form share one program. A model that names none is compiled as a whole.
    """
    if isinstance(model, nn.ModuleDict | nn.ModuleList):
        return [part for child in model.children() for part in parts_to_compile(child)]
    names = getattr(model, "compiled_parts", None)
    if names is None:
        return [model]
    return [part for name in names for part in parts_to_compile(getattr(model, name))]


@contextlib.contextmanager
def compiled_networks(model: nn.Module) -> Iterator[list[nn.Module]]:
    """Compile the networks of a model in place, and undo it at the end; names stay as they are."""
    parts = parts_to_compile(model)
    for part in parts:
        # not `Module.compile`: of the code behind that, which all modules of a process have in
        # common, torch compiles eight forms and no more. Copies of a module are not compiled
        part._compiled_call_impl = torch.compile(part.forward, **COMPILING)
    try:
        yield parts
    finally:
        uncompile(parts)
        # another training's networks are of other shapes, and would be counted with these
        torch.compiler.reset()


def uncompile(parts: list[nn.Module]) -> None:
    """Let modules be called as they are written again."""
    for part in parts:
        part._compiled_call_impl = None


def or_uncompiled(step: Callable, parts: list[nn.Module], noise: torch.Generator,
                  seed: int) -> Callable:
    """A step that is taken without compiling where that fails, as it does without a compiler."""
    def take_step(indices, i: int, lr: float) -> Numbers:
        try:
            return step(indices, i, lr)
        except Exception as error:
            # while a step is recorded its error belongs to the recording
            recording = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
            if recording or parts[0]._compiled_call_impl is None:
                raise
            uncompile(parts)
            # the attempt may have drawn already
            seed_step(noise, seed, i)
            tqdm.write(f"networks can't be compiled, and are run as they are ({brief(error)})")
            return step(indices, i, lr)

    return take_step


def brief(error: Exception) -> str:
    """An error in a few words: its kind and, in one line, how it begins."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
