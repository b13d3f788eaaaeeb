"""Measures of images and of their features, as pure functions: which number says what, and from what.

Features are any rows (N, D) that a network makes of images; images are float (B, C, H, W) in [-1, 1]. With
Gaussians fitted to the features of real (r) and generated (g) images, the Frechet distance is

    FD = |mu_r - mu_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^(1/2))     Heusel et al. 2017, eq. 6 (arXiv:1706.08500)

One number can't say whether samples are poor or merely alike, so precision and recall (Kynkaanniemi et al.
2019, arXiv:1904.06991) come with it.
"""

import torch
import torch.nn.functional as F

from minildm import MinildmError
from minildm.images import check_range, to_unit


def frechet_distance(a, b) -> float:
    """Distance of the Gaussians fitted to two feature sets (N, D), (M, D): Heusel et al. 2017, eq. 6.

    The trace of (S_a S_b)^(1/2) is the sum of the roots of the eigenvalues of S_a^(1/2) S_b S_a^(1/2), which
    is symmetric. Biased upwards at small N: compare only at the same N.
    """
    if a.shape[1:] != b.shape[1:] or a.ndim != 2 or min(len(a), len(b)) < 2:
        raise MinildmError(f"features are {tuple(a.shape)}, {tuple(b.shape)}", "frechet_distance",
                           "pass (N, D) and (M, D) of one D, with two rows or more")
    a, b = a.double(), b.double()
    cov_a, cov_b = a.T.cov().reshape(a.shape[1], -1), b.T.cov().reshape(a.shape[1], -1)       # (D, D)
    values, vectors = torch.linalg.eigh(cov_a)
    root_a = vectors * values.clamp(min=0).sqrt() @ vectors.T
    root_trace = torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp(min=0).sqrt().sum()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    return (shift + cov_a.trace() + cov_b.trace() - 2 * root_trace).clamp(min=0).item()


def kernel_distance(a, b) -> float:
    """Unbiased squared maximum mean discrepancy of two feature sets (N, D), (M, D) under the kernel
    (x y / D + 1)^3, over all pairs: Binkowski et al. 2018, eq. 4 (arXiv:1801.01401), "KID".

    Multiplied out the cube is 1 + 3 u + 3 u^2 + u^3, u = x y / D, and the sum of u^p over all pairs is the
    product of two sums over single images, of their features' p-fold products: linear in N, for D^3 numbers.
    Of sets of one origin it is 0 on average at any N, so sometimes less.
    """
    if a.shape[1:] != b.shape[1:] or a.ndim != 2 or min(len(a), len(b)) < 2 or a.shape[1] > 512:
        raise MinildmError(f"features are {tuple(a.shape)}, {tuple(b.shape)}", "kernel_distance",
                           "pass (N, D) and (M, D) of one D up to 512, with two rows or more")
    n, m, d = len(a), len(b), a.shape[1]
    moments_a, moments_b = _moments(a), _moments(b)

    def total(p, q):                                                  # of k(x, y) over all pairs
        parts = zip((1, 3 / d, 3 / d**2, 1 / d**3), p, q, strict=True)
        return sum(weight * (x * y).sum() for weight, x, y in parts)

    def alone(x):                                                     # of k(x, x), which the means leave out
        return (x.double().square().sum(dim=1) / d + 1).pow(3).sum()

    within_a = (total(moments_a, moments_a) - alone(a)) / (n * (n - 1))
    within_b = (total(moments_b, moments_b) - alone(b)) / (m * (m - 1))
    return (within_a + within_b - 2 * total(moments_a, moments_b) / (n * m)).item()


