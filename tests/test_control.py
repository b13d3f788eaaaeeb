"""Control: nothing changes at step 0, the base stays as it is; maps of pictures are what they say."""

import copy

import pytest
import torch
from support.tensors import randomise

from minildm import MinildmError
from minildm.data import maps
from minildm.data.scenes import compose
from minildm.diffusion.controlled import controlled
from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.guidance import cfg
from minildm.diffusion.schedules import flow
from minildm.nn.control import ControlDiT, ControlNet, control_for
from minildm.nn.dit import DiT, DiTConfig
from minildm.nn.unet import UNet, UNetConfig

UNETS = [
    UNetConfig(3, 3, (8, 16), (True, False), blocks=2, context_dim=6, heads=2, groups=4),
    UNetConfig(2, 2, (8, 12, 16), (False, True, True), blocks=1, context_dim=6, heads=4, groups=4),
    UNetConfig(2, 2, (8,), (True,), blocks=1, context_dim=6, heads=2, groups=4, num_classes=5)]
DITS = [DiTConfig(3, 3, dim=16, depth=4, heads=2, patch=2, num_classes=5),
        DiTConfig(2, 2, dim=12, depth=1, heads=2, patch=1, num_classes=0, context_dim=6,
                  cross_attention=True)]


def random_network(config):
    torch.manual_seed(0)
    network = (UNet if isinstance(config, UNetConfig) else DiT)(config)
    randomise(network)
    return network.eval()


def inputs(network, batch=3):
    generator = torch.Generator().manual_seed(1)
    c = network.config
    x = torch.randn(batch, c.in_channels, 8, 4, generator=generator)
    hint = torch.rand(batch, 1, 32, 16, generator=generator)
    tokens = torch.randn(batch, 4, 6, generator=generator)
    context = torch.arange(batch) if c.num_classes else tokens
    return x, torch.rand(batch, generator=generator), context, hint


@pytest.fixture(params=UNETS + DITS, ids=lambda c: f"{type(c).__name__}-{c.in_channels}")
def network(request):
    return random_network(request.param)


def test_at_step_0_it_is_the_base_model_exactly(network):
    x, t, context, hint = inputs(network)
    net = control_for(network, 1, (4, 6, 8))
    control = net(x, t, context, hint)
    assert all(torch.equal(one, torch.zeros_like(one)) for one in control)
    assert torch.equal(network(x, t, context, control=control), network(x, t, context))


def test_a_step_moves_the_control_and_leaves_the_base(network):
    x, t, context, hint = inputs(network)
    before = copy.deepcopy(network.state_dict())
    network.requires_grad_(False)
    net = control_for(network, 1, (4, 6, 8))
    denoiser = Denoiser(network, flow, "flow")
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    for step in range(3):
        optimizer.zero_grad()
        controlled(denoiser, net, hint).loss(x, context, torch.Generator().manual_seed(step))[
            "loss"].backward()
        optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    # the gradient has come through the joints to the copy, and to the hint's first layer
    assert all(weight.requires_grad for weight in net.parameters())
    assert any((weight.grad.abs() > 0).any() for weight in net.parameters())
    assert not torch.equal(network(x, t, context, control=net(x, t, context, hint)),
                           network(x, t, context))


def test_the_weight_scales_what_is_added(network):
    x, t, context, hint = inputs(network)
    net = control_for(network, 1, (4, 6, 8))
    randomise(net)
    full, half = net(x, t, context, hint), net(x, t, context, hint, weight=0.5)
    for one, other in zip(full, half, strict=True):
        torch.testing.assert_close(other, 0.5 * one)
    denoiser = Denoiser(network, flow, "flow")
    plain = denoiser(x, t, context)
    assert torch.equal(controlled(denoiser, net, hint, weight=0.0)(x, t, context), plain)
    assert not torch.allclose(controlled(denoiser, net, hint)(x, t, context), plain)


def test_guidance_asks_both_sides_with_the_same_hints(network):
    x, t, context, hint = inputs(network)
    net = control_for(network, 1, (4, 6, 8))
    randomise(net)
    told = controlled(Denoiser(network, flow, "flow"), net, hint)
    null = torch.full_like(context, 5) if network.config.num_classes else 0 * context
    both = told(x, t, null) + 3.0 * (told(x, t, context) - told(x, t, null))
    torch.testing.assert_close(cfg(told, context, null, 3.0)(x, t), both, rtol=1e-4, atol=1e-4)


