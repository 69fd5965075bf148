"""Signals to the supervisor, as bytes in a pipe that its loop reads.

A handler does nothing: Python's C code writes the signal's number to the wakeup descriptor.
Installed first of all, since PID 1 ignores what it has no handler for.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
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
        self._seen: list[Signals] = []
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number in STOP | PASSED | {signal.SIGCHLD}:
            signal.signal(number, _do_nothing)

    def take(self) -> list[Signals]:
        """The signals that came since the last call, in their order."""
        seen, self._seen = self._seen, []
        return seen + self._read()

    def first(self, wanted: Collection[Signals]) -> Signals | None:
        """The first signal of these that has come and was not taken; it stays to be taken."""
        self._seen += self._read()
        return next((number for number in self._seen if number in wanted), None)

    def _read(self) -> list[Signals]:
        try:
            return [Signals(number) for number in os.read(self.descriptor, 4096)]
        except BlockingIOError:
            return []


def _do_nothing(*_: object) -> None:
    pass
