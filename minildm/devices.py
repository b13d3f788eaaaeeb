"""How tensors come to a GPU without making the CPU wait, and how much fits on one.

A CPU puts work into a GPU's queue and goes on at once. It waits where it asks a tensor of the GPU
for a number (`.item()`, `if tensor:`), and where it copies from ordinary memory, which the system
may move meanwhile. It does not wait for a copy from pinned memory, which stays where it is, nor for
a number that goes along with the work.
"""

import contextlib

import torch

SMALL = 8 * 2**30       # bytes of a small GPU, which everything that is done at once was sized for


def to_device(tensor, device: torch.device):
    """A tensor of the CPU on a device; CUDA copies it when its turn comes, and nobody waits."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def number_on(device: torch.device, value):
    """A number, or a tensor, as a tensor on a device; a 0-dim one of the CPU is not waited for."""
    value = torch.as_tensor(value)
    if value.ndim or value.device.type != "cpu":
        return to_device(value, device)
    return torch.full((), value.item(), dtype=value.dtype, device=device)


class DeviceCopies:
    """A tensor that never changes, on the CPU, and its copies on other devices, each made once."""

    def __init__(self, tensor):
        self.tensor = tensor
        self.copies = {}

    def like(self, t):
        """The tensor on the device and in the dtype of t; the first copy to a GPU is waited for."""
        if t.device.type == "cpu":
            return self.tensor.to(t)
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


def room(device: torch.device) -> int:
    """How many times a device holds what a small GPU (8 GiB) holds: 9 on 79 GiB; 1 on a CPU."""
    if device.type != "cuda":
        return 1
    # all of its memory, not what is free now: so pictures are drawn in the same parts each time
    return max(1, torch.cuda.get_device_properties(device).total_memory // SMALL)


def gains_from_bf16(device: torch.device) -> bool:
    """True for CUDA with bf16 and for CPUs with avx512_bf16, which those with AMX have too."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # the question is private in torch: where it is gone, the answer is no
        return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return False


def cuda_bf16(device: torch.device):
    """Autocast to bf16 on CUDA that has it; elsewhere nothing is changed."""
    if device.type == "cuda" and gains_from_bf16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()
