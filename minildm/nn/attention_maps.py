"""Attention maps: which positions of a picture attend to which tokens of the context.

`record_attention` listens to a network while it draws, `mean_attention_map` makes one picture a
token of what it heard, as in Hertz et al. 2022 (arXiv:2208.01626).
"""

import contextlib
import math
from functools import partial

import torch

from minildm.nn.layers import Attention


@contextlib.contextmanager
def record_attention(network):
    """Record the attention maps of each cross-attention while the block runs.

    Yields {module's name: [(B, L, M) a call]}: the mean over heads of softmax(q k^T / sqrt(d)), for
    L positions and M tokens of the context, float32. The network's code and its answers stay as
    they are.
    """
    attention_maps = {}

    # a hook on the modules, so that no network needs a flag for it
    # `attention` does not return its weights, so they are computed anew from what comes in
    @torch.no_grad()
    def record(name, module, args, kwargs):
        context = kwargs.get("context", args[1] if len(args) > 1 else None)
        if context is None:
            return
        q, k = module.split(module.to_q(args[0])), module.split(module.to_k(context))
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5            # (B, H, L, M)
        weights = scores.softmax(-1, torch.float32)
        attention_maps.setdefault(name, []).append(weights.mean(1))       # (B, L, M)

    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, Attention):
            hook = partial(record, name)
            hooks.append(module.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield attention_maps
    finally:
        for hook in hooks:
            hook.remove()


def mean_attention_map(attention_maps: dict):
    """The mean of recorded attention maps over calls and layers, one a token: (B, M, h, w).

    Only layers with the most positions count, whose grid is taken to be square. In a guided call
    the null's batch comes first. One batch only: `generate(..., batch_size=N)`.
    """
    finest = max(calls[0].shape[1] for calls in attention_maps.values())
    chosen = []
    for calls in attention_maps.values():
        chosen += [weights for weights in calls if weights.shape[1] == finest]
    # coarser grids see too few places to tell where a word is drawn
    side = math.isqrt(finest)
    mean = torch.stack(chosen).mean(0)                                    # (B, L, M)
    return mean.transpose(1, 2).unflatten(2, (side, side))
