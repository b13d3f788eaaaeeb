"""The autoencoder against diffusers' with the same random weights; KL and latent scale against statistics."""

import pytest
import torch
from support.tensors import EXACT, epsilons, random, randomise
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from minildm import MinildmError
from minildm.nn.layers import zero_
from minildm.nn.vae import AutoencoderKL, Gaussian, VAEConfig

SMALL = VAEConfig(channels=(16, 32, 48), groups=8)
TINY = VAEConfig(in_channels=1, latent_channels=3, channels=(8, 16), blocks=1, groups=4)
STATISTICS = {"latent_mean": torch.zeros(4), "latent_std": torch.ones(4)}      # ours only


def diffusers_vae(c: VAEConfig):
    reference = pytest.importorskip("diffusers.models.autoencoders.autoencoder_kl")
    n = len(c.channels)
    return reference.AutoencoderKL(
        in_channels=c.in_channels, out_channels=c.in_channels, latent_channels=c.latent_channels,
        block_out_channels=c.channels, layers_per_block=c.blocks, norm_num_groups=c.groups,
        down_block_types=["DownEncoderBlock2D"] * n, up_block_types=["UpDecoderBlock2D"] * n,
        mid_block_add_attention=c.attention)


@pytest.fixture(scope="module", params=[True, False], ids=["attention", "no attention"])
def twins(request):
    config = VAEConfig(channels=SMALL.channels, groups=SMALL.groups, attention=request.param)
    theirs, ours = randomise(diffusers_vae(config)), AutoencoderKL(config).eval()
    ours.load_state_dict(theirs.state_dict() | STATISTICS)
    return theirs, ours


@pytest.mark.parametrize("scale", [1.0, 0.01])
@torch.no_grad()
def test_encoder_and_decoder_equal_diffusers(twins, scale):
    theirs, ours = twins
    images, z = random(2, 3, 16, 24, scale=scale), random(2, 4, 4, 6, seed=1, scale=scale)
    found, wanted = ours.encode(images), theirs.encode(images).latent_dist
    assert found.mean.shape == (2, 4, 4, 6) and found.mean.std() > 0.1
    assert_close(found.mean, wanted.mean, **EXACT)
    assert_close(found.logvar, wanted.logvar, **EXACT)
    assert_close(found.std, wanted.std, **EXACT)
    assert_close(found.kl().sum((1, 2, 3)), wanted.kl(), rtol=1e-5, atol=1e-4)
    assert_close(ours.decode(z), theirs.decode(z).sample, **EXACT)


def test_every_eps_equals_diffusers(twins):
    theirs, ours = map(epsilons, twins)
    assert theirs == ours and set(ours.values()) == {1e-6}


