"""What the package does on one GPU, measured in minutes:  python -m benchmarks.gpu --out OUT

    --minutes 8.5               no row begins that would end later
    --stages steps,mnist        these alone; by default all, in the order of their worth
    --rows denoiser             of these stages, the rows whose names this expression finds
    --colour-seconds 300        how long a whole run may train; --mnist-seconds, --scenes-seconds
    --work FOLDER               where rows and models are kept for another call, which measures what
                                is missing; by default a folder of this card's in build/
    --known RESULTS.JSON        rows of an earlier call on the same card: not measured again
    --smoke                     everything in tiny, on a CPU as well
    --results OUT               write RESULTS.md's rows of an OUT that was measured before

OUT gets results.json, rewritten with every row, grids of pictures, and models.tar: six files at
most. A process that crashes is replaced, and goes on with the next row.
"""

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.claims import BUILD, ROOT, machine, write_table
from benchmarks.gpu_claims import claims_from
from benchmarks.gpu_rows import Rows, error_row, in_short

# in the order of their worth; each is a module of this folder with `run(bench)`
STAGES = {"peaks": "gpu_peaks", "steps": "gpu_steps", "bits": "gpu_bits", "mnist": "gpu_runs",
          "scenes": "gpu_runs", "colour": "gpu_runs", "zoo": "gpu_zoo",
          "published": "gpu_published", "memory": "gpu_memory"}
ALONE = ("peaks", "steps", "bits", "published", "memory")   # their rows need no other files
OUT = BUILD / "benchmark-gpu" / "out"
RESTARTS = 6        # of a process that crashes
LARGEST = 15 * 2**20    # bytes of what is packed


