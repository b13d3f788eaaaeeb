"""One answer in a process of its own: limits of time, memory and output, and no file to write.

A server process has torch and the checks in memory and forks a child per answer, so that an answer
costs milliseconds; where there is no fork (Windows), a child starts anew. What a child prints is
kept up to a length and thrown away beyond it.
"""

import contextlib
import io
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

from minildm import MinildmError

PRINTED = 2000                  # letters of an answer's output that are kept
FILE = 10_000_000               # bytes of a file that an answer writes
MOST_SENT = 100_000              # bytes of an outcome
MEMORY = 4 << 30                # bytes beyond what torch takes
HIDDEN_SEEDS = 1000             # where the hidden tests' random numbers start
CHECKS = "minildm.course.exercises"
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
REFUSED_EVENTS = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.truncate",
    "os.chmod", "os.system", "os.exec", "os.fork", "os.kill", "subprocess.Popen",
    "socket.connect", "shutil.")


@dataclass(frozen=True)
class Job:
    """What to run: cells that the answer needs, the answer, and its checks. `key` is the caller's.

    A cell of the context is (source, whether an error in it may be ignored).
    """

    key: object
    context: tuple[tuple[str, bool], ...]
    answer: str
    checks: tuple[str, ...]


@dataclass
class Outcome:
    """How it went: passed, or a message that says why not; tampered if rules were broken."""

    passed: bool = False
    message: str = ""
    tampered: bool = False
    printed: str = ""
    seconds: float = field(default=0.0, compare=False)


class Kept(io.TextIOBase):
    """A stream that keeps the first letters and forgets the rest."""

    def __init__(self, most: int = PRINTED):
        self.most, self.text = most, ""

    def write(self, text: str) -> int:
        if len(self.text) < self.most:
            self.text += text[:self.most - len(self.text)]
        return len(text)

    def writable(self) -> bool:
        return True


# ---- in the child

def serve(connection: Connection, job: Job, folder: str):
    """Run a job, which may write into that folder alone, and send its Outcome."""
    kept = Kept()
    # what writes past Python's streams goes nowhere
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.stdin = io.StringIO()
    sys.dont_write_bytecode = True
    limit_resources(folder)
    with contextlib.redirect_stdout(kept), contextlib.redirect_stderr(kept):
        outcome = judge(job)
    outcome.printed = kept.text
    # words, not a pickle: what a child sends is not believed
    connection.send_bytes(json.dumps(asdict(outcome)).encode())
    connection.close()
    # no atexit of the answer's, no thread of it that keeps the process
    os._exit(0)


