"""A model of two parts, adversaries: each by its own loss, gradient and optimizer."""

import math

import pytest
import torch
from support.runs import (
    CONFIG,
    equal,
    examples,
    network,
    state_of,
)
from torch import nn

from minildm import MinildmError
from minildm.training import checkpoint
from minildm.training.loop import TrainConfig, fit, train

pytestmark = pytest.mark.usefixtures("one_thread")


def adversaries():
    """A painter, and a critic that starts after step 3; with dropout and buffers, as `network`."""
    critic = nn.Sequential(nn.Linear(1, 8), nn.SiLU(), nn.Linear(8, 1))
    return nn.ModuleDict({"loss": network(), "critic": critic})


def adversarial(model, start=3, detach=True):
    def loss(x, y, generator, step):
        painted = model["loss"](x + 0.1 * torch.randn(x.shape, generator=generator))
        pull = -model["critic"](painted).mean() if step > start else torch.zeros(())
        fake = model["critic"](painted.detach() if detach else painted)
        told = (fake - model["critic"](y)).mean() + fake.square().mean()
        return {"loss": (painted - y).square().mean() + 0.1 * pull, "pull": pull,
                "critic": told if step > start else torch.zeros(())}
    return loss


def duel(run_dir=None, stop=None, detach=True, config=CONFIG, start=3):
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        model, rows = adversaries(), []
    for step in train(model, adversarial(model, start, detach), examples(), config, run_dir, bar=False):
        rows.append({**step.row(), "seconds": 0, "moved": model["critic"][0].weight.sum().item()})
        if step.i == stop:
            break
    return model, rows


def test_both_parts_move_and_each_by_its_own_loss(tmp_path):
    """One AdamW step from fresh weights, clipped by itself, is what each does with the other fixed."""
    config = TrainConfig(steps=1, batch_size=20, lr=1e-2, warmup=0, clip=0.05, precision="float32")
    both, _ = duel(config=config, start=0)
    for name in ("loss", "critic"):
        with torch.random.fork_rng([]):
            torch.manual_seed(1)
            alone = adversaries()
        before = state_of(alone[name])
        for other in alone.values():
            other.requires_grad_(other is alone[name])
        usual = adversarial(alone, start=0)

        def loss(x, y, generator, step, usual=usual, name=name):
            return {"loss": usual(x, y, generator, step)[name]}

        list(train(alone[name], loss, examples(), config, bar=False))
        assert not equal(state_of(alone[name]), before) and equal(state_of(both[name]), state_of(alone[name]))


def test_neither_part_sees_the_others_gradient():
    """Not even when the critic's loss forgets to detach the painter: the steps stay the same, bit for bit."""
    (careful, rows), (careless, careless_rows) = duel(), duel(detach=False)
    assert rows == careless_rows and equal(state_of(careful), state_of(careless))
    assert {"grad_norm", "grad_norm_critic"} <= rows[0].keys()


def test_a_part_without_a_gradient_stands_still_and_then_moves():
    model, rows = duel()
    assert [row["grad_norm_critic"] == 0 for row in rows] == [True] * 3 + [False] * 9
    moved = [row["moved"] for row in rows]
    assert len(set(moved[:3])) == 1 and len(set(moved[2:])) == 10       # weight decay, too, stands still


@pytest.mark.parametrize("stops", [(1,), (3,), (5, 6)])
def test_two_parts_resumed_are_uninterrupted(tmp_path, stops):
    rows = []
    for stop in (*stops, None):
        rows += duel(tmp_path / "resumed", stop)[1]
    assert rows == duel(tmp_path / "whole")[1]
    ends = [checkpoint.load(tmp_path / run / "step-000012")[0] for run in ("resumed", "whole")]
    assert equal(*ends) and {name.split(".")[0] for name in ends[0]} == {"model", "ema", "optimizer"}
    assert len([name for name in ends[0] if name.endswith("exp_avg")]) == 10        # 6 of one, 4 of the other
    history = fit(adversaries(), None, examples(), CONFIG, tmp_path / "whole", bar=False)
    assert history["grad_norm_critic"] == [row["grad_norm_critic"] for row in rows]


def test_a_critic_that_is_not_finite_stops_both(tmp_path):
    model = adversaries()
    usual, before = adversarial(model, start=0), state_of(model)

    def loss(x, y, generator, step):
        terms = usual(x, y, generator, step)
        return {**terms, "critic": terms["critic"] * math.inf}

    with pytest.raises(MinildmError, match="step 1 is not finite"):
        next(train(model, loss, examples(), CONFIG, tmp_path, bar=False))
    weights = dict(model.named_parameters())
    assert equal(weights, {name: before[name] for name in weights})


@pytest.mark.parametrize("losses", [{"loss": 1}, {"loss": 0, "critic": 0}])
def test_a_loss_for_each_part_and_one_gradient_at_least(losses):
    model = adversaries()

    def loss(x, y, generator):
        terms = {"loss": model["loss"](x).mean(), "critic": model["critic"](y).mean()}
        return {name: terms[name] if value else torch.zeros(()) for name, value in losses.items()}

    with pytest.raises(MinildmError, match="a loss by each part's name"):
        next(train(model, loss, examples(), CONFIG, bar=False))
