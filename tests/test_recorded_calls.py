"""Recorded calls: inputs and outputs are copied right, whatever comes next; what can't be is not."""

import contextlib
import copy

import pytest
import torch
from support.models import guide_of, small_model

from minildm.diffusion.guidance import Autoguidance, Cfg, Interval, guided, with_guides
from minildm.diffusion.recorded import WARM_UP, CudaGraphs, Recorder
from minildm.diffusion.samplers import ddim, dpmpp_2m, heun, last


class Rerun:
    """Stands in for `CudaGraphs`: replays by calling the function again, on the places recorded."""

    def __init__(self):
        self.shapes, self.replays = [], 0

    def __call__(self, function, inputs):
        self.shapes.append(tuple(inputs[0].shape))
        output = torch.full_like(function(*inputs), torch.nan)      # a recording computes nothing

        def replay():
            self.replays += 1
            output.copy_(function(*inputs))

        return replay, output


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def network(x, t, context=None):
    return x * 2 + t + (0 if context is None else context[:, None, None, None])


def call(k, rows=2):
    """Inputs of call k, made anew each time, as a sampler makes them."""
    return torch.full((rows, 1, 2, 2), float(k)), torch.tensor(k / 8), torch.full((rows,), 10.0 * k)


def test_each_call_gets_the_answer_to_its_own_inputs_and_keeps_it():
    record = Rerun()
    denoise = Recorder(record)(network)
    calls = [call(k) for k in range(WARM_UP + 4)]
    answers = [denoise(*inputs) for inputs in calls]
    assert record.replays == 4 and len(record.shapes) == 1
    for inputs, answer in zip(calls, answers, strict=True):
        assert torch.equal(answer, network(*inputs))
    assert len({answer.data_ptr() for answer in answers}) == len(answers)
    for k, inputs in enumerate(calls):
        assert all(torch.equal(a, b) for a, b in zip(inputs, call(k), strict=True))     # left as they were


def test_a_shape_is_recorded_by_itself_and_only_after_some_calls():
    record = Rerun()
    denoise = Recorder(record)(network)
    for k in range(WARM_UP):
        denoise(*call(k))
        denoise(*call(k, rows=5))
        denoise(call(k)[0], k / 8)                                          # without a context
    assert record.shapes == []
    for k in range(3):
        for rows in (2, 5):
            assert torch.equal(denoise(*call(k, rows)), network(*call(k, rows)))
        assert torch.equal(denoise(call(k)[0], k / 8), network(call(k)[0], k / 8))
    assert record.shapes == [(2, 1, 2, 2), (5, 1, 2, 2), (2, 1, 2, 2)] and record.replays == 9


def test_two_networks_of_one_shape_have_a_recording_each():
    recorder = Recorder(Rerun())
    one, two = recorder(network), recorder(lambda x, t, context: -network(x, t, context))
    for k in range(WARM_UP + 2):
        assert torch.equal(one(*call(k)), -two(*call(k)))
    assert len(recorder.recordings) == 2


@pytest.mark.parametrize("sampler", [ddim, heun, dpmpp_2m])
def test_guidance_by_two_networks_draws_the_same_with_recordings(sampler):
    model = small_model()
    model.guidance = Cfg(2.0), Interval(Autoguidance(guide_of(model), 3.0, phi=0.5), 0.1, 0.8)
    context, null = model.conditions([0, 1, 2])
    record = Rerun()
    recorder = Recorder(record)

    def draw(denoiser, guidance):
        denoise = guided(denoiser, context, null, guidance)
        return last(sampler(denoise, model.denoiser.schedule, model.noise(3), model.times(9)))

    found = draw(recorder(model.denoiser), with_guides(model.guidance, recorder))
    assert torch.equal(found, draw(model.denoiser, model.guidance))
    assert sorted(record.shapes) == [(3, 4, 4, 4), (6, 4, 4, 4)] and record.replays > 5


def test_weights_that_move_between_two_drawings_are_the_ones_that_draw():
    model, changed = small_model(), small_model()
    changed.denoiser = guide_of(model)
    x, t, labels = model.noise(2), torch.tensor(0.5), torch.tensor([0, 1])
    before, wanted = model.denoiser(x, t, labels), changed.denoiser(x, t, labels)
    assert not torch.allclose(before, wanted)
    denoise = Recorder(Rerun())(model.denoiser)
    for _ in range(WARM_UP + 2):
        assert torch.equal(denoise(x, t, labels), before)
    model.denoiser.load_state_dict(changed.denoiser.state_dict())           # in place
    assert torch.equal(denoise(x, t, labels), wanted)
    # other tensors: the next drawing has a recorder of its own
    assert torch.equal(Recorder(Rerun())(copy.deepcopy(changed.denoiser))(x, t, labels), wanted)


def test_where_recording_fails_a_line_says_so_once_and_calls_go_on(capsys):
    def fails(function, inputs):
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    recorder = Recorder(fails)
    one, two = recorder(network), recorder(lambda x, t, context: network(x, t, context))
    for k in range(WARM_UP + 3):
        assert torch.equal(one(*call(k)), network(*call(k)))
        assert torch.equal(two(*call(k)), network(*call(k)))
    assert capsys.readouterr().out.count("\n") == 1


def test_calls_that_want_gradients_and_networks_with_hooks_are_not_recorded():
    record, heard = Rerun(), []
    model = small_model()
    x, t, labels = model.noise(2), torch.tensor(0.5), torch.tensor([0, 1])
    denoise = Recorder(record)(model.denoiser)
    with torch.enable_grad():
        x.requires_grad_()
        for _ in range(WARM_UP + 2):
            slope, = torch.autograd.grad(denoise(x, t, labels).sum(), x)
    assert slope.abs().max() > 0
    hook = model.denoiser.network.transformer_blocks[0].register_forward_hook(
        lambda *seen: heard.append(1))
    denoise = Recorder(record)(model.denoiser)
    for _ in range(WARM_UP + 2):
        denoise(x, t, labels)
    hook.remove()
    assert len(heard) == WARM_UP + 2 and record.shapes == []


def test_without_a_recorder_calls_are_ordinary_ones():
    denoise = Recorder(None)(network)
    for k in range(WARM_UP + 2):
        assert torch.equal(denoise(*call(k)), network(*call(k)))


def test_cuda_records_on_a_stream_of_its_own_and_casts_weights_anew(monkeypatch):
    """The calls of torch.cuda, each by a stand-in: what they do is CUDA's."""
    seen = {}

    class Graph:
        def replay(self):
            return "replayed"

    @contextlib.contextmanager
    def graph(recorded, pool, stream, capture_error_mode):
        seen["graph"] = type(recorded), pool, stream, capture_error_mode
        yield

    for name, stand_in in {"CUDAGraph": Graph, "graph": graph, "graph_pool_handle": lambda: "pool",
                           "Stream": lambda device: f"stream of {device}",
                           "current_stream": lambda: None, "stream": contextlib.nullcontext,
                           "device": contextlib.nullcontext}.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)

    def function(x, t):
        seen["cached"] = torch.is_autocast_cache_enabled()
        return x + t

    replay, output = CudaGraphs("cuda:1")(function, (torch.ones(2), torch.tensor(0.5)))
    assert seen == {"graph": (Graph, "pool", "stream of cuda:1", "thread_local"), "cached": False}
    assert replay() == "replayed" and output.tolist() == [1.5, 1.5]
    assert torch.is_autocast_cache_enabled()
