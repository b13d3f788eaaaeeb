"""Checkpoints are whole or refused: damage at random, a full disk, a crash between renames, two processes."""

import errno
import multiprocessing
import os
import random
import shutil
import time

import pytest
import safetensors.torch
import torch

from minildm import MinildmError
from minildm.training import checkpoint


def tensors(seed=0):
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(5, 3, generator=g)
    return {"w": w, "tied": w, "view": w.T, "half": w.to(torch.bfloat16), "count": torch.tensor(7)}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]), name


def test_round_trip(tmp_path):
    checkpoint.save(tmp_path / "deep" / "model", tensors(), {"config": {"width": (1, 2)}, "name": "é"})
    loaded, meta = checkpoint.load(tmp_path / "deep" / "model")
    assert_same(loaded, tensors())
    assert meta["config"] == {"width": [1, 2]} and meta["name"] == "é" and meta["format"] == 1
    assert meta["versions"]["torch"] == torch.__version__


def test_saving_again_replaces(tmp_path):
    for seed in (0, 1):
        checkpoint.save(tmp_path / "model", tensors(seed), {"seed": seed})
    loaded, meta = checkpoint.load(tmp_path / "model")
    assert_same(loaded, tensors(1))
    assert meta["seed"] == 1 and os.listdir(tmp_path) == ["model"]


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    checkpoint.save(tmp_path / "model", tensors(), {})
    monkeypatch.undo()
    with pytest.raises(MinildmError, match="format 2, not 1"):
        checkpoint.load(tmp_path / "model")


# --- damage

def damage(folder, other, kind, rng):
    """Damage one file of a folder; the name of that file, or None where nothing changed."""
    path = rng.choice(sorted(folder.iterdir()))
    before = path.read_bytes()
    content = bytearray(before)
    at = rng.randrange(len(content))
    if kind == "truncated":
        del content[at:]
    elif kind == "flipped":
        content[at] ^= 1 << rng.randrange(8)
    elif kind == "zeroed":
        content[at:at + 64] = bytes(len(content[at:at + 64]))
    elif kind == "swapped":             # with the same file of another checkpoint
        content = (other / path.name).read_bytes()
    path.unlink()
    if kind != "missing":
        path.write_bytes(content)
    return path.name if kind == "missing" or bytes(content) != before else None


@pytest.mark.parametrize("kind", ["truncated", "flipped", "zeroed", "swapped", "missing"])
def test_damage_is_detected_and_named(tmp_path, kind, n=200):
    rng = random.Random(kind)
    good, other, bad = tmp_path / "good", tmp_path / "other", tmp_path / "bad"
    checkpoint.save(good, tensors(0), {"step": 1})
    checkpoint.save(other, tensors(1), {"step": 2})
    detected, unguarded = 0, 0
    for _ in range(n):
        name = None
        while name is None:
            shutil.rmtree(bad, ignore_errors=True)
            shutil.copytree(good, bad)
            name = damage(bad, other, kind, rng)
        try:
            checkpoint.load(bad)
        except MinildmError as error:
            named = name if kind != "swapped" or name != checkpoint.MANIFEST else "state"    # the odd one out
            assert named in error.what and str(bad) in error.where and error.fix
            detected += 1
        try:                            # what safetensors alone would have said
            safetensors.torch.load((bad / checkpoint.TENSORS).read_bytes())
            unguarded += 1
        except Exception:
            pass
    assert detected == n
    assert kind == "missing" or unguarded > n / 10, "the damage is too crude to test anything"


def test_files_swapped_within_a_folder(tmp_path):
    checkpoint.save(tmp_path / "m", tensors(), {})
    a, b = (tmp_path / "m" / name for name in (checkpoint.TENSORS, checkpoint.META))
    content = a.read_bytes(), b.read_bytes()
    a.write_bytes(content[1]), b.write_bytes(content[0])
    with pytest.raises(MinildmError, match="state.safetensors"):
        checkpoint.load(tmp_path / "m")


def run_of(tmp_path, *steps):
    for step in steps:
        checkpoint.save(tmp_path / f"step-{step:06d}", tensors(step), {"step": step})
    return tmp_path


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_latest_falls_back_and_says_so(tmp_path, capsys):
    run_of(tmp_path, 1, 2, 3)
    assert checkpoint.latest(tmp_path).name == "step-000003" and capsys.readouterr().err == ""
    (tmp_path / "step-000003" / "state.json").write_text("{}")
    assert checkpoint.latest(tmp_path).name == "step-000002"
    said = capsys.readouterr().err
    assert "step-000003" in said and "state.json" in said and "falling back to step-000002" in said


def test_latest_of_nothing_and_of_nothing_whole(tmp_path):
    assert checkpoint.latest(tmp_path / "absent") is None
    run_of(tmp_path, 1)
    (tmp_path / "step-000001" / "manifest.json").unlink()
    with pytest.raises(MinildmError, match="step-000001.*manifest.json"):   # never silently from the start
        checkpoint.latest(tmp_path)


def test_steps_sort_as_numbers(tmp_path):
    run_of(tmp_path, 999_999, 1_000_000)
    assert checkpoint.latest(tmp_path).name == "step-1000000"


def test_prune_keeps_two_good_ones(tmp_path):
    run_of(tmp_path, 1, 2, 3, 4, 5)
    (tmp_path / "step-000004" / "state.json").write_text("{}")
    (tmp_path / ".tmp-step-000006").mkdir()
    (tmp_path / ".tmp-step-000006" / "state.safetensors").write_bytes(b"half")
    (tmp_path / ".old-step-000005").mkdir()
    checkpoint.prune(tmp_path)
    assert names(tmp_path) == ["step-000003", "step-000004", "step-000005"]


