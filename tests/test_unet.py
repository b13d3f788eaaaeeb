"""The U-Net against diffusers' with the same random weights, its published size, and how it begins."""

import pytest
import torch
from support.tensors import EXACT, epsilons, random, randomise, same_weights
from torch.testing import assert_close

from minildm.nn.layers import ResidualBlock, SpatialTransformer
from minildm.nn.unet import UNet, UNetConfig

SMALL = UNetConfig(channels=(16, 32, 48, 48), context_dim=24, heads=4, groups=8)
TINY = UNetConfig(in_channels=3, out_channels=6, channels=(8, 16), attention=(False, True), blocks=1,
                  context_dim=12, heads=2, groups=4, num_classes=10)


def diffusers_unet(c: UNetConfig):
    reference = pytest.importorskip("diffusers.models.unets.unet_2d_condition")
    return reference.UNet2DConditionModel(
        in_channels=c.in_channels, out_channels=c.out_channels, block_out_channels=c.channels,
        down_block_types=["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in c.attention],
        up_block_types=["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(c.attention)],
        layers_per_block=c.blocks, cross_attention_dim=c.context_dim, norm_num_groups=c.groups,
        attention_head_dim=c.heads)     # by that name diffusers means the number of heads


@pytest.fixture(scope="module")
def twins():
    return same_weights(diffusers_unet(SMALL), UNet(SMALL))


@pytest.mark.parametrize("scale", [1.0, 0.01])
@pytest.mark.parametrize("step", [1, 500, 981])
@torch.no_grad()
def test_network_equals_diffusers(twins, step, scale):
    theirs, ours = twins
    x, context = random(2, 4, 16, 24, scale=scale), random(2, 5, 24, seed=1)
    found = ours(x, step / 1000, context)
    assert found.std() > 0.1        # it says something
    assert_close(found, theirs(x, step, context).sample, **EXACT)


@torch.no_grad()
def test_other_depths_equal_diffusers_too():
    config = UNetConfig(in_channels=3, out_channels=6, channels=(8, 24, 16), attention=(False, True, False),
                        blocks=1, context_dim=12, heads=2, groups=4)
    theirs, ours = same_weights(diffusers_unet(config), UNet(config))
    x, context = random(2, 3, 8, 8), random(2, 1, 12, seed=1)
    steps = torch.tensor([20, 700])                                        # a time each
    assert_close(ours(x, steps / 1000, context), theirs(x, steps, context).sample, **EXACT)


def test_every_eps_equals_diffusers(twins):
    theirs, ours = map(epsilons, twins)
    assert theirs == ours and set(ours.values()) == {1e-5, 1e-6}


def test_default_is_stable_diffusion_1_5():
    with torch.device("meta"):
        ours, theirs = UNet(UNetConfig()), diffusers_unet(UNetConfig())
    shapes = {name: p.shape for name, p in ours.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == 859_520_964 and len(shapes) == 686
    assert shapes == {name: p.shape for name, p in theirs.state_dict().items()}
    assert epsilons(ours) == epsilons(theirs)
    assert sum(isinstance(m, ResidualBlock) for m in ours.modules()) == 22
    assert sum(isinstance(m, SpatialTransformer) for m in ours.modules()) == 16


def test_begins_at_zero_with_identities_inside():
    network = UNet(TINY)
    labels = torch.tensor([3, 10])
    assert network(random(2, 3, 8, 8), 0.5, labels).abs().max() == 0
    emb, context = random(2, 32), network.embed(labels)
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            x = random(2, module.conv1.in_channels, 4, 4)
            assert torch.equal(module(x, emb), module.conv_shortcut(x) if module.has_shortcut else x)
        if isinstance(module, SpatialTransformer):
            x = random(2, module.proj_in.in_channels, 4, 4)
            assert torch.equal(module(x, context), x)


def test_a_label_is_a_context_of_one_token():
    network = randomise(UNet(TINY))
    x, labels = random(3, 3, 8, 8), torch.tensor([0, 7, network.null_context])
    context = network.class_embedding.weight[labels][:, None]
    assert context.shape == (3, 1, 12) and torch.is_floating_point(context)
    assert torch.equal(network(x, 0.3, labels), network(x, 0.3, context))
    assert network.null_context == 10 and len(network.class_embedding.weight) == 11
    same = network(x[:1].expand(3, -1, -1, -1), 0.3, labels)               # one picture, three labels
    assert (same[0] - same[1]).abs().max() > 1e-3 and (same[1] - same[2]).abs().max() > 1e-3


def test_without_context():
    network = randomise(UNet(UNetConfig(channels=(8, 16), attention=(False, True), context_dim=0, groups=4)))
    assert network(random(2, 4, 8, 8), 0.5).shape == (2, 4, 8, 8)
    assert not any("attn2" in name for name, _ in network.named_parameters())


def test_time_is_a_number_or_one_each():
    network = randomise(UNet(TINY))
    x, labels = random(2, 3, 8, 8), torch.tensor([1, 2])
    both = network(x, torch.tensor([0.2, 0.9]), labels)
    for i, t in enumerate([0.2, 0.9]):
        assert_close(network(x, t, labels)[i], both[i], **EXACT)
        assert_close(network(x, torch.tensor(t), labels)[i], both[i], **EXACT)
    assert (network(x, 0.2, labels) - network(x, 0.9, labels)).abs().max() > 1e-2


def test_every_parameter_learns():
    network = randomise(UNet(TINY)).train()
    context = network.class_embedding(torch.arange(8).reshape(4, 2))      # one token needs no query, no key
    network(random(4, 3, 8, 8), torch.tensor([0.1, 0.4, 0.6, 0.9]), context).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_bf16_autocast_stays_close():
    network = randomise(UNet(TINY))
    x, labels = random(2, 3, 8, 8), torch.tensor([1, 2])
    with torch.autocast("cpu", torch.bfloat16):
        low = network(x, 0.5, labels)
    exact = network(x, 0.5, labels)
    assert (low - exact).std() < 0.03 * exact.std()


def test_one_entry_of_attention_a_level():
    with pytest.raises(Exception, match="2 widths, 3 entries in attention"):
        UNet(UNetConfig(channels=(8, 16), attention=(True, True, False)))
