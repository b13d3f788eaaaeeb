"""What a training says when the card has too little memory."""

import weakref

import pytest
import torch

from minildm import MinildmError
from minildm.training.loop import TrainConfig
from minildm.training.memory import explained_out_of_memory

CONFIG = TrainConfig(steps=10, batch_size=256, lr=1e-3, precision="float32")
CUDA_SAYS = ("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of "
             "79.19 GiB of which 3.2 GiB is free. See documentation for Memory Management")


def exhaust(kept=None):
    held = torch.zeros(3)
    if kept is not None:
        kept.append(weakref.ref(held))
    raise torch.OutOfMemoryError(CUDA_SAYS)


def test_out_of_memory_names_three_cures_and_how_much_was_asked_for():
    with pytest.raises(MinildmError) as raised, explained_out_of_memory(CONFIG):
        exhaust()
    error = raised.value
    assert "20.00 GiB" in error.what and "documentation" not in error.what
    for cure in "batch_size=128", "--recipe", "nvidia-smi", "precision='bf16'":
        assert cure in error.fix
    assert "batch_size=256" in error.where


def test_the_error_does_not_keep_the_steps_tensors_alive():
    kept = []
    with pytest.raises(MinildmError) as raised, explained_out_of_memory(CONFIG):
        exhaust(kept)
    assert raised.value is not None and kept[0]() is None


def test_other_errors_and_whole_blocks_pass_unchanged():
    with explained_out_of_memory(CONFIG):
        pass
    with pytest.raises(RuntimeError, match="another"), explained_out_of_memory(CONFIG):
        raise RuntimeError("another")
