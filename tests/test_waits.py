"""No step of a training makes the host wait for a GPU: shown on tensors without numbers."""

import copy
import pickle
from dataclasses import replace
from unittest import mock

import pytest
import torch
from support.waits import fake_cuda
from torch import nn

from minildm.conditioners import Labels, Prompts
from minildm.data.tokenizer import Tokenizer
from minildm.diffusion import schedules
from minildm.diffusion.denoiser import Denoiser
from minildm.evaluation.classifier import ClassifierConfig, build_classifier
from minildm.latents import Latents
from minildm.nn.clip import CLIP, CLIPConfig, TextConfig, TextTransformer, VisionConfig
from minildm.nn.dit import DiT, DiTConfig
from minildm.nn.unet import UNet, UNetConfig
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.recipes import classifier, clip, stages
from minildm.training.loop import TrainConfig, generator_for, plain_step
from minildm.training.muon import Muon
from minildm.training.state import TrainState

CONFIG = TrainConfig(steps=20, batch_size=4, lr=1e-3)
WAITING = {
    "item": (lambda x: x.sum().item(), "reads a number"),
    "tolist": (lambda x: x[0].tolist(), "reads a number"),
    "if": (lambda x: bool(x.sum() > 0), "reads a number"),
    "equal": (lambda x: torch.equal(x, x), "reads a number"),
    "cpu": (lambda x: x.cpu(), "copies to the host"),
    "to": (lambda x: torch.zeros(3).to(x), "copies from the host"),
    "to without blocking": (lambda x: torch.zeros(3).to(x, non_blocking=True), "copies from the host"),
    "copy_": (lambda x: x.copy_(torch.zeros(3, 3)), "copies from the host"),
    "as_tensor": (lambda x: torch.as_tensor([1.0], device=x.device), "copies from the host"),
    "a list as index": (lambda x: x[[0, 1]], "copies from the host"),
    "an index on the CPU": (lambda x: x[torch.arange(2)], "copies from the host"),
    "where": (lambda x: torch.where(x > 0, torch.tensor(1.0), x), "copies from the host"),
}
SHAPES = {"nonzero": lambda x: x.nonzero(), "mask": lambda x: x[x > 0]}
FINE = {
    "full": lambda x: torch.full((), 0.5, device=x.device),
    "where": lambda x: torch.where(x > 0, 1.0, x),
    "a number of the host": lambda x: x * torch.tensor(2.0),
    "an index": lambda x: x[torch.arange(2, device=x.device)],
    "a number of the CPU's": lambda x: torch.zeros(3).sum().item(),
    "pinned": lambda x: torch.zeros(3, 3, pin_memory=True).copy_(x, non_blocking=True),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_is_found_with_its_place(name):
    function, kind = WAITING[name]
    with fake_cuda() as gpu:
        function(torch.zeros(3, 3, device="cuda"))
    assert {wait.kind for wait in gpu.waits} == {kind}
    assert all(wait.place.startswith("tests/test_waits.py:") for wait in gpu.waits)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_depend_on_numbers_are_found(name):
    with fake_cuda() as gpu, pytest.raises(RuntimeError):
        SHAPES[name](torch.zeros(3, 3, device="cuda"))
    assert {wait.kind for wait in gpu.waits} == {"shape depends on numbers"}


@pytest.mark.parametrize("name", FINE)
def test_what_does_not_wait_is_let_pass(name):
    with fake_cuda() as gpu:
        FINE[name](torch.zeros(3, 3, device="cuda"))
    assert gpu.waits == []


def waits_of_steps(gpu, arguments, steps=(2,)):
    """The waits of the loop's own step on what a recipe hands to `fit`; tables are copied in the first."""
    model, loss, data, config = arguments
    state = TrainState(model, replace(config, steps=20, batch_size=4))
    indices = torch.arange(4, device="cuda")
    found = []
    for i in (1, *steps):
        state.begin(1e-3)
        gpu.waits.clear()
        plain_step(state, loss, data, indices, torch.Generator(), i, 1e-3)
        found += gpu.waits if i in steps else []
    return found


class Handed(Exception):
    """In the place of a training: what it was asked for."""


def handed_to_fit(module, function, *args, **kwargs):
    """What a recipe hands to `fit`: model, loss, data, config."""
    def fit(model, loss, data, config, *rest, **more):
        raise Handed(model, loss, data, config)

    with mock.patch.object(module, "fit", fit), pytest.raises(Handed) as caught:
        function(*args, **kwargs)
    return caught.value.args


def pictures(channels, side):
    return torch.zeros(8, channels, side, side, dtype=torch.uint8, device="cuda")


@pytest.mark.parametrize("weights, steps", [
    (stages.VAELoss(), (2,)),
    (stages.VAELoss(perceptual_weight=0.5, adversarial_weight=0.3, adversarial_start=3), (2, 3, 4, 5)),
])
def test_a_vae(weights, steps):
    features = build_classifier(ClassifierConfig(3, width=8, feature_dim=8)).requires_grad_(False)
    with fake_cuda() as gpu:
        vae = AutoencoderKL(VAEConfig(3, 4, (16,), blocks=1, groups=4, patch=4)).to("cuda")
        feature_maps = features.to("cuda").feature_maps
        arguments = handed_to_fit(stages, stages.train_vae, vae, pictures(3, 16), CONFIG, weights,
                                  feature_maps=feature_maps)
        assert waits_of_steps(gpu, arguments, steps) == []


def shifted():
    return schedules.shift_channels(schedules.flow, torch.tensor([1.0, 1.0, 1.0, 2.0]))


SCHEDULES = {"flow": lambda: schedules.flow, "cosine": lambda: schedules.cosine, "shifted": shifted,
             "linear": lambda: schedules.from_betas(torch.linspace(1e-4, 0.02, 100))}
UNET = UNetConfig(4, 4, (16, 32), (False, True), blocks=1, context_dim=32, heads=2, groups=8, num_classes=3)
DIT = DiTConfig(4, 4, dim=32, depth=2, heads=2, patch=2, num_classes=3, dropout=0.1)


def denoiser_arguments(network, schedule, conditioner, asked, **kwargs):
    latents = Latents(torch.zeros(8, 4, 8, 8, dtype=torch.float16, device="cuda"),
                      torch.zeros(8, 3, 8, 8, dtype=torch.float16, device="cuda"))
    denoiser = Denoiser(network.to("cuda"), schedule, "flow" if schedule is schedules.flow else "x0")
    with mock.patch.object(stages, "check_spread"):
        return handed_to_fit(stages, stages.train_denoiser, denoiser, conditioner, latents, asked, CONFIG,
                             **kwargs)


@pytest.mark.parametrize("network", [lambda: UNet(UNET), lambda: DiT(DIT)], ids=["unet", "dit"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_denoiser_of_labels(network, schedule):
    schedule = SCHEDULES[schedule]()
    with fake_cuda() as gpu:
        asked = torch.zeros(8, dtype=torch.int64, device="cuda")
        arguments = denoiser_arguments(network(), schedule, Labels("abc", "cuda"), asked)
        assert waits_of_steps(gpu, arguments) == []


def test_a_denoiser_of_sentences():
    tokenizer = Tokenizer.train(["a red three", "a blue four"], 520)
    network = replace(UNET, num_classes=0)
    with fake_cuda() as gpu:
        tower = TextTransformer(TextConfig(len(tokenizer), 12, 32, 1, 2)).to("cuda")
        asked = torch.zeros(8, dtype=torch.int64, device="cuda")
        wordings = torch.zeros(3, 2, 12, dtype=torch.int64, device="cuda")
        arguments = denoiser_arguments(UNet(network), schedules.cosine, Prompts(tower, tokenizer), asked,
                                       wordings=wordings)
        assert waits_of_steps(gpu, arguments) == []


@pytest.mark.parametrize("name, channels", [("mnist", 1), ("scenes", 3)])
def test_clip(name, channels):
    recipe = clip.RECIPES[name]
    meanings = [["a red three", "three"], ["a blue four", "four"]]
    # the sentences' ids have no numbers here, nor does their length
    with fake_cuda() as gpu, mock.patch.object(clip, "tokenize", lambda *_: torch.zeros(2, 2, 24).long()):
        labels = torch.zeros(8, dtype=torch.int64, device="cuda")
        arguments = handed_to_fit(clip, clip.train_clip, recipe, pictures(channels, 28), labels, meanings)
        assert waits_of_steps(gpu, arguments) == []


@pytest.mark.parametrize("pool", [False, True])
def test_a_classifier(pool):
    config = ClassifierConfig(3, 3, width=8, growth=(1, 2, 2), mirror=True, pool=pool)
    with fake_cuda() as gpu:
        model = build_classifier(config).to("cuda")
        images = mock.Mock(images=pictures(3, 16), labels=torch.zeros(8, dtype=torch.int64, device="cuda"))
        training = classifier.COLOUR_CLASSIFIER if pool else CONFIG
        with (mock.patch.object(classifier, "untrained", lambda *_: model),
              mock.patch.object(classifier, "classifier_for", lambda *_: (config, training))):
            arguments = handed_to_fit(classifier, classifier.train_classifier, images)
        assert waits_of_steps(gpu, arguments) == []


# --- what was mended

def test_copies_of_a_table_stay_where_they_are():
    schedule = schedules.from_betas(torch.linspace(1e-4, 0.02, 100))
    t = torch.rand(5, generator=generator_for(0))
    wanted = schedule.alpha(t)
    table = schedule.alpha.__self__.log_alpha_bar
    assert table.like(t).dtype == torch.float32 and table.copies == {}
    with fake_cuda() as gpu:
        on_gpu = torch.rand(5, device="cuda")
        assert table.like(on_gpu) is table.like(on_gpu) and len(gpu.waits) == 1
    for other in copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule)):
        assert other.alpha.__self__.log_alpha_bar.copies == {}
        assert torch.equal(other.alpha(t), wanted)


@pytest.mark.parametrize("gradient", [0.5, torch.nan])
def test_muon_stands_still_where_it_is_told_to(gradient):
    kernel = nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator_for(0)))
    optimizer = Muon([kernel], lr=torch.tensor(0.1))
    kernel.grad = torch.ones_like(kernel)
    optimizer.step()
    before, momentum = kernel.detach().clone(), optimizer.state[kernel]["momentum"].clone()
    kernel.grad.fill_(gradient)
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    assert torch.equal(kernel, before) and torch.equal(optimizer.state[kernel]["momentum"], momentum)


