"""Guidance against its definition: exact at scale 1 and 0, linear in between, the same rule on eps."""

import functools

import pytest
import torch
from support.tensors import random, randomise
from torch.testing import assert_close

from minildm import MinildmError
from minildm.diffusion.denoiser import Denoiser, to_x0
from minildm.diffusion.guidance import (
    Autoguidance,
    Cfg,
    Condition,
    Interval,
    autoguidance,
    cfg,
    cfg_rescaled,
    classifier_guidance,
    guided,
    interval,
)
from minildm.diffusion.noisy_classifier import NoisyClassifier
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import add_noise, cosine, flow, time_grid
from minildm.nn.unet import UNet, UNetConfig

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


def test_channels_beyond_those_guided_are_the_conditional_models(denoiser, condition):
    x, (context, null) = random(2, 3, 8, 8), condition
    found, whole = (cfg(denoiser, context, null, 4.0, channels)(x, T) for channels in (2, None))
    assert torch.equal(found[:, :2], whole[:, :2])
    assert_close(found[:, 2:], denoiser(x, T, context)[:, 2:], rtol=0, atol=1e-5)
    assert (whole - found)[:, 2:].abs().max() > 0.01


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


def test_a_null_of_one_row_serves_all(denoiser):
    x, context, null = random(2, 3, 8, 8), random(2, 5, 12, seed=2), random(1, 5, 12, seed=3)
    assert torch.equal(cfg(denoiser, context, null, 3.0)(x, T),
                       cfg(denoiser, context, null.expand(2, -1, -1), 3.0)(x, T))


