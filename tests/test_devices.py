"""What comes to a device, and how much of it at once."""

import pytest
import torch
from support.models import small_model
from support.pretended import CPU, CUDA, move, pretended_gpu

from minildm import devices
from minildm.model import LatentDiffusion


def test_on_a_cpu_nothing_is_copied_and_the_room_is_one():
    x = torch.ones(2, 3)
    assert devices.to_device(x, CPU) is x and devices.room(CPU) == 1
    t = torch.tensor(0.3)
    for value in (0.3, t):
        assert torch.equal(devices.number_on(CPU, value), t)
    assert devices.number_on(CPU, torch.ones(4)).shape == (4,)


def test_inside_an_autocast_of_ones_own_a_cpu_keeps_it():
    with torch.autocast("cpu", torch.bfloat16), devices.cuda_bf16(CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with devices.cuda_bf16(CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_numbers_keep_their_type_on_the_way(monkeypatch):
    with pretended_gpu(monkeypatch):
        for dtype in (torch.float32, torch.float64, torch.int64):
            found = devices.number_on(CUDA, torch.tensor(1, dtype=dtype))
            assert found.dtype == dtype and found.device.type == "cuda" and found.shape == ()
        assert devices.number_on(CUDA, torch.ones(3)).shape == (3,)
        assert devices.room(CUDA) == 10                                     # 80 GiB


@pytest.mark.parametrize("side, n, wanted", [(4, 100, 100), (4, 2500, 2500), (4, 2501, 1251),
                                             (4, 10_000, 2500), (64, 25, 9), (64, 1, 1)])
def test_a_gpu_draws_equal_parts_as_large_as_its_memory(monkeypatch, side, n, wanted):
    model = small_model()
    monkeypatch.setattr(LatentDiffusion, "latent_shape", (4, side, side))
    with pretended_gpu(monkeypatch):
        assert move(model)._at_once(n) == wanted
    # a CPU draws as many as ever, and the rest
    assert small_model()._at_once(n) == (250 if side == 4 else 1)