def _moments(x):
    """Sums over x (N, D) of 1, x, x x and x x x, in float64: (), (D,), (D, D), (D^2, D)."""
    sums = 0, 0, 0, 0
    for chunk in x.double().split(max(1, 2**22 // x.shape[1]**2)):
        pairs = chunk[:, :, None] * chunk[:, None]                    # (n, D, D)
        parts = chunk.new_tensor(len(chunk)), chunk.sum(0), pairs.sum(0), pairs.flatten(1).T @ chunk
        sums = [s + part for s, part in zip(sums, parts, strict=True)]
    return sums


def precision_recall(real, fake, k: int = 3) -> tuple[float, float]:
    """Precision: the part of fake within the manifold of real; recall: the part of real within that of fake.

    A manifold is a union of balls, one about each feature, reaching its k-th nearest neighbour (Kynkaanniemi
    et al. 2019, eq. 1-3). Features are (N, D); the sizes of the sets matter: pass two of the same N.
    """
    if min(len(real), len(fake)) <= k:
        raise MinildmError(f"{len(real)} and {len(fake)} images", "precision_recall", f"pass {k + 1} or more")
    centre = real.double().mean(dim=0)
    real, fake = real.double() - centre, fake.double() - centre                              # (N, D), (M, D)
    # float64, and a distance below this is none: so copies lie within a ball of radius 0
    tiny = 1e-12 * (real.square().sum(dim=1).max() + fake.square().sum(dim=1).max())

    def reach(x):                                                    # the 1st neighbour is x itself
        near = [d.topk(k + 1, largest=False).values[:, -1] for d in _squared_distances(x, x)]
        return torch.cat(near) + tiny

    reach_real, reach_fake = reach(real), reach(fake)
    covered, inside = torch.zeros_like(reach_real, dtype=torch.bool), []
    for d, reach_some in zip(_squared_distances(fake, real), reach_fake.split(1000), strict=True):
        inside.append((d <= reach_real).any(dim=1))                  # (1000,) of fake
        covered |= (d <= reach_some[:, None]).any(dim=0)             # (N,) of real
    return torch.cat(inside).double().mean().item(), covered.double().mean().item()


def coverage(real, fake, k: int = 3) -> float:
    """The part of real (N, D) that has one of fake (M, D) as near as its k-th nearest real neighbour.

    Naeem et al. 2020, eq. 8 (arXiv:2002.09797). It trusts no ball about a fake, as recall does; strays have
    wide ones.
    """
    if len(real) <= k or not len(fake):
        raise MinildmError(f"{len(real)} and {len(fake)} images", "coverage", f"pass {k + 1} real or more")
    centre = real.double().mean(dim=0)
    real, fake = real.double() - centre, fake.double() - centre
    reach = torch.cat([d.topk(k + 1, largest=False).values[:, -1] for d in _squared_distances(real, real)])
    near = torch.cat([d.amin(dim=1) for d in _squared_distances(real, fake)])
    return (near <= reach + 1e-12 * real.square().sum(dim=1).max()).double().mean().item()


def _squared_distances(a, b):
    """|x - y|^2 = |x|^2 + |y|^2 - 2 x y of all rows, as blocks (1000, M): one matrix product each."""
    own = b.square().sum(dim=1)
    for chunk in a.split(1000):
        yield torch.addmm(own, chunk, b.T, alpha=-2).add_(chunk.square().sum(dim=1)[:, None]).clamp_(min=0)


def diversity(features, labels) -> float | None:
    """Mean distance of two different images of one class, in features (N, D); then the mean over classes.

    Compare with that of real images at the same labels: less means that a class looks more alike than it is.
    None if no label (N,) occurs twice.
    """
    means = []
    for label in labels.unique():
        x = features[labels.to(features.device) == label.to(features.device)].double()
        if len(x) > 1:
            total = sum(d.sqrt().sum() for d in _squared_distances(x - x.mean(0), x - x.mean(0)))
            means.append(total / (len(x) * (len(x) - 1)))
    return torch.stack(means).mean().item() if means else None


def label_accuracy(logits, labels) -> float:
    """The fraction of logits (N, classes) that are largest at their label (N,)."""
    return (logits.argmax(dim=1) == labels.to(logits.device)).float().mean().item()


def psnr(a, b) -> float:
    """10 log10(2^2 / MSE) in dB of each image, then their mean; overshoot past [-1, 1] is clipped."""
    if a.shape != b.shape:
        raise MinildmError(f"images are {tuple(a.shape)} and {tuple(b.shape)}", "psnr", "pass equal shapes")
    check_range(a, "psnr")
    check_range(b, "psnr")
    mse = (a.float().clamp(-1, 1) - b.float().clamp(-1, 1)).square().flatten(1).mean(dim=1)   # (B,)
    return (10 * torch.log10(4 / mse)).mean().item()


def ssim(a, b) -> float:
    """Structural similarity of float images (B, C, H, W), 1 if equal: Wang et al. 2004, eq. 13, the mean over
    all places where its window fits into the picture.

    The window is Gaussian, 11x11, sigma 1.5; overshoot past [-1, 1] is clipped. The formula wants intensities
    from 0: with means of both signs it would call a negative similar. So 1 is added, and the range is 2.
    """
    if a.shape != b.shape or min(a.shape[-2:]) < 11:
        raise MinildmError(f"images are {tuple(a.shape)} and {tuple(b.shape)}", "ssim",
                           "pass equal shapes, sides of at least 11")
    check_range(a, "ssim")
    check_range(b, "ssim")
    a, b = (x.double().clamp(-1, 1).flatten(0, 1)[:, None] + 1 for x in (a, b))              # (B C, 1, H, W)
    window = torch.exp(-torch.arange(-5, 6).to(a).square() / (2 * 1.5**2))
    window /= window.sum()

    def local_mean(x):
        return F.conv2d(F.conv2d(x, window.view(1, 1, 11, 1)), window.view(1, 1, 1, 11))

    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a, var_b = local_mean(a * a) - mean_a**2, local_mean(b * b) - mean_b**2
    cov, c1, c2 = local_mean(a * b) - mean_a * mean_b, (0.01 * 2)**2, (0.03 * 2)**2
    similar = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)
               / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))
    return similar.mean().item()