# --- crashes and a full disk

class FullDisk:
    """An open() for the checkpoint module whose files take `room` bytes in all."""

    def __init__(self, room):
        self.room = room

    def __call__(self, path, mode):
        file = open(path, mode)
        write = file.write

        class Limited:
            def __getattr__(_, name):
                return getattr(file, name)

            def __enter__(self):
                return self

            def __exit__(_, *error):
                file.close()

            def write(_, content):
                write(content[:self.room])
                self.room -= len(content)
                if self.room < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Limited()


@pytest.mark.parametrize("room", [0, 0.001, 0.2, 0.5, 0.7, 0.99])
@pytest.mark.parametrize("step", [2, 3])
def test_a_full_disk_leaves_the_last_good_step_and_no_litter(tmp_path, monkeypatch, room, step):
    run_of(tmp_path, 1, 2)
    size = sum(p.stat().st_size for p in (tmp_path / "step-000002").iterdir())
    monkeypatch.setattr(checkpoint, "open", FullDisk(int(room * size)), raising=False)
    with pytest.raises(MinildmError, match="No space left") as caught:
        run_of(tmp_path, step)
    assert "MB of disk" in caught.value.fix
    monkeypatch.undo()
    assert names(tmp_path) == ["step-000001", "step-000002"]
    assert_same(checkpoint.load(checkpoint.latest(tmp_path))[0], tensors(2))


def test_a_real_file_size_limit(tmp_path):
    resource = pytest.importorskip("resource")
    run_of(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(MinildmError, match="could not save"):
            run_of(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["step-000001"]
    checkpoint.verify(tmp_path / "step-000001")


def test_a_replacement_cut_off_between_its_renames_is_undone(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "model", tensors(0), {})
    replace, calls = os.replace, []

    class Crash(BaseException):
        pass

    def once(*arguments):
        calls.append(arguments)
        if len(calls) == 2:             # the old folder has stepped aside, the new one is not there yet
            monkeypatch.setattr(checkpoint, "_put_back", lambda folder: None)
            raise Crash
        replace(*arguments)

    monkeypatch.setattr(os, "replace", once)
    with pytest.raises(Crash):
        checkpoint.save(tmp_path / "model", tensors(1), {})
    monkeypatch.undo()
    assert names(tmp_path) == [".old-model"]
    assert_same(checkpoint.load(tmp_path / "model")[0], tensors(0))


def test_a_save_while_another_process_saves_the_same_folder(tmp_path, monkeypatch):
    write, pid = checkpoint._write, os.getpid()

    def other_first(path, content):
        monkeypatch.setattr(checkpoint, "_write", write)
        monkeypatch.setattr(os, "getpid", lambda: pid + 1)
        checkpoint.save(tmp_path / "model", tensors(1), {})
        monkeypatch.setattr(os, "getpid", lambda: pid)
        write(path, content)

    monkeypatch.setattr(checkpoint, "_write", other_first)
    checkpoint.save(tmp_path / "model", tensors(0), {})
    assert_same(checkpoint.load(tmp_path / "model")[0], tensors(0))
    assert names(tmp_path) == ["model"]


def save_often(folder, seed):
    refused = 0
    for _ in range(20):
        try:
            checkpoint.save(folder, tensors(seed), {"seed": seed})
        except MinildmError:
            refused += 1                # lost a race for the name
    os._exit(refused == 20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_processes_saving_the_same_folder_leave_a_whole_one(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=save_often, args=(tmp_path / "model", seed)) for seed in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    loaded, meta = checkpoint.load(tmp_path / "model")
    assert_same(loaded, tensors(meta["seed"]))
    assert not list(tmp_path.glob(".tmp-*"))


def test_litter_of_a_crash_is_cleaned_by_a_later_save(tmp_path):
    for name, age in ((".tmp-1-model", 7200), (".tmp-2-other", 0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.safetensors").write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    checkpoint.save(tmp_path / "model", tensors(), {})
    assert names(tmp_path) == [".tmp-2-other", "model"]     # which may be a save under way


def test_an_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MinildmError, match="could not save") as caught:
        checkpoint.save(tmp_path / "file" / "model", tensors(), {})
    assert caught.value.fix


# --- lock, differences, names

def hold(run_dir, pipe):
    with checkpoint.lock(run_dir):
        pipe.send("held")
        pipe.recv()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_second_process_is_told_the_pid_of_the_first(tmp_path):
    ours, theirs = multiprocessing.Pipe()
    first = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path, theirs))
    first.start()
    assert ours.poll(30) and ours.recv() == "held"
    with pytest.raises(MinildmError, match=f"process {first.pid} is"), checkpoint.lock(tmp_path):
        pass
    first.kill()                        # the system lets go of a killed process's lock
    first.join()
    with checkpoint.lock(tmp_path):
        with pytest.raises(MinildmError, match=f"process {os.getpid()} is"), checkpoint.lock(tmp_path):
            pass


def test_differences_names_every_field():
    a = {"lr": 1e-3, "betas": (0.9, 0.95), "model": {"width": 64, "deep": {"x": 1}}, "gone": 1}
    b = {"lr": 2e-3, "betas": [0.9, 0.95], "model": {"width": 96, "deep": {"x": 2}}, "new": None}
    found = checkpoint.differences(a, b)
    assert [line.split(":")[0] for line in found] == ["lr", "model.width", "model.deep.x", "gone", "new"]
    assert found[1] == "model.width: 64 != 96"
    assert checkpoint.differences(a, a) == []
