"""Measures of images and of their features, as pure functions.

Features are any rows (N, D) that a network makes of images; images are float (B, C, H, W) in [-1,
1]. With Gaussians fitted to the features of real (r) and generated (g) images, the Frechet distance
is

    FD = |mu_r - mu_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^(1/2))         Heusel et al. 2017, eq. 6

(arXiv:1706.08500). One number can't say whether samples are poor or merely alike, so precision and
recall (Kynkaanniemi et al. 2019, arXiv:1904.06991) come with it.
"""

import torch
import torch.nn.functional as F

from minildm import MinildmError
from minildm.devices import room
from minildm.images import check_range, to_unit

LARGEST = 512       # features of `kernel_distance`, whose third moments are D^3 numbers
PAIRS = 2**22       # of features, over the rows that are in memory at once
ROWS = 1000         # of a matrix of distances that are in memory at once


def check_features(a, b, where: str, least: int = 2) -> None:
    """Refuse what are not two feature sets (N, D) and (M, D) with `least` or more rows."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < least:
        raise MinildmError(f"features are {tuple(a.shape)}, {tuple(b.shape)}", where,
                           f"pass (N, D) and (M, D) of one D, with {least} or more rows")


def frechet_distance(a, b) -> float:
    """Distance of the Gaussians fitted to two feature sets (N, D), (M, D).

    (Heusel et al. 2017, eq. 6.) The trace of (S_a S_b)^(1/2) is the sum of the roots of the
    eigenvalues of S_a^(1/2) S_b S_a^(1/2), which is symmetric. It is biased upwards at small N:
    compare only at one N.
    """
    check_features(a, b, "frechet_distance")
    d = a.shape[1]
    a, b = a.double(), b.double()
    # of one feature cov makes a number
    cov_a, cov_b = a.T.cov().reshape(d, d), b.T.cov().reshape(d, d)
    # what is left is small, and a GPU takes seconds before its first eigenvalues
    shift = (a.mean(0) - b.mean(0)).square().sum().cpu()
    cov_a, cov_b = cov_a.cpu(), cov_b.cpu()
    values, vectors = torch.linalg.eigh(cov_a)
    root_a = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # rounding leaves eigenvalues a little below 0, whose roots would be NaN
    products = torch.linalg.eigvalsh(root_a @ cov_b @ root_a)
    root_trace = products.clamp(min=0).sqrt().sum()
    distance = shift + cov_a.trace() + cov_b.trace() - 2 * root_trace
    return distance.clamp(min=0).item()


def kernel_distance(a, b) -> float:
    """Unbiased squared maximum mean discrepancy of two feature sets (N, D), (M, D): "KID".

    The kernel is (x y / D + 1)^3, over all pairs (Binkowski et al. 2018, eq. 4, arXiv:1801.01401).
    Multiplied out it is 1 + 3 u + 3 u^2 + u^3 with u = x y / D, and the sum of u^p over all pairs
    is the product of two sums over single images, of their features' p-fold products: linear in N,
    for D^3 numbers. For sets of one origin it is 0 on average at any N, so sometimes less.
    """
    check_features(a, b, "kernel_distance")
    n, m, d = len(a), len(b), a.shape[1]
    if d > LARGEST:
        raise MinildmError(f"{d} features", "kernel_distance", f"pass up to {LARGEST}")
    moments_a, moments_b = _moments(a), _moments(b)
    weights = 1, 3 / d, 3 / d**2, 1 / d**3

    def total(p, q):
        """The sum of the kernel over all pairs."""
        parts = zip(weights, p, q, strict=True)
        return sum(weight * (x * y).sum() for weight, x, y in parts)

    def diagonal(x):
        """The sum of k(x, x), which the unbiased mean leaves out."""
        squares = x.double().square().sum(dim=1)
        return (squares / d + 1).pow(3).sum()

    within_a = (total(moments_a, moments_a) - diagonal(a)) / (n * (n - 1))
    within_b = (total(moments_b, moments_b) - diagonal(b)) / (m * (m - 1))
    between = total(moments_a, moments_b) / (n * m)
    return (within_a + within_b - 2 * between).item()


def _moments(x):
    """Sums over x (N, D) of 1, x, x x and x x x, in float64: (), (D,), (D, D), (D^2, D)."""
    sums = 0, 0, 0, 0
    # a chunk's pairs are 4 million numbers at most, on a small GPU or a CPU
    for chunk in x.double().split(max(1, PAIRS * room(x.device) // x.shape[1]**2)):
        pairs = chunk[:, :, None] * chunk[:, None]                         # (n, D, D)
        count = chunk.new_full((), len(chunk))
        triples = pairs.flatten(1).T @ chunk                               # (D^2, D)
        parts = count, chunk.sum(0), pairs.sum(0), triples
        sums = [before + part for before, part in zip(sums, parts, strict=True)]
    return sums


def _squared_distances(a, b):
    """|x - y|^2 = |x|^2 + |y|^2 - 2 x y of all rows, in blocks (1000, M)."""
    lengths = b.square().sum(dim=1)
    for chunk in a.split(ROWS):
        block = torch.addmm(lengths, chunk, b.T, alpha=-2)
        block += chunk.square().sum(dim=1)[:, None]
        yield block.clamp_(min=0)


def _reach(x, k: int):
    """Squared distance from each row of x (N, D) to its k-th nearest neighbour among them, (N,)."""
    nearest = []
    for block in _squared_distances(x, x):
        # the nearest of all is the row itself
        nearest.append(block.topk(k + 1, largest=False).values[:, -1])
    return torch.cat(nearest)


def precision_recall(real, fake, k: int = 3) -> tuple[float, float]:
    """The part of fake within the manifold of real, and the part of real within that of fake.

    A manifold is a union of balls, one about each feature, whose radius is the distance to its k-th
    nearest neighbour (Kynkaanniemi et al. 2019, eq. 1-3, arXiv:1904.06991). Features are (N, D);
    the sizes of the sets matter: pass two of the same N. Sets of k or fewer are refused.
    """
    check_features(real, fake, "precision_recall", k + 1)
    # near the origin |x|^2 + |y|^2 - 2 x y cancels with the least loss
    centre = real.double().mean(dim=0)
    real, fake = real.double() - centre, fake.double() - centre            # (N, D), (M, D)
    # a distance below this is none, even in float64: so copies lie within a ball of radius 0
    tiny = 1e-12 * (real.square().sum(dim=1).max() + fake.square().sum(dim=1).max())
    reach_real, reach_fake = _reach(real, k) + tiny, _reach(fake, k) + tiny
    inside = []
    covered = torch.zeros_like(reach_real, dtype=torch.bool)
    blocks = zip(_squared_distances(fake, real), reach_fake.split(ROWS), strict=True)
    for distances, reach in blocks:                                        # (1000, N), (1000,)
        inside.append((distances <= reach_real).any(dim=1))
        covered |= (distances <= reach[:, None]).any(dim=0)
    precision = torch.cat(inside).double().mean().item()
    return precision, covered.double().mean().item()


def coverage(real, fake, k: int = 3) -> float:
    """The part of real (N, D) with a fake (M, D) as near as its k-th nearest real neighbour.

    (Naeem et al. 2020, eq. 8, arXiv:2002.09797.) It has no balls about fakes, as recall has: those
    about outliers are wide.
    """
    if len(real) <= k or not len(fake):
        raise MinildmError(f"{len(real)} and {len(fake)} images", "coverage",
                           f"pass {k + 1} real or more")
    centre = real.double().mean(dim=0)
    real, fake = real.double() - centre, fake.double() - centre
    nearest = torch.cat([block.amin(dim=1) for block in _squared_distances(real, fake)])
    tiny = 1e-12 * real.square().sum(dim=1).max()
    return (nearest <= _reach(real, k) + tiny).double().mean().item()


def diversity(features, labels) -> float | None:
    """Mean distance in features (N, D) of two images of a class, then the mean over classes.

    Compare with that of real images at the same labels (N,): less means that a class looks more
    alike than it is. None if no label occurs twice.
    """
    labels = labels.to(features.device)
    # rows by label, in their order: on CUDA the CPU waits once, not once a label
    rows = features[labels.argsort(stable=True)]
    means = []
    for x in rows.split(labels.unique(return_counts=True)[1].tolist()):
        x = x.double()
        n = len(x)
        if n < 2:
            continue
        x = x - x.mean(0)           # near the origin the squares cancel without loss
        total = sum(block.sqrt().sum() for block in _squared_distances(x, x))
        means.append(total / (n * (n - 1)))
    return torch.stack(means).mean().item() if means else None


def label_accuracy(logits, labels) -> float:
    """The fraction of logits (N, classes) that are largest at their label (N,)."""
    return (logits.argmax(dim=1) == labels.to(logits.device)).float().mean().item()


def check_pair(a, b, where: str) -> None:
    """Refuse two batches of images that are not of one shape and float in [-1, 1]."""
    if a.shape != b.shape:
        raise MinildmError(f"images are {tuple(a.shape)} and {tuple(b.shape)}", where,
                           "pass equal shapes")
    check_range(a, where)
    check_range(b, where)


def psnr(a, b) -> float:
    """10 log10(2^2 / MSE) of each image in dB, then the mean; past [-1, 1] is clipped."""
    check_pair(a, b, "psnr")
    error = a.float().clamp(-1, 1) - b.float().clamp(-1, 1)
    mse = error.square().flatten(1).mean(dim=1)                            # (B,)
    return (10 * torch.log10(4 / mse)).mean().item()


def ssim(a, b) -> float:
    """Structural similarity of float images (B, C, H, W), 1 if equal.

    (Wang et al. 2004, eq. 13.) It is the mean over all places where its window fits into the
    picture. The window is Gaussian, 11 x 11, sigma 1.5; overshoot past [-1, 1] is clipped.
    """
    check_pair(a, b, "ssim")
    if min(a.shape[-2:]) < 11:
        raise MinildmError(f"images are {tuple(a.shape)}", "ssim", "pass sides of at least 11")
    # The formula wants intensities from 0: with means of both signs it would call a negative
    # similar. So 1 is added, and the range is 2.
    a, b = (x.double().clamp(-1, 1).flatten(0, 1)[:, None] + 1 for x in (a, b))    # (B C, 1, H, W)
    window = torch.exp(-torch.arange(-5, 6).to(a).square() / (2 * 1.5**2))
    window /= window.sum()

    def local_mean(x):
        rows = F.conv2d(x, window.view(1, 1, 11, 1))
        return F.conv2d(rows, window.view(1, 1, 1, 11))

    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a = local_mean(a * a) - mean_a**2
    var_b = local_mean(b * b) - mean_b**2
    cov = local_mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    above = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    below = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return (above / below).mean().item()


def power_spectrum(images):
    """Mean power at each number of waves across pictures (B, C, N, N) -> (N / 2 + 1,).

    It is |FFT|^2 averaged over images, channels and the ring of that radius; a ring's power times
    its size is its part of the mean square. Natural pictures fall as about 1 / f^2 (Field 1987),
    blurred ones more steeply.
    """
    n = images.shape[-1]
    if images.shape[-2] != n:
        raise MinildmError(f"images are {tuple(images.shape)}", "power_spectrum",
                           "crop them to a square")
    power = torch.fft.fft2(images.float(), norm="forward").abs().square()
    power = power.mean((0, 1)).flatten()                                   # (N N,)
    waves = torch.fft.fftfreq(n, 1 / n, device=images.device)
    ring = torch.hypot(waves[:, None], waves).round().long().flatten()     # (N N,)
    sums = torch.zeros(int(ring.max()) + 1, device=images.device)
    sums.index_add_(0, ring, power)
    # rings beyond N / 2 lie in the corners, and are not whole
    return (sums / ring.bincount())[:n // 2 + 1]


def nearest_neighbours(query, reference, k: int = 1):
    """The k nearest reference images by pixel L2: ascending distances (N, k), indices (N, k).

    Images are uint8 or float (N, C, H, W), distances in units of [-1, 1]. One matrix product a
    chunk finds candidates, by |q - r|^2 = |q|^2 + |r|^2 - 2 q r; their distances are then computed
    exactly.
    """
    if query.shape[1:] != reference.shape[1:] or k > len(reference):
        raise MinildmError(f"images are {tuple(query.shape)} and {tuple(reference.shape)}, k = {k}",
                           "nearest_neighbours",
                           "pass images of one size, no more neighbours than images")
    q = to_unit(query, "nearest_neighbours").flatten(1)                    # (N, P)
    distances, indices = [], []
    for start in range(0, len(reference), 5 * ROWS):
        chunk = reference[start:start + 5 * ROWS]
        r = to_unit(chunk, "nearest_neighbours").to(q.device).flatten(1)   # (M, P)
        order = r.square().sum(dim=1) - 2 * q @ r.T                        # (N, M), less |q|^2
        nearest = order.topk(min(k, len(r)), largest=False).indices        # (N, k)
        # one row at a time: all differences at once would be N k P numbers
        exact = [(row - r[i]).norm(dim=1) for row, i in zip(q, nearest, strict=True)]
        distances.append(torch.stack(exact))
        indices.append(nearest + start)
    best = torch.cat(distances, dim=1).topk(k, largest=False)
    return best.values, torch.cat(indices, dim=1).gather(1, best.indices)


def memorisation(samples, training, held_out) -> dict:
    """Compare how near samples lie to training images with how near held-out images lie.

    -> dict of nearest training neighbours by pixel L2: `distances`, `nearest` (N,), their `median`,
    the same with `_held_out`, and `ratio`, median / median_held_out, which is far below 1 for
    copies. Images are those of `nearest_neighbours`; held-out ones should have the samples' classes
    in the samples' shares.
    """
    result = {}
    for end, images in ("", samples), ("_held_out", held_out):
        distances, nearest = nearest_neighbours(images, training)
        result["distances" + end] = distances[:, 0]
        result["nearest" + end] = nearest[:, 0]
        result["median" + end] = distances.median().item()
    # held-out images may be training images, by mistake: then their median is 0
    result["ratio"] = result["median"] / max(result["median_held_out"], 1e-12)
    return result
