"""Samplers on a Gaussian, whose denoiser is known exactly: order of convergence, moments; and diffusers."""

import functools
import inspect

import pytest
import torch
from support.tensors import random
from torch.testing import assert_close

from minildm import MinildmError
from minildm.diffusion.denoiser import to_x0
from minildm.diffusion.samplers import ddim, ddpm, dpmpp_2m, dpmpp_2m_sde, euler, heun, last
from minildm.diffusion.schedules import (
    Schedule,
    add_noise,
    cosine,
    flow,
    linear,
    log_snr_grid,
    rounded_grid,
    scaled_linear,
    shift,
    shift_channels,
    time_grid,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")      # diffusers' own

DETERMINISTIC, DRAWING = [ddim, euler, heun, dpmpp_2m], [ddpm, dpmpp_2m_sde]
SAMPLERS = pytest.mark.parametrize("sampler", DETERMINISTIC + DRAWING, ids=lambda f: f.__name__)
FOLLOWING = pytest.mark.parametrize("sampler", DETERMINISTIC, ids=lambda f: f.__name__)
SCHEDULES = pytest.mark.parametrize("schedule", [cosine, linear, flow], ids=["cosine", "linear", "flow"])
EVERY = pytest.mark.parametrize("schedule", [cosine, linear, scaled_linear, flow],
                                ids=["cosine", "linear", "scaled linear", "flow"])
MEAN, STD = 0.7, 0.5


def gaussian(schedule: Schedule):
    """E[data | x] for data ~ N(MEAN, STD^2): the exact denoiser."""
    def denoise(x, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x - alpha * MEAN)

    return denoise


def marginal(schedule: Schedule, t):
    """Mean and standard deviation of x_t."""
    alpha, sigma = (part(torch.as_tensor(t, dtype=torch.float64)) for part in schedule)
    return alpha * MEAN, (alpha**2 * STD**2 + sigma**2).sqrt()


def end_of_the_flow(schedule: Schedule, x, t=1.0, end=0.0):
    """Where the probability flow takes x_t: it keeps the distance to the mean in standard deviations."""
    (mean, std), (mean_end, std_end) = marginal(schedule, t), marginal(schedule, end)
    return (mean_end + std_end * (x - mean) / std).to(x.dtype)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# a generator of steps

@SAMPLERS
def test_each_step_tells_where_it_is(sampler):
    asked, ts = [], time_grid(5)

    def denoise(x, t):
        asked.append((x, t))
        return gaussian(cosine)(x, t)

    noise = random(2, 3, 4, 4)
    x, steps = noise, sampler(denoise, cosine, noise, ts, **generator_of(sampler))
    assert not asked                                        # nothing happens before it is asked for
    for i, step in enumerate(steps):
        assert step.i == i and step.t == ts[i + 1] and step.x.shape == noise.shape
        assert torch.equal(asked[0][0], x) and asked[0][1] == ts[i]
        assert torch.equal(step.x0, gaussian(cosine)(x, ts[i]))
        assert len(asked) == (2 if sampler is heun and i < 4 else 1)
        x = step.x
        asked.clear()
    assert i == 4
    again = sampler(gaussian(cosine), cosine, noise, ts, **generator_of(sampler))
    assert torch.equal(last(again), x)


def generator_of(sampler):
    return {"generator": generator()} if sampler in DRAWING else {}


@SAMPLERS
def test_no_graph_of_the_steps_is_kept_unless_it_is_asked_for(sampler):
    weight = torch.tensor(0.5, requires_grad=True)
    noise, ts = random(2, 3, 4, 4), time_grid(4)

    def draw(**words):
        return sampler(lambda x, t: weight * x, cosine, noise, ts, **generator_of(sampler), **words)

    for step in draw():
        assert not step.x.requires_grad and not step.x0.requires_grad
        assert torch.is_grad_enabled()                      # between steps the caller's own mode is back
    found, same = last(draw()), last(draw(differentiable=True))
    assert torch.equal(found, same) and same.requires_grad
    slope, = torch.autograd.grad(same.sum(), weight)
    with torch.no_grad():                                   # the slope is that of the whole trajectory
        weight += 1e-3
        above = last(draw()).sum()
        weight -= 2e-3
        below = last(draw()).sum()
    assert_close(slope, (above - below) / 2e-3, rtol=1e-2, atol=1e-3)


@SAMPLERS
@EVERY
def test_a_time_that_repeats_is_no_step(schedule, sampler):
    noise, ts = random(2, 3, 4, 4), time_grid(4)
    twice = ts[torch.tensor([0, 0, 1, 2, 2, 2, 3, 4, 4])]
    plain = list(sampler(gaussian(schedule), schedule, noise, ts, **generator_of(sampler)))
    found = list(sampler(gaussian(schedule), schedule, noise, twice, **generator_of(sampler)))
    assert [step.i for step in found] == [0, 1, 2, 3]
    for a, b in zip(plain, found, strict=True):
        assert torch.equal(a.x, b.x) and a.t == b.t
    with pytest.raises(MinildmError, match="no step"):
        last(sampler(gaussian(schedule), schedule, noise, ts[:1].expand(3)))


def test_a_thousand_steps_of_a_published_schedule_end_at_the_data():
    ts, x = rounded_grid(1000), random(200)
    assert (ts.diff() == 0).any()                           # the grid that diffusers makes repeats a time
    found = last(dpmpp_2m(gaussian(scaled_linear), scaled_linear, x, ts))
    assert_close(found, end_of_the_flow(scaled_linear, x, ts[0].double()), rtol=0, atol=0.02)


@SAMPLERS
def test_times_too_near_to_tell_apart_are_no_nan(sampler):
    ts = torch.tensor([1.0, 1 - 2**-24, 0.5, 0.5 - 2**-25, 0.0])
    found = last(sampler(gaussian(cosine), cosine, random(50), ts, **generator_of(sampler)))
    assert found.isfinite().all()


DRAWS = [ddpm, functools.partial(ddim, eta=0.5), functools.partial(dpmpp_2m, eta=0.5), dpmpp_2m_sde]


@pytest.mark.parametrize("sampler", DRAWS, ids=["ddpm", "ddim", "dpmpp_2m", "dpmpp_2m_sde"])
def test_the_caller_may_draw_the_noise_of_each_step(sampler):
    """So that picture k has its own, whatever is drawn beside it."""
    ts = time_grid(6)
    own = [[torch.randn(3, 4, 4, generator=generator(100 * k + i)) for i in range(6)] for k in range(5)]

    def draw(some):
        asked = []

        def noise_sampler(i):
            asked.append(i)
            return torch.stack([own[k][i] for k in some])

        noise = torch.stack([random(3, 4, 4, seed=k) for k in some])
        x = last(sampler(gaussian(cosine), cosine, noise, ts, noise_sampler=noise_sampler))
        assert asked == list(range(6))
        return x

    together = draw(range(5))
    assert torch.equal(together, draw(range(5)))
    assert_close(together[2:4], draw([2, 3]))
    noise = torch.stack([random(3, 4, 4, seed=k) for k in range(5)])
    first, second = (last(sampler(gaussian(cosine), cosine, noise, ts, generator=generator(seed)))
                     for seed in (0, 1))
    assert (first - second).abs().max() > 0.1               # by default the generator draws it


@SAMPLERS
@pytest.mark.parametrize("schedule", [flow, shift_channels(flow, torch.tensor([1.0, 2.0])),
                                      shift_channels(linear, torch.tensor([1.0, 2.0]))],
                         ids=["flow", "shifted flow", "shifted linear"])
def test_times_may_be_the_cpus_wherever_the_sample_is(schedule, sampler):
    noise = torch.empty(3, 2, 4, 4, device="meta")          # a device that the CPU's arrays don't mix with
    assert last(sampler(lambda x, t: x / 2, schedule, noise, time_grid(4))).device.type == "meta"


@SAMPLERS
def test_a_sampler_fits_on_a_screen(sampler):
    assert len(inspect.getsource(sampler).splitlines()) <= 25


@SAMPLERS
@EVERY
def test_one_step_is_the_denoisers_answer(schedule, sampler):
    noise = random(2, 3, 4, 4)
    assert_close(last(sampler(gaussian(schedule), schedule, noise, time_grid(1))),
                 gaussian(schedule)(noise, torch.tensor(1.0)))


# order of convergence, in float64: towards the data, and to a time at which there is noise left

def errors_of(sampler, schedule, grids):
    """Mean distance from the exact end, for each grid."""
    x = random(200).double()
    return [(last(sampler(gaussian(schedule), schedule, x, ts.double()))
             - end_of_the_flow(schedule, x, end=ts[-1].double())).abs().mean().item() for ts in grids]


def moment_errors(sampler, schedule, grids, monkeypatch):
    """What a sampler that draws gets wrong of the standard deviation, for each grid, exactly.

    A sample is linear in all noises when the denoiser is: sample k has noise 1 at step k alone, the last but
    one in the beginning alone, the last none. It begins where the schedule does: a table has data left there.
    """
    errors = []
    for ts in grids:
        draws = iter(torch.eye(len(ts) - 1, len(ts) + 1, dtype=torch.float64))
        monkeypatch.setattr(torch, "randn", lambda *args, draws=draws, **kwargs: next(draws))
        mean, std = marginal(schedule, ts[0].double())
        x = mean + std * torch.eye(len(ts) + 1, dtype=torch.float64)[-2]
        x = last(sampler(gaussian(schedule), schedule, x, ts.double()))
        mean, std = marginal(schedule, ts[-1].double())
        assert_close(x[-1], mean, rtol=0, atol=1e-4)
        errors.append(((x[:-1] - x[-1]).square().sum().sqrt() - std).abs().item())
    return errors


ORDERS = pytest.mark.parametrize("order, sampler", [(1, ddim), (1, euler), (2, heun), (2, dpmpp_2m),
                                                    (1, ddpm), (2, dpmpp_2m_sde)])


@ORDERS
@EVERY
@pytest.mark.parametrize("to_data", [True, False], ids=["to data", "to t = 0.05"])
def test_halving_the_step_divides_the_error_by_2_to_the_order(order, sampler, schedule, to_data, monkeypatch):
    grids = [log_snr_grid(schedule, n) if to_data else time_grid(n, end=0.05) for n in (40, 80, 160)]
    measure = moment_errors if sampler in DRAWING else errors_of
    errors = measure(sampler, schedule, grids, *[monkeypatch] * (sampler in DRAWING))
    assert errors[-1] < (0.02 if order == 1 else 1e-3)
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert 2 ** (order - 0.25) < coarse / fine < 2 ** (order + 0.25)


def test_at_the_data_a_table_spoils_the_order_of_equal_steps():
    """There sigma is the root of t: the last step is too long. Steps that shrink towards the data mend it."""
    for power, better, worse in (1, 2.2, 1.8), (2, 4.5, 3.5):
        coarse, fine = errors_of(heun, scaled_linear, [time_grid(80)**power, time_grid(160)**power])
        assert worse < coarse / fine < better


@SAMPLERS
@pytest.mark.parametrize("schedule", [linear, scaled_linear], ids=["linear", "scaled linear"])
def test_as_many_steps_as_the_table_has(schedule, sampler, monkeypatch):
    measure = moment_errors if sampler in DRAWING else errors_of
    error, = measure(sampler, schedule, [time_grid(1000)], *[monkeypatch] * (sampler in DRAWING))
    assert error < 5e-3


@FOLLOWING
@SCHEDULES
def test_a_sampler_can_start_in_the_middle(schedule, sampler):
    x = random(1000)
    found = last(sampler(gaussian(schedule), schedule, x, time_grid(200, start=0.6)))
    assert_close(found, end_of_the_flow(schedule, x, 0.6), rtol=0, atol=0.02)


@FOLLOWING
@SCHEDULES
def test_when_the_denoiser_knows_the_data_every_step_stays_on_the_path(schedule, sampler):
    data, noise = random(50).double(), random(50, seed=1).double()
    ts = time_grid(6).double()
    start = add_noise(schedule, data, noise, ts[0])
    for step in sampler(lambda x, t: data, schedule, start, ts):
        assert_close(step.x, add_noise(schedule, data, noise, step.t), rtol=0, atol=1e-6)


# ddim

@pytest.mark.parametrize("sampler", [ddim, euler])
def test_on_the_flow_schedule_ddim_is_euler(sampler):
    x, ts, denoise = random(100).double(), time_grid(7).double(), gaussian(flow)
    steps = sampler(denoise, flow, x, ts)
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        velocity = (x - denoise(x, t)) / t          # noise - data
        x = x + (s - t) * velocity
        assert_close(next(steps).x, x, rtol=0, atol=1e-14)


# euler, heun, dpmpp_2m in the forms of their papers

@pytest.mark.parametrize("schedule", [cosine, linear, scaled_linear], ids="cosine linear scaled".split())
def test_euler_is_k_diffusions(schedule):
    """y' = y + (y - x0) / s (s' - s), with y = x / alpha and s = sigma / alpha."""
    x, ts, denoise = random(100).double(), time_grid(7, start=0.98).double(), gaussian(schedule)
    s = schedule.sigma(ts) / schedule.alpha(ts)
    y, steps = x / schedule.alpha(ts[0]), euler(denoise, schedule, x, ts)
    for i, step in enumerate(steps):
        y = y + (y - denoise(schedule.alpha(ts[i]) * y, ts[i])) / s[i] * (s[i + 1] - s[i])
        assert_close(step.x / schedule.alpha(step.t), y, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", [flow, Schedule(torch.ones_like, lambda t: 80 * t**2)],
                         ids=["flow", "Karras"])
def test_heun_is_the_textbooks(schedule):
    """On the straight path in t with velocity noise - data; with alpha = 1 Karras et al.'s algorithm 1."""
    ts, denoise = time_grid(7).double(), gaussian(schedule)
    x, u = schedule.sigma(ts[0]) * random(100).double(), schedule.sigma(ts)

    def slope(x, i):        # dx / d sigma, sigma being t on the straight path
        x0 = denoise(x, ts[i])
        return (x - schedule.alpha(ts[i]) * x0) / u[i] - (x0 if schedule is flow else 0)

    for i, step in enumerate(heun(denoise, schedule, x, ts)):
        first = slope(x, i)
        end = x + (u[i + 1] - u[i]) * first
        x = end if i == 6 else x + (u[i + 1] - u[i]) * (first + slope(end, i + 1)) / 2
        assert_close(step.x, x, rtol=1e-12, atol=1e-12)


@SCHEDULES
def test_dpmpp_2m_is_the_papers(schedule):
    """x' = sigma' / sigma x - alpha' (e^-h - 1) D,  D = (1 + 1 / 2r) x0 - 1 / 2r x0_before (algorithm 2)."""
    ts = time_grid(9, start=0.98, end=0.02).double()
    x, lam, before = random(100).double(), (schedule.alpha(ts) / schedule.sigma(ts)).log(), None
    for i, step in enumerate(dpmpp_2m(gaussian(schedule), schedule, x, ts)):
        x0, h = gaussian(schedule)(x, ts[i]), lam[i + 1] - lam[i]
        ahead = x0
        if i > 0:
            r = (lam[i] - lam[i - 1]) / h
            ahead = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before
        x = (schedule.sigma(ts[i + 1]) / schedule.sigma(ts[i]) * x
             - schedule.alpha(ts[i + 1]) * (torch.exp(-h) - 1) * ahead)
        before = x0
        assert_close(step.x, x, rtol=1e-10, atol=1e-10)


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
    for draw in (lambda seed: ddpm(*args, generator(seed)), lambda seed: ddim(*args, 0.5, generator(seed)),
                 lambda seed: dpmpp_2m_sde(*args, generator(seed))):
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


def compare(theirs, schedule, sampler, end, scaled=False, n=50, **extra):
    """Both samplers on the same network and noise agree after every one of n steps; returns our grid.

    scaled: their sample is x / alpha.
    """
    theirs.alphas_cumprod = (1 - theirs.betas.double()).cumprod(0)     # in float32 1 - alpha_bar loses digits
    theirs.set_timesteps(n)
    eps, x = eps_network(theirs.alphas_cumprod), random(2, 3, 8, 8)
    ts = torch.tensor([(i + 1) / 1000 for i in theirs.timesteps.tolist()] + [end])

    def denoise(x, t):
        prediction = eps(x, round(1000 * t.item()) - 1)
        return to_x0("eps", prediction, x, schedule.alpha(t), schedule.sigma(t))

    g = generator()
    found = list(sampler(denoise, schedule, x, ts, generator()))
    assert found[-1].x.std() > 0.1
    unit = schedule.alpha(ts) if scaled else torch.ones(n + 1)
    x = x / unit[0]
    for k, (i, step) in enumerate(zip(theirs.timesteps, found, strict=True)):
        x = theirs.step(eps(x * unit[k], int(i)), i, x, generator=g, **extra).prev_sample
        assert_close(step.x, x * unit[k + 1], rtol=0, atol=1e-5)
    return ts


LINEAR = dict(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False)
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
SPACING = pytest.mark.parametrize("spacing", ["leading", "trailing"])


@SPACING
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddim_equals_diffusers(spacing, eta):
    reference = pytest.importorskip("diffusers.schedulers.scheduling_ddim")
    theirs = reference.DDIMScheduler(**LINEAR, timestep_spacing=spacing, set_alpha_to_one=True)
    ts = compare(theirs, linear, lambda *a: ddim(*a[:4], eta, a[4]), end=0.0, eta=eta)
    if spacing == "trailing":       # diffusers' name for our grid
        assert_close(ts, time_grid(50))


def test_ddim_equals_diffusers_in_stable_diffusions_settings():
    reference = pytest.importorskip("diffusers.schedulers.scheduling_ddim")
    theirs = reference.DDIMScheduler(**SD, timestep_spacing="leading", set_alpha_to_one=False, steps_offset=1)
    # its last step ends at alpha_bar[0], not at the data
    compare(theirs, scaled_linear, lambda *a: ddim(*a[:4]), end=0.001)
    assert theirs.timesteps[[0, 1, -2, -1]].tolist() == [981, 961, 21, 1]


@SPACING
def test_ddpm_equals_diffusers(spacing):
    reference = pytest.importorskip("diffusers.schedulers.scheduling_ddpm")
    compare(reference.DDPMScheduler(**LINEAR, timestep_spacing=spacing), linear, ddpm, end=0.0)


@SPACING
def test_euler_equals_diffusers(spacing):
    reference = pytest.importorskip("diffusers.schedulers.scheduling_euler_discrete")
    theirs = reference.EulerDiscreteScheduler(**{k: v for k, v in SD.items() if k != "clip_sample"},
                                              timestep_spacing=spacing)
    compare(theirs, scaled_linear, lambda *a: euler(*a[:4]), end=0.0, scaled=True)


@pytest.mark.parametrize("n", [1, 8, 20, 50])
@pytest.mark.parametrize("drawn", [False, True], ids=["ode", "sde"])
def test_dpmpp_2m_equals_diffusers(n, drawn):
    """Its defaults: 20 steps are 999, 949, ..., 50, second order, but for the first and the last."""
    reference = pytest.importorskip("diffusers.schedulers.scheduling_dpmsolver_multistep")
    theirs = reference.DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", solver_order=2,
        algorithm_type="sde-dpmsolver++" if drawn else "dpmsolver++")
    ours = dpmpp_2m_sde if drawn else lambda *a: dpmpp_2m(*a[:4])
    ts = compare(theirs, scaled_linear, ours, end=0.0, n=n)
    assert n != 20 or theirs.timesteps[[0, 1, -1]].tolist() == [999, 949, 50] and ts[-1] == 0


