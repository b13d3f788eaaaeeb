"""A network, a schedule and what the network predicts, as one function:  denoise(x, t) -> x0.

From x = alpha data + sigma noise, knowing any one of these gives the other two:
  eps   noise                         Ho et al. 2020, eq. 14
  x0    data                          Ho et al. 2020, 3.2
  v     alpha noise - sigma data      Salimans & Ho 2022, appendix D
  flow  noise - data                  Liu et al. 2022, eq. 1, with time turned round
So samplers, guidance and editing never ask which one it was: they see the expected clean data, x0.

Others turn time or signs round. With t ours, from 0 (data) to 1 (noise):
  who                         their time           their x                     their target
  Lipman et al. 2022          s = 1 - t            (1 - s) noise + s data      data - noise = -flow
  Liu et al. 2022             s = 1 - t            (1 - s) noise + s data      data - noise = -flow
  Esser et al. 2024 (SD3)     s = t                (1 - s) data + s noise      noise - data = flow
  Albergo & Vanden-Eijnden    s = 1 - t, `cosine`  cos noise + sin data,       dx / ds = -pi / 2 v
                                                   both of pi s / 2
  Ho et al. 2020              i = T t, 1 to T      x                           noise = eps
  Karras et al. 2022          u = sigma / alpha    x / alpha = data + u noise  data = x0

"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from minildm import MinildmError
from minildm.diffusion.schedules import Schedule, add_noise, at_ratio, expand

PREDICTION_TYPES = ("eps", "x0", "v", "flow")
ALPHA_MIN = 1e-3  # at pure noise an eps network says nothing about the data: don't divide by zero


@runtime_checkable
class Network(Protocol):
    """What a denoiser asks: (x, t, context) -> prediction, as `UNet` and `DiT` answer.

    x (B, C, H, W) with noise; t in [0, 1], a number or (B,); context labels (B,), tokens (B, L, D)
    or None -> (B, C, H, W), or with more channels behind those, which are left aside.
    """

    multiple: int                       # H and W must be multiples of this
    null_context: int | None       # the label that means "no class"; None where labels mean nothing

    def __call__(self, x, t, context=None): ...


def target(prediction_type: str, data, noise, alpha, sigma):
    """What the network is trained to predict, (B, C, H, W) (equations above)."""
    if prediction_type == "eps":
        return noise
    if prediction_type == "v":
        return alpha * noise - sigma * data
    if prediction_type == "flow":
        return noise - data
    return data


def to_x0(prediction_type: str, prediction, x, alpha, sigma):
    """Solve x = alpha data + sigma noise for the data, given the prediction."""
    if prediction_type == "eps":
        return (x - sigma * prediction) / alpha.clamp(min=ALPHA_MIN)
    if prediction_type == "v":
        return (alpha * x - sigma * prediction) / (alpha**2 + sigma**2)
    if prediction_type == "flow":
        return (x - sigma * prediction) / (alpha + sigma)
    return prediction


def uniform(n: int, generator=None, device=None):
    """n times in [0, 1], evenly spread: a random offset, then every 1 / n.

    (Kingma et al. 2021, appendix I, arXiv:2107.00630.)
    """
    offset = torch.rand(1, generator=generator, device=device)
    return (offset + torch.arange(n, device=device) / n) % 1


def logit_normal(n: int, generator=None, device=None):
    """n times around 0.5, where the task is hardest: the sigmoid of a normal.

    (Esser et al. 2024, eq. 19, arXiv:2403.03206.)
    """
    # the normal's quantiles at 0 and 1 are infinite
    u = uniform(n, generator, device).clamp(1e-4, 1 - 1e-4)
    return torch.sigmoid(torch.special.ndtri(u))


def drop_context(context, null, share: float, generator=None):
    """Replace a random share of a batch's contexts by the null, for guidance.

    (Ho & Salimans 2022, algorithm 1, arXiv:2207.12598.) context is labels (B,) or tokens (B, L, D),
    null the label or the tokens (L, D) or (1, L, D) that mean "no condition".
    """
    dropped = torch.rand(len(context), generator=generator, device=context.device) < share
    return torch.where(dropped.reshape(-1, *[1] * (context.ndim - 1)), null, context)


class Denoiser(nn.Module):
    """denoiser(x, t, context) -> x0, all (B, C, H, W). `times` draws the training times.

    The network is told t - t_offset: published ones were trained to call our t = 1 / 1000, the
    first of their table's entries, 0.
    """

    compiled_parts = ("network",)       # see `training.recorded`

    def __init__(self, network: Network, schedule: Schedule, prediction_type: str = "eps",
                 times: Callable = uniform, t_offset: float = 0.0):
        super().__init__()
        if prediction_type not in PREDICTION_TYPES:
            raise MinildmError(f"there is no prediction_type {prediction_type!r}", "Denoiser",
                               f"choose from {', '.join(PREDICTION_TYPES)}")
        self.network, self.schedule = network, schedule
        # plain attributes, none of them a lambda, so that a denoiser can be pickled
        self.prediction_type, self.times, self.t_offset = prediction_type, times, t_offset

    def predict(self, x, t, context=None):
        """The network's prediction, float32, without DiT's learned variance."""
        return self.network(x, t - self.t_offset, context)[:, :x.shape[1]].float()

    def forward(self, x, t, context=None):
        at = expand(t, x)
        alpha, sigma = self.schedule.alpha(at), self.schedule.sigma(at)
        prediction = self.predict(x, t, context)
        return to_x0(self.prediction_type, prediction, x, alpha, sigma)

    def loss(self, data, context=None, generator=None, times: Callable | None = None,
             drop: float = 0.0):
        """E |network(x_t, t) - target|^2 over random t and noise (Ho et al. 2020, eq. 14).

        dict(loss, unexplained, data_std): the loss, its share of what predicting 0 would cost, the
        data's scale. `times` draws the times in place of the denoiser's own; `drop` is the share of
        labels (B,) replaced by the network's null, where no one has dropped contexts before.
        """
        n, device = len(data), data.device
        # the order of the draws is part of a run: time, noise, then who loses the label
        t = (times or self.times)(n, generator, device)
        noise = torch.randn(data.shape, generator=generator, device=device)
        if context is not None and drop:
            context = drop_context(context, self.null_label(context), drop, generator)
        at = expand(t, data)
        alpha, sigma = self.schedule.alpha(at), self.schedule.sigma(at)
        wanted = target(self.prediction_type, data, noise, alpha, sigma)
        prediction = self.predict(add_noise(self.schedule, data, noise, t), t, context)
        loss = (prediction - wanted).square().mean()
        # predicting 0 would cost this much
        most = wanted.square().mean()
        return {"loss": loss, "unexplained": loss.detach() / most, "data_std": data.std()}

    def null_label(self, context) -> int:
        """The label that `drop` puts in; contexts that are no labels are refused."""
        if context.is_floating_point() or self.network.null_context is None:
            raise MinildmError("only labels can be dropped here, and these are none",
                               "Denoiser.loss",
                               "drop contexts before, by drop_context, and pass drop=0")
        return self.network.null_context


def on_schedule(denoise: Callable, own: Schedule, other: Schedule) -> Callable:
    """A denoiser that was made for the schedule `own`, as one for another schedule.

    It is asked at the time at which its own sigma / alpha is the other's; there x is the same but
    for a factor (Karras et al. 2022, table 1 and eq. 4, arXiv:2206.00364).
    """
    def moved(x, t, *context):
        # float64: where alpha ends at 0 float32's cosine is below it
        t = expand(t, x).double()
        alpha, sigma = other.alpha(t), other.sigma(t)
        at = at_ratio(own, sigma / alpha)
        # a sum, as alpha alone may be 0, and sigma alone is at the data
        scale = (own.alpha(at) + own.sigma(at)) / (alpha + sigma)
        return denoise(scale.to(x.dtype) * x, at.flatten().squeeze(0).float(), *context)

    return moved
