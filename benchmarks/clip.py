"""CLIP: MNIST read by wordings that training did not see; on scenes, sentences find their pictures.

Both runs go on from what build/benchmark-clip holds.
"""

import torch

from benchmarks.claims import BUILD, claims_of
from minildm import data
from minildm.data.scenes import compose
from minildm.data.wordings import wordings
from minildm.evaluation.metrics import label_accuracy
from minildm.nn.clip import retrieval
from minildm.recipes.clip import RECIPES, embed, scene_pairs, train_clip, zero_shot

claim = claims_of("clip")

RUN = BUILD / "benchmark-clip"


@torch.no_grad()
def scene_retrieval(clip, tokenizer, pairs, among: int = 256) -> tuple[float, float]:
    """Recall at 1 among so many scenes, (text -> image, image -> text): the mean over such groups.

    Each image has one sentence; another image of the same meaning is right, too.
    """
    images, meanings, sentences = pairs
    texts = tokenizer([sentences[m][0] for m in meanings.tolist()], clip.config.text.length)
    images, texts = embed(clip, images), clip.encode_text(texts.to(images.device))
    found = []
    groups = zip(images.split(among), texts.split(among), meanings.split(among), strict=True)
    for image, text, meaning in groups:
        found.append(retrieval(image @ text.T, meaning[:, None] == meaning))
    return tuple(torch.tensor(found).mean(0).tolist())


def measure():
    yield from zero_shot_on_mnist()
    yield from retrieval_of_scenes()


def zero_shot_on_mnist():
    train, test = data.load("mnist"), data.load("mnist", "test")
    towers, tokenizer, history = train_clip(
        RECIPES["mnist"], train.images, train.labels, wordings(train), RUN / "mnist")
    seconds = sum(history["seconds"])
    vectors, held_out = embed(towers, test.images), wordings(test, held_out=True)

    def accuracy(sentences) -> float:
        return label_accuracy(zero_shot(towers, tokenizer, vectors, sentences), test.labels)

    alone = [accuracy([[text] for text in column]) for column in zip(*held_out, strict=True)]
    yield claim("MNIST zero-shot, held-out wordings", accuracy(held_out), seconds)
    yield claim("MNIST zero-shot, the worst held-out wording alone", min(alone), seconds)


def retrieval_of_scenes():
    train, test = data.load("scenes"), data.load("mnist", "test")
    towers, tokenizer, history = train_clip(
        RECIPES["scenes"], *scene_pairs(train.images, train.truth), RUN / "scenes")
    seconds = sum(history["seconds"])
    yield claim("minutes of training on scenes", seconds / 60, seconds)
    for suffix, held_out in ("", False), (", held-out combinations", True):
        images, truth = compose(test.images, test.labels, 2560, seed=1, held_out=held_out)
        to_image, _ = scene_retrieval(towers, tokenizer, scene_pairs(images, truth, seed=1))
        yield claim(f"scenes, sentence to picture among 256{suffix}", to_image, seconds)
