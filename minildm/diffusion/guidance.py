"""Functions from denoiser to denoiser that steer what is drawn.

Classifier-free guidance asks the network twice, with and without the condition, and goes further in the
direction of the difference:  x0 = x0_null + w (x0_cond - x0_null)  (Ho & Salimans 2022, eq. 6). Written there
for eps; at one x and t, x0 is an affine function of eps (or v, or velocity), so it is the same rule.
A negative prompt is nothing else: its context in place of the empty prompt's. What the others change is where
the second opinion comes from (a weaker model, a classifier), when it is asked, or how loud the answer may be.

    denoise = interval(cfg(denoiser, context, null, 4.0), cfg(denoiser, context, null), 0.1, 0.8)
"""

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError
from minildm.diffusion.schedules import Schedule, add_noise, expand
from minildm.nn.layers import ResidualBlock, TimeEmbedding


def both(denoiser, x, t, context, null):
    """x0 without the condition and with it, one batched call; a null of one row serves all."""
    t = torch.as_tensor(t)
    twice = t if t.ndim == 0 else torch.cat([t, t])
    contexts = torch.cat([null.expand_as(context), context])
    return denoiser(torch.cat([x, x]), twice, contexts).chunk(2)


def cfg(denoiser, context, null, guidance_scale: float = 1.0, channels: int | None = None):
    """denoise(x, t) guided towards `context` and away from `null`, labels (B,) or contexts (B, L, D).

    guidance_scale 1 is the conditional model itself; 0 the unconditional. One batched call, null first.
    A null that is the context of another prompt makes that prompt negative. `channels`: guide only so many,
    the rest is the conditional model's (DiT's published code guides 3 of 4).
    """
    def denoise(x, t):
        if guidance_scale == 1:
            return denoiser(x, t, context)
        x0_null, x0_cond = both(denoiser, x, t, context, null)
        x0 = x0_null + guidance_scale * (x0_cond - x0_null)
        return x0 if channels is None else torch.cat([x0[:, :channels], x0_cond[:, channels:]], dim=1)

    return denoise


def rescaled(plain, guided, phi: float):
    """A share phi of each guided picture brought to the spread of the plain one (Lin et al. 2023, eq. 15-16).

    Guidance pushes every difference, and contrast is one. arXiv:2305.08891, there for the network's output,
    here for x0.
    """
    each = tuple(range(1, guided.ndim))
    ratio = plain.std(each, keepdim=True) / guided.std(each, keepdim=True)
    return (phi * ratio + 1 - phi) * guided


def cfg_rescaled(denoiser, context, null, guidance_scale: float = 1.0, phi: float = 0.7):
    """`cfg`, `rescaled` to the conditional model's answer. phi 0 is `cfg`, 1 the whole correction."""
    def denoise(x, t):
        x0_null, x0_cond = both(denoiser, x, t, context, null)
        return rescaled(x0_cond, x0_null + guidance_scale * (x0_cond - x0_null), phi)

    return denoise


def interval(guided, plain, low: float, high: float):
    """`guided` at low < t <= high, `plain` at all other times (Kynkaanniemi et al. 2024, eq. 5).

    arXiv:2404.07724, there between two noise levels. Outside, guidance costs nothing.
    """
    def denoise(x, t):
        t = torch.as_tensor(t)
        inside = (low < t) & (t <= high)
        if not inside.any():
            return plain(x, t)
        if inside.all():
            return guided(x, t)
        return torch.where(expand(inside, x) > 0, guided(x, t), plain(x, t))

    return denoise


def autoguidance(denoise, weak, guidance_scale: float = 1.0, phi: float = 0.0, channels: int | None = None):
    """Away from a weaker model's answer: D_0 + w (D_1 - D_0) (Karras et al. 2024, eq. 3, arXiv:2406.02507).

    Both are denoise(x, t), the condition already given, in the same space. Scale 1 is the
    strong model itself. With phi the first `channels`, or all, are `rescaled` to the strong model's answer.
    """
    def guided(x, t):
        x0 = denoise(x, t)
        if guidance_scale == 1:
            return x0
        worse = weak(x, t)
        led = worse + guidance_scale * (x0 - worse)
        if not phi:
            return led
        n = channels or x.shape[1]
        return torch.cat([rescaled(x0[:, :n], led[:, :n], phi), led[:, n:]], dim=1)

    return guided


def classifier_guidance(denoise, log_prob, schedule: Schedule, guidance_scale: float = 1.0):
    """Uphill on log p(y | x_t): eps - w sigma gradient, so x0 + w sigma^2 / alpha gradient.

    (Dhariwal & Nichol 2021, alg. 2.) log_prob(x, t) -> (B,), of a classifier that knows noise, as
    `NoisyClassifier.log_prob`. Scale 0 is `denoise` itself, 1 Bayes' rule for an unconditional model.
    At alpha 0 nothing is known of the class yet: no step.
    """
    def guided(x, t):
        x0 = denoise(x, t)
        if guidance_scale == 0:
            return x0
        with torch.enable_grad():
            noisy = x.detach().requires_grad_()
            gradient, = torch.autograd.grad(log_prob(noisy, t).sum(), noisy)
        at = expand(t, x)
        alpha, sigma = schedule.alpha(at), schedule.sigma(at)
        step = torch.where(alpha > 1e-6, sigma**2 / alpha.clamp(min=1e-6), 0)
        return x0 + guidance_scale * step * gradient

    return guided


class NoisyClassifier(nn.Module):
    """Which class a noisy latent comes from: x (B, C, H, W), t -> logits (B, classes).

    Residual blocks told the time, then the mean over positions (a small form of Dhariwal & Nichol's, 4.1).
    """

    def __init__(self, channels: int, classes: int, width: int = 64):
        super().__init__()
        self.time_embedding = TimeEmbedding(width, width)
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, width, width, groups=8) for _ in range(3))
        self.pool, self.head = nn.AvgPool2d(2), nn.Linear(width, classes)

    def forward(self, x, t):
        emb = F.silu(self.time_embedding(torch.as_tensor(t, device=x.device)))
        h = self.conv_in(x)
        for i, block in enumerate(self.blocks):
            h = block(h if i == 0 else self.pool(h), emb)
        return self.head(F.silu(h).mean((2, 3)))

    def loss(self, latents, labels, schedule: Schedule, generator=None):
        """Cross-entropy on latents with noise of a random time: dict(loss, accuracy)."""
        n, device = len(latents), latents.device
        t = torch.rand(n, generator=generator, device=device)
        noise = torch.randn(latents.shape, generator=generator, device=device)
        logits = self(add_noise(schedule, latents, noise, t), t).float()
        return {"loss": F.cross_entropy(logits, labels),
                "accuracy": (logits.argmax(1) == labels).float().mean()}

    def log_prob(self, labels):
        """log p(labels | x_t) as a function of x and t, for `classifier_guidance`."""
        if labels.is_floating_point() or labels.max() >= self.head.out_features:
            raise MinildmError(f"labels are {labels.dtype} up to {labels.max()}", "NoisyClassifier.log_prob",
                               f"pass whole numbers below {self.head.out_features}, one a picture")

        def log_prob(x, t):
            return -F.cross_entropy(self(x, t).float(), labels, reduction="none")

        return log_prob
