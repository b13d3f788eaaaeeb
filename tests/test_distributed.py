"""Several processes train as one does: the same steps, one log, one end."""

import contextlib
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.models import small_model
from support.ranks import free_port, together
from support.runs import CONFIG, examples, final_tensors
from torch import nn

from minildm import MinildmError, cli
from minildm import torchrun as together_or_alone
from minildm.nn.clip import CLIP, CLIPConfig, TextConfig, VisionConfig, contrastive_loss
from minildm.training import checkpoint, distributed
from minildm.training.loop import fit, read_metrics, train

pytestmark = pytest.mark.usefixtures("one_thread")


def network():
    """No BatchNorm and no dropout: what one process and two compute alike."""
    with torch.random.fork_rng([]):
        torch.manual_seed(distributed.rank())       # the first one's weights are what counts
        return nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 1))


def plain_loss(model):
    def loss(x, y, generator):
        return {"loss": (model(x) - y).square().mean(), "size": x.square().mean()}
    return loss


def fitted(run_dir, config=CONFIG):
    """Train whole: the averaged weights, the metrics without their times, the average after step 5."""
    model, other = network(), network()
    history = fit(model, plain_loss(model), examples(), config, run_dir, bar=False, snapshot=(5, other))
    del history["seconds"]
    weights = {name: p.tolist() for name, p in model.state_dict().items()}
    return weights, history, {name: p.tolist() for name, p in other.state_dict().items()}


def stopped(run_dir, i):
    """Train, but be interrupted in step i."""
    return broken_at(run_dir, i, 0, signal.SIGINT)[:2]


def assert_close(a, b, atol=1e-6):
    """Numbers by name, as tensors or lists."""
    tensors = [{name: torch.as_tensor(value).float() for name, value in x.items()} for x in (a, b)]
    torch.testing.assert_close(*tensors, rtol=0, atol=atol)


def assert_same_run(run_dir, other):
    assert_close(final_tensors(run_dir), final_tensors(other))
    ours, theirs = read_metrics(run_dir), read_metrics(other)
    assert ours["step"] == theirs["step"] == list(range(1, CONFIG.steps + 1))
    for name in "loss", "grad_norm":
        assert ours[name] == pytest.approx(theirs[name], abs=1e-5)


@pytest.fixture(scope="module")
def alone(one_thread, tmp_path_factory):
    """A run of one process: its folder, and what it returned."""
    run_dir = tmp_path_factory.mktemp("alone")
    return run_dir, fitted(run_dir)


@pytest.fixture(scope="module")
def two():
    with together(2) as call:
        yield call


# --- the same as one

def test_two_processes_equal_one(tmp_path, alone, two):
    first, second = two(fitted, tmp_path)
    assert first == second                          # weights, metrics and snapshot, bit for bit
    for ours, theirs in zip(first, alone[1], strict=True):
        assert_close(ours, theirs)
    assert_same_run(tmp_path, alone[0])


@pytest.mark.parametrize("order", ["2 then 1", "1 then 2"])
def test_a_run_goes_on_with_another_number_of_processes(tmp_path, alone, two, order):
    if order == "2 then 1":
        assert two(stopped, tmp_path, 4) == [("KeyboardInterrupt: ", 4)] * 2
        fitted(tmp_path)
    else:
        assert stopped(tmp_path, 4)[1] == 4
        first, second = two(fitted, tmp_path)
        assert first == second
    assert_same_run(tmp_path, alone[0])


@pytest.mark.slow
def test_a_run_of_two_goes_on_with_four(tmp_path, alone, two):
    two(stopped, tmp_path, 6)
    with together(4) as four:
        four(fitted, tmp_path)
    assert_same_run(tmp_path, alone[0])


def drawn():
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 1))
    seen = []

    def loss(x, y, generator):
        noise = torch.randn(len(x), generator=generator)
        dropped = model[1](torch.ones(16)) == 0
        seen.append((x.tolist(), noise.tolist(), dropped.tolist()))
        return {"loss": (model(x) - y).square().mean()}

    for _ in train(model, loss, examples(), replace(CONFIG, steps=2), bar=False):
        pass
    return seen


