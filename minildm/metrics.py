"""Measures of images and of their features, as pure functions: which number says what, and from what.

Features are any rows (N, D) that a network makes of images; images are float (B, C, H, W) in [-1, 1]. With
Gaussians fitted to the features of real (r) and generated (g) images, the Frechet distance is

    FD = |mu_r - mu_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^(1/2))     Heusel et al. 2017, eq. 6 (arXiv:1706.08500)

One number can't say whether samples are poor or merely alike, so precision and recall (Kynkaanniemi et al.
2019, arXiv:1904.06991) come with it.
"""

import math

import torch

from minildm import MinildmError


def check_range(images, where: str):
    """Refuse what is not float in [-1, 1]. Models overshoot a little, so only clear mistakes are errors."""
    if not images.is_floating_point():
        raise MinildmError(f"images are {images.dtype}, not float in [-1, 1]", where, "data.to_float(images)")
    low, high = images.min().item(), images.max().item()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise MinildmError("images hold NaN or infinity", where, "look for the first layer that puts it out")
    if low >= 0 and 0.5 < high <= 1:
        raise MinildmError("images lie in [0, 1], not in [-1, 1]", where, "pass images * 2 - 1")
    if max(-low, high) > 5:
        raise MinildmError(f"images lie in [{low:.3g}, {high:.3g}], not in [-1, 1]", where,
                           "pass images / 127.5 - 1, or decode the latents first")


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


def precision_recall(real, fake, k: int = 3) -> tuple[float, float]:
    """Precision: the part of fake within the manifold of real; recall: the part of real within that of fake.

    A manifold is a union of balls, one about each feature, reaching its k-th nearest neighbour (Kynkaanniemi
    et al. 2019, eq. 1-3). Features are (N, D); the sizes of the sets matter: pass two of the same N.
    """
    if min(len(real), len(fake)) <= k:
        raise MinildmError(f"{len(real)} and {len(fake)} images", "precision_recall", f"pass {k + 1} or more")
    def distances(a, b):                                                                     # (1000, M)
        for chunk in a.float().split(1000):
            yield torch.cdist(chunk, b.float(), compute_mode="donot_use_mm_for_euclid_dist")  # d(x, x) = 0

    def within(points, centres):
        radii = [d.kthvalue(k + 1, dim=1).values for d in distances(centres, centres)]       # 1st: itself
        inside = [(d <= torch.cat(radii)).any(dim=1) for d in distances(points, centres)]
        return torch.cat(inside).float().mean().item()

    return within(fake, real), within(real, fake)


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


def to_unit(images, where: str):
    """Images, uint8 or float, as float in [-1, 1]."""
    if images.dtype == torch.uint8:
        return images.float() / 127.5 - 1
    check_range(images, where)
    return images.float()
