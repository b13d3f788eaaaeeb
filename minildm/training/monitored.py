"""A training whose logged numbers are watched: `monitor` says what is wrong while it runs."""

import contextlib
from collections import deque
from collections.abc import Iterator

from tqdm import tqdm

from minildm.training.monitor import Monitor
from minildm.training.state import TrainState


def monitored(steps: Iterator, state: TrainState) -> Iterator:
    """Yield the steps of a training, printing a warning when a number leaves its bounds.

    On a GPU it is printed when the host has read the number, some steps later.
    """
    monitor, unread = Monitor(), deque()
    with contextlib.closing(steps):
        for step in steps:
            unread.append(step)
            while unread and unread[0].i <= state.settled:
                settled = unread.popleft()
                for violation in monitor.update(settled.row()):
                    tqdm.write(f"step {settled.i}: {violation}")
            yield step
