"""The training loop: its formulas, what stops it, and that a resumed run is the uninterrupted one."""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from support.runs import CONFIG, final, same, state
from torch import nn

from minildm import MinildmError
from minildm.training import checkpoint
from minildm.training import loop as training
from minildm.training.loop import (
    EMA,
    TrainConfig,
    epoch_order,
    fit,
    generator_for,
    lr_at,
    read_metrics,
    train,
)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network():
    """With dropout and a buffer: all that could tell a resumed run from an uninterrupted one."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, 1))


def examples(n=20):
    x = torch.randn(n, 4, generator=generator_for(0, "examples"))
    return x, x.sum(1, keepdim=True)


def loss_of(model):
    def loss(x, y, generator):
        noise = torch.randn(x.shape, generator=generator)
        error = (model(x + 0.1 * noise).float() - y).square().mean()
        return {"loss": error, "noise": noise.mean()}
    return loss


def go(model, config=CONFIG, run_dir=None, stop=None, data=None, **more):
    """Train, leaving the loop early after step `stop`; the steps' losses, and the last step."""
    losses, step = [], None
    for step in train(model, loss_of(model), data or examples(), config, run_dir, bar=False, **more):
        losses.append(step.losses)
        if step.i == stop:
            break
    return losses, step


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
    before, optimized = state(model), model[0].weight
    with pytest.raises(KeyError), ema.applied():
        assert same(state(model), ema.averages) and not same(state(model), before)
        raise KeyError
    assert same(state(model), before) and model[0].weight is optimized
    ema.copy_to(other)
    assert same(state(other), ema.averages)


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
    losses, step = go(a)
    history = fit(b, loss_of(b), examples(), CONFIG, bar=False)
    assert same(state(b), step.ema.averages) and not same(state(b), state(a))
    assert history["loss"] == [loss["loss"] for loss in losses]


