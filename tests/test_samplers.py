"""Samplers on a Gaussian, whose denoiser is known exactly: order of convergence, moments; and diffusers."""

import pytest
import torch
from test_layers import random
from torch.testing import assert_close

from minildm.denoiser import to_x0
from minildm.samplers import ddim, ddpm, last
from minildm.schedules import Schedule, cosine, flow, linear, scaled_linear, time_grid

SCHEDULES = pytest.mark.parametrize("schedule", [cosine, linear, flow], ids=["cosine", "linear", "flow"])
MEAN, STD = 0.7, 0.5


def gaussian(schedule: Schedule):
    """E[data | x] for data ~ N(MEAN, STD^2): the exact denoiser."""
    def denoise(x, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x - alpha * MEAN)

    return denoise


def end_of_the_flow(schedule: Schedule, noise, t=1.0):
    """Where the probability flow takes x_t: it keeps the distance to the mean in standard deviations."""
    alpha, sigma = schedule.alpha(torch.tensor(t)), schedule.sigma(torch.tensor(t))
    return MEAN + STD * (noise - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2).sqrt()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# a generator of steps

@pytest.mark.parametrize("sampler", [ddpm, ddim])
def test_each_step_tells_where_it_is(sampler):
    asked, ts = [], time_grid(5)

    def denoise(x, t):
        asked.append((x, t))
        return gaussian(cosine)(x, t)

    noise = random(2, 3, 4, 4)
    steps = sampler(denoise, cosine, noise, ts, generator=generator())
    assert not asked                                        # nothing happens before it is asked for
    first = next(steps)
    assert len(asked) == 1 and torch.equal(asked[0][0], noise)
    steps = [first, *steps]
    assert [step.i for step in steps] == [0, 1, 2, 3, 4]
    assert torch.equal(torch.stack([step.t for step in steps]), ts[1:])
    assert torch.equal(torch.stack([t for _, t in asked]), ts[:-1])
    for step, (x, t) in zip(steps, asked, strict=True):
        assert torch.equal(step.x0, gaussian(cosine)(x, t)) and step.x.shape == noise.shape
    for step, (x, _) in zip(steps, asked[1:], strict=False):
        assert torch.equal(step.x, x)
    assert torch.equal(last(sampler(gaussian(cosine), cosine, noise, ts, generator=generator())), steps[-1].x)


@SCHEDULES
def test_one_step_is_the_denoisers_answer(schedule):
    noise = random(2, 3, 4, 4)
    for sampler in ddpm, ddim:
        assert_close(last(sampler(gaussian(schedule), schedule, noise, time_grid(1))),
                     gaussian(schedule)(noise, torch.tensor(1.0)))


# ddim

@SCHEDULES
def test_halving_ddims_step_halves_its_error(schedule):
    noise = random(1000)
    exact = end_of_the_flow(schedule, noise)
    errors = [(last(ddim(gaussian(schedule), schedule, noise, time_grid(n))) - exact).abs().mean()
              for n in (20, 40, 80, 160)]
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert 1.8 < coarse / fine < 2.2
    thousand = last(ddim(gaussian(schedule), schedule, noise, time_grid(1000)))
    assert (thousand - exact).abs().max() < 0.02


@SCHEDULES
def test_ddim_can_start_in_the_middle(schedule):
    x = random(1000)
    found = last(ddim(gaussian(schedule), schedule, x, time_grid(200, start=0.6)))
    assert_close(found, end_of_the_flow(schedule, x, 0.6), rtol=0, atol=0.02)


def test_on_the_flow_schedule_ddim_is_euler():
    x, ts, denoise = random(100), time_grid(7), gaussian(flow)
    steps = ddim(denoise, flow, x, ts)
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        velocity = (x - denoise(x, t)) / t          # noise - data
        x = x + (s - t) * velocity
        assert_close(next(steps).x, x, rtol=0, atol=1e-6)


# ddpm

@SCHEDULES
@pytest.mark.parametrize("eta", [None, 0.5, 1.0])
def test_samples_are_distributed_like_the_data(schedule, eta):
    n, ts = 20_000, time_grid(400)
    args = gaussian(schedule), schedule, torch.randn(n, generator=generator(1)), ts
    x = last(ddpm(*args, generator()) if eta is None else ddim(*args, eta, generator()))
    assert_close(x.mean().item(), MEAN, rtol=0, atol=0.015)
    assert_close(x.std().item(), STD, rtol=0, atol=0.015)


