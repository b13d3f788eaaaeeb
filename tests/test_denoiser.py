"""A network that knows the answer makes x0 exact and the loss zero, whatever it was asked to predict."""

import pickle
from dataclasses import replace

import pytest
import torch
from support.tensors import random
from torch import nn
from torch.testing import assert_close

from minildm import MinildmError
from minildm.diffusion import denoiser as denoiser_module
from minildm.diffusion.denoiser import (
    PREDICTION_TYPES,
    Denoiser,
    Network,
    drop_context,
    logit_normal,
    on_schedule,
    target,
    to_x0,
    uniform,
)
from minildm.diffusion.schedules import add_noise, cosine, expand, flow, linear, shift_channels
from minildm.nn.dit import DiT, DiTConfig
from minildm.nn.unet import UNet, UNetConfig

TYPES = pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
SCHEDULES = pytest.mark.parametrize("schedule", [cosine, linear, flow], ids=["cosine", "linear", "flow"])


class Oracle(nn.Module):
    """Knows the data, works out the noise in x, and answers as the papers define each prediction."""

    null_context = 10

    def __init__(self, prediction_type, schedule, data):
        super().__init__()
        self.prediction_type, self.schedule, self.data, self.seen = prediction_type, schedule, data, []

    def forward(self, x, t, context=None):
        self.seen.append((t, context))
        t = expand(t, x)
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        noise = (x - alpha * self.data) / sigma
        return {"eps": noise, "x0": self.data, "v": alpha * noise - sigma * self.data,
                "flow": noise - self.data}[self.prediction_type]


class Constant(nn.Module):
    """Answers zero, and remembers what it was asked."""

    null_context = 10

    def forward(self, x, t, context=None):
        self.x, self.t, self.context = x, t, context
        return torch.zeros_like(x)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@TYPES
@SCHEDULES
def test_the_oracle_gives_x0_exactly(prediction_type, schedule):
    data, noise = random(64, 3, 4, 4), random(64, 3, 4, 4, seed=1)
    t = torch.linspace(0.02, 0.95, 64)
    denoiser = Denoiser(Oracle(prediction_type, schedule, data), schedule, prediction_type)
    assert_close(denoiser(add_noise(schedule, data, noise, t), t), data, rtol=0, atol=1e-4)
    assert_close(denoiser(add_noise(schedule, data, noise, 0.5), 0.5), data, rtol=0, atol=1e-5)


@TYPES
@SCHEDULES
def test_the_oracles_loss_is_zero(prediction_type, schedule):
    data = random(64, 3, 4, 4)
    oracle = Oracle(prediction_type, schedule, data)
    loss = Denoiser(oracle, schedule, prediction_type).loss(data, generator=generator())["loss"]
    assert loss.ndim == 0 and loss < 1e-6
    oracle.data = data + 0.1        # and it notices an oracle that is wrong by 0.1
    assert Denoiser(oracle, schedule, prediction_type).loss(data, generator=generator())["loss"] > 1e-3


@TYPES
def test_loss_of_saying_nothing_is_the_targets_mean_square(prediction_type):
    n, variance = 20_000, 0.25
    data = variance**0.5 * random(n, 1, 2, 2)
    loss = Denoiser(Constant(), cosine, prediction_type).loss(data, generator=generator())["loss"]
    # E alpha^2 = E sigma^2 = 1/2 on the cosine schedule with uniform times
    wanted = {"eps": 1.0, "x0": variance, "v": (1 + variance) / 2, "flow": 1 + variance}[prediction_type]
    assert_close(loss.item(), wanted, rtol=0.02, atol=0)


@TYPES
@SCHEDULES
def test_pure_noise_is_no_division_by_zero(prediction_type, schedule):
    x = random(2, 3, 4, 4)
    assert Denoiser(Constant(), schedule, prediction_type)(x, 1.0).isfinite().all()
    assert Denoiser(Constant(), schedule, prediction_type)(x, torch.ones(2)).isfinite().all()


def test_network_is_trained_on_noised_data_at_its_time():
    network, data = Constant(), torch.full((50_000, 1, 1, 1), 2.0)
    Denoiser(network, flow, "flow").loss(data, generator=generator())
    noise = (network.x.flatten() - (1 - network.t) * 2) / network.t
    late = network.t > 0.1
    assert abs(noise[late].mean()) < 0.02 and abs(noise[late].std() - 1) < 0.02


