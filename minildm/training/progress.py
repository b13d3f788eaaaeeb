"""A bar for a training, and the time at which it will be done."""

import contextlib
import os
import time
from collections.abc import Iterator

from tqdm import tqdm

from minildm.training.state import TrainState

WARM = 5            # the first steps are slow, and on a GPU they are recorded
MEASURED = 20       # the step after which the rest is projected


def progress(steps: Iterator, state: TrainState) -> Iterator:
    """Yield the steps of a training, showing a bar; project the time once. No bar under CI."""
    total = state.config.steps
    bar = tqdm(total=total, leave=False, disable="CI" in os.environ)
    began = 0.0
    with contextlib.closing(steps), bar:
        for n, step in enumerate(steps, 1):
            if n == 1:
                bar.initial = bar.n = step.i - 1        # of a run that goes on
            bar.update()
            if n in (WARM, MEASURED):
                state.settle()              # a GPU may be behind: its time is what counts
            # measured between two steps, so that the caller's own time counts as well
            if n == WARM:
                began = time.perf_counter()
            if n == MEASURED:
                seconds = (time.perf_counter() - began) / (MEASURED - WARM)
                minutes, rest = divmod(round((total - step.i) * seconds), 60)
                tqdm.write(f"step {step.i}/{total}: {1 / seconds:.1f} steps/s, "
                           f"done in about {minutes} min {rest} s")
            yield step