@pytest.mark.parametrize("stop", [None, 2, 5, 8])
def test_fit_keeps_an_early_average(tmp_path, stop):
    """Of a run in one go, of one that stopped before or after that step, of one that is long finished."""
    wanted = network()
    for step in train(model := network(), loss_of(model), examples(), CONFIG, bar=False):
        if step.i == 5:
            step.ema.copy_to(wanted)
    found, again = network(), network()
    if stop:
        def stops(x, y, generator, step):
            if step > stop:
                raise KeyboardInterrupt
            return loss_of(model)(x, y, generator)

        with pytest.raises(KeyboardInterrupt):
            fit(model := network(), stops, examples(), CONFIG, tmp_path, bar=False, early=(5, network()))
    for other in found, again:
        fit(model := network(), loss_of(model), examples(), CONFIG, tmp_path, bar=False, early=(5, other))
        for a, b in zip(wanted.state_dict().values(), other.state_dict().values(), strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(model[0].weight, found[0].weight)


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


# --- randomness is counted

def test_previews_and_global_seeds_change_nothing():
    a, b = network(), network()
    go(a)
    with torch.random.fork_rng([]):
        torch.manual_seed(5)
        for step in train(b, loss_of(b), examples(), CONFIG, bar=False):
            b.eval()                                    # what a preview in the loop does
            with step.ema.applied(), torch.no_grad():
                b(torch.randn(3, 4))
    assert same(state(a), state(b)) and b.training


def test_training_leaves_the_global_generator_alone():
    with torch.random.fork_rng([]):
        torch.manual_seed(5)
        before = torch.get_rng_state()
        go(network())
        assert torch.equal(before, torch.get_rng_state())


def test_generators_differ_by_seed_and_counter():
    draws = [torch.rand(1, generator=generator_for(*key)).item()
             for key in ((0,), (1,), (0, 1), (1, 0), (0, "noise", 1), (0, "order", 1), (0, 11), (0, 1, 1))]
    assert len(set(draws)) == len(draws)
    assert torch.rand(1, generator=generator_for(0, "noise", 1)).item() == draws[4]


# --- resuming


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run_dir = tmp_path_factory.mktemp("uninterrupted")
    losses, _ = go(network(), run_dir=run_dir)
    torch.set_num_threads(threads)
    return losses, final(run_dir), read_metrics(run_dir)


@pytest.mark.parametrize("stops", [(1,), (4,), (5,), (11,), (2, 3, 7)])
def test_resumed_is_uninterrupted(tmp_path, uninterrupted, stops):
    losses = []
    for stop in (*stops, None):
        model = network()
        losses += go(model, run_dir=tmp_path, stop=stop)[0]
    expected_losses, expected, metrics = uninterrupted
    assert losses == expected_losses
    assert same(final(tmp_path), expected)              # weights, average, moments, to the last bit
    assert same(state(model), {k[6:]: v for k, v in expected.items() if k.startswith("model.")})
    ours = read_metrics(tmp_path)
    assert {**ours, "seconds": 0} == {**metrics, "seconds": 0} and ours["step"] == list(range(1, 13))


@pytest.mark.parametrize("part", ["model.", "ema.", "optimizer.", "step"])
def test_leaving_any_part_out_of_a_checkpoint_shows(tmp_path, uninterrupted, part):
    """The comparison above is not blind: without a part the resumed run is another one."""
    go(network(), run_dir=tmp_path, stop=5)
    tensors, meta = checkpoint.load(checkpoint.latest(tmp_path))
    fresh = training._Run(network(), CONFIG)
    if part == "model.":
        tensors |= {f"model.{name}": t for name, t in fresh.ema.sources.items()}
    if part == "ema.":
        tensors |= {f"ema.{name}": t for name, t in fresh.ema.averages.items()}
    if part == "optimizer.":
        tensors = {name: t for name, t in tensors.items() if not name.startswith(part)}
    if part == "step":
        meta["step"] = 4
    checkpoint.save(checkpoint.latest(tmp_path), tensors, meta)
    go(network(), run_dir=tmp_path)
    assert not same(final(tmp_path), uninterrupted[1])


def test_a_kill_between_saves_leaves_no_duplicate_rows(tmp_path, uninterrupted):
    """What a kill at step 7 leaves: the checkpoint of step 4 and a log of 7 rows, the last one torn."""
    go(network(), run_dir=tmp_path, stop=7)
    checkpoint.shutil.rmtree(tmp_path / "step-000007")
    log = tmp_path / "metrics.csv"
    log.write_text(log.read_text()[:-9])
    losses, _ = go(network(), run_dir=tmp_path)
    assert losses == uninterrupted[0][4:]
    assert {**read_metrics(tmp_path), "seconds": 0} == {**uninterrupted[2], "seconds": 0}


def test_a_kill_before_the_first_save_starts_over(tmp_path, uninterrupted):
    (tmp_path / "metrics.csv").write_text("step,seconds,lr,grad_norm,loss,noise\n1,2,3,4,5,6\n2,")
    assert go(network(), run_dir=tmp_path)[0] == uninterrupted[0]
    assert read_metrics(tmp_path)["step"] == list(range(1, 13))


def test_a_damaged_checkpoint_is_passed_over(tmp_path, uninterrupted, capsys):
    go(network(), run_dir=tmp_path, stop=10)
    newest = checkpoint.latest(tmp_path)
    content = bytearray((newest / checkpoint.TENSORS).read_bytes())
    content[-1] ^= 1
    (newest / checkpoint.TENSORS).write_bytes(content)
    losses, _ = go(network(), run_dir=tmp_path)
    assert "step-000010: state.safetensors is damaged" in capsys.readouterr().err
    assert losses == uninterrupted[0][8:] and same(final(tmp_path), uninterrupted[1])


def test_a_finished_run_is_restored_and_never_overwritten(tmp_path):
    a, b, c = network(), network(), network()
    go(a, run_dir=tmp_path)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.glob("step-*/*")}
    steps, _ = go(b, run_dir=tmp_path)
    assert steps == [] and same(state(a), state(b)) and len(before) == 6
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.glob("step-*/*")}
    history = fit(c, loss_of(c), examples(), CONFIG, tmp_path, bar=False)
    assert history == read_metrics(tmp_path) and len(history["loss"]) == 12
    assert same({f"ema.{k}": v for k, v in state(c).items()},
                {k: v for k, v in final(tmp_path).items() if k.startswith("ema.")})


