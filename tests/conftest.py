"""Fixtures that several test files use."""

import pytest
import torch
from support.runs import final_tensors, network, run_steps

from minildm.training.loop import read_metrics


@pytest.fixture(scope="module")
def one_thread():
    """Sums in one order, so that bits can be compared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def uninterrupted(one_thread, tmp_path_factory):
    """The losses, last tensors and log of a run that nobody stopped."""
    run_dir = tmp_path_factory.mktemp("uninterrupted")
    losses, _ = run_steps(network(), run_dir=run_dir)
    return losses, final_tensors(run_dir), read_metrics(run_dir)
