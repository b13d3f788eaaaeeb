"""The world in the plane: its exact answers are those of a sum over very many draws."""

import pytest
import torch

from minildm.course.heart import Crowd, PointNetwork, draw_heart, perfect
from minildm.course.points import heart
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import add_noise, cosine, flow, linear, time_grid


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_heart_has_mean_0_and_variance_1():
    assert heart().shape == (40, 2)
    assert heart().mean(0).abs().max() < 1e-6 and abs(heart().std() - 1) < 1e-6
    assert draw_heart(7, generator()).shape == (7, 2)
    assert torch.equal(draw_heart(7, generator()), draw_heart(7, generator()))


@pytest.mark.parametrize("schedule", [flow, cosine, linear])
def test_the_perfect_denoiser_is_the_mean_of_the_data_that_pass(schedule):
    data, t = draw_heart(400_000, generator()), torch.tensor(0.4)
    x = add_noise(schedule, data, torch.randn(data.shape, generator=generator(1)), t)
    here = torch.tensor([[0.5, -0.3]]) * schedule.alpha(t)
    passing = data[(x - here).norm(dim=1) < 0.05]
    error = passing.std(0) / len(passing)**0.5
    assert ((perfect(schedule)(here, t)[0] - passing.mean(0)).abs() < 4 * error + 0.02).all()


def test_each_point_may_have_its_own_time():
    x, ts = torch.randn(5, 2, generator=generator()), torch.tensor([0.1, 0.3, 0.5, 0.8, 1.0])
    each = torch.cat([perfect(flow)(x[i:i + 1], ts[i]) for i in range(5)])
    torch.testing.assert_close(perfect(flow)(x, ts), each)
    # at t = 1 nobody knows more than the mean
    torch.testing.assert_close(each[-1], torch.zeros(2), atol=1e-5, rtol=0)


def test_with_many_steps_the_perfect_denoiser_draws_the_heart():
    crowd = Crowd(500)
    noise = torch.randn(500, 2, generator=generator())
    floor = crowd.floor()
    assert floor.shape == (20,) and 0 < floor.min() and floor.max() < 0.1
    assert crowd.distance(last(ddim(perfect(flow), flow, noise, time_grid(100)))) < floor.max()
    assert crowd.distance(noise) > 2 * floor.max()
    assert crowd.gap(noise, noise) == 0


def test_the_network_takes_one_time_or_one_each():
    network, x = PointNetwork(8), torch.randn(3, 2, generator=generator())
    one = network(x, torch.tensor(0.3))
    assert one.shape == (3, 2)
    torch.testing.assert_close(network(x, torch.full((3,), 0.3)), one)
