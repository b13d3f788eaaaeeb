"""CLIP: one transformer reads sentences, another looks at pictures, and both point into one space.

A picture and its sentence should point the same way, and no other pair of a batch: with unit vectors i, t,

    logits = exp(scale) i t^T;   loss = (cross-entropy of its rows + of its columns) / 2

(Radford et al. 2021, arXiv:2103.00020, figure 3). The text tower's token states are also what a U-Net's
cross-attention looks at. `CLIPConfig()` is ViT-L/14: 427,616,513 parameters, of which Stable Diffusion 1.5's
text encoder, `TextConfig()`, has 123,060,480. Ours differ in numbers only.
"""

import math
from dataclasses import dataclass
from itertools import chain, pairwise

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError
from minildm.nn.layers import Attention, FeedForward, QuickGELU


@dataclass(frozen=True)
class TextConfig:
    vocab_size: int = 49408     # the end token's id must be the largest: see `TextTransformer`
    length: int = 77            # tokens of a text, start and end among them; shorter rows are welcome
    dim: int = 768              # width of a token, the U-Net's context_dim
    depth: int = 12             # blocks
    heads: int = 12


@dataclass(frozen=True)
class VisionConfig:
    in_channels: int = 3
    image_size: int = 224       # side; pictures are float, in [-1, 1] for ours
    patch: int = 14             # side of the square that is one token
    dim: int = 1024
    depth: int = 24
    heads: int = 16
    stem: tuple[int, ...] = ()  # channels of convolutions that halve the sides, in place of the patch's own


@dataclass(frozen=True)
class CLIPConfig:
    text: TextConfig = TextConfig()
    vision: VisionConfig = VisionConfig()
    projection: int = 768       # dimensions of the common space


class Block(nn.Module):
    """Tokens look at each other, as far as the mask lets them, then think; each after a LayerNorm.

    transformers' names: norm1 layer_norm1, attn1 self_attn, norm2 layer_norm2, ff.net.0.proj mlp.fc1,
    ff.net.2 mlp.fc2.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(dim), Attention(dim, heads=heads, bias=True)
        self.norm2, self.ff = nn.LayerNorm(dim), FeedForward(dim, kind=QuickGELU)

    def forward(self, x, mask=None):
        x = x + self.attn1(self.norm1(x), mask=mask)
        return x + self.ff(self.norm2(x))


class TextTransformer(nn.Module):
    """Ids (B, L) -> (states (B, L, D), pooled (B, D)): each token's state, which knows the tokens before it
    alone (a causal mask), and the state at the first end token, which has read the whole text.

    The end token is found as the largest id. States have been through the last norm, as Stable Diffusion
    wants them; padding is not masked: those states carry the sentence, too.
    """

    def __init__(self, config: TextConfig):
        super().__init__()
        self.config = c = config
        self.token_embedding = nn.Embedding(c.vocab_size, c.dim)
        self.position_embedding = nn.Embedding(c.length, c.dim)
        self.blocks = nn.ModuleList(Block(c.dim, c.heads) for _ in range(c.depth))
        self.final_norm = nn.LayerNorm(c.dim)
        init_weights(self)

    def forward(self, ids):
        length = ids.shape[1]
        if length > self.config.length:
            raise MinildmError(f"{length} tokens, the tower reads {self.config.length}", "TextTransformer",
                               f"tokenizer(texts, {self.config.length})")
        if ids.numel() and ids.max() >= self.config.vocab_size:
            raise MinildmError(f"token {ids.max().item()} of {self.config.vocab_size}", "TextTransformer",
                               "use the tokenizer that it was trained with")
        x = self.token_embedding(ids) + self.position_embedding.weight[:length]             # (B, L, D)
        mask = torch.full((length, length), -math.inf, dtype=x.dtype, device=x.device).triu(1)
        for block in self.blocks:
            x = block(x, mask)
        x = self.final_norm(x)
        return x, x[torch.arange(len(ids), device=ids.device), ids.argmax(1)]


class VisionTransformer(nn.Module):
    """Pictures (B, C, S, S) -> (states (B, 1 + n, D), pooled (B, D)): patches, and before them a class token
    that collects what the picture shows (Dosovitskiy et al. 2021, eq. 1-4, arXiv:2010.11929).

    CLIP has one more norm, before the first block. pre_norm is pre_layrnorm in transformers, post_norm, of
    the class token alone, post_layernorm. A patch goes through one linear map; a small set of pictures gets
    further with a stem of few convolutions (Xiao et al. 2021, arXiv:2106.14881).
    """

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.config = c = config
        if c.image_size % c.patch:
            raise MinildmError(f"side {c.image_size} is no multiple of patch {c.patch}", "VisionConfig",
                               "change one")
        if c.stem and c.patch != 2**len(c.stem):
            raise MinildmError(f"a stem of {len(c.stem)} for patch {c.patch}", "VisionConfig",
                               f"each halves the sides: patch={2**len(c.stem)}")
        self.class_embedding = nn.Parameter(torch.empty(c.dim))
        self.patch_embedding = nn.Conv2d(c.in_channels, c.dim, c.patch, stride=c.patch, bias=False)
        if c.stem:
            convs = [(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GELU())
                     for a, b in pairwise([c.in_channels, *c.stem])]
            self.patch_embedding = nn.Sequential(*chain(*convs), nn.Conv2d(c.stem[-1], c.dim, 1))
        self.position_embedding = nn.Embedding(1 + (c.image_size // c.patch)**2, c.dim)
        self.pre_norm = nn.LayerNorm(c.dim)
        self.blocks = nn.ModuleList(Block(c.dim, c.heads) for _ in range(c.depth))
        self.post_norm = nn.LayerNorm(c.dim)
        init_weights(self)
        nn.init.normal_(self.class_embedding, std=c.dim**-0.5)

    def forward(self, images):
        c = self.config
        if images.shape[1:] != (c.in_channels, c.image_size, c.image_size):
            raise MinildmError(f"pictures are {tuple(images.shape[1:])}", "VisionTransformer",
                               f"pass ({c.in_channels}, {c.image_size}, {c.image_size}): see data.pad_to")
        patches = self.patch_embedding(images).flatten(2).transpose(1, 2)                   # (B, n, D)
        x = torch.cat([self.class_embedding.expand(len(images), 1, -1), patches], dim=1)    # (B, 1 + n, D)
        x = self.pre_norm(x + self.position_embedding.weight)
        for block in self.blocks:
            x = block(x)
        return x, self.post_norm(x[:, 0])


def init_weights(tower):
    """As in CLIP's code: embeddings 0.02, what ends a residual step smaller with depth, biases zero."""
    width, depth = tower.config.dim, tower.config.depth
    for name, p in tower.named_parameters():
        if name.endswith("embedding.weight"):
            nn.init.normal_(p, std=0.02)
        elif name.endswith(".bias"):
            nn.init.zeros_(p)
        elif name.endswith("attn1.to_out.0.weight") or name.endswith("ff.net.2.weight"):
            nn.init.normal_(p, std=width**-0.5 * (2 * depth)**-0.5)
        elif "attn1" in name:
            nn.init.normal_(p, std=width**-0.5)
        elif name.endswith("ff.net.0.proj.weight"):
            nn.init.normal_(p, std=(2 * width)**-0.5)


