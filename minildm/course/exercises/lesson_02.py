"""The checks of lesson 02 on what compares pictures: coherence, perceptual distance, the critic."""

import torch
import torch.nn.functional as F
from torch import nn

from minildm.course.exercises.answer import compare_gradients, copy_weights
from minildm.course.exercises.compare import compare, describe, fail
from minildm.course.exercises.fakes import randn, uniform
from minildm.course.exercises.harness import check
from minildm.evaluation import spectra
from minildm.training import losses


def of_waves(images, copies) -> dict:
    """Sums over rings: the power of both, and their product."""
    a, b = torch.fft.fft2(images), torch.fft.fft2(copies)
    return {
        "images": spectra.ring_sums(a.abs().square()),
        "copies": spectra.ring_sums(b.abs().square()),
        "cross": spectra.ring_sums((a * b.conj()).real),
        "unconjugated": spectra.ring_sums((a * b).real),
        "sizes": spectra.ring_sums((a * b).abs()),
        "amplitude of images": spectra.ring_sums(a.abs()),
        "amplitude of copies": spectra.ring_sums(b.abs()),
    }


@check(reference=spectra.power_and_coherence)
def check_power_and_coherence(answer):
    # copies that are weaker, shifted and noisy; other sizes than the lesson's
    for shape, gain in ((3, 2, 12, 12), 0.6), ((5, 1, 8, 8), 1.7):
        images = randn(*shape)
        copies = gain * (images + 0.7 * randn(*shape, seed=1)).roll(1, -1)
        sums = of_waves(images, copies)
        want = spectra.power_and_coherence(images, copies)
        got = answer(images, copies)
        if not isinstance(got, (tuple, list)) or len(got) != 2:
            fail(f"return power and coherence, two tensors: this is {describe(got)}")
        where = f"pictures of shape {shape}"
        check_rings(got[0], want[0], mistaken_powers(sums, want), f"power, {where}")
        check_rings(got[1], want[1], mistaken_coherences(sums, want), f"coherence, {where}")
        answer.right += 1


def check_rings(got, want, likely: dict, where: str):
    """Compare one result; float64 will do as well as float32."""
    if isinstance(got, torch.Tensor) and got.is_floating_point():
        got = got.float()
    compare(got, want, likely, tol=1e-3, where=where)


def mistaken_powers(sums: dict, want: tuple) -> dict:
    amplitudes = sums["amplitude of copies"] / sums["amplitude of images"]
    return {
        "the copies' power is above the line, the images' below": 1 / want[0],
        "power is the square of a wave's size": amplitudes,
        "the ratio of powers, without a root": want[0].sqrt(),
        "the ratio: the copies' power alone is no measure": sums["copies"],
        "power comes first, coherence second": want[1],
    }


def mistaken_coherences(sums: dict, want: tuple) -> dict:
    both = sums["images"] * sums["copies"]
    return {
        "the product of a and b, not of a and the conjugate of b":
            sums["unconjugated"].square() / both,
        "the sizes of a b were summed: without their phases all is coherent":
            sums["sizes"].square() / both,
        "the cross term is squared": sums["cross"] / both.sqrt(),
        "the cross term is squared, and both powers stand below": sums["cross"] / both,
        "both powers stand below the line, not the images' alone":
            sums["cross"].square() / sums["images"].square(),
        "both powers stand below the line, not the copies' alone":
            sums["cross"].square() / sums["copies"].square(),
        "divide by the product of the powers, not by its root":
            sums["cross"].square() / both.sqrt(),
        "power comes first, coherence second": want[0],
    }


def perceptual(feature_maps, images, reconstructions):
    total = 0
    for a, b in zip(feature_maps(images), feature_maps(reconstructions), strict=True):
        difference = F.normalize(a, dim=1) - F.normalize(b, dim=1)
        total = total + difference.square().sum(1).mean()
    return total


def squared(a, b, dim=1, p=2.0):
    """The squared distance of maps whose vectors along dim have length one."""
    return (F.normalize(a, p, dim) - F.normalize(b, p, dim)).square().sum(1).mean()


