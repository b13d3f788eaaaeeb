"""How much signal and how much noise there is at time t:  x_t = alpha(t) data + sigma(t) noise.

t runs from 0 (data) to 1 (noise). A schedule is the pair (alpha, sigma), and diffusion and flow
matching differ only in it: on the circle alpha^2 + sigma^2 = 1, or on the straight line (1 - t, t).
DDPM's tables of 1000 betas become such a pair exactly: t = i / 1000 is the paper's step i, and
alpha(0) = 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from minildm import MinildmError
from minildm.devices import DeviceCopies, number_on


class Schedule(NamedTuple):
    """The pair alpha(t), sigma(t): functions of times in [0, 1] whose values multiply x.

    t is a tensor of any shape, and the values have that shape. Only a schedule that
    `shift_channels` made answers otherwise; its `base` is the schedule of all channels, which
    answers in t's shape.
    """

    alpha: Callable
    sigma: Callable

    @property
    def base(self) -> "Schedule":
        return self


@dataclass(frozen=True, eq=False)
class BetaTable:
    """log alpha_bar(t), interpolated linearly between the entries of a table, (T + 1,) float64."""

    log_alpha_bar: DeviceCopies

    def at(self, t):
        """log alpha_bar at times t of any shape, in t's shape and dtype."""
        table = self.log_alpha_bar.like(t)                                 # float64 was for the sum
        steps = len(table) - 1
        i = (t * steps).clamp(0, steps)
        low = i.floor().long().clamp(max=steps - 1)
        # not table[low], which asks a GPU for the number where low is a single one
        return torch.lerp(table.take(low), table.take(low + 1), i - low)

    def alpha(self, t):
        """The square root of alpha_bar."""
        return (self.at(t) / 2).exp()

    def sigma(self, t):
        """The square root of 1 - alpha_bar, without the cancellation at small t."""
        return (-torch.expm1(self.at(t))).sqrt()


def from_betas(betas) -> Schedule:
    """The schedule of a table of betas, alpha_bar_i = prod_{j <= i} (1 - beta_j).

    (Ho et al. 2020, eq. 4, arXiv:2006.11239.) betas (T,): exact at t = i / T, i = 0..T; between
    those, log alpha_bar is interpolated linearly.
    """
    log_bar = torch.log1p(-betas.double()).cumsum(0)
    table = BetaTable(DeviceCopies(torch.cat([torch.zeros(1, dtype=torch.float64), log_bar])))
    return Schedule(table.alpha, table.sigma)


# The functions of a schedule are named, not lambdas: what holds a schedule can then be pickled.

def cosine_alpha(t):
    """cos(pi t / 2)."""
    return torch.cos(t * (math.pi / 2))


def cosine_sigma(t):
    """sin(pi t / 2)."""
    return torch.sin(t * (math.pi / 2))


def flow_alpha(t):
    """1 - t."""
    return 1 - t


def flow_sigma(t):
    """t."""
    return t


DDPM_BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
SD_BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2

linear = from_betas(DDPM_BETAS)                     # Ho et al. 2020; DiT
scaled_linear = from_betas(SD_BETAS)                # Stable Diffusion 1.5
cosine = Schedule(cosine_alpha, cosine_sigma)
flow = Schedule(flow_alpha, flow_sigma)             # Liu et al. 2022; Lipman et al. 2022


@dataclass(frozen=True, eq=False)
class ChannelSchedule:
    """What `shift_channels` makes: alpha(t) and sigma(t) of each channel, for ratio (C,)."""

    base: Schedule
    ratio: DeviceCopies

    def levels(self, t):
        """(alpha, sigma), each (C, 1, 1) for a number t and (B, C, 1, 1) for t (B, 1, 1, 1)."""
        if 0 < t.ndim < 4:
            raise MinildmError(f"channels have times of their own, and t is {tuple(t.shape)}",
                               "shift_channels", "pass a number or expand(t, x), (B, 1, 1, 1); for "
                               "the curve of unshifted channels ask schedule.base")
        ratio = self.ratio.like(t)[:, None, None]
        if self.base == flow:
            own_t = shift(t, 1 / ratio)               # stays on the line alpha + sigma = 1
            return flow.alpha(own_t), flow.sigma(own_t)
        alpha, sigma = self.base.alpha(t), self.base.sigma(t)
        # Less noise alone would shrink x: the sum of squares is kept, on the circle that is 1.
        grown = torch.hypot(alpha, sigma) / torch.hypot(alpha, sigma / ratio)
        return grown * alpha, grown * sigma / ratio

    def alpha(self, t):
        return self.levels(t)[0]

    def sigma(self, t):
        return self.levels(t)[1]

    def __iter__(self):
        return iter((self.alpha, self.sigma))


def shift_channels(schedule: Schedule, ratio) -> ChannelSchedule:
    """Make sigma / alpha `ratio` times smaller, channel by channel of x (B, C, H, W), ratio (C,).

    Channels with a larger ratio are seen through less noise, and the others can be drawn to match
    them (Pan et al. 2025, arXiv:2512.04926). On `flow` this is Esser et al.'s shift of time
    (2024, eq. 23, arXiv:2403.03206); elsewhere alpha^2 + sigma^2 stays what it is. The schedule's t
    is a number or (B, 1, 1, 1), as `expand` makes it; its values broadcast against x. Grids of
    times are those of `base`.
    """
    return ChannelSchedule(schedule, DeviceCopies(torch.as_tensor(ratio)))


