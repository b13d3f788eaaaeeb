"""Finds where a step would wait for a GPU, on a machine that has none.

Inside `fake_cuda` tensors of the device "cuda" have shapes and no numbers, and every operation on
them passes by a `FakeGPU`, which notes those that would make the host wait, or that a CUDA graph
could not record: a number read, a shape that depends on numbers, a copy between host and device.

    with fake_cuda() as gpu:
        model, batch = Network().to("cuda"), torch.randn(8, 4, device="cuda")
        model(batch).mean().backward()
    assert gpu.waits == []
"""

import contextlib
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA, META = torch.device("cuda", 0), torch.device("meta")
ROOT = Path(__file__).parents[2]
aten = torch.ops.aten

# these move what stands on another device first; the others take a number of the host as it is
COPYING = {"_to_copy", "copy_", "where", "index", "index_put", "index_put_", "_index_put_impl_"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class Wait(NamedTuple):
    """Something that a step should not do on a GPU, and the line of ours that does it."""

    kind: str           # reads a number | shape depends on numbers | copies from the host, ...
    operation: str
    place: str          # file:line and the function


class FakeGPU(TorchDispatchMode):
    """Notes in `waits` what would make the host wait. A number that is read is 0.0, 1 or False."""

    def __init__(self):
        super().__init__()
        self.waits: list[Wait] = []
        self.pinned = []                # storages that a GPU reads and writes by itself

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if operation is torch.ops.prim.device.default:
            # autograd wants a stream of each CUDA tensor's device; the meta device needs none
            device = args[0].fake_device
            return META if device.type == "cuda" else device
        if kwargs.get("device") == META:
            kwargs["device"] = CUDA
        name = operation._schema.name.removeprefix("aten::")
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if torch.is_tensor(leaf)]
        on_gpu = any(tensor.device.type == "cuda" for tensor in inputs)
        if torch.Tag.data_dependent_output in operation.tags:
            return self.read(name, args[0], on_gpu)
        masks = name in INDEXING and any(t.dtype in (torch.bool, torch.uint8) for t in indices(args))
        dynamic = torch.Tag.dynamic_output_shape in operation.tags and name not in INDEXING
        if on_gpu and (dynamic or masks):
            self.note("shape depends on numbers", name)
        if name == "lift_fresh" and args[0].device == META:
            # a list of numbers, as an index or by new_tensor
            self.note("copies from the host", name)
            return torch.empty(args[0].shape, dtype=args[0].dtype, device=CUDA)
        if name.startswith("_fused_adam"):
            return None                 # fakes do not know it; it changes tensors in place
        result = operation(*args, **kwargs)
        if kwargs.get("pin_memory"):
            self.pinned.append(result.untyped_storage())
        if name in COPYING:
            self.note_copy(name, inputs, result, kwargs, args)
        return result

    def read(self, name: str, tensor, on_gpu: bool):
        """A number of a tensor, which the host has to wait for if it is on the GPU."""
        if on_gpu:
            self.note("reads a number", name)
        if name != "_local_scalar_dense":
            return True
        if tensor.dtype == torch.bool:
            return False
        return 0.0 if tensor.is_floating_point() else 1

    def note_copy(self, name: str, inputs, result, kwargs, args) -> None:
        """Note an operation whose tensors are not all on one device."""
        host = [tensor for tensor in (*inputs, result) if tensor.device.type == "cpu"]
        if not host or all(tensor.device.type == "cpu" for tensor in (*inputs, result)):
            return
        without_blocking = kwargs.get("non_blocking") or name == "copy_" and True in args[2:]
        if without_blocking and all(self.is_pinned(tensor) for tensor in host):
            return
        way = "to" if result.device.type == "cpu" else "from"
        self.note(f"copies {way} the host", name)

    def is_pinned(self, tensor) -> bool:
        return any(tensor.untyped_storage()._cdata == other._cdata for other in self.pinned)

    def note(self, kind: str, operation: str) -> None:
        self.waits.append(Wait(kind, operation, place()))


def indices(args) -> list:
    return [leaf for leaf in tree_leaves(args[1]) if torch.is_tensor(leaf)]


def place() -> str:
    """The innermost line of this repository that is being run."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        # an environment inside the clone holds others' code
        ours = path.is_relative_to(ROOT) and "site-packages" not in path.parts
        if ours and path != Path(__file__):
            return f"{path.relative_to(ROOT)}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "?"


# --- what a machine without CUDA would refuse

@contextlib.contextmanager
def fake_cuda():
    """Inside the block tensors on "cuda" can be made, without numbers; yields the `FakeGPU`."""
    gpu = FakeGPU()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(nn.Module, "_apply", replace_tensors))
        stack.enter_context(mock.patch("torch.autocast", FakeAutocast))
        stack.enter_context(mock.patch("torch.cuda.is_bf16_supported", lambda **_: True))
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(gpu)
        yield gpu


def replace_tensors(module, function, recurse=True):
    """Module._apply without a swap of tensors' insides, which fakes do not allow."""
    for child in module.modules():
        for name, p in child._parameters.items():
            if p is not None:
                child._parameters[name] = nn.Parameter(function(p.detach()), p.requires_grad)
        for name, buffer in child._buffers.items():
            if buffer is not None:
                child._buffers[name] = function(buffer)
    return module


class FakeAutocast(TorchFunctionMode):
    """What autocast does to layers: products in bf16, norms in float32."""

    PRODUCTS = ("linear", "conv2d", "matmul", "__matmul__", "scaled_dot_product_attention")
    NORMS = ("layer_norm", "group_norm", "softmax", "cross_entropy")

    def __init__(self, device_type: str, dtype=torch.bfloat16, enabled: bool = True):
        super().__init__()
        self.dtype, self.enabled = dtype, enabled

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        if self.enabled and name in (*self.PRODUCTS, *self.NORMS):
            dtype = self.dtype if name in self.PRODUCTS else torch.float32
            args = [cast(arg, dtype) for arg in args]
            kwargs = {key: cast(arg, dtype) for key, arg in kwargs.items()}
        return function(*args, **kwargs)


def cast(value, dtype):
    return value.to(dtype) if torch.is_tensor(value) and value.is_floating_point() else value
