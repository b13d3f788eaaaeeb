"""A model: labels to pictures, the same picture whatever the batch, saved and loaded as it was."""

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from support.models import guide_of, small_model

from minildm import MinildmError
from minildm.conditioners import Labels
from minildm.diffusion import samplers
from minildm.diffusion.guidance import Autoguidance, Cfg, Interval, rescaled
from minildm.diffusion.samplers import ddim, ddpm, dpmpp_2m
from minildm.diffusion.schedules import flow, leading_grid, rounded_grid
from minildm.images import to_float
from minildm.latents import FeatureLatents, VAELatents, encode_all, padded, sample_latents
from minildm.model import LatentDiffusion
from minildm.spec import ModelSpec, Sampling
from minildm.training import checkpoint

OLD = Path(__file__).parent / "old"


@pytest.fixture(scope="module")
def pipe():
    return small_model()


def test_shapes_range_and_size(pipe):
    images = pipe.generate([0, 1, 2, 0, 1], num_inference_steps=2)
    assert images.shape == (5, 1, 14, 14) and images.abs().max() <= 1
    assert pipe.latent_shape == (4, 4, 4)
    assert padded(28, 8) == 32 and padded(32, 8) == 32


def test_picture_k_of_a_seed_does_not_depend_on_the_batch(pipe):
    labels = [0, 1, 2, 0, 1, 2, 0]
    whole = pipe.generate(labels, 2, seed=3)
    torch.testing.assert_close(pipe.generate(labels, 2, seed=3, batch_size=2), whole, atol=2e-2, rtol=0)
    assert torch.equal(pipe.noise(3, seed=3, first=2), pipe.noise(7, seed=3)[2:5])
    assert not torch.equal(pipe.noise(1, seed=3), pipe.noise(1, seed=4))


@pytest.mark.parametrize("sampler", [ddpm, samplers.dpmpp_2m_sde, partial(ddim, eta=1.0),
                                     partial(dpmpp_2m, eta=1.0)])
def test_samplers_that_draw_noise_obey_the_seed_whatever_the_batch(pipe, sampler):
    torch.manual_seed(1)
    first = pipe.generate([0, 1, 2], 4, seed=5, sampler=sampler)
    torch.manual_seed(2)
    again = pipe.generate([0, 1, 2], 4, seed=5, sampler=sampler)
    parts = pipe.generate([0, 1, 2], 4, seed=5, sampler=sampler, batch_size=2)
    assert torch.equal(first, again)
    torch.testing.assert_close(parts, first, atol=2e-2, rtol=0)
    assert (pipe.generate([0, 1, 2], 4, seed=6, sampler=sampler) - first).abs().max() > 0.01
    assert not torch.equal(pipe.noise(1, 5, step=0), pipe.noise(1, 5, step=1))      # new noise each step


def test_a_sampler_of_ones_own_gets_a_generator_of_the_seed(pipe):
    def wobbly(denoise, schedule, noise, ts, generator=None):
        for step in ddim(denoise, schedule, noise, ts):
            yield step._replace(x=step.x + torch.randn(step.x.shape, generator=generator))

    first, again = (pipe.generate([0], 2, sampler=wobbly) for _ in range(2))
    assert torch.equal(first, again)


def test_label_guidance_steps_and_sampler_matter(pipe):
    base = pipe.generate([0], 3, guidance=None)
    others = [pipe.generate([1], 3, guidance=None), pipe.generate([0], 3, guidance_scale=3.0),
              pipe.generate([0], 6, guidance=None), pipe.generate([0], 3, guidance=None, sampler=ddpm)]
    for other in others:
        assert not torch.allclose(base, other, atol=1e-3)


def test_guidance_is_a_value_and_none_is_the_denoiser_alone():
    model = small_model()
    guide = guide_of(model)
    model.guidance = (Cfg(1.5), Autoguidance(guide, 3.0))
    with torch.no_grad():
        alone = model.decode(samplers.last(ddim(
            lambda x, t: model.denoiser(x, t, torch.tensor([0, 1])), flow, model.noise(2), model.times(2))))
    for off in ({"guidance": None}, {"guidance": ()}, {"guidance_scale": 1}, {"guidance_scale": 1.0}):
        torch.testing.assert_close(model.generate([0, 1], 2, **off), alone, atol=0.02, rtol=0)
    loud = model.generate([0, 1], 2)
    assert (loud - alone).abs().max() > 0.01
    assert torch.equal(model.generate([0, 1], 2, guidance_scale=1.5), loud)
    assert model.guidance_of(guidance_scale=4.0) == (Cfg(4.0), model.guidance[1])
    with pytest.raises(MinildmError, match="both given"):
        model.generate([0], 2, guidance=None, guidance_scale=2.0)


