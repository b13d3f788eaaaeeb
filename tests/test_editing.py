"""Editing on a Gaussian, whose denoiser is exact, and on a network: what is kept, and the way back."""

import pytest
import torch
from support.tensors import random
from torch.testing import assert_close

from minildm import MinildmError
from minildm.diffusion.editing import (
    edit_by_inversion,
    flow_edit,
    img2img,
    inpaint,
    inversion_grid,
    invert,
    remaining_times,
    repaint,
    slerp,
    starts,
    windowed,
)
from minildm.diffusion.samplers import ddim, ddpm, last
from minildm.diffusion.schedules import add_noise, cosine, expand, flow, linear, time_grid

MEAN, STD = 0.7, 0.5
SCHEDULES = pytest.mark.parametrize("schedule", [cosine, linear, flow], ids=["cosine", "linear", "flow"])


def gaussian(schedule, mean=MEAN, std=STD):
    """E[data | x] for data ~ N(mean, std^2)."""
    def denoise(x, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (x - alpha * mean)

    return denoise


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# ---- strength

@SCHEDULES
def test_strength_0_is_the_original_and_1_a_fresh_sample(schedule):
    data, noise, ts = random(2, 3, 4, 4), random(2, 3, 4, 4, seed=1), time_grid(10)
    denoise = gaussian(schedule)
    assert torch.equal(img2img(denoise, schedule, data, noise, ts, 0.0), data)
    fresh = last(ddim(denoise, schedule, noise, ts))
    assert torch.equal(img2img(denoise, schedule, data, noise, ts, 1.0), fresh)


def test_more_strength_keeps_less():
    data, noise = 5 * random(2, 3, 4, 4), random(2, 3, 4, 4, seed=1)
    moved = [(img2img(gaussian(flow), flow, data, noise, time_grid(20), s) - data).norm().item()
             for s in (0.1, 0.3, 0.6, 0.9)]
    assert moved == sorted(moved) and moved[0] < moved[-1] / 3


def test_it_starts_from_the_picture_noised_to_the_strength():
    data, noise, seen = random(1, 2, 4, 4), random(1, 2, 4, 4, seed=1), []

    def denoise(x, t):
        seen.append((x, t))
        return gaussian(cosine)(x, t)

    img2img(denoise, cosine, data, noise, time_grid(10), 0.45)
    assert_close(seen[0][0], add_noise(cosine, data, noise, 0.45))
    assert [round(float(t), 2) for _, t in seen] == [0.45, 0.4, 0.3, 0.2, 0.1]


@pytest.mark.parametrize("strength, times", [(0.5, [0.5, 0.25, 0]), (0.6, [0.6, 0.5, 0.25, 0]), (0, [0]),
                                             (1, [1, 0.75, 0.5, 0.25, 0])])
def test_the_times_that_remain(strength, times):
    assert_close(remaining_times(time_grid(4), strength), torch.tensor(times, dtype=torch.float32))


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan")])
def test_strengths_outside_0_to_1_are_refused(strength):
    with pytest.raises(MinildmError, match="strength"):
        remaining_times(time_grid(4), strength)


# ---- kept parts

@SCHEDULES
@pytest.mark.parametrize("sampler", [ddim, ddpm])
def test_what_is_kept_is_exactly_the_original(schedule, sampler):
    data, noise = random(2, 3, 4, 4), random(2, 3, 4, 4, seed=1)
    keep = torch.zeros(4, 4)
    keep[:, :2] = 1
    drawn = last(sampler(inpaint(gaussian(schedule), data, keep), schedule, noise, time_grid(10)))
    assert_close(drawn[..., :2], data[..., :2], atol=2e-6, rtol=0)
    free = last(sampler(gaussian(schedule), schedule, noise, time_grid(10)))
    assert (drawn[..., 2:] - data[..., 2:]).abs().max() > 0.1
    if sampler is ddim:                             # positions do not see each other in a Gaussian
        assert_close(drawn[..., 2:], free[..., 2:])


def test_repaint_keeps_the_part_and_agrees_with_what_it_sees():
    """Two values that are always equal: the unknown one must become the known one."""
    def denoise(x, t):
        # the two are one N(0, 1): the posterior mean of both
        alpha, sigma = flow.alpha(t), flow.sigma(t)
        mean = x.mean(-1, keepdim=True)
        return (alpha / (alpha**2 + sigma**2 / 2) * mean).expand_as(x)

    data = random(200, 1, 1, 1).expand(200, 1, 1, 2)
    keep, noise = torch.tensor([[1.0, 0.0]]), random(200, 1, 1, 2, seed=1)
    errors = []
    for rounds in (1, 10):
        drawn = last(repaint(denoise, flow, noise, time_grid(20), data, keep, rounds, generator()))
        assert torch.equal(drawn[..., 0], data[..., 0])
        errors.append((drawn[..., 1] - data[..., 1]).square().mean().item())
    assert errors[1] < errors[0] / 2 and errors[1] < 0.1


def test_repaint_without_a_known_part_draws_from_the_distribution():
    noise = random(4000, 1, 1, 1)
    drawn = last(repaint(gaussian(cosine), cosine, noise, time_grid(100), torch.zeros_like(noise),
                         torch.zeros(1, 1), 3, generator(2)))
    assert abs(drawn.mean().item() - MEAN) < 0.03 and abs(drawn.std().item() - STD) < 0.03


@pytest.mark.parametrize("shape", [(5, 4), (3, 1, 4, 4), (1, 1, 1, 4, 4)])
def test_a_mask_that_does_not_fit_is_refused(shape):
    keep = torch.ones(shape)
    with pytest.raises(MinildmError, match="mask"):
        inpaint(gaussian(flow), random(2, 3, 4, 4), keep)


# ---- windows

def test_windows_cover_the_canvas():
    assert starts(8, 8, 4) == [0] and starts(12, 8, 4) == [0, 4] and starts(13, 8, 4) == [0, 4, 5]
    for length, size, stride in ((7, 8, 4), (12, 8, 9), (12, 8, 0)):
        with pytest.raises(MinildmError, match="windows"):
            starts(length, size, stride)


def test_where_positions_do_not_see_each_other_windows_change_nothing():
    def denoiser(x, t, context):
        return gaussian(flow)(x, expand(t, x)) + context[:, None, None, None]

    x, context = random(2, 3, 12, 20), torch.tensor([0.0, 5.0])
    for t in torch.tensor(0.4), torch.tensor([0.4, 0.4]):
        assert_close(windowed(denoiser, 8, 3)(x, t, context), denoiser(x, 0.4 * torch.ones(()), context))


def test_overlaps_are_averaged_and_each_window_may_have_its_context():
    def denoiser(x, t, context):
        return context[:, None, None, None].expand_as(x)

    x = torch.zeros(1, 1, 4, 6)
    out = windowed(denoiser, 4, 2)(x, torch.tensor(0.5), torch.tensor([1.0, 3.0]))
    assert out[0, 0, 0].tolist() == [1, 1, 2, 2, 3, 3]


# ---- backwards

@SCHEDULES
def test_inversion_by_fixed_points_comes_back_and_the_plain_one_misses(schedule):
    data, ts, denoise = random(4, 3, 4, 4), inversion_grid(20), gaussian(schedule)
    errors = {}
    for sweeps in (0, 30):
        noise = last(invert(denoise, schedule, data, ts, sweeps))
        back = last(ddim(denoise, schedule, noise, ts))
        errors[sweeps] = (back - data).abs().max().item()
    assert errors[30] < 1e-4 and errors[0] > 20 * errors[30]


@SCHEDULES
def test_inversion_finds_the_noise_of_a_sample(schedule):
    ts, noise, denoise = inversion_grid(50), random(4, 3, 4, 4), gaussian(schedule)
    data = last(ddim(denoise, schedule, noise, ts))
    assert_close(last(invert(denoise, schedule, data, ts, 30)), noise, atol=2e-3, rtol=0)


def test_the_plain_error_shrinks_with_the_steps():
    data, denoise, errors = random(4, 3, 4, 4), gaussian(flow), []
    for n in (20, 40, 80):
        ts = inversion_grid(n)
        back = last(ddim(denoise, flow, last(invert(denoise, flow, data, ts)), ts))
        errors.append((back - data).norm().item())
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2]


