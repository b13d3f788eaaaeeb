"""The measurement on one GPU loses no row, measures none twice, keeps to its time, and runs whole."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import gpu, gpu_rows, gpu_runs, gpu_trainings
from benchmarks.gpu_claims import claims_from
from benchmarks.gpu_rows import Rows
from minildm.training.loop import TrainConfig

ROOT = Path(__file__).resolve().parents[1]


def rows_in(folder, seconds=100.0, **facts):
    return Rows(folder / "work", folder / "out", time.time() + seconds, facts)


def test_a_row_is_written_at_once_and_not_measured_again(tmp_path):
    calls = []

    def measured():
        calls.append(1)
        return {"ms": 2.5}

    rows_in(tmp_path, hardware="a card").measure("steps", "a", 1, measured)
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written["hardware"] == "a card" and written["stages"]["steps"]["a"]["ms"] == 2.5
    again = rows_in(tmp_path)
    again.drop_failed()
    assert again.measure("steps", "a", 1, measured)["ms"] == 2.5 and len(calls) == 1


def test_an_error_is_a_row_and_the_next_call_tries_anew(tmp_path):
    def broken():
        raise ValueError("no such card")

    rows = rows_in(tmp_path)
    assert "ValueError: no such card" in rows.measure("steps", "a", 1, broken)["error"]
    assert rows.measure("steps", "b", 1, lambda: {"ms": 1})["ms"] == 1
    # within one call it stays an error, or a process that dies of it would never come further
    assert "error" in rows_in(tmp_path).measure("steps", "a", 1, lambda: {"ms": 1})
    later = rows_in(tmp_path)
    later.drop_failed()
    assert later.measure("steps", "a", 1, lambda: {"ms": 1})["ms"] == 1


def test_no_row_begins_that_would_end_too_late(tmp_path):
    rows = rows_in(tmp_path, seconds=10)
    assert "left_out" in rows.measure("steps", "long", 60, lambda: pytest.fail("it began"))
    assert rows.measure("steps", "short", 5, lambda: {"ms": 1})["ms"] == 1
    rows.ends += 100
    assert rows.measure("steps", "long", 60, lambda: {"ms": 3})["ms"] == 3


def test_a_row_that_a_process_died_in_is_closed_and_the_others_stay(tmp_path):
    rows = rows_in(tmp_path)
    rows.measure("steps", "a", 1, lambda: {"ms": 1})
    rows.put("steps", "b", {"running": True})
    restarted = rows_in(tmp_path)
    restarted.close_running("the process ended with code -11")
    assert "code -11" in restarted.get("steps", "b")["error"]
    assert restarted.get("steps", "a")["ms"] == 1


def test_a_process_that_dies_is_replaced_and_its_row_closed(tmp_path, monkeypatch):
    options = gpu.parse(["--out", str(tmp_path), "--smoke"])
    codes = [-11, 0]

    def die_in_a_row(command, **others):
        rows = Rows(options.work, options.out, float(command[-1]))
        if len(codes) == 2:
            rows.put("steps", "a", {"running": True})
        else:
            rows.measure("steps", "a", 1, lambda: pytest.fail("it would die again"))
            rows.measure("steps", "b", 1, lambda: {"ms": 1})
        return SimpleNamespace(returncode=codes.pop(0))

    monkeypatch.setattr(gpu.subprocess, "run", die_in_a_row)
    gpu.watch(options, ["--smoke"])
    steps = json.loads((tmp_path / "results.json").read_text())["stages"]["steps"]
    assert "code -11" in steps["a"]["error"] and steps["b"]["ms"] == 1 and not codes


def test_a_row_that_takes_far_too_long_ends_its_process(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr(gpu_rows.os, "_exit", ended.append)
    monkeypatch.setattr(gpu_rows, "LEAST", 0.05)
    rows = rows_in(tmp_path)
    rows.measure("steps", "a", 0.001, lambda: time.sleep(0.2) or {})
    rows.measure("steps", "b", 10, dict)
    assert ended == [gpu_rows.GIVEN_UP]


def test_known_rows_of_the_same_card_are_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "asked_of_card", lambda what: "NVIDIA H100")
    stages = {"steps": {"a": {"ms": 1}, "b": {"error": "no"}}, "zoo": {"c": {"folder": "gone"}}}
    other, same = rows_in(tmp_path / "other"), rows_in(tmp_path / "same")
    gpu.take_over(other, {"hardware": "NVIDIA H200, with bf16", "stages": stages})
    gpu.take_over(same, {"hardware": "NVIDIA H100 80GB HBM3, with bf16", "stages": stages})
    assert other.stages == {} and same.stages == {"steps": {"a": {"ms": 1}}}


def test_the_steps_of_a_run_are_those_that_its_seconds_allow(tmp_path):
    rows = rows_in(tmp_path)
    rows.put("steps", "colour denoiser, eager", {"ms": 40.0, "first_seconds": 1.0})
    rows.put("steps", "colour denoiser, graph", {"ms": 10.0, "first_seconds": 1.0})
    rows.put("steps", "colour denoiser, compile", {"ms": 5.0, "first_seconds": 30.0})
    rows.put("steps", "colour vae, graph", {"ms": 4.0, "first_seconds": 1.0})
    bench = SimpleNamespace(rows=rows, device=torch.device("cuda"), seconds={"colour": 50})
    plans = gpu_runs.plans_for(bench, "colour")
    assert plans["vae"] == {"execution": "graph", "ms": 4.0, "steps": 2250}      # of 10 seconds
    assert plans["denoiser"] == {"execution": "graph", "ms": 10.0, "steps": 3900}
    bench.seconds["colour"] = 300
    plans = gpu_runs.plans_for(bench, "colour")
    assert plans["denoiser"] == {"execution": "compile", "ms": 5.0, "steps": 42_000}


def test_a_shorter_training_averages_over_the_same_share_of_it():
    config = TrainConfig(steps=32_000, batch_size=8, lr=1e-3, warmup=500, ema=0.9995)
    half = gpu_trainings.scaled(config, 16_000)
    assert half.ema == pytest.approx(0.999) and half.warmup == 250
    assert gpu_trainings.scaled(config, 32_000) == config


def test_trainings_are_the_recipes_own(one_thread):
    found = gpu_trainings.trainings_of("colour", torch.device("cpu"), smoke=True)
    sizes = gpu_trainings.RECIPES["colour"].SIZES["smoke"]
    assert found["denoiser"].config.lr == sizes.training.lr
    assert found["denoiser"].model.network.config.in_channels == 20      # with four of features
    assert found["denoiser"].data[0].shape == (128, 20, 8, 8)            # with mirror images
    assert found["vae"].config.batch_size == sizes.vae_training.batch_size
    assert set(found) == {"vae", "denoiser", "classifier"}


STEP = {"ms": 9.0, "host_ms": 0.9, "mfu": 0.3, "took": 5}


def found(card):
    steps = {"colour denoiser, compile": STEP, "colour denoiser, graph": {**STEP, "ms": 12.0},
             "colour denoiser, eager": {**STEP, "ms": 8.0, "said": ["it is another"]},
             "colour denoiser, diffusers' loop": {"ms": 45.0, "took": 5},
             "mnist denoiser, graph": {"error": "no"}}
    bits = {"DiT, graph": {"from_eager": 1e-7, "resumed": 0.0, "took": 1}}
    run = {"seconds": 280.0, "pictures_seen": 8_000_000, "label_accuracy": 0.96, "fd_ratio": 4.5,
           "precision": 0.8, "recall": 0.74, "n": 1000}
    colour = {"run": run, "classifier of the features": {"seconds": 20.0}}
    return {"hardware": card, "day": "2026-11-30",
            "stages": {"steps": steps, "bits": bits, "colour": colour}}


def test_claims_carry_the_card_and_are_held_against_its_bar():
    for card, short, holds in (("NVIDIA H200, with bf16", "H200", False),
                               ("NVIDIA H100 80GB HBM3, with bf16", "H100", True)):
        claims = {claim.name: claim for claim in claims_from(found(card))}
        step = claims[f"gpu: ms of a training step, gpu-colour, {short}"]
        # not eager's 8: that row says that it ran in another way
        assert step.value == "9.00, recorded and compiled, 30% of peak" and step.holds is holds
        assert {claim.hardware for claim in claims.values()} == {card}
        assert step.day == "2026-11-30"
    # nothing is made of no rows
    assert "gpu-scenes" not in " ".join(claims) and "MNIST" not in " ".join(claims)
    peer = claims["gpu: time of diffusers' training loop / ours, the same network, gpu-colour, H100"]
    assert peer.value == 5 and peer.holds
    bits = claims["gpu: replayed = eager, bit for bit, DiT, H100"]
    assert not bits.holds and bits.value == "no: 1.0e-07"
    assert not claims["gpu: CIFAR-10, recall, N = 1,000, H100"].holds
    minutes = claims["gpu: CIFAR-10, minutes from pictures to model, H100"]
    # 280 seconds, and 20 of the classifier whose features are borrowed
    assert minutes.value == "5.00, 8.0 million pictures seen"


def test_rows_can_be_chosen_by_their_names(tmp_path):
    bench = gpu.Bench("steps", rows_in(tmp_path), torch.device("cpu"), True, {}, "mnist.*graph")
    assert bench.measure("mnist vae, eager", 1, lambda: pytest.fail("it began")) == {}
    assert bench.measure("mnist vae, graph", 1, lambda: {"ms": 1})["ms"] == 1
    assert bench.rows.stages == {"steps": {"mnist vae, graph": bench.rows.get(
        "steps", "mnist vae, graph")}}


def test_an_unknown_stage_is_told_what_there_is(capsys):
    with pytest.raises(SystemExit):
        gpu.parse(["--stages", "tea"])
    assert "no stage tea; there are peaks, steps" in capsys.readouterr().err


@pytest.mark.slow
def test_all_of_it_runs_in_tiny_on_a_cpu(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--smoke", "--out", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"MINILDM_BUDGET": "smoke"})
    stages = json.loads((tmp_path / "results.json").read_text())["stages"]
    assert set(stages) == set(gpu.STAGES) - {"memory"}
    for stage, rows in stages.items():
        for name, row in rows.items():
            assert not row.keys() & {"error", "left_out", "running"}, (stage, name, row)
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert len(files) <= 6 and tmp_path / "models.tar" in files