def test_each_process_draws_noise_of_its_own_for_examples_of_its_own(two):
    one, (first, second) = drawn(), two(drawn)
    for step in range(2):
        batch, noise, dropped = one[step]
        assert first[step] == (batch[::2], noise[:4], dropped)      # the first draws what one would
        assert second[step][0] == batch[1::2]
        assert second[step][1] != noise[:4] and second[step][2] != dropped


# --- what stops one stops all

def broken_at(run_dir, i, rank, how):
    """A training in which something happens to one process in step i; how it ends, after which step."""
    signal.signal(signal.SIGINT, signal.default_int_handler)    # a background job starts without
    model, before, saved = network(), [], []
    usual, save = plain_loss(model), checkpoint.save

    def loss(x, y, generator):
        before.append({name: p.tolist() for name, p in model.named_parameters()})
        if len(before) == i and distributed.rank() == rank:
            if how == "nan":
                x = x * math.nan
            else:
                os.kill(os.getpid(), how)
        return usual(x, y, generator)

    def counted(folder, *rest):
        saved.append(folder.name)
        save(folder, *rest)

    checkpoint.save = counted
    try:
        fit(model, loss, examples(), replace(CONFIG, save_every=100), run_dir, bar=False,
            snapshot=(5, network()))
        end = "done"
    except (MinildmError, KeyboardInterrupt) as error:
        end = f"{type(error).__name__}: {error}"
    finally:
        checkpoint.save = save
    unmoved = before[-1] == {name: p.tolist() for name, p in model.named_parameters()}
    return end, len(before), unmoved, saved


def test_a_number_that_is_not_finite_in_one_stops_all_before_the_update(tmp_path, two):
    first, second = two(broken_at, tmp_path, 7, 1, "nan")
    for end, steps, unmoved, _ in first, second:
        assert end.startswith("MinildmError: step 7 is not finite") and steps == 7 and unmoved
    assert first[3] == ["step-000006"] and second[3] == []


def test_ctrl_c_in_one_stops_all_after_the_same_step_and_saves_once(tmp_path, alone, two):
    first, second = two(broken_at, tmp_path, 5, 1, signal.SIGINT)
    assert first == ("KeyboardInterrupt: ", 5, False, ["step-000005"])
    assert second == ("KeyboardInterrupt: ", 5, False, [])
    fitted(tmp_path)
    assert_same_run(tmp_path, alone[0])


@pytest.mark.parametrize("killed", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_process_that_dies_ends_all_with_a_sentence_and_the_run_goes_on(tmp_path, alone, killed):
    with together(2) as both:
        began = time.perf_counter()
        results = both(broken_at, tmp_path, 6, killed, signal.SIGKILL)
        assert time.perf_counter() - began < 30 and results[killed] is None
    end, steps, _, saved = results[1 - killed]
    assert "has ended" in end and "start the same command again" in end and steps == 6
    assert saved == (["step-000005"] if killed else [])     # the first one keeps the last whole step
    fitted(tmp_path)
    assert_same_run(tmp_path, alone[0])


# --- refused

def refused():
    said = []
    with_batch_norm = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    for model, size in (network(), 7), (with_batch_norm, 8):
        with contextlib.suppress(StopIteration):
            try:
                next(train(model, plain_loss(model), examples(), replace(CONFIG, batch_size=size),
                           bar=False))
            except MinildmError as error:
                said.append(str(error))
    return said


def test_what_several_processes_would_not_compute_as_one_is_refused(two):
    for odd, batch_norm in two(refused):
        assert "a batch of 7 can't be shared by 2 processes" in odd and "divides 7" in odd
        assert "1 is a BatchNorm" in batch_norm and "in one process" in batch_norm


def test_what_is_done_alone_needs_no_others(two):
    assert two(only_the_first_trains) == ["trained", "waited"]


def only_the_first_trains():
    if not distributed.is_first():
        return "waited"
    with distributed.alone():
        fitted(None)
    return "trained"


# --- losses and pictures that belong together

def clip_gradients(n=6):
    """The gradient of a contrastive loss over a batch of n, of which each process has a part."""
    text = TextConfig(20, 5, dim=16, depth=1, heads=2)
    vision = VisionConfig(1, 8, 4, dim=16, depth=1, heads=2)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n, 1, 8, 8, generator=generator)
    ids = torch.randint(20, (n, 5), generator=generator)
    meaning = torch.randint(3, (n,), generator=generator)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        clip = CLIP(CLIPConfig(text, vision, 8))
    mine = distributed.part_of(torch.arange(n))
    seen = distributed.gather_rows(clip.encode_images(images[mine]))
    said = distributed.gather_rows(clip.encode_text(ids[mine]))
    meaning = distributed.gather_rows(meaning[mine])
    loss = contrastive_loss(clip.scale * seen @ said.T, meaning[:, None] == meaning)
    loss.backward()
    distributed.average_gradients(list(clip.parameters()))
    gradients = {name: p.grad.tolist() for name, p in clip.named_parameters() if p.grad is not None}
    return {"loss": loss.item(), **gradients}