class CLIP(nn.Module):
    """Both towers and their way into one space; the projections have no bias.

    `text_model`, `vision_model`, `text_projection`, `visual_projection`, `logit_scale`: transformers' names.
    """

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config = c = config
        self.text_model, self.vision_model = TextTransformer(c.text), VisionTransformer(c.vision)
        self.text_projection = nn.Linear(c.text.dim, c.projection, bias=False)
        self.visual_projection = nn.Linear(c.vision.dim, c.projection, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        nn.init.normal_(self.text_projection.weight, std=c.text.dim**-0.5)
        nn.init.normal_(self.visual_projection.weight, std=c.vision.dim**-0.5)

    @property
    def scale(self):
        """What similarities are multiplied by: the inverse temperature, learned, at most 100 (CLIP, 2.5)."""
        return self.logit_scale.clamp(max=math.log(100)).exp()

    def encode_text(self, ids):
        """Ids (B, L) -> unit vectors (B, projection)."""
        return F.normalize(self.text_projection(self.text_model(ids)[1]).float(), dim=-1)

    def encode_images(self, images):
        """Pictures (B, C, S, S) in [-1, 1] -> unit vectors (B, projection)."""
        return F.normalize(self.visual_projection(self.vision_model(images)[1]).float(), dim=-1)

    def forward(self, images, ids):
        """logits (images, texts): the scaled cosine of each picture with each sentence."""
        return self.scale * self.encode_images(images) @ self.encode_text(ids).T


def contrastive_loss(logits, same=None):
    """Cross-entropy of each picture over the sentences and of each sentence over the pictures: a scalar.

    logits (B, B): CLIP's, whose pair k is (k, k) (Radford et al. 2021, figure 3). `same` (B, B) bool says
    which sentences are true of which pictures: then all of a row's true ones are wanted, in equal shares, so
    that two pictures of a three don't count as each other's opposite (UniCL, Yang et al. 2022, eq. 3-5,
    arXiv:2204.03610).
    """
    if same is None:
        same = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    wanted = same.to(logits.dtype)
    by_picture = F.cross_entropy(logits, wanted / wanted.sum(1, keepdim=True))
    by_text = F.cross_entropy(logits.T, wanted.T / wanted.sum(0)[:, None])
    return (by_picture + by_text) / 2


def retrieval(similarity, same=None, k: int = 1) -> tuple[float, float]:
    """Recall at k, (text -> image, image -> text), of similarity (images, texts): how often what is right
    stands among the k nearest. `same` (images, texts) says what is right; by default pair k is (k, k).

    Sentences that are true of no image, and images without a sentence, are not asked.
    """
    if same is None:
        same = torch.eye(*similarity.shape, dtype=torch.bool, device=similarity.device)
    recall = []
    for dim in 0, 1:                                                    # over images, over texts
        near = similarity.topk(min(k, similarity.shape[dim]), dim=dim).indices
        asked = same.any(dim)
        recall.append(same.gather(dim, near).any(dim)[asked].float().mean().item())
    return tuple(recall)


@torch.no_grad()
def class_vectors(clip: CLIP, tokens):
    """Zero-shot weights: tokens (classes, wordings, L) -> (classes, projection), unit vectors.

    The mean over a class's wordings, normalised again: prompt ensembling (Radford et al. 2021, 3.1.4).
    """
    vectors = clip.encode_text(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
    return F.normalize(vectors.mean(1), dim=-1)
