"""A denoiser that is told a hint as well: from denoiser to denoiser, as guidance is.

    denoise = cfg(controlled(model.denoiser, net, hint, weight=1.0), context, null, 4.0)

`net` is a `ControlNet` or a `ControlDiT` of `nn.control`. Its training is the denoiser's own loss:
    loss = controlled(model.denoiser, net, hint).loss(latents, context, generator)
where only the net's weights move (Zhang et al. 2023, 3.3, arXiv:2302.05543).
"""

from torch import nn

from minildm.diffusion.denoiser import Denoiser


class Controlled(nn.Module):
    """A network and its control as one: (x, t, context) -> prediction, of one batch's hints."""

    def __init__(self, network: nn.Module, net: nn.Module, hint, weight: float = 1.0):
        super().__init__()
        self.network, self.net, self.hint, self.weight = network, net, hint, weight
        self.multiple, self.null_context = network.multiple, network.null_context

    def forward(self, x, t, context=None):
        # guidance asks for both of its answers in one batch: each has the same hints
        copies = len(x) // len(self.hint)
        hint = self.hint.repeat(copies, 1, 1, 1)
        control = self.net(x, t, context, hint, self.weight)
        return self.network(x, t, context, control=control)


def controlled(denoiser: Denoiser, net: nn.Module, hint, weight: float = 1.0) -> Denoiser:
    """The denoiser with its network controlled by hints (B, C, H, W); weight 0 is without them."""
    network = Controlled(denoiser.network, net, hint, weight)
    return Denoiser(network, denoiser.schedule, denoiser.prediction_type, denoiser.times,
                    denoiser.t_offset)