def test_guidance_may_be_assigned_as_one_value_or_none_and_its_scale_is_found_in_an_interval():
    model = small_model()
    model.guidance = Cfg(2.0)
    assert model.guidance == (Cfg(2.0),) and model.spec.guidance[0]["scale"] == 2.0
    model.guidance = None
    assert model.guidance == () and model.guidance_of(guidance_scale=3.0) == (Cfg(3.0),)
    model.guidance = Interval((Cfg(4.0), Cfg(2.0, phi=0.5)), 0.1, 0.8)
    wanted = Interval((Cfg(3.0), Cfg(3.0, phi=0.5)), 0.1, 0.8)
    assert model.guidance_of(guidance_scale=3.0) == (wanted,)
    guide = guide_of(model).train()
    model.guidance = Autoguidance(guide, 2.0)
    assert not guide.training


def test_autoguidance_leads_away_from_the_guide_on_the_latents_alone():
    """One step from pure noise, beside the equation: D_guide + w (D - D_guide), contrast taken back."""
    model = small_model(features=2)
    guide = guide_of(model)
    model.guidance = (Cfg(2.0), Autoguidance(guide, 3.0, phi=1.0, channels=4))
    model.dtype = torch.float32
    drawn = model.generate([0, 1], 1, seed=1)
    labels, null, t = torch.tensor([0, 1]), torch.tensor([3, 3]), torch.tensor(1.0)
    with torch.no_grad():
        x = model.noise(2, 1)
        cond, uncond, guided = model.denoiser(x, t, labels), model.denoiser(x, t, null), guide(x, t, labels)
    inner = uncond + 2 * (cond - uncond)
    outer = guided + 3 * (inner - guided)
    wanted = model.decode(rescaled(inner[:, :4], outer[:, :4], 1.0))
    torch.testing.assert_close(drawn, wanted, atol=1e-4, rtol=0)
    assert (model.decode(outer) - wanted).abs().max() > 0.01


def test_saved_and_loaded_is_the_same_model(pipe, tmp_path):
    pipe.save(tmp_path / "model", {"seconds": 1.0})
    again = LatentDiffusion.load(tmp_path / "model")
    assert (again.spec, again.image_size) == (pipe.spec, pipe.image_size)
    assert again.class_names == pipe.class_names and again.facts == {"seconds": 1.0}
    assert (again.generate([0, 1], 2) - pipe.generate([0, 1], 2)).abs().max() < 0.05     # fp16 on disk
    half = LatentDiffusion.load(tmp_path / "model", dtype=torch.bfloat16)
    assert next(half.denoiser.parameters()).dtype == torch.bfloat16
    assert (half.generate([0, 1], 2) - pipe.generate([0, 1], 2)).abs().mean() < 0.05


def test_weights_in_bf16_leave_the_latents_scale_as_it_is(pipe, tmp_path):
    pipe.save(tmp_path / "model")
    whole, half = (LatentDiffusion.load(tmp_path / "model", dtype=d) for d in (None, torch.bfloat16))
    assert half.vae.latent_std.dtype == half.vae.latent_mean.dtype == torch.float32
    assert torch.equal(half.vae.latent_std, whole.vae.latent_std)


def test_a_guide_and_features_are_saved_with_the_model(tmp_path):
    model = small_model(features=2)
    guide = guide_of(model)
    model.guidance = (Cfg(2.0), Interval(Autoguidance(guide, 3.0, phi=0.5, channels=4), 0.1, 0.9))
    model.save(tmp_path / "model")
    again = LatentDiffusion.load(tmp_path / "model")
    assert [str(value) for value in again.guidance] == [str(value) for value in model.guidance]
    assert isinstance(again.latent_space, FeatureLatents) and again.latent_shape == (6, 4, 4)
    torch.testing.assert_close(again.generate([0, 1], 2), model.generate([0, 1], 2), atol=0.06, rtol=0)
    assert (again.generate([0], 2, guidance=None) - again.generate([0], 2)).abs().max() > 0.01


