"""The demo on CIFAR-10, and the classifier that judges it, on 2 cores without a GPU."""

import json

from benchmarks.claims import claims_of
from benchmarks.commands import run_demo
from minildm import ZOO

claim = claims_of("cifar")


def measure():
    facts, seconds, _ = run_demo("cifar10")
    scores, spent = facts["scores"], facts["seconds"]
    judge = json.loads((ZOO / "cifar10-classifier" / "state.json").read_text())["measured"]
    yield claim("test accuracy of the classifier", judge["test_accuracy"], 60 * judge["minutes"])
    yield claim("PSNR of test images at f4 c16, dB", scores["psnr"], spent["vae"])
    for part in "vae", "denoiser":
        minutes = spent[part] / 60
        yield claim(f"minutes of training the {part}", minutes, spent[part])
    yield claim("label accuracy", scores["label_accuracy"], seconds)
    yield claim("Fréchet distance / floor, N = 1,000", scores["fd_ratio"], seconds)
    yield claim("recall", scores["recall"], seconds)
