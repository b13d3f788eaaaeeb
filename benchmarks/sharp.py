"""Lesson 02's own scores: what perceptual and adversarial losses give back, and cost."""

import sys

from benchmarks.claims import claims_of
from benchmarks.commands import run_lesson

claim = claims_of("sharp")


def measure():
    names, seconds = run_lesson("02")
    if names["name"] != "cifar10":
        sys.exit("benchmarks: sharp is about photographs and needs CIFAR-10: see data/README.md")
    blurred, sharp = names["scores"]["L2"], names["scores"]["L1 + perceptual + adversarial"]
    ratio, lost = sharp["FD"] / blurred["FD"], blurred["PSNR"] - sharp["PSNR"]
    yield claim("Fréchet distance of reconstructions / L2's", ratio, seconds)
    yield claim("high-frequency power / real", sharp["high"], seconds)
    yield claim("PSNR below L2's, dB", lost, seconds)
