"""CLIP: one transformer encodes texts, another encodes pictures, and both point into one space.

A picture and its text should have similar vectors, and no other pair of a batch: with unit vectors
i, t,

    logits = exp(scale) i t^T;   loss = (cross-entropy of its rows + of its columns) / 2

(Radford et al. 2021, figure 3, arXiv:2103.00020). The states of the text tower's tokens are also
the context that a U-Net's cross-attention reads. `CLIPConfig()` is ViT-L/14: 427,616,513
parameters, 123,060,480 of them in Stable Diffusion 1.5's text encoder, `TextConfig()`.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError
from minildm.devices import readable
from minildm.nn import bounds
from minildm.nn.layers import ACTIVATIONS, Attention, FeedForward


@dataclass(frozen=True)
class TextConfig:
    """The numbers that define a `TextTransformer`."""

    vocab_size: int = 49408     # the end token's id must be the largest: see `TextTransformer`
    length: int = 77          # tokens of a text, start and end among them; shorter rows are welcome
    dim: int = 768              # width of a token, the U-Net's context_dim
    depth: int = 12             # blocks
    heads: int = 12
    activation: str = "quick_gelu"      # or "gelu"

    def __post_init__(self):
        at = "TextConfig"
        bounds.check_choice(at, ACTIVATIONS, activation=self.activation)
        # 0 until a tokenizer is trained, whose size it then gets
        bounds.check_int(at, 0, bounds.ENTRIES, vocab_size=self.vocab_size)
        bounds.check_int(at, 1, bounds.WIDTH, length=self.length, dim=self.dim, heads=self.heads)
        bounds.check_int(at, 1, bounds.DEPTH, depth=self.depth)
        bounds.check_divides(at, self.heads, "heads", self.dim)


@dataclass(frozen=True)
class VisionConfig:
    """The numbers that define a `VisionTransformer`."""

    in_channels: int = 3
    image_size: int = 224       # side; pictures are float, in [-1, 1] for ours
    patch: int = 14             # side of the square that is one token
    dim: int = 1024
    depth: int = 24
    heads: int = 16
    # channels of convolutions that each halve the sides, in place of one linear map a patch
    stem: tuple[int, ...] = ()

    def __post_init__(self):
        at = "VisionConfig"
        bounds.check_int(at, 1, bounds.WIDTH, in_channels=self.in_channels, dim=self.dim,
                         heads=self.heads)
        bounds.check_int(at, 1, bounds.SIDE, image_size=self.image_size, patch=self.patch)
        bounds.check_int(at, 1, bounds.DEPTH, depth=self.depth)
        bounds.check_divides(at, self.heads, "heads", self.dim)
        if self.stem not in ((), []):
            bounds.check_ints(at, bounds.LEVELS, bounds.WIDTH, stem=self.stem)
        if self.image_size % self.patch:
            raise MinildmError(f"side {self.image_size} is no multiple of patch {self.patch}", at,
                               "change one")
        if self.stem and self.patch != 2**len(self.stem):
            raise MinildmError(f"a stem of {len(self.stem)} for patch {self.patch}", at,
                               f"each halves the sides: patch={2**len(self.stem)}")


@dataclass(frozen=True)
class CLIPConfig:
    """The numbers that define a `CLIP`."""

    text: TextConfig = TextConfig()
    vision: VisionConfig = VisionConfig()
    projection: int = 768       # dimensions of the common space

    def __post_init__(self):
        at = "CLIPConfig"
        bounds.check_int(at, 1, bounds.WIDTH, projection=self.projection)
        for tower, kind in (self.text, TextConfig), (self.vision, VisionConfig):
            if not isinstance(tower, kind):
                raise MinildmError(f"a tower is {bounds.shown(tower)}", at,
                                   f"pass a {kind.__name__}")


class EncoderBlock(nn.Module):
    """Self-attention under a mask, then a feed-forward network; a LayerNorm before each.

    transformers' names: norm1 layer_norm1, attn1 self_attn, norm2 layer_norm2, ff.net.0.proj
    mlp.fc1, ff.net.2 mlp.fc2.
    """

    def __init__(self, dim: int, heads: int, activation: str = "quick_gelu"):
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(dim), Attention(dim, heads=heads, bias=True)
        self.norm2, self.ff = nn.LayerNorm(dim), FeedForward(dim, kind=ACTIVATIONS[activation])

    def forward(self, x, mask=None):
        x = x + self.attn1(self.norm1(x), mask=mask)
        return x + self.ff(self.norm2(x))


class TextTransformer(nn.Module):
    """Token ids (B, L) -> the tokens' states (B, L, D) and the text's, pooled (B, D).

    The mask is causal, so a token's state depends on the tokens before it alone; pooled is the
    state of the first end token, the largest id, which depends on all. States have been through the
    last norm, as Stable Diffusion wants them. Padding is not masked: its states carry the text.
    """

    def __init__(self, config: TextConfig):
        super().__init__()
        self.config = c = config
        self.token_embedding = nn.Embedding(c.vocab_size, c.dim)
        self.position_embedding = nn.Embedding(c.length, c.dim)
        sizes = c.dim, c.heads, c.activation
        self.blocks = nn.ModuleList(EncoderBlock(*sizes) for _ in range(c.depth))
        self.final_norm = nn.LayerNorm(c.dim)
        init_weights(self)

    def forward(self, ids):
        length = ids.shape[1]
        if length > self.config.length:
            raise MinildmError(f"{length} tokens, the tower reads {self.config.length}",
                               "TextTransformer", f"tokenizer(texts, {self.config.length})")
        if readable(ids) and ids.numel() and ids.max() >= self.config.vocab_size:
            raise MinildmError(f"token {ids.max().item()} of {self.config.vocab_size}",
                               "TextTransformer", "use the tokenizer that it was trained with")
        positions = self.position_embedding.weight[:length]                # (L, D)
        x = self.token_embedding(ids) + positions      # (B, L, D)
        mask = torch.full((length, length), -math.inf, dtype=x.dtype, device=x.device)
        mask = mask.triu(1)                                              # no token sees a later one
        for block in self.blocks:
            x = block(x, mask)
        x = self.final_norm(x)
        rows = torch.arange(len(ids), device=ids.device)
        # argmax finds the first of equal ids: padding is made of end tokens, too
        return x, x[rows, ids.argmax(1)]


class VisionTransformer(nn.Module):
    """Pictures (B, C, S, S) -> the tokens' states (B, 1 + n, D) and the picture's, pooled (B, D).

    The tokens are the n patches, and before them a class token, whose state is the picture's
    (Dosovitskiy et al. 2021, eq. 1-4, arXiv:2010.11929). CLIP adds a norm before the first block:
    pre_norm is transformers' pre_layrnorm, and post_norm, for the class token alone, its
    post_layernorm. A patch goes through one linear map; on few pictures a stem of convolutions
    learns more (Xiao et al. 2021, arXiv:2106.14881).
    """

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.config = c = config
        self.class_embedding = nn.Parameter(torch.empty(c.dim))
        # and one position more, the class token's
        patches = (c.image_size // c.patch) ** 2
        self.patch_embedding = nn.Conv2d(c.in_channels, c.dim, c.patch, stride=c.patch, bias=False)
        if c.stem:
            self.patch_embedding = convolutional_stem([c.in_channels, *c.stem], c.dim)
        self.position_embedding = nn.Embedding(1 + patches, c.dim)
        self.pre_norm = nn.LayerNorm(c.dim)
        self.blocks = nn.ModuleList(EncoderBlock(c.dim, c.heads) for _ in range(c.depth))
        self.post_norm = nn.LayerNorm(c.dim)
        init_weights(self)
        nn.init.normal_(self.class_embedding, std=c.dim**-0.5)

    def forward(self, images):
        c = self.config
        if images.shape[1:] != (c.in_channels, c.image_size, c.image_size):
            raise MinildmError(f"pictures are {tuple(images.shape[1:])}", "VisionTransformer",
                               f"pass ({c.in_channels}, {c.image_size}, {c.image_size}): "
                               "see data.pad_to")
        patches = self.patch_embedding(images).flatten(2).transpose(1, 2)  # (B, n, D)
        class_token = self.class_embedding.expand(len(images), 1, -1)      # (B, 1, D)
        x = torch.cat([class_token, patches], dim=1)                       # (B, 1 + n, D)
        x = self.pre_norm(x + self.position_embedding.weight)
        for block in self.blocks:
            x = block(x)
        return x, self.post_norm(x[:, 0])


def convolutional_stem(channels: list[int], dim: int) -> nn.Sequential:
    """n convolutions of stride 2 and a linear map: (B, C, S, S) -> (B, dim, S / 2^n, S / 2^n)."""
    layers = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv2d(channels[-1], dim, 1))


def init_weights(tower):
    """As in CLIP's code: the layer that ends a residual step starts smaller in deeper towers."""
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
    """Both towers and their projections into one space, which have no bias.

    Names of parameters are transformers', but for those inside the towers.
    """

    compiled_parts = ("text_model", "vision_model")     # see `training.recorded`

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config = c = config
        self.text_model = TextTransformer(c.text)
        self.vision_model = VisionTransformer(c.vision)
        self.text_projection = nn.Linear(c.text.dim, c.projection, bias=False)
        self.visual_projection = nn.Linear(c.vision.dim, c.projection, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        nn.init.normal_(self.text_projection.weight, std=c.text.dim**-0.5)
        nn.init.normal_(self.visual_projection.weight, std=c.vision.dim**-0.5)

    @property
    def scale(self):
        """The learned inverse temperature that multiplies similarities, at most 100 (CLIP, 2.5)."""
        # beyond 100 the training of CLIP became unstable
        return self.logit_scale.clamp(max=math.log(100)).exp()

    def encode_text(self, ids):
        """Ids (B, L) -> unit vectors (B, projection)."""
        # float32: in bf16 the lengths would be off by up to half a percent
        _, pooled = self.text_model(ids)
        return F.normalize(self.text_projection(pooled).float(), dim=-1)

    def encode_images(self, images):
        """Pictures (B, C, S, S) in [-1, 1] -> unit vectors (B, projection)."""
        _, pooled = self.vision_model(images)
        return F.normalize(self.visual_projection(pooled).float(), dim=-1)

    def forward(self, images, ids):
        """logits (images, texts): the scaled cosine of each picture with each text."""
        return self.scale * self.encode_images(images) @ self.encode_text(ids).T


def contrastive_loss(logits, same=None):
    """Cross-entropy of each picture over the texts and of each text over the pictures: a scalar.

    logits (B, B) are CLIP's, and pair k is (k, k) (Radford et al. 2021, figure 3). `same` (B, B)
    bool says which texts are true of which pictures; then all the true ones of a row are the
    target, in equal shares, and two pictures of a three don't count as different (UniCL: Yang et
    al. 2022, eq. 3-5, arXiv:2204.03610).
    """
    if same is None:
        same = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    wanted = same.to(logits.dtype)
    over_texts = wanted / wanted.sum(1, keepdim=True)                      # each row sums to 1
    over_pictures = wanted.T / wanted.sum(0)[:, None]
    by_picture = F.cross_entropy(logits, over_texts)
    by_text = F.cross_entropy(logits.T, over_pictures)
    return (by_picture + by_text) / 2


def retrieval(similarity, same=None, k: int = 1) -> tuple[float, float]:
    """Recall at k from similarity (images, texts): (text -> image, image -> text).

    It is how often a right answer is among the k most similar. `same` (images, texts) bool says
    what is right; by default pair k is (k, k). Texts that are true of no image, and images without
    a text, are left out.
    """
    if same is None:
        same = torch.eye(*similarity.shape, dtype=torch.bool, device=similarity.device)
    recall = []
    for dim in 0, 1:                                                       # over images, over texts
        near = similarity.topk(min(k, similarity.shape[dim]), dim=dim).indices
        found = same.gather(dim, near).any(dim)
        asked = same.any(dim)
        recall.append(found[asked].float().mean().item())
    return tuple(recall)


@torch.no_grad()
def class_vectors(clip: CLIP, tokens):
    """Zero-shot weights: tokens (classes, wordings, L) -> unit vectors (classes, projection).

    A class's vector is the mean over its wordings, normalised again: prompt ensembling (Radford et
    al. 2021, 3.1.4).
    """
    vectors = clip.encode_text(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
    return F.normalize(vectors.mean(1), dim=-1)
