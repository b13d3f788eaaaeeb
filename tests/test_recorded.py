"""A GPU's way through a training, on the CPU: numbers read late, steps recorded, networks compiled.

The lag and the recording have stand-ins here; what CUDA adds is timing.
"""

import functools
import math
import types
from dataclasses import replace

import pytest
import torch
from support.runs import CONFIG, equal, examples, final_tensors, loss_of, network, run_steps, state_of
from torch import nn

from minildm import MinildmError
from minildm.training import recorded
from minildm.training import state as states
from minildm.training.loop import TrainConfig, changes_at, fit, read_metrics, take_steps, train
from minildm.training.numbers import Numbers
from minildm.training.state import TrainState

BATCH = CONFIG.batch_size


@pytest.fixture
def lag(monkeypatch):
    """Let the host be five steps ahead of the CPU's numbers, as it is of a GPU's."""
    monkeypatch.setitem(states.LAG, "cpu", 5)
    return 5


def close(a, b):
    return a.keys() == b.keys() and all(torch.allclose(a[n], b[n], rtol=1e-5, atol=1e-6) for n in a)


def clone_of(function):
    """The same function with code of its own, as another class's would be."""
    return types.FunctionType(function.__code__.replace(), function.__globals__)


def breaks_at(model, broken_step):
    """A loss that is not finite at one step."""
    def loss(x, y, generator, step):
        found = loss_of(model)(x, y, generator)
        return {**found, "loss": found["loss"] * (math.nan if step == broken_step else 1)}
    return loss


# --- numbers that are read late

def test_a_lag_changes_no_weight(monkeypatch):
    at_once, late = network(), network()
    losses, step = run_steps(at_once)
    monkeypatch.setitem(states.LAG, "cpu", 5)
    late_losses, late_step = run_steps(late)
    assert equal(state_of(at_once), state_of(late)) and losses == late_losses
    assert close(step.ema.averages, late_step.ema.averages)


def test_the_host_reads_no_number_before_the_lag(lag, monkeypatch):
    read = []
    of_numbers = Numbers.read
    monkeypatch.setattr(Numbers, "read", lambda self: read.append(self) or of_numbers(self))
    model, taken = network(), []
    for step in train(model, loss_of(model), examples(), CONFIG, bar=False):
        taken.append(step.numbers)
        if step.i < CONFIG.steps:
            assert set(map(id, read)) == set(map(id, taken[:max(0, step.i - lag)]))
    assert set(map(id, read)) == set(map(id, taken))


@pytest.mark.parametrize("broken", [1, 2, 7, 12])
def test_no_weight_moves_after_a_step_that_was_not_finite(tmp_path, lag, broken):
    model, clean = network(), network()
    with pytest.raises(MinildmError, match=f"step {broken} is not finite"):
        fit(model, breaks_at(model, broken), examples(), CONFIG, tmp_path, bar=False)
    fit(clean, loss_of(clean), examples(), CONFIG, tmp_path / "clean", bar=False)
    assert len(read_metrics(tmp_path)["loss"]) == broken - 1 if broken > 1 else True
    if broken > 1:
        assert final_tensors(tmp_path).keys() == final_tensors(tmp_path / "clean").keys()
        # mended, the run goes on from the step before, and ends where one ends that never broke
        fit(model, loss_of(model), examples(), CONFIG, tmp_path, bar=False)
        assert equal(final_tensors(tmp_path), final_tensors(tmp_path / "clean"))


def test_weights_moments_average_and_buffers_stand_at_the_step_before(lag):
    config = replace(CONFIG, muon=0.0)
    states_of = []
    for broken in (8, 0):
        model = network()
        state = TrainState(model, config)
        steps = take_steps(state, breaks_at(model, broken), examples())
        if broken:
            with pytest.raises(MinildmError, match="step 8"):
                list(steps)
        else:
            for _ in range(7):
                next(steps)
            # as the state is saved, whose batch norm's statistics are those of step 7
            state.settle()
        assert state.i == 7
        states_of.append({name: tensor.clone() for name, tensor in state.tensors().items()})
    assert equal(*states_of)


