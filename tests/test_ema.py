"""The average of the weights: its formula, what is copied, and when a model holds it."""

import pytest
import torch
from support.runs import CONFIG, equal, examples, loss_of, network, state_of
from torch import nn

from minildm.training.ema import EMA
from minildm.training.loop import generator_for, train


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_ema_against_its_formula(decay):
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    ema = EMA(model, decay)
    expected = {name: p.detach().double() for name, p in model.named_parameters()}
    g = generator_for(1)
    for i in range(1, 40):
        d = min(decay, (1 + i) / (10 + i))
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.add_(torch.randn(p.shape, generator=g))
                expected[name] = d * expected[name] + (1 - d) * p.double()
            model[1].running_mean.add_(1.0)
        ema.update(i)
    for name, value in expected.items():
        torch.testing.assert_close(ema.averages[name].double(), value, rtol=1e-5, atol=1e-5)
    assert torch.equal(ema.averages["1.running_mean"], model[1].running_mean)       # copied, not averaged


def test_ema_is_applied_and_taken_off_again():
    model, other = network(), network()
    ema = EMA(model, 0.9)
    with torch.no_grad():
        model[0].weight.zero_()
    ema.update(1)
    before, optimized = state_of(model), model[0].weight
    with pytest.raises(KeyError), ema.applied():
        assert equal(state_of(model), ema.averages) and not equal(state_of(model), before)
        raise KeyError
    assert equal(state_of(model), before) and model[0].weight is optimized
    ema.copy_to(other)
    assert equal(state_of(other), ema.averages)


def test_ema_moves_when_the_model_is_wrapped():
    """torch.compile prefixes names with `_orig_mod.`; an average paired by name would stand still."""
    model = nn.Linear(2, 2)
    wrapped = torch.compile(model, backend="eager")
    ema = EMA(wrapped, 0.9)
    assert list(ema.averages) == ["weight", "bias"]
    before = ema.averages["weight"].clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    ema.update(1)
    torch.testing.assert_close(ema.averages["weight"], before + 1 - 2 / 11)


def test_ema_of_the_loop_is_that_of_its_steps():
    model = network()
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    for step in train(model, loss_of(model), examples(), CONFIG, bar=False):
        for name, p in model.named_parameters():
            d = (1 + step.i) / (10 + step.i)
            average[name] = d * average[name] + (1 - d) * p.detach()
    for name, value in average.items():
        torch.testing.assert_close(step.ema.averages[name], value)
        assert not torch.equal(value, model.state_dict()[name])
