"""A published ControlNet in our class: diffusers' numbers, from its folder, and clear refusals."""

import json

import pytest
import torch
from support.tensors import EXACT, random, randomise
from torch.testing import assert_close

from minildm import MinildmError
from minildm.nn.unet import UNet, UNetConfig
from minildm.published.control import load_control
from minildm.published.load import load_unet

pytestmark = pytest.mark.slow      # importing diffusers takes most of its time

published = pytest.importorskip("support.published")
WIDTHS = (4, 8, 12, 16)            # three halvings, as published


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """diffusers' small U-Net and ControlNet, and what we read from their folders."""
    root = tmp_path_factory.mktemp("control")
    unet = randomise(published.unet(**published.SMALL["unet"], context=24))
    net = published.control(unet, WIDTHS)
    unet.save_pretrained(root / "unet")
    net.save_pretrained(root / "control")
    ours = load_unet(root / "unet")
    return unet, net, ours, load_control(root / "control", ours), root / "control"


def inputs():
    hint = random(2, 3, 64, 64, seed=3).sigmoid()
    return random(2, 4, 8, 8), torch.tensor([0.25, 0.9]), random(2, 7, 24, seed=2), hint


@torch.no_grad()
def test_it_finds_what_diffusers_finds(both):
    _, theirs, _, ours, _ = both
    x, t, context, hint = inputs()
    found = theirs(x, 1000 * t, context, hint, conditioning_scale=0.7, return_dict=False)
    wanted = [*found[0], found[1]]
    got = ours(x, t, context, hint, weight=0.7)
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        assert_close(one, other, **EXACT)


@torch.no_grad()
def test_the_controlled_unet_predicts_what_diffusers_predicts(both):
    unet, theirs, ours, net, _ = both
    x, t, context, hint = inputs()
    down, middle = theirs(x, 1000 * t, context, hint, return_dict=False)
    wanted = unet(x, 1000 * t, context, down_block_additional_residuals=down,
                  mid_block_additional_residual=middle).sample
    assert_close(ours(x, t, context, control=net(x, t, context, hint)), wanted, **EXACT)


def test_another_unets_control_is_refused(both):
    other = UNet(UNetConfig(4, 4, (16, 48), (True, False), blocks=1, context_dim=24, heads=4, groups=8))
    with pytest.raises(MinildmError, match="do not fit this U-Net"):
        load_control(both[-1], other)


def test_what_we_have_no_structure_for_is_refused(both, tmp_path):
    config = json.loads((both[-1] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"global_pool_conditions": True}))
    with pytest.raises(MinildmError, match="global_pool_conditions"):
        load_control(tmp_path, both[2])
