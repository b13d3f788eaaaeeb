"""Ctrl-C, SIGTERM and SIGHUP between the steps of a training, never inside one.

A first signal waits for the end of the step, and of the save; then it raises KeyboardInterrupt.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

CTRL_C = (signal.SIGINT,)
# what a scheduler or a closing terminal sends; Windows has no SIGHUP
TERMINATION = (signal.SIGTERM,)
if hasattr(signal, "SIGHUP"):
    TERMINATION += (signal.SIGHUP,)


def whole_steps(steps: Iterator, terminable: bool) -> Iterator:
    """Yield what `steps` yields, holding signals back while it is at work.

    If `terminable`, SIGTERM and SIGHUP are as Ctrl-C until the generator ends; else they are left
    alone. A process that was told to ignore one, as by nohup, goes on ignoring it.
    """
    signals = CTRL_C + TERMINATION if terminable else CTRL_C
    with _as_interrupts(TERMINATION if terminable else ()), contextlib.closing(steps):
        while True:
            with held(signals):
                step = next(steps, None)
            if step is None:
                return
            yield step


@contextlib.contextmanager
def held(signals: tuple = CTRL_C + TERMINATION):
    """Hold signals back to the end of the block; a second Ctrl-C passes at once."""
    with _counted(signals) as pressed:
        yield
    if pressed:
        signal.raise_signal(pressed[0])


@contextlib.contextmanager
def noted(terminable: bool):
    """Only note Ctrl-C inside the block, in the list that it gives; a second one passes at once.

    If `terminable`, SIGTERM and SIGHUP are noted, too. What the process ignores it goes on to.
    """
    signals = CTRL_C + TERMINATION if terminable else CTRL_C
    heard = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    with _counted(tuple(heard)) as pressed:
        yield pressed


@contextlib.contextmanager
def _counted(signals: tuple):
    """Put the signals that arrive inside the block into the list that it gives."""
    pressed = []

    def hold(number, frame):
        pressed.append(number)
        # only a person grows impatient: a closing terminal sends SIGHUP and SIGTERM several times
        if pressed.count(signal.SIGINT) > 1:
            signal.default_int_handler(number, frame)

    with _handled(signals, hold):
        yield pressed


@contextlib.contextmanager
def _as_interrupts(signals: tuple):
    """Let signals that would end the process raise KeyboardInterrupt inside the block."""
    def interrupt(number, frame):
        raise KeyboardInterrupt(signal.Signals(number).name)

    deadly = [number for number in signals if signal.getsignal(number) is signal.SIG_DFL]
    with _handled(deadly, interrupt):
        yield


@contextlib.contextmanager
def _handled(signals, handler):
    """Give signals a handler inside the block; threads other than the main one get none."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in signals:
            # None is a handler that was not set by Python, and could not be set back
            if signal.getsignal(number) is not None:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, kept in before.items():
                signal.signal(number, kept)
