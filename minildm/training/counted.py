"""Randomness that is counted, not carried: everything drawn depends on (seed, step) alone.

None of it is saved. Previews between steps cannot shift a training, and a resumed one equals the
uninterrupted one.
"""

import contextlib
import hashlib

import torch

from minildm.devices import to_device
from minildm.training import distributed


def seed_for(seed: int, *counters: int | str) -> int:
    """32 bits that depend on the seed and the counters alone.

    A CPU generator takes no more (mt19937 is seeded with 32). So of n pictures of one seed,
    n^2 / 2^33 pairs are expected to begin with the same noise: one pair in 93,000 pictures.
    """
    # not hash(), which is another in each process
    digest = hashlib.sha256(repr((seed, *counters)).encode()).digest()
    return int.from_bytes(digest[:4], "little")


def generator_for(seed: int, *counters: int | str, device="cpu") -> torch.Generator:
    """Make a generator that depends on the seed and the counters alone (see `seed_for`)."""
    return torch.Generator(device).manual_seed(seed_for(seed, *counters))


def epoch_order(n: int, seed: int, epoch: int) -> torch.Tensor:
    """The order (n,) in which an epoch takes the examples."""
    return torch.randperm(n, generator=generator_for(seed, "order", epoch))


class BatchOrder:
    """Gives the indices (batch_size,) of step i; batches go on across epochs."""

    def __init__(self, n: int, batch_size: int, seed: int, device: torch.device):
        self.n, self.batch_size, self.seed, self.device = n, batch_size, seed, device
        self.epoch = -1

    def __call__(self, i: int) -> torch.Tensor:
        epoch, first = divmod((i - 1) * self.batch_size, self.n)
        if epoch != self.epoch:
            # of two epochs, since a batch may end in the next
            orders = [epoch_order(self.n, self.seed, e) for e in (epoch, epoch + 1)]
            self.epoch, self.order = epoch, to_device(torch.cat(orders), self.device)
        return self.order[first:first + self.batch_size]


@contextlib.contextmanager
def global_generators_kept(device: torch.device):
    """Restore the global generators, from which dropout draws, at the end of the block.

    Only the CPU's and the one of `device`: other cards of the machine are not touched.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def seed_step(noise: torch.Generator, seed: int, i: int) -> None:
    """Seed what step i draws from: the generator of its noise, and the global ones of dropout."""
    # of several processes each draws for other examples
    process = distributed.counters()
    noise.manual_seed(seed_for(seed, "noise", i, *process))
    value, device = seed_for(seed, "global", i, *process), noise.device
    # not torch.manual_seed, which seeds every device
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(value)
    elif device.type != "cpu":
        torch.get_device_module(device).manual_seed(value)
