"""What changes when a sample is a film (B, F, C, H, W): its noise, its times, and what is given.

Schedules, targets and samplers stay as they are; a film is one sample with one more axis.
  mixed_noise   frames whose noise has a part in common (Ge et al. 2023)
  film_loss     the denoiser's loss, where some films have their first frames given
  continued     denoise(x, t) of a film whose first frames are known
"""

import torch

from minildm.diffusion.denoiser import target, to_x0

GIVEN = 2       # frames that a film is continued from


def mixed_noise(shape, share: float, generator=None):
    """Standard normal noise (B, F, ...) of which a share of the variance is common to all frames.

    noise_f = sqrt(share) common + sqrt(1 - share) own_f

    (after Ge et al. 2023, arXiv:2305.10474);
    share 0 are independent frames, share 1 is one noise for all of them.
    """
    common = torch.randn(shape[0], 1, *shape[2:], generator=generator)
    own = torch.randn(shape, generator=generator)
    return share**0.5 * common + (1 - share) ** 0.5 * own


def film_loss(denoiser, films, words, generator=None, share: float = 0.0, given: float = 0.0):
    """E |network(x_t, t, words) - target|^2 over films (B, F, C, H, W): dict(loss).

    A share `given` of the films shows its first `GIVEN` frames without noise, at time 0; they do
    not count.
    """
    n, frames = films.shape[:2]
    t = denoiser.times(n, generator)[:, None].repeat(1, frames)             # (B, F)
    noise = mixed_noise(films.shape, share, generator)
    shown = torch.rand(n, generator=generator) < given
    t[shown, :GIVEN] = 0
    at = t[..., None, None, None]
    alpha, sigma = denoiser.schedule.alpha(at), denoiser.schedule.sigma(at)
    wanted = target(denoiser.prediction_type, films, noise, alpha, sigma)
    prediction = denoiser.network(alpha * films + sigma * noise, t, words)
    error = (prediction - wanted).square().mean((2, 3, 4))                  # (B, F)
    counts = (t > 0).float()
    return {"loss": (error * counts).sum() / counts.sum()}


def continued(denoiser, known):
    """denoise(x, t, words) of films whose first frames `known` (B, K, C, H, W) are shown clean.

    The network sees them without noise, at time 0, and they are what it answers. With guidance, x
    is a multiple of B films.
    """
    k = known.shape[1]

    def denoise(x, t, words=None):
        shown = known.repeat(len(x) // len(known), 1, 1, 1, 1)
        x = torch.cat([shown, x[:, k:]], dim=1)
        # a number or (B,) -> (B, F)
        times = torch.as_tensor(t).expand(len(x))[:, None].repeat(1, x.shape[1])
        times[:, :k] = 0
        at = times[..., None, None, None]
        alpha, sigma = denoiser.schedule.alpha(at), denoiser.schedule.sigma(at)
        prediction = denoiser.network(x, times, words)
        x0 = to_x0(denoiser.prediction_type, prediction, x, alpha, sigma)
        return torch.cat([shown, x0[:, k:]], dim=1)

    return denoise