def test_default_is_stable_diffusion_1_5():
    with torch.device("meta"):
        ours, theirs = AutoencoderKL(VAEConfig()), diffusers_vae(VAEConfig())
    shapes = {name: p.shape for name, p in ours.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == 83_653_863
    assert shapes.keys() - theirs.state_dict().keys() == STATISTICS.keys() and len(shapes) == 248 + 2
    assert all(shapes[name] == p.shape for name, p in theirs.state_dict().items())
    assert VAEConfig().factor == 8


# the posterior

def test_kl_equals_closed_form_and_monte_carlo():
    mean, logvar = torch.tensor([0.0, 1.5, -0.5, 2.0]), torch.tensor([0.0, -2.0, 1.0, 0.3])
    q, standard = Gaussian(mean, logvar), Normal(0.0, 1.0)
    assert_close(q.kl(), kl_divergence(Normal(mean, logvar.div(2).exp()), standard))
    n = 200_000
    many = Gaussian(mean.expand(n, 4), logvar.expand(n, 4))
    z = many.sample(torch.Generator().manual_seed(0))
    ratio = Normal(mean, q.std).log_prob(z) - standard.log_prob(z)         # E_q[log q - log p]
    assert ((ratio.mean(0) - q.kl()).abs() <= 4 * ratio.std(0) / n**0.5 + 1e-6).all()


def test_kl_is_zero_for_the_prior_and_positive_elsewhere():
    assert torch.equal(Gaussian(torch.zeros(3), torch.zeros(3)).kl(), torch.zeros(3))
    assert (Gaussian(random(1000), random(1000, seed=1)).kl() > 0).all()


def test_sample_has_the_moments_that_it_promises():
    n, std = 100_000, torch.tensor(-0.5).exp()
    z = Gaussian(torch.full((n,), 2.0), torch.full((n,), -1.0)).sample(torch.Generator().manual_seed(0))
    assert abs(z.mean() - 2) < 4 * std / n**0.5
    assert abs(z.std() / std - 1) < 4 / (2 * n) ** 0.5


def test_logvar_is_clamped_to_the_published_range():
    q = Gaussian(torch.zeros(2), torch.tensor([-1000.0, 1000.0]))
    assert q.logvar.tolist() == [-30, 20]
    assert q.kl().isfinite().all() and q.sample().isfinite().all()


def test_gradients_flow_through_the_sample():
    mean, logvar = torch.zeros(5, requires_grad=True), random(5).requires_grad_()
    z = Gaussian(mean, logvar).sample(torch.Generator().manual_seed(0))
    dmean, dlogvar = torch.autograd.grad(z.sum(), (mean, logvar))
    assert_close(dmean, torch.ones(5))
    assert_close(dlogvar, 0.5 * z.detach())       # z = std noise, d std / d logvar = std / 2


# the latents' scale

def test_normalised_latents_have_unit_variance():
    vae, images = randomise(AutoencoderKL(TINY)), 3 + 2 * random(400, 1, 8, 8)
    vae.fit_latent_stats(images, batch_size=150)
    assert vae.latent_std.shape == (3,) and (vae.latent_std - 1).abs().max() > 0.05   # there was work to do
    with torch.no_grad():
        z = vae.encode(images).sample(torch.Generator().manual_seed(1))
    unit = vae.normalise(z)
    assert_close(unit.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=0.05)
    assert_close(unit.std((0, 2, 3)), torch.ones(3), rtol=0, atol=0.05)
    assert_close(vae.denormalise(unit), z)
    again = AutoencoderKL(TINY)                   # the scale travels with the weights
    again.load_state_dict(vae.state_dict())
    assert torch.equal(again.normalise(z), unit)


# sizes, loss

@pytest.mark.parametrize("patch, channels", [(1, (8, 16)), (2, (8, 16)), (4, (8,))])
def test_factor_is_patch_times_the_levels_halvings(patch, channels):
    config = VAEConfig(in_channels=1, channels=channels, patch=patch, blocks=1, groups=4)
    vae, f = AutoencoderKL(config), patch * 2 ** (len(channels) - 1)
    z = vae.encode(random(2, 1, 16, 24)).mean
    assert config.factor == f and z.shape == (2, 4, 16 // f, 24 // f)
    assert vae.decode(z).shape == (2, 1, 16, 24)


def test_a_patch_folds_into_channels_and_back():
    vae = AutoencoderKL(VAEConfig(in_channels=1, channels=(8,), patch=4, groups=4))
    image, seen = random(1, 1, 16, 16), []
    vae.encoder.conv_in.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    vae.encode(image)
    assert torch.equal(seen[0][0, :, 1, 2], image[0, 0, 4:8, 8:12].flatten())
    last = zero_(vae.decoder.conv_out)
    last.bias.data = image[0, 0, :4, :4].flatten()
    assert torch.equal(vae.decode(torch.zeros(1, 4, 4, 4)), image[..., :4, :4].repeat(1, 1, 4, 4))


@pytest.mark.parametrize("shape, cure", [((1, 30, 32), "multiples of 4"),
                                         ((1, 32, 30), "multiples of 4"),
                                         ((3, 32, 32), "this VAE takes 1")])
def test_bad_sizes_name_the_cure(shape, cure):
    vae = AutoencoderKL(VAEConfig(in_channels=1, channels=(8, 8, 8), groups=4))
    with pytest.raises(MinildmError, match=cure):
        vae.encode(torch.zeros(2, *shape))


def test_loss_is_reconstruction_plus_weighted_kl():
    vae, images = randomise(AutoencoderKL(TINY)), random(4, 1, 8, 8)
    parts = vae.loss(images, torch.Generator().manual_seed(0), kl_weight=0.25)
    posterior = vae.encode(images)
    error = vae.decode(posterior.sample(torch.Generator().manual_seed(0))) - images
    assert_close(parts["l1"], error.abs().mean())
    assert_close(parts["l2"], error.square().mean())
    assert_close(parts["kl"], posterior.kl().mean())
    assert_close(parts["loss"], error.abs().mean() + error.square().mean() + 0.25 * posterior.kl().mean())


def test_every_parameter_learns():
    vae = randomise(AutoencoderKL(TINY)).train()
    vae.loss(random(4, 1, 8, 8), torch.Generator().manual_seed(0))["loss"].backward()
    unused = [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


def test_one_batch_can_be_overfitted():
    torch.manual_seed(0)
    vae, images = AutoencoderKL(TINY), random(4, 1, 8, 8).clamp(-1, 1)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(vae.parameters(), lr=5e-3)
    losses = []
    for _ in range(80):
        parts = vae.loss(images, generator)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        losses.append(parts["l2"].item())
    assert losses[-1] < 0.1 * losses[0]


@torch.no_grad()
def test_without_norms_a_fresh_vae_is_as_loud_as_its_input():
    """With residual steps that start as the identity and no norm, only the two output SiLUs bend the line."""
    quiet, normed = (AutoencoderKL(VAEConfig(1, 4, (8, 8), blocks=0, attention=False, groups=groups, patch=2))
                     for groups in (0, 4))
    assert not any(isinstance(m, torch.nn.GroupNorm) for m in quiet.modules())
    h = random(2, 8, 4, 4)
    assert torch.equal(quiet.encoder.mid_block(h), h) and torch.equal(normed.decoder.mid_block(h), h)
    x = random(2, 1, 16, 16)

    def spread(vae, x):
        return (vae.encoder.conv_norm_out(vae.encoder.mid_block(vae.encoder.conv_in(
            torch.nn.functional.pixel_unshuffle(x, 2))))).std()

    assert spread(quiet, 10 * x) > 5 * spread(quiet, x)
    assert_close(spread(normed, 10 * x), spread(normed, x), rtol=0.01, atol=0)      # a norm forgets
