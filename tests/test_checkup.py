"""The numbers of a checkup are those of exact denoisers; each mistake leaves its own bound."""

import copy

import pytest
import torch

from minildm import LatentDiffusion, MinildmError, data
from minildm.course import hunting, patients
from minildm.course.points import Blobs
from minildm.diffusion.denoiser import Denoiser, target
from minildm.diffusion.schedules import add_noise, cosine, expand, flow, linear
from minildm.training import checkup
from minildm.training.checkup import BOUNDS, judge


def source(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("schedule", [flow, cosine, linear])
@pytest.mark.parametrize("t, v", [(0.3, 1.0), (0.8, 4.0)])
def test_the_best_factor_leaves_exactly_what_it_is_compared_with(schedule, t, v):
    x0 = v**0.5 * torch.randn(4000, 3, 4, generator=source(1))

    def wiener(x, at, labels):
        alpha, sigma = schedule.alpha(at), schedule.sigma(at)
        return alpha * v / (alpha**2 * v + sigma**2) * x

    labels = torch.zeros(len(x0), dtype=torch.long)
    found = checkup.against_linear(wiener, schedule, x0, labels, t, source())
    assert found.item() == pytest.approx(1, abs=0.02)
    zero = checkup.against_linear(lambda x, at, labels: 0 * x, schedule, x0, labels, t, source())
    assert zero > found


# points of three classes, whose exact guesses are known with and without the label
CENTRES = 3 * torch.eye(3)
OF_CLASS = [Blobs(CENTRES[c:c + 1], 0.3).denoiser(flow) for c in range(3)]
OF_ANY = Blobs(CENTRES, 0.3).denoiser(flow)


def exact(x, t, labels):
    each = torch.stack([guess(x, t) for guess in OF_CLASS])
    return each[labels, torch.arange(len(x))]


def test_exact_guesses_gain_by_labels_and_their_null_is_the_mean_of_the_classes():
    labels = torch.arange(600) % 3
    x0 = CENTRES[labels] + 0.3 * torch.randn(600, 3, generator=source(2))
    assert checkup.label_gain(exact, OF_ANY, flow, x0, labels, 0.8, source()) > 0.5
    assert checkup.label_gain(exact, OF_ANY, flow, x0, labels.roll(1), 0.8, source()) < 0.5
    noise = torch.randn(50, 3, generator=source(3))
    assert checkup.null_off(exact, OF_ANY, noise, 3) < 1e-6

    def class_0(x, t):
        return OF_CLASS[0](x, t)

    # of three corners of a triangle each is as far from the middle as the others
    assert checkup.null_off(exact, class_0, noise, 3).item() == pytest.approx(1)


@pytest.mark.parametrize("kind, schedule, name", [("v", cosine, "cosine"), ("eps", linear, "linear"),
                                                  ("flow", flow, "flow")])
def test_the_best_reading_is_that_of_the_training(kind, schedule, name):
    world = Blobs(CENTRES, 0.3)
    guess = world.denoiser(schedule)

    class Exact(torch.nn.Module):
        def forward(self, x, t, labels):
            x0, at = guess(x, t), expand(t, x)
            alpha, sigma = schedule.alpha(at), schedule.sigma(at)
            return target(kind, x0, (x - alpha * x0) / sigma, alpha, sigma)

    x0 = world.draw(500, source(4))
    right = checkup.best_reading(Denoiser(Exact(), schedule, kind), x0, None)
    assert next(iter(right)) == (kind, "own") and len(right) == 12
    wrong = {"v": "x0", "eps": "v", "flow": "v"}[kind]
    misread = checkup.best_reading(Denoiser(Exact(), schedule, wrong), x0, None)
    assert misread[wrong, "own"] > 1.05 * min(misread.values())
    other = cosine if schedule is flow else flow
    elsewhere = checkup.best_reading(Denoiser(Exact(), other, kind), x0, None)
    assert next(iter(elsewhere)) == (kind, name)


def test_two_calls_and_weights():
    network = patients.fresh(0, width=16, depth=1, dropout=0.5)
    torch.nn.init.normal_(network.out.weight)
    x, labels = torch.randn(6, 3, 8, 8, generator=source()), torch.arange(6)
    assert checkup.two_calls(network, x, torch.tensor(0.5), labels) > 0.01
    assert checkup.two_calls(network.eval(), x, torch.tensor(0.5), labels) == 0
    weights = network.state_dict()
    assert checkup.average_gap(weights, weights) == 0 and checkup.loaded_part(weights, weights) == 1
    twice = {name: 2 * t for name, t in weights.items()}
    assert checkup.average_gap(weights, twice).item() == pytest.approx(0.5)
    other = patients.fresh(1, width=16, depth=1).state_dict()
    part = {name: other[name] if "layers" in name else t for name, t in weights.items()}
    assert 0.5 < checkup.loaded_part(part, weights) < 1
    renamed = {name.replace("layers", "blocks"): t for name, t in weights.items()}
    assert checkup.loaded_part(weights, renamed) < 1


def test_each_bound_is_left_below_and_above_and_by_nan():
    for bound in BOUNDS:
        inside = {bound.metric: (bound.low + bound.high) / 2}
        assert judge(inside) == []
        for value in bound.low - 0.1, bound.high + 0.1, float("nan"):
            found = judge({bound.metric: value})
            assert [one.bound for one in found] == [bound] and bound.cure in str(found[0])
    assert len({bound.metric for bound in BOUNDS}) == len(BOUNDS)


@pytest.fixture(scope="module")
def zoo():
    return LatentDiffusion.load("mnist-unet"), data.load("glyphs", "test").subset(30, seed=0)


def test_the_zoos_model_has_nothing_to_report_and_names_what_is_broken(zoo):
    model, some = zoo
    numbers = checkup.look_over(model, some.images, some.labels, many=10,
                                saved=model.denoiser.network.state_dict())
    # printed digits are not those that it learned
    assert {one.bound.metric for one in judge(numbers)} <= {"latent_std", "label_gain"}
    broken = copy.copy(model)
    broken.denoiser = copy.copy(model.denoiser)
    broken.denoiser.prediction_type = "eps"
    unit = data.to_float(some.images) / 2 + 0.5
    found = judge(checkup.look_over(broken, unit, some.labels, many=10))
    names = [one.bound.metric for one in found]
    assert names[0] == "least_pixel" and "misread" in names


def test_a_model_of_sentences_is_refused(zoo):
    with pytest.raises(MinildmError, match="no labels"):
        checkup.look_over(LatentDiffusion.load("scenes"), zoo[1].images, zoo[1].labels)


# ---- the ward

def test_the_same_vae_in_other_units_makes_the_same_copies(zoo):
    model, some = zoo
    pictures = data.pad_to(data.to_float(some.images), 32)
    other = patients.in_units(model.vae, 5.5)
    with torch.no_grad():
        raw, large = model.vae.encode(pictures), other.encode(pictures)
        torch.testing.assert_close(large.mean, 5.5 * raw.mean, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(large.std, 5.5 * raw.std, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(other.decode(large.mean), model.vae.decode(raw.mean),
                                   rtol=1e-3, atol=1e-3)


def test_a_small_network_learns_and_its_average_is_another_network():
    latents, labels = torch.randn(70, 3, 8, 8, generator=source()), torch.arange(70) % 10
    network = patients.fresh(0, width=32)
    average, losses = patients.fit(network, latents, labels, 30, source())
    assert losses[-1] < losses[0] and not average.training
    assert not torch.equal(average.out.weight, network.out.weight)
    x = patients.draw(average, latents[:4], labels[:4], 3, scale=2.0)
    assert x.shape == (4, 3, 8, 8) and x.isfinite().all()
    once = patients.draw(average, latents[:4], labels[:4], 1, 0.7)
    with torch.no_grad():
        velocity = average(latents[:4], torch.tensor(0.7), labels[:4])
    torch.testing.assert_close(once, latents[:4] - 0.7 * velocity)
    torch.testing.assert_close(
        add_noise(flow, once, once + velocity, 0.7), latents[:4], rtol=1e-4, atol=1e-4)


def test_runs_are_counted_by_the_first_bound_that_they_leave():
    kept = {"named": {"a": "x", "b": "y"}, "runs": {
        "0": {"healthy": {"left": [], "training": []}, "a": {"left": ["x", "y"], "training": []},
              "b": {"left": ["x", "y"], "training": []}},
        "1": {"healthy": {"left": ["y"], "training": []}, "a": {"left": [], "training": ["z"]},
              "b": {"left": [], "training": []}}}}
    assert hunting.counts(kept) == {"healthy": (2, 1, 0), "a": (2, 2, 1), "b": (2, 1, 0)}


def test_a_guided_draw_is_asked_for_its_parts(zoo):
    network = patients.fresh(0, width=16, depth=1)
    torch.nn.init.normal_(network.out.weight)
    x, labels, t = torch.randn(4, 3, 8, 8, generator=source()), torch.arange(4), torch.tensor(0.6)
    plain = hunting.guess_of(patients.draw, network)(x, t, labels)
    guided = hunting.guess_of(patients.draw, network, scale=1.0)(x, t, labels)
    torch.testing.assert_close(plain, guided)
    nulls = [hunting.null_of(patients.draw, network)(x, t),
             hunting.null_of(patients.draw, network, scale=0.0)(x, t)]
    torch.testing.assert_close(*nulls)
    assert not torch.allclose(nulls[0], plain)


def test_a_ward_keeps_what_was_measured_and_shows_it(zoo, monkeypatch):
    model, _ = zoo
    shown = []
    monkeypatch.setattr(hunting, "show", lambda figure, alt: shown.append(alt))
    judged = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    numbers = hunting.Numbers(
        lambda *a: checkup.against_linear(a[0], flow, *a[1:]),
        lambda *a: checkup.label_gain(*a[:2], flow, *a[2:]), checkup.null_off)
    latents = torch.randn(12, 3, 8, 8, generator=source())
    ward = hunting.Ward(model, judged.requires_grad_(False), numbers, latents, torch.arange(12) % 10,
                        many=4, steps=2)
    network = patients.fresh(0, width=16, depth=1)
    ward.examine("a", patients.draw, network)
    ward.examine("b", patients.draw, network, [3.0, 2.0, 1.0], scale=2.0)
    ward.prepared("c", patients.draw, (network, latents, torch.zeros(10, 1, 32, 32)), [1.0])
    # the network says 0 at first: its guess is x itself
    assert ward.table["a"]["label gain"] == 0 and len(ward.curves["a"][0]) == 2
    assert ward.pictures["c"].shape == (10, 1, 28, 28)
    ward.show("a", "b", alt="two patients")
    assert shown == ["two patients"]
