"""DiT against diffusers' with the same random weights, its published size, and how it begins."""

import pytest
import torch
from support.tensors import EXACT, random, randomise
from torch.testing import assert_close

from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.schedules import flow
from minildm.nn.dit import DiT, DiTBlock, DiTConfig, positions, unpatchify

TINY = DiTConfig(in_channels=3, out_channels=6, dim=16, depth=2, heads=2, num_classes=10)
TEXT = DiTConfig(4, 4, dim=16, depth=2, heads=2, num_classes=0, context_dim=12)
CROSS = DiTConfig(4, 4, dim=16, depth=2, heads=2, num_classes=0, context_dim=12, cross_attention=True)
# with names and numbers as in diffusers: the reference of the parity tests
THEIRS = DiTConfig(dim=48, depth=3, heads=4, num_classes=20, freq_shift=1, mlp_eps=1e-5)


def diffusers_dit(c: DiTConfig, size: int):
    reference = pytest.importorskip("diffusers.models.transformers.dit_transformer_2d")
    theirs = reference.DiTTransformer2DModel(
        num_attention_heads=c.heads, attention_head_dim=c.dim // c.heads, in_channels=c.in_channels,
        out_channels=c.out_channels, num_layers=c.depth, sample_size=size, patch_size=c.patch,
        num_embeds_ada_norm=c.num_classes, norm_eps=c.mlp_eps)
    for block in theirs.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = c.freq_shift
        block.norm1.emb.class_embedder.dropout_prob = 0
    return theirs


def renamed(state: dict):
    """Ours from theirs: the embeddings once instead of once a block, adaLN where they say norm1.linear."""
    first = "transformer_blocks.0.norm1.emb."
    names = {first + "timestep_embedder": "time_embedding", "norm1.linear": "adaLN",
             first + "class_embedder.embedding_table": "class_embedding"}
    ours = {}
    for name, tensor in state.items():
        for before, after in names.items():
            name = name.replace(before, after)
        if "norm1.emb" not in name:
            ours[name] = tensor
    return ours


@pytest.mark.parametrize("config", [THEIRS, DiTConfig(dim=48, depth=3, heads=4, num_classes=20)],
                         ids=["diffusers", "official"])
@torch.no_grad()
def test_network_equals_diffusers(config):
    theirs, ours = randomise(diffusers_dit(config, 8)), DiT(config).eval()
    first = theirs.transformer_blocks[0].norm1.emb.state_dict()
    for block in theirs.transformer_blocks:         # published weights hold copies of one embedding
        block.norm1.emb.load_state_dict(first)
    ours.load_state_dict(renamed(theirs.state_dict()))
    x, labels = random(3, 4, 8, 8), torch.tensor([0, 7, ours.null_context])
    for steps in torch.tensor([1, 500, 981]), torch.tensor([20, 20, 20]):
        found = ours(x, steps / 1000, labels)
        assert found.std() > 0.1        # it says something
        assert_close(found, theirs(x, steps, labels).sample, **EXACT)


def test_what_diffusers_does_differently_shows():
    x, labels = random(2, 4, 8, 8), torch.tensor([3, 20])
    shifted, published = (randomise(DiT(DiTConfig(dim=48, depth=3, heads=4, num_classes=20, **different)))
                          for different in (dict(freq_shift=1, mlp_eps=1e-5), {}))
    assert (shifted(x, 0.98, labels) - published(x, 0.98, labels)).abs().max() > 1e-3


def test_default_is_dit_xl_2():
    with torch.device("meta"):
        network = DiT(DiTConfig())
    assert sum(p.numel() for p in network.parameters()) == 674_834_720
    assert network.null_context == 1000 and not list(network.buffers())
    with torch.device("meta"):
        theirs = diffusers_dit(DiTConfig(), 32)
    shapes = {name: p.shape for name, p in network.state_dict().items()}
    assert shapes == {name: p.shape for name, p in renamed(theirs.state_dict()).items()}