def test_a_network_that_counts_from_0_is_told_so():
    told = []
    denoiser = Denoiser(lambda x, t, context: told.append(t) or x, linear, t_offset=1 / 1000)
    x = denoiser(random(2, 1, 4, 4), torch.tensor([0.001, 1.0]))
    assert_close(told[0], torch.tensor([0.0, 0.999]))
    assert_close(x, Denoiser(lambda x, *_: x, linear)(random(2, 1, 4, 4), torch.tensor([0.001, 1.0])))


def test_labels_are_dropped_where_it_is_asked_for():
    network, n = Constant(), 20_000
    denoiser, data, labels = Denoiser(network, cosine), torch.zeros(n, 1, 1, 1), torch.arange(n) % 10
    denoiser.loss(data, labels, generator())
    assert torch.equal(network.context, labels)                 # a Conditioner's matter, unless asked for
    denoiser.loss(data, labels, generator(), drop=0.1)
    dropped = network.context == network.null_context
    assert abs(dropped.float().mean() - 0.1) < 4 * (0.1 * 0.9 / n) ** 0.5
    assert torch.equal(network.context[~dropped], labels[~dropped])
    assert abs(network.t[dropped].mean() - 0.5) < 0.05          # at any time, whatever the label
    assert (torch.bincount(labels[dropped]) > 0.05 * n / 10).all()
    denoiser.loss(data, labels, generator(), drop=1)
    assert (network.context == network.null_context).all()
    denoiser.loss(data, None, generator(), drop=0.1)
    assert network.context is None


def test_contexts_of_tokens_are_dropped_whole():
    tokens, empty = random(400, 5, 12), random(5, 12, seed=1)
    found = drop_context(tokens, empty, 0.25, generator())
    dropped = (found == empty).flatten(1).all(1)
    assert torch.equal(found[~dropped], tokens[~dropped]) and 70 < dropped.sum() < 130
    assert torch.equal(found, drop_context(tokens, empty[None], 0.25, generator()))
    with pytest.raises(MinildmError, match="drop_context"):
        Denoiser(Constant(), cosine).loss(random(400, 1, 2, 2), tokens, generator(), drop=0.1)


def test_loss_depends_on_the_generator_alone():
    data = random(8, 1, 4, 4)
    denoiser = Denoiser(Constant(), cosine)
    a, b, c = (denoiser.loss(data, generator=generator(seed))["loss"] for seed in (0, 0, 1))
    assert a == b != c


CONFIGS = UNetConfig(channels=(8, 16), attention=(False, True), context_dim=8, heads=2, groups=4,
                     num_classes=4), DiTConfig(4, 4, dim=16, depth=1, heads=2, num_classes=4)


@pytest.mark.parametrize("kind, config", [(UNet, CONFIGS[0]), (DiT, CONFIGS[1])])
def test_networks_keep_the_protocol(kind, config):
    network = kind(config)
    assert isinstance(network, Network) and not isinstance(nn.Linear(1, 1), Network)
    assert network.multiple == 2 and network.null_context == 4
    x = random(2, 4, 2 * network.multiple, 3 * network.multiple)
    labels = torch.tensor([0, network.null_context])
    assert network(x, 0.5, labels).shape == network(x, torch.rand(2), labels).shape == x.shape
    assert kind(replace(config, num_classes=0, context_dim=8)).null_context is None


@pytest.mark.parametrize("schedule", [linear, flow, shift_channels(flow, torch.ones(4))])
def test_a_denoiser_can_be_pickled_and_saved(schedule, tmp_path):
    denoiser = Denoiser(UNet(CONFIGS[0]), schedule, "flow", logit_normal, t_offset=1 / 1000).eval()
    x, labels = random(2, 4, 4, 4), torch.tensor([0, 3])
    torch.save(denoiser, tmp_path / "denoiser.pt")
    loaded = torch.load(tmp_path / "denoiser.pt", weights_only=False)
    for copy in pickle.loads(pickle.dumps(denoiser)), loaded:
        assert torch.equal(copy(x, 0.5, labels), denoiser(x, 0.5, labels))


# conversions: line by line of the table in denoiser's docstring, in float64