def gaussian(center, variance, schedule=cosine):
    """The exact denoiser of N(center, variance), each value by itself."""
    def denoise(x, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return center + alpha * variance / (alpha**2 * variance + sigma**2) * (x - alpha * center)
    return denoise


def test_a_negative_prompt_at_scale_1_does_nothing_and_beyond_it_pushes_away():
    """Prompts at 1 and -3, the empty one at 0: away from -3 is further up than away from 0."""
    def denoiser(x, t, context):
        return gaussian(context[:, None], 0.25)(x, t)

    noise, prompt, ts = random(1, 2000), torch.tensor([1.0]), time_grid(30)

    def mean(null, w):
        denoise = cfg(denoiser, prompt, torch.tensor([null]), w)
        return last(ddim(denoise, cosine, noise, ts)).mean().item()

    assert mean(-3.0, 1.0) == mean(0.0, 1.0)
    assert mean(-3.0, 2.0) > mean(0.0, 2.0) + 1


@pytest.mark.parametrize("phi", [0.0, 0.7, 1.0])
def test_rescaled_has_the_spread_of_the_conditional_model(denoiser, condition, phi):
    x, (context, null) = random(2, 3, 8, 8), condition
    plain, guided = denoiser(x, T, context), cfg(denoiser, context, null, 5.0)(x, T)
    found = cfg_rescaled(denoiser, context, null, 5.0, phi)(x, T)
    wanted = phi * plain.flatten(1).std(1) + (1 - phi) * guided.flatten(1).std(1)
    assert_close(found.flatten(1).std(1), wanted, rtol=1e-4, atol=1e-5)
    assert_close(found / found.flatten(1).std(1)[:, None, None, None],
                 guided / guided.flatten(1).std(1)[:, None, None, None], rtol=1e-3, atol=1e-4)


def test_interval_guides_inside_only_and_costs_nothing_outside():
    calls = []

    def guided(x, t):
        calls.append(float(t.max()))
        return x + 1

    denoise = interval(guided, lambda x, t: x, 0.2, 0.6)
    x = random(3, 2)
    for t, wanted in ((0.1, 0), (0.2, 0), (0.21, 1), (0.6, 1), (0.61, 0)):
        assert torch.equal(denoise(x, torch.tensor(t, dtype=torch.float64)), x + wanted)
    assert len(calls) == 2
    mixed = denoise(x, torch.tensor([0.1, 0.5, 0.9])) - x
    assert_close(mixed, torch.tensor([[0.0], [1.0], [0.0]]).expand(3, 2))


def test_autoguidance_of_gaussians_is_their_line():
    """Good N(1, 0.25), bad N(1, 1): the answers are extrapolated, and spread falls."""
    good, bad, x = gaussian(1.0, 0.25), gaussian(1.0, 1.0), random(4, 50)
    assert torch.equal(autoguidance(good, None)(x, T), good(x, T))              # and asks no other
    assert_close(autoguidance(good, bad, 3.0)(x, T), 3 * good(x, T) - 2 * bad(x, T))
    noise, ts = random(1, 4000), time_grid(50)
    stds = [last(ddim(autoguidance(good, bad, w), cosine, noise, ts)).std() for w in (1.0, 2.0)]
    assert stds[0].item() == pytest.approx(0.5, abs=0.03) and stds[1] < 0.8 * stds[0]


def test_autoguidance_takes_contrast_back_in_the_first_channels_alone():
    strong, weak, x = random(3, 3, 4, 8, 8)
    led = weak + 3.0 * (strong - weak)

    def guided(**words):
        return autoguidance(lambda x, t: strong, lambda x, t: weak, 3.0, **words)(x, T)

    assert torch.equal(guided(), led)
    found = guided(phi=0.5, channels=2)
    assert torch.equal(found[:, 2:], led[:, 2:])
    wanted = 0.5 * strong[:, :2].flatten(1).std(1) + 0.5 * led[:, :2].flatten(1).std(1)
    assert_close(found[:, :2].flatten(1).std(1), wanted, rtol=1e-4, atol=1e-5)
    assert_close(guided(phi=1.0).flatten(1).std(1), strong.flatten(1).std(1), rtol=1e-4, atol=1e-5)


# guidance as values

class Counting:
    """A denoiser that counts how many pictures it was asked about, call by call."""

    def __init__(self, denoiser):
        self.denoiser, self.calls = denoiser, []

    def __call__(self, x, t, context):
        self.calls.append(len(x))
        return self.denoiser(x, t, context)


def test_without_guidance_it_is_the_conditional_model(denoiser, condition):
    x, (context, null) = random(2, 3, 8, 8), condition
    for nothing in None, (), [], Cfg(1.0), (Cfg(1.0), Autoguidance(None, 1.0)):
        assert torch.equal(guided(denoiser, context, null, nothing)(x, T), denoiser(x, T, context))
    assert torch.equal(Condition(denoiser, context, null)(x, T), denoiser(x, T, context))


def test_values_are_the_functions(denoiser, condition):
    x, (context, null) = random(2, 3, 8, 8), condition
    weak = functools.partial(denoiser, context=null)

    def guide(x, t, context):
        return denoiser(x, t, null)

    plain = functools.partial(denoiser, context=context)
    for value, wanted in (
            (Cfg(3.0), cfg(denoiser, context, null, 3.0)),
            (Cfg(3.0, channels=2), cfg(denoiser, context, null, 3.0, 2)),
            (Cfg(3.0, phi=0.7), cfg_rescaled(denoiser, context, null, 3.0, 0.7)),
            (Autoguidance(guide, 2.0, 0.3, 2), autoguidance(plain, weak, 2.0, 0.3, 2)),
            (Interval(Cfg(3.0), 0.2, 0.6), cfg(denoiser, context, null, 3.0)),
            (Interval(Cfg(3.0), 0.5, 0.6), plain),
            ((Cfg(1.4), Autoguidance(guide, 2.4, 0.3, 2)),
             autoguidance(cfg(denoiser, context, null, 1.4), weak, 2.4, 0.3, 2))):
        assert torch.equal(guided(denoiser, context, null, value)(x, T), wanted(x, T)), value


def test_the_order_of_values_is_that_of_their_application(denoiser, condition):
    x, (context, null) = random(2, 3, 8, 8), condition
    counting, minus = Counting(denoiser), Autoguidance(lambda x, t, context: torch.zeros_like(x), 2.0)
    found = guided(counting, context, null, (minus, Cfg(3.0)))(x, T)
    without, with_ = denoiser(x, T, null), 2 * denoiser(x, T, context)
    assert_close(found, without + 3 * (with_ - without), rtol=0, atol=5e-5)
    assert sum(counting.calls) == 4 and Cfg(3.0) == Cfg(3.0)        # nothing is asked in vain
    counting.calls.clear()
    guided(counting, context, null, (Cfg(3.0), minus))(x, T)
    assert counting.calls == [4]                                    # one batched call


def test_each_value_says_what_it_is():
    guide = object()
    for value, words in ((Cfg(1.4), "classifier-free guidance 1.4"),
                         (Cfg(7.5, phi=0.7), "classifier-free guidance 7.5, rescaled by 0.7"),
                         (Autoguidance(guide, 2.4, phi=0.3), "autoguidance 2.4, rescaled by 0.3"),
                         (Interval(Cfg(4.0), 0.1, 0.8), "classifier-free guidance 4 at 0.1 < t <= 0.8"),
                         (Interval((Cfg(2.0), Autoguidance(guide, 3.0)), 0, 1),
                          "classifier-free guidance 2, autoguidance 3 at 0 < t <= 1")):
        assert str(value) == words


def test_classifier_guidance_at_scale_1_is_bayes_rule():
    """The prior is N(0, v), the class's likelihood exp(-(x0 - m)^2 / 2 s): then x0 given y is Gaussian too.

    p(y | x_t) = E[p(y | x0) | x_t] in closed form, and the guided denoiser must be the posterior's own.
    """
    v, m, s = 1.5, 2.0, 0.5
    variance, center = 1 / (1 / v + 1 / s), (m / s) / (1 / v + 1 / s)
    for schedule in cosine, flow:
        for t in torch.tensor([0.1, 0.5, 0.9]):
            def log_prob(x, t, schedule=schedule):
                alpha, sigma = schedule.alpha(t), schedule.sigma(t)
                mean = alpha * v / (alpha**2 * v + sigma**2) * x
                left = v * sigma**2 / (alpha**2 * v + sigma**2)                 # variance of x0 given x_t
                return (-(mean - m) ** 2 / (2 * (left + s))).flatten(1).sum(1)

            x, prior = random(3, 20), gaussian(0.0, v, schedule)
            found = classifier_guidance(prior, log_prob, schedule, 1.0)(x, t)
            assert_close(found, gaussian(center, variance, schedule)(x, t), rtol=1e-3, atol=1e-4)
            assert torch.equal(classifier_guidance(prior, None, schedule, 0.0)(x, t), prior(x, t))
    pure, end = random(3, 20), torch.tensor(1.0)
    prior = gaussian(0.0, v, flow)
    guided = classifier_guidance(prior, lambda x, t: x.flatten(1).sum(1), flow, 1.0)
    assert torch.equal(guided(pure, end), prior(pure, end))
    # with the class's mean less the prior's, the guess at pure noise is the class's mean
    limit = torch.full((3, 20), center - 0.0)
    told = classifier_guidance(prior, lambda x, t: x.flatten(1).sum(1), flow, 1.0, limit)(pure, end)
    assert_close(told, torch.full((3, 20), center))


def test_a_classifier_learns_from_noisy_latents():
    """Two classes a little apart: known near the data, a coin toss at pure noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(64) % 2
    latents = 0.3 * torch.randn(64, 2, 8, 8, generator=generator) + (2 * labels - 1)[:, None, None, None]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = NoisyClassifier(2, 2, width=16)
    optimizer = torch.optim.Adam(classifier.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        classifier.loss(latents, labels, flow, generator)["loss"].backward()
        optimizer.step()
    noise = torch.randn(latents.shape, generator=generator)
    found = [classifier(add_noise(flow, latents, noise, t), t).argmax(1) for t in (0.1, 1.0)]
    right = [(labels == guess).float().mean() for guess in found]
    assert right[0] > 0.95 and right[1] < 0.75
    x = torch.zeros(2, 2, 8, 8)
    denoise = classifier_guidance(lambda x, t: x, classifier.log_prob(torch.tensor([0, 1])), flow, 1.0)
    moved = denoise(x, torch.tensor(0.5)).mean((1, 2, 3))
    assert moved[0] < 0 < moved[1]
    drawn = last(ddim(denoise, flow, random(2, 2, 8, 8), time_grid(4)))    # its gradient, in spite of no_grad
    assert not drawn.requires_grad and drawn[0].mean() < drawn[1].mean()
    for wrong in 5, -1:
        with pytest.raises(MinildmError, match=f"up to {wrong}"):
            classifier.log_prob(torch.tensor([wrong]))
