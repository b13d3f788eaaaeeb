"""The checks of lesson 10 on what goes in and comes out: patches, and the label's vector."""

import torch
from torch import nn

from minildm.course.exercises.answer import Answer, copy_weights
from minildm.course.exercises.compare import compare, describe, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.nn import dit


def patchify(x, p):
    squares = x.unflatten(3, (-1, p)).unflatten(2, (-1, p))                 # (B, C, h, p, w, q)
    return squares.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)       # (B, h w, p q C)


@check(reference=patchify)
def check_patchify(answer):
    # unequal sides, and channels unlike p
    for shape, p in ((2, 3, 4, 6), 2), ((3, 2, 15, 6), 3), ((2, 5, 8, 12), 4):
        x = randn(*shape)
        want = patchify(x, p)
        squares = x.unflatten(3, (-1, p)).unflatten(2, (-1, p))             # (B, C, h, p, w, q)
        strides = x.unflatten(3, (p, -1)).unflatten(2, (p, -1))             # (B, C, p, h, q, w)

        def tokens(*order, axes=squares):
            return axes.permute(0, *order).flatten(3).flatten(1, 2)

        answer.case((x, p), want, {
            "in each square, pixels first, then channels: (p, q, C), not (C, p, q)":
                tokens(2, 4, 1, 3, 5),
            "in each square, pixels first, then channels: (p, q, C), not (C, q, p)":
                tokens(2, 4, 1, 5, 3),
            "in each square, pixels first, then channels: (p, q, C), not (p, C, q)":
                tokens(2, 4, 3, 1, 5),
            "squares go row by row, not column by column": tokens(4, 2, 3, 5, 1),
            "the pixels of a square go row by row": tokens(2, 4, 5, 3, 1),
            "squares and their pixels go row by row: rows and columns changed places":
                tokens(4, 2, 5, 3, 1),
            "these are every n-th pixel, not neighbours: p is the inner axis":
                tokens(3, 5, 2, 4, 1, axes=strides),
            "reshape keeps the numbers in their order: permute first": x.reshape(want.shape),
            "channels last, and yet reshape keeps whole rows together: split both axes first":
                x.permute(0, 2, 3, 1).reshape(want.shape),
            "tokens are the second axis, their width the last": want.mT,
            "the tokens of all pictures stand in one row: keep the batch": want.flatten(0, 1),
            "the squares still are squares: flatten each": want.unflatten(2, (p, p, -1)),
            "the tokens still stand in rows and columns: flatten them":
                want.unflatten(1, (shape[2] // p, -1)),
        }, where=f"shape {shape} and p = {p}")


def unpatchify(tokens, h, p):
    squares = tokens.unflatten(2, (p, p, -1)).unflatten(1, (h, -1))         # (B, h, w, p, q, C)
    return squares.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)       # (B, C, h p, w q)


@check(reference=unpatchify, forbidden=[dit.unpatchify])
def check_unpatchify(answer):
    for (batch, channels, h, w), p in ((2, 3, 2, 3), 2), ((3, 2, 5, 2), 3), ((2, 5, 2, 3), 4):
        tokens = randn(batch, h * w, p * p * channels)
        want = unpatchify(tokens, h, p)
        squares = tokens.unflatten(2, (p, p, -1)).unflatten(1, (h, -1))     # (B, h, w, p, q, C)
        channels_first = tokens.unflatten(2, (-1, p, p)).unflatten(1, (h, -1))

        def joined(*order, axes=squares):
            moved = axes.permute(0, *order)
            return moved.flatten(4).flatten(2, 3)

        answer.case((tokens, h, p), want, {
            "in each token pixels come first, then channels: (p, q, C), not (C, p, q)":
                joined(3, 1, 4, 2, 5, axes=channels_first),
            "the pixels of a square go row by row: its rows and columns changed places":
                joined(5, 1, 4, 2, 3),
            "each row of squares is p rows of pixels: the axes h and p belong together":
                joined(5, 3, 1, 4, 2),
            "reshape keeps the numbers in their order: permute first": tokens.reshape(want.shape),
            "channels are the second axis": want.movedim(1, -1),
            "the squares' rows and columns changed places":
                unpatchify(tokens.unflatten(1, (w, h)).transpose(1, 2).flatten(1, 2), h, p),
            "h is the number of rows of squares, not of columns":
                unpatchify(tokens, w, p),
        }, where=f"{h} rows of {w} squares and p = {p}")


class LabelEmbedding(nn.Module):
    """labels (B,) -> vectors (B, dim); the table's last row stands for "no class"."""

    def __init__(self, classes, dim):
        super().__init__()
        self.null = classes
        self.table = nn.Embedding(classes + 1, dim)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, labels, dropped=None):
        if dropped is not None:
            labels = torch.where(dropped, self.null, labels)
        return self.table(labels)


@check(reference=LabelEmbedding)
def check_LabelEmbedding(answer):
    for classes, dim in ((4, 30), (7, 50)):
        module = answer(classes, dim)
        if not isinstance(module, nn.Module):
            fail(f"hand over the class: this made {describe(module)}")
        check_table(module, classes, dim)
        wanted = LabelEmbedding(classes, dim)
        with torch.no_grad():
            wanted.table.weight.copy_(randn(classes + 1, dim, seed=3))
        copy_weights(module, wanted)
        table = wanted.table.weight
        labels = torch.tensor([2, 0, classes, 3, 1, 2])
        dropped = torch.tensor([False, True, False, True, False, False])
        module_answer = Answer(module, ["labels", "dropped"])
        compare(module_answer(labels, None), table[labels], {
            "without `dropped` no label is dropped": table[-1:].expand(6, -1),
        }, where="nothing is dropped")
        compare(module_answer(labels, dropped), wanted(labels, dropped), {
            "`dropped` says which labels are replaced, not which are kept":
                wanted(labels, ~dropped),
            "`dropped` is left aside": table[labels],
            "a dropped label has the last row, not the first":
                table[torch.where(dropped, 0, labels)],
            "a dropped label has the last row of the table, which is learned, and not zeros":
                torch.where(dropped[:, None], 0.0, table[labels]),
            "a dropped label has the last row alone, its own is not added":
                table[labels] + dropped[:, None] * table[-1],
            "the last row is that of number `classes`, behind those of 0 to classes - 1":
                table[torch.where(dropped, classes - 1, labels)],
        }, where="two of six labels are dropped")
        answer.right += 1


def check_table(module, classes: int, dim: int):
    """Whether a fresh embedding is one table of the right size with small numbers."""
    shapes = [tuple(weight.shape) for weight in module.parameters()]
    if (classes, dim) in shapes:
        fail(f"the table has {classes} rows, {classes + 1} are wanted: one more, for \"no class\"")
    if shapes != [(classes + 1, dim)]:
        fail(f"its parameters are {shapes}: one table ({classes + 1}, {dim}) is wanted")
    spread = next(module.parameters()).std().item()
    if not 0.012 < spread < 0.03:
        fail(f"a fresh table has standard deviation {spread:.3f}: 0.02 is wanted")
