"""Schedules against closed forms, tables against a product in float64, noise against its moments."""

import math
import pickle

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from minildm import MinildmError
from minildm.diffusion import schedules
from minildm.diffusion.schedules import (
    add_noise,
    at_ratio,
    cosine,
    expand,
    flow,
    karras_grid,
    leading_grid,
    linear,
    log_snr,
    log_snr_grid,
    rounded_grid,
    scaled_linear,
    shift,
    shift_channels,
    time_grid,
)

ALL = pytest.mark.parametrize("schedule", [cosine, linear, scaled_linear, flow],
                              ids=["cosine", "linear", "scaled_linear", "flow"])
BETAS = {"linear": np.linspace(1e-4, 0.02, 1000),
         "scaled_linear": np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2}
STEPS = torch.arange(1001, dtype=torch.float64) / 1000


@pytest.mark.parametrize("name", BETAS)
def test_tables_are_exact_at_every_step(name):
    schedule, alpha_bar = getattr(schedules, name), np.cumprod(1 - BETAS[name])
    for t, rtol in (STEPS, 1e-9), (STEPS.float(), 2e-5):
        assert_close(schedule.alpha(t)[1:] ** 2, torch.tensor(alpha_bar, dtype=t.dtype), rtol=rtol, atol=0)
        assert_close(schedule.sigma(t)[1:] ** 2, torch.tensor(1 - alpha_bar, dtype=t.dtype), rtol=rtol,
                     atol=0)
        assert schedule.alpha(t)[0] == 1 and schedule.sigma(t)[0] == 0


def test_published_first_and_last_values():
    first, last = torch.tensor(0.001), torch.tensor(1.0)
    assert_close(scaled_linear.alpha(first).square().item(), 0.99915, rtol=0, atol=5e-6)
    assert_close(scaled_linear.alpha(last).square().item(), 0.0046601, rtol=0, atol=5e-8)
    assert_close(linear.alpha(first).square().item(), 1 - 1e-4, rtol=0, atol=1e-6)
    assert_close(linear.alpha(last).square().item(), 4.036e-5, rtol=0, atol=5e-9)


@pytest.mark.parametrize("name", BETAS)
def test_tables_equal_diffusers(name):
    reference = pytest.importorskip("diffusers.schedulers.scheduling_ddim")
    first, last = BETAS[name][[0, -1]].tolist()
    theirs = reference.DDIMScheduler(beta_start=first, beta_end=last, beta_schedule=name).alphas_cumprod
    assert_close(getattr(schedules, name).alpha(STEPS[1:].float()) ** 2, theirs, rtol=1e-4, atol=0)


@ALL
def test_noise_grows_and_signal_fades(schedule):
    t = torch.linspace(0, 1, 5001)
    assert (schedule.alpha(t).diff() < 0).all() and (schedule.sigma(t).diff() > 0).all()
    assert (log_snr(schedule, t).diff() < 0).all() and log_snr(schedule, t[0]) == math.inf
    assert schedule.alpha(t).shape == t.shape and schedule.alpha(t[0]) == 1 and schedule.sigma(t[0]) == 0


@pytest.mark.parametrize("schedule", [cosine, linear, scaled_linear], ids="cosine linear scaled".split())
def test_variance_is_preserved_on_the_circle(schedule):
    t = torch.linspace(0, 1, 777)       # between the table's steps too
    assert_close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones(777), rtol=0, atol=1e-6)


def test_closed_forms():
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    assert_close(log_snr(cosine, t), -2 * torch.log(torch.tan(math.pi * t / 2)))
    assert_close(log_snr(flow, t), 2 * torch.log((1 - t) / t))
    assert_close(log_snr(flow, torch.tensor(0.25)), torch.tensor(9.0).log())


def test_between_its_steps_a_table_is_the_geometric_mean():
    schedule = schedules.from_betas(torch.tensor([0.1, 0.2]))
    assert_close(schedule.alpha(torch.tensor([0.25, 0.75], dtype=torch.float64)) ** 2,
                 torch.tensor([0.9**0.5, 0.9 * 0.8**0.5], dtype=torch.float64), rtol=1e-6, atol=0)


@ALL
def test_add_noise_has_the_right_moments(schedule):
    n, t = 200_000, torch.tensor([0.1, 0.5, 0.9])
    noise = torch.randn(3, n, generator=torch.Generator().manual_seed(0))
    x = add_noise(schedule, torch.full((3, n), 0.7), noise, t)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    assert ((x.mean(1) - 0.7 * alpha).abs() < 4 * sigma / n**0.5).all()        # four standard errors
    assert ((x.std(1) / sigma - 1).abs() < 4 / (2 * n) ** 0.5).all()


