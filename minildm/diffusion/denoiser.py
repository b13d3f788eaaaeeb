"""A network, a schedule and what the network predicts, as one function:  denoise(x, t) -> x0.

From x = alpha data + sigma noise, knowing any one of these gives the other two:
  eps   noise                         Ho et al. 2020, eq. 14
  x0    data                          Ho et al. 2020, 3.2
  v     alpha noise - sigma data      Salimans & Ho 2022, appendix D
  flow  noise - data                  Liu et al. 2022, eq. 1, with time turned round
So samplers, guidance and editing never ask which one it was: they see the expected clean data, x0.

Others turn time or signs round. With t ours, from 0 (data) to 1 (noise):
  who                         their time             their x                         their target
  Lipman et al. 2022          s = 1 - t              (1 - s) noise + s data          data - noise = -flow
  Liu et al. 2022             s = 1 - t              (1 - s) noise + s data          data - noise = -flow
  Esser et al. 2024 (SD3)     s = t                  (1 - s) data + s noise          noise - data = flow
  Albergo & Vanden-Eijnden    s = 1 - t, `cosine`    cos noise + sin data, pi s / 2  dx / ds = -pi / 2 v
  Ho et al. 2020              i = T t - 1, a table   x                               noise = eps
  Karras et al. 2022          u = sigma / alpha      x / alpha = data + u noise      data = x0
"""

import torch
from torch import nn

from minildm import MinildmError
from minildm.diffusion.schedules import Schedule, add_noise, expand

PREDICTION_TYPES = ("eps", "x0", "v", "flow")
ALPHA_MIN = 1e-3  # at pure noise an eps network says nothing about the data: don't divide by zero


def target(prediction_type: str, data, noise, alpha, sigma):
    """What the network should say, (B, C, H, W) (equations above)."""
    return {"eps": lambda: noise, "x0": lambda: data, "v": lambda: alpha * noise - sigma * data,
            "flow": lambda: noise - data}[prediction_type]()


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
    """n times in [0, 1], evenly spread: a random offset, then every 1/n (Kingma et al. 2021, appendix I)."""
    offset = torch.rand(1, generator=generator, device=device)
    return (offset + torch.arange(n, device=device) / n) % 1


def logit_normal(n: int, generator=None, device=None):
    """n times around 0.5, where the task is hardest: sigmoid of a normal (Esser et al. 2024, eq. 19)."""
    u = uniform(n, generator, device).clamp(1e-4, 1 - 1e-4)
    return torch.sigmoid(torch.special.ndtri(u))


class Denoiser(nn.Module):
    """denoiser(x, t, context) -> x0, all (B, C, H, W). `times` draws the training times.

    The network is told t - delay: published ones were trained to call our t = 1 / 1000, the first of their
    table's entries, 0.
    """

    def __init__(self, network: nn.Module, schedule: Schedule, prediction_type: str = "eps", times=uniform,
                 delay: float = 0.0):
        super().__init__()
        if prediction_type not in PREDICTION_TYPES:
            raise MinildmError(f"there is no prediction_type {prediction_type!r}", "Denoiser",
                               f"choose from {', '.join(PREDICTION_TYPES)}")
        self.network, self.schedule = network, schedule
        self.prediction_type, self.times, self.delay = prediction_type, times, delay

    def predict(self, x, t, context=None):
        """What the network says, float32; a variance that it has learned beside (DiT) is left aside."""
        return self.network(x, t - self.delay, context)[:, :x.shape[1]].float()

    def forward(self, x, t, context=None):
        at = expand(t, x)
        prediction = self.predict(x, t, context)
        return to_x0(self.prediction_type, prediction, x, self.schedule.alpha(at), self.schedule.sigma(at))

    def loss(self, data, context=None, generator=None, drop: float = 0.1, times=None):
        """E |network(x_t, t) - target|^2 over random t and noise (Ho et al. 2020, eq. 14).

        dict(loss, unexplained, data_std): the loss, its share of what saying 0 would cost, the data's scale.
        `drop` is the share of labels replaced by the null class, for guidance (Ho & Salimans 2022, alg. 1);
        `times` draws the times in place of the denoiser's own.
        """
        n, device = len(data), data.device
        t = (times or self.times)(n, generator, device)
        noise = torch.randn(data.shape, generator=generator, device=device)
        if context is not None and drop:
            if context.is_floating_point():
                raise MinildmError("only labels can be dropped, this context is float", "Denoiser.loss",
                                   "pass drop=0, and contexts of which some are already the empty one")
            dropped = torch.rand(n, generator=generator, device=device) < drop
            context = torch.where(dropped, self.network.null_class, context)
        at = expand(t, data)
        wanted = target(self.prediction_type, data, noise, self.schedule.alpha(at), self.schedule.sigma(at))
        prediction = self.predict(add_noise(self.schedule, data, noise, t), t, context)
        loss = (prediction - wanted).square().mean()
        return {"loss": loss, "unexplained": loss.detach() / wanted.square().mean(), "data_std": data.std()}