def velocity(x, t):
    """What is exact for data ~ N(0, 1), plus a little of what it is not."""
    return (2 * t - 1) / ((1 - t) ** 2 + t**2) * x + 0.1 * torch.tanh(3 * x + t)


@pytest.mark.parametrize("by", [1.0, 3.0])
@pytest.mark.parametrize("sampler", [euler, ddim])
def test_euler_on_straight_paths_equals_diffusers(by, sampler):
    reference = pytest.importorskip("diffusers.schedulers.scheduling_flow_match_euler_discrete")
    theirs = reference.FlowMatchEulerDiscreteScheduler(shift=by)
    theirs.set_timesteps(sigmas=time_grid(20)[:-1].tolist())
    ts = shift(time_grid(20), by)
    assert_close(theirs.sigmas, ts)
    x = random(2, 3, 8, 8)
    steps = sampler(lambda x, t: to_x0("flow", velocity(x, t), x, 1 - t, t), flow, x, ts)
    for t, step in zip(theirs.timesteps, steps, strict=True):
        x = theirs.step(velocity(x, t / 1000), t, x).prev_sample
        assert_close(step.x, x, rtol=0, atol=1e-5)


def test_dpmpp_2m_on_straight_paths_equals_diffusers():
    reference = pytest.importorskip("diffusers.schedulers.scheduling_dpmsolver_multistep")
    theirs = reference.DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
    theirs.set_timesteps(20)
    x, ts = random(2, 3, 8, 8), theirs.sigmas
    steps = dpmpp_2m(lambda x, t: to_x0("flow", velocity(x, t), x, 1 - t, t), flow, x, ts)
    for t, i, step in zip(ts, theirs.timesteps, steps, strict=False):
        x = theirs.step(velocity(x, t), i, x).prev_sample
        assert_close(step.x, x, rtol=0, atol=1e-5)
    assert step.i == 19


@FOLLOWING
def test_channels_on_times_of_their_own_are_drawn_as_if_alone(sampler):
    lead, noise = torch.tensor([1.0, 4.0]), random(3, 2, 2, 2)
    both, ts = shift_channels(flow, lead), time_grid(7)
    together = last(sampler(gaussian(both), both, noise, ts))
    for k, own in enumerate((ts, shift(ts, 1 / 4))):
        alone = last(sampler(gaussian(flow), flow, noise[:, k:k + 1], own))
        assert_close(together[:, k:k + 1], alone, atol=1e-5, rtol=1e-5)
    assert (together[:, 0] - together[:, 1]).std() > 0.1
