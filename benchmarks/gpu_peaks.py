"""The two ceilings of a device, as measured: products in bf16, and copies within its memory."""

import statistics
import time

import torch


def run(bench) -> None:
    bench.measure("product and copy", 10, lambda: peaks(bench))


def peaks(bench) -> dict:
    """TFLOP/s of a bf16 product of random matrices; GB/s of a copy, bytes read plus written."""
    n = bench.choose(256, 8192)
    # not zeros, on which products run faster
    a, b = torch.randn(2, n, n, device=bench.device, dtype=torch.bfloat16)
    # four gigabytes on a GPU: no cache holds them
    source = torch.empty(bench.choose(2**20, 2**31), dtype=torch.bfloat16, device=bench.device)
    source.normal_()
    target = torch.empty_like(source)
    product = seconds_of(lambda: a @ b, bench.device)
    copy = seconds_of(lambda: target.copy_(source), bench.device)
    moved = 2 * source.numel() * source.element_size()
    return {"tflops": 2 * n**3 / product / 1e12, "gbs": moved / copy / 1e9}


def seconds_of(job, device, rounds: int = 20) -> float:
    """The median seconds of a job on the device."""
    return statistics.median(times_of(job, device, rounds))


def times_of(job, device, rounds: int) -> list[float]:
    """Seconds of each of so many rounds of a job, after three more."""
    for _ in range(3):
        job()
    wait(device)
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        job()
        wait(device)
        times.append(time.perf_counter() - began)
    return times


def wait(device) -> None:
    """Until the device has done all it was asked for."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
