"""The numbers of a step, which a GPU has long before or long after the host asks for them.

Reading one from a GPU waits for all that was launched before it. So a step's numbers travel to the
host by themselves, and are read when somebody wants them: at once on a CPU, many steps later by the
loop's own log and checks on a GPU.
"""

import math
from dataclasses import dataclass

import torch

from minildm import MinildmError
from minildm.training.ema import EMA


class Numbers:
    """The losses and gradient norms of one step, by name: 0-dim tensors, read late as floats.

    A part's loss and its norm, which have one name, decide whether the step is finite.
    """

    def __init__(self, losses: dict, norms: dict, device: torch.device):
        self.names, self.parts = [*losses], [*norms]
        decisive = [losses[name] for name in norms]
        values = []
        for value in (*decisive, *norms.values(), *losses.values()):
            # a number of the host's is written by a launch: to copy it would be to wait
            if not torch.is_tensor(value):
                value = torch.full((), float(value), device=device)
            values.append(value.detach().to(device).float())
        self.values = torch.stack(values)
        self._sent = self._read = None

    def is_finite(self) -> torch.Tensor:
        """Whether the parts' losses and norms are, as a 0-dim bool tensor on the device."""
        return self.values[:2 * len(self.parts)].isfinite().all()

    def sent(self, mailbox: "Mailbox") -> "Numbers":
        """These numbers on their way to the host; a recorded step's next replay may follow."""
        copy = object.__new__(Numbers)
        copy.names, copy.parts, copy.values, copy._read = self.names, self.parts, None, None
        copy._sent = mailbox.send(self.values)
        return copy

    def read(self) -> tuple[dict[str, float], dict[str, float]]:
        """Losses and norms as floats; on a GPU this waits until they have been computed."""
        if self._read is None:
            host, arrived = self._sent or (self.values, None)
            if arrived is not None:
                arrived.synchronize()
            numbers = host.tolist()
            first = len(self.parts)
            norms = dict(zip(self.parts, numbers[first:2 * first], strict=True))
            self._read = dict(zip(self.names, numbers[2 * first:], strict=True)), norms
            # a later step takes the place over
            self._sent = None
        return self._read


class Mailbox:
    """Where the numbers of the last `places` steps arrive on the host, each in a place in turn.

    From CUDA they come by pinned memory, which is asked for once: to ask for it waits for the GPU.
    """

    def __init__(self, places: int):
        self.places = places
        self.pinned = None
        self.next = 0

    def send(self, values: torch.Tensor) -> tuple:
        """Copy values (n,); returns where they will be, and what tells that they are there."""
        if values.device.type != "cuda":
            return values.clone(), None
        if self.pinned is None or self.pinned.shape[1] != len(values):
            self.pinned = torch.empty(self.places, len(values), pin_memory=True)
        host = self.pinned[self.next]
        self.next = (self.next + 1) % self.places
        host.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        return host, arrived


@dataclass(frozen=True)
class Step:
    """What one step did. Its losses and norms are read from a GPU when they are asked for."""

    i: int                          # steps completed: 1, 2, ...
    numbers: Numbers
    lr: float
    ema: EMA
    # what this step took; on a GPU what the host took, which runs up to `LAG` steps ahead
    seconds: float

    @property
    def losses(self) -> dict[str, float]:
        return self.numbers.read()[0]

    @property
    def grad_norms(self) -> dict[str, float]:
        """The norm of each part's gradient, by the name of its loss; before clipping."""
        return self.numbers.read()[1]

    def row(self) -> dict[str, float]:
        """All numbers by name, as the log has them."""
        row = {"step": self.i, "seconds": self.seconds, "lr": self.lr}
        for name, norm in self.grad_norms.items():
            row[f"grad_norm_{name}".removesuffix("_loss")] = norm
        return {**row, **self.losses}

    def refuse_not_finite(self) -> None:
        """Raise MinildmError if the loss or gradient of a part is not finite."""
        for name, norm in self.grad_norms.items():
            if not math.isfinite(self.losses[name]) or not math.isfinite(norm):
                raise MinildmError(
                    f"step {self.i} is not finite: {self.losses}, gradient norm {self.grad_norms}",
                    "training stopped; the weights are as before this step",
                    f"lower lr (now {self.lr:g}), look for bad values in the data")
