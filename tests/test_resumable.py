"""A resumed run is the uninterrupted one, bit for bit; what is not the same run is refused."""

import json
import multiprocessing
import os
import subprocess
import sys
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
from minildm.training import checkpoint, disk
from minildm.training.loop import TrainConfig, fit, read_metrics, train
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
    run_steps(model, run_dir=tmp_path, stop=2)
    (tmp_path / "metrics.csv").unlink()
    run_steps(model, run_dir=tmp_path)
    assert read_metrics(tmp_path)["step"] == list(range(3, CONFIG.steps + 1))


def test_another_configuration_is_refused_by_name(tmp_path):
    run_steps(network(), run_dir=tmp_path, stop=2, identity={"vae": "abc", "model": {"width": 16}})
    changed = TrainConfig(**{**CONFIG.__dict__, "lr": 1e-3, "seed": 1})
    model = network()
    before = state_of(model)
    with pytest.raises(MinildmError) as caught:
        run_steps(model, changed, tmp_path, data=examples(21),
                  identity={"vae": "abd", "model": {"width": 32}})
    for field in ("config.lr: 0.01 != 0.001", "config.seed: 0 != 1", "examples: 20 != 21",
                  "vae: 'abc' != 'abd'", "model.width: 16 != 32"):
        assert field in caught.value.what
    assert "batch_size" not in caught.value.what and caught.value.fix and equal(state_of(model), before)
    often = TrainConfig(**{**CONFIG.__dict__, "save_every": 1})     # this changes no weight
    run_steps(network(), often, tmp_path, identity={"vae": "abc", "model": {"width": 16}})


def test_another_model_is_refused_by_name(tmp_path):
    run_steps(network(), run_dir=tmp_path, stop=2)
    other = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))
    with pytest.raises(MinildmError, match=r"0.weight: \[16, 4\] != \[8, 4\]"):
        run_steps(other, run_dir=tmp_path)


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
