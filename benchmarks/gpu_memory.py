"""A training that does not fit on the card: its error names cures, and a smaller one then runs.

The limit is one of this process's own allocator, a small part of the card, so that nothing else
is disturbed and the error comes soon.
"""

from dataclasses import replace

import torch

from benchmarks.gpu_trainings import PICTURES, executed, trainings_of
from minildm import MinildmError
from minildm.training.loop import train

GIB = 6         # that the process may take


def run(bench) -> None:
    if bench.device.type == "cuda":
        for execution in "eager", "graph":
            bench.measure(f"too large a batch, {execution}", 15,
                          lambda execution=execution: too_large(bench, execution))


def too_large(bench, execution: str) -> dict:
    """Three steps of all pictures at once, then three of a batch that fits."""
    training = trainings_of("colour", bench.device, bench.smoke)["denoiser"]
    whole = torch.cuda.get_device_properties(bench.device).total_memory / 2**30
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(GIB / whole, bench.device)
    row = {"raised": "nothing"}
    try:
        try:
            three_steps(training, execution, PICTURES)
        except MinildmError as error:
            row = {"raised": "MinildmError", "cures": error.fix.count(" or ") + 1,
                   "says": str(error)}
        except torch.OutOfMemoryError:
            row = {"raised": "OutOfMemoryError", "cures": 0}
        # outside of the handler, whose error would keep the tensors alive
        three_steps(training, execution, 32)
        return {**row, "a smaller run then works": True}
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, bench.device)


def three_steps(training, execution: str, batch_size: int) -> None:
    config = executed(replace(training.config, steps=3, batch_size=batch_size), execution)
    for step in train(training.model, training.loss_fn, training.data, config, bar=False):
        step.row()
