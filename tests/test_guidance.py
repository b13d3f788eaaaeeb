"""Guidance against its definition: exact at scale 1 and 0, linear in between, the same rule on eps."""

import pytest
import torch
from test_layers import random, randomise
from torch.testing import assert_close

from minildm.denoiser import Denoiser, to_x0
from minildm.guidance import cfg
from minildm.samplers import ddim, last
from minildm.schedules import cosine, time_grid
from minildm.unet import UNet, UNetConfig

T = torch.tensor(0.4)


@pytest.fixture(scope="module")
def denoiser():
    network = UNet(UNetConfig(in_channels=3, out_channels=3, channels=(8, 16), attention=(False, True),
                              blocks=1, context_dim=12, heads=2, groups=4, num_classes=10))
    return Denoiser(randomise(network).requires_grad_(False), cosine, "eps")


@pytest.fixture(params=["labels", "tokens"])
def condition(request):
    """A condition and its absence, as class labels or as a context of several tokens."""
    if request.param == "labels":
        return torch.tensor([3, 7]), torch.tensor([10, 10])
    return random(2, 5, 12, seed=2), random(1, 5, 12, seed=3).expand(2, -1, -1)


def test_scale_1_is_the_conditional_model(denoiser, condition):
    x, (context, null) = random(2, 3, 8, 8), condition
    assert torch.equal(cfg(denoiser, context, null, 1.0)(x, T), denoiser(x, T, context))
    assert torch.equal(cfg(denoiser, context, null)(x, T), denoiser(x, T, context))     # by default it is off


def test_scale_0_is_the_unconditional_model(denoiser, condition):
    x, (context, null) = random(2, 3, 8, 8), condition
    assert_close(cfg(denoiser, context, null, 0.0)(x, T), denoiser(x, T, null), rtol=0, atol=1e-5)
    assert (denoiser(x, T, null) - denoiser(x, T, context)).abs().max() > 0.01      # and that is another


@pytest.mark.parametrize("scale", [-1.0, 0.5, 3.0, 7.5])
def test_linear_in_the_scale(denoiser, condition, scale):
    x, (context, null) = random(2, 3, 8, 8), condition
    without, with_ = denoiser(x, T, null), denoiser(x, T, context)
    wanted = scale * with_ + (1 - scale) * without
    assert_close(cfg(denoiser, context, null, scale)(x, T), wanted, rtol=0, atol=5e-5)


def test_is_the_papers_rule_on_eps(denoiser, condition):
    x, (context, null) = random(2, 3, 8, 8), condition
    alpha, sigma, network = cosine.alpha(T), cosine.sigma(T), denoiser.network
    eps, eps_null = network(x, T, context), network(x, T, null)
    guided = (1 + 2) * eps - 2 * eps_null           # Ho & Salimans 2022, eq. 6, whose w is our scale - 1
    wanted = to_x0("eps", guided, x, alpha, sigma)
    assert_close(cfg(denoiser, context, null, 3.0)(x, T), wanted, rtol=0, atol=5e-5)


def test_one_batched_call_null_first():
    calls = []

    def denoiser(x, t, context):
        calls.append(context)
        return x + context[:, None, None, None]

    x, context, null = random(2, 3, 4, 4), torch.tensor([3, 7]), torch.tensor([10, 10])
    found = cfg(denoiser, context, null, 2.0)(x, T)
    assert [call.tolist() for call in calls] == [[10, 10, 3, 7]]
    assert_close(found - x, torch.tensor([-4.0, 4.0])[:, None, None, None].expand_as(x))  # 10 + 2 (3 - 10) 
    cfg(denoiser, context, null, 1.0)(x, T)
    assert calls[1].tolist() == [3, 7]              # nothing is asked in vain


def test_guides_a_whole_trajectory():
    """Classes at -1 and 1, the null wide around both: guidance goes past the class's mean, at less spread."""
    def denoiser(x, t, context):                    # N(-1, 0.25), N(1, 0.25); label 0: N(0, 1.25)
        alpha, sigma = cosine.alpha(t), cosine.sigma(t)
        center, variance = context[:, None].float(), torch.where(context == 0, 1.25, 0.25)[:, None]
        return center + alpha * variance / (alpha**2 * variance + sigma**2) * (x - alpha * center)

    noise = random(2, 4000)
    labels, null, ts = torch.tensor([-1, 1]), torch.tensor([0, 0]), time_grid(50)
    ends = [last(ddim(cfg(denoiser, labels, null, w), cosine, noise, ts)) for w in (0.0, 1.0, 3.0)]
    means, stds = torch.stack([x.mean(1) for x in ends]), torch.stack([x.std(1) for x in ends])
    assert_close(means[:2], torch.tensor([[0.0, 0.0], [-1.0, 1.0]]), rtol=0, atol=0.06)
    assert means[2, 0] < -1.2 and means[2, 1] > 1.2             # closer to the class than its own samples
    assert (stds[2] < stds[1]).all() and (stds[1] < stds[0]).all()     # and less diverse
