"""Each part against an independent form: the fused kernel, float64, diffusers with random weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from support.tensors import EXACT, epsilons, random, randomise, same_weights
from torch import nn
from torch.testing import assert_close

from minildm.nn import layers
from minildm.nn.attention_maps import mean_attention_map, record_attention
from minildm.nn.dit import DiT, DiTConfig
from minildm.nn.layers import Attention

# attention(q, k, v): both ways of computing it against the fused kernel in float64

@pytest.mark.parametrize("short", [0, 10**9], ids=["fused", "written-out"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_and_its_gradients_equal_sdpa(monkeypatch, short, dtype, tolerance, masked):
    monkeypatch.setattr(layers, "SHORT", short)
    q, k, v = (random(2, 3, n, 8, seed=n).to(dtype) for n in (5, 7, 7))
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    mask = None
    if masked:      # some keys forbidden, the others with a bias
        mask = random(2, 1, 5, 7, seed=3).to(dtype).masked_fill(random(5, 7, seed=4) > 0.5, -math.inf)
        mask[..., 0] = 0
    ours = layers.attention(q, k, v, mask)
    assert ours.dtype == dtype and ours.shape == (2, 3, 5, 8)
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    theirs = F.scaled_dot_product_attention(*exact, attn_mask=None if mask is None else mask.double())
    assert_close(ours.double(), theirs, rtol=0, atol=tolerance)

    weight = random(2, 3, 5, 8, seed=9).double()
    wanted = torch.autograd.grad((theirs * weight).sum(), exact)
    found = torch.autograd.grad((ours * weight).sum(), (q, k, v))
    for a, b in zip(found, wanted, strict=True):
        assert_close(a.double(), b, rtol=0, atol=tolerance)


def test_attention_is_fused_for_long_sequences_and_without_gradients(monkeypatch):
    calls, fused = [], F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or fused(*a, **k))
    for n, gradient, expected in (256, True, 0), (257, True, 1), (256, False, 2):
        q = random(1, 1, n, 4).requires_grad_(gradient)
        layers.attention(q, q, q)
        assert len(calls) == expected, f"{n} tokens"


def test_causal_mask_hides_the_future():
    layer = randomise(layers.Attention(8, heads=2))
    mask = torch.full((5, 5), -math.inf).triu(1)
    x = random(1, 5, 8)
    changed = x.clone()
    changed[:, 3:] += 1
    assert_close(layer(x, mask=mask)[:, :3], layer(changed, mask=mask)[:, :3])
    assert (layer(x, mask=mask) - layer(changed, mask=mask))[:, 3:].abs().max() > 0.1


def test_width_must_be_a_multiple_of_heads():
    with pytest.raises(Exception, match="(?s)10 is no multiple of 4 heads.*change one"):
        layers.Attention(10, heads=4)


# blocks against diffusers; inputs with variance 1e-4 tell eps 1e-5 from 1e-6

SCALES = pytest.mark.parametrize("scale", [1.0, 0.01])


@pytest.mark.parametrize("context_dim, bias", [(0, False), (0, True), (12, False)])
def test_attention_layer_equals_diffusers(context_dim, bias):
    reference = pytest.importorskip("diffusers.models.attention_processor")
    theirs, ours = same_weights(
        reference.Attention(16, context_dim or None, heads=4, dim_head=4, bias=bias),
        layers.Attention(16, context_dim, heads=4, bias=bias))
    x, context = random(2, 9, 16), random(2, 5, 12, seed=1) if context_dim else None
    assert_close(ours(x, context), theirs(x, encoder_hidden_states=context), **EXACT)


@SCALES
@pytest.mark.parametrize("context_dim", [0, 12])
def test_transformer_block_equals_diffusers(context_dim, scale):
    reference = pytest.importorskip("diffusers.models.attention")
    theirs, ours = same_weights(
        reference.BasicTransformerBlock(16, 4, 4, cross_attention_dim=context_dim or None),
        layers.TransformerBlock(16, context_dim, heads=4))
    x, context = random(2, 9, 16, scale=scale), random(2, 5, 12, seed=1) if context_dim else None
    assert_close(ours(x, context), theirs(x, encoder_hidden_states=context), **EXACT)
    assert epsilons(ours) == {name: 1e-5 for name in ("norm1", "norm2", "norm3") if hasattr(ours, name)}


@SCALES
@pytest.mark.filterwarnings("ignore:.*Transformer2DModelOutput:FutureWarning")    # of diffusers itself
def test_spatial_transformer_equals_diffusers(scale):
    reference = pytest.importorskip("diffusers.models.transformers.transformer_2d")
    theirs, ours = same_weights(
        reference.Transformer2DModel(4, 4, 16, cross_attention_dim=12, norm_num_groups=8),
        layers.SpatialTransformer(16, 12, heads=4, groups=8))
    x, context = random(2, 16, 6, 4, scale=scale), random(2, 5, 12, seed=1)
    assert_close(ours(x, context), theirs(x, encoder_hidden_states=context).sample, **EXACT)
    assert ours.norm.eps == 1e-6 and epsilons(ours).items() <= epsilons(theirs).items()


@SCALES
@pytest.mark.parametrize("time_dim, eps", [(24, 1e-5), (0, 1e-6)], ids=["unet", "vae"])
@pytest.mark.parametrize("out", [16, 32])
def test_residual_block_equals_diffusers(time_dim, eps, out, scale):
    reference = pytest.importorskip("diffusers.models.resnet")
    theirs, ours = same_weights(
        reference.ResnetBlock2D(in_channels=16, out_channels=out, temb_channels=time_dim or None,
                                groups=8, eps=eps),
        layers.ResidualBlock(16, out, time_dim, groups=8, eps=eps))
    x, emb = random(2, 16, 6, 4, scale=scale), random(2, 24, seed=1) if time_dim else None
    activated = None if emb is None else F.silu(emb)    # theirs does it in each block
    assert_close(ours(x, activated), theirs(x, emb), **EXACT)
    assert layers.ResidualBlock(16, out, time_dim, groups=8).norm2.eps == 1e-5     # the U-Net's, unless told


@pytest.mark.parametrize("asymmetric", [False, True])
def test_down_and_upsample_equal_diffusers(asymmetric):
    down, up = map(pytest.importorskip, ("diffusers.models.downsampling", "diffusers.models.upsampling"))
    x = random(2, 8, 6, 4)
    theirs, ours = same_weights(
        down.Downsample2D(8, use_conv=True, padding=0 if asymmetric else 1, name="op"),
        layers.Downsample(8, asymmetric))
    assert_close(ours(x), theirs(x), **EXACT)
    theirs, ours = same_weights(up.Upsample2D(8, use_conv=True), layers.Upsample(8))
    assert_close(ours(x), theirs(x), **EXACT)


def test_asymmetric_padding_is_at_the_right_and_bottom():
    x = random(1, 1, 6, 6)
    for asymmetric, tap in (False, 1), (True, 0):       # the tap that falls on the even pixels
        layer = layers.zero_(layers.Downsample(1, asymmetric))
        layer.conv.weight.data[0, 0, tap, tap] = 1
        assert_close(layer(x), x[..., ::2, ::2], rtol=0, atol=0)
    layer.conv.weight.data.zero_()[0, 0, 2, 2] = 1      # the last tap hangs over the far edges
    assert_close(layer(x), F.pad(x, (0, 2, 0, 2))[..., 2::2, 2::2], rtol=0, atol=0)


def test_upsample_repeats_pixels():
    layer = layers.zero_(layers.Upsample(1))
    layer.conv.weight.data[0, 0, 1, 1] = 1
    x = random(1, 1, 3, 2)
    assert_close(layer(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3), rtol=0, atol=0)


# time

def test_sinusoid_is_1000_t_through_cos_and_sin():
    t, half = 0.25, 8
    waves = layers.sinusoid(t, 2 * half)
    wanted = [f(250 * 10_000 ** (-i / half)) for f in (math.cos, math.sin) for i in range(half)]
    assert_close(waves, torch.tensor([wanted]), **EXACT)


def test_sinusoid_equals_diffusers_at_every_step():
    reference = pytest.importorskip("diffusers.models.embeddings")
    steps = torch.arange(1001)
    theirs = reference.get_timestep_embedding(steps, 320, flip_sin_to_cos=True, downscale_freq_shift=0)
    # the frequencies' last bit times 1000 radians: this is float32's own resolution
    assert_close(layers.sinusoid(steps / 1000, 320), theirs, rtol=0, atol=1e-4)
    exact = steps[:, None].double() * 10_000 ** (-torch.arange(160).double() / 160)
    assert_close(layers.sinusoid(steps / 1000, 320).double(), torch.cat([exact.cos(), exact.sin()], 1),
                 rtol=0, atol=1e-4)


def test_time_embedding_equals_diffusers():
    reference = pytest.importorskip("diffusers.models.embeddings")
    theirs, ours = same_weights(reference.TimestepEmbedding(16, 64), layers.TimeEmbedding(16, 64))
    steps = torch.tensor([1, 500, 981])
    waves = reference.Timesteps(16, flip_sin_to_cos=True, downscale_freq_shift=0)(steps)
    assert_close(ours(steps / 1000), theirs(waves), rtol=0, atol=3e-5)
    assert_close(ours(0.5), ours(steps / 1000)[1:2])              # a number is a batch of one


def test_zeroed_last_layers_make_the_blocks_identities():
    x = random(2, 16, 4, 4)
    block = randomise(layers.ResidualBlock(16, 16, 24, groups=8))
    layers.zero_(block.conv2)
    assert torch.equal(block(x, random(2, 24)), x)
    transformer = randomise(layers.SpatialTransformer(16, 12, 4, groups=8))
    layers.zero_(transformer.proj_out)
    assert torch.equal(transformer(x, random(2, 5, 12)), x)


@pytest.mark.parametrize("keyword", [False, True])
def test_recorded_attention_is_what_was_attended(keyword):
    """Weights times values, through the last map, must be the module's own output."""
    layer, x, context = randomise(Attention(16, 12, heads=1)), random(2, 9, 16), random(2, 5, 12, seed=1)
    with record_attention(nn.ModuleDict({"cross": layer, "self": randomise(Attention(16, heads=2))})) as maps:
        out = layer(x, context=context) if keyword else layer(x, context)
        layer(x, context)
    weights, again = maps["cross"]
    assert_close(layer.to_out(weights @ layer.to_v(context)), out)
    assert_close(weights.sum(-1), torch.ones(2, 9)) and not weights.requires_grad
    layer(x, context)
    assert len(maps["cross"]) == 2 and torch.equal(weights, again)          # nothing more outside the block
    with record_attention(nn.ModuleDict({"cross": layer})) as maps, torch.autocast("cpu", torch.bfloat16):
        layer(x, context)
    assert maps["cross"][0].dtype == torch.float32                         # numpy, which draws, knows no bf16


def test_recording_changes_nothing_and_finds_every_cross_attention():
    config = DiTConfig(4, 4, dim=32, depth=3, heads=2, patch=1, num_classes=0, context_dim=12,
                       cross_attention=True)
    network, x, context = randomise(DiT(config)), random(2, 4, 6, 6), random(2, 5, 12, seed=1)
    plain = network(x, 0.5, context)
    with record_attention(network) as maps:
        assert torch.equal(network(x, 0.5, context), plain)
    assert [*maps] == [f"transformer_blocks.{i}.attn2" for i in range(3)]
    means = mean_attention_map(maps)
    assert means.shape == (2, 5, 6, 6)
    assert_close(means[1, 2, 3, 4], torch.stack([m[0][1, 3 * 6 + 4, 2] for m in maps.values()]).mean())
