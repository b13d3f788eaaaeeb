"""The check of lesson 06 on a picture's tokens: its squares, the class token and their places."""

import torch
from torch import nn

from minildm.course.exercises.answer import compare_gradients, copy_weights
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_06_towers import check_small, spread
from minildm.nn import clip


class PatchEmbedding(nn.Module):
    """Pictures (B, C, S, S) -> a class token, then the patches' tokens: (B, 1 + n, D)."""

    def __init__(self, channels, side, patch, dim):
        super().__init__()
        self.patch = patch
        self.class_token = nn.Parameter(0.02 * torch.randn(dim))
        self.places = nn.Parameter(0.02 * torch.randn(1 + (side // patch)**2, dim))
        self.linear = nn.Linear(channels * patch**2, dim, bias=False)

    def cut(self, images):
        p = self.patch
        squares = images.unflatten(3, (-1, p)).unflatten(2, (-1, p))        # (B, C, h, p, w, q)
        return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)   # (B, h w, C p q)

    def forward(self, images):
        first = self.class_token.expand(len(images), 1, -1)
        return torch.cat([first, self.linear(self.cut(images))], dim=1) + self.places


@check(reference=PatchEmbedding, forbidden=[clip.VisionTransformer])
def check_PatchEmbedding(answer):
    # channels unlike the patch, so that no two axes can stand in for each other
    for sizes, batch in ((3, 8, 4, 10), 2), ((2, 15, 3, 7), 3), ((5, 4, 2, 6), 2):
        wanted = spread(PatchEmbedding(*sizes))
        fresh = answer(*sizes)
        dim, tokens = sizes[3], len(wanted.places)
        check_small(fresh, "places and class token", [(tokens, dim)])
        copy_weights(fresh, wanted)
        x = randn(batch, sizes[0], sizes[1], sizes[1]).requires_grad_()
        want = wanted(x)
        got = answer.wrap(fresh, names=["images"]).case(
            (x,), want, likely_embeddings(wanted, x),
            where=f"pictures {tuple(x.shape)} in patches of {sizes[2]}")
        compare_gradients(got, want, images=x)


def likely_embeddings(layer, x):
    """{cause: tokens} of a patch embedding with a likely mistake."""
    p, patches = layer.patch, layer.cut(x)
    first = layer.class_token.expand(len(x), 1, -1)
    squares = x.unflatten(3, (-1, p)).unflatten(2, (-1, p))                 # (B, C, h, p, w, q)
    strides = x.unflatten(3, (p, -1)).unflatten(2, (p, -1))                 # (B, C, p, h, q, w)

    def of(patches):
        return torch.cat([first, layer.linear(patches)], dim=1) + layer.places

    def by(*order, axes=squares):
        return of(axes.permute(0, *order).flatten(3).flatten(1, 2))

    # what the patches say, before the class token is put in front
    said = layer.linear(patches)
    return {
        "reshape alone keeps the order in memory, which is whole rows: permute before it":
            of(x.reshape(patches.shape)),
        "tokens go row by row: this is column by column": by(4, 2, 1, 3, 5),
        "a patch's numbers go channel first: C, then rows, then columns": by(2, 4, 3, 5, 1),
        "in a patch rows come before columns": by(2, 4, 1, 5, 3),
        "patches stand on their side: columns come before rows in both": by(4, 2, 1, 5, 3),
        "the channels come between rows and columns: they come first": by(2, 4, 3, 1, 5),
        "these are every n-th pixel, not neighbours": by(3, 5, 1, 2, 4, axes=strides),
        "the class token stands in front, not at the end":
            torch.cat([said, first], dim=1) + layer.places,
        "the class token is missing": said + layer.places[1:],
        "the places are missing": torch.cat([first, said], dim=1),
        "the class token has a place, too: the first":
            torch.cat([first, said + layer.places[1:]], dim=1),
        "patches have places from the second on: the first is the class token's":
            torch.cat([first + layer.places[-1], said + layer.places[:-1]], dim=1),
        "the batch's first picture is everybody's": of(patches[:1].expand_as(patches)),
    }
