"""A small training run, and how to compare two of them bit for bit."""

import torch
from torch import nn

from minildm.training import checkpoint
from minildm.training.loop import TrainConfig, generator_for, train

CONFIG = TrainConfig(steps=12, batch_size=8, lr=1e-2, warmup=3, save_every=4, precision="float32")


def network():
    """With dropout and buffers: all that could tell a resumed run from an uninterrupted one."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, 1))


def examples(n=20):
    x = torch.randn(n, 4, generator=generator_for(0, "examples"))
    return x, x.sum(1, keepdim=True)


def loss_of(model):
    def loss(x, y, generator):
        noise = torch.randn(x.shape, generator=generator)
        error = (model(x + 0.1 * noise).float() - y).square().mean()
        return {"loss": error, "noise": noise.mean()}
    return loss


def run_steps(model, config=CONFIG, run_dir=None, stop=None, data=None, **more):
    """Train, leaving the loop early after step `stop`; the steps' losses, and the last step."""
    losses, step = [], None
    data = data or examples()
    for step in train(model, loss_of(model), data, config, run_dir, bar=False, **more):
        losses.append(step.losses)
        if step.i == stop:
            break
    return losses, step


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def final_tensors(run_dir):
    return checkpoint.load(checkpoint.latest(run_dir))[0]
