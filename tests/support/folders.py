"""Saved folders to damage, and how to compare them."""

import torch

from minildm.training import checkpoint


def tensors(seed=0):
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(5, 3, generator=g)
    return {"w": w, "tied": w, "view": w.T, "half": w.to(torch.bfloat16), "count": torch.tensor(7)}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]), name


def run_of(tmp_path, *steps):
    for step in steps:
        checkpoint.save(tmp_path / f"step-{step:06d}", tensors(step), {"step": step})
    return tmp_path


def names(folder):
    return sorted(p.name for p in folder.iterdir())
