"""The training loop: its formulas, its counted randomness, what it says."""

import math
import threading
from pathlib import Path

import pytest
import torch
from support.runs import (
    CONFIG,
    equal,
    examples,
    loss_of,
    network,
    run_steps,
    state_of,
)
from torch import nn

from minildm import MinildmError
from minildm.training import loop as training
from minildm.training import progress
from minildm.training.loop import TrainConfig, epoch_order, fit, generator_for, lr_at, train

pytestmark = pytest.mark.usefixtures("one_thread")

# --- formulas

def test_learning_rate_against_closed_forms():
    def rates(**k):
        config = TrainConfig(steps=100, batch_size=1, lr=0.5, warmup=10, **k)
        return [lr_at(config, i) for i in range(1, 101)]

    for decay in ("linear", "cosine", "none"):
        assert rates(decay=decay)[:10] == pytest.approx([0.05 * i for i in range(1, 11)])
        assert rates(decay=decay)[10] == 0.5
    assert rates(decay="linear")[10:] == pytest.approx([0.5 * k / 90 for k in range(90, 0, -1)])
    assert rates(decay="cosine")[55] == pytest.approx(0.25)
    squares = [0.5 * math.cos(math.pi * k / 180) ** 2 for k in range(90)]
    assert rates(decay="cosine")[10:] == pytest.approx(squares)
    assert set(rates(decay="none")[10:]) == {0.5}
    assert lr_at(TrainConfig(steps=4, batch_size=1, lr=1.0, warmup=50), 3) == 1.0      # half of a short run


def test_the_optimizer_uses_the_learning_rate():
    """AdamW's first step moves each weight by lr, whatever the gradient."""
    model = nn.Linear(1, 1, bias=False)
    before = model.weight.item()
    config = TrainConfig(steps=10, batch_size=1, lr=0.1, warmup=2, weight_decay=0.0, precision="float32")
    data = (torch.ones(1, 1),)
    step = next(train(model, lambda x, generator: {"loss": model(x).sum() * 1e-3}, data, config, bar=False))
    assert step.lr == 0.05 and before - model.weight.item() == pytest.approx(0.05, rel=1e-4)


def test_clipping():
    norms = {}
    for clip in (0.0, 1e-3):
        model = nn.Linear(4, 1)
        gradients = []
        config = TrainConfig(steps=3, batch_size=8, lr=1e-9, clip=clip, precision="float32")
        for step in train(model, loss_of(model), examples(), config, bar=False):
            gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())
            assert step.grad_norms["loss"] > 0.1                 # what is reported is the norm before
        norms[clip] = gradients
    assert norms[1e-3] == pytest.approx([1e-3] * 3, rel=1e-2)
    assert min(norms[0.0]) > 0.1


def test_every_example_once_an_epoch():
    seen = []
    model = nn.Linear(1, 1)
    config = TrainConfig(steps=15, batch_size=8, lr=1e-3, precision="float32")

    def loss(x, generator):
        seen.extend(x[:, 0].tolist())
        return {"loss": model(x).mean()}

    for _ in train(model, loss, (torch.arange(20.0)[:, None],), config, bar=False):
        pass
    epochs = [seen[k:k + 20] for k in range(0, 120, 20)]        # 15 x 8: batches go on across epochs
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert epochs[3] == epoch_order(20, 0, 3).tolist()


def test_one_batch_is_overfitted():
    model = nn.Sequential(nn.Linear(4, 64), nn.SiLU(), nn.Linear(64, 1))
    data = examples(8)
    config = TrainConfig(steps=300, batch_size=8, lr=1e-2, ema=0.9, precision="float32")

    def loss(x, y, generator):
        return {"loss": (model(x) - y).square().mean()}

    history = fit(model, loss, data, config, bar=False)
    assert history["loss"][0] > 0.5 and history["loss"][-1] < 1e-4
    assert loss(*data, None)["loss"] < 1e-4         # with the averaged weights, which fit() leaves
    assert history["step"] == list(range(1, 301)) and min(history["seconds"]) > 0