def test_muon_moves_alike_with_a_guard_and_without():
    moved = []
    for lr, found_inf in (0.1, None), (0.1, torch.zeros(())), (torch.tensor(0.1), torch.zeros(())):
        kernel = nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator_for(0)))
        optimizer = Muon([kernel], lr)
        optimizer.found_inf = found_inf
        for i in range(3):
            kernel.grad = torch.randn(kernel.shape, generator=generator_for(1, i))
            optimizer.step()
        moved.append(kernel.detach())
    assert torch.equal(moved[0], moved[1]) and torch.equal(moved[0], moved[2])


# --- what may be compiled

CLIP_CONFIG = CLIPConfig(TextConfig(20, 6, 16, 1, 2), VisionConfig(1, 8, 4, 16, 1, 2), 8)


def compiled_cases():
    x, t, labels = torch.rand(2, 4, 8, 8), torch.rand(2), torch.tensor([0, 2])
    vae, clip_model = AutoencoderKL(VAEConfig(4, 2, (8, 8), 1, True, 4)), CLIP(CLIP_CONFIG)
    return {"unet": (UNet(UNET), (x, t, labels)), "encoder": (vae.encoder, (x,)),
            "decoder": (vae.decoder, (torch.rand(2, 2, 4, 4),)),
            "text": (clip_model.text_model, (torch.tensor([[1, 2, 19]]),)),
            "vision": (clip_model.vision_model, (torch.rand(2, 1, 8, 8),))}