T, PI = 1000, torch.pi
LINES = {       # who: schedule, their time, their x from (s, data, noise), their target, ours from theirs
    "Lipman et al. 2022": (
        flow, lambda t: 1 - t, lambda s, d, n: (1 - s) * n + s * d, lambda s, d, n: d - n, ("flow", -1)),
    "Liu et al. 2022": (
        flow, lambda t: 1 - t, lambda s, d, n: (1 - s) * n + s * d, lambda s, d, n: d - n, ("flow", -1)),
    "Esser et al. 2024": (
        flow, lambda t: t, lambda s, d, n: (1 - s) * d + s * n, lambda s, d, n: n - d, ("flow", 1)),
    "Albergo & Vanden-Eijnden": (
        cosine, lambda t: 1 - t, lambda s, d, n: torch.cos(PI / 2 * s) * n + torch.sin(PI / 2 * s) * d,
        lambda s, d, n: PI / 2 * (torch.cos(PI / 2 * s) * d - torch.sin(PI / 2 * s) * n), ("v", -2 / PI)),
    "Ho et al. 2020": (
        linear, lambda t: T * t, lambda i, d, n: bar(i).sqrt() * d + (1 - bar(i)).sqrt() * n,
        lambda i, d, n: n, ("eps", 1)),
    "Karras et al. 2022": (
        cosine, lambda t: cosine.sigma(t) / cosine.alpha(t), lambda u, d, n: d + u * n, lambda u, d, n: d,
        ("x0", 1)),
}


def bar(i):
    # the paper's steps are 1 to T, a tensor's entries 0 to T - 1
    betas = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
    return (1 - betas).cumprod(0)[i.round().long() - 1]


@pytest.mark.parametrize("who", LINES)
def test_line_of_the_conversion_table(who):
    schedule, time, their_x, their_target, (kind, factor) = LINES[who]
    data, noise = random(50).double(), random(50, seed=1).double()
    for t in torch.tensor([0.001, 0.25, 0.9], dtype=torch.float64):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        unit = alpha if who == "Karras et al. 2022" else 1
        x = unit * their_x(time(t), data, noise)
        assert_close(x, add_noise(schedule, data, noise, t), rtol=0, atol=1e-6)
        ours = factor * their_target(time(t), data, noise)
        assert_close(ours, target(kind, data, noise, alpha, sigma), rtol=0, atol=1e-12)
        assert_close(to_x0(kind, ours, x, alpha, sigma), data, rtol=0, atol=1e-6)
    assert f"\n  {who} " in denoiser_module.__doc__


@pytest.mark.parametrize("who", [who for who in LINES if who[:2] not in ("Ho", "Ka")])
def test_their_velocity_is_how_x_changes_with_their_time(who):
    _, time, their_x, their_target, _ = LINES[who]
    data, noise, s = random(50).double(), random(50, seed=1).double(), torch.tensor(0.3, dtype=torch.float64)
    change = (their_x(s + 1e-5, data, noise) - their_x(s - 1e-5, data, noise)) / 2e-5
    assert_close(change, their_target(s, data, noise), rtol=0, atol=1e-8)


# flow matching: what a network learns of noise - data is its mean over all that could have led to x

M, S = 0.7, 0.5         # data ~ N(M, S^2)


def marginal_velocity(x, t):
    """E[noise - data | x_t = x] in closed form: noise and data are jointly Gaussian with x."""
    slope = (t - (1 - t) * S**2) / ((1 - t) ** 2 * S**2 + t**2)
    return -M + slope * (x - (1 - t) * M)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.95])
def test_marginal_velocity_of_a_gaussian_is_what_least_squares_finds(t):
    n = 100_000
    data, noise = M + S * random(n), random(n, seed=1)
    x = add_noise(flow, data, noise, t)
    wanted = target("flow", data, noise, 1 - t, t)
    line = torch.linalg.lstsq(torch.stack([torch.ones(n), x], 1), wanted[:, None]).solution
    for x in -1.0, 0.0, 1.0:
        assert_close((line[0] + line[1] * x).item(), marginal_velocity(x, t), rtol=0, atol=0.03)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.95])
