"""What the command line says when something went wrong: in few lines, with what to do about it."""

import errno
import re
import sys

from minildm import MinildmError
from minildm.options import shorten

LINES, WIDTH = 6, 1000  # of an answer: more of them helps nobody
# what the machine refuses, and its user can change
OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO,
                  errno.ENAMETOOLONG, errno.EMFILE, errno.ENOMEM}


def unboxed(text: str) -> str:
    """tyro's answer without the box that it draws around it, its title and its rules."""
    lines = [line.strip(" │|") for line in text.splitlines()]
    return "\n".join(line for line in lines if re.search(r"\w", line) and line[0] not in "╭+")


def report(text: str):
    """Say on standard error what went wrong, shortened."""
    lines = text.splitlines()
    if len(lines) > LINES:
        lines = [*lines[:LINES - 1], lines[-1]]      # the last one names the help
    # with --debug nothing is cut
    for line in lines:
        print(shorten(line, WIDTH), file=sys.stderr)


def was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: inside an import it comes out as another one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def exit_code(error: BaseException, can_go_on) -> int:
    """Say what ended a command, and return its exit code.

    can_go_on() says whether there is a checkpoint that the same command would go on from.
    """
    if isinstance(error, MinildmError):
        report(f"minildm: {error}")
        return 2
    # after the errors with a cure: a save that failed at Ctrl-C says more than that it was one
    if was_interrupted(error):
        kept = "; the same command goes on from the last checkpoint" if can_go_on() else ""
        report(f"minildm: interrupted{kept}")
        return 130
    if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
        where = f"\n  where: {error.filename}" if error.filename else ""
        report(f"minildm: {error.strerror}{where}")
        report("  fix:   free space, or choose a place that you may use")
        return 2
    report(f"minildm: {type(error).__name__}: {error}")
    report("  this is a bug of ours: --debug shows where")
    return 1
