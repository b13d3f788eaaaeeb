"""A small training run, and how to compare two of them bit for bit."""

import torch

from minildm.training import checkpoint
from minildm.training.loop import TrainConfig

CONFIG = TrainConfig(steps=12, batch_size=8, lr=1e-2, warmup=3, save_every=4, precision="float32")


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def final(run_dir):
    return checkpoint.load(checkpoint.latest(run_dir))[0]
