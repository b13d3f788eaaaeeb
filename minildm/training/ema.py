"""The average of a model's weights along its training, and how named tensors go between models."""

import contextlib

import torch

from minildm import MinildmError
from minildm.training.configs import differences


class EMA:
    """Averaged weights: average <- d average + (1 - d) weights, d = min(decay, (1 + i) / (10 + i)).

    Buffers are copied, not averaged, as in torch's AveragedModel: beside the averaged weights stand
    the last step's BatchNorm statistics, which are a running average already.
    """

    def __init__(self, model: torch.nn.Module, decay: float):
        self.decay = decay
        # the tensors themselves, not their names: no wrapper can unhook them
        self.sources = tensors_of(model)
        self.averages = {name: t.detach().clone() for name, t in self.sources.items()}
        self.weights, self.buffers = [], []
        for name, tensor in self.sources.items():
            kind = self.weights if isinstance(tensor, torch.nn.Parameter) else self.buffers
            kind.append(name)

    def decay_at(self, i: int) -> float:
        """The share of the old average that step i keeps: less at first, when it knows little."""
        return min(self.decay, (1 + i) / (10 + i))

    @torch.no_grad()
    def update(self, i: int) -> None:
        """Average in the weights after step i."""
        averages = [self.averages[name] for name in self.weights]
        sources = [self.sources[name] for name in self.weights]
        # all at once: on a GPU a launch per tensor would cost more than the sums
        torch._foreach_lerp_(averages, sources, 1 - self.decay_at(i))
        for name in self.buffers:
            self.averages[name].copy_(self.sources[name])

    @torch.no_grad()
    def update_unless(self, broken: torch.Tensor, share: torch.Tensor) -> None:
        """`update` for a host that does not know yet whether the step was finite.

        Both are 0-dim on the device: broken 1 leaves the average alone; share is 1 - `decay_at`.
        """
        averages = [self.averages[name] for name in self.weights]
        moves = torch._foreach_sub([self.sources[name] for name in self.weights], averages)
        torch._foreach_mul_(moves, share * (1 - broken))
        torch._foreach_add_(averages, moves)
        for name in self.buffers:
            kept = self.averages[name]
            kept.copy_(torch.where(broken > 0, kept, self.sources[name]))

    @torch.no_grad()
    def restore_buffers(self) -> None:
        """Give the model the buffers that it had at the last update."""
        for name in self.buffers:
            self.sources[name].copy_(self.averages[name])

    @contextlib.contextmanager
    def applied(self):
        """Let the model hold the average inside the block."""
        kept = {name: source.detach().clone() for name, source in self.sources.items()}
        copy_tensors(self.averages, self.sources)
        try:
            yield
        finally:
            copy_tensors(kept, self.sources)

    def copy_to(self, model: torch.nn.Module) -> None:
        """Copy the average into another model of the same form."""
        copy_tensors(self.averages, tensors_of(model))


def tensors_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and saved buffers by name; a compiled model's have the names of the bare one."""
    tensors = model.state_dict(keep_vars=True)
    return {name.replace("_orig_mod.", ""): t for name, t in tensors.items()}


def strip_prefix(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Select the tensors whose names begin with the prefix, and name them without it."""
    return {name[len(prefix):]: t for name, t in tensors.items() if name.startswith(prefix)}


def check_same_form(sources: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> None:
    """Raise MinildmError if names or shapes differ."""
    ours = {name: list(t.shape) for name, t in sources.items()}
    theirs = {name: list(t.shape) for name, t in targets.items()}
    different = differences(ours, theirs)
    if different:
        raise MinildmError("these weights are another model's: " + "; ".join(different), "",
                           "build the model from the configuration that it was saved with")


@torch.no_grad()
def copy_tensors(sources: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> None:
    """Fill targets from the sources of the same names; MinildmError if names or shapes differ."""
    check_same_form(sources, targets)
    for name, target in targets.items():
        target.copy_(sources[name])
