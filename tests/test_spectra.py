"""Power and coherence by frequency: what filters, noise, means and draws do to them is known exactly."""

import pytest
import torch

from minildm import MinildmError
from minildm.evaluation.metrics import power_spectrum
from minildm.evaluation.spectra import (
    amplify,
    power_and_coherence,
    response,
    ring_gains,
    ring_of,
    ring_sums,
)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n", [8, 13, 32])
def test_sums_over_rings_are_the_means_of_the_power_spectrum_times_the_rings_sizes(n):
    x = randn(3, 2, n, n)
    power = torch.fft.fft2(x, norm="forward").abs().square()
    sizes = ring_of(n).flatten().bincount()[:n // 2 + 1]
    torch.testing.assert_close(ring_sums(power), power_spectrum(x) * sizes * 6)


def test_copies_have_power_and_coherence_one():
    x = randn(5, 3, 16, 16)
    power, coherence = power_and_coherence(x, x)
    assert power.shape == coherence.shape == (9,) and power.dtype == torch.float32
    torch.testing.assert_close(torch.stack([power, coherence]), torch.ones(2, 9))


def test_a_factor_changes_power_alone_and_noise_lowers_coherence():
    x, noise = randn(400, 1, 16, 16), randn(400, 1, 16, 16, seed=1)
    for factor in (0.5, -2.0):
        power, coherence = power_and_coherence(x, factor * x)
        torch.testing.assert_close(power, torch.full((9,), factor**2))
        torch.testing.assert_close(coherence, torch.ones(9))
    power, coherence = power_and_coherence(x, x + 2 * noise)
    # signal 1 beside noise 4; by chance unless N is infinite
    torch.testing.assert_close(power, torch.full((9,), 5.0), rtol=0.2, atol=0)
    torch.testing.assert_close(coherence, torch.full((9,), 0.2), rtol=0.25, atol=0)


def test_of_a_mean_coherence_is_its_power_and_of_a_draw_the_square_of_that():
    x = randn(20, 1, 16, 16)
    moves = [x.roll((dy, dx), (-2, -1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    every = torch.stack(moves)                              # (9, B, 1, 16, 16)
    truth = every[:, None].expand(9, 9, *x.shape).flatten(0, 2)
    drawn = every[None].expand(9, 9, *x.shape).flatten(0, 2)
    mean = every.mean(0).expand(81, *x.shape).flatten(0, 1)
    power, coherence = power_and_coherence(truth, mean)
    torch.testing.assert_close(power, coherence, rtol=1e-4, atol=1e-6)
    power_of_draw, coherence_of_draw = power_and_coherence(truth, drawn)
    torch.testing.assert_close(power_of_draw, torch.ones(9), rtol=1e-4, atol=0)
    torch.testing.assert_close(coherence_of_draw, power**2, rtol=1e-3, atol=1e-6)


def test_a_filter_gives_the_originals_power_and_the_same_coherence():
    x = randn(30, 2, 16, 16)
    copies = torch.nn.functional.avg_pool2d(x, 3, 1, 1) + 0.1 * randn(30, 2, 16, 16, seed=1)
    power, coherence = power_and_coherence(x, amplify(copies, ring_gains(x, copies)))
    torch.testing.assert_close(power, torch.ones(9), rtol=1e-4, atol=0)
    torch.testing.assert_close(coherence, power_and_coherence(x, copies)[1], rtol=1e-3, atol=1e-5)


def test_the_response_of_known_encoders():
    x = randn(6, 1, 16, 16)
    flat = response(lambda images: 3 * images, x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(flat, torch.full((8,), 3.0))
    # a difference of neighbours passes waves of k cycles along one side by 2 sin(pi k / n)
    steep = response(lambda images: images - images.roll(1, -1), x, torch.Generator().manual_seed(0))
    assert (steep[1:] > steep[:-1]).all()
    blurred = response(lambda images: torch.nn.functional.avg_pool2d(images, 4), x,
                       torch.Generator().manual_seed(0))
    assert blurred[0] > 0.8 and blurred[-1] < 0.3


def test_pictures_of_other_shapes_are_refused():
    x = randn(2, 1, 8, 8)
    for a, b in ((x, x[:1]), (x[..., :6], x[..., :6])):
        with pytest.raises(MinildmError, match="squares of one shape"):
            power_and_coherence(a, b)