@dataclass
class Bench:
    """What a stage needs to know."""

    stage: str
    rows: Rows
    device: torch.device
    smoke: bool
    seconds: dict[str, float]       # of training, by the name of a whole run
    wanted: str = ""                # an expression that names rows; all by default

    @property
    def out(self) -> Path:
        return self.rows.out

    @property
    def work(self) -> Path:
        return self.rows.work

    def choose(self, smoke, full):
        """One of two sizes."""
        return smoke if self.smoke else full

    def measure(self, name: str, seconds: float, function) -> dict:
        """A row of this stage, whose measurement takes about so many seconds; {} if not wanted."""
        if not re.search(self.wanted, name):
            return {}
        # in tiny, each row takes a second or a few, whatever it takes on a GPU
        expected = self.choose(1, seconds)
        return self.rows.measure(self.stage, name, expected, function)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--minutes", type=float, default=8.5)
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--rows", default="")
    parser.add_argument("--mnist-seconds", type=float, default=60)
    parser.add_argument("--scenes-seconds", type=float, default=90)
    parser.add_argument("--colour-seconds", type=float, default=300)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--known", type=Path)
    # what the process that measures is told by the one that watches it
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    options.out = options.out.resolve()
    card = re.sub(r"[^A-Za-z0-9]+", "-", asked_of_card("name") or "cpu")
    kept = options.out / "work" if options.smoke else BUILD / "benchmark-gpu" / card
    options.work = options.work or kept
    unknown = set(options.stages.split(",")) - STAGES.keys()
    if unknown:
        parser.error(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    return options


def facts_of_machine() -> dict:
    """The card and the software, as they stand beside every number."""
    facts = {"hardware": machine(), "torch": torch.__version__, "python": sys.version.split()[0],
             "day": time.strftime("%Y-%m-%d")}
    if torch.cuda.is_available():
        facts |= {"driver": asked_of_card("driver_version"), "cuda": torch.version.cuda}
    return facts


def asked_of_card(what: str) -> str:
    """What nvidia-smi says of the first card, so that a process that only watches needs no CUDA."""
    query = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return answer.stdout.strip().splitlines()[0] if answer.stdout.strip() else ""


def measure_stages(options) -> None:
    """All stages in this process."""
    facts = {**facts_of_machine(), "smoke": options.smoke}
    rows = Rows(options.work, options.out, options.until, facts)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    seconds = {"mnist": options.mnist_seconds, "scenes": options.scenes_seconds,
               "colour": options.colour_seconds}
    for stage in options.stages.split(","):
        bench = Bench(stage, rows, device, options.smoke, seconds, options.rows)
        try:
            importlib.import_module(f"benchmarks.{STAGES[stage]}").run(bench)
        except Exception as error:
            # a stage that can't even begin is a row as well
            rows.put(stage, "the stage", error_row(error))
        pack(options)


def pack(options) -> None:
    """Put the models of WORK/models into OUT/models.tar, the smaller first, as far as it goes."""
    folders = [path for path in (options.work / "models").glob("*") if path.is_dir()]
    sized = sorted((sum(file.stat().st_size for file in folder.iterdir()), folder)
                   for folder in folders)
    total = 0
    with tarfile.open(options.out / "models.tar", "w") as tar:
        for size, folder in sized:
            total += size
            if total < LARGEST:
                tar.add(folder, folder.name)
        for picture in sorted(options.work.glob("*.png")):
            tar.add(picture, picture.name)


def watch(options, argv: list[str]) -> None:
    """Run the stages in a process of their own, which is replaced when it dies."""
    ends = time.time() + 60 * options.minutes
    rows = Rows(options.work, options.out, ends)
    rows.drop_failed()
    if options.known:
        take_over(rows, json.loads(options.known.read_text()))
    # the last of two equal options counts: that process runs in another folder
    command = [sys.executable, "-m", "benchmarks.gpu", *argv, "--out", str(options.out),
               "--work", str(options.work.resolve()), "--until", str(ends)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    if options.smoke:
        environment["MINILDM_BUDGET"] = "smoke"
    for _ in range(RESTARTS):
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
        if done.returncode == 0:
            return
        rows = Rows(options.work, options.out, ends, read_facts(options.out))
        rows.close_running(f"the process ended with code {done.returncode}")
        if rows.left() < 0:
            return


def take_over(rows: Rows, known: dict) -> None:
    """Rows that another call measured on the same card, of the stages that leave no files."""
    if asked_of_card("name") not in known["hardware"]:
        print(f"gpu: the rows known are of another card: {known['hardware']}", file=sys.stderr)
        return
    for stage in ALONE:
        for name, row in known["stages"].get(stage, {}).items():
            if not rows.get(stage, name):
                rows.put(stage, name, row, tell=False)
    rows.drop_failed()


def read_facts(out: Path) -> dict:
    """Everything in results.json but its rows."""
    path = out / "results.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    return {key: value for key, value in found.items() if key != "stages"}


def report(out: Path) -> None:
    """All rows as a short table, and the claims they come to."""
    found = json.loads((out / "results.json").read_text())
    for stage, rows in found["stages"].items():
        for name, row in rows.items():
            print(f"{stage:<10} {name:<34} {in_short(row)[:150]}")
    for claim in claims_from(found):
        print(f"{claim.name} = {claim.value} ({claim.bar}: {'yes' if claim.holds else 'NO'})")
    print({key: value for key, value in found.items() if key != "stages"})


def measure(out: Path = OUT):
    """The claims, for `python -m benchmarks gpu`: measured now if there is a GPU."""
    # an hour: here nobody waits for the card
    if torch.cuda.is_available():
        argv = ["--out", str(out), "--minutes", "60"]
        watch(parse(argv), argv)
    elif not (out / "results.json").exists():
        print("gpu: there is no GPU here, and no results.json to read", file=sys.stderr)
        return
    yield from claims_from(json.loads((out / "results.json").read_text()))


def main(argv: list[str]) -> int:
    options = parse(argv)
    if options.results:
        from benchmarks.__main__ import BENCHMARKS

        found = json.loads((options.results / "results.json").read_text())
        if found.get("smoke"):
            print("gpu: these rows are of --smoke, and claim nothing", file=sys.stderr)
            return 2
        claims = claims_from(found)
        for row in claims:
            print(row.json())
        write_table(ROOT / "RESULTS.md", claims, BENCHMARKS)
    elif options.until:
        measure_stages(options)
    else:
        watch(options, argv)
        report(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
