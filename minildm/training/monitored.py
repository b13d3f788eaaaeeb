"""A training whose logged numbers are watched: `monitor` says what is wrong while it runs."""

import contextlib
from collections.abc import Iterator

from tqdm import tqdm

from minildm.training.monitor import Monitor


def monitored(steps: Iterator) -> Iterator:
    """Yield the steps of a training, printing a warning when a number leaves its bounds."""
    monitor = Monitor()
    with contextlib.closing(steps):
        for step in steps:
            for violation in monitor.update(step.row()):
                tqdm.write(f"step {step.i}: {violation}")
            yield step
