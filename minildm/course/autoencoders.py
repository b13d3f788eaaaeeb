"""What lesson 01 measures autoencoders with: PCA, copies, draws, neighbours; and two figures.

Nothing here is about how a VAE works, which is the lesson's own and its students'. Pictures are
float in [-1, 1], (N, 1, 32, 32); every measure gives one number per picture, so that an interval,
or the paired difference of two models, can be had from it.
"""

import torch

from minildm import data
from minildm.course.figures import show
from minildm.evaluation.classifier import load_classifier
from minildm.evaluation.metrics import frechet_distance
from minildm.evaluation.score import split_reference


def decibels(copies, images):
    """The PSNR of each copy, (N,): 10 log10(2^2 / mean squared error), 2 the range of values."""
    error = (copies.clamp(-1, 1) - images).square().mean((1, 2, 3))
    return 10 * torch.log10(4 / error)


def interval(values) -> float:
    """Half the width of a 95 % interval for the mean of values (N,)."""
    return 1.96 * values.float().std().item() / len(values)**0.5


class PCA:
    """The directions along which pictures vary most: the best linear autoencoder there is."""

    def __init__(self, images):
        rows = images.flatten(1)
        self.mean = rows.mean(0)
        # eigenvectors come by rising variance
        self.directions = torch.linalg.eigh(rows.T.cov()).eigenvectors.flip(1)

    def encode(self, images, size: int):
        """Coordinates along the first directions, (N, size)."""
        return (images.flatten(1) - self.mean) @ self.directions[:, :size]

    def copies(self, images, size: int):
        """Pictures, drawn again from `size` coordinates each."""
        rows = self.mean + self.encode(images, size) @ self.directions[:, :size].T
        return rows.view_as(images)


class Judge:
    """A classifier of digits and the test set: how near are pictures to real ones?

    `real` holds `count` test pictures that are set aside, of the digits as they come or as many of
    each as `labels` (count,) has; all others are the reference, so that the distance of `real` from
    it is the floor.
    """

    def __init__(self, test, count: int, labels=None):
        self.classifier = load_classifier("mnist").to(test.images.device)
        labels = test.labels[:count] if labels is None else labels
        split = split_reference(test, labels, torch.Generator().manual_seed(0))
        self.real, others = split
        self.images = data.to_float(test.images[self.real])
        self.reference = self.features(data.to_float(test.images[others]))

    @torch.no_grad()
    def features(self, images):
        """The classifier's 64 numbers per picture; it was trained on 28 x 28 pixels."""
        # not `in_batches`, whose check of the range mistakes the grey of a broken model for [0, 1]
        parts = data.crop_to(images.clamp(-1, 1), 28).split(500)
        return torch.cat([self.classifier.features(part) for part in parts])

    def distance(self, images) -> float:
        """The Fréchet distance of pictures from the reference."""
        return frechet_distance(self.features(images), self.reference)

    def says(self, images):
        """The digit that the classifier sees in each picture, (N,)."""
        return self.classifier.head(self.features(images)).argmax(1)

    def readable(self, images):
        """Whether the classifier gives one digit a probability above 0.9, per picture (N,)."""
        logits = self.classifier.head(self.features(images))
        return (logits.softmax(1).amax(1) > 0.9).float()


def three_gaussians(z) -> dict:
    """Mean and covariance of latents (N, C, h, w), seen with ever more of what they hold.

    Each channel's own mean and std, at all its positions alike; each value's; and the covariance of
    all values. Each is a pair (D,), (D, D) with D = C h w.
    """
    flat = z.flatten(1)
    mean = z.mean((0, 2, 3), keepdim=True).expand_as(z[:1]).flatten()
    std = z.std((0, 2, 3), keepdim=True).expand_as(z[:1]).flatten()
    # a value that never varies would leave the covariance without a root
    ridge = 1e-6 * torch.eye(flat.shape[1], device=z.device)
    return {"each channel's": (mean, std.square().diag()),
            "each value's": (flat.mean(0), flat.var(0).diag() + ridge),
            "full covariance": (flat.mean(0), flat.T.cov() + ridge)}


def shares_label(spaces: dict, library, queries, k: int = 10) -> dict:
    """By space: the share of each query's k nearest library pictures that has its label, (N,).

    spaces: functions from pictures (N, 1, H, W) to coordinates (N, D); library and queries:
    ImageSets.
    """
    found = {}
    for name, place in spaces.items():
        points, wanted = (torch.cat([place(data.to_float(part)) for part in some.images.split(500)])
                          for some in (library, queries))
        nearest = [torch.cdist(part, points).topk(k, largest=False).indices
                   for part in wanted.split(500)]
        labels = library.labels[torch.cat(nearest)]                        # (N, k)
        found[name] = (labels == queries.labels[:, None]).float().mean(1)
    return found


# ---- figures -------------------------------------------------------------------------------------

def plot_bound(bound, posterior, log_px):
    """The bound against q's mean and against its std, with log p(x) and the posterior's values.

    bound: a function of a torch Normal; posterior: the Normal at which it is log p(x).
    """
    import matplotlib.pyplot as plt
    from torch.distributions import Normal

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.9), sharey=True)
    means, stds = torch.linspace(-0.2, 2.2, 200), torch.linspace(0.02, 1.2, 200)
    left.plot(means, bound(Normal(means, posterior.stddev)))
    right.plot(stds, bound(Normal(posterior.mean, stds)), label="bound")
    left.set(xlabel="mean of q (std: the posterior's)", ylabel="nats", ylim=(-5, -1.8))
    right.set_xlabel("std of q (mean: the posterior's)")
    for axes, value in (left, posterior.mean), (right, posterior.stddev):
        axes.axhline(log_px, color="black", linestyle="--", label="log p(x)")
        axes.axvline(value, color="C2", linestyle=":", label="the posterior's value")
    right.legend(loc="lower right")
    show(figure, alt="The bound against the mean of q, and against its standard deviation. Both "
         "curves stay below the dashed line log p(x) and touch it only where q has the posterior's "
         "value, a dotted line; for a small standard deviation the bound falls steeply.")


def plot_latents(clouds: dict, alt: str):
    """Scatter plots of the two widest numbers of latents (N, D), and the circle of N(0, I).

    The circle holds 99 % of a two-dimensional N(0, I). All panels have one scale.
    """
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(clouds), figsize=(8, 3.4), sharex=True, sharey=True)
    for axes, (name, z) in zip(panels, clouds.items(), strict=True):
        z = z.cpu()
        std = z.std(0)
        axes.scatter(*z[:, std.topk(2).indices].T, s=4, alpha=0.4, linewidth=0)
        axes.add_patch(plt.Circle((0, 0), 3.03, fill=False, color="C1", linewidth=2))
        axes.set(title=f"{name}: std {std.min():.2f} to {std.max():.2f}", aspect="equal",
                 xlabel="widest number")
    panels[0].set_ylabel("second widest")
    show(figure, alt=alt)
