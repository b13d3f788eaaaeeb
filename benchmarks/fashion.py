"""The demo on Fashion-MNIST, with the classifier that it trains to measure with."""

from benchmarks.claims import claims_of
from benchmarks.commands import run_demo

claim = claims_of("fashion")


def measure():
    facts, seconds, _ = run_demo("fashion-mnist")
    scores = facts["scores"]
    yield claim("minutes in all", seconds / 60, seconds)
    yield claim("PSNR of test images, dB", scores["psnr"], facts["seconds"]["vae"])
    yield claim("Fréchet distance / floor, N = 1,000", scores["fd_ratio"], seconds)
    yield claim("recall", scores["recall"], seconds)