def test_fit_leaves_the_average_in_the_model():
    a, b = network(), network()
    losses, step = run_steps(a)
    history = fit(b, loss_of(b), examples(), CONFIG, bar=False)
    assert equal(state_of(b), step.ema.averages) and not equal(state_of(b), state_of(a))
    assert history["loss"] == [loss["loss"] for loss in losses]


def test_bf16_autocast_keeps_the_loss_in_float32():
    seen = {}
    for precision in ("bf16", "float32", "auto"):
        model = nn.Linear(4, 1)

        def loss(x, y, generator, model=model, precision=precision):
            out = model(x)
            seen[precision] = out.dtype
            return {"loss": (out.float() - y).square().mean()}

        config = TrainConfig(steps=1, batch_size=8, lr=1e-3, precision=precision)
        next(train(model, loss, examples(), config, bar=False))
        assert model.weight.dtype == model.weight.grad.dtype == torch.float32
    gains = training.gains_from_bf16(torch.device("cpu"))
    assert seen == {"bf16": torch.bfloat16, "float32": torch.float32,
                    "auto": torch.bfloat16 if gains else torch.float32}
    if gains and Path("/proc/cpuinfo").exists():
        assert "avx512_bf16" in Path("/proc/cpuinfo").read_text()


def test_previews_and_global_seeds_change_nothing():
    a, b = network(), network()
    run_steps(a)
    with torch.random.fork_rng([]):
        torch.manual_seed(5)
        for step in train(b, loss_of(b), examples(), CONFIG, bar=False):
            b.eval()                                    # what a preview in the loop does
            with step.ema.applied(), torch.no_grad():
                b(torch.randn(3, 4))
    assert equal(state_of(a), state_of(b)) and b.training


def test_training_leaves_the_global_generator_alone():
    with torch.random.fork_rng([]):
        torch.manual_seed(5)
        before = torch.get_rng_state()
        run_steps(network())
        assert torch.equal(before, torch.get_rng_state())


def test_generators_differ_by_seed_and_counter():
    draws = [torch.rand(1, generator=generator_for(*key)).item()
             for key in ((0,), (1,), (0, 1), (1, 0), (0, "noise", 1), (0, "order", 1), (0, 11), (0, 1, 1))]
    assert len(set(draws)) == len(draws)
    assert torch.rand(1, generator=generator_for(0, "noise", 1)).item() == draws[4]


def test_a_batch_larger_than_the_data_and_unequal_lengths():
    with pytest.raises(MinildmError, match="batch of 8") as caught:
        run_steps(network(), data=examples(7))
    assert "batch_size <= 7" in caught.value.fix
    x, y = examples()
    with pytest.raises(MinildmError, match="cannot|can be drawn"):
        run_steps(network(), data=(x, y[:-1]))


@pytest.mark.parametrize("field", [{"steps": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": math.nan},
                                   {"ema": 1.0}, {"clip": -1.0}, {"decay": "step"}, {"precision": "fp16"}])
def test_impossible_configurations(field):
    with pytest.raises(MinildmError, match=next(iter(field))):
        TrainConfig(**{"steps": 1, "batch_size": 1, "lr": 1.0, **field})


def test_training_works_in_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.extend(run_steps(network())[0]))
    thread.start()
    thread.join()
    assert found == run_steps(network())[0]


def test_projected_finish_time(capsys, monkeypatch):
    config = TrainConfig(steps=100, batch_size=8, lr=1e-3, precision="float32")
    clock = iter(range(0, 10**6, 2))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    model = network()
    for step in train(model, loss_of(model), examples(), config):
        if step.i == 25:
            break
    # the clock is read twice a step and goes 2 s at a time: 4 s a step, and 2 s for its own two readings
    said = capsys.readouterr().out
    assert said.startswith("step 20/100: 0.2 steps/s, done in about 5 min ") and said.count("\n") == 1


def test_no_bar_under_ci_and_nothing_without(capsys, monkeypatch):
    monkeypatch.setenv("CI", "1")
    model = network()
    list(train(model, loss_of(model), examples(), CONFIG))
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("CI")
    list(train(model, loss_of(model), examples(), CONFIG))
    assert "12" in capsys.readouterr().err
    list(train(model, loss_of(model), examples(), TrainConfig(steps=30, batch_size=8, lr=1e-3), bar=False))
    assert capsys.readouterr() == ("", "")