def test_positions_are_diffusers():
    reference = pytest.importorskip("diffusers.models.embeddings")
    theirs = reference.get_2d_sincos_pos_embed(48, 7, base_size=7, output_type="pt", device="cpu")
    assert_close(positions(7, 7, 48), theirs.float(), **EXACT)


def test_where_a_token_stands_does_not_depend_on_the_map():
    small, large = positions(3, 4, 16).unflatten(0, (3, 4)), positions(8, 8, 16).unflatten(0, (8, 8))
    assert torch.equal(small, large[:3, :4])
    assert_close(large[5, 2, :8], large[2, 5, 8:])                  # column first, then row, alike
    assert len({tuple(p.tolist()) for p in large.flatten(0, 1)}) == 64


def test_unpatchify_undoes_cutting():
    maps = random(2, 3, 6, 10)
    tokens = [maps[:, :, 2 * i:2 * i + 2, 2 * j:2 * j + 2].permute(0, 2, 3, 1).flatten(1)
              for i in range(3) for j in range(5)]
    assert torch.equal(unpatchify(torch.stack(tokens, 1), 3, 2), maps)


def test_begins_at_zero_with_identities_inside():
    labels = torch.tensor([3, 10])
    network = DiT(TINY)
    assert network(random(2, 3, 8, 8), 0.5, labels).abs().max() == 0
    for config in TINY, CROSS:
        x, c, context = random(2, 6, 16), random(2, 16), random(2, 5, 12)
        for block in DiT(config).transformer_blocks:
            assert torch.equal(block(x, c, context), x)
            assert (randomise(block)(x, c, context) - x).abs().max() > 0.1


def test_a_block_is_the_papers_equation():
    """In float64, written out with LayerNorm, softmax and tanh as they are defined."""
    block = randomise(DiTBlock(TINY)).double()
    x, c = random(2, 6, 16).double(), random(2, 16).double()
    g1, b1, a1, g2, b2, a2 = [(c @ block.adaLN.weight.T + block.adaLN.bias)[:, None, i * 16:i * 16 + 16]
                              for i in (1, 0, 2, 4, 3, 5)]        # scale, shift, gate of each step

    def norm(x):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()

    h, heads = norm(x) * (1 + g1) + b1, []
    for i in range(2):
        q, k, v = (layer(h)[..., 8 * i:8 * i + 8]
                   for layer in (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v))
        weights = (torch.einsum("bid,bjd->bij", q, k) / 8**0.5).softmax(-1)
        heads.append(torch.einsum("bij,bjd->bid", weights, v))
    x = x + a1 * block.attn1.to_out(torch.cat(heads, -1))
    h = block.ff.net[0].proj(norm(x) * (1 + g2) + b2)
    h = h / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (h + 0.044715 * h**3)))
    assert_close(block(*(random(2, 6, 16).double(), c)), x + a2 * block.ff.net[2](h), rtol=0, atol=1e-6)


def test_labels_and_the_null_class():
    network = randomise(DiT(TINY))
    assert network.null_context == 10 and len(network.class_embedding.weight) == 11
    same = network(random(1, 3, 8, 8).expand(3, -1, -1, -1), 0.3, torch.tensor([0, 7, network.null_context]))
    assert (same[0] - same[1]).abs().max() > 1e-3 and (same[1] - same[2]).abs().max() > 1e-3
    assert same.shape == (3, 6, 8, 8)


@pytest.mark.parametrize("config", [TEXT, CROSS], ids=["pooled", "cross-attention"])
def test_tokens_of_a_context_are_heard(config):
    network, x, context = randomise(DiT(config)), random(2, 4, 6, 8), random(2, 5, 12, seed=1)
    found = network(x, 0.3, context)
    assert found.shape == (2, 4, 6, 8)
    assert (found - network(x, 0.3, context.flip(0))).abs().max() > 1e-2
    other = context + torch.tensor([1.0, -1, 0, 0, 0])[:, None] * random(12, seed=2)    # of the same mean
    changed = (found - network(x, 0.3, other)).abs().max()
    assert changed > 1e-2 if config.cross_attention else changed < 1e-5


