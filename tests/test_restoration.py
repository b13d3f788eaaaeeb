"""Restoration in a world where all is Gaussian, so that the posterior is known; and with the zoo's model."""

import pytest
import torch
from support.tensors import random
from torch.testing import assert_close

from minildm import MinildmError, restoring
from minildm.diffusion import operators, restoration
from minildm.diffusion.guidance import classifier_guidance
from minildm.diffusion.operators import Operator
from minildm.diffusion.samplers import last
from minildm.diffusion.schedules import cosine, flow, time_grid

SLOPE = torch.tensor([[1.0, 0.4], [-0.3, 0.8]])


def same(x):
    return x


def decode(z):
    """A decoder that is a matrix: (B, 1, 1, 2) -> (B, 1, 1, 2)."""
    return z @ SLOPE


def normal(schedule):
    """E[data | x] for data ~ N(0, 1)."""
    def denoise(x, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return alpha / (alpha**2 + sigma**2) * x

    return denoise


def first(x):
    return x * torch.tensor([1.0, 0.0])


SEES_FIRST = Operator(first, first, first)


# ---- data consistency

@pytest.mark.parametrize("operator", [operators.identity(), operators.blur(0.5, 8), operators.fourier(
    torch.ones(8, 8))], ids=["identity", "blur", "fourier"])
def test_full_rank_and_no_noise_give_the_picture(operator):
    x, other = random(2, 1, 8, 8), random(2, 1, 8, 8, seed=1)
    found = restoration.consistent(operator, other, operator.apply(x), 0, 0.1)
    assert_close(found, x, atol=1e-3, rtol=1e-3)


def test_what_was_not_measured_stays_and_what_was_is_taken():
    mask = torch.tensor([[1, 0], [0, 1]])
    x, other = random(1, 1, 2, 2), random(1, 1, 2, 2, seed=1)
    operator = operators.keep_pixels(mask)
    found = restoration.consistent(operator, other, operator.apply(x), 0, 0.1)
    assert_close(found, torch.where(mask > 0, x, other))


@pytest.mark.parametrize("operator", [operators.average(2), operators.blur(1.0, 6)], ids=["average", "blur"])
def test_with_noise_it_is_the_posterior_mean(operator):
    """Against the matrix of the same least squares, solved at once."""
    x, other = random(2, 1, 6, 6), random(2, 1, 6, 6, seed=1)
    y = operator.apply(x)
    columns = operator.apply(torch.eye(36).reshape(36, 1, 6, 6)).flatten(1).T.double()
    left = columns.T @ columns / 0.2**2 + torch.eye(36) / 0.5**2
    missing = (y - operator.apply(other)).flatten(1).double()
    step = torch.linalg.solve(left, (missing @ columns).T / 0.2**2).T
    want = other + step.reshape(2, 1, 6, 6)
    assert_close(restoration.consistent(operator, other, y, 0.2, 0.5), want.float(), atol=1e-4, rtol=1e-4)


def test_without_noise_an_inverse_is_needed():
    with pytest.raises(MinildmError, match="inverse"):
        restoration.consistent(Operator(same, same), torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), 0, 1)


# ---- three ways to the posterior

@pytest.mark.parametrize("schedule", [flow, cosine], ids=["flow", "cosine"])
def test_the_likelihoods_gradient_moves_towards_the_measurement(schedule):
    x, t = random(3, 1, 1, 2), torch.tensor(0.4)
    y = torch.full((3, 1, 1, 2), 2.0)
    log_prob = restoration.likelihood(normal(schedule), schedule, decode, SEES_FIRST, y, 0.3)
    assert log_prob(x, t).shape == (3,)
    told = classifier_guidance(normal(schedule), log_prob, schedule, 0.1)(x, t)
    untold = normal(schedule)(x, t)
    gap = [(first(decode(z)) - first(y)).abs().sum() for z in (told, untold)]
    assert gap[0] < gap[1]


