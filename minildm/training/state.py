"""What a checkpoint of a training holds: the model, its average, the optimizers' moments, the step."""

import contextlib
import math

import torch

from minildm import MinildmError
from minildm.training.ema import EMA, copy_tensors, strip_prefix
from minildm.training.muon import Muon


class TrainState:
    """A model in training, after `i` whole steps.

    A ModuleDict is a model of parts, each with weights and optimizers of its own; any other model is
    one part named "loss". With `snapshot_step` > 0 the average after that step is kept as `snapshot`.
    """

    def __init__(self, model: torch.nn.Module, config, snapshot_step: int = 0):
        self.model, self.config = model, config
        self.i = 0
        self.whole = True               # False while an update moves weights
        self.ema = EMA(model, config.ema)
        self.snapshot_step = snapshot_step
        self.snapshot: dict[str, torch.Tensor] | None = None

        parts = dict(model.items()) if isinstance(model, torch.nn.ModuleDict) else {"loss": model}
        self.weights, self.optimizers = {}, {}
        for name, part in parts.items():
            self.weights[name] = [p for p in part.parameters() if p.requires_grad]
            self.optimizers[name] = optimizers_for(self.weights[name], config)

    def moments(self) -> list[tuple]:
        """Pair each weight with the state of its optimizer, in the order in which both are saved."""
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

    def update(self, names: list[str], lr: float) -> None:
        """Move the parts of these names by their gradients, then the average; step i is done."""
        self.whole = False
        for name in names:
            for optimizer in self.optimizers[name]:
                # each has its own rate at the top of the schedule: Muon's is another than AdamW's
                share = optimizer.defaults["lr"] / self.config.lr
                optimizer.param_groups[0]["lr"] = lr * share
                optimizer.step()
        self.ema.update(self.i + 1)
        self.i += 1
        if self.i == self.snapshot_step:
            self.snapshot = {name: t.clone() for name, t in self.ema.averages.items()}
        self.whole = True

    def tensors(self) -> dict[str, torch.Tensor]:
        """Name all tensors of the state; MinildmError if one is not finite."""
        parts = {"model": self.ema.sources, "ema": self.ema.averages, "snapshot": self.snapshot or {}}
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
        self.i = i

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


def optimizers_for(weights: list, config) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or `Muon` for those with four axes and AdamW for the others."""
    kernels, others = [], []
    for p in weights:
        if config.muon and p.ndim == 4:
            kernels.append(p)
        else:
            others.append(p)
    optimizers = []
    if others:
        fused = others[0].device.type in ("cpu", "cuda")
        optimizers.append(torch.optim.AdamW(others, config.lr, config.betas, fused=fused,
                                            weight_decay=config.weight_decay))
    if kernels:
        optimizers.append(Muon(kernels, config.muon))
    return optimizers


def backward(losses: dict, weights: dict[str, list]) -> list[str]:
    """Give each part the gradient of the loss of its own name alone; return the parts that have one."""
    moving = [name for name in weights if name in losses and losses[name].requires_grad]
    if not moving or weights.keys() - losses.keys():
        raise MinildmError(f"losses {[*losses]}, of which {moving} have a gradient, for the parts "
                           f"{[*weights]}", "train", "return a loss by each part's name")
    for name in moving:
        # `inputs`: whatever else the loss was computed from gets no gradient
        losses[name].backward(inputs=weights[name], retain_graph=name != moving[-1])
    return moving


def clip(weights: dict[str, list], largest: float) -> dict[str, torch.Tensor]:
    """Scale each part's gradient down to a norm of at most `largest` (0: never); the norms before."""
    largest = largest or math.inf
    return {name: torch.nn.utils.clip_grad_norm_(own, largest) for name, own in weights.items()}