@ALL
def test_one_jump_equals_many_small_steps(schedule):
    """q(x_t | x_s) composed, scale by a ratio and add the missing variance: mean and variance at any t."""
    mean, variance = 1.0, 0.0
    for s, t in zip(STEPS[:-1], STEPS[1:], strict=True):
        ratio = schedule.alpha(t) / schedule.alpha(s)
        fresh = schedule.sigma(t) ** 2 - ratio**2 * schedule.sigma(s) ** 2
        mean, variance = mean * ratio, variance * ratio**2 + fresh
        if t < 0.999:   # at 1 flow's and cosine's signal is 0
            assert_close(mean, schedule.alpha(t), rtol=1e-6, atol=1e-9)
            assert_close(variance, schedule.sigma(t) ** 2, rtol=1e-6, atol=1e-9)


def test_add_noise_takes_a_time_each():
    data, noise = (torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    t = torch.tensor([0.0, 0.3, 0.6, 1.0])
    x = add_noise(flow, data, noise, t)
    for i in range(4):
        assert_close(x[i], add_noise(flow, data[i], noise[i], t[i].item()))
    assert torch.equal(x[0], data[0]) and torch.equal(x[3], noise[3])


def test_expand_broadcasts_over_whatever_follows_the_batch():
    t = torch.tensor([0.1, 0.2])
    assert expand(t, torch.zeros(2, 3, 4, 4)).shape == (2, 1, 1, 1)
    assert expand(t, torch.zeros(2, 5)).shape == (2, 1)
    assert expand(0.5, torch.zeros(2, 5)).shape == ()


def test_time_grid():
    assert_close(time_grid(4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))
    assert_close(time_grid(2, 0.6, 0.2), torch.tensor([0.6, 0.4, 0.2]))
    assert time_grid(1).tolist() == [1, 0] and len(time_grid(1000)) == 1001
    with pytest.raises(Exception, match="at least 1"):
        time_grid(0)


# grids: each goes from 1 to 0 in n steps

GRIDS = pytest.mark.parametrize("grid", [
    lambda schedule, n: time_grid(n), log_snr_grid, karras_grid, lambda schedule, n: shift(time_grid(n))],
    ids=["uniform", "log-SNR", "Karras", "shift"])


@GRIDS
@ALL
def test_every_grid_goes_from_noise_to_data(schedule, grid):
    for n in 1, 2, 3, 20, 1000:
        ts = grid(schedule, n)
        assert ts.shape == (n + 1,) and ts.dtype == torch.float32 and ts[0] == 1 and ts[-1] == 0
        assert (ts.diff() < 0).all()
    with pytest.raises(Exception, match="at least 1"):
        grid(schedule, 0)


def ratio(schedule, t):
    return schedule.sigma(t.double()) / schedule.alpha(t.double())


@ALL
def test_steps_equal_in_log_snr(schedule):
    h = log_snr(schedule, log_snr_grid(schedule, 20).double())[1:-1].diff()
    assert_close(h, h.mean().expand(18), rtol=1e-3, atol=0)
    assert_close(ratio(schedule, log_snr_grid(schedule, 20, low=0.1))[-2].item(), 0.1, rtol=1e-4, atol=0)


@ALL
def test_karras_steps_are_equal_in_the_seventh_root(schedule):
    roots = ratio(schedule, karras_grid(schedule, 20))[1:-1] ** (1 / 7)
    assert_close(roots.diff(), roots.diff().mean().expand(18), rtol=1e-3, atol=0)
    assert_close(roots[-1].item(), 0.002 ** (1 / 7), rtol=1e-4, atol=0)
    highest = min(80, ratio(schedule, torch.tensor(1.0)).item())
    assert_close((roots[0] - roots.diff()[0]).item(), highest ** (1 / 7), rtol=1e-4, atol=0)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")      # diffusers' own
def test_karras_steps_equal_diffusers():
    reference = pytest.importorskip("diffusers.schedulers.scheduling_euler_discrete")
    theirs = reference.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, use_karras_sigmas=True,
                                              beta_schedule="scaled_linear")
    theirs.set_timesteps(20)
    ts = karras_grid(scaled_linear, 20, low=ratio(scaled_linear, torch.tensor(0.001)).item())
    assert_close(ratio(scaled_linear, ts).float(), theirs.sigmas, rtol=1e-3, atol=0)


