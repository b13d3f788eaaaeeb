"""A command as one of the processes that torchrun started: they share its work, and one speaks."""

import os
import sys

from minildm import MinildmError

SHARED = ("demo", "train", "sample")        # commands that know how to share


def run(command) -> None:
    """Run a command of the command line, together with the other processes if there are any."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        command.run()
        return
    name = type(command).__name__.lower()
    if name not in SHARED:
        raise MinildmError(f"{name} runs in one process", "torchrun", f"start it as minildm {name}")
    # not at the top: torch takes a second, and a wrong argument is answered before
    from minildm.training import distributed

    with distributed.session():
        if not distributed.is_first():
            sys.stdout = open(os.devnull, "w")
        command.run()
