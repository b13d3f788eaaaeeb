"""A folder of another kind, or made to harm: it is told what it is, and nothing is built from it."""

import json

import pytest
import torch
from support.folders import names, tensors

from minildm import MinildmError
from minildm.training import checkpoint, untrusted


@pytest.mark.parametrize("meta, said", [
    ({"classifier": {}}, "this is a classifier, not a diffusion model: it has no recipe"),
    ({"step": 3, "identity": {}}, "this is a step of a training run, not a diffusion model"),
    ({"key": "x"}, "this is a cached copy of a data set"), ({}, "this is a folder of tensors"),
])
def test_a_folder_of_another_kind_is_told_so(tmp_path, meta, said):
    checkpoint.save(tmp_path / "m", tensors(), meta)
    checkpoint.load(tmp_path / "m", wants=tuple(meta))
    with pytest.raises(MinildmError, match=said):
        checkpoint.load(tmp_path / "m", wants=("recipe",))


def rewritten(folder, name, content):
    """Give a file other content, with a true manifest."""
    (folder / name).write_bytes(content)
    files = {n: checkpoint._entry((folder / n).read_bytes())
             for n in (checkpoint.TENSORS, checkpoint.META)}
    whole = {"files": files, "self": checkpoint._entry(json.dumps(files).encode())}
    (folder / checkpoint.MANIFEST).write_text(json.dumps(whole))
    return folder


DEEP = b"[" * 200_000 + b"]" * 200_000
EMPTY = json.dumps({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
                    for i in range(60_000)}).encode()


@pytest.mark.parametrize("name, content", [
    ("state.json", DEEP), ("state.json", b"[1]"), ("state.json", b"{}"), ("state.json", b"\xff"),
    ("state.json", b'{"format": 2}'), ("state.safetensors", b"short"),
    ("state.safetensors", len(DEEP).to_bytes(8, "little") + DEEP),
    ("state.safetensors", (2**62).to_bytes(8, "little")),
    ("state.safetensors", len(EMPTY).to_bytes(8, "little") + EMPTY),
])
def test_wrong_content_with_a_true_manifest_is_refused(tmp_path, name, content):
    checkpoint.save(tmp_path / "m", tensors(), {})
    with pytest.raises(MinildmError):
        checkpoint.load(rewritten(tmp_path / "m", name, content))


def test_a_nested_manifest_is_damaged(tmp_path):
    checkpoint.save(tmp_path / "m", tensors(), {})
    (tmp_path / "m" / "manifest.json").write_bytes(DEEP)
    with pytest.raises(MinildmError, match="manifest.json is damaged"):
        checkpoint.load(tmp_path / "m")


def test_what_is_no_json_is_not_written(tmp_path):
    checkpoint.save(tmp_path / "m", tensors(), {"score": None})
    for value in (float("nan"), float("inf"), torch.zeros(1)):
        with pytest.raises(MinildmError, match="state.json cannot hold"):
            checkpoint.save(tmp_path / "m", tensors(), {"score": value})
    assert names(tmp_path) == ["m"] and checkpoint.load(tmp_path / "m")[1]["score"] is None


def test_more_tensors_than_can_be_loaded_are_not_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "MOST_TENSORS", 4)
    with pytest.raises(MinildmError, match="5 tensors are more than 4"):
        checkpoint.save(tmp_path / "m", tensors(), {})
    assert untrusted.MOST_TENSORS > 10_000


def test_a_compiled_network_is_saved_by_its_own_names(tmp_path):
    model = torch.nn.Sequential(torch.compile(torch.nn.Linear(2, 2), backend="eager"))
    assert "0._orig_mod.weight" in model.state_dict()
    checkpoint.save(tmp_path / "m", model.state_dict(), {})
    torch.nn.Sequential(torch.nn.Linear(2, 2)).load_state_dict(checkpoint.load(tmp_path / "m")[0])
