"""A training that goes on where it was stopped: its lock, its log, its checkpoints."""

import contextlib
import hashlib
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from minildm import MinildmError
from minildm.training import checkpoint, disk
from minildm.training.configs import differences
from minildm.training.interrupts import held
from minildm.training.state import TrainState

LOG = "metrics.csv"
# With save_every=0 a run is saved every so many seconds, for at most a twentieth of its time.
SAVE_SECONDS = 120
SAVE_SHARE = 20


def resumable(steps: Iterator, state: TrainState, data: tuple[torch.Tensor, ...],
              run_dir: str | Path, identity: dict) -> Iterator:
    """Yield the steps of a training, logging each and saving by `save_every` in `run_dir`.

    The state is restored from the newest checkpoint there before the first step is asked for.
    When the caller leaves early, or a loss raises, the last whole step is saved. MinildmError is
    raised before the first step if another process trains there, if the run was begun with other
    settings or data, or if nothing can be saved there.
    """
    run_dir = Path(run_dir)
    with contextlib.closing(steps), checkpoint.lock(run_dir):
        identity = {**identity_of(state.config, data), **identity}
        restore(state, run_dir, data, identity)
        saver = Saver(state, run_dir, identity)
        saver.check_place()
        with open_log(run_dir, state.i) as file:
            log = Log(file, state)
            try:
                for step in steps:
                    log.add(step)
                    # before the yield: what the caller does with a step can't lose it
                    if saver.is_due():
                        saver.save(log)
                    yield step
            except GeneratorExit:                   # the caller stopped, by Ctrl-C for example
                saver.save_what_is_left(log)
                raise
            except Exception as error:
                try:
                    saver.save_what_is_left(log)
                except MinildmError as failed:      # what went wrong first is what must be told
                    error.add_note(f"and then: {failed}")
                raise


class Log:
    """Writes the steps of a training into its log, in order, as their numbers are read."""

    def __init__(self, file, state: TrainState):
        self.file, self.state = file, state
        self.unwritten: deque = deque()

    def add(self, step) -> None:
        self.unwritten.append(step)
        self.write()

    def write(self) -> None:
        """Write what is settled; the others are written when they are."""
        while self.unwritten and self.unwritten[0].i <= self.state.settled:
            log_step(self.file, self.unwritten.popleft())

    def write_all(self) -> None:
        """Settle all steps, and write them down to the disk."""
        try:
            self.state.settle()
        finally:
            # also those before one that was not finite
            self.write()
        disk.sync(self.file.fileno())


class Saver:
    """Saves a state in its run folder: every so many steps, or by the clock."""

    def __init__(self, state: TrainState, run_dir: Path, identity: dict):
        self.state, self.run_dir, self.identity = state, run_dir, identity
        self.tried = state.i                # the last step that was saved, or failed to be
        self.at = time.perf_counter()
        self.cost = 0.0                     # seconds that the last save took

    def is_due(self) -> bool:
        config, i = self.state.config, self.state.i
        if i == config.steps:
            return True
        if config.save_every:
            return i % config.save_every == 0
        return time.perf_counter() - self.at >= max(SAVE_SECONDS, SAVE_SHARE * self.cost)

    def check_place(self) -> None:
        """Refuse a folder that cannot take the checkpoints of the steps to come."""
        if self.state.i == self.state.config.steps:
            return
        kept = checkpoint.steps(self.run_dir)
        for folder in kept:
            # a later save of that step would be refused, and its training lost
            if int(folder.name[5:]) > self.state.i:
                checkpoint.refuse_foreign(folder)
        # two are kept, and a third stands beside them while it is written
        copies = max(1, 3 - len(kept))
        disk.check_room(self.run_dir, self.state.size(), copies)

    def save(self, log: Log) -> None:
        log.write_all()                     # no save is ahead of the log, even after a power cut
        # noted first: a save that failed is not tried again when its error passes by
        self.tried = self.state.i
        began = time.perf_counter()
        meta = {"step": self.state.i, "identity": self.identity}
        if self.state.snapshot is not None:
            meta["snapshot"] = self.state.snapshot_step
        folder = self.run_dir / f"step-{self.state.i:06d}"
        checkpoint.save(folder, self.state.tensors(), meta)
        checkpoint.prune(self.run_dir)
        self.at = time.perf_counter()
        self.cost = self.at - began

    def save_what_is_left(self, log: Log) -> None:
        """Save the last whole step, unless that was done or tried; half a step never."""
        if not self.state.whole:
            return
        with held():
            try:
                log.write_all()
            finally:
                # on a GPU it may only now turn out which step was the last that was finite
                if self.state.i > self.tried:
                    self.save(log)


