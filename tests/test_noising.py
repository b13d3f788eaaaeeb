"""Lesson 03's measures: exact answers where there are some."""

import torch
from torch.testing import assert_close

from minildm.course import noising
from minildm.diffusion import schedules

GRID = torch.linspace(-6, 6, 2401, dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_walk_keeps_a_variance_of_one():
    x = torch.randn(4000, generator=generator())
    walked = noising.walk(x, torch.linspace(0.01, 0.3, 9), generator(1))
    assert walked.shape == (10, 4000) and torch.equal(walked[0], x)
    assert_close(noising.rms(walked), torch.ones(10), atol=0.05, rtol=0)


def test_equal_samples_have_no_distance_and_disjoint_ones_all():
    x = torch.arange(50.0)
    assert noising.ks_distance(x, x) == 0
    assert noising.ks_distance(x, x + 100) == 1


def test_a_gaussian_has_no_gap_and_known_moments():
    density = noising.normal(GRID, torch.tensor(0.7), torch.tensor(0.5))
    both = torch.stack([density, noising.Bumps(schedules.cosine).density(GRID, torch.tensor(0.05))])
    mean, variance = noising.moments(both, GRID)
    assert_close(mean[0].item(), 0.7, atol=1e-6, rtol=0)
    assert_close(variance[0].item(), 0.5, atol=1e-6, rtol=0)
    gap = noising.gaussian_gap(both, GRID)
    assert gap[0] < 1e-6 < 0.3 < gap[1]
    assert_close(noising.gaussian_gap(density, GRID), gap[0])


def test_bumps_have_area_one_and_are_drawn_as_they_are():
    bumps = noising.Bumps(schedules.cosine)
    for t in (0.0, 0.4):
        area = bumps.density(GRID, torch.tensor(t).double()).sum() * (GRID[1] - GRID[0])
        assert_close(area.item(), 1.0, atol=1e-6, rtol=0)
    drawn = bumps.draw(20_000, generator())
    assert_close(drawn.mean().item(), (bumps.shares * bumps.means).sum().item(), atol=0.03, rtol=0)


def test_a_crossing_is_interpolated():
    shares = torch.tensor([1.0, 0.8, 0.4, 0.0])
    assert_close(noising.crossing(torch.tensor([3.0, 2.0, 1.0, 0.0]), shares, 0.6), torch.tensor(1.5))


def test_white_noise_has_power_one_and_rings_select():
    noise = torch.randn(200, 1, 16, 16, generator=generator())
    power = noising.spectrum(noise)
    assert_close(power[1:], torch.ones(8), atol=0.1, rtol=0)
    assert_close(noising.above(noise, power, -1.0), noise, atol=1e-5, rtol=0)
    mean = noise.mean((2, 3), keepdim=True).expand_as(noise)
    assert_close(noising.above(noise, power, 1e9), mean, atol=1e-5, rtol=0)


def test_equal_ratios_make_equal_pictures():
    ratios, x = torch.tensor([3.0, 0, -2]).double(), torch.randn(1, 2, 4, 4, generator=generator())
    noise = torch.randn(1, 2, 4, 4, generator=generator(1))
    rows = noising.at_ratios([schedules.cosine, schedules.flow], ratios, x, noise, schedules.add_noise,
                             noising.package_time_at)
    assert rows.shape == (2, 3, 2, 4, 4)
    assert_close(rows[0], rows[1], atol=1e-5, rtol=0)