def expand(t, x):
    """t, a number or (B,), shaped to multiply x (B, ...): (B, 1, 1, 1) for images."""
    # float32 even beside latents in bf16, which could not tell one of 1000 steps from the next
    t = number_on(x.device, t).to(torch.float32)
    return t if t.ndim == 0 else t.reshape(-1, *[1] * (x.ndim - 1))


def add_noise(schedule: Schedule, data, noise, t):
    """x_t = alpha(t) data + sigma(t) noise, for any t, a number or (B,) (Ho et al., eq. 4)."""
    t = expand(t, data)
    return schedule.alpha(t) * data + schedule.sigma(t) * noise


def log_snr(schedule: Schedule, t):
    """Log signal-to-noise ratio log(alpha^2 / sigma^2), infinite at 0 (Kingma et al., eq. 2)."""
    return ((schedule.alpha(t) / schedule.sigma(t)) ** 2).log()


def time_grid(n: int, start: float = 1.0, end: float = 0.0):
    """n steps: n + 1 equally spaced times from `start` (noise) down to `end` (data), (n + 1,)."""
    if n < 1:
        raise MinildmError(f"{n} steps get nowhere", "time_grid", "take at least 1")
    return torch.linspace(start, end, n + 1)


def leading_grid(n: int, offset: int = 0, end: float = 0.0, steps: int = 1000):
    """diffusers' "leading" times on a table of `steps` betas: entry i is our t = (i + 1) / steps.

    Every (steps // n)th entry, `offset` further on: for Stable Diffusion 1.5, offset 1, 50 steps
    are entries 981, 961, ..., 21, 1. Its last step ends at entry 0, `end` 0.001; (n + 1,) times.

    """
    if not 1 <= n <= steps:
        raise MinildmError(f"{n} steps on a table of {steps}", "leading_grid", f"take 1 to {steps}")
    entries = torch.arange(n - 1, -1, -1) * (steps // n) + offset
    return torch.cat([(entries + 1).clamp(max=steps) / steps, torch.tensor([end])])


def rounded_grid(n: int, steps: int = 1000):
    """diffusers' "linspace" times on such a table: 20 steps are entries 999, 949, ..., 50."""
    # float64, in which diffusers rounds them
    entries = (torch.arange(n, 0, -1, dtype=torch.float64) * ((steps - 1) / n)).round()
    return torch.cat([(entries + 1) / steps, torch.zeros(1)]).float()


def log_snr_grid(schedule: Schedule, n: int, low: float = 0.002, high: float = 80.0):
    """`ratio_grid` with equal steps of log(sigma / alpha) (Lu et al., 3.4, arXiv:2206.00927)."""
    return ratio_grid(schedule, n, low, high, torch.log, torch.exp)


def karras_grid(schedule: Schedule, n: int, low: float = 0.002, high: float = 80.0,
                rho: float = 7.0):
    """`ratio_grid` with steps equal in (sigma / alpha)^(1 / rho) (Karras et al. 2022, eq. 5)."""
    def root(ratio):
        return ratio ** (1 / rho)

    return ratio_grid(schedule, n, low, high, root, lambda x: x**rho)


def ratio_grid(schedule: Schedule, n: int, low: float, high: float, warp: Callable,
               unwarp: Callable):
    """n steps, from noise to where sigma / alpha is `low`, then to the data: (n + 1,), from 1 to 0.

    The ratio falls from `high`, or from that at t = 1 if it is less, equally spaced as `warp` sees
    it.
    """
    schedule = schedule.base        # one grid for all channels: that of those which are not shifted
    ts = time_grid(n)
    noisiest = torch.ones((), dtype=torch.float64)
    # cosine and flow reach infinity at t = 1
    high = (schedule.sigma(noisiest) / schedule.alpha(noisiest)).clamp(max=high)
    u = torch.arange(n, dtype=torch.float64) / max(n - 1, 1)              # (n,), the first is t = 1
    ratios = unwarp((1 - u) * warp(high) + u * warp(torch.full_like(high, low)))
    ts[1:-1] = at_ratio(schedule, ratios[1:])
    return ts


def at_ratio(schedule: Schedule, ratio):
    """The times at which sigma / alpha, which rises with t, is ratio (n,): by bisection."""
    schedule = schedule.base
    early, late = torch.zeros_like(ratio), torch.ones_like(ratio)
    # 50 halvings of [0, 1] are float64's own resolution
    for _ in range(50):
        t = (early + late) / 2
        past = schedule.sigma(t) > ratio * schedule.alpha(t)
        early, late = torch.where(past, early, t), torch.where(past, t, late)
    return late


def shift(ts, by: float = 3.0):
    """Move times towards the noise, for larger pictures (Esser et al. 2024, eq. 23); 1 leaves them.

    On the flow schedule every sigma / alpha becomes `by` times what it was.
    """
    return by * ts / (1 + (by - 1) * ts)
