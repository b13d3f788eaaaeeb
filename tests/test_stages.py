"""Experiments and the steps they share: rows that fit together, runs that know what they stand on."""

import shutil
from dataclasses import replace

import pytest
import torch
from support.models import louder
from support.pictures import pictures
from torch.utils.flop_counter import FlopCounterMode

from minildm import MinildmError, data
from minildm.conditioners import Labels, Prompts
from minildm.data.sets import ImageSet
from minildm.data.tokenizer import Tokenizer
from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.guidance import Autoguidance, Cfg
from minildm.diffusion.schedules import cosine, flow, linear
from minildm.evaluation import classifier as classifiers
from minildm.evaluation.classifier import Classifier, ClassifierConfig, pca_features
from minildm.images import to_float
from minildm.latents import Latents, VAELatents, encode_all
from minildm.model import LatentDiffusion
from minildm.nn.clip import TextConfig, TextTransformer
from minildm.nn.dit import DiTConfig
from minildm.nn.unet import UNetConfig
from minildm.recipes import cifar10, conditions, mnist, scenes, stages
from minildm.recipes import classifier as classifier_recipes
from minildm.recipes.cifar10 import Guide
from minildm.recipes.classifier import classification_accuracy
from minildm.recipes.fitting import fit_sizes, latent_channels, swap_backbone
from minildm.recipes.preflight import check_before_training
from minildm.recipes.stages import Options, VAELoss, build, draw_wording, train_denoiser, train_vae
from minildm.spec import Sampling, make_denoiser, network_class
from minildm.training.loop import TrainConfig
from minildm.training.monitor import check_spread

QUIET = Options("smoke", bar=False)
SMOKE = mnist.SIZES["smoke"]


def short(sizes, steps=2, **training):
    return replace(sizes, vae_training=replace(sizes.vae_training, steps=steps),
                   training=replace(sizes.training, steps=steps, **training))


def small_setup(images=None, sizes=SMOKE, **options):
    """What an experiment has before its first step: sizes, VAE, denoiser."""
    images = images or pictures()
    sizes = fit_sizes(short(sizes), images, replace(QUIET, **options))
    vae, network = build(sizes, "cpu")
    space = VAELatents(vae, 16, network.multiple)
    return sizes, vae, make_denoiser(network, space, "flow", "flow", Sampling())


