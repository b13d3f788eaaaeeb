"""A GPU that is not there: its tensors have shapes and no numbers, and each wait for it is counted."""

import contextlib
import traceback

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ATEN = torch.ops.aten
# operations that need a number of the GPU's before they know the shape of what they return
DATA_DEPENDENT = {ATEN.nonzero, ATEN.masked_select, ATEN._unique2, ATEN.bincount, ATEN.unique_dim}


class Waits(TorchDispatchMode):
    """Tensors of the CPU are real ones, those of CUDA are fake; `found` says where the CPU waited."""

    def __init__(self):
        super().__init__()
        self.found, self.pinned = [], set()

    def note(self, what):
        lines = [f"{frame.filename.rsplit('/minildm/', 1)[-1]}:{frame.lineno} {frame.line}"
                 for frame in traceback.extract_stack() if "/minildm/" in frame.filename]
        self.found.append(f"{what}: {lines[-1] if lines else '?'}")

    def pin(self, tensor):
        pinned = tensor.clone()
        self.pinned.add(pinned.data_ptr())
        return pinned

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        fake = [tensor for tensor in tensors if isinstance(tensor, FakeTensor)]
        asked = kwargs.get("device")
        if not fake and (asked is None or torch.device(asked).type != "cuda"):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func is ATEN._local_scalar_dense.default:
            self.note("a number is asked for")
            return 1 if args[0].dtype in (torch.bool, torch.int64, torch.uint8) else 0.5
        if func is ATEN.equal.default:
            self.note("two tensors are compared")
            return False
        if func.overloadpacket in DATA_DEPENDENT:
            self.note(str(func))
            return func(*args, **kwargs)
        if func.overloadpacket is ATEN._to_copy and torch.device(asked or CUDA).type == "cpu":
            self.note("copied to the CPU")
            with unset_fake_temporarily():
                return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        self.look_at_copies(func, args, kwargs, tensors)
        return func(*args, **kwargs)

    def look_at_copies(self, func, args, kwargs, tensors):
        """Note what comes from the CPU; an operand of no axes is read at once, as an argument."""
        real = [tensor for tensor in tensors if not isinstance(tensor, FakeTensor)]
        copies = func.overloadpacket in (ATEN._to_copy, ATEN.copy_, ATEN.lift_fresh_copy)
        for tensor in real:
            lasting = kwargs.get("non_blocking") or any(arg is True for arg in args)
            pinned = lasting and tensor.data_ptr() in self.pinned
            if (copies or tensor.ndim) and not pinned:
                self.note(f"{func} of a tensor of the CPU")
            if func.overloadpacket in (ATEN.where, ATEN.index):
                self.note(f"{func} with a tensor of the CPU")


@contextlib.contextmanager
def pretended_gpu(monkeypatch):
    """Give the list of waits for CUDA, on a machine without it, inside the block."""
    waits = Waits()

    class Card:
        total_memory = 80 * 2**30

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: waits.pin(tensor))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: Card)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    # a tensor that is made by copying a number says so: it would be a wait
    with FakeTensorMode(allow_non_fake_inputs=True), waits:
        yield waits.found


def move(model):
    """A `LatentDiffusion` onto the pretended GPU, inside its block."""
    for module in model._modules().values():
        for part in module.modules():
            for group in (part._parameters, part._buffers):
                for name, tensor in group.items():
                    if tensor is not None:
                        group[name] = on_gpu(tensor)
    if hasattr(model.conditioner, "device"):
        model.conditioner.device = CUDA
    return model


def on_gpu(tensor):
    """A tensor of a real one's shape on the pretended GPU."""
    moved = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
    return torch.nn.Parameter(moved) if isinstance(tensor, torch.nn.Parameter) else moved
