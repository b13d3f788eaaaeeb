"""What a checkpoint of a training holds: the model, its average, the moments, the step."""

import contextlib
import math
from collections import deque

import torch

from minildm import MinildmError
from minildm.training.ema import EMA, copy_tensors, strip_prefix
from minildm.training.muon import Muon
from minildm.training.numbers import Mailbox, Numbers, Step

# steps that the host may be ahead of the numbers of a device
LAG = {"cuda": 50}


class TrainState:
    """A model in training, after `i` whole steps.

    A ModuleDict is a model of parts, each with weights and optimizers of its own; any other model
    is one part named "loss". With `snapshot_step` > 0 the average after that step is kept as
    `snapshot`.

    A step that is not finite moves nothing. On a CPU the host reads the numbers before the update.
    A GPU is not waited for: from such a step on `broken`, on the device, holds every update back,
    until the host has read that step's numbers (`settle`) and stops the training.
    """

    def __init__(self, model: torch.nn.Module, config, snapshot_step: int = 0):
        self.model, self.config = model, config
        self.i = 0
        self.whole = True               # False while an update moves weights
        self.ema = EMA(model, config.ema)
        device = next(model.parameters()).device
        self.lag = LAG.get(device.type, 0)
        self.unread: deque[Step] = deque()      # steps whose numbers were not read yet
        self.settled = 0                        # the last step whose numbers were, and were finite
        # one place for each unread step, and for the newest
        self.mailbox = Mailbox(self.lag + 1)
        # what decides on the device, where the host is ahead
        self.broken = torch.zeros((), device=device)
        self.ema_share = torch.zeros((), device=device)
        self.snapshot_step = snapshot_step
        self.snapshot: dict[str, torch.Tensor] | None = None

        parts = dict(model.items()) if isinstance(model, torch.nn.ModuleDict) else {"loss": model}
        self.weights, self.optimizers = {}, {}
        for name, part in parts.items():
            self.weights[name] = [p for p in part.parameters() if p.requires_grad]
            self.optimizers[name] = optimizers_for(part, config)
        # each has its own rate at the top of the schedule: Muon's is another than AdamW's
        self.shares = {}
        for optimizers in self.optimizers.values():
            for optimizer in optimizers:
                self.shares[optimizer] = float(optimizer.defaults["lr"]) / config.lr
                if device.type == "cuda":
                    # a tensor: a recorded step reads what stands in it when it is replayed
                    optimizer.param_groups[0]["lr"] = torch.zeros((), device=device)

    def moments(self) -> list[tuple]:
        """Pair each weight with the state of its optimizer, in the order of a checkpoint."""
        pairs = []
        for optimizers in self.optimizers.values():
            for optimizer in optimizers:
                pairs += [(optimizer.state, p) for p in optimizer.param_groups[0]["params"]]
        return pairs

    @contextlib.contextmanager
    def unchanged_on_error(self):
        """If the block raises, leave the model as it was after the last whole step.

        Before the update only buffers have moved, by the forward pass; the average holds copies.
        """
        try:
            yield
        except BaseException:
            self.model.zero_grad(set_to_none=True)
            self.ema.restore_buffers()
            raise

    def begin(self, lr: float) -> None:
        """Set what the next step has of its own: the learning rate and the average's share."""
        for optimizer, share in self.shares.items():
            group = optimizer.param_groups[0]
            if torch.is_tensor(group["lr"]):
                group["lr"].fill_(lr * share)
            else:
                group["lr"] = lr * share
        if self.lag:
            self.ema_share.fill_(1 - self.ema.decay_at(self.i + 1))

    def guard(self, numbers: Numbers, lr: float) -> None:
        """See to it that a step that is not finite moves nothing; where the host knows, raise."""
        if not self.lag:
            Step(self.i + 1, numbers, lr, self.ema, 0).refuse_not_finite()
            return
        broken = (~numbers.is_finite()).float()
        torch.maximum(self.broken, broken, out=self.broken)

    def update(self, names: list[str]) -> None:
        """Move the parts of these names by their gradients, then the average."""
        self.whole = False
        for name in names:
            for optimizer in self.optimizers[name]:
                # both kinds ask for this attribute, and stand still where it is 1
                optimizer.found_inf = self.broken if self.lag else None
                optimizer.step()
        if self.lag:
            self.ema.update_unless(self.broken, self.ema_share)
        else:
            self.ema.update(self.i + 1)

    def finish(self, step: Step) -> None:
        """Count a step whose update was made, or launched; read the numbers of older ones."""
        self.i = step.i
        if self.i == self.snapshot_step:
            self.snapshot = {name: t.clone() for name, t in self.ema.averages.items()}
        self.whole = True
        self.unread.append(step)
        # nothing follows the last step that could be waited for meanwhile
        self.settle(keep=self.lag if self.i < self.config.steps else 0)

    def settle(self, keep: int = 0) -> None:
        """Read the numbers of all steps but the newest `keep`.

        MinildmError for a step that was not finite; the state is then that after the step before.
        """
        while len(self.unread) > keep:
            step = self.unread.popleft()
            try:
                step.refuse_not_finite()
            except MinildmError:
                self.go_back_to(step.i - 1)
                raise
            self.settled = step.i

    def go_back_to(self, i: int) -> None:
        """Count no step after i. Their updates did not move anything: see `guard`."""
        self.i = i
        self.unread.clear()
        self.broken.zero_()
        self.model.zero_grad(set_to_none=True)
        self.ema.restore_buffers()
        if i < self.snapshot_step:
            self.snapshot = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """Name all tensors of the state; MinildmError if one is not finite."""
        parts = {"model": self.ema.sources, "ema": self.ema.averages,
                 "snapshot": self.snapshot or {}}
        for j, (state, p) in enumerate(self.moments()):
            parts[f"optimizer.{j}"] = state[p]
        tensors = {}
        for part, named in parts.items():
            for name, tensor in named.items():
                if not tensor.isfinite().all():
                    raise MinildmError(f"step {self.i} is not saved: {part}.{name} is not finite",
                                       "training stopped", "lower lr")
                tensors[f"{part}.{name}"] = tensor
        return tensors

    def restore(self, tensors: dict[str, torch.Tensor], i: int) -> None:
        """Take over the tensors of a state saved after step i."""
        copy_tensors(strip_prefix(tensors, "model."), self.ema.sources)
        copy_tensors(strip_prefix(tensors, "ema."), self.ema.averages)
        for j, (state, p) in enumerate(self.moments()):
            saved = strip_prefix(tensors, f"optimizer.{j}.")
            state[p] = {name: tensor.to(p.device) for name, tensor in saved.items()}
        snapshot = strip_prefix(tensors, "snapshot.")
        if snapshot and self.snapshot_step:
            self.take_snapshot(snapshot)
        self.i = self.settled = i

    def take_snapshot(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over an average that was kept in an earlier session."""
        self.snapshot = {name: torch.empty_like(t) for name, t in self.ema.averages.items()}
        copy_tensors(tensors, self.snapshot)

    def size(self) -> int:
        """Bytes of a checkpoint: what is saved of the model, twice or thrice, and the moments."""
        copies = 3 if self.snapshot_step else 2
        saved = sum(t.numel() * t.element_size() for t in self.ema.averages.values())
        moments = 0
        for _, p in self.moments():
            # AdamW has two moments of each weight, Muon one: the more common is assumed
            moments += 2 * p.numel() * p.element_size()
        return copies * saved + moments


def optimizers_for(part: torch.nn.Module, config) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or `Muon` for those that `config.muon_on` names and AdamW for others.
    """
    chosen = {id(p) for p in muons_weights(part, config.muon_on)} if config.muon else set()
    kernels, others = [], []
    for p in part.parameters():
        if p.requires_grad:
            (kernels if id(p) in chosen else others).append(p)
    optimizers = []
    if others:
        kind = others[0].device.type
        # capturable: its step may be recorded in a graph
        optimizers.append(torch.optim.AdamW(others, config.lr, config.betas,
                                            fused=kind in ("cpu", "cuda"),
                                            capturable=kind == "cuda",
                                            weight_decay=config.weight_decay))
    if kernels and config.muon_on == "kernels":
        optimizers.append(Muon(kernels, config.muon))
    elif kernels:
        optimizers.append(Muon(kernels, config.muon, momentum=0.9, set_lengths=False))
    return optimizers


def muons_weights(part: torch.nn.Module, which: str) -> list:
    """What `Muon` moves: all weights of four axes, or those of linear maps and convolutions."""
    if which == "kernels":
        return [p for p in part.parameters() if p.ndim == 4]
    maps = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)
    return [module.weight for module in part.modules() if isinstance(module, maps)]


def backward(losses: dict, weights: dict[str, list]) -> list[str]:
    """Give each part the gradient of the loss of its own name; return the parts that have one."""
    moving = [name for name in weights if name in losses and losses[name].requires_grad]
    if not moving or weights.keys() - losses.keys():
        raise MinildmError(f"losses {[*losses]}, of which {moving} have a gradient, for the parts "
                           f"{[*weights]}", "train", "return a loss by each part's name")
    for name in moving:
        # `inputs`: whatever else the loss was computed from gets no gradient
        losses[name].backward(inputs=weights[name], retain_graph=name != moving[-1])
    return moving


def clip(weights: dict[str, list], largest: float) -> dict:
    """Scale each part's gradient to a norm of at most `largest` (0: any); the norms before."""
    largest = largest or math.inf
    norms = {}
    for name, own in weights.items():
        # torch's norm of no gradients at all is a tensor of the CPU, for which a GPU would wait
        norms[name] = 0.0
        if any(p.grad is not None for p in own):
            norms[name] = torch.nn.utils.clip_grad_norm_(own, largest)
    return norms
