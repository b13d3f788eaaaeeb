"""Sharp losses: the formulas by other forms, who gets which gradient, when the adversary starts."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from minildm import MinildmError
from minildm.evaluation.classifier import Classifier, ClassifierConfig
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.training.loop import TrainConfig, train
from minildm.training.losses import (
    FinePatchDiscriminator,
    PatchDiscriminator,
    adaptive_weight,
    hinge_critic,
    hinge_generator,
    perceptual,
    sharp_losses,
    vgg_feature_maps,
)

WEIGHTS = SimpleNamespace(kl_weight=1e-3, perceptual_weight=0.5, adversarial_weight=0.3, adversarial_start=0)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(n=4, channels=3, size=16, seed=0):
    return randn(n, channels, size, size, seed=seed).tanh()


def fresh(make, *arguments, **named):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return make(*arguments, **named)


def parts():
    vae = fresh(AutoencoderKL, VAEConfig(3, 2, (8,), blocks=1, attention=False, groups=4, patch=4))
    critic = fresh(PatchDiscriminator, 3, 8, 1, groups=4)
    classifier = fresh(Classifier, ClassifierConfig(3, width=8))
    return vae, critic, classifier.requires_grad_(False).feature_maps


# --- perceptual

def test_perceptual_is_one_minus_the_cosine_twice_over():
    """|a/|a| - b/|b||^2 = 2 - 2 cos(a, b): no normalisation to get wrong."""
    maps = parts()[2]
    a, b = pictures(), pictures(seed=1)
    want = sum((2 - 2 * torch.cosine_similarity(x, y, dim=1)).mean()
               for x, y in zip(maps(a), maps(b), strict=True))
    torch.testing.assert_close(perceptual(maps, a, b), want)
    assert perceptual(maps, a, a).abs() < 1e-6 < want / 100
    torch.testing.assert_close(perceptual(maps, b, a), want)


def test_perceptual_does_not_see_contrast_of_features_and_sums_stages():
    def stage(x):
        return [x]

    a, b = pictures(), pictures(seed=1)
    torch.testing.assert_close(perceptual(stage, a, b), perceptual(lambda x: [3 * x], a, b))
    torch.testing.assert_close(perceptual(lambda x: [x, x], a, b), 2 * perceptual(stage, a, b))
    opposite = perceptual(stage, a, -a)
    torch.testing.assert_close(opposite, torch.tensor(4.0))            # the largest a stage can give
    assert perceptual(stage, torch.zeros(1, 3, 2, 2) - 1, torch.zeros(1, 3, 2, 2)).isfinite()


def test_only_copies_get_a_perceptual_gradient():
    maps = parts()[2]
    images, copies = pictures().requires_grad_(), pictures(seed=1).requires_grad_()
    perceptual(maps, images, copies).backward()
    assert images.grad is None and copies.grad.abs().sum() > 0


@pytest.mark.parametrize("wrong, cure", [(lambda x: (x + 1) / 2, r"images \* 2 - 1"),
                                         (lambda x: ((x + 1) * 127.5).byte(), "to_float"),
                                         (lambda x: (x + 1) * 127.5, "/ 127.5 - 1")])
def test_other_ranges_are_refused_with_their_cure(wrong, cure):
    with pytest.raises(MinildmError, match=cure):
        perceptual(parts()[2], wrong(pictures()), pictures())


def test_vgg16_is_read_at_lpips_layers_after_imagenet_normalisation():
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        vgg = torchvision.models.vgg16(init_weights=False)
    vgg.features.to_empty(device="cpu")
    for i, p in enumerate(vgg.features.parameters()):
        p.data = randn(*p.shape, seed=i) * 0.05
    x = pictures(2, size=32).requires_grad_()
    maps = vgg_feature_maps(vgg)(x)
    shapes = [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)]
    assert [tuple(m.shape[1:]) for m in maps] == shapes
    weights = torchvision.models.VGG16_Weights.IMAGENET1K_V1.transforms()
    seen = torchvision.transforms.functional.normalize((x + 1) / 2, weights.mean, weights.std)
    torch.testing.assert_close(maps[0], vgg.features[:4](seen))
    torch.testing.assert_close(maps[4], vgg.features[:30](seen))
    perceptual(vgg_feature_maps(vgg), pictures(2, size=32, seed=1), x).backward()
    assert x.grad.abs().sum() > 0 and not any(p.requires_grad for p in vgg.parameters())
    grey = vgg_feature_maps(vgg)(pictures(1, 1, 32))
    assert grey[0].shape == (1, 64, 32, 32)
    with pytest.raises(MinildmError, match="not a VGG-16"), torch.device("meta"):
        vgg_feature_maps(torchvision.models.vgg11(init_weights=False))


# --- adversarial

def discriminator(width, layers, fine):
    if fine:
        return fresh(FinePatchDiscriminator, 3, width, layers)
    return fresh(PatchDiscriminator, 3, width, layers, groups=4)


@pytest.mark.parametrize("layers, fine, size, seen",
                         [(1, False, 16, 12), (2, False, 8, 26), (2, True, 16, 14)])
def test_a_score_a_patch_and_each_patch_as_large_as_said(layers, fine, size, seen):
    critic = discriminator(8, layers, fine)
    assert any(isinstance(module, nn.GroupNorm) for module in critic.modules()) != fine
    for module in critic.modules():                     # norms see the whole picture: not counted here
        if isinstance(module, nn.GroupNorm):
            module.forward = lambda x: x
    x = pictures(1, size=32).requires_grad_()
    scores = critic(x)
    assert scores.shape == (1, 1, size, size)
    scores[0, 0, size // 2, size // 2].backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()
    assert rows.max() - rows.min() + 1 == seen


@pytest.mark.parametrize("fine", [False, True])
def test_one_picture_is_judged_without_the_others(fine):
    critic = discriminator(16, 2, fine)
    a, b = pictures(2), pictures(2, seed=1)
    torch.testing.assert_close(critic(torch.cat([a, b]))[:2], critic(a))


def test_hinge_values():
    zero, sure = torch.zeros(2, 1, 4, 4), torch.full((2, 1, 4, 4), 2.0)
    assert hinge_critic(zero, zero) == 1                # can't tell
    assert hinge_critic(sure, -sure) == 0               # sure and right: nothing to learn
    assert hinge_critic(-sure, sure) == 3
    assert hinge_generator(sure) == -2
    real, fake = randn(50, seed=1), randn(50, seed=2)
    by_hand = [max(0, 1 - r) + max(0, 1 + f) for r, f in zip(real.tolist(), fake.tolist(), strict=True)]
    assert hinge_critic(real, fake).item() == pytest.approx(sum(by_hand) / 100, rel=1e-5)


def test_adaptive_weight_makes_both_pull_equally():
    layer = nn.Linear(3, 2)
    out = layer(randn(5, 3))
    rec, adv = out.abs().mean(), 1e-3 * out.square().sum()
    weight = adaptive_weight(rec, adv, layer.weight)
    pulls = [torch.autograd.grad(loss, layer.weight, retain_graph=True)[0].norm()
             for loss in (rec, weight * adv)]
    torch.testing.assert_close(pulls[0], pulls[1], rtol=1e-3, atol=0)
    assert not weight.requires_grad
    torch.testing.assert_close(adaptive_weight(rec, adv / 10, layer.weight), 10 * weight, rtol=1e-2, atol=0)
    assert adaptive_weight(rec, adv, layer.weight, largest=0.5) == 0.5
    assert adaptive_weight(rec, adv * 0, layer.weight) == 1e4           # a critic without a slope: clamped


# --- all together

def test_the_terms_add_up():
    vae, critic, maps = parts()
    images = pictures()
    terms = sharp_losses(vae, critic, maps, WEIGHTS, images, torch.Generator().manual_seed(3))
    posterior = vae.encode(images)
    copies = vae.decode(posterior.sample(torch.Generator().manual_seed(3)))
    torch.testing.assert_close(terms["l1"], (copies - images).abs().mean())
    torch.testing.assert_close(terms["perceptual"], perceptual(maps, images, copies))
    torch.testing.assert_close(terms["adversarial"], hinge_generator(critic(copies)))
    torch.testing.assert_close(terms["critic"], hinge_critic(critic(images), critic(copies)))
    want = (terms["l1"] + 0.5 * terms["perceptual"] + 1e-3 * terms["kl"]
            + 0.3 * terms["lambda"] * terms["adversarial"])
    torch.testing.assert_close(terms["loss"], want)
    assert 0 <= terms["real"] <= 1 and terms["real"] == (critic(images) > 0).float().mean()
    assert terms["fake"] == (critic(copies) < 0).float().mean()


def test_without_weights_there_are_no_terms():
    vae, _, _ = parts()
    none = SimpleNamespace(kl_weight=1e-3, perceptual_weight=0, adversarial_weight=0, adversarial_start=0)
    terms = sharp_losses(vae, None, None, none, pictures(), torch.Generator().manual_seed(3))
    assert list(terms) == ["loss", "l1", "kl"]
    torch.testing.assert_close(terms["loss"], terms["l1"] + 1e-3 * terms["kl"])


def test_the_adversary_starts_after_its_step():
    """Up to the start the critic stands still and the VAE trains as if alone; then both move."""
    runs = {}
    for start in (3, 0, None):                          # None: no critic
        vae, critic, maps = parts()
        model = nn.ModuleDict({"loss": vae, **({"critic": critic} if start is not None else {})})
        weights = SimpleNamespace(**{**vars(WEIGHTS), "adversarial_start": start})

        def loss(x, generator, step, vae=vae, critic=model["critic"] if "critic" in model else None,
                 maps=maps, weights=weights):
            return sharp_losses(vae, critic, maps, weights, x, generator, step)

        config = TrainConfig(steps=4, batch_size=4, lr=1e-3, warmup=0, precision="float32")
        steps = train(model, loss, (pictures(8),), config, bar=False)
        first = critic.blocks[0].weight
        runs[start] = [(s.losses["loss"], s.losses.get("lambda"), first.sum().item())
                       for s in steps]
    late, early, alone = runs[3], runs[0], runs[None]
    assert [a[0] for a in late[:3]] == [a[0] for a in alone[:3]] and late[3][0] != alone[3][0]
    assert [a[1] for a in late[:3]] == [0, 0, 0] and late[3][1] > 0
    assert late[0][2] == late[1][2] == late[2][2] != late[3][2]
    assert len({a[2] for a in early}) == 4 and early[0][0] != alone[0][0]


def test_a_critic_learns_to_tell_blur_from_sharp():
    critic = fresh(PatchDiscriminator, 3, 8, 1, groups=4)
    sharp = pictures(32)
    blurred = nn.functional.avg_pool2d(sharp, 3, 1, 1)
    config = TrainConfig(steps=40, batch_size=16, lr=5e-3, warmup=5, precision="float32")

    def loss(x, y, generator):
        return {"loss": hinge_critic(critic(x), critic(y))}

    losses = [step.losses["loss"] for step in train(critic, loss, (sharp, blurred), config, bar=False)]
    assert losses[0] > 0.8 and losses[-1] < 0.3
