"""On a GPU nothing is waited for on the way: counted on one that is only pretended."""

import pytest
import torch
from support.models import guide_of, louder, small_model
from support.pretended import move, on_gpu, pretended_gpu

from minildm.conditioners import Labels, Prompts
from minildm.data.tokenizer import Tokenizer
from minildm.diffusion import samplers, schedules
from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.guidance import Autoguidance, Cfg, Interval
from minildm.evaluation.classifier import Classifier, ClassifierConfig, in_batches, pca_features
from minildm.evaluation.metrics import frechet_distance, kernel_distance, precision_recall
from minildm.latents import VAELatents
from minildm.model import LatentDiffusion
from minildm.nn.clip import TextConfig, TextTransformer
from minildm.nn.unet import UNet, UNetConfig

SAMPLERS = [samplers.ddim, samplers.ddpm, samplers.euler, samplers.heun, samplers.dpmpp_2m,
            samplers.dpmpp_2m_sde]


def dit():
    model = small_model()
    model.guidance = Cfg(2.0), Interval(Autoguidance(guide_of(model), 3.0, phi=0.5), 0.1, 0.8)
    return model, [0, 1, 2, 0]


def unet(conditioner, num_classes):
    model = small_model()
    network = louder(UNet(UNetConfig(4, 4, (8, 16), (False, True), 1, 12, 2, 4, num_classes)))
    return LatentDiffusion(
        latent_space=VAELatents(model.vae, 16, network.multiple), conditioner=conditioner,
        denoiser=Denoiser(network, schedules.cosine, "v"), guidance=Interval(Cfg(3.0), 0.2, 0.9))


def unet_of_labels():
    return unet(Labels("abc"), 3), [0, 1, 2, 0]


class Sentences(Prompts):
    """Prompts whose text tower, which is asked before the first step, is left aside."""

    def embed(self, asked):
        return torch.zeros(*asked.shape, 12, device="cuda")


def unet_of_prompts():
    encoder = TextTransformer(TextConfig(514, 16, 12, 1, 2))
    return unet(Sentences(encoder, Tokenizer([])), 0), ["a red three", "a blue one"] * 2


def waits_of_drawing(monkeypatch, make, steps, sampler=samplers.ddim, **how):
    model, wanted = make()
    with pretended_gpu(monkeypatch) as found:
        move(model)
        images = model.generate(wanted, steps, sampler=sampler, record=False, **how)
        assert images.device.type == "cuda" and len(images) == len(wanted)
    return found


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.__name__)
def test_a_drawing_waits_as_often_for_many_steps_as_for_few(monkeypatch, sampler):
    few, many = (waits_of_drawing(monkeypatch, dit, steps, sampler) for steps in (3, 9))
    assert many == few and len(few) <= 2


@pytest.mark.parametrize("make", [unet_of_labels, unet_of_prompts])
def test_so_does_one_by_a_unet(monkeypatch, make):
    few, many = (waits_of_drawing(monkeypatch, make, steps) for steps in (3, 9))
    assert many == few


def test_parts_of_a_drawing_do_not_wait_for_each_other(monkeypatch):
    whole, parts = (waits_of_drawing(monkeypatch, dit, 3, batch_size=size) for size in (4, 1))
    assert whole == parts


def test_times_on_the_device_work_as_well_and_cost_a_few_questions_before_the_first_step(monkeypatch):
    def run(n):
        with pretended_gpu(monkeypatch) as found:
            x = torch.randn(2, 4, 4, 4, device="cuda")
            ts = on_gpu(schedules.time_grid(n))
            # `distinct` asks how many times there are: all of them, here
            monkeypatch.setattr(samplers, "distinct", lambda ts: ts)
            samplers.last(samplers.heun(lambda x, t: x * t, schedules.flow, x, ts))
        return found

    assert run(3) == run(8)


def test_the_pretended_gpu_counts_what_a_gpu_would_be_waited_for(monkeypatch):
    with pretended_gpu(monkeypatch) as found:
        x = torch.randn(4, device="cuda")
        number, row = torch.tensor(2.0), torch.ones(4)
        x * number                                              # goes along with the kernel
        row.pin_memory().to("cuda", non_blocking=True)
        torch.full((), 0.5, device="cuda")
        assert found == []
        for wait in (lambda: x.sum().item(), lambda: bool(x.sum() > 0), lambda: x.cpu(),
                     lambda: row.to("cuda", non_blocking=True), lambda: row.pin_memory().to("cuda"),
                     lambda: torch.tensor([1.0], device="cuda"), lambda: number.to("cuda"),
                     lambda: x.copy_(row), lambda: torch.where(x > 0, x, number)):
            before = len(found)
            wait()
            assert len(found) > before


def test_sets_become_latents_and_features_without_a_wait_a_part(monkeypatch):
    model, classifier = small_model(), Classifier(ClassifierConfig(width=8, feature_dim=8)).eval()
    # many parts: otherwise all would fit into one
    monkeypatch.setattr("minildm.latents.PIXELS", 2 * 16**2)
    monkeypatch.setattr("minildm.evaluation.classifier.BATCH", 10)

    def run(n):
        with pretended_gpu(monkeypatch) as found, torch.no_grad():
            move(model)
            for group in (part._parameters for part in classifier.modules()):
                for name, tensor in group.items():
                    group[name] = None if tensor is None else on_gpu(tensor)
            images = torch.zeros(n, 1, 14, 14, dtype=torch.uint8, device="cuda")
            latents = model.latent_space.encode(images, mirror=True)
            model.decode(latents.mean.float())
            features = in_batches(classifier.features, images)
            in_batches(classifier.features, images / 127.5 - 1)
            pca_features(classifier, images, 2, 8)
        return found, features

    (few, _), (many, features) = run(20), run(90)
    assert many == few and features.shape == (90, 8) and features.device.type == "cuda"


def test_distances_of_sets_wait_as_often_for_large_ones(monkeypatch):
    monkeypatch.setattr("minildm.evaluation.metrics.ROWS", 10)
    monkeypatch.setattr("minildm.evaluation.metrics.PAIRS", 64)

    def run(n):
        with pretended_gpu(monkeypatch) as found:
            a, b = torch.randn(n, 8, device="cuda"), torch.randn(n, 8, device="cuda")
            for measure in (frechet_distance, kernel_distance, precision_recall):
                measure(a, b)
        return found

    assert run(20) == run(90)
