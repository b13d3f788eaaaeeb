"""The checks of lesson 00."""

import torch

from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.course.plotting import grid
from minildm.evaluation import metrics
from minildm.images import to_uint8 as package_to_uint8


def to_uint8(x):
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


@check(reference=to_uint8, forbidden=[package_to_uint8])
def check_to_uint8(answer):
    for shape in (1, 1, 4, 6), (3, 2, 5, 7):
        count = torch.Size(shape).numel()
        # no fraction near 1/2: two right formulas may round it to two bytes
        fraction = 0.15 * (torch.arange(count) % 6) - 0.4
        grey = (torch.linspace(-30, 290, count).round() + fraction).reshape(shape)
        x = grey / 127.5 - 1
        want = grey.round().clamp(0, 255).byte()
        answer.case((x,), want, {
            "255 + 1 is 0 in uint8, so white turns black: clamp first": grey.round().long().byte(),
            "the fraction was cut off: round": grey.clamp(0, 255).byte(),
            "-1 is black, not grey: add 1 first":
                (x * 127.5).round().clamp(0, 255).byte(),
            "the range is 2 wide: times 127.5":
                (2 * grey).round().clamp(0, 255).byte(),
            "black is 0, not 1: the range is 0 to 255": want.clamp(min=1),
            "the pictures go from -1 to 1, not from 0 to 1":
                (x * 255).round().clamp(0, 255).byte(),
        }, tol=0)


def montage(images, cols):
    _, _, height, width = images.shape
    tiles = images.reshape(-1, cols, height, width)
    rows = tiles.shape[0]
    return tiles.permute(0, 2, 1, 3).reshape(rows * height, cols * width)


@check(reference=montage, forbidden=[grid])
def check_montage(answer):
    # rows, columns, height and width differ, so that no mix-up fits by chance
    for n, cols, height, width in (6, 3, 4, 5), (8, 2, 7, 3), (1, 1, 4, 3):
        x = randn(n, 1, height, width)
        rows = n // cols
        want = montage(x, cols)
        by_rows = x.reshape(rows, cols, height, width)
        by_columns = x.reshape(cols, rows, height, width)
        on_side = by_rows.permute(0, 3, 1, 2)
        answer.case((x, cols), want, {
            "reshape alone keeps the order in memory: permute before it": x.reshape(want.shape),
            "the first pictures are the first row, not the first column":
                by_columns.permute(1, 2, 0, 3).reshape(want.shape),
            "the pictures lie on their side": on_side.reshape(rows * width, cols * height),
            "cols is the number in a row": montage(x, rows),
            "the rows of pictures stand upside down":
                montage(by_rows.flip(0).reshape(x.shape), cols),
        }, where=f"{n} pictures of {height} x {width}, {cols} in a row")


@check(reference=metrics.psnr)
def check_psnr(answer):
    # grey and in channels; the values stay inside (-1, 1), so the peak can't be taken from them
    for shape in (4, 1, 5, 6), (3, 2, 7, 4):
        # each picture has an error of its own
        share = torch.linspace(0.8, 0.2, shape[0]).reshape(-1, 1, 1, 1)
        a = randn(*shape).tanh() * share
        b = randn(*shape, seed=1).tanh() * share
        error = a - b
        mse = error.square().mean((1, 2, 3))
        sums = error.square().sum((1, 2, 3))
        signal = a.square().mean((1, 2, 3))

        def decibel(ratio):
            return (10 * ratio.log10()).mean()

        answer.case((a, b), decibel(4 / mse), {
            "the peak is 2, from -1 to 1, and it is squared": decibel(1 / mse),
            "the peak isn't squared": decibel(2 / mse),
            "the peak is 2 here, not 255": decibel(255**2 / mse),
            "base 10": (10 * (4 / mse).log()).mean(),
            "the logarithm has base 10, not 2": (10 * (4 / mse).log2()).mean(),
            "the sign is wrong: a smaller error has a larger PSNR": decibel(mse / 4),
            "10, not 20: mse is a square already": 2 * decibel(4 / mse),
            "mse is a mean over the values, not a sum": decibel(4 / sums),
            "a root was taken: mse stays a square": decibel(4 / mse.sqrt()),
            "errors are squared, not absolute":
                decibel(4 / error.abs().mean((1, 2, 3))),
            "the peak is the range of all pictures, not the signal's own power":
                decibel(signal / mse),
            "the errors were averaged first: the mean of the pictures' PSNRs":
                decibel(4 / mse.mean()),
            "the sum over the pictures: their mean": shape[0] * decibel(4 / mse),
        }, where=f"pictures of shape {shape}")
