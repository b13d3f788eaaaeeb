"""Training steps of every recipe at its GPU size: eager, recorded, recorded and compiled.

They run through the real `train`. Beside each time stand its share of the measured peak (MFU), and
the least that a perfectly fused program would need, as it was counted.
"""

import statistics
import time
from dataclasses import replace
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_peaks import wait
from benchmarks.gpu_peers import run_peers
from benchmarks.gpu_trainings import Training, executed, noted, trainings_of
from minildm.training import state as states
from minildm.training.loop import train

DENOISERS = ("colour denoiser", "mnist denoiser", "scenes denoiser")
OTHERS = ("colour vae", "mnist vae", "scenes clip", "colour classifier")
# ms of the fused program, counted from operations and bytes
FLOORS = {
    "H200": {"colour denoiser": 5.9, "mnist denoiser": 1.25, "scenes denoiser": 1.7},
    "H100": {"colour denoiser": 7.7, "mnist denoiser": 1.8, "scenes denoiser": 2.3}}
WARM = 15           # steps before the clock: ordinary ones, the recording, some replays
SECONDS = {"graph": 3, "eager": 8, "compile": 40}       # that a row takes


def run(bench) -> None:
    executions = executions_on(bench.device)
    # what needs no compiler comes first: it is known in a minute
    measure_all(bench, DENOISERS, executions)
    run_peers(bench, DENOISERS)
    measure_all(bench, OTHERS, [how for how in executions if how != "compile"])
    if "compile" in executions:
        # late: a profiler that was on may slow what follows
        for job in DENOISERS:
            bench.measure(f"{job}, compile, profile", 20,
                          lambda job=job: profile_row(bench, job, "compile"))
        bench.measure(f"{DENOISERS[0]}, graph, profile", 8,
                      lambda: profile_row(bench, DENOISERS[0], "graph"))
        measure_all(bench, OTHERS, ["compile"])


def measure_all(bench, jobs, executions) -> None:
    for execution in executions:
        for job in jobs:
            bench.measure(f"{job}, {execution}", SECONDS[execution],
                          lambda job=job, execution=execution: step_row(bench, job, execution))


def executions_on(device) -> tuple[str, ...]:
    """The ways of execution that a device has, the soonest measured first, a compiler's last."""
    return tuple(SECONDS) if device.type == "cuda" else ("eager",)


def training_for(bench, job: str) -> Training:
    """The training of a row's name: "mnist vae"."""
    recipe, kind = job.split()
    return trainings_of(recipe, bench.device, bench.smoke)[kind]


def step_row(bench, job: str, execution: str) -> dict:
    """Milliseconds of a step, on the device and on the host, and what they are worth."""
    training = training_for(bench, job)
    count = bench.choose(2, 60)
    with noted() as said:
        row = time_steps(training, execution, bench.choose(1, WARM), count, bench.device)
    # a step that could not be recorded or compiled says so: its time is that of another way
    row |= said
    row["pictures_per_second"] = 1000 * training.config.batch_size / row["ms"]
    # how a step is executed does not change what it computes
    rows = [bench.rows.get("steps", f"{job}, {how}") for how in SECONDS]
    known = [other["tflop"] for other in rows if "tflop" in other]
    row["tflop"] = known[0] if known else tflop_of(training)
    peak = bench.rows.get("peaks", "product and copy").get("tflops")
    if peak:
        row["mfu"] = row["tflop"] / row["ms"] * 1000 / peak
    for card, floors in FLOORS.items():
        if card in bench.rows.facts["hardware"] and job in floors:
            row["floor_ms"] = floors[job]
    return row


def time_steps(training: Training, execution: str, warm: int, count: int, device) -> dict:
    """Times of `count` steps of `train` after `warm`, whose seconds are those of compiling."""
    # one step more than is taken: a run's last step waits for all others
    config = replace(training.config, steps=warm + count + 1)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        others = torch.cuda.memory_allocated()
    began = time.perf_counter()
    # the host may run ahead as far as it can: what it needs is then its own, no waiting
    with mock.patch.dict(states.LAG, cuda=10 * (warm + count)):
        steps = train(training.model, training.loss_fn, training.data, executed(config, execution),
                      bar=False)
        next(steps)
    for _ in range(warm - 1):
        next(steps)
    wait(device)
    first = time.perf_counter() - began
    marks, host = [mark(cuda)], []
    began = time.perf_counter()
    for _ in range(count):
        asked = time.perf_counter()
        # returns when the step is launched, not when it is done
        next(steps)
        host.append(1000 * (time.perf_counter() - asked))
        marks.append(mark(cuda))
    wait(device)
    wall = 1000 * (time.perf_counter() - began) / count
    steps.close()
    between = [milliseconds(a, b) for a, b in zip(marks[:-1], marks[1:], strict=True)]
    row = {"ms": statistics.median(between), "ms_wall": wall, "host_ms": statistics.median(host),
           "first_seconds": first}
    if cuda:
        row["peak_gib"] = (torch.cuda.max_memory_allocated() - others) / 2**30
    return row


def mark(cuda: bool):
    """This moment: on the device's own clock, or on the host's."""
    if not cuda:
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def milliseconds(a, b) -> float:
    """Between two marks, the later of which has passed."""
    return 1000 * (b - a) if isinstance(a, float) else a.elapsed_time(b)


def tflop_of(training: Training) -> float:
    """Operations of one step, forward and backward, in units of 10^12."""
    config = executed(replace(training.config, steps=2), "eager")
    steps = train(training.model, training.loss_fn, training.data, config, bar=False)
    with FlopCounterMode(display=False) as counter:
        next(steps)
    steps.close()
    return counter.get_total_flops() / 1e12


def profile_row(bench, job: str, execution: str) -> dict:
    """Kernels of a step, and the share of its time in which the device computes."""
    training, count = training_for(bench, job), 5
    config = replace(training.config, steps=WARM + count + 1)
    steps = train(training.model, training.loss_fn, training.data, executed(config, execution),
                  bar=False)
    for _ in range(WARM):
        next(steps)
    wait(bench.device)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(count):
            next(steps)
        wait(bench.device)
    steps.close()
    on_device = [event for event in profiler.events()
                 if event.device_type == torch.autograd.DeviceType.CUDA]
    kernels = [event for event in on_device if not event.name.startswith(("Memcpy", "Memset"))]
    busy = sum(event.time_range.elapsed_us() for event in on_device) / 1000 / count
    row = {"kernels": len(kernels) / count, "busy_ms": busy}
    measured = bench.rows.get("steps", f"{job}, {execution}").get("ms")
    if measured:
        row["busy_share"] = busy / measured
    # which kernels would have to become faster
    longest = {}
    for event in kernels:
        longest[event.name] = longest.get(event.name, 0) + event.time_range.elapsed_us()
    named = sorted(longest.items(), key=lambda pair: -pair[1])[:8]
    row["longest"] = {name[:60]: round(us / 1000 / count, 3) for name, us in named}
    return row
