"""Rows of measurements that outlive a crash, the time limit and the process.

A row is a dict. It is written as soon as it is known: to WORK/<stage>.json, and with all others to
OUT/results.json. A row that is there is not measured again; one that raised says so in "error",
one that the time did not allow in "left_out".
"""

import gc
import json
import os
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

# a row that takes this many times its estimate is given up, with its process
PATIENCE = 4
LEAST = 120         # seconds that a row may take in any case
GIVEN_UP, BROKEN = 4, 5     # exit codes of a process that must be replaced


def write_json(path: Path, content) -> None:
    """Write a file whole or not at all."""
    # a process may be ended at any moment
    part = path.with_name(f".part-{path.name}")
    part.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(part, path)


class Rows:
    """The rows of all stages, and the time that is left to measure more."""

    def __init__(self, work: Path, out: Path, ends: float, facts: dict | None = None):
        self.work, self.out, self.ends = Path(work), Path(out), ends
        self.facts = facts or {}
        self.work.mkdir(parents=True, exist_ok=True)
        self.out.mkdir(parents=True, exist_ok=True)
        self.stages = {}
        for path in sorted(self.work.glob("*.json")):
            self.stages[path.stem] = json.loads(path.read_text())

    def left(self) -> float:
        """Seconds until the end."""
        return self.ends - time.time()

    def get(self, stage: str, name: str) -> dict:
        """The row of this name; {} where there is none."""
        return self.stages.get(stage, {}).get(name, {})

    def measure(self, stage: str, name: str, seconds: float, function: Callable) -> dict:
        """The row of this name: as it is, or what `function()` returns if `seconds` are left."""
        found = self.get(stage, name)
        if found and "left_out" not in found:
            return found
        if self.left() < seconds:
            note = f"it needs {seconds:.0f} s, and {max(0, self.left()):.0f} were left"
            return self.put(stage, name, {"left_out": note})
        # whoever replaces this process, if it dies now, reads here where that was
        self.put(stage, name, {"running": True}, tell=False)
        # in a thread: what hangs in a compiler or a driver sees no exception
        watchdog = threading.Timer(max(LEAST, PATIENCE * seconds), os._exit, [GIVEN_UP])
        watchdog.daemon = True
        watchdog.start()
        began = time.perf_counter()
        try:
            row = function()
        except Exception as error:
            row = error_row(error)
        finally:
            watchdog.cancel()
        row["took"] = round(time.perf_counter() - began, 1)
        self.put(stage, name, row)
        # after some errors a device answers nothing more in this process
        if not forget():
            os._exit(BROKEN)
        return row

    def put(self, stage: str, name: str, row: dict, tell: bool = True) -> dict:
        """Keep a row, and write it."""
        self.stages.setdefault(stage, {})[name] = row
        write_json(self.work / f"{stage}.json", self.stages[stage])
        write_json(self.out / "results.json", {**self.facts, "stages": self.stages})
        if tell:
            print(f"{stage}: {name}: {in_short(row)}", flush=True)
        return row

    def close_running(self, why: str) -> None:
        """Turn the row that a process died in into one with an error."""
        for stage, rows in self.stages.items():
            for name, row in list(rows.items()):
                if "running" in row:
                    self.put(stage, name, {"error": why})

    def drop_failed(self) -> None:
        """Forget rows without a measurement, so that another call measures them."""
        for stage, rows in self.stages.items():
            failed = [name for name, row in rows.items()
                      if row.keys() & {"error", "left_out", "running"}]
            for name in failed:
                del rows[name]
            write_json(self.work / f"{stage}.json", rows)


def error_row(error: Exception) -> dict:
    """What an error says, and where it came from."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return {"error": f"{type(error).__name__}: {error}"[:500], "trace": lines[-12:]}


def forget() -> bool:
    """Free what the last row left on the device; False if the device no longer answers."""
    gc.collect()
    if not torch.cuda.is_available():
        return True
    # the next row compiles anew, and of one function only a few programs are kept
    torch.compiler.reset()
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    except RuntimeError:
        return False
    return True


def in_short(row: dict) -> str:
    """The numbers of a row in a line."""
    cells = []
    for key, value in row.items():
        if key in ("trace", "history", "real"):
            continue
        if isinstance(value, float):
            value = f"{value:.4g}"
        cells.append(f"{key} {str(value)[:200]}")
    return ", ".join(cells)