def test_a_snapshot_after_a_broken_step_is_none(lag):
    model = network()
    state = TrainState(model, CONFIG, snapshot_step=9)
    with pytest.raises(MinildmError, match="step 7"):
        list(take_steps(state, breaks_at(model, 7), examples()))
    assert state.snapshot is None
    state = TrainState(network(), CONFIG, snapshot_step=6)
    with pytest.raises(MinildmError, match="step 7"):
        list(take_steps(state, breaks_at(state.model, 7), examples()))
    assert state.snapshot is not None


def test_a_run_that_is_left_early_has_all_its_rows(tmp_path, lag):
    model = network()
    run_steps(model, replace(CONFIG, save_every=0), tmp_path, stop=8)
    assert read_metrics(tmp_path)["step"] == list(range(1, 9))
    assert int(sorted(tmp_path.glob("step-*"))[-1].name[5:]) == 8


def test_a_broken_step_found_out_while_leaving_is_told_and_the_one_before_saved(tmp_path, lag):
    model = network()
    steps = train(model, breaks_at(model, 7), examples(), replace(CONFIG, save_every=0), tmp_path,
                  bar=False)
    for step in steps:
        if step.i == 9:
            break
    with pytest.raises(MinildmError, match="step 7 is not finite"):
        steps.close()
    assert [folder.name for folder in tmp_path.glob("step-*")] == ["step-000006"]
    assert read_metrics(tmp_path)["step"] == list(range(1, 7))


def test_warnings_come_late_but_come(lag, monkeypatch, capsys):
    monkeypatch.setenv("CI", "1")
    model = nn.Linear(4, 1)

    def loss(x, y, generator):
        return {"loss": 1e3 * (model(x) - y).square().mean()}

    config = TrainConfig(steps=120, batch_size=8, lr=1e-6, clip=0, precision="float32")
    fit(model, loss, examples(), config)
    assert "step 100: grad_norm is" in capsys.readouterr().out


# --- recorded steps

class StandIn:
    """For a CUDA graph: what was recorded is called again, and its numbers stand in one place."""

    made = 0

    def __init__(self, function, noise):
        StandIn.made += 1
        self.function, self.numbers = function, None

    def replay(self):
        new = self.function()
        if self.numbers is None:
            self.numbers = new
        else:
            self.numbers.values.copy_(new.values)
        return self.numbers


@pytest.fixture
def graphs(monkeypatch, lag):
    """Let steps on the CPU be recorded by the stand-in."""
    monkeypatch.setattr(StandIn, "made", 0)
    monkeypatch.setattr(recorded, "CudaGraph", StandIn)
    monkeypatch.setattr(recorded, "RECORDABLE", ("cpu",))
    return StandIn


GRAPH = replace(CONFIG, execution="graph")


def test_replayed_steps_are_the_steps(graphs):
    eager, replayed = network(), network()
    losses, step = run_steps(eager)
    assert graphs.made == 0
    replayed_losses, replayed_step = run_steps(replayed, GRAPH)
    assert graphs.made == 1 and losses == replayed_losses
    assert equal(state_of(eager), state_of(replayed))
    assert equal(step.ema.averages, replayed_step.ema.averages)


def test_a_replayed_run_goes_on_as_an_eager_one_and_the_other_way_round(tmp_path, graphs):
    whole = network()
    run_steps(whole, CONFIG, tmp_path / "whole")
    for first, then in (GRAPH, CONFIG), (CONFIG, GRAPH):
        folder = tmp_path / first.execution
        run_steps(network(), first, folder, stop=6)
        run_steps(network(), then, folder)
        assert equal(final_tensors(folder), final_tensors(tmp_path / "whole"))


def test_a_loss_that_changes_is_recorded_anew(graphs):
    def losses_of(config, mark):
        model = network()

        def loss(x, y, generator, step):
            found = loss_of(model)(x, y, generator)
            return {**found, "loss": found["loss"] * (1 if step < 7 else 2)}

        fit(model, mark(loss), examples(), config, bar=False)
        return state_of(model)

    plain = losses_of(CONFIG, lambda loss: loss)
    assert equal(losses_of(GRAPH, lambda loss: loss), plain) and graphs.made == 0
    assert equal(losses_of(GRAPH, changes_at(7)), plain) and graphs.made == 2