def test_with_the_right_spread_guidance_is_exact_for_a_gaussian():
    """Data ~ N(0, 1), y = data + noise: E[data | x_t, y] by Bayes, and as guided."""
    x, t, y = random(4, 1, 1, 1), torch.tensor(0.6), random(4, 1, 1, 1, seed=1)
    alpha, sigma, sd = flow.alpha(t), flow.sigma(t), 0.3
    log_prob = restoration.likelihood(normal(flow), flow, same, operators.identity(), y, sd, spread=1.0)
    got = classifier_guidance(normal(flow), log_prob, flow)(x, t)
    want = (alpha * x / sigma**2 + y / sd**2) / (1 + alpha**2 / sigma**2 + 1 / sd**2)
    assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_the_projected_guess_is_measured_as_y():
    y = random(3, 1, 1, 2)
    back = torch.linalg.inv(SLOPE)
    answer = restoration.projected(normal(flow), lambda x: x @ back, decode, SEES_FIRST, y, 0, 1.0)
    assert_close(first(decode(answer(random(3, 1, 1, 2, seed=1), torch.tensor(0.7)))), first(y))


def test_one_gauss_newton_step_is_exact_for_a_linear_decoder():
    y, target, guess = (random(3, 1, 1, 2, seed=k) for k in range(3))
    z = restoration.latents_given(decode, SEES_FIRST, y, target, guess, 0.2, 0.5)
    z.requires_grad_()
    loss = (first(y) - first(decode(z))).square().sum() / 0.2 + (z - target).square().sum() / 0.5
    loss.backward()
    assert z.grad.abs().max() < 1e-4


def test_posterior_draws_have_the_posteriors_mean_and_variance():
    """z ~ N(0, I), decode a matrix, the first pixel measured with noise: a Gaussian of 2 x 2."""
    n, sd, y1 = 4000, 0.3, 1.0
    generator = torch.Generator().manual_seed(0)

    def draw(like):
        return torch.randn(like.shape, generator=generator)

    y = torch.zeros(n, 1, 1, 2)
    y[..., 0] = y1
    steps = restoration.posterior(normal(flow), flow, decode, SEES_FIRST, y, draw(y), time_grid(10), sd, 0.0,
                                  draw=draw)
    z = last(steps)[:, 0, 0]
    row = SLOPE[:, :1]                                                      # pixel 1 = z @ row
    covariance = torch.linalg.inv(torch.eye(2) + row @ row.T / sd**2)
    assert_close(z.mean(0), (covariance @ row)[:, 0] * y1 / sd**2, atol=0.03, rtol=0)
    assert_close(z.T.cov(), covariance, atol=0.05, rtol=0)


# ---- with a trained model

@pytest.fixture(scope="module")
def model():
    from minildm import LatentDiffusion

    return LatentDiffusion.load("mnist-unet")


def test_restored_draws_agree_with_the_measurement(model):
    x = model.generate(range(3), 4)
    operator = operators.keep_pixels(torch.rand(28, 28, generator=torch.Generator().manual_seed(1)) < 0.6)
    y = restoring.measure(operator, x, 0.05, torch.Generator().manual_seed(2))
    restored = restoring.restore(model, operator, y, 0.05, samples=2, num_inference_steps=3)
    assert restored.samples.shape == (2, 3, 1, 28, 28)
    assert restored.mean.shape == restored.spread.shape == (3, 1, 28, 28)
    error = operator.apply(restored.samples[0]) - y
    assert error.square().mean().sqrt() < 0.15
    assert not torch.equal(*restored.samples)


def test_a_full_measurement_without_noise_is_returned(model):
    x = model.generate([4, 7], 3)
    restored = restoring.restore(model, operators.identity(), x, 0.0, num_inference_steps=2)
    assert_close(restored.samples[0], x, atol=1e-5, rtol=0)


def test_a_draw_is_the_same_whatever_is_restored_beside_it(model):
    x, operator = model.generate(range(3), 3), operators.average(4)
    y = operator.apply(x)
    many = restoring.restore(model, operator, y, 0.1, num_inference_steps=2, samples=2).samples
    one = restoring.restore(model, operator, y[:1], 0.1, num_inference_steps=2).samples
    assert_close(one[0, 0], many[0, 0], atol=2e-3, rtol=0)


def test_no_samples_and_negative_noise_are_refused(model):
    for words in {"samples": 0}, {"noise_sd": -1.0}:
        with pytest.raises(MinildmError):
            restoring.restore(model, operators.identity(), torch.zeros(1, 1, 28, 28),
                              **{"noise_sd": 0.1} | words)
