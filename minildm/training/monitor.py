"""The bounds of healthy runs: what it means when a logged number leaves its own, and what cures it.

Half of what goes wrong raises no error: the loss falls, and the pictures are noise. The bounds are
wide: the package's own runs on MNIST and CIFAR-10 stay inside from the first step to the last.
"""

from collections import deque
from dataclasses import dataclass
from math import inf
from statistics import median

from minildm import MinildmError

WINDOW = 50     # values, and their median: one bad batch is no illness
LATER = "start it later (adversarial_start), with the adaptive weight; a smaller critic"


@dataclass(frozen=True)
class Bound:
    """The median of a metric's last WINDOW values lies between low and high, from value `after` on."""

    metric: str
    after: int
    low: float
    high: float
    means: str      # what is wrong when it does not
    cure: str


@dataclass(frozen=True)
class Violation:
    """A bound that a run has left, and the median at that step. As text: a warning in two lines."""

    bound: Bound
    median: float

    def __str__(self) -> str:
        bound = self.bound
        return (f"{bound.metric} is {self.median:.3g}, healthy runs have "
                f"{bound.low:g} to {bound.high:g}: {bound.means}\n  fix: {bound.cure}")


BOUNDS = (
    Bound("data_std", 10, 0.3, 1.7,
          "the schedule's noise, of size 1, drowns this data or hardly scratches it",
          "vae.fit_latent_stats(images), train on vae.normalise(z), decode vae.denormalise(z)"),
    Bound("unexplained", 300, 0, 0.9,
          "the denoiser answers nearly what it would without looking, nothing",
          "overfit one batch; look at lr, at t, at what the target is"),
    Bound("kl", 200, 0.1, inf,
          "posterior collapse: latents say nothing, every copy is the average picture",
          "lower kl_weight; compare means with means, not with sums"),
    Bound("kl", 200, 0, 30,
          "the latents are points far apart: an autoencoder, with any size of latent",
          "raise kl_weight"),
    Bound("l1", 250, 0, 0.15, "copies are far from the pictures",
          "lower kl_weight, adversarial_weight or lr"),
    Bound("real", 150, 0, 0.995, "the critic knows nearly every real patch: it teaches no more",
          LATER),
    Bound("fake", 150, 0, 0.995, "the critic knows nearly every copy's patch: it teaches no more",
          LATER),
    Bound("critic", 150, 0.02, 1.2,
          "the critic is sure of itself, or sure and wrong: 1 is when it can't tell", LATER),
    Bound("grad_norm", 100, 1e-4, 20, "clipping alone sets the pace, or nothing moves",
          "means in the loss, not sums; look for a detached tensor"),
)


class Monitor:
    """Watches the numbers of a run and tells each bound that they leave once.

    A value of exactly 0 does not count: it is of a part that has not begun, a critic before its start.
    """

    def __init__(self, bounds: tuple[Bound, ...] = BOUNDS):
        self.bounds = bounds
        self.counts: dict[str, int] = {}
        self.latest: dict[str, deque] = {}
        self.told: set[Bound] = set()

    def update(self, row: dict[str, float]) -> list[Violation]:
        """Take one step's numbers by name; return the bounds that are newly left."""
        for name, value in row.items():
            if value:
                self.counts[name] = self.counts.get(name, 0) + 1
                self.latest.setdefault(name, deque(maxlen=WINDOW)).append(value)
        found = []
        for bound in self.bounds:
            # a metric of this row alone is judged, so that a step is told of what it did
            if not row.get(bound.metric) or bound in self.told:
                continue
            if self.counts[bound.metric] < bound.after:
                continue
            middle = median(self.latest[bound.metric])
            if not bound.low <= middle <= bound.high:
                self.told.add(bound)
                found.append(Violation(bound, middle))
        return found


def violations(history: dict[str, list[float]]) -> list[Violation]:
    """The bounds that a whole run left; history is what `fit` or `read_metrics` return."""
    monitor, found = Monitor(), []
    for values in zip(*history.values(), strict=True):
        row = dict(zip(history, values, strict=True))
        found += monitor.update(row)
    return found


def check_spread(mean, std, bar: bool = True):
    """Refuse latents (N, c, h, w) whose standard deviation is not about 1.

    Mean and std are those of `encode_all`. With `bar`, channels of noise are named: one that a VAE
    does not use is noise of unit variance, and denoisers spend their loss on it in vain.
    """
    spread = (mean.var() + std.square().mean()).sqrt().item()
    if not 0.8 < spread < 1.25:
        raise MinildmError(f"the latents' standard deviation is {spread:.2f}, not about 1",
                           "train_denoiser", "vae.fit_latent_stats(images), then encode_all again")
    variance_of_noise = std.square().mean((0, 2, 3))
    noisy = (variance_of_noise > 0.5).nonzero().flatten().tolist()
    if noisy and bar:
        print(f"latent channels {noisy} of {mean.shape[1]} are more noise than picture, a burden to "
              "the denoiser: use a smaller kl_weight, or fewer latent_channels")