def test_its_steps_go_from_data_to_noise():
    ts = inversion_grid(4)
    steps = list(invert(gaussian(flow), flow, random(1, 1, 2, 2), ts))
    assert [step.t.item() for step in steps] == ts[:-1].flip(0).tolist()
    assert [step.i for step in steps] == [0, 1, 2, 3]


def test_a_grid_that_ends_at_the_data_is_refused():
    with pytest.raises(MinildmError, match="inversion_grid"):
        last(invert(gaussian(flow), flow, random(1, 1, 2, 2), time_grid(4)))


# ---- to another prompt

def edits_of(data, source, target):
    """The two ways from one distribution to another."""
    by_noise = edit_by_inversion(source, target, flow, data, inversion_grid(50), 30)
    steps = flow_edit(source, target, flow, data, time_grid(50), draws=20, generator=generator())
    by_difference = last(steps)
    return by_noise, by_difference


def test_the_same_prompt_changes_nothing():
    data, denoise = random(4, 3, 4, 4), gaussian(flow)
    by_noise, by_difference = edits_of(data, denoise, denoise)
    assert_close(by_noise, data, atol=1e-4, rtol=0)
    assert torch.equal(by_difference, data)


def test_another_mean_moves_each_picture_by_the_difference_and_keeps_its_place():
    data = MEAN + STD * random(500, 1, 2, 2)
    moved = edits_of(data, gaussian(flow), gaussian(flow, mean=-1.0))
    for drawn in moved:
        assert_close(drawn - data, torch.full_like(data, -1.0 - MEAN), atol=0.1, rtol=0)


def test_flow_edit_at_strength_0_and_on_another_schedule():
    data, denoise = random(2, 1, 2, 2), gaussian(flow)
    assert not list(flow_edit(denoise, gaussian(flow, -1.0), flow, data, time_grid(5), strength=0.0))
    with pytest.raises(MinildmError, match="straight"):
        last(flow_edit(gaussian(cosine), gaussian(cosine), cosine, data, time_grid(5)))


# ---- between two noises

def test_slerp_keeps_the_length_and_ends_at_both():
    a, b = random(3, 4, 8, 8), random(3, 4, 8, 8, seed=1)
    assert_close(slerp(a, b, 0.0), a)
    assert_close(slerp(a, b, 1.0), b)
    middle = slerp(a, b, 0.5).flatten(1).norm(dim=1)
    assert (middle / a.flatten(1).norm(dim=1) - 1).abs().max() < 0.1
    assert ((a + b) / 2).flatten(1).norm(dim=1).max() < 0.8 * middle.min()
    assert_close(slerp(a, a, 0.3), a)                       # no arc, and no NaN
