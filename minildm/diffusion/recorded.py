"""A network's calls, recorded once as CUDA graphs and then replayed.

One call of a network is hundreds of kernels, and Python takes longer to launch them than a GPU to
compute them, unless the pictures are many or large. A CUDA graph is the list of the launches,
recorded for one shape of the inputs and for fixed places in memory; a single call runs them all
(https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs). So each call is three steps:
    copy the inputs to the places that were recorded
    replay
    copy the output away, before the next call overwrites it

    recorder = Recorder(CudaGraphs(device))
    denoise = cfg(recorder(denoiser), context, null, guidance_scale=2)
"""

from collections import Counter
from collections.abc import Callable

import torch

from minildm.devices import number_on

WARM_UP = 3     # ordinary calls of a shape: they load kernels, and few calls are worth no recording


class CudaGraphs:
    """record(function, inputs) -> (replay, output), on one CUDA device.

    The function runs once, on inputs that stay in their place. Each `replay()` computes it anew of
    what the inputs hold by then, and leaves the result in `output`. The recordings of one object
    share their memory: they are replayed one after the other, and outputs are copied in between.
    """

    def __init__(self, device: torch.device):
        self.device, self.pool = device, torch.cuda.graph_pool_handle()
        # recordings share memory only where they are made on one stream
        self.stream = torch.cuda.Stream(device)

    def __call__(self, function: Callable, inputs: tuple):
        graph = torch.cuda.CUDAGraph()
        # weights are cast by the graph itself: autocast's own copies of them end with its block
        mixed = torch.is_autocast_enabled("cuda")
        cast = torch.autocast("cuda", enabled=mixed, cache_enabled=False)
        # if recording fails, today's stream is the current one again when this block ends
        with cast, torch.cuda.device(self.device), torch.cuda.stream(torch.cuda.current_stream()):
            # another thread may go on using the GPU
            with torch.cuda.graph(graph, self.pool, self.stream, "thread_local"):
                output = function(*inputs)
        return graph.replay, output


class Recorder:
    """Wraps denoisers(x, t, context) -> x0, so that their calls are recorded, shape by shape.

    Weights may not move while it is in use, so each `generate` makes one of its own. Calls that
    want gradients, and networks with hooks, which a recording would not call, stay ordinary ones.
    `record` is a `CudaGraphs`, or None: then nothing is recorded, but times still come to the
    device without making the CPU wait.
    """

    def __init__(self, record: Callable | None):
        self.record = record
        self.ordinary = Counter()       # calls by denoiser and shapes, before they are recorded
        self.recordings = {}            # by the same: inputs, replay, output

    def __call__(self, denoiser: Callable) -> Callable:
        heard = has_hooks(denoiser)

        def denoise(x, t, context=None):
            inputs = (x, number_on(x.device, t))
            if context is not None:
                inputs = (*inputs, context)
            if self.record is None or heard or torch.is_grad_enabled():
                return denoiser(*inputs)
            return self.run(denoiser, inputs)

        return denoise

    def run(self, denoiser: Callable, inputs: tuple):
        """denoiser(*inputs), by the recording of their shapes where there is one."""
        key = id(denoiser), *((value.shape, value.dtype) for value in inputs)
        if key not in self.recordings:
            self.ordinary[key] += 1
            if self.ordinary[key] <= WARM_UP or not self.add(key, denoiser, inputs):
                return denoiser(*inputs)
        places, replay, output = self.recordings[key]
        for place, value in zip(places, inputs, strict=True):
            place.copy_(value)
        replay()
        return output.clone()

    def add(self, key: tuple, denoiser: Callable, inputs: tuple) -> bool:
        """Record the denoiser for inputs of these shapes; False, and a line, where that fails."""
        # copies: the caller's tensors are gone when the recording is replayed
        places = tuple(value.clone(memory_format=torch.contiguous_format) for value in inputs)
        try:
            self.recordings[key] = places, *self.record(denoiser, places)
        except Exception as error:
            # whatever it was, an ordinary call has just succeeded
            self.record = None
            reason = str(error).strip().split("\n")[0]
            print(f"drawing without CUDA graphs, slower for few pictures: {reason}")
        return key in self.recordings


def has_hooks(network) -> bool:
    """Whether somebody listens to the calls of a network or of a part of it."""
    if not isinstance(network, torch.nn.Module):
        return False
    return any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())
