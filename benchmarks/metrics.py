"""Our distances against scipy's and torchmetrics', on features of MNIST and of blurred MNIST."""

import time

import scipy.linalg
import torch
import torch.nn.functional as F
from torchmetrics.functional.image import peak_signal_noise_ratio
from torchmetrics.functional.image.ssim import _ssim_update
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from benchmarks.claims import claims_of
from minildm import data
from minildm.evaluation.classifier import in_batches, load_classifier
from minildm.evaluation.metrics import frechet_distance, kernel_distance, psnr, ssim
from minildm.evaluation.score import score

claim = claims_of("metrics")


def pairs_of_values(images, classifier) -> dict[str, tuple[float, float]]:
    """Ours and theirs, by name."""
    x = data.to_float(images)
    y = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    a = in_batches(classifier.features, x).double()
    b = in_batches(classifier.features, y).double()
    mean_a, cov_a, mean_b, cov_b = a.mean(0), a.T.cov(), b.mean(0), b.T.cov()
    root = torch.from_numpy(scipy.linalg.sqrtm((cov_a @ cov_b).numpy()).real)
    by_scipy = ((mean_a - mean_b).square().sum() + (cov_a + cov_b - 2 * root).trace()).item()
    # torchmetrics' mean counts borders that ours leaves out: 5 pixels, half of the window
    places = _ssim_update(x.double() + 1, y.double() + 1, data_range=2.0, return_full_image=True)[1]
    their_psnr = peak_signal_noise_ratio(x, y, data_range=2.0, dim=(1, 2, 3))
    ours = frechet_distance(a, b)
    return {"Fréchet, scipy": (ours, by_scipy),
            "Fréchet, torchmetrics": (ours, _compute_fid(mean_a, cov_a, mean_b, cov_b).item()),
            "kernel, torchmetrics": (kernel_distance(a, b), poly_mmd(a, b).item()),
            "SSIM, torchmetrics": (ssim(x, y), places[..., 5:-5, 5:-5].mean().item()),
            "PSNR, torchmetrics": (psnr(x, y), their_psnr.item())}


def measure():
    began, classifier, train = time.perf_counter(), load_classifier("mnist"), data.load("mnist")
    pairs = pairs_of_values(train.images[:2000], classifier)
    errors = {name: abs(ours / theirs - 1) for name, (ours, theirs) in pairs.items()}
    worst = max(errors, key=errors.get)
    yield claim("worst relative error, scipy and torchmetrics", errors[worst],
                time.perf_counter() - began, shown=f"{errors[worst]:.1g} ({worst})")

    began = time.perf_counter()
    score(train.images[:50_000], train.labels[:50_000], train, classifier)
    seconds = time.perf_counter() - began
    yield claim("seconds to score 50,000 images", round(seconds), seconds)