def smooth(n=300, channels=1, side=32):
    """Pictures of soft shades, as photographs are: sums of a few waves."""
    generator = torch.Generator().manual_seed(0)
    x = torch.linspace(0, 3.14, side)
    waves = torch.stack([torch.cos(a * x)[:, None] * torch.cos(b * x) for a in range(14) for b in range(14)])
    weights = torch.randn(n, channels, len(waves), generator=generator)
    weights = weights / (1 + torch.arange(len(waves)) % 14 + torch.arange(len(waves)) // 14)
    drawn = (weights @ waves.flatten(1)).unflatten(-1, (side, side))
    return (drawn / drawn.std() * 50 + 128).clamp(0, 255).byte()


def test_latent_channels_follow_the_texture_of_a_set():
    glyphs = data.load("glyphs").subset(300).images
    assert latent_channels(glyphs, 3) == 3                               # drawings keep the row's
    grey, colour = smooth(), smooth(channels=3)
    assert 4 <= latent_channels(grey, 3) <= 8
    assert latent_channels(grey, 3) < latent_channels(colour, 3) <= 24
    assert latent_channels(colour, 16) >= 16                             # never fewer than the row's
    flat = torch.full((10, 1, 28, 28), 128).byte()
    assert latent_channels(flat, 3) == 3
    noise = pictures(200).images
    assert latent_channels(noise, 3) == 8                                # half of a patch's numbers at most


@pytest.mark.skipif(not (data.available("mnist") and data.available("cifar10")), reason="needs the real sets")
def test_mnist_stays_at_3_channels_and_cifar10_at_16():
    for name, least in (("mnist", 3), ("cifar10", 16)):
        assert latent_channels(data.load(name).subset(2000).images, least) == least


@pytest.mark.parametrize("experiment, channels", [(mnist, 1), (cifar10, 3), (scenes, 3)])
def test_every_row_fits_together(experiment, channels):
    assert set(experiment.SIZES) == {"smoke", "cpu", "gpu", "gpu-short"}
    for sizes in experiment.SIZES.values():
        assert sizes.network.in_channels == sizes.network.out_channels == sizes.vae.latent_channels
        assert sizes.vae.in_channels == channels
        fitted = fit_sizes(sizes, pictures(20, channels), Options(seed=5), features=4)
        assert fitted.network.in_channels == fitted.vae.latent_channels + 4
        assert fitted.network.num_classes == 3
        assert {(t.seed, t.batch_size) for t in (fitted.vae_training, fitted.training)} == {(5, 20)}
        with torch.device("meta"):
            network_class(fitted.network)(fitted.network)
    with pytest.raises(MinildmError, match="no size 'huge'"):
        experiment.train(pictures(channels=channels), Options("huge"))


@pytest.mark.parametrize("backbone", ["dit", "unet"])
@pytest.mark.parametrize("objective", ["eps", "x0", "v", "flow"])
def test_one_word_changes_backbone_or_objective(backbone, objective):
    options = replace(QUIET, backbone=backbone, objective=objective)
    model, _, history = mnist.train(pictures(), options, sizes=short(SMOKE))
    assert type(model.denoiser.network).__name__.lower() == backbone and len(history["loss"]) == 2
    assert model.denoiser.prediction_type == objective
    assert model.denoiser.schedule == {"flow": flow, "eps": linear}.get(objective, cosine)
    assert model.spec.schedule == {"flow": "flow", "eps": "linear"}.get(objective, "cosine")
    assert model.generate([0, 1], 1).shape == (2, 1, 16, 16)


def test_the_other_backbone_costs_about_as_much():
    """Multiply-adds of one latent, counted by torch."""
    for sizes, channels in ((mnist.SIZES["cpu"], 1), (cifar10.SIZES["cpu"], 3), (mnist.SIZES["gpu"], 1)):
        costs = []
        for backbone in "dit", "unet":
            fitted = fit_sizes(sizes, pictures(channels=channels), Options(backbone=backbone))
            network = network_class(fitted.network)(fitted.network)
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                network(torch.zeros(1, network.config.in_channels, 8, 8), 0.5, torch.tensor([1]))
            costs.append(counter.get_total_flops())
        assert 0.7 < costs[1] / costs[0] < 1.3


def test_a_backbone_stays_what_it_is_unless_the_other_is_asked_for():
    dit, unet = DiTConfig(4, 4, 32, 2, 2), UNetConfig(4, 4, (16, 32), (False, True), context_dim=32, heads=2,
                                                         groups=8)
    assert swap_backbone(dit, "auto") is swap_backbone(dit, "dit") is dit
    assert swap_backbone(unet, "auto") is swap_backbone(unet, "unet") is unet
    with pytest.raises(MinildmError, match="no backbone"):
        swap_backbone(dit, "vit")


def test_scenes_take_the_scenes_row_at_every_budget(monkeypatch):
    """gpu-short, too: a short run is the same networks in fewer steps."""
    from minildm.demo import experiment_for

    monkeypatch.setattr(data.sets, "SCENES", {"train": 40, "test": 20})
    assert experiment_for(data.load("scenes-glyphs")) is scenes
    assert experiment_for(pictures()) is mnist and experiment_for(pictures(channels=3)) is cifar10
    for experiment in (scenes, cifar10):
        whole, less = experiment.SIZES["gpu"], experiment.SIZES["gpu-short"]
        assert (less.vae, less.network) == (whole.vae, whole.network)
        assert less.training.steps < whole.training.steps


def test_colour_alone_is_no_photograph():
    """Mirror images, features and a guide are CIFAR-10's; a set of letters or signs gets none of them."""
    signs = pictures(channels=3)
    photographs = replace(signs, name="cifar10")
    assert not stages.mirrors(signs, Options()) and stages.mirrors(photographs, Options())
    assert stages.mirrors(signs, Options(mirror=True))
    assert not stages.mirrors(photographs, Options(mirror=False))
    sizes = short(cifar10.SIZES["smoke"])
    plain = cifar10.train(signs, QUIET, sizes=sizes).model
    assert plain.guidance == (Cfg(2.0),) and plain.spec.features is None
    tuned = cifar10.train(photographs, QUIET, sizes=sizes, guide=Guide(1, 1.4, 2.4, 0.3)).model
    assert [type(value) for value in tuned.guidance] == [Cfg, Autoguidance]
    assert tuned.spec.features.channels == cifar10.FEATURES
    assert tuned.guidance[1].channels == tuned.vae.config.latent_channels
    for asked, mirrored in ((None, False), (True, True)):
        assert classifier_recipes.classifier_for(signs, asked)[0].mirror is mirrored
    assert classifier_recipes.classifier_for(photographs)[0].mirror


def test_mirror_images_are_learned_as_well_with_their_labels(monkeypatch):
    seen = []
    monkeypatch.setattr(cifar10, "train_denoiser", lambda *given: seen.append(given) or {})
    images = pictures(channels=3)
    for mirror in (False, True):
        cifar10.train(images, replace(QUIET, mirror=mirror), sizes=short(cifar10.SIZES["smoke"], 1))
    (_, _, plain, labels, *_), (_, _, both, twice, *_) = seen
    assert torch.equal(both.mean[:64], plain.mean) and len(both.mean) == 128
    assert torch.equal(twice, labels.repeat(2))


def test_features_are_the_extractors_of_pictures_and_their_mirror_images():
    images = pictures(40, channels=3).images
    extractor = stages.feature_extractor(images)
    features = stages.features_of(extractor)
    both = torch.cat([images, images.flip(-1)])
    torch.testing.assert_close(features(images, 4, 4, True), pca_features(extractor, both, 4, 4))
    assert features(images, 4, 4, False).shape == (40, 4, 4, 4)


def test_a_missing_zoo_is_said_in_words(monkeypatch):
    monkeypatch.setattr(stages, "load_classifier", lambda name: None)
    with pytest.raises(MinildmError, match="cifar10-small-classifier"):
        stages.feature_extractor(pictures(channels=3).images)


@pytest.mark.parametrize("side", [1, 3, 8, 12, 20, 28, 33])
def test_pictures_of_every_side_can_be_trained_on(side):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 3, side, side), generator=generator, dtype=torch.uint8)
    some = ImageSet("cifar10", "train", images, torch.arange(8) % 3, ("a", "b", "c"))
    model = cifar10.train(some, QUIET, sizes=short(cifar10.SIZES["smoke"], 1), guide=Guide(1, 1.4, 2.4)).model
    assert model.generate([0], 1).shape == (1, 3, side, side)


