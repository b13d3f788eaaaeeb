"""Recipes for CLIP: pictures that have sentences -> two towers that agree about them.

    clip, tokenizer, _ = train_clip(RECIPES["mnist"], data.images, data.labels, wordings(data))
    logits = zero_shot(clip, tokenizer, embed(clip, test.images), wordings(test, held_out=True))

Each picture has a meaning, a class or a scene, and each meaning some wordings, of which every step
draws one. Two pictures of one meaning in a batch are no opposites: the loss knows (see
`nn.clip.contrastive_loss`).
"""

from dataclasses import asdict, dataclass, replace

import torch

from minildm.data.scenes import Truth, captions
from minildm.data.sets import ImageSet
from minildm.data.tokenizer import Tokenizer
from minildm.data.wordings import wordings
from minildm.evaluation.classifier import ClassifierConfig, augment, in_batches
from minildm.images import pad_to, to_float
from minildm.nn.clip import (
    CLIP,
    CLIPConfig,
    TextConfig,
    VisionConfig,
    class_vectors,
    contrastive_loss,
)
from minildm.recipes.stages import draw_wording, seeded
from minildm.training import distributed
from minildm.training.loop import TrainConfig, fit


@dataclass(frozen=True)
class CLIPRecipe:
    """Everything that decides a CLIP but the data; the text tower's vocabulary is the tokenizer's.
    """

    clip: CLIPConfig
    training: TrainConfig
    # how far pictures are turned, zoomed and shifted; None: not at all
    augmentation: ClassifierConfig | None = None
    vocab_size: int = 600                   # at most; 514 of them are bytes, start and end


TEXT = TextConfig(0, 24, dim=64, depth=2, heads=2)
RECIPES = {
    # 2 cores of an AMD EPYC with AVX2, seed 0: zero-shot by held-out wordings 0.988; 2 minutes
    "mnist": CLIPRecipe(
        CLIPConfig(TEXT, VisionConfig(1, 32, 8, dim=96, depth=2, heads=3, stem=(32, 64, 96)), 64),
        TrainConfig(steps=1500, batch_size=64, lr=2e-3, warmup=100, decay="cosine", ema=0.98),
        ClassifierConfig(),
    ),
    # 2 cores of an AMD EPYC with AVX2, seed 0: of 256 scenes a sentence finds its own at 0.970,
    # 0.971 of combinations held out; 9.5 minutes. With lr=2e-3 it learns words, not their order:
    # 0.86 to 0.91
    "scenes": CLIPRecipe(
        CLIPConfig(
            replace(TEXT, dim=96, heads=3),
            VisionConfig(3, 32, 8, dim=96, depth=3, heads=3, stem=(32, 64, 96)),
            96,
        ),
        TrainConfig(steps=4200, batch_size=96, lr=1e-3, warmup=300, decay="cosine", ema=0.99),
        ClassifierConfig(rotation=8, zoom=0.06, shift=1),
        vocab_size=700,
    ),
    # seconds: to see that everything runs
    "scenes-smoke": CLIPRecipe(
        CLIPConfig(
            replace(TEXT, dim=32, depth=1), VisionConfig(3, 32, 8, dim=32, depth=1, heads=2), 32
        ),
        TrainConfig(steps=5, batch_size=32, lr=1e-3), vocab_size=700,
    ),
    # not measured yet
    "cifar10": CLIPRecipe(
        CLIPConfig(TEXT, VisionConfig(3, 32, 8, dim=192, depth=4, heads=6, stem=(48, 96, 192)), 64),
        TrainConfig(steps=4000, batch_size=128, lr=2e-3, warmup=100, decay="cosine", ema=0.99),
        ClassifierConfig(rotation=0, zoom=0.1, shift=3, mirror=True),
    ),
}


def train_clip(recipe: CLIPRecipe, images, meanings, sentences: list[list[str]], run_dir=None,
               bar: bool = True) -> tuple[CLIP, Tokenizer, dict]:
    """Train two towers on uint8 images (N, C, H, W). Returns the towers, the tokenizer, the
    metrics.

    Image k has the sentences of meanings[k] (N,): a list of equally many for each meaning. Images
    are padded to what the vision tower wants.
    """
    tokenizer = Tokenizer.train((text for row in sentences for text in row), recipe.vocab_size)
    config = replace(recipe.clip, text=replace(recipe.clip.text, vocab_size=len(tokenizer)))
    images = pad_to(images, config.vision.image_size)
    tokens = tokenize(tokenizer, sentences, config.text.length).to(images.device)
    # after the longest sentence's end all is padding, which costs time and says nothing
    used = (tokens == tokenizer.end).int().argmax(-1).max() + 1
    tokens = tokens[..., :used]
    with seeded(recipe.training.seed):
        clip = CLIP(config)
    clip.to(images.device)

    def loss(pictures, meaning, generator):
        asked = draw_wording(tokens, meaning, generator)
        pictures = to_float(pictures)
        if recipe.augmentation:
            pictures = augment(pictures, recipe.augmentation, generator)
        # of several processes each has a part of the batch, in which all are compared with all
        seen = distributed.gather_rows(clip.encode_images(pictures))
        said = distributed.gather_rows(clip.encode_text(asked))
        meaning = distributed.gather_rows(meaning)
        logits = clip.scale * seen @ said.T
        return {"loss": contrastive_loss(logits, meaning[:, None] == meaning), "scale": clip.scale}

    identity = {"clip": asdict(config)}
    history = fit(clip, loss, (images, meanings), recipe.training, run_dir, bar, identity)
    return clip.eval(), tokenizer, history


def tokenize(tokenizer: Tokenizer, sentences: list[list[str]], length: int):
    """Meanings x wordings of sentences -> ids (meanings, wordings, length)."""
    flat = [text for row in sentences for text in row]
    return tokenizer(flat, length).unflatten(0, (len(sentences), -1))


def embed(clip: CLIP, images):
    """uint8 images (N, C, H, W), padded as the tower wants -> unit vectors (N, projection), by
    batches.
    """
    return in_batches(clip.encode_images, pad_to(images, clip.config.vision.image_size))


def zero_shot(clip: CLIP, tokenizer: Tokenizer, vectors, sentences: list[list[str]]):
    """Cosines of images' vectors (N, projection) with classes, (N, classes): with its sentences'
    mean.
    """
    tokens = tokenize(tokenizer, sentences, clip.config.text.length).to(vectors.device)
    return vectors @ class_vectors(clip, tokens).T


def scene_pairs(images, truth: Truth, wordings: int = 4, seed: int = 0):
    """Scenes as `train_clip` wants them: images, meanings (N,), and a list of sentences for each
    meaning.

    Scenes of one meaning show the same digits in the same colours and places; all sentences say
    all of it.
    """
    rows, meanings = torch.stack([truth.digits, truth.colours, truth.places], -1).unique(
        dim=0, return_inverse=True
    )  # (M, 2, 3), (N,)
    one_each = Truth(*rows.unbind(-1), torch.zeros(len(rows), 2, 4))
    said = [captions(one_each, seed=wordings * seed + k) for k in range(wordings)]
    return images, meanings.to(images.device), [list(row) for row in zip(*said, strict=True)]


def pairs_of(images: ImageSet):
    """What `train_clip` wants of a set: images, meanings (N,), sentences of each meaning."""
    if images.truth is not None:
        return scene_pairs(images.images, images.truth)
    return images.images, images.labels, wordings(images)
