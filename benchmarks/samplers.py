"""Our ddim loop beside the loop of diffusers' pipelines, the same U-Net and weights."""

import time

from benchmarks.claims import claims_of
from minildm.bench import bench

claim = claims_of("samplers")


def measure():
    began = time.perf_counter()
    for row in bench(with_peer=True, rounds=20):
        if row["name"] == "sampler loop":
            seconds = time.perf_counter() - began
            speed = 1 / row["ratio"]
            yield claim("pictures a second / diffusers'", speed, seconds, detail=row["precision"])
