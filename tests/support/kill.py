"""kill -9 aimed inside a save: does the run resume, and does it end with the same bits as one never killed?

    python tests/support/kill.py 50              every one must resume and end bit-identical
    python tests/support/kill.py 50 --clock      the same for a run that saves by the clock
    python tests/support/kill.py 50 --in-place   the same with a writer that overwrites: fails

A random moment almost never hits a save, so the child kills itself at a chosen one: any line executed while
saving and pruning, or before or after any eighth of a write. Forked children share the parent's torch.
"""

import argparse
import collections
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

torch.set_num_threads(1)        # bit-identical sums; and a pool of threads would not survive the fork

from minildm.training import checkpoint, disk, resumable  # noqa: E402
from minildm.training import loop as training  # noqa: E402

CONFIG = training.TrainConfig(steps=6, batch_size=8, lr=1e-2, save_every=1, precision="float32")
TRACED = checkpoint.__file__, disk.__file__, shutil.__file__
real_save, real_prune = checkpoint.save, checkpoint.prune


def train_once(run_dir, by_clock):
    config = CONFIG
    if by_clock:
        config = replace(CONFIG, save_every=0)
        resumable.SAVE_SECONDS = resumable.SAVE_SHARE = 0
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Dropout(0.2), torch.nn.Linear(16, 1))
    x = torch.randn(20, 4)

    def loss(x, generator):
        noise = torch.randn(x.shape, generator=generator)
        return {"loss": (model(x + noise) - x.sum(1, keepdim=True)).square().mean()}

    for _ in training.train(model, loss, (x,), config, run_dir, bar=False):
        pass


class Aim:
    """Counts the moments of all saves and kills the process at number `target`."""

    def __init__(self, target, note):
        self.target, self.note, self.count = target, note, 0

    def tick(self, place):
        self.count += 1
        if self.count == self.target:
            self.note.write_text(place)
            os.kill(os.getpid(), signal.SIGKILL)

    def trace(self, frame, event, argument):
        code = frame.f_code
        if code.co_filename not in TRACED:
            return None
        if event == "line":
            self.tick(code.co_name)
        return self.trace

    def during(self, function):
        def aimed(*arguments):
            sys.settrace(self.trace)
            try:
                return function(*arguments)
            finally:
                sys.settrace(None)
        return aimed

    def open(self, path, mode):
        """An open file that writes in eight pieces, with a moment before each and one at the end."""
        file, aim = open(path, mode, buffering=0), self

        class Pieces:
            def __enter__(self):
                return self

            def __exit__(self, *error):
                file.close()

            def __getattr__(self, name):
                return getattr(file, name)

            def write(self, content):
                piece = len(content) // 8 + 1
                for start in range(0, len(content), piece):
                    aim.tick("write")
                    file.write(content[start:start + piece])
                aim.tick("write")

        return Pieces()


def save_in_place(folder, tensors, meta):
    """The mutant: one checkpoint, each save written over the one before."""
    contents = checkpoint._encode(folder, tensors, meta)
    for last in checkpoint.steps(folder.parent):
        last.rename(folder)
    folder.mkdir(exist_ok=True)
    for name in (checkpoint.TENSORS, checkpoint.META, checkpoint.MANIFEST):
        disk.write(folder / name, contents[name])


def child(run_dir, in_place, by_clock, target=0):
    """Train in a forked child, killed at moment `target`; its signal (0 if none), what it wrote last."""
    note = run_dir.parent / f"{run_dir.name}.note"
    note.unlink(missing_ok=True)
    if pid := os.fork():
        status = os.waitpid(pid, 0)[1]
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, note.read_text()
    try:
        aim = Aim(target, note)
        disk.open = aim.open
        # the mutant is killed while it writes: at most other moments it is as safe as ours
        checkpoint.save = save_in_place if in_place else aim.during(real_save)
        checkpoint.prune = real_prune if in_place else aim.during(real_prune)
        train_once(run_dir, by_clock)
        note.write_text(f"moments {aim.count}")
    except BaseException as error:
        note.write_text(f"{type(error).__name__}: {error}".splitlines()[0])
    finally:
        os._exit(0)


def outcome(run_dir):
    """What no kill may change: the last step's bytes and the log without its times; the files' names."""
    last = checkpoint.steps(run_dir)[0]
    log = {name: column for name, column in training.read_metrics(run_dir).items() if name != "seconds"}
    bits = last.name, (last / checkpoint.TENSORS).read_bytes(), log
    return bits, sorted(p.name for p in run_dir.iterdir())


def experiment(n, in_place=False, by_clock=False, seed=0):
    began, rng = time.perf_counter(), random.Random(seed)
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])     # its slow imports: here, not in every child
    count, places, errors = collections.Counter(), collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        _, note = child(folder / "never", in_place, by_clock)
        moments, (bits, names) = int(note.removeprefix("moments ")), outcome(folder / "never")
        for k in range(n):
            run_dir = folder / f"run{k}"
            by, place = child(run_dir, in_place, by_clock, target=rng.randint(1, moments))
            _, note = child(run_dir, in_place, by_clock)
            count["killed"] += by == signal.SIGKILL
            places[place] += 1
            if note.startswith("moments"):
                count["resumed"] += 1
                count["identical"] += outcome(run_dir)[0] == bits
                count["clean"] += outcome(run_dir)[1] == names
            else:
                errors.append(note)
            shutil.rmtree(run_dir)
    return {"writer": "in place" if in_place else "atomic", "by_clock": by_clock, "n": n, "moments": moments,
            **{name: count[name] for name in ("killed", "resumed", "identical", "clean")},
            "places": dict(places), "errors": errors[:3], "seconds": round(time.perf_counter() - began, 1)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n", type=int, nargs="?", default=50)
    parser.add_argument("--in-place", action="store_true")
    parser.add_argument("--clock", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    result = experiment(arguments.n, arguments.in_place, arguments.clock, arguments.seed)
    print(json.dumps(result))
    sys.exit(not result["identical"] == result["clean"] == arguments.n)
