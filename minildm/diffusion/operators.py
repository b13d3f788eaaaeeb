"""What an instrument does to a picture: linear maps A, each with its transpose and pseudo-inverse.

A measurement is y = A x + noise. An operator is the map, its transpose A' (the one map for which
<A x, y> = <x, A' y>), and, where it is known, the pseudo-inverse A+ (A A+ A = A):
  keep_pixels    some pixels, the others unseen        A+ = A'
  average        means of squares of pixels            A+ repeats each mean over its square
  blur           a Gaussian of a width in pixels       A+ divides by the filter in Fourier space
  fourier        some coefficients of k-space (MRI)    A+ = A', weighed where k and -k are both seen
  identity       the picture itself, to take noise off
Pictures are float (B, C, H, W), so are measurements; complex coefficients are kept as two channels
of real numbers each. Whatever else is linear, and has its transpose, is an Operator as well.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from minildm import MinildmError

SMALL = 1e-3        # singular values below this share of the largest are not divided by


class Operator(NamedTuple):
    """y = apply(x); transpose(y) has the shape of x, and so has inverse(y), if there is one.

    `gain` is the mean square of the singular values: how much of the variance of white noise in
    the picture stays in a number of y.
    """

    apply: Callable
    transpose: Callable
    inverse: Callable | None = None
    gain: float = 1.0


def dot(a, b):
    """Inner products of the rows of a batch (B, ...), to multiply it by: (B, 1, 1, 1) of images."""
    return (a * b).flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))


def conjugate_gradients(matrix: Callable, b, iterations: int):
    """Solve matrix(x) = b, a symmetric positive map, for each row of b (B, ...), from x = 0.

    (Hestenes & Stiefel 1952.) Each iteration asks the map once.
    """
    x, residual, direction = torch.zeros_like(b), b, b
    squared = dot(residual, residual)
    # a row that is solved has no residual, and 0 / 0 for a step
    tiny = torch.finfo(b.dtype).tiny
    for _ in range(iterations):
        mapped = matrix(direction)
        step = squared / dot(direction, mapped).clamp(min=tiny)
        x = x + step * direction
        residual = residual - step * mapped
        before, squared = squared, dot(residual, residual)
        direction = residual + squared / before.clamp(min=tiny) * direction
    return x


# ---- operators

def _same(x):
    return x


def identity() -> Operator:
    """The picture itself: with noise, the task is to take it off."""
    return Operator(_same, _same, _same)


def keep_pixels(mask) -> Operator:
    """The pixels where the mask, bool or 0 and 1, is true; (H, W) or anything that broadcasts.

    The others are 0 in y, which is no colour: nothing is known of them.
    """
    seen = mask.float()

    def apply(x):
        return seen * x

    return Operator(apply, apply, apply)


def average(factor: int) -> Operator:
    """Means of squares of factor x factor pixels: (B, C, H, W) -> (B, C, H / f, W / f)."""
    def apply(x):
        if x.shape[-1] % factor or x.shape[-2] % factor:
            raise MinildmError(f"pictures of {tuple(x.shape[-2:])} pixels", "average",
                               f"pass sides that {factor} divides")
        return F.avg_pool2d(x, factor)

    def inverse(y):
        return y.repeat_interleave(factor, -1).repeat_interleave(factor, -2)

    def transpose(y):
        return inverse(y) / factor**2

    return Operator(apply, transpose, inverse, 1 / factor**2)


def gaussian_kernel(width: float, size: int):
    """A Gaussian of a standard deviation in pixels, its middle at (0, 0), its sum 1: (size, size).

    Negative places stand at the end of each axis, as the discrete Fourier transform wants it.
    """
    places = torch.fft.fftfreq(size) * size
    line = torch.exp(-(places / width).square() / 2)
    line = line / line.sum()
    return line[:, None] * line[None, :]


def blur(width: float, size: int) -> Operator:
    """Convolve with a Gaussian of this width; the picture goes on at its opposite edge.

    A convolution is a product in Fourier space, so A+ divides there, but for the frequencies of
    which nothing is left.
    """
    response = torch.fft.fft2(gaussian_kernel(width, size))                # (H, W), its max is 1
    alive = response.abs() > SMALL
    inverted = torch.where(alive, 1 / torch.where(alive, response, 1), 0)

    def filtered(x, by):
        return torch.fft.ifft2(torch.fft.fft2(x) * by).real

    return Operator(lambda x: filtered(x, response), lambda y: filtered(y, response.conj()),
                    lambda y: filtered(y, inverted), response.abs().square().mean().item())


def fourier(mask) -> Operator:
    """Coefficients of the discrete Fourier transform where the mask (H, W) is true: a toy MRI.

    (B, C, H, W) -> (B, 2 C, H, W): real parts, then imaginary parts; unitary, 0 where nothing is
    measured. A real picture's coefficients at k and -k are conjugates of each other: where both are
    measured, A' counts them twice, and A+ halves them.
    """
    seen = mask.float()
    twin = seen.flip(0, 1).roll((1, 1), (0, 1))                            # the mask at -k
    weight = torch.where(seen + twin > 0, 2 / (seen + twin).clamp(min=1), 0)

    def apply(x):
        k = torch.fft.fft2(x, norm="ortho") * seen
        return torch.cat([k.real, k.imag], dim=1)

    def back(y, by):
        real, imaginary = y.chunk(2, dim=1)
        return torch.fft.ifft2(torch.complex(real, imaginary) * by, norm="ortho").real

    return Operator(apply, lambda y: back(y, seen), lambda y: back(y, seen * weight))


def random_coefficients(share: float, size: int, generator=None):
    """A mask (size, size) of k-space: a random share of it, and the 3 x 3 lowest frequencies."""
    mask = torch.rand(size, size, generator=generator) < share
    low = torch.fft.fftfreq(size).abs() * size < 1.5
    return mask | (low[:, None] & low[None, :])