def test_other_pictures_or_labels_of_the_same_number_are_refused(tmp_path):
    def loss(x, y, labels, generator):
        return loss_of(model)(x, y, generator)

    model, labels = network(), torch.arange(20)
    list(train(model, loss, (*examples(), labels), CONFIG, tmp_path, bar=False))
    list(train(model, loss, (*examples(), labels), CONFIG, tmp_path, bar=False))    # has all its steps
    with pytest.raises(MinildmError, match="data"):
        list(train(model, loss, (*examples(), labels + 1), CONFIG, tmp_path, bar=False))


def test_a_lost_log_begins_anew_with_its_names(tmp_path):
    model = network()
    go(model, run_dir=tmp_path, stop=2)
    (tmp_path / "metrics.csv").unlink()
    go(model, run_dir=tmp_path)
    assert read_metrics(tmp_path)["step"] == list(range(3, CONFIG.steps + 1))


def test_another_configuration_is_refused_by_name(tmp_path):
    go(network(), run_dir=tmp_path, stop=2, identity={"vae": "abc", "model": {"width": 16}})
    changed = TrainConfig(**{**CONFIG.__dict__, "lr": 1e-3, "seed": 1})
    model = network()
    before = state(model)
    with pytest.raises(MinildmError) as caught:
        go(model, changed, tmp_path, data=examples(21), identity={"vae": "abd", "model": {"width": 32}})
    for field in ("config.lr: 0.01 != 0.001", "config.seed: 0 != 1", "examples: 20 != 21",
                  "vae: 'abc' != 'abd'", "model.width: 16 != 32"):
        assert field in caught.value.what
    assert "batch_size" not in caught.value.what and caught.value.fix and same(state(model), before)
    go(network(), TrainConfig(**{**CONFIG.__dict__, "save_every": 1}), tmp_path,     # this changes no weight
       identity={"vae": "abc", "model": {"width": 16}})


def test_another_model_is_refused_by_name(tmp_path):
    go(network(), run_dir=tmp_path, stop=2)
    other = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))
    with pytest.raises(MinildmError, match=r"0.weight: \[16, 4\] != \[8, 4\]"):
        go(other, run_dir=tmp_path)


# --- what stops it

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
    assert same(dict(model.named_parameters()), weights[-1])
    assert checkpoint.latest(tmp_path).name == "step-000004"        # the last good one is kept
    assert all(t.isfinite().all() for t in final(tmp_path).values())
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


def test_a_batch_larger_than_the_data_and_unequal_lengths():
    with pytest.raises(MinildmError, match="batch of 8") as caught:
        go(network(), data=examples(7))
    assert "batch_size <= 7" in caught.value.fix
    x, y = examples()
    with pytest.raises(MinildmError, match="cannot|can be drawn"):
        go(network(), data=(x, y[:-1]))


@pytest.mark.parametrize("field", [{"steps": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": math.nan},
                                   {"ema": 1.0}, {"clip": -1.0}, {"decay": "step"}, {"precision": "fp16"}])
def test_impossible_configurations(field):
    with pytest.raises(MinildmError, match=next(iter(field))):
        TrainConfig(**{"steps": 1, "batch_size": 1, "lr": 1.0, **field})


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
    assert go(network(), run_dir=tmp_path)[0] == uninterrupted[0][6:]
    assert same(final(tmp_path), uninterrupted[1])


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


def test_training_works_in_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.extend(go(network())[0]))
    thread.start()
    thread.join()
    assert found == go(network())[0]