@SCHEDULES
@pytest.mark.parametrize("eta", [None, 0.3, 1.0])
def test_a_step_with_the_true_x0_keeps_the_marginals(schedule, eta):
    """From x_t = alpha_t x0 + sigma_t noise, x_s must be N(alpha_s x0, sigma_s^2), whatever s < t and eta."""
    n, x0 = 40_000, 0.8
    for t, s in (1.0, 0.6), (0.5, 0.4), (0.3, 0.05):
        ts = torch.tensor([t, s])
        x = schedule.alpha(ts[0]) * x0 + schedule.sigma(ts[0]) * torch.randn(n, generator=generator(1))
        args = lambda x, t: torch.full_like(x, x0), schedule, x, ts
        x = last(ddpm(*args, generator=generator()) if eta is None else ddim(*args, eta, generator()))
        assert_close(x.mean(), schedule.alpha(ts[1]) * x0, rtol=0, atol=5 / n**0.5)
        assert_close(x.std(), schedule.sigma(ts[1]), rtol=5 / (2 * n) ** 0.5, atol=0)


def test_thousand_ddpm_steps():
    noise = torch.randn(10_000, generator=generator(1))
    x = last(ddpm(gaussian(linear), linear, noise, time_grid(1000), generator()))
    assert abs(x.mean() - MEAN) < 0.02 and abs(x.std() - STD) < 0.015


@SCHEDULES
def test_ddim_with_eta_1_is_ddpm(schedule):
    noise, ts = random(2, 3, 4, 4), time_grid(20)
    a = ddpm(gaussian(schedule), schedule, noise, ts, generator())
    b = ddim(gaussian(schedule), schedule, noise, ts, 1.0, generator())
    for x, y in zip(a, b, strict=True):
        assert_close(x.x, y.x, rtol=0, atol=2e-5)


def test_samples_depend_on_the_generator_alone():
    noise, ts = random(100), time_grid(10)
    args = gaussian(cosine), cosine, noise, ts
    for draw in (lambda seed: ddpm(*args, generator(seed))), (lambda seed: ddim(*args, 0.5, generator(seed))):
        a, b, c = (last(draw(seed)) for seed in (0, 0, 1))
        assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(last(ddim(*args)), last(ddim(*args)))        # eta 0 draws nothing


# diffusers: index i of its table of 1000 betas is our t = (i + 1) / 1000

def eps_network(alpha_bar, seed=0):
    """What is exact for data ~ N(0, 1), plus a small random network of x and i."""
    w1, w2 = random(32, 3, 3, 3, seed=seed) / 5, random(3, 32, 3, 3, seed=seed + 1) / 17

    def eps(x, i):
        h = torch.conv2d(x, w1, padding=1) + torch.sin(torch.arange(32) * i / 300)[:, None, None]
        return (1 - alpha_bar[i]).sqrt() * x + 0.1 * torch.conv2d(h.tanh(), w2, padding=1)

    return eps


def compare(theirs, schedule, sampler, end, **extra):
    """Both samplers on the same network and noise agree after every one of 50 steps; returns our grid."""
    theirs.set_timesteps(50)
    theirs.alphas_cumprod = (1 - theirs.betas.double()).cumprod(0)     # in float32 1 - alpha_bar loses digits
    eps, x = eps_network(theirs.alphas_cumprod), random(2, 3, 8, 8)
    ts = torch.tensor([(i + 1) / 1000 for i in theirs.timesteps.tolist()] + [end])

    def denoise(x, t):
        prediction = eps(x, round(1000 * t.item()) - 1)
        return to_x0("eps", prediction, x, schedule.alpha(t), schedule.sigma(t))

    g = generator()
    found = list(sampler(denoise, schedule, x, ts, generator=generator()))
    assert found[-1].x.std() > 0.1
    for i, step in zip(theirs.timesteps, found, strict=True):
        x = theirs.step(eps(x, i.item()), i, x, generator=g, **extra).prev_sample
        assert_close(step.x, x, rtol=0, atol=1e-5)
    return ts


LINEAR = dict(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False)
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
SPACING = pytest.mark.parametrize("spacing", ["leading", "trailing"])


@SPACING
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddim_equals_diffusers(spacing, eta):
    reference = pytest.importorskip("diffusers.schedulers.scheduling_ddim")
    theirs = reference.DDIMScheduler(**LINEAR, timestep_spacing=spacing, set_alpha_to_one=True)
    ts = compare(theirs, linear, lambda *a, generator: ddim(*a, eta, generator), end=0.0, eta=eta)
    if spacing == "trailing":       # diffusers' name for our grid
        assert_close(ts, time_grid(50))


def test_ddim_equals_diffusers_in_stable_diffusions_settings():
    reference = pytest.importorskip("diffusers.schedulers.scheduling_ddim")
    theirs = reference.DDIMScheduler(**SD, timestep_spacing="leading", set_alpha_to_one=False, steps_offset=1)
    compare(theirs, scaled_linear, ddim, end=0.001)     # its last step ends at alpha_bar[0], not at the data
    assert theirs.timesteps[[0, 1, -2, -1]].tolist() == [981, 961, 21, 1]


@SPACING
def test_ddpm_equals_diffusers(spacing):
    reference = pytest.importorskip("diffusers.schedulers.scheduling_ddpm")
    compare(reference.DDPMScheduler(**LINEAR, timestep_spacing=spacing), linear, ddpm, end=0.0)
