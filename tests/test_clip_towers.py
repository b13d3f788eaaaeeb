"""CLIP against transformers' with the same random weights, its published size, its loss and its measures."""

import math

import pytest
import torch
import torch.nn.functional as F
from support.tensors import EXACT, random, randomise
from support.towers import TINY, transformers_clip
from torch.testing import assert_close

from minildm import MinildmError
from minildm.nn.clip import (
    CLIP,
    CLIPConfig,
    TextTransformer,
    VisionConfig,
    VisionTransformer,
    class_vectors,
    contrastive_loss,
    retrieval,
)
from minildm.nn.layers import QuickGELU

IDS = torch.tensor([[58, 7, 3, 41, 59, 59, 59], [58, 12, 12, 1, 2, 30, 59], [58, 59, 59, 59, 59, 59, 59]])
NAMES = {"embeddings.": "", "encoder.layers": "blocks", "self_attn.out_proj": "attn1.to_out.0",
         "self_attn.": "attn1.to_", "_proj.": ".", "layer_norm1": "norm1", "layer_norm2": "norm2",
         "mlp.fc1": "ff.net.0.proj", "mlp.fc2": "ff.net.2", "final_layer_norm": "final_norm",
         "pre_layrnorm": "pre_norm", "post_layernorm": "post_norm"}


def renamed(state: dict):
    """Ours from transformers'."""
    ours = {}
    for name, tensor in state.items():
        for before, after in NAMES.items():
            name = name.replace(before, after)
        ours[name] = tensor
    return ours


@pytest.fixture(scope="module")
def pair():
    theirs, ours = randomise(transformers_clip(TINY)), CLIP(TINY).eval()
    with torch.no_grad():
        theirs.logit_scale.fill_(1.3)
    ours.load_state_dict(renamed(theirs.state_dict()))
    return theirs, ours


@torch.no_grad()
def test_towers_equal_transformers(pair):
    theirs, ours = pair
    images = random(4, 2, 12, 12)
    for length in 7, 3:                                             # the second has no end token at all
        states, pooled = ours.text_model(IDS[:, :length])
        expected = theirs.text_model(IDS[:, :length])
        assert states.std() > 0.1
        assert_close(states, expected.last_hidden_state, **EXACT)
        if length == 7:
            assert_close(pooled, expected.pooler_output, **EXACT)
            assert torch.equal(pooled, states[[0, 1, 2], [4, 6, 1]])        # the first end token's
    states, pooled = ours.vision_model(images)
    expected = theirs.vision_model(images)
    assert_close(states, expected.last_hidden_state, **EXACT)
    assert_close(pooled, expected.pooler_output, **EXACT)
    both = theirs(input_ids=IDS, pixel_values=images)
    assert_close(ours(images, IDS), both.logits_per_image, **EXACT)
    assert_close(ours.encode_text(IDS), both.text_embeds, **EXACT)
    assert_close(ours.encode_images(images), both.image_embeds, **EXACT)


@torch.no_grad()
def test_a_text_tower_of_its_own_is_transformers_clip_text_model(pair):
    """As Stable Diffusion ships it: no prefix, no projection."""
    clip = pytest.importorskip("transformers.models.clip")
    alone = clip.CLIPTextModel(pair[0].config.text_config).eval()
    ours = TextTransformer(TINY.text)
    randomise(alone, 3)
    ours.load_state_dict(renamed({k.removeprefix("text_model."): t for k, t in alone.state_dict().items()}))
    assert_close(ours(IDS)[0], alone(IDS).last_hidden_state, **EXACT)


def test_loss_equals_transformers(pair):
    theirs, ours = pair
    images = random(3, 2, 12, 12)
    expected = theirs(input_ids=IDS, pixel_values=images, return_loss=True).loss
    assert_close(contrastive_loss(ours(images, IDS)), expected, **EXACT)


def test_defaults_are_vit_l_14():
    with torch.device("meta"):
        clip, theirs = CLIP(CLIPConfig()), transformers_clip(CLIPConfig())
    assert sum(p.numel() for p in clip.text_model.parameters()) == 123_060_480
    assert len(list(clip.text_model.parameters())) == 196
    assert sum(p.numel() for p in clip.parameters()) == 427_616_513 and len(list(clip.parameters())) == 590
    expected = {name: p.shape for name, p in renamed(theirs.state_dict()).items()}
    assert {name: p.shape for name, p in clip.state_dict().items()} == expected
    assert not list(clip.buffers())


@torch.no_grad()
def test_a_token_sees_what_came_before_alone():
    tower = randomise(TextTransformer(TINY.text))
    changed = IDS.clone()
    changed[:, 4] = 5
    before, after = tower(IDS)[0], tower(changed)[0]
    assert_close(after[:, :4], before[:, :4], **EXACT)
    assert ((after - before).abs().amax(2)[:, 4:] > 1e-3).all()
    assert_close(tower(IDS[:, :5])[0], before[:, :5], **EXACT)      # so shorter rows are prefixes


