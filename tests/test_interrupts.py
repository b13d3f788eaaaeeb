"""What stops a training, and that no whole step is lost by it."""

import math
import os
import signal
from dataclasses import replace

import pytest
import torch
from support.runs import (
    CONFIG,
    equal,
    examples,
    final_tensors,
    loss_of,
    network,
    run_steps,
)

from minildm import MinildmError
from minildm.training import checkpoint
from minildm.training.loop import train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("fault", ["nan loss", "inf loss", "nan gradient"])
def test_not_finite_stops_before_the_update(tmp_path, fault):
    model = network()
    weights, calls = [], []

    def loss(x, y, generator):
        out = model(x)
        calls.append(1)
        weights.append({name: p.detach().clone() for name, p in model.named_parameters()})
        value = (out - y).square().mean()
        if len(calls) == 7:
            bad = {"nan loss": math.nan, "inf loss": math.inf, "nan gradient": 1.0}[fault]
            value = value * bad
            if fault == "nan gradient":             # sqrt at 0: the value is finite, 0 times its slope is not
                value = value + (model[0].weight.sum() * 0).abs().sqrt() * 0
        return {"loss": value, "out": out.mean()}

    with pytest.raises(MinildmError, match="step 7.*not finite") as caught:
        for _ in train(model, loss, examples(), CONFIG, tmp_path, bar=False):
            pass
    assert "'loss': " + fault.split()[0] in caught.value.what or "norm nan" in caught.value.what
    assert equal(dict(model.named_parameters()), weights[-1])
    assert checkpoint.latest(tmp_path).name == "step-000006"        # the last good step is kept
    assert all(t.isfinite().all() for t in final_tensors(tmp_path).values())
    with checkpoint.lock(tmp_path):
        pass


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    model = network()
    with pytest.raises(MinildmError, match="step 4 is not saved: model.0.weight is not finite"):
        for step in train(model, loss_of(model), examples(), CONFIG, tmp_path, bar=False):
            if step.i == 3:
                with torch.no_grad():
                    model[0].weight[0, 0] = math.inf
                model[0].register_forward_pre_hook(lambda module, x: (x[0] * 0,))   # loss stays finite
                model[0].register_forward_hook(lambda module, x, out: out.nan_to_num())
                model[0].weight.register_hook(lambda gradient: gradient * 0)
    assert checkpoint.latest(tmp_path) is None


@pytest.mark.parametrize("where", ["step", "body"])
def test_ctrl_c_saves_whole_steps_and_resumes(tmp_path, uninterrupted, where):
    signal.signal(signal.SIGINT, signal.default_int_handler)    # a shell's background job starts without
    model, calls = network(), []
    usual = loss_of(model)

    def loss(x, y, generator):
        calls.append(1)
        if where == "step" and len(calls) == 6:
            signal.raise_signal(signal.SIGINT)          # amid the step: held back to its end
        return usual(x, y, generator)

    with pytest.raises(KeyboardInterrupt):
        for step in train(model, loss, examples(), CONFIG, tmp_path, bar=False):
            if where == "body" and step.i == 6:
                signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert checkpoint.latest(tmp_path).name == "step-000006"
    assert run_steps(network(), run_dir=tmp_path)[0] == uninterrupted[0][6:]
    assert equal(final_tensors(tmp_path), uninterrupted[1])


def test_a_second_ctrl_c_passes_and_saves_no_half_step(tmp_path):
    model, calls = network(), []

    def loss(x, y, generator):
        calls.append(1)
        for _ in range(2 * (len(calls) == 6)):
            signal.raise_signal(signal.SIGINT)
        return {"loss": (model(x) - y).square().mean()}

    with pytest.raises(KeyboardInterrupt):
        for _ in train(model, loss, examples(), CONFIG, tmp_path, bar=False):
            pass
    assert len(calls) == 6 and checkpoint.latest(tmp_path).name == "step-000004"


# --- SIGTERM and SIGHUP

TERMINATION = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@pytest.mark.parametrize("number", TERMINATION)
@pytest.mark.parametrize("where", ["step", "body"])
def test_termination_saves_whole_steps_and_resumes(tmp_path, uninterrupted, where, number):
    """As Ctrl-C, however often it comes: a closing terminal sends several."""
    model, calls = network(), []
    usual = loss_of(model)

    def loss(x, y, generator):
        calls.append(1)
        if where == "step" and len(calls) == 6:
            for _ in range(3):
                signal.raise_signal(number)
        return usual(x, y, generator)

    with pytest.raises(KeyboardInterrupt, match=signal.Signals(number).name):
        for step in train(model, loss, examples(), CONFIG, tmp_path, bar=False):
            if where == "body" and step.i == 6:
                signal.raise_signal(number)
    assert signal.getsignal(number) is signal.SIG_DFL
    assert checkpoint.latest(tmp_path).name == "step-000006"
    assert run_steps(network(), run_dir=tmp_path)[0] == uninterrupted[0][6:]
    assert equal(final_tensors(tmp_path), uninterrupted[1])


def test_termination_is_left_alone_where_nothing_is_saved_or_it_is_ignored(tmp_path):
    before = [signal.getsignal(number) for number in TERMINATION]
    for _ in train(model := network(), loss_of(model), examples(), CONFIG, bar=False):
        assert [signal.getsignal(number) for number in TERMINATION] == before
    signal.signal(signal.SIGTERM, signal.SIG_IGN)           # as nohup does with SIGHUP
    try:
        for _ in train(model := network(), loss_of(model), examples(), CONFIG, tmp_path, bar=False):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert checkpoint.latest(tmp_path).name == "step-000012"


# --- an exception in the loss

@pytest.mark.parametrize("save_every", [0, 4])
@pytest.mark.parametrize("after_forward", [False, True])
def test_an_exception_in_the_loss_saves_the_last_whole_step(tmp_path, uninterrupted, save_every,
                                                            after_forward):
    """Out of memory, for example; the forward pass has moved BatchNorm's statistics by then."""
    model, calls = network(), []
    usual = loss_of(model)

    def loss(x, y, generator):
        calls.append(1)
        terms = usual(x, y, generator) if after_forward or len(calls) < 7 else None
        if len(calls) == 7:
            raise torch.cuda.OutOfMemoryError("no memory")
        return terms

    config = replace(CONFIG, save_every=save_every)
    with pytest.raises(MinildmError, match="memory is too small"):
        for _ in train(model, loss, examples(), config, tmp_path, bar=False):
            pass
    assert checkpoint.latest(tmp_path).name == "step-000006"
    assert run_steps(network(), config, tmp_path)[0] == uninterrupted[0][6:]
    assert equal(final_tensors(tmp_path), uninterrupted[1])


def test_the_first_error_is_told_where_nothing_can_be_saved_either(tmp_path, monkeypatch):
    def loss(x, y, generator, step):
        if step == 3:
            monkeypatch.setattr(checkpoint, "save", cannot_save)
            raise ZeroDivisionError
        return usual(x, y, generator)

    def cannot_save(*arguments):
        raise MinildmError("could not save: the disk is full")

    usual = loss_of(model := network())
    with pytest.raises(ZeroDivisionError) as caught:
        list(train(model, loss, examples(), CONFIG, tmp_path, bar=False))
    assert "the disk is full" in caught.value.__notes__[0]