def test_the_latents_scale_is_that_of_all_classes(monkeypatch):
    """A set sorted by class, of more pictures than the scale is measured on."""
    images = torch.zeros(30_000, 1, 16, 16, dtype=torch.uint8)
    images[10_000:] = 255
    sizes, vae, _ = small_setup()
    measured = []
    monkeypatch.setattr(vae, "fit_latent_stats", measured.append)
    train_vae(vae, images, TrainConfig(1, 4, 1e-3), bar=False)
    assert len(measured[0]) == 10_000 and measured[0].mean() == pytest.approx(1 / 3, abs=1e-3)


def test_building_leaves_the_global_generator_and_other_devices_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *a: pytest.fail("a GPU was touched"))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, two = small_setup()[1:], small_setup()[1:]
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(one, two, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_latents_have_unit_variance_and_an_unscaled_set_is_refused():
    images = pictures()
    sizes, vae, denoiser = small_setup(images)
    train_vae(vae, images.images, sizes.vae_training, bar=False)
    mean, std = encode_all(vae, images.images)
    assert abs((mean.var() + std.square().mean()).sqrt() - 1) < 0.1
    labels = Labels(images.class_names)
    history = train_denoiser(denoiser, labels, Latents(mean, std), images.labels, sizes.training, bar=False)
    assert len(history["loss"]) == 2
    with pytest.raises(MinildmError, match="standard deviation is .*, not about 1"):
        train_denoiser(denoiser, labels, (mean * 5, std * 5), images.labels, sizes.training, bar=False)


def test_latent_channels_that_hold_noise_are_named(capsys):
    latents = torch.randn(4, 8, 4, 4, generator=torch.Generator().manual_seed(0)).repeat(16, 1, 1, 1)
    mean, std = latents.clone(), torch.full_like(latents, 0.1)
    check_spread(mean, std)
    assert capsys.readouterr().out == ""
    mean[:, 5], std[:, 5] = 0, 1
    check_spread(mean, std, bar=False)
    assert capsys.readouterr().out == ""
    check_spread(mean, std)
    assert "[5] of 8 are more noise than picture" in capsys.readouterr().out


def test_a_tenth_of_the_labels_is_none():
    labels = torch.zeros(10_000).long()
    dropped = Labels("abc").drop(labels, torch.Generator().manual_seed(0))
    assert dropped.unique().tolist() == [0, 3] and 0.08 < (dropped == 3).float().mean() < 0.12


def test_a_denoiser_does_not_go_on_on_another_vaes_latents(tmp_path):
    images = pictures()
    sizes = short(SMOKE, 3)
    mnist.train(images, QUIET, tmp_path, sizes)
    mnist.train(images, QUIET, tmp_path, sizes)                          # the same: nothing is refused
    shutil.rmtree(tmp_path / "vae")
    other = replace(sizes, vae_loss=VAELoss(kl_weight=1.0))
    with pytest.raises(MinildmError, match="stands on"):
        mnist.train(images, QUIET, tmp_path, other)


def test_a_denoisers_schedule_times_and_target_are_part_of_its_identity():
    def identity(objective="flow", shift=1.0):
        sizes, vae, denoiser = small_setup()
        schedule = "flow" if objective == "flow" else "cosine"
        space = VAELatents(vae, 16, 2)
        return stages.identity_of(make_denoiser(denoiser.network, space, schedule, objective,
                                                Sampling(time_shift=shift)))

    base = identity()
    assert identity() == base and base["network"]["class"] == "DiT"
    assert identity(shift=2.0) != base and identity("v") != identity("x0") != base


def test_a_sharp_vae_trains_a_critic_beside_it_and_resumes(tmp_path):
    images = pictures(channels=3)
    sizes = fit_sizes(cifar10.SIZES["smoke"], images, QUIET)
    few = replace(sizes.vae_training, steps=3, save_every=2)
    weights = VAELoss(perceptual_weight=0.5, adversarial_weight=0.3, adversarial_start=1)
    feature_maps = Classifier(ClassifierConfig(3, width=8)).requires_grad_(False).feature_maps
    ends = []
    for folder in "ab":
        vae, _ = build(sizes, "cpu")
        history = train_vae(vae, images.images, few, weights, tmp_path / folder, False, feature_maps)
        if folder == "a":                                       # goes on from step 2
            shutil.rmtree(tmp_path / "a" / "step-000003")
            vae, _ = build(sizes, "cpu")
            history = train_vae(vae, images.images, few, weights, tmp_path / "a", False, feature_maps)
        ends.append(vae.state_dict())
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    assert history["critic"][0] == 0 < history["critic"][1] and history["grad_norm_critic"][2] > 0
    assert history["perceptual"][0] > 0
    with pytest.raises(MinildmError, match="adversarial_weight: 0.3 != 0.1"):
        train_vae(build(sizes, "cpu")[0], images.images, few, replace(weights, adversarial_weight=0.1),
                  tmp_path / "a", False, feature_maps)


def test_the_guide_is_the_denoisers_average_after_so_many_steps():
    images = replace(pictures(channels=3), name="cifar10")
    sizes = short(cifar10.SIZES["smoke"], 6, warmup=1, decay="none")
    model = cifar10.train(images, QUIET, sizes=sizes, guide=Guide(3, 1.4, 2.4)).model
    stopped = replace(sizes, training=replace(sizes.training, steps=3))
    early = cifar10.train(images, QUIET, sizes=stopped, guide=Guide(3, 1.4, 2.4)).model
    for a, b in zip(model.guidance[1].guide.parameters(), early.denoiser.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(AssertionError):
        for a, b in zip(model.denoiser.parameters(), early.denoiser.parameters(), strict=True):
            torch.testing.assert_close(a, b)


# ---- sentences in the place of labels

@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    """A model of scenes that has seen two steps, with weights large enough for words to matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data.sets, "SCENES", {"train": 80, "test": 20})
        train = data.load("scenes-glyphs", root=tmp_path_factory.mktemp("data"))
    model, _, history = scenes.train(train, QUIET, sizes=short(scenes.SIZES["smoke"]))
    louder(model.denoiser, 0.1)
    louder(model.text_encoder, 0.1)
    return model, history


PROMPTS = ["a red three left of a blue eight", "a green one in the middle"]


def test_prompts_become_pictures(talking):
    model, history = talking
    assert len(history["loss"]) == 2 and model.spec.text.vocab_size == len(model.tokenizer)
    images = model.generate(PROMPTS, 2)
    assert images.shape == (2, 3, 32, 32)
    assert torch.allclose(model.generate(PROMPTS, 2, batch_size=1), images, atol=1e-4)
    assert torch.equal(model.generate(PROMPTS, 2, negative=""), images)
    changed = model.generate([PROMPTS[0], "a green one"], 2)
    assert torch.allclose(changed[0], images[0], atol=1e-4) and not torch.allclose(changed[1], images[1])
    assert not torch.allclose(model.generate(PROMPTS, 2, negative="green"), images)


def test_without_guidance_a_negative_prompt_is_not_asked(talking):
    model, _ = talking
    plain, negative = (model.generate(PROMPTS, 2, guidance=None, negative=word) for word in ("", "green"))
    assert torch.equal(plain, negative)
    context, null = model.conditions(PROMPTS, "green")
    assert context.shape == null.shape == (2, 24, 32)
    assert torch.equal(null[:1], model.encode_prompts(["green"]))


def test_a_model_of_prompts_saved_and_loaded_is_the_same(talking, tmp_path):
    model, _ = talking
    model.save(tmp_path / "model")
    again = LatentDiffusion.load(tmp_path / "model")
    assert again.spec == model.spec and again.tokenizer.merges == model.tokenizer.merges
    assert torch.equal(again.tokenizer(PROMPTS, 24), model.tokenizer(PROMPTS, 24))
    assert (again.generate(PROMPTS, 2) - model.generate(PROMPTS, 2)).abs().max() < 0.05


def test_labels_for_a_model_of_prompts_are_refused(talking):
    for wanted in ([3], 3, torch.tensor([1]), "a red three", []):
        with pytest.raises(MinildmError, match="draws prompts"):
            talking[0].generate(wanted, 2)
    with pytest.raises(MinildmError, match="knows no words"):
        LatentDiffusion.load("mnist").generate([0], 2, negative="green")


def test_a_set_of_classes_learns_to_draw_prompts(tmp_path):
    images = replace(pictures(channels=3), class_names=("cat", "dog", "owl"))
    options = replace(QUIET, captions=True, mirror=True, seed=5)
    model = cifar10.train(images, options, tmp_path / "run", short(cifar10.SIZES["smoke"])).model
    assert model.tokenizer.decode(model.tokenizer.encode("a dog")) == "a dog"
    model.save(tmp_path / "model")
    drawn = LatentDiffusion.load(tmp_path / "model").generate(["a photo of a dog", "an owl"], 2)
    assert drawn.shape == (2, 3, 16, 16)


def test_scenes_are_never_mirrored():
    with pytest.raises(MinildmError, match="left would be called right"):
        scenes.train(pictures(channels=3), replace(QUIET, mirror=True))


def test_the_clip_of_a_set_fits_its_channels_sides_and_seed():
    big = replace(pictures(), images=torch.zeros(30, 1, 60, 60).byte())
    recipe = conditions.fitted(big, Options(seed=7))
    assert (recipe.clip.vision.image_size, recipe.clip.vision.in_channels) == (64, 1)
    assert (recipe.training.seed, recipe.training.batch_size) == (7, 30)


class Named(TextTransformer):
    """Its states are which class a sentence names, -1 for none."""

    def __init__(self, names):
        super().__init__(TextConfig(600, 24, 16, 1, 2))
        self.names = torch.tensor(names)

    def forward(self, ids):
        named = (ids[:, None] == self.names[:, None]).any(2).float()                       # (B, 3)
        which = torch.where(named.any(1), named.argmax(1), -1)
        return which[:, None, None].expand(-1, 24, 16).float(), None


def test_latents_meet_sentences_that_name_them_and_a_tenth_of_those_is_empty(monkeypatch):
    """Of mirrored pictures, too, whose latents come after the others'."""
    seen, loss = [], Denoiser.loss

    def watch(denoiser, z, states, *rest, **named):
        seen.append((z.mean((1, 2, 3)).round().long(), states[:, 0, 0].long()))
        return loss(denoiser, z, states, *rest, **named)

    monkeypatch.setattr(Denoiser, "loss", watch)
    names, labels = ["cat", "dog", "owl"], torch.arange(30) % 3
    sentences = [[f"a {name}", f"the {name} there"] for name in names]
    tokenizer = Tokenizer.train(text for row in sentences for text in row)
    tower = Named([tokenizer.encode(name)[0] for name in names])
    told = conditions.told(tower, tokenizer, sentences, labels.repeat(2))
    images = replace(pictures(60), class_names=tuple(names))
    sizes = fit_sizes(SMOKE, images, QUIET, context_dim=told.dim)
    _, network = build(sizes, "cpu")
    width = network.config.in_channels
    latents = labels.repeat(2)[:, None, None, None].expand(-1, width, 8, 8).float()
    denoiser = Denoiser(network, flow, "flow")
    before = [p.clone() for p in tower.parameters()]
    config = TrainConfig(steps=20, batch_size=30, lr=1e-3)
    train_denoiser(denoiser, told.conditioner, (latents, 0 * latents), told.asked, config, bar=False,
                   wordings=told.wordings, frozen=told.frozen)
    assert all(map(torch.equal, before, tower.parameters()))             # it stays as it was
    shown, heard = (torch.cat(column) for column in zip(*seen, strict=True))
    assert 0.05 < (heard == -1).float().mean() < 0.15 and torch.equal(shown[heard >= 0], heard[heard >= 0])


def test_wordings_vary_and_empty_ones_are_of_the_right_length():
    tokens = torch.arange(2 * 3 * 4).view(2, 3, 4)
    meaning = torch.tensor([0, 1] * 50)
    drawn = draw_wording(tokens, meaning, torch.Generator().manual_seed(0))
    assert drawn.shape == (100, 4) and len(drawn.unique(dim=0)) == 6
    assert ((drawn[:, 0] >= 12).long() == meaning).all()
    tokenizer = Tokenizer.train(["a"], 514)
    prompts = Prompts(TextTransformer(TextConfig(514, 8, 16, 1, 2)), tokenizer)
    ids = tokenizer(["a"] * 1000, 8)
    empty = (prompts.drop(ids, torch.Generator().manual_seed(0)) == tokenizer([""], 8)).all(1)
    assert 0.07 < empty.float().mean() < 0.13


# ---- before a training

def test_what_cannot_be_trained_or_written_is_said_before_it(tmp_path):
    images = pictures()
    assert check_before_training(images, tmp_path / "a") is None
    with pytest.raises(MinildmError, match="nothing can be learned"):
        check_before_training(images.subset(1), tmp_path, num=10)
    wide = replace(images, images=images.images[..., :8])
    with pytest.raises(MinildmError, match="square"):
        check_before_training(wide, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(MinildmError, match="nothing can be written here"):
        check_before_training(images, tmp_path / "file" / "x")
    assert [p.name for p in (tmp_path / "a").iterdir()] == []             # no litter


def test_the_trial_measures_as_the_command_will(tmp_path, monkeypatch):
    from minildm.recipes import preflight

    monkeypatch.setattr(preflight, "test_images", lambda images, size: images)
    images = pictures(10)
    assert check_before_training(images, tmp_path, num=10) is images
    monkeypatch.setattr(preflight, "score", lambda *given: (_ for _ in ()).throw(MinildmError("too small")))
    with pytest.raises(MinildmError, match="too small"):
        check_before_training(images, tmp_path, num=10)


# ---- classifiers

def test_a_classifier_comes_back_from_the_zoo_format(tmp_path, monkeypatch):
    images = pictures()
    config = replace(classifier_recipes.CLASSIFIER, steps=2, batch_size=8)
    classifier = classifier_recipes.train_classifier(images, config, bar=False)
    monkeypatch.setattr(classifiers, "ZOO", tmp_path)
    assert classifiers.load_classifier("toy") is None
    classifiers.save_classifier(tmp_path / "toy-classifier", classifier, {"accuracy": 0.5})
    again = classifiers.load_classifier("toy")
    x = to_float(images.images)
    with torch.no_grad():
        assert torch.allclose(classifier(x), again(x), atol=1e-2)


def test_classification_accuracy_is_that_of_what_was_taught():
    labels = torch.arange(48) % 3
    images = torch.zeros(48, 1, 16, 16).byte()
    images[labels == 1, :, 6:9], images[labels == 2, :, :, 6:9] = 255, 255
    real = ImageSet("bars", "train", images, labels, ("none", "lying", "standing"))
    config = TrainConfig(steps=25, batch_size=16, lr=5e-3, warmup=2, ema=0.8)
    assert classification_accuracy(real, real, config) == 1
    assert classification_accuracy(replace(real, labels=(labels + 1) % 3), real, config) == 0


def test_colour_images_get_a_classifier_of_their_own(monkeypatch):
    grey, colour = pictures(), pictures(channels=3)
    config, _ = classifier_recipes.classifier_for(grey)
    assert (config.channels_in, config.classes, config.mirror, config.pool) == (1, 3, False, False)
    config, brief = classifier_recipes.classifier_for(colour)
    assert (config.channels_in, config.classes, config.pool) == (3, 3, True)
    monkeypatch.setenv("MINILDM_BUDGET", "gpu")
    large, long = classifier_recipes.classifier_for(colour)
    assert large.width > config.width and large.shift > config.shift and long.steps > brief.steps
