"""Pictures by frequency: how strong a copy's waves are, and how far they follow the original's.

A ring k of the Fourier plane holds the waves that fit k times across a picture, in any direction.
With coefficients a of originals and b of copies, summed over pictures, channels and the ring,

    power = sum |b|^2 / sum |a|^2
    coherence = (sum a b*)^2 / (sum |a|^2  sum |b|^2)

Coherence, a squared correlation, is the share of the originals' power that can be told from the
copies. Power can be bought by a filter, or by noise; neither raises coherence. A least-squares
decoder leaves out what it can't know, and then the two are equal.
"""

import torch

from minildm import MinildmError


def ring_of(n: int, device=None):
    """The ring of each coefficient of an n x n transform: whole cycles across, (n, n)."""
    cycles = torch.fft.fftfreq(n, 1 / n, device=device)
    radius = torch.hypot(cycles[:, None], cycles)
    return radius.round().long()


def ring_sums(values):
    """Sum values (..., n, n), one per Fourier coefficient, over each ring: (n / 2 + 1,).

    What lies beyond n / 2 cycles, in the corners, is left out: those rings are not whole.
    """
    n = values.shape[-1]
    ring = ring_of(n, values.device).flatten()
    each = values.reshape(-1, n * n).sum(0)                                # (n n,)
    sums = each.new_zeros(int(ring.max()) + 1)
    sums.index_add_(0, ring, each)
    return sums[:n // 2 + 1]


def power_and_coherence(images, copies):
    """Images and copies (B, C, N, N) -> power ratio and coherence at 0 ... N / 2 cycles across."""
    if images.shape != copies.shape or images.shape[-1] != images.shape[-2]:
        raise MinildmError(f"pictures are {tuple(images.shape)} and {tuple(copies.shape)}",
                           "power_and_coherence", "pass squares of one shape")
    a = torch.fft.fft2(images.double())
    b = torch.fft.fft2(copies.double())
    of_images = ring_sums(a.abs().square())
    of_copies = ring_sums(b.abs().square())
    # the rings are symmetric and pictures real, so the sum of a b* has no imaginary part
    cross = ring_sums((a * b.conj()).real)
    power = of_copies / of_images
    coherence = cross.square() / (of_images * of_copies)
    return power.float(), coherence.float()


def ring_gains(images, copies):
    """The gain of each ring, (N / 2 + 1,), that gives copies the power of the images."""
    power, _ = power_and_coherence(images, copies)
    return power.clamp(min=1e-12).rsqrt()


def amplify(images, gains):
    """Multiply each ring of images (B, C, N, N) by its gain: a filter, the same for all pictures.

    It changes the power of a copy, and leaves each ring's coherence as it was.
    """
    n = images.shape[-1]
    # the corners, beyond the last whole ring, get that ring's gain
    ring = ring_of(n, images.device).clamp(max=n // 2)
    waves = torch.fft.fft2(images) * gains.to(images)[ring]
    return torch.fft.ifft2(waves).real


@torch.no_grad()
def response(encode, images, generator, size: float = 0.1):
    """How far latents move for faint waves of 1 ... N / 2 cycles, per size of the waves: (N / 2,).

    `encode` maps images (B, C, N, N) to latents. Random waves of one ring, with root mean square
    `size`, are added to each image; the answer is the latents' root mean square shift / size.
    """
    n = images.shape[-1]
    ring = ring_of(n, images.device)
    still = encode(images)
    shifts = []
    for k in range(1, n // 2 + 1):
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        # what is left of white noise in one ring has random directions and phases
        waves = torch.fft.ifft2(torch.fft.fft2(noise) * (ring == k)).real
        waves *= size / waves.square().mean((1, 2, 3), keepdim=True).sqrt()
        shift = encode(images + waves) - still
        shifts.append(shift.square().mean().sqrt() / size)
    return torch.stack(shifts)