def restore(state: TrainState, run_dir: Path, data: tuple, identity: dict) -> None:
    """Take over the newest checkpoint of a run, if there is one, and clean up after a crash."""
    checkpoint.repair(run_dir)
    folder = checkpoint.latest(run_dir)
    if folder is None:
        return
    tensors, meta = checkpoint.load(folder, wants=("identity", "step"))
    saved, i = meta["identity"], meta["step"]
    if not isinstance(saved, dict) or not isinstance(i, int):
        raise MinildmError(f"{checkpoint.META} is no step of a training run", folder,
                           "delete this folder to go on from an earlier step")
    # a run of version 0.1
    if isinstance(saved.get("data"), list):
        identity = {**identity, "data": old_sums(data)}
    different = differences(saved, identity)
    if state.snapshot_step and meta.get("snapshot", state.snapshot_step) != state.snapshot_step:
        different.append(f"snapshot: {meta['snapshot']} != {state.snapshot_step}")
    if different:
        fields = "; ".join(different)
        raise MinildmError(f"this run was begun with other settings: {fields}", folder,
                           "use the same settings, or another run folder")
    state.restore(tensors, i)
    if state.snapshot_step and i >= state.snapshot_step and state.snapshot is None:
        restore_old_snapshot(state, run_dir)
    checkpoint.prune(run_dir)


def restore_old_snapshot(state: TrainState, run_dir: Path) -> None:
    """Take the snapshot from `early/`, where runs kept it before it was part of the checkpoint."""
    try:
        tensors, _ = checkpoint.load(run_dir / "early")
    except MinildmError:
        raise MinildmError(f"this run is past step {state.snapshot_step} and kept no average of it",
                           run_dir, "give this run another folder") from None
    state.take_snapshot(tensors)


def identity_of(config, data: tuple[torch.Tensor, ...]) -> dict:
    """What must not change when a run goes on: settings, and all integer tensors' contents."""
    hashes = {}
    for j, tensor in enumerate(data):
        # floating ones are computed, and may differ in their last bits on another machine
        if not tensor.is_floating_point():
            hashes[str(j)] = sha256_of(tensor)
    settings = {**asdict(config), "save_every": "any"}
    # how a step is executed is not what it computes
    del settings["execution"]
    if config.muon_on == "kernels":
        # runs that began before there was a choice don't name it
        del settings["muon_on"]
    return {"config": settings, "examples": len(data[0]), "data": hashes}


def sha256_of(tensor: torch.Tensor) -> str:
    """Hash a tensor's type, shape and every element; 16 digits of it."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    # a part at a time: the set may fill most of the memory, and be on the GPU
    for part in tensor.split(10_000):
        bytes_of = part.contiguous().cpu().flatten().view(torch.uint8)
        digest.update(bytes_of.numpy())
    return digest.hexdigest()[:16]


def old_sums(data: tuple[torch.Tensor, ...]) -> list[int]:
    """What identities had instead of hashes until version 0.1.0."""
    return [int(d[:1000].long().sum()) for d in data if not d.is_floating_point()]


def open_log(run_dir: Path, i: int):
    """Open metrics.csv for more lines, cut back to the first i steps."""
    log = disk.open_in_run(run_dir / LOG, "a")
    lines = (run_dir / LOG).read_bytes().splitlines(keepends=True)
    kept = lines[:i + 1] if i else []           # the first has the names
    if kept and not kept[-1].endswith(b"\n"):   # a kill or a full disk tore it
        kept.pop()
    log.truncate(sum(len(line) for line in kept))
    # or the next line would follow a hole of zeros
    log.seek(0, os.SEEK_END)
    return log


def log_step(log, step) -> None:
    """Write a step's numbers, and their names before the first; a whole line at a time."""
    row = step.row()
    try:
        if log.tell() == 0:
            print(*row, sep=",", file=log)
        print(*row.values(), sep=",", file=log)
    except OSError as error:
        raise MinildmError(f"could not write {LOG}: {error.strerror or error}", log.name,
                           "free some disk, and start again: the run goes on") from error


def read_metrics(run_dir: str | Path) -> dict[str, list[float]]:
    """Read the columns of a run's metrics.csv; row i is step i."""
    path = Path(run_dir) / LOG
    names, *rows = [line.split(",") for line in path.read_text().splitlines()]
    columns = {name: [] for name in names}
    for row in rows:
        if len(row) == len(names):              # a kill may have torn the last
            for name, value in zip(names, row, strict=True):
                columns[name].append(float(value))
    return columns
