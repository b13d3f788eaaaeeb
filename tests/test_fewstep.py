"""Few steps on a Gaussian, whose trajectories are known: ends, jumps, losses that are 0 when right."""

import copy

import pytest
import torch
from support.models import small_model
from support.tensors import random
from torch.testing import assert_close

from minildm import MinildmError
from minildm.course import few_steps
from minildm.data.sets import ImageSet
from minildm.diffusion import fewstep
from minildm.diffusion.guidance import Cfg
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import cosine, expand, flow, time_grid
from minildm.model import LatentDiffusion
from minildm.nn.unet import UNet, UNetConfig
from minildm.recipes.fewstep import distil
from minildm.spec import Sampling
from minildm.training.loop import TrainConfig

STD = 0.5


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def spread(schedule, t, x):
    """The standard deviation of x_t for data of N(0, STD^2)."""
    return (schedule.alpha(expand(t, x))**2 * STD**2 + schedule.sigma(expand(t, x))**2).sqrt()


def mean(schedule):
    """E[data | x_t] for data of N(0, STD^2)."""
    def denoise(x, t):
        return schedule.alpha(expand(t, x)) * STD**2 / spread(schedule, t, x)**2 * x

    return denoise


def end(schedule):
    """The end of the trajectory through x at t: it keeps its place among the crowd's quantiles."""
    return lambda x, t: STD / spread(schedule, t, x) * x


def exact_jump(x, t, s):
    return x * (spread(flow, s, x) / spread(flow, t, x) - 1) / expand(s - t, x)


@pytest.mark.parametrize("schedule", [flow, cosine])
def test_a_step_along_the_trajectory_is_ddims_with_a_time_for_each_row(schedule):
    x, t, s = random(3, 2, 4, 4), torch.tensor([1.0, 0.6, 0.3]), torch.tensor([0.8, 0.5, 0.0])
    rows = fewstep.trajectory_step(mean(schedule), schedule, x, t, s)
    for k in range(3):
        alone = last(ddim(mean(schedule), schedule, x[k:k + 1], torch.stack([t[k], s[k]])))
        assert_close(rows[k:k + 1], alone)


@pytest.mark.parametrize("schedule", [flow, cosine])
def test_the_loss_of_the_true_ends_vanishes_as_the_steps_get_shorter(schedule):
    data, exact = STD * random(64, 2, 4, 4), end(schedule)
    losses = [fewstep.consistency_loss(exact, exact, mean(schedule), schedule, data, time_grid(k),
                                       generator()).item() for k in (10, 100)]
    assert losses[1] < losses[0] / 100 and losses[1] < 1e-6
    wrong = fewstep.consistency_loss(mean(schedule), mean(schedule), mean(schedule), schedule, data,
                                     time_grid(10), generator())
    assert wrong > 10 * losses[0]


def test_no_gradient_reaches_the_average_or_the_teacher():
    weights = [torch.tensor(1.0, requires_grad=True) for _ in range(3)]
    student, average, teacher = (lambda x, t, w=w: w * mean(flow)(x, t) for w in weights)
    fewstep.consistency_loss(student, average, teacher, flow, random(4, 3), time_grid(5),
                             generator()).backward()
    assert weights[0].grad.abs() > 0 and weights[1].grad is None and weights[2].grad is None


def test_true_ends_draw_the_data_in_any_number_of_steps():
    noise = random(20_000, 1)
    for k in (1, 2, 5):
        steps = list(fewstep.consistency(end(flow), flow, noise, time_grid(k), generator(5)))
        assert len(steps) == k and abs(steps[-1].x.std() - STD) < 0.01
    assert torch.equal(last(fewstep.consistency(end(flow), flow, noise, time_grid(1))),
                       end(flow)(noise, torch.tensor(1.0)))
    # the noise that a trajectory began with does not belong to the end of it
    kept = last(ddim(end(flow), flow, noise, time_grid(2)))
    assert abs(kept.std() - STD) > 0.03


def test_steps_and_jumps_lie_on_their_grids():
    ts = time_grid(8)
    t, s = fewstep.random_steps(ts, 1000, generator())
    assert_close(t - s, torch.full((1000,), 1 / 8)) and set(t.tolist()) == set(ts[:-1].tolist())
    t, s = fewstep.random_jumps(5000, generator(), halvings=3)
    length = t - s
    assert length.unique().tolist() == [0.125, 0.25, 0.5, 1.0]
    assert torch.equal((s / length).round() * length, s) and s.min() == 0 and t.max() == 1


