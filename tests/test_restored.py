"""What lesson 13 and its benchmark share: tasks, baselines, a trained network, calibration, tables."""

import pytest
import torch
from support.tensors import random
from torch.testing import assert_close

from minildm.course import measured_heart, restored
from minildm.course.heart import HEART
from minildm.course.restored_results import TASKS, Results, plane_row


def some_digits(n=3):
    x = -torch.ones(n, 1, 28, 28)
    x[:, :, 8:20, 12:16] = 1
    return x


@pytest.mark.parametrize("name", TASKS)
def test_baselines_are_pictures_nearer_than_black(name):
    x, operator = some_digits(), restored.tasks()[name]
    found = restored.interpolated(name, operator, operator.apply(x))
    assert found.shape == x.shape and found.abs().max() <= 1
    assert (found - x).square().mean() < (x + 1).square().mean()


def test_neighbours_keep_what_is_seen():
    y, seen = random(1, 1, 28, 28).clamp(-1, 1), torch.ones(1, 1, 28, 28)
    assert torch.equal(restored.neighbours(y, seen), y)


def test_psnr_of_a_known_error():
    found = restored.psnr(torch.full((2, 1, 4, 4), 0.2), torch.zeros(2, 1, 4, 4))
    assert_close(found, torch.full((2,), 20.0))


def test_a_network_learns_to_upsample():
    x = some_digits(8)
    network = restored.train_upsampler(x, 1.0)
    assert network(restored.tasks()["4x super-resolution"].apply(x)).shape == x.shape
    assert not any(p.requires_grad for p in network.parameters())


def test_draws_from_the_truths_own_distribution_have_all_places_alike():
    samples, truth = random(4, 4000, 6), random(4000, 6, seed=1)
    places = restored.ranks(samples, truth)
    assert_close(places.bincount(minlength=5) / 4000, torch.full((5,), 0.2), atol=0.03, rtol=0)
    got, wanted = restored.coverage(places, 4, 0.5)
    assert wanted == 0.4 and abs(got - wanted) < 0.03


def test_the_truth_is_far_from_draws_that_are_too_sure():
    places = restored.ranks(0.3 * random(4, 500, 6), random(500, 6, seed=1))
    assert (places == 4).float().mean() > 0.9


def test_the_exact_posterior_of_the_heart_agrees_with_weighed_draws():
    generator = torch.Generator().manual_seed(0)
    many = HEART.draw(200_000, generator)
    seen = many[:, 0] + 0.1 * torch.randn(len(many), generator=generator)
    near = many[(seen - 0.5).abs() < 0.02]
    exact = measured_heart.exact_posterior(0.5, 0.1, 5000, generator)
    assert_close(exact.mean(0), near.mean(0), atol=0.06, rtol=0)
    assert_close(exact.std(0), near.std(0), atol=0.03, rtol=0)
    assert abs(measured_heart.upper(exact) - measured_heart.upper(near)) < 0.04


def kept():
    posterior = {"samples": 4, "psnr": 27.0, "read": 0.96, "mean psnr": 28.0, "mean read": 1.0, "vote": 1.0,
                 "invented": 0.01, "inner": 0.4, "inner wanted": 0.4, "outer": 0.5, "outer wanted": 0.8,
                 "inner with error": 0.42, "outer with error": 0.75, "seconds per draw": 0.2, "seconds": 9}
    plain = {"psnr": 20.0, "read": 0.9}
    ways = {"posterior": {"0": posterior}, "without a model": {"0": plain}}
    found = {task: dict(ways) for task in TASKS}
    found["4x super-resolution"]["a network trained for it"] = {"0": {"psnr": 28.5, "read": 1.0}}
    return {"n": 50} | found


def test_results_say_what_holds(capsys):
    results = Results(kept())
    others = "a second exact set", "exact gradient", "at the guess", "guess, unsure"
    plane = {name: {"distance": 0.1} for name in others} | {"guess, obey, noise": {"distance": 0.05}}
    verdicts = [row[-1] for row in results.claims(plane)]
    # a draw misses the bar of k-space, its mean too; 50 digits can't tell 0.96 from 0.95
    assert verdicts == ["holds", "holds", "holds", "refuted here", "not resolved", *["holds"] * 4]
    assert plane_row(plane)[1].startswith("exact gradient 0.10")
    assert results.off("blur") == pytest.approx(5)
    results.print_methods()
    results.print_calibration()
    out = capsys.readouterr().out
    assert "27.0 / 0.960" in out and "0.50 in the nearer 0.80 of the places (0.75 with" in out and "-" in out
