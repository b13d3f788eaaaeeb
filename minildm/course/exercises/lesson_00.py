"""The checks of lesson 00."""

import torch

from minildm.course.exercises.compare import compare, fail, passed, randn
from minildm.images import to_uint8


def check_to_uint8(f):
    x = torch.linspace(-1.3, 1.3, 24).reshape(1, 1, 4, 6)
    grey, got = (x + 1) * 127.5, f(x.clone())
    compare("to_uint8", got, to_uint8(x), {
        "255 + 1 is 0 in uint8, so white turns black: clamp first": (grey.round().long() % 256).byte(),
        "the fraction was cut off: round": grey.clamp(0, 255).byte(),
        "-1 is black, not grey: add 1 first": (x * 127.5).round().clamp(0, 255).byte(),
        "the range is 2 wide: times 127.5": ((x + 1) * 255).round().clamp(0, 255).byte()})
    if got.dtype != torch.uint8:
        fail("to_uint8", "the numbers are right, their type isn't: end with .to(torch.uint8)")
    passed("to_uint8")


def check_montage(f):
    rows = (x := randn(6, 1, 4, 5)).reshape(2, 3, 4, 5)
    compare("montage", f(x, 3), rows.transpose(1, 2).reshape(8, 15), {
        "reshape alone keeps the order in memory: permute before it": x.reshape(8, 15),
        "pictures 0, 1, 2 are the first row": x.reshape(3, 2, 4, 5).permute(1, 2, 0, 3).reshape(8, 15),
        "the pictures lie on their side": rows.permute(0, 3, 1, 2).reshape(10, 12),
        "cols is the number in a row": x.reshape(3, 2, 4, 5).transpose(1, 2).reshape(12, 10)})
    passed("montage")


def check_psnr(f):
    a, b = (randn(4, 1, 5, 5, seed=s).clamp(-1, 1) / torch.arange(1, 5).reshape(4, 1, 1, 1) for s in (0, 1))
    mse, got = (a - b).square().mean((1, 2, 3)), f(a, b)
    compare("psnr", got if got is None else torch.as_tensor(got), (10 * (4 / mse).log10()).mean(), {
        "the peak is 2, from -1 to 1, and it is squared": (10 * (1 / mse).log10()).mean(),
        "the peak isn't squared": (10 * (2 / mse).log10()).mean(), "base 10": (10 * (4 / mse).log()).mean(),
        "the sign is wrong": (10 * (mse / 4).log10()).mean(),
        "10, not 20: mse is a square already": (20 * (4 / mse).log10()).mean(),
        "the errors were averaged first: the mean of the pictures' PSNRs": 10 * (4 / mse.mean()).log10()})
    passed("psnr")