def test_a_contrastive_loss_compares_all_with_all(two):
    one, both = clip_gradients(), two(clip_gradients)
    assert len(one) > 20
    for ours in both:
        assert_close(ours, one, atol=1e-4)          # of gradients up to 5


def pictures(n):
    return distributed.generate(small_model(), torch.arange(n) % 3, seed=4, batch_size=2).tolist()


def test_pictures_are_those_that_one_process_draws(two):
    one = torch.tensor(pictures(7))
    for ours in two(pictures, 7):
        torch.testing.assert_close(torch.tensor(ours), one, rtol=0, atol=1e-5)
    few = two(pictures, 1)
    assert few[0] == few[1] == pictures(1)


def shards(n):
    rows = torch.arange(n)[:, None]
    mine = distributed.shard(n)
    return [distributed.shard(n, which) for which in (0, 1)], distributed.gather(rows[mine], n).tolist()


def test_shards_are_all_of_it_once(two):
    rows = [[k] for k in range(7)]
    assert two(shards, 7) == [([range(0, 3), range(3, 7)], rows)] * 2
    assert distributed.shard(7) == range(7)


# --- from the command line

ROOT = Path(__file__).parents[1]


def torchrun(*words, folder=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CI": "1",
                   "MINILDM_BUDGET": "smoke"}
    port = f"--master-port={free_port()}"
    return subprocess.run([sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", port, *words],
                          capture_output=True, text=True, cwd=folder, env=environment, timeout=900)


@pytest.mark.slow
def test_the_commands_share_their_work(tmp_path):
    command = "-m", "--", "minildm"
    made = torchrun(*command, "demo", "--data", "glyphs", "--recipe", "smoke", "--num", "10",
                    "--out", str(tmp_path))
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("demo: ") == made.stdout.count("look at") == 1
    files = {"samples.png", "samples.npz", "metrics.json", "losses.png", "model", "vae", "denoiser"}
    assert files <= {path.name for path in tmp_path.iterdir()}
    drawn = torchrun(*command, "sample", "--model", str(tmp_path / "model"), "--num", "3", "--out",
                     str(tmp_path / "three.png"))
    assert drawn.returncode == 0 and drawn.stdout.count("3 pictures in") == 1, drawn.stderr


@pytest.mark.slow
def test_the_sharded_network_of_the_page_trains_and_is_kept(tmp_path):
    *_, last = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "scaling.md").read_text(), re.M | re.S)
    (tmp_path / "page.py").write_text(last + '\nprint("loss", loss.item(), flush=True)\n')
    done = torchrun("page.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("loss ") == 2 and len(list((tmp_path / "sharded").glob("*.distcp"))) == 2


def test_commands_that_can_not_share_say_so(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MinildmError, match="bench runs in one process"):
        together_or_alone.run(cli.Bench())
