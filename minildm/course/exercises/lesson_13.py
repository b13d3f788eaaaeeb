"""The checks of lesson 13's measurements: operators with their transposes, and data consistency."""

import torch
import torch.nn.functional as F

from minildm.course.exercises.compare import fail
from minildm.course.exercises.fakes import randn, uniform
from minildm.course.exercises.harness import check
from minildm.diffusion import operators, restoration
from minildm.diffusion.operators import Operator

# ---- operators and their transposes --------------------------------------------------------------


def average(x, factor):
    return F.avg_pool2d(x, factor)


def average_back(y, factor):
    return y.repeat_interleave(factor, -1).repeat_interleave(factor, -2) / factor**2


def k_space(x, mask):
    k = torch.fft.fft2(x, norm="ortho") * mask
    return torch.cat([k.real, k.imag], 1)


def k_space_back(y, mask):
    real, imaginary = y.chunk(2, 1)
    return torch.fft.ifft2(torch.complex(real, imaginary) * mask, norm="ortho").real


PACKAGES = [operators.average, operators.fourier]


@check(reference=average, forbidden=PACKAGES)
def check_average(answer):
    for shape, factor in ((2, 1, 6, 9), 3), ((3, 2, 8, 4), 2):
        x = randn(*shape)
        want = average(x, factor)
        answer.case((x, factor), want, {
            "that is the sum of each square: divide by its number of pixels": want * factor**2,
            "a square has factor^2 pixels, not factor": want * factor,
            "those are single pixels, one from each square: take the mean of all":
                x[..., ::factor, ::factor],
            "that is the largest of each square": F.max_pool2d(x, factor),
        }, where=f"squares of {factor}")


@check(reference=average_back, forbidden=PACKAGES)
def check_average_back(answer):
    for shape, factor in ((2, 1, 2, 3), 3), ((3, 2, 4, 2), 2):
        y = randn(*shape)
        want = average_back(y, factor)
        answer.case((y, factor), want, {
            "that repeats each number over its square, the pseudo-inverse: in the transpose each "
            "pixel has the weight with which it entered the mean": want * factor**2,
            "the weight of a pixel in the mean is 1 / factor^2": want * factor,
            "each number belongs to a square of pixels: yours is tiled": y.repeat(
                1, 1, factor, factor) / factor**2,
        }, where=f"squares of {factor}")


def masks():
    for shape, seed in ((2, 1, 6, 8), 0), ((3, 2, 5, 4), 1):
        yield randn(*shape), (uniform(*shape[2:], seed=seed) < 0.5).float()


@check(reference=k_space, forbidden=PACKAGES)
def check_k_space(answer):
    for x, mask in masks():
        k = torch.fft.fft2(x, norm="ortho")
        plain, shifted = torch.fft.fft2(x) * mask, torch.fft.fftshift(k, (-2, -1)) * mask

        def parts(k):
            return torch.cat([k.real, k.imag], 1)

        answer.case((x, mask), k_space(x, mask), {
            "nothing is left out: multiply by the mask": parts(k),
            "the transform is unitary with norm='ortho'": parts(plain),
            "the mask's frequency 0 is its corner, as fft2 has it: don't shift": parts(shifted),
            "real parts first, then imaginary parts": torch.cat([k.imag, k.real], 1) * mask,
            "the imaginary parts have the wrong sign: fft2, not ifft2": parts(k.conj() * mask),
            "that is one axis: transform both": parts(torch.fft.fft(x, norm="ortho") * mask),
            "those are sizes: real and imaginary parts are asked for":
                torch.cat([k.abs(), k.angle()], 1) * mask,
        }, where=f"pictures of {tuple(x.shape[1:])}")


@check(reference=k_space_back, forbidden=PACKAGES)
def check_k_space_back(answer):
    for x, mask in masks():
        # a measurement with noise: numbers stand at unseen places as well
        y = randn(len(x), 2 * x.shape[1], *x.shape[2:], seed=5)
        k = torch.complex(*y.chunk(2, 1))
        back = torch.fft.ifft2
        answer.case((y, mask), k_space_back(y, mask), {
            "what was not measured is left out in the transpose as well":
                back(k, norm="ortho").real,
            "the transpose of a unitary transform is its inverse: norm='ortho'":
                back(k * mask).real,
            "the way back is the conjugate transform, ifft2":
                torch.fft.fft2(k * mask, norm="ortho").real,
            "the picture is the real part": back(k * mask, norm="ortho").abs(),
            "the first half of the channels are real parts, the second imaginary ones":
                back(torch.complex(*reversed(y.chunk(2, 1))) * mask, norm="ortho").real,
        }, where=f"pictures of {tuple(x.shape[1:])}")


# ---- data consistency ----------------------------------------------------------------------------

