"""Several processes on this machine that work together, as torchrun starts them.

    with together(2) as two:
        results = two(function, *arguments)

calls function(*arguments) in each of them, inside `distributed.session()`. The function, and what it
takes and gives, must be such as pickle can name. The answer of a process that fails is its error, of one
that was killed None.
"""

import contextlib
import multiprocessing
import os
import socket
import sys

import torch

from minildm.training import distributed

# a server imports once what is slow, and every process is forked from it; Windows has no fork
KIND = "spawn" if sys.platform == "win32" else "forkserver"
SLOW = ["pytest", "minildm.model", "minildm.training.loop"]
PATIENCE = 60       # seconds that a test waits


@contextlib.contextmanager
def together(n):
    """n processes, until the block ends."""
    context = multiprocessing.get_context(KIND)
    if KIND == "forkserver":
        context.set_forkserver_preload(SLOW)
    port, pipes, processes = free_port(), [], []
    for rank in range(n):
        ours, theirs = context.Pipe()
        pipes.append(ours)
        processes.append(context.Process(target=_process, args=(rank, n, port, theirs)))
        processes[-1].start()
        theirs.close()

    def call(function, *arguments):
        for pipe in pipes:
            pipe.send((function, arguments))
        return [answer(pipe) for pipe in pipes]

    try:
        yield call
    finally:
        for process in processes:
            process.kill()


def answer(pipe):
    try:
        return pipe.recv() if pipe.poll(PATIENCE) else "no answer"
    except (EOFError, ConnectionError):        # killed
        return None


def _process(rank, n, port, pipe):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n),
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with distributed.session():
        while True:
            function, arguments = pipe.recv()
            try:
                result = function(*arguments)
            except Exception as error:
                result = f"{type(error).__name__}: {error}"
            pipe.send(result)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