def power_spectrum(images):
    """Mean power at each number of waves across a picture: square float images (B, C, N, N) -> (N / 2 + 1,).

    |FFT|^2 averaged over images, channels and the ring of that radius: a ring's power times its size is its
    part of the mean square. Natural pictures fall as about 1 / f^2 (Field 1987); blurred ones, steeper.
    """
    n = images.shape[-1]
    if images.shape[-2] != n:
        raise MinildmError(f"images are {tuple(images.shape)}", "power_spectrum", "crop them to a square")
    power = torch.fft.fft2(images.float(), norm="forward").abs().square().mean((0, 1))          # (N, N)
    waves = torch.fft.fftfreq(n, 1 / n, device=images.device)
    ring = torch.hypot(waves[:, None], waves).round().long().flatten()                          # (N N,)
    rings = torch.zeros(int(ring.max()) + 1, device=images.device).index_add_(0, ring, power.flatten())
    return (rings / ring.bincount())[:n // 2 + 1]


def nearest_neighbours(query, reference, k: int = 1):
    """The k nearest reference images of each query by pixel L2: ascending distances (N, k), indices (N, k).

    Images are uint8 or float (N, C, H, W), distances in units of [-1, 1]. One matrix product a chunk finds
    candidates, by |q - r|^2 = |q|^2 + |r|^2 - 2 q r; their distances are then taken exactly.
    """
    if query.shape[1:] != reference.shape[1:] or k > len(reference):
        raise MinildmError(f"images are {tuple(query.shape)} and {tuple(reference.shape)}, k = {k}",
                           "nearest_neighbours", "pass images of one size, no more neighbours than images")
    q, found, where = to_unit(query, "nearest_neighbours").flatten(1), [], []
    for start in range(0, len(reference), 5000):
        r = to_unit(reference[start:start + 5000], "nearest_neighbours").to(q.device).flatten(1)
        order = r.square().sum(dim=1) - 2 * q @ r.T                               # (N, chunk), less |q|^2
        nearest = order.topk(min(k, len(r)), largest=False).indices               # (N, k)
        found.append(torch.stack([(row - r[i]).norm(dim=1) for row, i in zip(q, nearest, strict=True)]))
        where.append(nearest + start)
    best = torch.cat(found, dim=1).topk(k, largest=False)
    return best.values, torch.cat(where, dim=1).gather(1, best.indices)


def memorisation(samples, training, held_out) -> dict:
    """How near samples lie to training images, beside how near images do that no training saw.

    Nearest training neighbours by pixel L2 of each: `distances`, `nearest` (N,), their `median`, and the same
    with `_held_out`; `ratio` is median / median_held_out: far below 1 for copies. Images as for
    `nearest_neighbours`; held-out ones should have the samples' classes in the samples' shares.
    """
    result = {}
    for end, images in ("", samples), ("_held_out", held_out):
        distances, nearest = nearest_neighbours(images, training)
        result |= {"distances" + end: distances[:, 0], "nearest" + end: nearest[:, 0],
                   "median" + end: distances.median().item()}
    return result | {"ratio": result["median"] / max(result["median_held_out"], 1e-12)}

