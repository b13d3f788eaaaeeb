"""A run goes on with the same settings and data only, also one of an earlier version."""

import shutil
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
from minildm.training import checkpoint
from minildm.training.loop import TrainConfig, fit
from minildm.training.resumable import sha256_of

pytestmark = pytest.mark.usefixtures("one_thread")


def changed_data():
    """Pictures and labels, and each way to change them that must be seen."""
    pictures, labels = torch.arange(6000).reshape(1500, 4) % 9, torch.arange(1500) % 2
    later, other = pictures.clone(), labels.clone()
    later[1000:] = 5
    other[1200:] = 1 - other[1200:]
    order = torch.arange(1500).flip(0)
    return {"pictures": ((pictures, labels), {"data.0": (later, labels)}),
            "labels": ((pictures, labels), {"data.1": (pictures, other)}),
            "order": ((pictures, labels), {"data.0": (pictures[order], labels)}),
            "exchanged classes": ((pictures, labels), {"data.1": (pictures, 1 - labels)}),
            "type": ((pictures, labels), {"data.1": (pictures, labels.to(torch.uint8))})}


@pytest.mark.parametrize("change", changed_data())
def test_other_data_is_refused_by_name(tmp_path, change):
    def loss(x, y, generator):
        return {"loss": (model(x.float()).squeeze(1) - y).square().mean()}

    data, changed = changed_data()[change]
    model, config = nn.Linear(4, 1), TrainConfig(steps=3, batch_size=32, lr=1e-3)
    fit(model, loss, data, config, tmp_path, bar=False)
    fit(model, loss, data, config, tmp_path, bar=False)             # has all its steps
    for field, other in changed.items():
        with pytest.raises(MinildmError, match=f"other settings: {field}: ") as caught:
            fit(model, loss, other, config, tmp_path, bar=False)
        assert caught.value.what.count("!=") == 1


def test_hashes_see_every_element_and_the_shape():
    for kind in (torch.uint8, torch.int64, torch.bool):
        a = torch.zeros(25_000, 3, dtype=kind)
        b = a.clone()
        b[-1, -1] = 1
        assert len({sha256_of(a), sha256_of(b), sha256_of(a.reshape(3, -1))}) == 3
    assert sha256_of(a.T) == sha256_of(a.T.contiguous())


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


def old_loss(model):
    usual = loss_of(model)
    return lambda x, y, labels, generator: usual(x, y, generator)


def test_a_run_of_version_0_1_goes_on(tmp_path):
    """With sums of labels for an identity, and the average after step 3 in a folder of its own."""
    shutil.copytree(Path(__file__).parent / "old" / "run-0.1", tmp_path / "run")
    data = (*examples(), torch.arange(20) % 3)
    ends = []
    for run_dir in (tmp_path / "run", tmp_path / "anew"):
        model, other = network(), network()
        history = fit(model, old_loss(model), data, CONFIG, run_dir, bar=False,
                      identity={"model": {"width": 16}}, snapshot=(3, other))
        assert history["step"] == list(range(1, 13))
        ends.append((state_of(model), state_of(other), history["loss"]))
    for ours, anew in zip(*ends, strict=True):
        # not to the bit: the old run was begun on another machine
        torch.testing.assert_close(ours, anew, rtol=1e-4, atol=1e-5)


def test_a_run_of_version_0_1_refuses_other_labels(tmp_path):
    shutil.copytree(Path(__file__).parent / "old" / "run-0.1", tmp_path / "run")
    model = network()
    with pytest.raises(MinildmError, match=r"data: \[19\] != \[21\]"):
        fit(model, old_loss(model), (*examples(), (torch.arange(20) + 1) % 3), CONFIG,
            tmp_path / "run", bar=False, identity={"model": {"width": 16}})


def test_a_step_that_is_not_one_is_refused(tmp_path):
    run_steps(network(), run_dir=tmp_path, stop=5)
    tensors, meta = checkpoint.load(tmp_path / "step-000005")
    for wrong in ({"step": "5"}, {"identity": 1}):
        checkpoint.save(tmp_path / "step-000005", tensors, {**meta, **wrong})
        with pytest.raises(MinildmError, match="no step of a training run"):
            run_steps(network(), run_dir=tmp_path)
    checkpoint.save(tmp_path / "step-000005", tensors, {"recipe": 1})
    with pytest.raises(MinildmError, match="a diffusion model, not a step of a training run"):
        run_steps(network(), run_dir=tmp_path)
