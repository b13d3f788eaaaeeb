"""Muon: an orthogonal step, for kernels of a set norm or for all maps, beside AdamW for all else."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support.runs import CONFIG, equal, final_tensors, state_of
from torch import nn

from minildm import MinildmError
from minildm.training.loop import fit, generator_for, train
from minildm.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 27), (27, 8), (16, 16)])
def test_orthogonal_keeps_singular_vectors_and_evens_values(shape):
    matrix = torch.randn(shape, generator=generator_for(0), dtype=torch.float64)
    u, values, vt = torch.linalg.svd(matrix, full_matrices=False)
    ours = u.T @ orthogonal(1e-3 * matrix) @ vt.T                       # whatever its scale
    torch.testing.assert_close(ours, ours.diag().diag(), atol=1e-6, rtol=0)
    evened = ours.diag()[values > values.max() / 100]
    assert evened.min() > 0.65 and evened.max() < 1.25


def test_a_step_against_its_formula():
    kernel = nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator_for(0)))
    optimizer, by_hand, average = Muon([kernel], lr=0.1, momentum=0.5), kernel.detach().clone(), 0
    for i in range(3):
        kernel.grad = torch.randn(kernel.shape, generator=generator_for(1, i))
        average = 0.5 * average + kernel.grad
        by_hand = 2 * by_hand / by_hand.norm()                          # sqrt(4 filters)
        by_hand -= 0.1 * orthogonal((kernel.grad + 0.5 * average).reshape(4, 27)).reshape(by_hand.shape)
        optimizer.step()
        torch.testing.assert_close(kernel.detach(), by_hand)
    kernel.grad = None
    optimizer.step()
    torch.testing.assert_close(kernel.detach(), by_hand)                # nothing said, nothing moved


@pytest.mark.parametrize("shape", [(4, 54), (54, 4), (12, 3, 3, 3)])
def test_with_free_lengths_a_number_moves_by_a_fifth_of_the_rate(shape):
    matrix = nn.Parameter(torch.randn(shape, generator=generator_for(0)))
    before = matrix.detach().clone()
    optimizer = Muon([matrix], lr=0.1, momentum=0.9, set_lengths=False)
    matrix.grad = torch.randn(shape, generator=generator_for(1))
    optimizer.step()
    step = matrix.detach() - before
    # the first step is along the gradient, evened
    rows, columns = len(matrix), matrix[0].numel()
    wanted = -0.02 * max(rows, columns)**0.5 * orthogonal(matrix.grad.flatten(1)).reshape(shape)
    torch.testing.assert_close(step, wanted)
    assert step.square().mean().sqrt() == pytest.approx(0.02, rel=0.3)


def network():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Flatten(), nn.Linear(16, 2))


DATA = torch.randn(20, 1, 4, 4, generator=generator_for(0, "pictures")), torch.arange(20) % 2
BOTH = replace(CONFIG, muon=0.1)
MATRICES = replace(CONFIG, muon=0.1, muon_on="matrices")


def loss_of(model):
    return lambda x, y, generator: {"loss": F.cross_entropy(model(x), y)}


def test_it_moves_kernels_and_adamw_the_rest():
    moved = {}
    for name, config in ("both", BOTH), ("twice the rate", replace(BOTH, muon=0.2)), ("adamw", CONFIG):
        model = network()
        next(train(model, loss_of(model), DATA, config, bar=False))
        moved[name] = state_of(model)
    both, faster, adamw = moved.values()
    kernel = network()[0].weight.detach()
    kernel = 2 * kernel / kernel.norm()
    step, twice = both["0.weight"] - kernel, faster["0.weight"] - kernel
    assert step.norm() == pytest.approx(2 * 0.1 / 3, rel=0.2)           # of rate 0.1, a third of the warm-up
    torch.testing.assert_close(twice, 2 * step)
    assert all(torch.equal(both[k], adamw[k]) for k in both if k != "0.weight")


def test_of_matrices_it_moves_linear_maps_too_and_adamw_the_vectors():
    moved = {}
    for name, config in ("both", MATRICES), ("adamw", CONFIG):
        model = network()
        next(train(model, loss_of(model), DATA, config, bar=False))
        moved[name] = state_of(model)
    both, adamw = moved.values()
    matrices = {"0.weight", "4.weight"}
    assert {k for k in both if not torch.equal(both[k], adamw[k])} == matrices
    with pytest.raises(MinildmError, match="muon_on is one of: kernels matrices"):
        replace(CONFIG, muon_on="vectors")


@pytest.mark.parametrize("config, first", [(BOTH, 5), (MATRICES, 4)])
def test_resumed_is_uninterrupted(tmp_path, config, first):
    fit(model := network(), loss_of(model), DATA, config, tmp_path / "whole", bar=False)
    for stop in 5, None:
        model = network()
        for step in train(model, loss_of(model), DATA, config, tmp_path / "parts", bar=False):
            if step.i == stop:
                break
    assert equal(final_tensors(tmp_path / "whole"), final_tensors(tmp_path / "parts"))
    # the kernel's moment stands after those of AdamW's tensors
    assert f"optimizer.{first}.momentum" in final_tensors(tmp_path / "parts")


def test_a_kernel_that_starts_at_zero_keeps_its_length(tmp_path):
    """As a U-Net's last layer does: dividing by its norm gave NaN at the second step."""
    def from_zero():
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 1, 1), nn.Flatten(), nn.Linear(4, 2))
        return model

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        models = [from_zero() for _ in range(2)]
    for model in models:
        model.load_state_dict(models[0].state_dict())
        nn.init.zeros_(model[1].weight)
    config = replace(BOTH, muon=1e-2)
    whole, parts = models
    norms = []
    for step in train(whole, loss_of(whole), DATA, config, tmp_path / "whole", bar=False):
        norms.append(whole[1].weight.norm().item())
        assert all(p.isfinite().all() for p in whole.parameters()), step.i
    assert 0 < norms[0] < 0.05 and max(norms) < 0.2         # steps of 0.01, not a jump to norm 1
    for stop in (5, None):
        for step in train(parts, loss_of(parts), DATA, config, tmp_path / "parts", bar=False):
            if step.i == stop:
                break
    assert equal(final_tensors(tmp_path / "whole"), final_tensors(tmp_path / "parts"))
