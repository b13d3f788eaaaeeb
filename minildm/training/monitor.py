"""The bands that healthy runs stay in: what it means when a logged number leaves its own, and what cures it.

Half of what goes wrong raises no error: the loss falls, and the pictures are noise. The bands are wide: the
package's own runs on MNIST and CIFAR-10 stay inside them from the first step to the last.
"""

from collections import deque
from math import inf
from statistics import median
from typing import NamedTuple

from minildm import MinildmError

WINDOW = 50     # values, and their median: one bad batch is no illness
LATER = "start it later (adversarial_start), with the adaptive weight; a smaller critic"


class Band(NamedTuple):
    """The median of a metric's last WINDOW values lies between low and high, from the `after`th value on."""

    metric: str
    after: int
    low: float
    high: float
    means: str      # when it does not
    cure: str


BANDS = (
    Band("data_std", 10, 0.3, 1.7, "the schedule's noise, of size 1, drowns this data or hardly scratches it",
         "vae.fit_latent_stats(images), train on vae.normalise(z), decode vae.denormalise(z)"),
    Band("unexplained", 300, 0, 0.9, "the denoiser answers nearly what it would without looking, nothing",
         "overfit one batch; look at lr, at t, at what the target is"),
    Band("kl", 200, 0.1, inf, "posterior collapse: latents say nothing, every copy is the average picture",
         "lower kl_weight; compare means with means, not with sums"),
    Band("kl", 200, 0, 30, "the latents are points far apart: an autoencoder, with any size of latent",
         "raise kl_weight"),
    Band("l1", 250, 0, 0.15, "copies are far from the pictures", "lower kl_weight, adversarial_weight or lr"),
    Band("real", 150, 0, 0.995, "the critic knows nearly every real patch: it teaches no more", LATER),
    Band("fake", 150, 0, 0.995, "the critic knows nearly every copy's patch: it teaches no more", LATER),
    Band("critic", 150, 0.02, 1.2, "the critic is sure of itself, or sure and wrong: 1 is when it can't tell",
         LATER),
    Band("grad_norm", 100, 1e-4, 20, "clipping alone sets the pace, or nothing moves",
         "means in the loss, not sums; look for a detached tensor"),
)


class Watch:
    """Called with each step's numbers by name, returns the bands that these leave, each the first time only.

    A value of exactly 0 is of a part that has not begun, a critic before its start: it does not count.
    """

    def __init__(self, bands=BANDS):
        self.bands, self.seen, self.last, self.left = bands, {}, {}, set()

    def __call__(self, row: dict[str, float]) -> list[tuple[Band, float]]:
        for name, value in row.items():
            if value:
                self.seen[name] = self.seen.get(name, 0) + 1
                self.last.setdefault(name, deque(maxlen=WINDOW)).append(value)
        news = []
        for band in self.bands:
            if row.get(band.metric) and band not in self.left and self.seen[band.metric] >= band.after:
                middle = median(self.last[band.metric])
                if not band.low <= middle <= band.high:
                    self.left.add(band)
                    news.append((band, middle))
        return news


def check(history: dict[str, list[float]]) -> list[tuple[Band, float]]:
    """The bands that a whole run left, with the median then; history as `fit` or `read_metrics` give."""
    watch = Watch()
    rows = zip(*history.values(), strict=True)
    return [new for row in rows for new in watch(dict(zip(history, row, strict=True)))]


def describe(band: Band, middle: float) -> str:
    """A warning in two lines."""
    return (f"{band.metric} is {middle:.3g}, healthy runs have {band.low:g} to {band.high:g}: {band.means}\n"
            f"  fix: {band.cure}")


def check_spread(mean, std, bar: bool = True):
    """Refuse latents of `encode_all` whose standard deviation is not about 1; `bar`: name channels of noise.

    A channel that a VAE doesn't use is noise of unit variance: denoisers spend their loss on it in vain.
    """
    spread = (mean.var() + std.square().mean()).sqrt().item()
    if not 0.8 < spread < 1.25:
        raise MinildmError(f"the latents' standard deviation is {spread:.2f}, not about 1", "train_denoiser",
                           "vae.fit_latent_stats(images), then encode_all again")
    noisy = (std.square().mean((0, 2, 3)) > 0.5).nonzero().flatten().tolist()
    if noisy and bar:
        print(f"latent channels {noisy} of {mean.shape[1]} are more noise than picture, a burden to "
              "the denoiser: use a smaller kl_weight, or fewer latent_channels")
