"""Lesson 00's checks: right answers in any style pass; wrong ones are told what is wrong."""

import re

import pytest
from support.answers import cases, passes, told, written

RIGHT = [
    ("to_uint8", "((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)"),
    ("to_uint8", "(x.clamp(-1, 1) * 127.5 + 127.5).round().byte()"),
    ("to_uint8", "(x.double().clamp(-1, 1) * 127.5 + 128).floor().to(torch.uint8)"),
    ("to_uint8", "torch.clip(torch.round(255 * (x / 2 + 0.5)), 0, 255).type(torch.uint8)"),
    ("to_uint8", """
        x = x.clone()
        x += 1
        return x.mul_(127.5).round_().clamp_(0, 255).byte()
     """),
    ("montage", "images.reshape(-1, cols, *images.shape[2:]).transpose(1, 2).reshape("
                "-1, cols * images.shape[3])"),
    ("montage", """
        rows = [images[i:i + cols] for i in range(0, len(images), cols)]
        return torch.cat([torch.cat(list(row[:, 0]), dim=1) for row in rows])
     """),
    ("montage", """
        n, _, h, w = images.shape
        out = torch.zeros(n // cols * h, cols * w)
        for i in range(n):
            r, c = divmod(i, cols)
            out[r * h:(r + 1) * h, c * w:(c + 1) * w] = images[i, 0]
        return out
     """),
    ("montage", "images.view(-1, cols, *images.shape[2:]).permute(0, 2, 1, "
                "3).flatten(2).flatten(0, 1)"),
    ("psnr", "(10 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))).mean()"),
    ("psnr", """
        values = []
        for x, y in zip(a, b):
            mse = F.mse_loss(x, y).item()
            values.append(20 * math.log10(2) - 10 * math.log10(mse))
        return sum(values) / len(values)
     """),
    ("psnr", "-10 * (((a - b) / 2)**2).flatten(1).mean(1).log10().mean()"),
    ("psnr", "(10 * torch.log10(4 / (a.double() - b).pow(2).mean((1, 2, 3)))).mean().float()"),
]