WHAT = {"model-labels": [0, 1, 2], "model-features": [0, 1, 2],
        "model-captions": ["a red three left of a blue eight", "a green one in the middle"],
        "zoo-mnist": [3, 1, 4], "zoo-scenes": ["a red three left of a blue eight"]}


@pytest.mark.parametrize("name", WHAT)
def test_models_of_version_0_1_draw_what_they_drew(name):
    """The zoo's and small ones of each kind; their pictures were stored by that version, as fp16."""
    source = name.removeprefix("zoo-") if name.startswith("zoo") else OLD / name
    pipe = LatentDiffusion.load(source, dtype=torch.float32)
    negative = "green" if name == "model-captions" else ""
    images = pipe.generate(WHAT[name], seed=1, negative=negative)
    with np.load(OLD / f"{name}.npz") as stored:
        before = torch.from_numpy(stored["images"]).float()
    torch.testing.assert_close(images, before, atol=2e-3, rtol=0)


def test_an_old_recipe_is_read_whole():
    spec = LatentDiffusion.load(OLD / "model-features").spec
    assert (spec.features.channels, spec.features.shift) == (4, 2.0)
    assert [value["kind"] for value in spec.guidance] == ["Cfg", "Autoguidance"]
    assert (spec.guidance[1]["scale"], spec.guidance[1]["phi"]) == (2.0, 0.5)
    labels = LatentDiffusion.load(OLD / "model-labels")
    assert labels.spec.sampling == Sampling(5, time_shift=2.0) and labels.facts["vae_steps"] == 4
    assert LatentDiffusion.load("mnist").facts["scores"]["n"] == 1000


WRONG = [3.0, [3.0], torch.eye(3).long(), [True], torch.tensor([True, False]), "a red three", [], [3], [-1],
         ["three"], torch.zeros(0).long(), None, [[0, 1]], np.array([0.5]), [1 + 2j], [2**70]]


@pytest.mark.parametrize("labels", WRONG, ids=repr)
def test_labels_of_the_wrong_kind_get_a_sentence(pipe, labels):
    with pytest.raises(MinildmError) as caught:
        pipe.generate(labels, 2)
    assert "use 0..2: a, b, c" in str(caught.value)


@pytest.mark.parametrize("labels", [1, [1], range(1, 2), np.array([1]), np.int64(1), np.array([1], np.uint8),
                                    torch.tensor([1], dtype=torch.uint8), torch.tensor(1), (1,)], ids=repr)
def test_whole_numbers_of_every_kind_are_labels(labels):
    assert torch.equal(Labels("abc").read(labels), torch.tensor([1]))


def test_guidance_inside_an_interval_comes_back(tmp_path):
    model = small_model(guidance=(Interval((Cfg(4.0), Cfg(2.0, phi=0.5)), 0.1, 0.8),))
    model.save(tmp_path / "model")
    assert LatentDiffusion.load(tmp_path / "model").guidance == model.guidance


def test_guides_that_the_folder_has_no_place_for_are_refused_before_anything_is_written(tmp_path):
    model = small_model()
    one, two = guide_of(model), guide_of(model)
    other = guide_of(small_model(features=2))               # another configuration
    for guidance in ((Autoguidance(one, 2.0), Autoguidance(two, 3.0)), Autoguidance(other, 2.0)):
        model.guidance = guidance
        with pytest.raises(MinildmError, match="more than one network"):
            model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    model.guidance = Autoguidance(one, 2.0), Interval(Autoguidance(one, 3.0), 0.1, 0.8)
    model.save(tmp_path / "model")


@pytest.mark.parametrize("change", [
    {"schedule": "karras"}, {"sampling": "all"}, {"text": {"dim": 32}}, {"guidance": ["a"]},
    {"guidance": [{"kind": "Condition"}]}, {"guidance": [{"kind": "Cfg", "volume": 1}]},
    {"guidance": [{"kind": "Autoguidance", "guide": True, "scale": 2.0}]}, {"vae": {}}])
def test_a_whole_folder_that_describes_no_model_is_said_to(pipe, tmp_path, change):
    pipe.save(tmp_path / "model")
    tensors, meta = checkpoint.load(tmp_path / "model")
    checkpoint.save(tmp_path / "odd", tensors, {**meta, "model": {**meta["model"], **change}})
    with pytest.raises(MinildmError):
        LatentDiffusion.load(tmp_path / "odd")


