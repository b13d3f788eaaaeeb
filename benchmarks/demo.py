"""The main job, `minildm demo` on MNIST from a fresh start, on 2 cores without a GPU."""

from benchmarks.claims import claims_of
from benchmarks.commands import run_demo

claim = claims_of("demo")


def measure():
    facts, seconds, peak = run_demo("mnist")
    scores = facts["scores"]
    training = facts["seconds"]["vae"] + facts["seconds"]["denoiser"]
    yield claim("minutes in all", seconds / 60, seconds)
    yield claim("minutes of training", training / 60, training)
    yield claim("peak memory, GiB", peak, seconds)
    yield claim("label accuracy", scores["label_accuracy"], seconds)
    yield claim("Fréchet distance / floor, N = 1,000", scores["fd_ratio"], seconds)
    yield claim("precision", scores["precision"], seconds)
    yield claim("recall", scores["recall"], seconds)
