"""Configurations as JSON: what differs between two is named field by field."""

from minildm.training import checkpoint


def test_differences_names_every_field():
    a = {"lr": 1e-3, "betas": (0.9, 0.95), "model": {"width": 64, "deep": {"x": 1}}, "gone": 1}
    b = {"lr": 2e-3, "betas": [0.9, 0.95], "model": {"width": 96, "deep": {"x": 2}}, "new": None}
    found = checkpoint.differences(a, b)
    assert [line.split(":")[0] for line in found] == ["lr", "model.width", "model.deep.x", "gone", "new"]
    assert found[1] == "model.width: 64 != 96"
    assert checkpoint.differences(a, a) == []