def limit_resources(folder: str):
    """At most MEMORY more, small files in the folder alone, and none of REFUSED_EVENTS."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(folder)
    tempfile.tempdir = folder
    allowed = os.path.join(folder, "")

    # an audit hook can't be taken away again
    def refuse(event: str, arguments: tuple):
        if event == "open":
            changes = isinstance(arguments[2], int) and arguments[2] & WRITING
        else:
            changes = event.startswith(REFUSED_EVENTS)
        if not changes or arguments[:1] == (os.devnull,):
            return
        paths = [arg for arg in arguments if isinstance(arg, str | bytes | os.PathLike)]
        if not paths or not all(os.path.realpath(os.fspath(path)).startswith(allowed)
                                for path in paths[:1]):
            raise PermissionError(f"answers may not use {event} here")

    sys.addaudithook(refuse)
    # these write without asking Python, so that no hook hears of it
    for place, name in silent_writers():
        setattr(place, name, refuse_to_write)


def silent_writers() -> list[tuple[object, str]]:
    """What writes a file from C++ or Rust: where it stands, and its name."""
    import safetensors
    import safetensors.torch
    import torch

    return [(torch._C, "PyTorchFileWriter"), (torch, "save"),
            (safetensors, "serialize_file"), (safetensors.torch, "serialize_file"),
            (safetensors.torch, "save_file")]


def refuse_to_write(*_, **__):
    raise PermissionError("answers write no files of this kind")


def judge(job: Job) -> Outcome:
    import torch

    from minildm.grading.rules import changed, watched

    torch.set_num_threads(1)
    before, names = watched(), {"__name__": "__main__"}
    for source, may_fail in job.context:
        # a scratch cell that fails takes nothing but its own names along
        error = run(source, names)
        if error and not may_fail:
            return Outcome(message=f"a cell that the answer needs fails: {error}")
    if error := run(job.answer, names):
        return Outcome(message=error)
    for seeds, hidden in ((0, False), (HIDDEN_SEEDS, True)):
        if moved := changed(before):
            return Outcome(message=f"the answer changes {', '.join(moved[:3])}", tampered=True)
        names["exercises"] = fresh_checks(seeds)
        for check in job.checks:
            if error := run(check, names):
                where = "passes the lesson's check, and fails on other numbers: " if hidden else ""
                return Outcome(message=where + error)
        # the checks are new objects now, and they are not the answer's to change either
        before = {key: value for key, value in before.items() if not key[0].startswith(CHECKS)}
    if moved := changed(before):
        return Outcome(message=f"the answer changes {', '.join(moved[:3])}", tampered=True)
    return Outcome(passed=True)


def run(source: str, names: dict) -> str:
    """Execute a cell; what went wrong in one line, or ""."""
    from minildm.grading.slices import plain

    try:
        exec(compile(plain(source), "<answer>", "exec"), names)
    except NotImplementedError:
        return "not written yet"
    except (KeyboardInterrupt, SystemExit) as error:
        return f"the answer ends the program: {type(error).__name__}"
    except MemoryError:
        return "it takes more memory than there is for an answer"
    except BaseException as error:
        return in_one_line(error)
    return ""


def in_one_line(error: BaseException) -> str:
    # a red check is a sentence of its own
    if type(error).__name__ == "Failed":
        return str(error).strip().splitlines()[0]
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
             if frame.filename == "<answer>"]
    where = f" (line {lines[-1]} of the cell)" if lines else ""
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}: {words[0][:300] if words else ''}{where}"


def fresh_checks(seeds: int):
    """The checks, imported anew from their files, with random numbers from another place."""
    import importlib

    os.environ["MINILDM_CHECK_SEEDS"] = str(seeds)
    for name in [name for name in sys.modules if name == CHECKS or name.startswith(CHECKS + ".")]:
        del sys.modules[name]
    return importlib.import_module(CHECKS)


# ---- in the parent

def context():
    """Processes that fork from a server with everything in memory, or start anew on Windows."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["minildm.grading.preload"])
    return made


def package_files() -> dict[str, tuple[int, int]]:
    """Size and time of each file of the package, to see that no answer has changed one."""
    paths = Path(__file__).parents[1].rglob("*.py")
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


def run_all(jobs: Iterable[Job], seconds: float = 20.0, at_once: int | None = None
            ) -> Iterator[tuple[Job, Outcome]]:
    """(job, outcome) of every job as it ends; one that takes longer than `seconds` is ended."""
    processes, waiting = context(), list(reversed(list(jobs)))
    folders = tempfile.TemporaryDirectory(prefix="minildm-grade-")
    at_once = at_once or os.cpu_count() or 1
    running: dict[Connection, tuple] = {}
    files = package_files()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop()
                mine, theirs = processes.Pipe(duplex=False)
                folder = tempfile.mkdtemp(dir=folders.name)
                process = processes.Process(target=serve, args=(theirs, job, folder), daemon=True)
                process.start()
                theirs.close()
                running[mine] = job, process, time.monotonic()
            ready = set(wait(list(running), timeout=0.1))
            for connection, (job, process, began) in list(running.items()):
                spent = time.monotonic() - began
                if connection not in ready and spent < seconds:
                    continue
                del running[connection]
                outcome = received(connection, connection in ready, seconds)
                outcome.seconds = spent
                process.kill()
                process.join()
                connection.close()
                if package_files() != files:
                    raise MinildmError(f"answer {job.key} changed files of the package", "grade",
                                       "install the package anew; grade in a container")
                yield job, outcome
    finally:
        for _, process, _ in running.values():
            process.kill()
        folders.cleanup()


def received(connection: Connection, ready: bool, seconds: float) -> Outcome:
    if not ready:
        return Outcome(message=f"it was not done after {seconds:g} s: an endless loop?")
    try:
        return Outcome(**json.loads(connection.recv_bytes(MOST_SENT)))
    except (EOFError, OSError):
        return Outcome(message="the answer ended its process")
    except (ValueError, TypeError):
        return Outcome(message="the answer spoke in the grader's place", tampered=True)