@pytest.mark.parametrize("lost", ["image_size", "class_names"])
def test_a_folder_that_lacks_a_part_is_said_to(pipe, tmp_path, lost):
    pipe.save(tmp_path / "model")
    tensors, meta = checkpoint.load(tmp_path / "model")
    checkpoint.save(tmp_path / "odd", tensors, {k: v for k, v in meta.items() if k != lost})
    with pytest.raises(MinildmError, match="make no model"):
        LatentDiffusion.load(tmp_path / "odd")


def test_what_is_no_model_is_named(pipe, tmp_path):
    pipe.save(tmp_path / "run" / "model")
    with pytest.raises(MinildmError, match="no checkpoint here") as caught:
        LatentDiffusion.load(tmp_path / "run")
    assert str(tmp_path / "run" / "model") in str(caught.value)
    with pytest.raises(MinildmError, match="there is no model"):
        LatentDiffusion.load(tmp_path / "nothing")
    with pytest.raises(MinildmError, match="no model is named"):
        LatentDiffusion.load("")
    checkpoint.save(tmp_path / "other", {"x": torch.zeros(1)}, {"key": "a cached set"})
    with pytest.raises(MinildmError, match="no model"):
        LatentDiffusion.load(tmp_path / "other")


def test_a_folder_that_is_no_model_hides_none_of_the_zoo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist" / "raw").mkdir(parents=True)
    assert LatentDiffusion.load("mnist").class_names[3] == "three"


def test_a_spec_of_another_version_or_of_no_end_is_refused(pipe):
    good = pipe.spec.to_json()
    assert ModelSpec.from_json(good) == pipe.spec
    network = good["network"]
    for change in ({"wings": 2}, {"depth": 10**7}, {"class": "Module", "module": "layers"},
                   {"module": "os.path"}, {"class": "system"}, {"dim": None, "wings": 0}):
        with pytest.raises(MinildmError):
            ModelSpec.from_json({**good, "network": {**network, **change}})
    with pytest.raises(MinildmError):
        ModelSpec.from_json({"network": network})


def test_a_spec_from_disk_builds_the_schedule_it_names(tmp_path):
    small_model(schedule="cosine", prediction_type="v").save(tmp_path / "model")
    again = LatentDiffusion.load(tmp_path / "model").denoiser
    assert again.prediction_type == "v"
    assert again.schedule.alpha(torch.tensor(0.5)).item() == pytest.approx(0.5**0.5)


def test_weights_that_16_bits_cannot_hold_are_named_and_nothing_is_written(tmp_path):
    for value in (1e5, float("nan")):
        model = small_model()
        model.vae.decoder.conv_in.bias.data[0] = value
        with pytest.raises(MinildmError, match="vae.decoder.conv_in.bias"):
            model.save(tmp_path / "model")
        assert not (tmp_path / "model").exists()


def test_networks_that_answer_with_nan_draw_nothing():
    for part in "denoiser", "vae":
        model = small_model()
        weights = dict(getattr(model, part).named_parameters())
        name = next(reversed(weights))
        weights[name].data[0] = float("nan")
        with pytest.raises(MinildmError, match=name):
            model.generate([0], 1)


def test_model_and_denoiser_can_be_pickled(pipe):
    again = pickle.loads(pickle.dumps(pipe))
    assert torch.equal(again.generate([0, 1], 2), pipe.generate([0, 1], 2))
    featured = pickle.loads(pickle.dumps(small_model(features=2)))
    assert featured.denoiser.schedule.alpha(torch.tensor(0.5)).shape == (6, 1, 1)


def test_published_times_follow_the_sampler_its_options_or_its_attribute():
    model = small_model(sampling=Sampling(20, steps_offset=1, set_alpha_to_one=False))
    leading, linspace = leading_grid(20, 1, 1 / 1000), rounded_grid(20)

    def own(denoise, schedule, noise, ts):
        return ddim(denoise, schedule, noise, ts)

    for sampler in (ddim, ddpm, partial(ddim, eta=1.0), partial(partial(ddim), eta=0.5), own):
        assert torch.equal(model.times(20, sampler), leading)
    for sampler in (dpmpp_2m, samplers.dpmpp_2m_sde, partial(dpmpp_2m, eta=1.0), samplers.euler):
        assert torch.equal(model.times(20, sampler), linspace)
    own.grid = "linspace"
    assert torch.equal(model.times(20, own), linspace)