@torch.no_grad()
def test_pictures_tokens_all_see_each_other_and_where_they_stand():
    tower, images = randomise(VisionTransformer(TINY.vision)), random(1, 2, 12, 12)
    for patch in range(9):
        row, column = 4 * (patch // 3), 4 * (patch % 3)
        other = images.clone()
        other[..., row:row + 4, column:column + 4] += 1
        assert (tower(other)[0] - tower(images)[0]).abs().amax(2).min() > 1e-3
    swapped = torch.cat([images[..., 4:8], images[..., :4], images[..., 8:]], dim=-1)
    assert (tower(swapped)[1] - tower(images)[1]).abs().max() > 1e-2


def test_quick_gelu():
    layer = QuickGELU(3, 3)
    torch.nn.init.eye_(layer.proj.weight)
    torch.nn.init.zeros_(layer.proj.bias)
    x = random(5, 3)
    assert_close(layer(x), x / (1 + torch.exp(-1.702 * x)))
    assert (layer(x) - F.gelu(x)).abs().max() < 0.021                # what it approximates


def test_temperature_starts_at_007_and_stops_at_100():
    clip = CLIP(TINY)
    assert clip.scale.item() == pytest.approx(1 / 0.07)
    clip.scale.backward()
    assert clip.logit_scale.grad > 0
    with torch.no_grad():
        clip.logit_scale.fill_(9.0)
    assert clip.scale.item() == pytest.approx(100)


def test_vectors_have_length_one():
    clip = randomise(CLIP(TINY))
    for vectors in clip.encode_text(IDS), clip.encode_images(5 * random(3, 2, 12, 12)):
        assert_close(vectors.norm(dim=1), torch.ones(3))
        assert vectors.shape == (3, 16)


def test_loss_by_hand():
    logits = random(4, 4)
    rows = -sum(logits[k, k] - logits[k].exp().sum().log() for k in range(4)) / 4
    columns = -sum(logits[k, k] - logits[:, k].exp().sum().log() for k in range(4)) / 4
    assert_close(contrastive_loss(logits), (rows + columns) / 2)
    assert_close(contrastive_loss(logits, torch.eye(4).bool()), (rows + columns) / 2)
    assert_close(contrastive_loss(torch.zeros(8, 8)), torch.tensor(math.log(8)))
    assert contrastive_loss(100 * torch.eye(5)) < 1e-6


def test_equal_meanings_share_what_is_wanted():
    """At its least the loss is the entropy of the choice among equals, and then they are not pushed apart."""
    meaning = torch.tensor([0, 1, 0, 2, 0])
    same = meaning[:, None] == meaning
    right = (100.0 * same).requires_grad_()
    loss = contrastive_loss(right, same)
    assert_close(loss, torch.tensor(3 / 5 * math.log(3)))
    loss.backward()
    assert right.grad.abs().max() < 1e-6
    alone = (100.0 * same).requires_grad_()
    contrastive_loss(alone).backward()
    assert alone.grad[0, 2] > 0.01 > -0.01 > alone.grad[0, 0]        # CLIP's own loss pushes equals apart


def test_retrieval_by_hand():
    similarity = torch.tensor([[0.9, 0.1, 0.5], [0.8, 0.2, 0.1], [0.0, 0.0, 0.6]])     # 3 images, 3 texts
    assert retrieval(similarity) == pytest.approx((1.0, 2 / 3))
    assert retrieval(similarity, k=2) == pytest.approx((1.0, 1.0))
    same = torch.tensor([[True, False, False], [True, False, False], [False, False, True]])
    assert retrieval(similarity, same) == pytest.approx((1.0, 1.0))          # text 1 is true of nothing
    assert retrieval(similarity, ~torch.eye(3).bool()) == pytest.approx((0.0, 1 / 3))
    wide = random(50, 80)
    text, image = retrieval(wide, torch.ones(50, 80).bool())
    assert text == image == 1
    assert retrieval(wide, F.one_hot(wide.argmax(0), 50).T.bool())[0] == 1


@torch.no_grad()
def test_class_vectors_are_means_of_wordings():
    clip = randomise(CLIP(TINY))
    tokens = torch.stack([IDS, IDS.flip(0)])                            # 2 classes, 3 wordings each
    found = class_vectors(clip, tokens)
    assert_close(found[0], F.normalize(clip.encode_text(IDS).sum(0), dim=0))
    assert_close(found[0], found[1])                                    # in whatever order


def test_every_parameter_learns_and_one_batch_can_be_overfitted():
    torch.manual_seed(0)
    clip, images = CLIP(TINY), random(3, 2, 12, 12)
    optimizer = torch.optim.Adam(clip.parameters(), lr=2e-3)
    contrastive_loss(clip(images, IDS)).backward()
    silent = [name for name, p in clip.named_parameters() if not p.grad.any()]
    assert silent == []
    for _ in range(40):
        optimizer.zero_grad()
        loss = contrastive_loss(clip(images, IDS))
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    assert retrieval(clip(images, IDS).detach()) == (1, 1)


def test_errors_name_the_cure():
    clip = CLIP(TINY)
    for call, words in [(lambda: clip.text_model(torch.zeros(1, 11).long()), r"tokenizer\(texts, 10\)"),
                        (lambda: clip.text_model(torch.tensor([[60]])), "token 60 of 60"),
                        (lambda: clip.vision_model(random(1, 1, 12, 12)), r"pass \(2, 12, 12\)"),
                        (lambda: VisionTransformer(VisionConfig(image_size=30)), "multiple of patch 14"),
                        (lambda: VisionTransformer(VisionConfig(3, 32, 8, stem=(4, 8))), "patch=4")]:
        with pytest.raises(MinildmError, match=words):
            call()
