"""The world of points: its denoiser and its spread are exact, and set distances tell sets apart."""

import matplotlib.pyplot as plt
import pytest
import torch

from minildm.course import points
from minildm.course.points import Blobs, heart, jump_and_noise, set_distance, slope
from minildm.diffusion.schedules import add_noise, cosine, flow, time_grid


def generator():
    return torch.Generator().manual_seed(0)


def test_the_heart_has_mean_0_and_variance_1():
    centres = heart(30)
    assert centres.shape == (30, 2)
    torch.testing.assert_close(centres.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    assert abs(centres.std() - 1) < 1e-5


@pytest.mark.parametrize("schedule", [cosine, flow])
def test_the_guess_is_the_mean_of_what_became_x(schedule):
    """Of all guesses it has the least squared error, which is the spread."""
    world, g, t = Blobs(heart(), 0.3), generator(), torch.tensor(0.4)
    x0 = world.draw(20_000, g)
    x = add_noise(schedule, x0, torch.randn(x0.shape, generator=g), t)
    guess = world.denoiser(schedule)(x, t)
    error = (guess - x0).square().mean()
    assert error < ((1.05 * guess - x0).square().mean()) and error < (0.95 * guess - x0).square().mean()
    torch.testing.assert_close(world.spread(schedule, x, t).mean(), error, rtol=0.03, atol=0)


def test_one_centre_is_a_gaussian_whose_guess_is_linear():
    world, t = Blobs(torch.tensor([[0.5, -1.0]]), 0.2), torch.tensor(0.3)
    x = torch.randn(5, 2, generator=generator())
    a, sd = flow.alpha(t), flow.sigma(t)
    pull = a * 0.04 / (a**2 * 0.04 + sd**2)
    want = world.centres + pull * (x - a * world.centres)
    torch.testing.assert_close(world.denoiser(flow)(x, t), want)
    torch.testing.assert_close(world.spread(flow, x, t), (0.04 * sd**2 / (a**2 * 0.04 + sd**2)).expand(5))


def test_centres_may_be_latents():
    latents = torch.randn(7, 3, 4, 4, generator=generator())
    world, t = Blobs(latents, 0.1), torch.tensor(0.05)
    x = world.noised(cosine, 6, t, generator())
    guess = world.denoiser(cosine)(x, t)
    assert guess.shape == x.shape == (6, 3, 4, 4)
    # with so little noise the guess is near the centre that it came from
    near = torch.cdist(guess.flatten(1), latents.flatten(1)).amin(1)
    assert near.max() < 0.1 * 48**0.5 * 1.5


def test_distance_is_0_for_equal_sets_and_the_shift_of_shifted_ones():
    x = torch.randn(500, 2, generator=generator())
    assert set_distance(x, x[torch.randperm(500, generator=generator())]) < 1e-6
    # the mean of |cos| over directions is 2 / pi
    assert abs(set_distance(x, x + torch.tensor([1.0, 0])) - 2 / torch.pi) < 0.01


def test_slope_is_that_of_a_power_law():
    assert abs(slope([1, 2, 4, 8], [3 * k**-1.5 for k in (1, 2, 4, 8)]) + 1.5) < 1e-6


def test_jump_and_noise_ends_at_guesses():
    world = Blobs(heart(), 0.06)
    ends = jump_and_noise(world.denoiser(cosine), cosine, torch.randn(50, 2, generator=generator()),
                          time_grid(5), generator())
    assert torch.cdist(ends, world.centres).amin(1).median() < 0.2


def test_pictures_carry_their_text(monkeypatch):
    shown = []
    monkeypatch.setattr(points, "show", lambda figure, alt: shown.append((len(figure.axes), alt)))
    world = Blobs(heart(), 0.06)
    x = world.draw(9, generator())
    points.show_points({"a": x, "b": x}, alt="two")
    points.show_arrows(world, {"a": (x, x + 1)}, alt="one")
    points.show_paths(world, {"a": torch.stack([x, x + 1])}, alt="a path")
    assert shown == [(2, "two"), (1, "one"), (1, "a path")]
    plt.close("all")
