"""The average of a model's weights along its training, and how named weights go from one model to another."""

import contextlib

import torch

from minildm import MinildmError
from minildm.training import checkpoint


class EMA:
    """Averaged weights: average <- d average + (1 - d) weights, d = min(decay, (1 + i) / (10 + i))."""

    def __init__(self, model, decay: float):        # keeps pairs of tensors, which no wrapper can unhook
        self.decay, self.sources = decay, tensors_of(model)
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
        copy(self.averages, self.sources)
        try:
            yield
        finally:
            copy(kept, self.sources)

    def copy_to(self, model):
        copy(self.averages, tensors_of(model))


def tensors_of(model) -> dict[str, torch.Tensor]:
    """Parameters and saved buffers by name; those of a compiled model have the bare model's names."""
    return {name.replace("_orig_mod.", ""): t for name, t in model.state_dict(keep_vars=True).items()}


def under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Those whose names begin with the prefix, without it."""
    return {name[len(prefix):]: t for name, t in tensors.items() if name.startswith(prefix)}


@torch.no_grad()
def copy(sources: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]):
    """Fill targets from the sources of the same names; MinildmError if names or shapes differ."""
    shapes = ({name: list(t.shape) for name, t in tensors.items()} for tensors in (sources, targets))
    if different := checkpoint.differences(*shapes):
        raise MinildmError("these weights are another model's: " + "; ".join(different),
                           fix="build the model from the configuration that it was saved with")
    for name, target in targets.items():
        target.copy_(sources[name])
