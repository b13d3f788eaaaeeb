"""Every job of `minildm bench` beside diffusers' of the same size."""

import time

from benchmarks.claims import claims_of
from minildm.bench import bench

claim = claims_of("peers")


def measure():
    began = time.perf_counter()
    for row in bench(with_peer=True, rounds=20):
        seconds = time.perf_counter() - began
        detail = f"{row['name']}, {row['precision']}"
        yield claim("time / diffusers'", row["ratio"], seconds, detail=detail)
