"""Lesson 15's arms, and the stored comparison of them: its rows are those of RESULTS.md."""

import json
from pathlib import Path

import torch

from benchmarks import equal_cost as benchmark
from minildm.course import arms, equal_cost
from minildm.course.stored import stored
from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import flow, time_grid
from minildm.nn.dit import unpatchify

ROOT = Path(__file__).parents[1]


def test_the_results_are_those_of_the_stored_runs():
    kept, page = stored("equal_cost"), (ROOT / "RESULTS.md").read_text()
    for row in benchmark.judged(kept):
        start = " | ".join(row.line().split(" | ")[:4])
        assert start in page, start


def test_the_rates_are_the_best_of_sweeps_with_worse_ones_around():
    kept = stored("equal_cost")
    for arm, rate in equal_cost.rates_of(kept).items():
        sweep = equal_cost.sweep_of(kept, arm)
        assert min(sweep) < rate < max(sweep), arm
        assert {row["lr"] for row in kept["runs"] if row["arm"] == arm} == {rate}


def test_effects_are_differences_within_a_seed():
    luck = torch.tensor([0.0, 40.0, -7.0])
    fd = torch.tensor([[5.0, 2.0], [10.0, 30.0]]) + luck[:, None, None]
    torch.testing.assert_close(equal_cost.effects(fd), torch.tensor([[-3.0, 0], [20, 0], [23, 0]]))
    mean, half = equal_cost.interval([1.0, 2.0, 3.0])
    assert mean == 2 and abs(half - 4.303 / 3**0.5) < 1e-6


def test_patches_are_as_a_dit_writes_them():
    x = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    patches = arms.patches_of(x, side=4)
    assert patches.shape == (48, 8)
    assert torch.equal(unpatchify(patches.unflatten(0, (3, 16)), 4, 2), x)


def test_drawing_is_the_packages_ddim_for_both_predictions():
    network = arms.make_network((3, 8, 8), 0, dim=16, depth=1, side=2)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(1))
    noise, labels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2)), torch.arange(2)
    for predicts in "x0", "flow":
        denoiser = Denoiser(network, flow, predicts)
        with torch.no_grad():
            theirs = last(ddim(lambda x, t, d=denoiser: d(x, t, labels), flow, noise, time_grid(4)))
        torch.testing.assert_close(arms.draw_arm(network, predicts, noise, labels, 4), theirs,
                                   rtol=1e-4, atol=1e-5)


def test_in_silent_directions_a_velocity_leaves_the_noise():
    network = arms.make_network((3, 8, 8), 0, dim=16, depth=1, side=2)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(30, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    drawn = arms.draw_arm(network, "flow", noise, torch.arange(30) % 10, 3)
    way = arms.patches_of(drawn - noise, side=2)
    weight = network.proj_out_2.weight.detach()
    assert weight.shape == (48, 16)
    assert arms.silent_share(weight, way) < 1e-8
    assert 0.5 < arms.silent_share(weight, arms.patches_of(noise, side=2)) < 0.8       # 32 of 48


def test_a_space_goes_to_data_and_back():
    images = torch.randint(256, (40, 3, 8, 8), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0))
    space = arms.pixel_space(images, torch.arange(40) % 10, 6)
    batch, labels = space.batch(torch.Generator().manual_seed(1))
    assert batch.shape == (6, 3, 8, 8) and labels.shape == (6,)
    pictures = images[:5].float() / 127.5 - 1
    torch.testing.assert_close(space.decode(space.encode(pictures)), pictures, rtol=0, atol=1e-5)


def test_the_stored_file_names_what_it_is():
    facts = json.loads(benchmark.STORED.read_text())["facts"]
    assert facts["seeds"] == [0, 1, 2] and facts["n"] == 1000 and facts["hardware"]
