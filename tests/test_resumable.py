"""A resumed run is the uninterrupted one, bit for bit, however it was stopped."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

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
    state_of,
)
from torch import nn

from minildm import MinildmError
from minildm.training import checkpoint, disk, resumable
from minildm.training.loop import fit, read_metrics, train
from minildm.training.state import TrainState

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("stops", [(1,), (4,), (5,), (11,), (2, 3, 7)])
def test_resumed_is_uninterrupted(tmp_path, uninterrupted, stops):
    losses = []
    for stop in (*stops, None):
        model = network()
        losses += run_steps(model, run_dir=tmp_path, stop=stop)[0]
    expected_losses, expected, metrics = uninterrupted
    assert losses == expected_losses
    assert equal(final_tensors(tmp_path), expected)              # weights, average, moments, to the last bit
    assert equal(state_of(model), {k[6:]: v for k, v in expected.items() if k.startswith("model.")})
    ours = read_metrics(tmp_path)
    assert {**ours, "seconds": 0} == {**metrics, "seconds": 0} and ours["step"] == list(range(1, 13))


@pytest.mark.parametrize("part", ["model.", "ema.", "optimizer.", "step"])
def test_leaving_any_part_out_of_a_checkpoint_shows(tmp_path, uninterrupted, part):
    """The comparison above is not blind: without a part the resumed run is another one."""
    run_steps(network(), run_dir=tmp_path, stop=5)
    tensors, meta = checkpoint.load(checkpoint.latest(tmp_path))
    fresh = TrainState(network(), CONFIG)
    if part == "model.":
        tensors |= {f"model.{name}": t for name, t in fresh.ema.sources.items()}
    if part == "ema.":
        tensors |= {f"ema.{name}": t for name, t in fresh.ema.averages.items()}
    if part == "optimizer.":
        tensors = {name: t for name, t in tensors.items() if not name.startswith(part)}
    if part == "step":
        meta["step"] = 4
    checkpoint.save(checkpoint.latest(tmp_path), tensors, meta)
    run_steps(network(), run_dir=tmp_path)
    assert not equal(final_tensors(tmp_path), uninterrupted[1])


def test_a_kill_between_saves_leaves_no_duplicate_rows(tmp_path, uninterrupted):
    """What a kill at step 7 leaves: the checkpoint of step 4 and a log of 7 rows, the last one torn."""
    run_steps(network(), run_dir=tmp_path, stop=7)
    disk.remove(tmp_path / "step-000007")
    log = tmp_path / "metrics.csv"
    log.write_text(log.read_text()[:-9])
    losses, _ = run_steps(network(), run_dir=tmp_path)
    assert losses == uninterrupted[0][4:]
    assert {**read_metrics(tmp_path), "seconds": 0} == {**uninterrupted[2], "seconds": 0}


def test_a_kill_before_the_first_save_starts_over(tmp_path, uninterrupted):
    (tmp_path / "metrics.csv").write_text("step,seconds,lr,grad_norm,loss,noise\n1,2,3,4,5,6\n2,")
    assert run_steps(network(), run_dir=tmp_path)[0] == uninterrupted[0]
    assert read_metrics(tmp_path)["step"] == list(range(1, 13))


def test_a_damaged_checkpoint_is_passed_over(tmp_path, uninterrupted, capsys):
    run_steps(network(), run_dir=tmp_path, stop=10)
    newest = checkpoint.latest(tmp_path)
    content = bytearray((newest / checkpoint.TENSORS).read_bytes())
    content[-1] ^= 1
    (newest / checkpoint.TENSORS).write_bytes(content)
    losses, _ = run_steps(network(), run_dir=tmp_path)
    assert "step-000010: state.safetensors is damaged" in capsys.readouterr().err
    assert losses == uninterrupted[0][8:] and equal(final_tensors(tmp_path), uninterrupted[1])


def test_a_finished_run_is_restored_and_never_overwritten(tmp_path):
    a, b, c = network(), network(), network()
    run_steps(a, run_dir=tmp_path)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.glob("step-*/*")}
    steps, _ = run_steps(b, run_dir=tmp_path)
    assert steps == [] and equal(state_of(a), state_of(b)) and len(before) == 6
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.glob("step-*/*")}
    history = fit(c, loss_of(c), examples(), CONFIG, tmp_path, bar=False)
    assert history == read_metrics(tmp_path) and len(history["loss"]) == 12
    assert equal({f"ema.{k}": v for k, v in state_of(c).items()},
                {k: v for k, v in final_tensors(tmp_path).items() if k.startswith("ema.")})


def test_a_lost_log_begins_anew_with_its_names(tmp_path):
    model = network()
    run_steps(model, run_dir=tmp_path, stop=2)
    (tmp_path / "metrics.csv").unlink()
    run_steps(model, run_dir=tmp_path)
    assert read_metrics(tmp_path)["step"] == list(range(3, CONFIG.steps + 1))


@pytest.mark.parametrize("stop", [None, 2, 5, 8])
def test_fit_keeps_a_snapshot_of_the_average(tmp_path, stop):
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
            fit(model := network(), stops, examples(), CONFIG, tmp_path, bar=False, snapshot=(5, network()))
    for other in found, again:
        fit(model := network(), loss_of(model), examples(), CONFIG, tmp_path, bar=False, snapshot=(5, other))
        for a, b in zip(wanted.state_dict().values(), other.state_dict().values(), strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(model[0].weight, found[0].weight)


def second_run(run_dir, answer):
    try:
        answer.send(len(run_steps(network(), run_dir=run_dir)[0]))
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
    """A handful of the experiment in kill.py, by steps and by the clock; a writer in place must fail."""
    code = ("import json, kill; print(json.dumps([kill.experiment(5), "
            "kill.experiment(5, by_clock=True), kill.experiment(5, in_place=True)]))")
    out = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent / "support",
                         stdout=subprocess.PIPE)
    *atomic, in_place = json.loads(out.stdout)
    for ours in atomic:
        assert ours["killed"] == ours["resumed"] == ours["identical"] == ours["clean"] == 5, ours
    assert in_place["killed"] == 5 and in_place["identical"] < 5, in_place


# --- saving by the clock

@pytest.mark.parametrize("seconds, cost, saved", [(10, 0, 3), (1e9, 0, 1), (10, 2, 1), (0, 0, 12)])
def test_the_clock_decides_when_save_every_is_0(tmp_path, monkeypatch, seconds, cost, saved):
    """Every `SAVE_SECONDS`, but no more than a twentieth of the time; here a step takes 2 seconds."""
    now, saves = [0.0], []
    real_save = checkpoint.save

    def save(folder, *arguments):
        saves.append(folder)
        now[0] += cost
        real_save(folder, *arguments)

    monkeypatch.setattr(resumable.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(resumable, "SAVE_SECONDS", seconds)
    monkeypatch.setattr(checkpoint, "save", save)
    config = replace(CONFIG, save_every=0)
    for _ in train(model := network(), loss_of(model), examples(), config, tmp_path, bar=False):
        now[0] += 2
    assert len(saves) == saved + (cost == 2), saves         # of the costly one: the first, the last
    assert saves[-1].name == "step-000012"


def test_a_run_that_saves_by_the_clock_loses_little(tmp_path, monkeypatch, uninterrupted):
    """What a kill leaves: nothing is closed, no exception is raised."""
    monkeypatch.setattr(resumable, "SAVE_SECONDS", 0)
    monkeypatch.setattr(resumable, "SAVE_SHARE", 0)
    config = replace(CONFIG, save_every=0)
    run_steps(network(), config, tmp_path / "run", stop=7)
    disk.remove(tmp_path / "run" / "step-000007")
    losses, _ = run_steps(network(), config, tmp_path / "run")
    assert losses == uninterrupted[0][6:]
    assert equal(final_tensors(tmp_path / "run"), uninterrupted[1])


# --- the snapshot is part of the checkpoint

@pytest.mark.parametrize("when", ["in step 5", "after step 5", "killed after its save"])
def test_an_interrupt_at_the_snapshot_loses_it_not(tmp_path, when):
    usual = loss_of(model := network())
    config = replace(CONFIG, save_every=5 if when == "killed after its save" else 0)

    def loss(x, y, generator, step):
        if when == "in step 5" and step == 5:
            signal.raise_signal(signal.SIGINT)
        if when != "in step 5" and step == 6:
            raise KeyboardInterrupt if config.save_every else ZeroDivisionError
        return usual(x, y, generator)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises((KeyboardInterrupt, ZeroDivisionError)):
        fit(model, loss, examples(), config, tmp_path, bar=False, snapshot=(5, network()))
    assert checkpoint.latest(tmp_path).name == "step-000005"
    others = []
    for run_dir in (tmp_path, None):
        other = network()
        fit(model := network(), loss_of(model), examples(), config, run_dir, bar=False,
            snapshot=(5, other))
        others.append(state_of(other))
    assert equal(*others)


def test_a_snapshot_that_cannot_be_had_is_refused_before_the_first_step(tmp_path):
    def start(model, snapshot, config=CONFIG):
        fit(model, loss_of(model), examples(), config, tmp_path, bar=False, snapshot=snapshot)

    with pytest.raises(MinildmError, match="another model's"):
        start(network(), (5, nn.Linear(4, 1)))
    for step in (0, 13):
        with pytest.raises(MinildmError, match=f"of step {step}"):
            start(network(), (step, network()))
    assert not list(tmp_path.iterdir())
    run_steps(network(), run_dir=tmp_path, stop=6)
    with pytest.raises(MinildmError, match="past step 5 and kept no average"):
        start(network(), (5, network()))
    start(network(), (8, network()))                        # still to come
    with pytest.raises(MinildmError, match="snapshot: 8 != 9"):
        start(network(), (9, network()))