@ALL
def test_at_ratio_undoes_the_ratio(schedule):
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    assert_close(at_ratio(schedule, ratio(schedule, t)), t, rtol=0, atol=1e-9)
    assert at_ratio(schedule, torch.tensor([0.0, 1e20])).tolist() == pytest.approx([0, 1], abs=1e-9)


def test_a_shift_multiplies_the_ratio():
    ts = time_grid(10)
    assert torch.equal(shift(ts, 1.0), ts)
    assert_close(ratio(flow, shift(ts, 3.0))[1:], 3 * ratio(flow, ts)[1:], rtol=1e-5, atol=0)
    assert_close(shift(shift(ts, 3.0), 1 / 3), ts)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")      # diffusers' own
@pytest.mark.parametrize("offset", [0, 1])
def test_grids_on_a_table_are_diffusers(offset):
    ddim = pytest.importorskip("diffusers.schedulers.scheduling_ddim")
    dpm = pytest.importorskip("diffusers.schedulers.scheduling_dpmsolver_multistep")
    leading = ddim.DDIMScheduler(timestep_spacing="leading", steps_offset=offset)
    linspace = dpm.DPMSolverMultistepScheduler()
    end = 0.001 * offset
    for n in [*range(1, 60), 100, 250, 740, 900]:
        for theirs, ts in (leading, leading_grid(n, offset, end)), (linspace, rounded_grid(n)):
            theirs.set_timesteps(n)
            assert_close(1000 * ts[:-1] - 1, theirs.timesteps.float(), rtol=0, atol=2e-4)
            assert len(ts) == n + 1 and (ts.diff() < 0).all()
            assert_close(ts[-1].item(), end if theirs is leading else 0.0)
    assert (1000 * leading_grid(50, 1) - 1).round()[:3].tolist() == [981, 961, 941]
    for n in 0, 1001:
        with pytest.raises(MinildmError, match="take 1 to 1000"):
            leading_grid(n)


SHIFTED = pytest.mark.parametrize("schedule", [flow, cosine, linear, scaled_linear],
                                  ids=["flow", "cosine", "linear", "scaled linear"])


@SHIFTED
def test_a_shifted_channel_is_less_noisy_by_its_ratio(schedule):
    ratio, t = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0.1, 0.5, 0.9])
    shifted = shift_channels(schedule, ratio)
    assert shifted.base is schedule
    for at in t[0], t[:, None, None, None]:                             # a number, and one a picture
        alpha, sigma = shifted.alpha(at), shifted.sigma(at)
        plain = schedule.sigma(at) / schedule.alpha(at)
        assert_close(sigma / alpha * ratio[:, None, None], plain.expand_as(sigma))
        on_line = schedule is flow
        assert_close(alpha + sigma if on_line else alpha**2 + sigma**2, torch.ones_like(alpha))
    one_each = t[:, None, None, None]
    assert_close(shifted.sigma(one_each)[:, 0, 0, 0], schedule.sigma(t))    # ratio 1 leaves a channel alone
    for end in torch.zeros(()), torch.ones(()):
        assert shifted.alpha(end).shape == (3, 1, 1) and shifted.sigma(end).isfinite().all()
    assert_close(shifted.sigma(torch.zeros(())).flatten(), torch.zeros(3), atol=1e-6, rtol=0)


def test_on_the_line_a_shift_of_channels_is_a_shift_of_time():
    ratio, t = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0.1, 0.5, 0.9])
    x, noise = torch.randn(2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    mixed = add_noise(shift_channels(flow, ratio), x, noise, t)
    assert torch.equal(mixed[:, 2], add_noise(flow, x, noise, shift(t, 1 / ratio[2]))[:, 2])


@SHIFTED
def test_grids_of_a_shifted_schedule_are_its_bases(schedule):
    shifted = shift_channels(schedule, torch.tensor([1.0, 2.0]))
    for grid in karras_grid, log_snr_grid:
        assert torch.equal(grid(shifted, 10), grid(schedule, 10))
    assert schedule.base is schedule
    for t in torch.rand(5), torch.rand(2, 3):
        with pytest.raises(MinildmError, match=r"schedule\.base"):
            shifted.alpha(t)


@SHIFTED
def test_a_schedule_can_be_pickled(schedule):
    t = torch.linspace(0, 1, 7)
    for made in schedule, shift_channels(schedule, torch.tensor([1.0, 2.0])):
        copy = pickle.loads(pickle.dumps(made))
        for one, other in zip(made, copy, strict=True):
            assert torch.equal(one(t[3]), other(t[3]))
    assert torch.equal(pickle.loads(pickle.dumps(schedule)).alpha(t), schedule.alpha(t))