def perceptual_mistakes(a, b) -> dict:
    """What one stage contributes, by mistake."""
    unit_a, unit_b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    difference = unit_a - unit_b
    square = difference.square()
    cosine = (unit_a * unit_b).sum(1).mean()
    plain = (a - b).square()
    return {
        "the vectors aren't of length one": plain.sum(1).mean(),
        "the vectors aren't of length one, and channels are summed": plain.mean(),
        "the mean over channels: their sum": square.mean(),
        "the sum over positions: their mean": square.sum(),
        "the sum over positions: only the batch is averaged": square.sum((1, 2, 3)).mean(),
        "of length one along the channels, dim=1, not over the whole map": squared(a, b, (1, 2, 3)),
        "of length one along the channels, dim=1, not the last axis": squared(a, b, -1),
        "of length one along the channels, dim=1, not the rows": squared(a, b, 2),
        "of length one along the channels, dim=1, not over the batch": squared(a, b, 0),
        "length one is by squares, not by absolute values": squared(a, b, p=1.0),
        "only one side is of length one":
            (unit_a - b).square().sum(1).mean(),
        "of length one first, then the difference":
            F.normalize(a - b, dim=1).square().sum(1).mean(),
        "the difference isn't squared": difference.abs().sum(1).mean(),
        "the difference isn't squared, so that its signs cancel": difference.sum(1).mean(),
        "the root of the sum: the squared distance is wanted": difference.norm(dim=1).mean(),
        "that is the similarity, not the distance": cosine,
        "1 - cosine is half of the squared distance": 1 - cosine,
    }


def fake_feature_maps(widths, channels=2):
    """A function of images like a classifier's `feature_maps`, with a stage for each width."""
    widths = (channels, *widths)
    kernels = [randn(b, a, 3, 2, seed=a + b) for a, b in zip(widths, widths[1:], strict=False)]

    def feature_maps(images):
        if not isinstance(images, torch.Tensor) or images.shape[1:2] != (channels,):
            fail("feature_maps wants pictures (B, C, H, W)")
        maps = []
        for kernel in kernels:
            images = torch.tanh(F.conv2d(images, kernel, stride=(2, 1)) + 0.1)
            maps.append(images)
        return maps

    return feature_maps


@check(reference=losses.perceptual)
def check_perceptual(answer):
    # three stages before two: a mean of two stages could pass for the factor 1/2
    for batch, widths in (2, (4, 9, 3)), (3, (5, 7)):
        maps = fake_feature_maps(widths)
        images = uniform(batch, 2, 23, 17) * 2 - 1
        copies = (uniform(batch, 2, 23, 17, seed=1) * 2 - 1).requires_grad_()
        a, b = maps(images), maps(copies)
        want = perceptual(maps, images, copies)
        stages = [squared(x, y) for x, y in zip(a, b, strict=True)]
        likely = {
            "the stages are averaged: their sum": want / len(stages),
            "only the first stage is in it": stages[0],
            "only the last stage is in it": stages[-1],
            "that is a distance of pixels: pass both through feature_maps": squared(images, copies),
        }
        by_stage = [perceptual_mistakes(x, y) for x, y in zip(a, b, strict=True)]
        for cause in by_stage[0]:
            likely[cause] = sum(values[cause] for values in by_stage)
        got = answer.case((maps, images, copies), want, likely,
                          where=f"{len(stages)} stages, {batch} pictures")
        compare_gradients(got, want, reconstructions=copies)


@check(reference=losses.FinePatchDiscriminator)
def check_PatchCritic(answer):
    # widths and channels that the lesson does not have, and pictures that are no squares
    for channels, width, size in (2, 5, (12, 18)), (4, 3, (16, 10)):
        wanted = losses.FinePatchDiscriminator(channels, width)
        with torch.no_grad():
            for i, weight in enumerate(wanted.parameters()):
                # large enough that a nonlinearity left out is seen
                weight.copy_(randn(*weight.shape, seed=i) / weight[0].numel()**0.5 * 2)
        module = answer(channels, width)
        if not isinstance(module, nn.Module):
            fail(f"hand over the class: this made {describe(module)}")
        copy_weights(module, wanted)
        images = randn(3, channels, *size)
        want = wanted(images)
        answer.wrap(module, "a module", ["images"]).case(
            (images,), want.detach(), mistaken_critics(wanted.blocks, images, want),
            where=f"{channels} channels, width {width}")


def mistaken_critics(blocks, images, want) -> dict:
    """What a critic gives that has a wrong layer."""
    convolutions = [layer for layer in blocks if isinstance(layer, nn.Conv2d)]

    def through(slopes, last=None):
        x = images
        for conv, slope in zip(convolutions, (*slopes, last), strict=True):
            x = conv(x)
            if slope is not None:
                x = F.leaky_relu(x, slope)
        return x.detach()

    return {
        "the slope of LeakyReLU is 0.2: its default is 0.01": through([0.01] * 3),
        "ReLU would stop the gradients of what is negative: LeakyReLU(0.2)": through([0.0] * 3),
        "there is no nonlinearity at all": through([None] * 3),
        "a LeakyReLU is missing after the first convolution": through([None, 0.2, 0.2]),
        "a LeakyReLU is missing after the second convolution": through([0.2, None, 0.2]),
        "a LeakyReLU is missing after the third convolution": through([0.2, 0.2, None]),
        "no LeakyReLU after the last layer: a score may be any number": through([0.2] * 3, 0.2),
        "no sigmoid: a score is any number": want.detach().sigmoid(),
        "a score for each place, not their mean": want.detach().mean((1, 2, 3)),
    }
