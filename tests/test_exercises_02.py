"""Lesson 02's checks of what compares pictures: right answers pass; wrong ones are told why."""


import pytest
import torch
import torch.nn.functional as F
from support.answers import changed, right_and_wrong, told
from torch import nn

from minildm import exercises
from minildm.course.exercises import lesson_02
from minildm.course.exercises.harness import EXERCISES
from minildm.evaluation.spectra import power_and_coherence, ring_sums
from minildm.training.losses import FinePatchDiscriminator, perceptual

HELPERS = {"ring_sums": ring_sums, "power_and_coherence": power_and_coherence,
           "package_perceptual": perceptual}
WAVES = """
    a, b = torch.fft.fft2(images), torch.fft.fft2(copies)
    of_images, of_copies = ring_sums(a.abs()**2), ring_sums(b.abs()**2)
    cross = ring_sums((a * b.conj()).real)
    power = of_copies / of_images
    coherence = cross**2 / (of_images * of_copies)
    return power, coherence
"""
MAPS = """
    pairs = zip(feature_maps(images), feature_maps(reconstructions))
    return sum({} for a, b in pairs)
"""
UNITS = """
    total = 0
    for a, b in zip(feature_maps(images), feature_maps(reconstructions)):
        a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
        total = total + {}
    return total
"""


def waves(old, new):
    return changed(WAVES, old, new)


RIGHT = [
    ("power_and_coherence", WAVES),
    ("power_and_coherence", """
        a = torch.fft.fft2(images.double(), norm="forward")
        b = torch.fft.fft2(copies.double(), norm="forward")
        size = [ring_sums((c * c.conj()).real) for c in (a, b)]
        both = ring_sums(a.real * b.real + a.imag * b.imag)
        return [size[1] / size[0], both * both / size[0] / size[1]]
     """),
    ("power_and_coherence", waves("(a * b.conj()).real", "(a.conj() * b).real")),
    ("perceptual", MAPS.format("2 - 2 * F.cosine_similarity(a, b, dim=1).mean()")),
    ("perceptual", UNITS.format("(a - b).square().sum(1).mean()")),
    ("perceptual", UNITS.format("torch.einsum('bchw,bchw->bhw', a - b, a - b).mean()")),
    ("perceptual", """
        losses = []
        with torch.no_grad():
            wanted = feature_maps(images)
        got = feature_maps(reconstructions)
        for i in range(len(wanted)):
            a = wanted[i] / (wanted[i]**2).sum(1, keepdim=True).sqrt()
            b = got[i] / (got[i]**2).sum(1, keepdim=True).sqrt()
            losses.append(((a - b)**2).sum(1).mean())
        return torch.stack(losses).sum()
     """),
]

WRONG = [
    ("power_and_coherence", "a tuple of 2|two tensors", waves("return power, coherence", "return power")),
    ("power_and_coherence", "coherence second", waves("return power, coherence", "return coherence, power")),
    ("power_and_coherence", "conjugate", waves("b.conj()", "b")),
    ("power_and_coherence", "above the line", waves("of_copies / of_images", "of_images / of_copies")),
    ("power_and_coherence", "square of a wave's size",
     waves("ring_sums(a.abs()**2), ring_sums(b.abs()**2)", "ring_sums(a.abs()), ring_sums(b.abs())")),
    ("power_and_coherence", "without a root", waves("of_copies / of_images",
                                                    "(of_copies / of_images).sqrt()")),
    ("power_and_coherence", "is squared", waves("cross**2 / (of_images * of_copies)",
                                                "cross / (of_images * of_copies).sqrt()")),
    ("power_and_coherence", "not the images' alone",
     waves("(of_images * of_copies)", "(of_images * of_images)")),
    ("power_and_coherence", "not the copies' alone",
     waves("(of_images * of_copies)", "(of_copies * of_copies)")),
    ("power_and_coherence", "phases", waves("(a * b.conj()).real", "(a * b.conj()).abs()")),
    ("power_and_coherence", "complex|coherence", waves("cross**2", "ring_sums(a * b.conj())**2")),
    ("power_and_coherence", "by its root", waves("(of_images * of_copies)",
                                                 "(of_images * of_copies).sqrt()")),
    ("power_and_coherence", "None", waves("return power, coherence", "return None, coherence")),
    ("power_and_coherence", "shape", waves("return power, coherence", "return power.mean(), coherence")),
    ("power_and_coherence", "power|coherence", waves("power = of_copies / of_images",
                                                     "power = ring_sums(b.abs()**2 / a.abs()**2)")),
    ("power_and_coherence", "in place", waves("a, b = ", "copies -= copies.mean()\n    a, b = ")),
    ("power_and_coherence", "raised", waves("of_images, of_copies", "of_images, of_copies, c")),
    ("power_and_coherence", "that is the package's", "power_and_coherence(images, copies)"),
    ("perceptual", "length one", MAPS.format("(a - b).square().sum(1).mean()")),
    ("perceptual", "channels are summed", MAPS.format("F.mse_loss(a, b)")),
    ("perceptual", "mean over channels", UNITS.format("(a - b).square().mean()")),
    ("perceptual", "sum over positions", UNITS.format("(a - b).square().sum()")),
    ("perceptual", "only the batch", UNITS.format("(a - b).square().sum((1, 2, 3)).mean()")),
    ("perceptual", "not the last axis",
     MAPS.format("(F.normalize(a, dim=-1) - F.normalize(b, dim=-1)).square().sum(1).mean()")),
    ("perceptual", "whole map", MAPS.format(
        "(F.normalize(a, dim=(1, 2, 3)) - F.normalize(b, dim=(1, 2, 3))).square().sum(1).mean()")),
    ("perceptual", "isn't squared", UNITS.format("(a - b).abs().sum(1).mean()")),
    ("perceptual", "signs cancel", UNITS.format("(a - b).sum(1).mean()")),
    ("perceptual", "root", UNITS.format("(a - b).norm(dim=1).mean()")),
    ("perceptual", "similarity", MAPS.format("F.cosine_similarity(a, b, dim=1).mean()")),
    ("perceptual", "half", MAPS.format("1 - F.cosine_similarity(a, b, dim=1).mean()")),
    ("perceptual", "averaged", UNITS.format("(a - b).square().sum(1).mean() / len(feature_maps(images))")),
    ("perceptual", "only the last",
     UNITS.replace("total + ", "").format("(a - b).square().sum(1).mean()")),
    ("perceptual", "only the first", """
        a, b = feature_maps(images)[0], feature_maps(reconstructions)[0]
        a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
        return (a - b).square().sum(1).mean()
     """),
    ("perceptual", "first inputs.*IndexError", """
        total = 0
        for i in range(3):
            a = F.normalize(feature_maps(images)[i], dim=1)
            b = F.normalize(feature_maps(reconstructions)[i], dim=1)
            total = total + (a - b).square().sum(1).mean()
        return total
     """),
    ("perceptual", "no gradient", UNITS.format("(a - b).square().sum(1).mean().item()")),
    ("perceptual", "no gradient|No gradient", "with torch.no_grad():" + UNITS.replace("\n", "\n    ").format(
        "(a - b).square().sum(1).mean()")),
    ("perceptual", "no gradient", changed(UNITS, "feature_maps(reconstructions)",
                                          "feature_maps(reconstructions.detach())").format(
        "(a - b).square().sum(1).mean()")),
    ("perceptual", "shape", UNITS.format("(a - b).square().sum(1).mean((1, 2))")),
    ("perceptual", "a list of", """
        pairs = zip(feature_maps(images), feature_maps(reconstructions))
        return [(F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean() for a, b in pairs]
     """),
    ("perceptual", "pixels", "(F.normalize(images, dim=1) - F.normalize(reconstructions, dim=1))"
                             ".square().sum(1).mean()"),
    ("perceptual", "raised", "(torch.cat(feature_maps(images))"
                             " - torch.cat(feature_maps(reconstructions))).square().sum(1).mean()"),
    ("perceptual", "that is the package's", "package_perceptual(feature_maps, images, reconstructions)"),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)


