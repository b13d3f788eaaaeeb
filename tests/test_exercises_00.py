"""Lesson 00's checks: the solution passes; the wrong answers that students give are told what is wrong."""

import pytest
import torch

from minildm import exercises


def montage(x, cols):
    rows = x.reshape(-1, cols, *x.shape[2:])                               # (rows, cols, H, W)
    return rows.transpose(1, 2).reshape(-1, cols * x.shape[3])


def mse(a, b):
    return (a - b).square().flatten(1).mean(1)


def own_bytes(x):
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


RIGHT = [
    ("to_uint8", own_bytes),
    ("to_uint8", lambda x: (x * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)),
    ("montage", montage),
    ("psnr", lambda a, b: (10 * torch.log10(4 / mse(a, b))).mean()),
]


@pytest.mark.parametrize("name, answer", RIGHT)
def test_right_answers_pass(name, answer):
    getattr(exercises, f"check_{name}")(answer)


WRONG = [
    ("to_uint8", "white turns black", lambda x: ((x + 1) * 127.5).round().to(torch.int64).to(torch.uint8)),
    ("to_uint8", "round", lambda x: ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8)),
    ("to_uint8", "add 1", lambda x: (x * 127.5).round().clamp(0, 255).to(torch.uint8)),
    ("to_uint8", "127.5", lambda x: ((x + 1) * 255).round().clamp(0, 255).to(torch.uint8)),
    ("to_uint8", "type", lambda x: ((x + 1) * 127.5).round().clamp(0, 255)),
    ("montage", "permute", lambda x, cols: x.reshape(-1, cols * x.shape[3])),
    ("montage", "the first row", lambda x, cols: torch.cat(
        [torch.cat(list(x[i::len(x) // cols, 0]), dim=1) for i in range(len(x) // cols)])),
    ("montage", "side", lambda x, cols: montage(x.transpose(2, 3), cols)),
    ("montage", "number in a row", lambda x, cols: montage(x, len(x) // cols)),
    ("montage", "shape", lambda x, cols: torch.cat(list(x[:, 0]), dim=1)),
    ("psnr", "peak is 2", lambda a, b: (10 * torch.log10(1 / mse(a, b))).mean()),
    ("psnr", "sign", lambda a, b: (10 * torch.log10(mse(a, b) / 4)).mean()),
    ("psnr", "base 10", lambda a, b: (10 * torch.log(4 / mse(a, b))).mean()),
    ("psnr", "20", lambda a, b: (20 * torch.log10(4 / mse(a, b))).mean()),
    ("psnr", "averaged first", lambda a, b: 10 * torch.log10(4 / mse(a, b).mean())),
    ("psnr", "not 255", lambda a, b: (10 * torch.log10(255**2 / mse(a, b))).mean()),
    ("psnr", "return", lambda a, b: None),
]


@pytest.mark.parametrize("name, said, answer", WRONG)
def test_wrong_answers_are_told_the_cause(name, said, answer):
    with pytest.raises(AssertionError, match=said):
        getattr(exercises, f"check_{name}")(answer)
