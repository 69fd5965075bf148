"""Signals to the supervisor, as bytes in a pipe that its loop reads.

A handler does nothing: Python's C code writes the signal's number to the wakeup descriptor.
Installed first of all, since PID 1 ignores what it has no handler for.
"""

from __future__ import annotations

import os
import signal
from signal import Signals

STOP = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
"""They ask for an end: passed on once, and the grace period begins."""
PASSED = frozenset({signal.SIGUSR1, signal.SIGUSR2})
"""They mean whatever the program takes them for: passed on each time."""


class SignalQueue:
    def __init__(self) -> None:
        self.descriptor, wakeup = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number in STOP | PASSED | {signal.SIGCHLD}:
            signal.signal(number, _do_nothing)

    def take(self) -> list[Signals]:
        """The signals that came since the last call, in their order."""
        try:
            numbers = os.read(self.descriptor, 4096)
        except BlockingIOError:
            return []
        return [Signals(number) for number in numbers]


def _do_nothing(*_: object) -> None:
    pass