def test_the_mean_of_two_halves_is_the_whole():
    x, t, s = random(4, 3), torch.tensor([1.0, 0.5, 1.0, 0.75]), torch.tensor([0.0, 0.25, 0.5, 0.625])

    def velocity(x, t):
        return (x - mean(flow)(x, t)) / expand(t, x)

    target = fewstep.shortcut_target(velocity, exact_jump, x, t, s, 0.125)
    assert_close(target[:3], exact_jump(x, t, s)[:3])
    assert_close(target[3], velocity(x, t)[3])
    loss = fewstep.shortcut_loss(exact_jump, exact_jump, velocity, STD * random(200, 3), generator(), 6)
    assert loss < 1e-4
    assert_close(fewstep.jump(exact_jump, x, time_grid(3)), end(flow)(x, torch.tensor(1.0)))


def test_a_jump_network_begins_as_the_network_that_it_takes_over():
    torch.manual_seed(0)
    network = UNet(UNetConfig(2, 2, (8, 8), (False, False), 1, 8, 2, 4, num_classes=3))
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.1)
    jumps = fewstep.JumpNetwork(copy.deepcopy(network))
    x, labels = random(3, 2, 4, 4), torch.arange(3)
    t, s = torch.tensor([1.0, 0.5, 0.2]), torch.tensor([0.5, 0, 0.1])
    assert_close(jumps(x, t, s, labels), network(x, t, labels))
    late, early = torch.tensor(0.7), torch.tensor(0.1)
    assert_close(jumps(x, late, early, labels), network(x, late, labels))
    torch.nn.init.ones_(jumps.network.time_embedding.of_length.linear_2.weight)
    assert (jumps(x, t, s, labels) - jumps(x, t, t, labels)).abs().max() > 1e-3


def test_a_model_draws_with_its_own_sampler(tmp_path):
    model = small_model(guidance=(), sampling=Sampling(2, sampler="consistency"))
    model.save(tmp_path / "m")
    model = LatentDiffusion.load(tmp_path / "m")
    mine = model.generate([0, 1], seed=3)
    assert torch.equal(mine, model.generate([0, 1], 2, seed=3, sampler=fewstep.consistency))
    assert_close(mine[1:], model.generate([1], seed=3, first=1), atol=1e-5, rtol=1e-5)
    assert (mine - model.generate([0, 1], seed=3, sampler=ddim)).abs().max() > 1e-3


def test_a_sampler_that_nobody_knows_is_refused():
    with pytest.raises(MinildmError, match="no sampler"):
        Sampling(sampler="magic")


def test_distillation_gives_a_model_of_one_step_and_leaves_the_teacher_alone():
    model = small_model()
    before = copy.deepcopy(model.denoiser.state_dict())
    pictures = (127 + 40 * random(40, 1, 14, 14)).clamp(0, 255).to(torch.uint8)
    images = ImageSet("toy", "train", pictures, torch.arange(40) % 3, ("a", "b", "c"))
    config = TrainConfig(3, 8, 1e-3, ema=0.5)
    fast = distil(model, images, Cfg(2.0), config, bar=False)
    assert fast.guidance == () and fast.sampling == Sampling(1, sampler="consistency")
    for name, tensor in model.denoiser.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert any(not torch.equal(tensor, before[name])
               for name, tensor in fast.denoiser.state_dict().items())
    assert fast.generate([0, 2]).shape == (2, 1, 14, 14)


def test_the_lessons_table_has_a_row_for_each_arm_and_the_span_of_its_seeds(capsys):
    def row(fd):
        return {"fd_ratio": fd, "label_accuracy": 0.99, "precision": 0.9, "recall": 0.8}

    kept = {"teacher": {"0": {"steps": {"1": row(6.0), "20": row(2.0)}}},
            "consistency": {str(k): {"steps": {"1": row(1.5 + k), "4 kept": row(4.0)}} for k in (0, 1)}}
    few_steps.print_scores(kept)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 5 and "2.00 (1.50 to 2.50)" in said[3] and "noise kept" in said[4]
    assert few_steps.between(kept, "consistency", 1, "fd_ratio") == "2.00 (1.50 to 2.50)"
    assert few_steps.between(kept, "teacher", 20, "fd_ratio") == "2.00"
    first, second = few_steps.score_panels(kept)
    assert list(first.lines) == ["teacher, guided", "consistency"] and not second.legend
    assert first.lines["consistency"][0] == [1] and first.lines["consistency"][1].shape == (2, 1)
