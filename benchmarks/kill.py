"""kill -9 aimed inside a save: our writer, and one that writes in place, which must fail."""

import json
import subprocess
import sys

from benchmarks.claims import ROOT, claims_of

claim = claims_of("kill")

WRITERS = {"resumed, bit-identical": [], "an in-place writer": ["--in-place"]}


def measure():
    for name, flags in WRITERS.items():
        command = [sys.executable, "tests/support/kill.py", "50", *flags]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
        result = json.loads(output.strip().splitlines()[-1])
        yield claim(f"of 50 kills inside a save, {name}", result["identical"], result["seconds"])
