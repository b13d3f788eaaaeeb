"""The VAE of the demo's run, so within the demo's budget."""

from benchmarks.claims import claims_of
from benchmarks.commands import run_demo

claim = claims_of("vae")


def measure():
    facts, _, _ = run_demo("mnist", fresh=False)
    psnr = facts["scores"]["psnr"]
    yield claim("PSNR of MNIST test images at f4 c3, dB", psnr, facts["seconds"]["vae"])