def test_marginal_velocity_of_a_gaussian_moves_it_as_it_moves(t):
    z = random(50).double()                 # each x_t stays z standard deviations from the mean

    def path(t):
        return (1 - t) * M + ((1 - t) ** 2 * S**2 + t**2) ** 0.5 * z

    change = (path(t + 1e-5) - path(t - 1e-5)) / 2e-5
    assert_close(marginal_velocity(path(t), t), change, rtol=0, atol=1e-8)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.95])
def test_a_network_that_says_the_marginal_velocity_makes_the_mean_of_the_data(t):
    x = random(50, 1)
    found = Denoiser(lambda x, t, context: marginal_velocity(x, t), flow, "flow")(x, t)
    assert_close(found, M + (1 - t) * S**2 / ((1 - t) ** 2 * S**2 + t**2) * (x - (1 - t) * M))


# time samplers

def test_uniform_times_are_stratified():
    n, first, second = 1000, uniform(1000, generator(0)), uniform(1000, generator(1))
    assert first.shape == (n,) and first.min() >= 0 and first.max() <= 1
    bins = (first.double() * n).floor().long()
    assert torch.equal(bins.sort().values, torch.arange(n))                    # one in each bin
    assert (first.sort().values - second.sort().values).abs().max() > 1e-5     # at a random place in it


def test_uniform_times_of_single_draws_are_uniform():
    g = generator()
    t = torch.cat([uniform(1, g) for _ in range(4000)]).sort().values
    assert (t - torch.linspace(0, 1, 4000)).abs().max() < 1.63 / 4000**0.5     # Kolmogorov-Smirnov, 1 %


def test_logit_normal_times_have_its_quantiles():
    t = logit_normal(20_000, generator())
    normal = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    assert_close(t.quantile(torch.special.ndtr(normal)), normal.sigmoid(), rtol=0, atol=1e-3)
    assert t.min() > 0 and t.max() < 1


def test_times_are_drawn_by_the_function_given():
    network = Constant()
    denoiser = Denoiser(network, flow, "flow", times=logit_normal)
    denoiser.loss(torch.zeros(4000, 1, 1, 1), generator=generator())
    assert ((network.t - 0.5).abs() < 0.231).float().mean() > 0.67     # 68 % within one sigma; uniform 46 %


def test_unknown_prediction_type_lists_those_that_exist():
    with pytest.raises(Exception, match="(?s)'score'.*choose from eps, x0, v, flow"):
        Denoiser(Constant(), cosine, "score")


def test_one_batch_can_be_overfitted():
    torch.manual_seed(0)
    network = UNet(UNetConfig(in_channels=1, out_channels=1, channels=(8, 16), attention=(False, True),
                              blocks=1, context_dim=8, heads=1, groups=4, num_classes=4))
    denoiser, labels = Denoiser(network, cosine, "v"), torch.arange(4)
    data = random(4, 1, 4, 4).sign()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    batch = data.repeat(8, 1, 1, 1), labels.repeat(8)
    first = denoiser.loss(*batch, generator())["loss"].item()
    for step in range(50):
        loss = denoiser.loss(*batch, generator(step), drop=0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert denoiser.loss(*batch, generator(999), drop=0)["loss"] < 0.5 * first
        noisy = add_noise(cosine, data, random(4, 1, 4, 4, seed=5), 0.7)
        right = (denoiser(noisy, 0.7, labels).sign() == data).float().mean()
        swapped = (denoiser(noisy, 0.7, labels.flip(0)).sign() == data).float().mean()
    assert right > 0.95 and right > swapped + 0.1      # it knows the pictures, and which label is which


@pytest.mark.parametrize("own, other", [(cosine, flow), (flow, cosine), (linear, cosine)])
def test_on_another_schedule_the_exact_denoiser_is_the_other_ones(own, other):
    def exact(schedule):
        # of data with mean 2 and standard deviation 0.5
        def denoise(x, t):
            a, sd = schedule.alpha(t), schedule.sigma(t)
            return 2 + a * 0.25 / (a**2 * 0.25 + sd**2) * (x - 2 * a)
        return denoise

    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    for t in torch.tensor([0.1, 0.5, 0.9]):
        assert_close(on_schedule(exact(own), own, other)(x, t), exact(other)(x, t),
                     rtol=1e-4, atol=1e-4)
    # pure noise, where one schedule ends at an infinite ratio and the other does not
    assert on_schedule(exact(own), own, other)(x, torch.tensor(1.0)).isfinite().all()
