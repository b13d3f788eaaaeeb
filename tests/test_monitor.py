"""A healthy history leaves no bound; each illness leaves its own, and only its own."""

import math

import pytest
import torch

from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.schedules import cosine, flow
from minildm.training import monitor
from minildm.training.loop import TrainConfig, train

STEPS = 600


def falling(start, end, steps=STEPS):
    """As losses do: fast, then slowly."""
    return [end + (start - end) * math.exp(-i / 60) for i in range(steps)]


HEALTHY = {     # first values and levels as in the package's own runs
    "vae": {"grad_norm": falling(8.4, 1.9), "loss": falling(1.7, 0.05), "l1": falling(0.87, 0.07),
            "l2": falling(0.86, 0.02), "kl": falling(0.025, 2.6)},
    "colour vae": {"grad_norm": falling(0.15, 0.5), "loss": falling(0.66, 0.07), "l1": falling(0.41, 0.08),
                   "l2": falling(0.25, 0.01), "kl": falling(0.01, 6.0)},
    "denoiser": {"grad_norm": falling(0.68, 0.4), "loss": falling(2.05, 1.05),
                 "unexplained": falling(1.0, 0.53), "data_std": [1.0] * STEPS},
    "critic": {"critic": [0.0] * 300 + falling(1, 0.75, 300), "real": [0.0] * 300 + falling(0.5, 0.8, 300),
               "fake": [0.0] * 300 + falling(0.5, 0.8, 300), "kl": falling(0.025, 2.6)},
    "classifier": {"grad_norm": falling(0.5, 2.8), "loss": falling(2.33, 0.4), "accuracy": falling(0.1, 0.9)},
}


@pytest.mark.parametrize("kind", HEALTHY)
def test_healthy_runs_stay_inside(kind):
    assert monitor.violations(HEALTHY[kind]) == []


@pytest.mark.parametrize("kind, metric, values, said", [
    ("denoiser", "data_std", [0.18] * STEPS, "drowns"), ("denoiser", "data_std", [5.5] * STEPS, "scratches"),
    ("denoiser", "unexplained", falling(1.0, 0.97), "nothing"),
    ("vae", "kl", falling(0.5, 0.001), "collapse"), ("vae", "kl", falling(0.025, 60), "autoencoder"),
    ("vae", "l1", falling(0.87, 0.2), "copies"),
    ("vae", "grad_norm", falling(8, 400), "clipping"), ("vae", "grad_norm", [1e-7] * STEPS, "moves"),
    ("critic", "real", falling(0.9, 1), "real patch"), ("critic", "fake", falling(0.9, 1), "copy's patch"),
    ("critic", "critic", falling(1, 0.001), "sure"), ("critic", "critic", falling(1, 1.6), "wrong"),
])
def test_each_illness_has_its_bound(kind, metric, values, said):
    found = monitor.violations(HEALTHY[kind] | {metric: values})
    assert [violation.bound.metric for violation in found] == [metric]
    bound, text = found[0].bound, str(found[0])
    assert said in text and metric in text and bound.cure in text
    assert not bound.low <= found[0].median <= bound.high


def test_a_bound_is_left_once_and_not_for_one_bad_batch():
    watch, bad = monitor.Monitor(), {"kl": 0.0001}
    assert sum(len(watch.update(bad)) for _ in range(STEPS)) == 1
    watch = monitor.Monitor()
    values = [2.6] * 250 + [30_000.0] + [2.6] * 250          # so bad a batch, a healthy run has had
    assert not any(watch.update({"kl": v}) for v in values)


def test_nothing_is_judged_before_its_time():
    for bound in monitor.BOUNDS:
        ill = bound.low / 2 if bound.low else 2 * bound.high
        watch = monitor.Monitor((bound,))
        first = next(i for i in range(1, 1000) if watch.update({bound.metric: ill}))
        assert first == bound.after


@pytest.mark.parametrize("prediction_type, schedule", [("eps", cosine), ("v", cosine), ("flow", flow)])
def test_what_saying_nothing_leaves_unexplained(prediction_type, schedule):
    """A network that answers 0 leaves all of its target, whatever that is; its data's scale is measured."""
    class Zero(torch.nn.Module):
        def forward(self, x, t, context=None):
            return torch.zeros_like(x)
    data = 3 * torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    terms = Denoiser(Zero(), schedule, prediction_type).loss(data, generator=torch.Generator().manual_seed(1))
    assert terms["unexplained"].item() == pytest.approx(1)
    assert terms["data_std"].item() == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("bar", [True, False])
def test_train_says_so_once_and_bar_false_is_silent(bar, capsys, monkeypatch):
    monkeypatch.setenv("CI", "1")                   # no bar, but lines of text
    model = torch.nn.Linear(1, 1)

    def loss(x, generator):
        return {"loss": model(x).square().mean(), "data_std": torch.tensor(0.18)}
    steps = list(train(model, loss, (torch.ones(4, 1),), TrainConfig(15, 2, 1e-3), bar=bar))
    out = capsys.readouterr().out
    assert len(steps) == 15 and out.count("data_std is 0.18") == bar and ("step 10:" in out) == bar
    assert bar or out == ""