# ---- the critic, which is a class

def critic(slopes=(0.2, 0.2, 0.2), strides=(1, 2, 1), last=None, widths=(1, 2, 2), end=None):
    """A critic with these slopes after its convolutions, strides, and channels in widths."""

    class Critic(nn.Module):
        def __init__(self, channels, width):
            super().__init__()
            sizes = [channels, *(width * times for times in widths), 1]
            kernels = [3 if stride == 1 else 4 for stride in (*strides, 1)]
            self.convolutions = nn.ModuleList(
                nn.Conv2d(a, b, k, stride, padding=1)
                for a, b, k, stride in zip(sizes, sizes[1:], kernels, (*strides, 1), strict=False))

        def forward(self, images):
            x = images
            for conv, slope in zip(self.convolutions, (*slopes, last), strict=True):
                x = conv(x)
                x = x if slope is None else F.leaky_relu(x, slope)
            return x if end is None else end(x)

    return Critic


@pytest.mark.parametrize("answer", [critic(), FinePatchDiscriminator, type("C", (critic(),), {})])
def test_right_critics_pass(answer):
    if answer is FinePatchDiscriminator:
        assert "the package's" in told("PatchCritic", answer)
    else:
        exercises.check_PatchCritic(answer)


@pytest.mark.parametrize("said, answer", [
    ("default", critic((0.01, 0.01, 0.01))),
    ("ReLU would stop", critic((0.0, 0.0, 0.0))),
    ("no nonlinearity", critic((None, None, None))),
    ("after the first", critic((None, 0.2, 0.2))),
    ("after the second", critic((0.2, None, 0.2))),
    ("after the third", critic((0.2, 0.2, None))),
    ("after the last", critic(last=0.2)),
    ("no sigmoid", critic(end=torch.sigmoid)),
    ("for each place", critic(end=lambda x: x.mean((1, 2, 3)))),
    ("is wanted", critic(strides=(1, 1, 1))),
    ("is wanted", critic(widths=(1, 2, 4))),
    ("is wanted", critic(widths=(1, 1, 1))),
    ("is wanted", critic(strides=(2, 1, 1))),
    ("hand over the class", lambda channels, width: None),
    ("parameters", lambda channels, width: nn.Conv2d(channels, 1, 3)),
    ("not written yet", type("C", (nn.Module,), {"__init__": lambda self, channels, width: nope()})),
])
def test_wrong_critics_are_told_what_is_wrong(said, answer):
    assert said in told("PatchCritic", answer)


def nope():
    raise NotImplementedError


def test_the_references_are_the_packages():
    for name, function in (("perceptual", perceptual), ("power_and_coherence", power_and_coherence),
                           ("PatchCritic", FinePatchDiscriminator)):
        assert EXERCISES[name].reference is function
    maps = lesson_02.fake_feature_maps((4, 3))
    x = torch.rand(2, 2, 20, 20) * 2 - 1
    torch.testing.assert_close(perceptual(maps, x, x.flip(0)), lesson_02.perceptual(maps, x, x.flip(0)))
