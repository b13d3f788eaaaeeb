"""Functions from denoiser to denoiser that steer what is drawn.

Classifier-free guidance asks the network twice, with and without the condition, and goes further in
the direction of the difference:
    x0 = x0_null + w (x0_cond - x0_null)         Ho & Salimans 2022, eq. 6, arXiv:2207.12598
Their w is ours minus 1: here 1 is the conditional model and 0 the unconditional one, as in
diffusers. The paper writes it for eps; at one x and t, x0 is an affine function of eps (or v, or
velocity), so the rule is the same. A negative prompt is its context in place of the empty prompt's.
The others change where the second answer comes from (a weaker model, a classifier), when it is
asked for, or how large the change may be.

    denoise = interval(cfg(denoiser, context, null, 4.0), cfg(denoiser, context, null), 0.1, 0.8)

The same as values, which a model can store and a command line can print:

    denoise = guided(denoiser, context, null, Interval(Cfg(4.0), 0.1, 0.8))
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from minildm.diffusion.schedules import Schedule, expand


def uncond_and_cond(denoiser: Callable, x, t, context, null):
    """x0 without the condition and with it, from one batched call; a null of one row serves all."""
    t = torch.as_tensor(t)
    # a time of all pictures serves twice as many
    twice = t if t.ndim == 0 else torch.cat([t, t])
    contexts = torch.cat([null.expand_as(context), context])
    return denoiser(torch.cat([x, x]), twice, contexts).chunk(2)


def cfg(denoiser: Callable, context, null, guidance_scale: float = 1.0,
        channels: int | None = None):
    """Classifier-free guidance towards `context` and away from `null` (Ho & Salimans 2022, eq. 6).

    Contexts are labels (B,) or tokens (B, L, D). guidance_scale 1 is the conditional model itself,
    0 the unconditional one. One batched call, null first. A null that is another prompt's context
    makes that prompt negative. With `channels` only the first so many are guided, the others are
    the conditional model's (DiT's published code guides 3 of 4).
    """
    def denoise(x, t):
        if guidance_scale == 1:
            return denoiser(x, t, context)
        x0_null, x0_cond = uncond_and_cond(denoiser, x, t, context, null)
        x0 = x0_null + guidance_scale * (x0_cond - x0_null)
        if channels is None:
            return x0
        return torch.cat([x0[:, :channels], x0_cond[:, channels:]], dim=1)

    return denoise


def rescaled(plain, guided, phi: float):
    """Bring each guided picture's spread a share phi of the way to the plain one's.

    (Lin et al. 2023, eq. 15-16, arXiv:2305.08891; there for the network's output, here for x0.)
    Guidance enlarges every difference, and contrast is one.
    """
    each = tuple(range(1, guided.ndim))
    ratio = plain.std(each, keepdim=True) / guided.std(each, keepdim=True)
    return (phi * ratio + 1 - phi) * guided


def cfg_rescaled(denoiser: Callable, context, null, guidance_scale: float = 1.0, phi: float = 0.7):
    """`cfg`, `rescaled` to the conditional model's answer by a share phi; phi 0 is `cfg`."""
    def denoise(x, t):
        x0_null, x0_cond = uncond_and_cond(denoiser, x, t, context, null)
        return rescaled(x0_cond, x0_null + guidance_scale * (x0_cond - x0_null), phi)

    return denoise


def interval(guided: Callable, plain: Callable, low: float, high: float):
    """Answer as `guided` at low < t <= high, as `plain` at all other times, at no cost there.

    (Kynkaanniemi et al. 2024, eq. 5, arXiv:2404.07724, there between two noise levels.) Which one
    to ask is decided here, so a t on CUDA makes the CPU wait; one on the CPU does not.
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


def autoguidance(denoise: Callable, guide: Callable, guidance_scale: float = 1.0, phi: float = 0.0,
                 channels: int | None = None):
    """Guidance away from a weaker model's answer: D_0 + w (D_1 - D_0).

    (Karras et al. 2024, eq. 3, arXiv:2406.02507.) Both models are denoise(x, t), the condition
    already given, in the same space. Scale 1 is the strong model itself. With phi the first
    `channels`, or all, are `rescaled` to the strong model's answer.
    """
    def guided(x, t):
        x0 = denoise(x, t)
        # off: the guide is not even asked
        if guidance_scale == 1:
            return x0
        x0_guide = guide(x, t)
        x0_guided = x0_guide + guidance_scale * (x0 - x0_guide)
        if not phi:
            return x0_guided
        n = channels or x.shape[1]
        return torch.cat([rescaled(x0[:, :n], x0_guided[:, :n], phi), x0_guided[:, n:]], dim=1)

    return guided


def classifier_guidance(denoise: Callable, log_prob: Callable, schedule: Schedule,
                        guidance_scale: float = 1.0, first=None):
    """Go uphill on log p(y | x_t): eps - w sigma gradient, or x0 + w sigma^2 / alpha gradient.

    (Dhariwal & Nichol 2021, algorithm 2, arXiv:2105.05233.) log_prob(x, t) -> (B,) is that of a
    classifier trained on noisy x, as `NoisyClassifier.log_prob`. Scale 0 is `denoise` itself, 1
    Bayes' rule for an unconditional model. At alpha 0 the step is 0 / 0. Its limit is
    E[x0 | y] - E[x0], the class's mean less the mean of all data: pass it as `first`, like x0 in
    shape; without it no step is taken there. The gradient is taken even where the sampler runs
    without.
    """
    def guided(x, t):
        x0 = denoise(x, t)
        if guidance_scale == 0:
            return x0
        # a slope of the classifier's alone: the sampler's graph, if it keeps one, has no part in it
        with torch.enable_grad():
            noisy = x.detach().requires_grad_()
            gradient, = torch.autograd.grad(log_prob(noisy, t).sum(), noisy)
        at = expand(t, x)
        alpha, sigma = schedule.alpha(at), schedule.sigma(at)
        limit = torch.zeros_like(x0) if first is None else first
        # a trained classifier's gradient does not vanish with alpha: it can't be divided by it
        step = torch.where(alpha > 1e-6, sigma**2 / alpha.clamp(min=1e-6) * gradient, limit)
        return x0 + guidance_scale * step

    return guided


# guidance as values

@dataclass(frozen=True, eq=False)
class Condition:
    """A denoiser(x, t, context), the context that is wanted, and the null or a negative prompt's.

    Called as denoise(x, t) it is the conditional model. context and null are labels (B,) or tokens
    (B, L, D); a null of one row serves all.
    """

    denoiser: Callable
    context: torch.Tensor
    null: torch.Tensor

    def __call__(self, x, t):
        return self.denoiser(x, t, self.context)

    def without(self, x, t):
        """The model's answer to the null."""
        return self.denoiser(x, t, self.null.expand_as(self.context))

    def uncond_and_cond(self, x, t):
        """The model's answers to the null and to the context."""
        return uncond_and_cond(self.denoiser, x, t, self.context, self.null)


@dataclass(frozen=True)
class Cfg:
    """`cfg`, and with phi `cfg_rescaled`, as a value: (denoise, condition) -> denoise."""

    scale: float
    phi: float = 0.0
    channels: int | None = None

    def __call__(self, denoise: Callable, condition: Condition) -> Callable:
        def guided(x, t):
            if self.scale == 1:
                return denoise(x, t)
            # where nothing has guided yet, one batched call answers both
            if denoise is condition:
                x0_null, x0 = condition.uncond_and_cond(x, t)
            else:
                x0_null, x0 = condition.without(x, t), denoise(x, t)
            x0_guided = x0_null + self.scale * (x0 - x0_null)
            if self.phi:
                x0_guided = rescaled(x0, x0_guided, self.phi)
            n = self.channels or x.shape[1]
            return torch.cat([x0_guided[:, :n], x0[:, n:]], dim=1)

        return guided

    def __str__(self):
        return f"classifier-free guidance {self.scale:g}" + _contrast(self.phi)


@dataclass(frozen=True)
class Autoguidance:
    """`autoguidance` by guide(x, t, context), as a value: (denoise, condition) -> denoise."""

    guide: Callable
    scale: float
    phi: float = 0.0
    channels: int | None = None

    def __call__(self, denoise: Callable, condition: Condition) -> Callable:
        def guide(x, t):
            return self.guide(x, t, condition.context)

        return autoguidance(denoise, guide, self.scale, self.phi, self.channels)

    def __str__(self):
        return f"autoguidance {self.scale:g}" + _contrast(self.phi)


@dataclass(frozen=True)
class Interval:
    """Other guidance, at low < t <= high alone, as a value: (denoise, condition) -> denoise."""

    guidance: Callable | tuple
    low: float
    high: float

    def __call__(self, denoise: Callable, condition: Condition) -> Callable:
        return interval(fold(denoise, condition, self.guidance), denoise, self.low, self.high)

    def __str__(self):
        names = ", ".join(str(value) for value in as_tuple(self.guidance))
        return f"{names or 'no guidance'} at {self.low:g} < t <= {self.high:g}"


def _contrast(phi: float) -> str:
    return f", rescaled by {phi:g}" if phi else ""


def as_tuple(guidance) -> tuple:
    """Guidance as a tuple: None is none, one value a tuple of one."""
    if guidance is None:
        return ()
    return tuple(guidance) if isinstance(guidance, tuple | list) else (guidance,)


def has_cfg(guidance) -> bool:
    """Whether classifier-free guidance is among the values, or inside an `Interval` of them."""
    for value in as_tuple(guidance):
        if isinstance(value, Cfg):
            return True
        if isinstance(value, Interval) and has_cfg(value.guidance):
            return True
    return False


def with_scale(guidance, scale: float) -> tuple:
    """The same guidance with another scale of each `Cfg` in it."""
    found = []
    for value in as_tuple(guidance):
        if isinstance(value, Cfg):
            value = replace(value, scale=scale)
        elif isinstance(value, Interval):
            value = replace(value, guidance=with_scale(value.guidance, scale))
        found.append(value)
    return tuple(found)


def with_guides(guidance, change: Callable) -> tuple:
    """The same guidance with change(guide) in place of each guide."""
    found = []
    for value in as_tuple(guidance):
        if isinstance(value, Autoguidance):
            value = replace(value, guide=change(value.guide))
        elif isinstance(value, Interval):
            value = replace(value, guidance=with_guides(value.guidance, change))
        found.append(value)
    return tuple(found)


def fold(denoise: Callable, condition: Condition, guidance) -> Callable:
    """Apply each guidance to what the ones before it made of `denoise`."""
    for value in as_tuple(guidance):
        denoise = value(denoise, condition)
    return denoise


def guided(denoiser: Callable, context, null, guidance=None) -> Callable:
    """The conditional model as denoise(x, t), guided by a value or by a tuple, the first innermost.

    None and () are the conditional model itself.
    """
    condition = Condition(denoiser, context, null)
    return fold(condition, condition, guidance)