def test_a_shift_moves_training_times_and_sampling_steps_towards_the_noise():
    plain, shifted = small_model(), small_model(sampling=Sampling(4, time_shift=3.0))
    times = shifted.denoiser.times(1001, torch.Generator().manual_seed(0))
    assert abs(times.median() - 0.75) < 0.01                          # 3 * 0.5 / (1 + 2 * 0.5)
    unmoved = plain.denoiser.times(1001, torch.Generator().manual_seed(0))
    torch.testing.assert_close(3 * unmoved / (1 + 2 * unmoved), times)
    torch.testing.assert_close(shifted.times(), torch.tensor([1, 0.9, 0.75, 0.5, 0]), check_dtype=False)


def pictures(n, side):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 1, side, side), generator=generator, dtype=torch.uint8)


def test_latents_are_kept_in_16_bits_and_mirror_images_follow(pipe, monkeypatch):
    images = pictures(7, 14)
    space = VAELatents(pipe.vae, 14, multiple=2)
    seen, encode = [], pipe.vae.encode
    monkeypatch.setattr("minildm.latents.PIXELS", 3 * 16**2)
    monkeypatch.setattr(pipe.vae, "encode", lambda batch: seen.append(len(batch)) or encode(batch))
    mean, std = space.encode(images, mirror=True)
    assert seen == [3, 3, 1] * 2                                        # bounded by pixels
    assert mean.dtype == std.dtype == torch.float16 and mean.shape == std.shape == (14, 4, 4, 4)
    whole = encode_all(pipe.vae, images, side=16)
    flipped = encode_all(pipe.vae, images.flip(-1), side=16)
    torch.testing.assert_close(mean[:7].float(), whole.mean, atol=4e-3, rtol=1e-3)
    torch.testing.assert_close(mean[7:].float(), flipped.mean, atol=4e-3, rtol=1e-3)
    torch.testing.assert_close(std[7:].float(), flipped.std, atol=4e-3, rtol=1e-3)
    with torch.no_grad():
        pixels = torch.nn.functional.pad(to_float(images), (1, 1, 1, 1), value=-1)
        torch.testing.assert_close(whole.mean, pipe.vae.normalise(pipe.vae.encode(pixels).mean), atol=1e-5,
                                   rtol=0)


def test_features_stand_beside_latents_have_no_spread_and_are_left_aside(pipe):
    marks = torch.arange(2.0)[:, None, None].expand(2, 4, 4)

    def features(images, channels, side, mirror):
        assert images.shape[-1] == 16 and (channels, side) == (2, 4)
        return marks.expand(len(images) * (2 if mirror else 1), -1, -1, -1)

    space = FeatureLatents(VAELatents(pipe.vae, 14, 2), 2, 3.0, features)
    mean, std = space.encode(pictures(3, 14), mirror=True)
    assert mean.shape == (6, 6, 4, 4) and std.shape == (6, 4, 4, 4)
    z = sample_latents(mean, std, torch.Generator().manual_seed(0))
    assert torch.equal(z[:, 4:], marks.expand(6, -1, -1, -1))
    assert not torch.equal(z[:, :4], mean[:, :4].float())
    with torch.no_grad():
        assert torch.equal(space.decode(z), pipe.decode(z[:, :4]))
    alpha, sigma = space.shift_schedule(flow)
    ratio = (sigma(torch.tensor(0.5)) / alpha(torch.tensor(0.5))).flatten()
    torch.testing.assert_close(ratio, torch.tensor([1.0] * 4 + [1 / 3] * 2))
    assert space.stride == 4 and space.shape == (6, 4, 4)


def test_the_posterior_is_sampled_with_its_own_spread():
    mean, std = torch.full((1, 1, 64, 64), 2.0), torch.full((1, 1, 64, 64), 0.5)
    z = sample_latents(mean, std, torch.Generator().manual_seed(0))
    assert z.mean().item() == pytest.approx(2, abs=0.05) and z.std().item() == pytest.approx(0.5, abs=0.02)
    assert mean.unique().tolist() == [2.0]                              # the data stay as they were