@pytest.mark.parametrize("name", ["unet", "encoder", "decoder", "text", "vision"])
def test_a_network_is_traced_whole(name):
    network, inputs = compiled_cases()[name]
    torch._dynamo.reset()
    traced = torch.compile(network, backend="eager", fullgraph=True, dynamic=False)
    results = []
    for function in network, traced:
        network.zero_grad()
        out = function(*inputs)
        out = out[0] if isinstance(out, tuple) else out
        out.square().sum().backward()
        results.append((out.detach(), [p.grad for p in network.parameters() if p.grad is not None]))
    torch.testing.assert_close(results[0], results[1])


def test_all_blocks_share_one_program():
    network, programs = DiT(replace(DIT, depth=3, dropout=0)), []

    def backend(graph, inputs):
        programs.append(graph)
        return graph.forward

    x, t, labels = torch.rand(2, 4, 8, 8), torch.rand(2), torch.tensor([0, 2])
    nn.init.normal_(network.proj_out_2.weight)
    wanted = network(x, t, labels)
    torch._dynamo.reset()
    assert network.compiled_parts == ("transformer_blocks",)
    for block in network.transformer_blocks:
        block.compile(fullgraph=True, dynamic=False, backend=backend)
    torch.testing.assert_close(network(x, t, labels), wanted)
    assert len(programs) == 1