def conjugate_gradients(matrix, b, iterations):
    return operators.conjugate_gradients(matrix, b, iterations)


def descent(matrix, b, iterations, conjugate=True, start=None):
    """The method, or steepest descent where the directions are not made conjugate."""
    x, r = torch.zeros_like(b), b
    p = r
    for _ in range(iterations):
        step = operators.dot(r, r) / operators.dot(p, matrix(p))
        x, new = x + step * p, r - step * matrix(p)
        p = new + (operators.dot(new, new) / operators.dot(r, r) * p if conjugate else 0)
        r = new
    return x


@check(reference=conjugate_gradients, forbidden=[operators.conjugate_gradients])
def check_conjugate_gradients(answer):
    for shape, iterations in ((3, 1, 4, 3), 4), ((2, 5), 3), ((3, 2, 2, 2), 1):
        size = randn(*shape[1:]).numel()
        root = randn(size, size, seed=1)
        symmetric = root @ root.T / size + torch.eye(size)
        calls = []

        def matrix(d, symmetric=symmetric, calls=calls):
            if d.ndim < 2:
                fail("the map takes the whole batch, (B, ...)")
            calls.append(1)
            return (d.flatten(1) @ symmetric).reshape(d.shape)

        b = randn(*shape, seed=2)
        # solved long before the others, in the sense of an absolute limit
        b[0] *= 1e-6
        want = descent(matrix, b, iterations)
        calls.clear()
        answer.case((matrix, b, iterations), want, {
            "that is steepest descent: the new direction is the residual plus a share of the old "
            "direction": descent(matrix, b, iterations, conjugate=False),
            "one iteration too few": descent(matrix, b, iterations - 1),
            "one iteration too many": descent(matrix, b, iterations + 1),
            "each row of the batch has its own step: sum over all axes but the first":
                together(matrix, b, iterations),
            "that is the residual, not x": b - matrix(want),
            "it ends for all rows when the first is solved: the others go on":
                descent(matrix, b, 1),
        }, where=f"{iterations} iterations, b {tuple(shape)}")


def together(matrix, b, iterations):
    """One step for all rows."""
    x, r = torch.zeros_like(b), b
    p = r
    for _ in range(iterations):
        step = (r * r).sum() / (p * matrix(p)).sum()
        x, new = x + step * p, r - step * matrix(p)
        p, r = new + (new * new).sum() / (r * r).sum() * p, new
    return x


def consistent(operator, picture, y, noise_sd, picture_sd):
    return restoration.consistent(operator, picture, y, noise_sd, picture_sd)


def odd_operator(size: int, numbers: int, seed: int = 0) -> Operator:
    """A random matrix from pictures (B, 1, 1, size) to (B, 1, 1, numbers)."""
    matrix = randn(size, numbers, seed=seed)
    return Operator(lambda x: x @ matrix, lambda y: y @ matrix.T)


@check(reference=consistent, forbidden=[restoration.consistent])
def check_consistent(answer):
    # the last system is so hard that a few iterations do not solve it
    for size, numbers, noise_sd, picture_sd in (5, 3, 0.3, 0.7), (4, 6, 0.9, 0.2), (24, 36, 0.3, 3):
        operator = odd_operator(size, numbers)
        picture, y = randn(3, 1, 1, size, seed=1), randn(3, 1, 1, numbers, seed=2)
        columns = operator.apply(torch.eye(size))
        missing = y - operator.apply(picture)
        back = operator.transpose(missing)

        def solved(ratio, right=back, columns=columns, size=size):
            left = columns @ columns.T + ratio * torch.eye(size)
            return torch.linalg.solve(left, right.flatten(1).T).T.reshape(right.shape)

        ratio = (noise_sd / picture_sd) ** 2
        step = solved(ratio)
        answer.case((operator, picture, y, noise_sd, picture_sd), picture + step, {
            "that is the step d: add it to the picture": step,
            "the step has the wrong sign: y minus what is measured of the picture": picture - step,
            "the ratio of the variances is turned round: the noise's stands above":
                picture + solved(1 / ratio),
            "variances are squares of standard deviations": picture + solved(ratio**0.5),
            "the picture's own term, ratio * d, is missing": picture + solved(1e-6),
            "y was measured of the picture, so its own measurement is taken off before":
                picture + solved(ratio, operator.transpose(y)),
            "that is what y alone says: start from the picture": solved(
                ratio, operator.transpose(y)),
            "that is the transpose, with no system solved":
                picture + back / ratio,
            "10 iterations leave the system half solved: 60 are asked for": picture + descent(
                lambda d, o=operator, r=ratio: o.transpose(o.apply(d)) + r * d, back, 10),
        }, tol=1e-3, where=f"{numbers} numbers of {size} pixels")