WRONG = [
    ("to_uint8", "in place", "x += 1\nreturn (x * 127.5).round().clamp(0, 255).byte()"),
    ("to_uint8", "in place", "x.clamp_(-1, 1)\nreturn ((x + 1) * 127.5).round().byte()"),
    ("to_uint8", "white turns black", "((x + 1) * 127.5).round().to(torch.int64).to(torch.uint8)"),
    ("to_uint8", "cut off: round", "((x + 1) * 127.5).clamp(0, 255).to(torch.uint8)"),
    ("to_uint8", "add 1", "(x * 127.5).round().clamp(0, 255).to(torch.uint8)"),
    ("to_uint8", "times 127.5", "((x + 1) * 255).round().clamp(0, 255).to(torch.uint8)"),
    ("to_uint8", "from -1 to 1", "(x * 255).round().clamp(0, 255).byte()"),
    ("to_uint8", "their type is torch.float32", "((x + 1) * 127.5).round().clamp(0, 255)"),
    ("to_uint8", "their type is torch.int64", "((x + 1) * 127.5).round().clamp(0, 255).long()"),
    ("to_uint8", "wrong", "((x + 1) * 128).round().clamp(0, 255).byte()"),
    ("to_uint8", "wrong", "((x + 1) * 127.5).ceil().clamp(0, 255).byte()"),
    ("to_uint8", "wrong", "((x + 1) * 127).round().clamp(0, 254).byte()"),
    ("to_uint8", "wrong", "((x.clamp(0, 1) + 1) * 127.5).round().byte()"),
    ("to_uint8", "differs", "((1 - x) * 127.5).round().clamp(0, 255).byte()"),
    ("to_uint8", "numpy array", "((x + 1) * 127.5).round().clamp(0, 255).byte().numpy()"),
    ("to_uint8", "wrong", "((x - x.min()) / (x.max() - x.min()) * 255).round().byte()"),
    ("to_uint8", "the shape", "((x[:1] + 1) * 127.5).round().clamp(0, 255).byte()"),
    ("to_uint8", "axis of length 1",
     "((x + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)"),
    ("to_uint8", "return", "y = ((x + 1) * 127.5).round().clamp(0, 255).byte()\nreturn None"),
    ("montage", "permute", "images.reshape(-1, cols * images.shape[3])"),
    ("montage", "the first row",
     "torch.cat([torch.cat(list(images[i::len(images) // cols, 0]), dim=1) "
                                 "for i in range(len(images) // cols)])"),
    ("montage", "on their side",
     "images.reshape(-1, cols, *images.shape[2:]).permute(0, 3, 1, 2).reshape("
                                 "-1, cols * images.shape[2])"),
    ("montage", "number in a row",
     "torch.cat([torch.cat(list(images[i:i + len(images) // cols, 0]), dim=1) "
                                   "for i in range(0, len(images), len(images) // cols)])"),
    ("montage", "the shape", "torch.cat(list(images[:, 0]), dim=1)"),
    ("montage", "the shape", "torch.cat(list(images[:, 0]), dim=0)"),
    ("montage", "upside down",
     "images.reshape(-1, cols, *images.shape[2:]).flip(0).transpose(1, 2).reshape("
                               "-1, cols * images.shape[3])"),
    ("montage", "raised", "images.reshape(2, 3, 4, 5).permute(0, 2, 1, 3).reshape(8, 15)"),
    ("montage", "raised", "images.reshape(-1, 3, 4, 5).permute(0, 2, 1, 3).reshape(-1, 15)"),
    ("montage", "axis", "images.reshape(-1, cols, *images.shape[2:]).permute(0, 2, 1, 3).reshape("
                        "1, 1, -1, cols * images.shape[3])"),
    ("montage", "differs",
     "images.flip(0).reshape(-1, cols, *images.shape[2:]).permute(0, 2, 1, 3).reshape("
                         "-1, cols * images.shape[3])"),
    ("montage", "raised|shape|wrong",
     "images.reshape(cols, -1, *images.shape[2:]).permute(0, 2, 1, 3)"
                                      ".reshape(len(images) // cols * images.shape[2], -1)"),
    ("montage", "unchanged", "images"),
    ("montage", "numbers are right and in the right order",
     "images.reshape(-1, cols, *images.shape[2:]).permute(0, 2, 1, 3)"),
    ("psnr", "peak is 2", "(10 * torch.log10(1 / (a - b).square().mean((1, 2, 3)))).mean()"),
    ("psnr", "peak isn't squared",
     "(10 * torch.log10(2 / (a - b).square().mean((1, 2, 3)))).mean()"),
    ("psnr", "not 255", "(10 * torch.log10(255**2 / (a - b).square().mean((1, 2, 3)))).mean()"),
    ("psnr", "sign", "(10 * torch.log10((a - b).square().mean((1, 2, 3)) / 4)).mean()"),
    ("psnr", "base 10", "(10 * torch.log(4 / (a - b).square().mean((1, 2, 3)))).mean()"),
    ("psnr", "20", "(20 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))).mean()"),
    ("psnr", "averaged first", "10 * torch.log10(4 / (a - b).square().mean())"),
    ("psnr", "not a sum", "(10 * torch.log10(4 / (a - b).square().sum((1, 2, 3)))).mean()"),
    ("psnr", "not absolute", "(10 * torch.log10(4 / (a - b).abs().mean((1, 2, 3)))).mean()"),
    ("psnr", "0.1 times", "torch.log10(4 / (a - b).square().mean((1, 2, 3))).mean()"),
    ("psnr", "sum over the pictures",
     "(10 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))).sum()"),
    ("psnr", "mean over everything is missing",
     "10 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))"),
    ("psnr", "should be", "(10 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))).max()"),
    ("psnr", "should be", "(10 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))).median()"),
    ("psnr", "should be",
     "(10 * torch.log10((a.max() - a.min())**2 / (a - b).square().mean((1, 2, 3)))).mean()"),
    ("psnr", "should be", "(10 * torch.log10(4 / (a - b).square().mean((2, 3)))).mean()"),
    ("psnr", "infinite|should be", "(10 * torch.log10(4 / (a - b).square())).mean()"),
    ("psnr", "NaN", "(10 * torch.log10(4 / (a - b).mean((1, 2, 3)))).mean()"),
    ("psnr", "in place",
     "a -= b\nreturn (10 * torch.log10(4 / a.square().mean((1, 2, 3)))).mean()"),
    ("psnr", "return", "(10 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))).mean()\nreturn"),
]


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    passes(name, written(name, body))


@pytest.mark.parametrize("name, said, body", cases(WRONG))
def test_wrong_answers_are_told_what_is_wrong(name, said, body):
    assert re.search(said, told(name, written(name, body)))