def test_a_step_that_cannot_be_recorded_is_taken_as_it_is(graphs, monkeypatch, capsys):
    def refuse(function, noise):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(recorded, "CudaGraph", refuse)
    model, plain = network(), network()
    run_steps(model, GRAPH)
    run_steps(plain)
    assert equal(state_of(model), state_of(plain))
    said = capsys.readouterr().out.splitlines()
    assert said == ["step 4 can't be recorded, so each is launched anew (RuntimeError: operation "
                    "not permitted when stream is capturing)"]


def test_a_replayed_step_that_is_not_finite_moves_nothing(graphs):
    data = examples()
    bad = data[0].clone()
    bad[7] = math.nan                           # the example stands in one batch of an epoch
    config = replace(GRAPH, steps=40)
    states_of = []
    for execution in ("graph", "eager"):
        state = TrainState(network(), replace(config, execution=execution))
        with pytest.raises(MinildmError, match="is not finite"):
            list(take_steps(state, loss_of(state.model), (bad, data[1])))
        states_of.append({"i": torch.tensor(state.i), **state.tensors()})
    assert equal(*states_of)


# --- compiled networks

@pytest.fixture
def without_inductor(monkeypatch):
    monkeypatch.setitem(recorded.COMPILING, "backend", "aot_eager")


def test_compiled_networks_take_the_same_steps(without_inductor):
    plain, compiled = network(), network()
    run_steps(plain)
    _, step = run_steps(compiled, replace(CONFIG, execution="compile"))
    assert close(state_of(plain), state_of(compiled))
    assert step.ema.averages.keys() == state_of(plain).keys()       # names stay as they are
    assert compiled._compiled_call_impl is None                     # and so does the network


def test_a_model_of_many_forms_is_compiled(without_inductor):
    """Torch compiles eight forms of one piece of code, so each kind of module must be its own."""
    class Wide(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.inside = nn.Sequential(nn.Linear(4, width), nn.Linear(width, 4))

        def forward(self, x):
            return x + self.inside(x)

    model = nn.ModuleDict({str(k): type(f"Kind{k}", (Wide,), {"forward": clone_of(Wide.forward)})(k)
                           for k in range(2, 13)})
    with recorded.compiled_networks(model) as parts:
        assert len(parts) == 11
        for part in parts:
            part(torch.ones(3, 4)).sum().backward()


def test_what_cannot_be_compiled_is_run_as_it_is(monkeypatch, capsys):
    def refuse(graph, inputs):
        raise RuntimeError("no compiler")

    monkeypatch.setitem(recorded.COMPILING, "backend", refuse)
    model, plain = network(), network()
    run_steps(model, replace(CONFIG, execution="compile"))
    run_steps(plain)
    assert equal(state_of(model), state_of(plain))
    assert "networks can't be compiled, and are run as they are" in capsys.readouterr().out


def test_parts_of_a_model_are_found_by_what_they_name():
    block = functools.partial(nn.Linear, 2, 2)
    inner = nn.Module()
    inner.blocks, inner.compiled_parts = nn.ModuleList([block(), block()]), ("blocks",)
    outer = nn.Module()
    outer.network, outer.compiled_parts = inner, ("network",)
    critic = block()
    assert recorded.parts_to_compile(outer) == [*inner.blocks]
    parts = recorded.parts_to_compile(nn.ModuleDict({"loss": outer, "critic": critic}))
    assert parts == [*inner.blocks, critic]


@pytest.mark.parametrize("steps, of_a_network, of_blocks", [
    (10, "eager", "eager"), (100, "graph", "graph"), (9000, "graph", "compile"),
    (20_000, "compile", "compile")])
def test_what_pays_is_chosen_by_the_length_of_a_training(steps, of_a_network, of_blocks):
    config, cuda = TrainConfig(steps=steps, batch_size=1, lr=1e-3), torch.device("cuda")
    blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    assert recorded.execution_of(config, cuda, network()) == of_a_network
    assert recorded.execution_of(config, cuda, blocks) == of_blocks
    assert recorded.execution_of(config, torch.device("cpu"), blocks) == "eager"
    with pytest.raises(MinildmError, match="execution"):
        TrainConfig(steps=1, batch_size=1, lr=1e-3, execution="fast")
