"""What keeps the host from waiting for a GPU in the midst of a training step.

A copy from the host, and a look at a number on the GPU, make the host wait until the GPU has done
all its work, and a CUDA graph can record neither.
"""

import torch


class DeviceCopies:
    """A tensor on the CPU, and its copies on other devices and in other dtypes, each made once."""

    def __init__(self, tensor):
        self.tensor = tensor
        self.copies = {}

    def like(self, t):
        """The tensor on the device and in the dtype of t."""
        key = t.device, t.dtype
        if key not in self.copies:
            self.copies[key] = self.tensor.to(t)
        return self.copies[key]

    # copied or pickled without its copies, which another machine may have no device for
    def __reduce__(self):
        return DeviceCopies, (self.tensor,)


def readable(tensor) -> bool:
    """Whether the numbers of a tensor may be checked: on the CPU, and not while it is compiled."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def on_device(t, device):
    """A number as a tensor (), made on the device; anything else as `torch.as_tensor` has it."""
    if isinstance(t, int | float):
        return torch.full((), t, device=device)
    return torch.as_tensor(t, device=device)