def second_run(run_dir, answer):
    try:
        answer.send(len(go(network(), run_dir=run_dir)[0]))
    except MinildmError as error:
        answer.send(error.what)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_processes_one_folder_one_trains(tmp_path):
    steps = train(model := network(), loss_of(model), examples(), CONFIG, tmp_path, bar=False)
    next(steps)
    ours, theirs = multiprocessing.Pipe()
    second = multiprocessing.get_context("fork").Process(target=second_run, args=(tmp_path, theirs))
    second.start()
    assert ours.poll(30) and ours.recv() == f"process {os.getpid()} is using this run folder"
    second.join(30)
    assert len(list(steps)) == 11 and checkpoint.latest(tmp_path).name == "step-000012"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_inside_a_save_it_resumes_bit_for_bit():
    """A handful of the experiment in kill.py, and the in-place writer that must fail it."""
    code = "import json, kill; print(json.dumps([kill.experiment(5), kill.experiment(5, True)]))"
    out = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, stdout=subprocess.PIPE)
    ours, in_place = json.loads(out.stdout)
    assert ours["killed"] == ours["resumed"] == ours["identical"] == ours["clean"] == 5, ours
    assert in_place["killed"] == 5 and in_place["identical"] < 5, in_place


# --- what it says

def test_projected_finish_time(capsys, monkeypatch):
    config = TrainConfig(steps=100, batch_size=8, lr=1e-3, precision="float32")
    clock = iter(range(0, 10**6, 2))
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock))
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


# --- a model of two parts

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
        before = state(alone[name])
        for other in alone.values():
            other.requires_grad_(other is alone[name])
        usual = adversarial(alone, start=0)

        def loss(x, y, generator, step, usual=usual, name=name):
            return {"loss": usual(x, y, generator, step)[name]}

        list(train(alone[name], loss, examples(), config, bar=False))
        assert not same(state(alone[name]), before) and same(state(both[name]), state(alone[name]))


def test_neither_part_sees_the_others_gradient():
    """Not even when the critic's loss forgets to detach the painter: the steps stay the same, bit for bit."""
    (careful, rows), (careless, careless_rows) = duel(), duel(detach=False)
    assert rows == careless_rows and same(state(careful), state(careless))
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
    assert same(*ends) and {name.split(".")[0] for name in ends[0]} == {"model", "ema", "optimizer"}
    assert len([name for name in ends[0] if name.endswith("exp_avg")]) == 10        # 6 of one, 4 of the other
    history = fit(adversaries(), None, examples(), CONFIG, tmp_path / "whole", bar=False)
    assert history["grad_norm_critic"] == [row["grad_norm_critic"] for row in rows]


def test_a_critic_that_is_not_finite_stops_both(tmp_path):
    model = adversaries()
    usual, before = adversarial(model, start=0), state(model)

    def loss(x, y, generator, step):
        terms = usual(x, y, generator, step)
        return {**terms, "critic": terms["critic"] * math.inf}

    with pytest.raises(MinildmError, match="step 1 is not finite"):
        next(train(model, loss, examples(), CONFIG, tmp_path, bar=False))
    weights = dict(model.named_parameters())
    assert same(weights, {name: before[name] for name in weights})


@pytest.mark.parametrize("losses", [{"loss": 1}, {"loss": 0, "critic": 0}])
def test_a_loss_for_each_part_and_one_gradient_at_least(losses):
    model = adversaries()

    def loss(x, y, generator):
        terms = {"loss": model["loss"](x).mean(), "critic": model["critic"](y).mean()}
        return {name: terms[name] if value else torch.zeros(()) for name, value in losses.items()}

    with pytest.raises(MinildmError, match="a loss by each part's name"):
        next(train(model, loss, examples(), CONFIG, bar=False))
