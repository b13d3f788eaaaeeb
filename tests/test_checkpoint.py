"""Checkpoints are whole or refused, and a save touches nothing that a save did not write."""

import os
import random
import shutil
import threading

import pytest
import safetensors.torch
import torch
from support.folders import assert_same, names, run_of, tensors

from minildm import MinildmError
from minildm.training import checkpoint, disk


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
    (tmp_path / ".tmp-1-step-000006").mkdir()
    (tmp_path / ".tmp-1-step-000006" / "state.safetensors").write_bytes(b"half")
    (tmp_path / ".old-step-000005").mkdir()
    checkpoint.prune(tmp_path)
    assert names(tmp_path) == ["step-000003", "step-000004", "step-000005"]


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
    assert names(tmp_path) == [".old-model"]                    # a reader renames nothing
    checkpoint.save(tmp_path / "model", tensors(1), {})
    assert names(tmp_path) == ["model"]


# --- what a save may touch

def test_a_folder_with_anything_else_in_it_is_not_replaced(tmp_path):
    checkpoint.save(tmp_path / "ours", tensors(), {})
    (tmp_path / "ours" / "notes.txt").write_text("mine")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "manifest.json").write_text("{}")    # as browsers' extensions have
    (tmp_path / "file").write_text("mine")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / ".old-new").mkdir()
    (tmp_path / ".old-new" / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name in ("ours", "theirs", "file", "link", "new"):
        with pytest.raises(MinildmError, match="would be lost") as caught:
            checkpoint.save(tmp_path / name, tensors(1), {})
        assert "another name" in caught.value.fix
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert (tmp_path / "link").is_symlink()


def test_an_empty_folder_and_a_damaged_step_are_replaced(tmp_path):
    (tmp_path / "model").mkdir()
    run_of(tmp_path, 1)
    (tmp_path / "step-000001" / "manifest.json").unlink()
    checkpoint.save(tmp_path / "model", tensors(), {})
    run_of(tmp_path, 1)
    assert names(tmp_path) == ["model", "step-000001"]
    checkpoint.verify(tmp_path / "step-000001")


def test_only_our_own_litter_is_cleaned(tmp_path):
    """What a crashed save of this folder left, not another program's, or a save under way."""
    gone = next(pid for pid in range(2**22 - 1, 1, -1) if disk.process_is_gone(pid))
    places = {f".tmp-{gone}-model": True, f".tmp-{os.getppid()}-model": False,
              f".tmp-{gone}-other": False, ".tmp-build": False}
    for name in places:
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.safetensors").write_bytes(b"half")
        os.utime(tmp_path / name, (0, 0))
    checkpoint.save(tmp_path / "model", tensors(), {})
    assert names(tmp_path) == sorted(["model", *(n for n, cleaned in places.items() if not cleaned)])


def test_prune_leaves_what_others_put_there(tmp_path):
    run_of(tmp_path, 1, 2, 3, 4)
    (tmp_path / "step-000001" / "notes.txt").write_text("mine")
    (tmp_path / ".tmp-build").mkdir()
    (tmp_path / ".old-thesis").mkdir()
    checkpoint.prune(tmp_path)
    assert names(tmp_path) == [".old-thesis", ".tmp-build", "step-000001", "step-000003",
                               "step-000004"]


def test_repair_puts_back_or_cleans_what_crashes_left(tmp_path):
    run_of(tmp_path, 1, 2, 3)
    os.replace(tmp_path / "step-000003", tmp_path / ".old-step-000003")
    shutil.copytree(tmp_path / "step-000002", tmp_path / ".old-step-000002")
    (tmp_path / ".old-step-000001").write_text("no folder")
    checkpoint.repair(tmp_path)
    assert names(tmp_path) == [".old-step-000001", "step-000001", "step-000002", "step-000003"]
    assert_same(checkpoint.load(tmp_path / "step-000003")[0], tensors(3))


def test_readers_never_make_a_save_fail_nor_see_half_of_one(tmp_path):
    folder, stop, failed = tmp_path / "model", threading.Event(), []
    checkpoint.save(folder, tensors(0), {"seed": 0})

    def read():
        while not stop.is_set():
            try:
                loaded, meta = checkpoint.load(folder)
                assert_same(loaded, tensors(meta["seed"]))
            except Exception as error:
                failed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for k in range(200):
            checkpoint.save(folder, tensors(k % 2), {"seed": k % 2})
    finally:
        stop.set()
        reader.join()
    assert failed == []