def test_a_controlled_network_can_be_overfitted_to_follow_its_hint():
    network = random_network(UNETS[0]).requires_grad_(False)
    net = control_for(network, 1, (4, 6, 8))
    x, t, context, hint = inputs(network)
    wanted = network(x, t, context) + hint[:, :, ::4, ::4]
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = (network(x, t, context, control=net(x, t, context, hint)) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_each_kind_has_its_control():
    assert isinstance(control_for(random_network(UNETS[0])), ControlNet)
    assert isinstance(control_for(random_network(DITS[0])), ControlDiT)


def test_a_hint_of_another_size_is_refused():
    network = random_network(UNETS[0])
    x, t, context, hint = inputs(network)
    with pytest.raises(MinildmError, match="8 times as large|4 times as large"):
        control_for(network, 1, (4, 6, 8))(x, t, context, hint[..., :16, :8])


# ---- maps

def disc(radius=5.0, side=16):
    y, x = torch.arange(side)[:, None] - 7.5, torch.arange(side) - 7.5
    return (2 * ((x**2 + y**2).sqrt() < radius).float() - 1)[None, None]


def test_edges_of_a_disc_are_a_thin_closed_ring():
    found = maps.edges(disc())[0, 0]
    assert set(found.unique().tolist()) == {0.0, 1.0}
    y, x = found.nonzero().float().unbind(1)
    radius = ((x - 7.5)**2 + (y - 7.5)**2).sqrt()
    assert radius.min() > 3.5 and radius.max() < 6.5
    # about as many as the circumference, which a ring two pixels wide would double
    assert 25 <= len(radius) <= 45


def test_edges_see_no_edge_where_nothing_changes():
    assert maps.edges(torch.ones(1, 3, 8, 8)).sum() == 0
    assert maps.edges(-torch.ones(1, 3, 8, 8)).sum() == 0


def test_edges_turn_with_the_picture():
    found = maps.edges(disc(4.3))
    ring = maps.edges(disc(4.3).flip(-1))
    assert maps.edge_f1(found.flip(-1), ring).item() == pytest.approx(1, abs=0.02)


def test_f1_of_edges():
    one = torch.zeros(1, 1, 8, 8)
    one[..., 3, 2:6] = 1
    below = torch.roll(one, 1, dims=2)
    far = torch.roll(one, 3, dims=2)
    assert maps.edge_f1(one, one, 0) == 1 and maps.edge_f1(one, below, 0) == 0
    assert maps.edge_f1(one, below) == 1 and maps.edge_f1(one, far) == 0
    half = one.clone()
    half[..., 4:] = 0
    # precision 1, recall 1/2
    assert maps.edge_f1(half, one, 0).item() == pytest.approx(2 / 3)
    assert maps.edge_f1(torch.zeros_like(one), one) == 0


def test_segments_say_which_digit_in_which_colour():
    generator = torch.Generator().manual_seed(0)
    digits = torch.zeros(20, 1, 28, 28, dtype=torch.uint8)
    digits[:, :, 6:22, 10:18] = torch.randint(150, 255, (20, 1, 16, 8), generator=generator).byte()
    images, truth = compose(digits, torch.arange(20) % 10, 30, seed=0)
    pixels = images.float() / 127.5 - 1
    found = maps.segments(pixels, truth)
    assert found.shape == (30, 16, 32, 32)
    for i in range(30):
        there = found[i].any(2).any(1).nonzero()[:, 0].tolist()
        wanted = [d for d in truth.digits[i].tolist() if d >= 0]
        wanted += [10 + c for d, c in zip(truth.digits[i].tolist(), truth.colours[i].tolist(), strict=True)
                   if d >= 0]
        assert there == sorted(set(wanted))
    # every pixel of ink belongs to a digit and to a colour
    ink = (pixels.amax(1) + 1) / 2 > 0.3
    assert found[:, :10].any(1)[ink].all() and found[:, 10:].any(1)[ink].all()
    assert torch.equal(maps.segment_iou(pixels, pixels), torch.ones(30))
    assert (maps.segment_iou(pixels, pixels.flip(1)) < 1).any()