def test_without_context():
    network = randomise(DiT(DiTConfig(4, 4, dim=16, depth=1, heads=2, num_classes=0)))
    assert network(random(2, 4, 8, 8), 0.5).shape == (2, 4, 8, 8)
    assert not any("attn2" in name or "class" in name for name, _ in network.named_parameters())


def test_time_is_a_number_or_one_each():
    network = randomise(DiT(TINY))
    x, labels = random(2, 3, 8, 8), torch.tensor([1, 2])
    both = network(x, torch.tensor([0.2, 0.9]), labels)
    for i, t in enumerate([0.2, 0.9]):
        assert_close(network(x, t, labels)[i], both[i], **EXACT)
        assert_close(network(x, torch.tensor(t), labels)[i], both[i], **EXACT)
    assert (network(x, 0.2, labels) - network(x, 0.9, labels)).abs().max() > 1e-2


@pytest.mark.parametrize("config", [TINY, CROSS], ids=["labels", "cross-attention"])
def test_every_parameter_learns(config):
    network = randomise(DiT(config)).train()
    context = torch.arange(4) if config.num_classes else random(4, 3, 12, seed=1)
    x, t = random(4, config.in_channels, 8, 8), torch.tensor([0.1, 0.4, 0.6, 0.9])
    network(x, t, context).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_bf16_autocast_stays_close():
    network = randomise(DiT(TINY))
    x, labels = random(2, 3, 8, 8), torch.tensor([1, 2])
    with torch.autocast("cpu", torch.bfloat16):
        low = network(x, 0.5, labels)
    exact = network(x, 0.5, labels)
    assert (low - exact).std() < 0.03 * exact.std()


def test_learned_variance_is_left_aside():
    network, x = randomise(DiT(TINY)), random(2, 3, 8, 8)
    labels, denoiser = torch.tensor([1, 2]), Denoiser(network, flow, "flow")
    assert_close(denoiser(x, 0.5, labels), x - 0.5 * network(x, 0.5, labels)[:, :3])
    assert denoiser.loss(x, labels)["loss"].isfinite()


def test_one_batch_can_be_overfitted():
    torch.manual_seed(0)
    denoiser = Denoiser(DiT(DiTConfig(1, 1, dim=32, depth=2, heads=2, num_classes=4)), flow, "flow")
    data, labels = random(4, 1, 4, 4).sign().repeat(8, 1, 1, 1), torch.arange(4).repeat(8)
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=3e-3)
    losses = []
    for step in range(80):
        losses.append(denoiser.loss(data, labels, torch.Generator().manual_seed(step), drop=0)["loss"])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert sum(losses[-10:]) < 0.4 * sum(losses[:10])
    with torch.no_grad():
        noise = random(32, 1, 4, 4, seed=5)
        right, swapped = ((denoiser(0.3 * data + 0.7 * noise, 0.7, which).sign() == data).float().mean()
                          for which in (labels, labels.flip(0)))
    assert right > 0.95 and right > swapped + 0.1


def test_errors_name_the_cure():
    x, labels, tokens = random(2, 3, 8, 8), torch.tensor([1, 2]), random(2, 5, 12)
    text = DiT(TEXT), random(2, 4, 8, 8)
    for call, words in [
            (lambda: DiT(TINY)(x[..., :7], 0.5, labels), "(3, 8, 7).*multiples of 2"),
            (lambda: DiT(TINY)(x[:, :2], 0.5, labels), "3 channels"),
            (lambda: DiT(TINY)(x, 0.5), "pass labels"),
            (lambda: DiT(TINY)(x, 0.5, tokens), "context_dim"),
            (lambda: text[0](text[1], 0.5, labels), "num_classes"),
            (lambda: DiT(DiTConfig(dim=18, depth=1, heads=2)), "multiple of 4"),
            (lambda: DiT(DiTConfig(dim=16, depth=1, heads=2, cross_attention=True)), "set context_dim")]:
        with pytest.raises(Exception, match=f"(?s){words.replace('(3, 8, 7)', '3, 8, 7')}"):
            call()
