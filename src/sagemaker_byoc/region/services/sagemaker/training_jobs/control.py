"""Asking a running job to end, and why."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import StrEnum


class Why(StrEnum):
    STOP = "stop"
    RUNTIME = "MaxRuntimeInSeconds is over"
    WAIT = "MaxWaitTimeInSeconds is over"
    INTERRUPTED = "the spot instance is taken away"
    CLOSING = "the region ends"
    BROKEN = "the input is broken"


class StopSwitch:
    """Asked to stop, from a signal handler or another thread, a running job ends with SIGTERM.

    The first reason stays. Nothing here waits for a lock, as a signal handler must not.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._listeners: list[Callable[[], None]] = []
        self.why: Why | None = None
        self.hurried = False
        """Whether what runs is to be killed, without the grace of a stop."""

    def ask(self, why: Why = Why.STOP) -> None:
        if self.why is None:
            self.why = why
        self._asked.set()
        for listener in [*self._listeners]:
            listener()

    def hurry(self) -> None:
        self.hurried = True
        self.ask()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def wait(self, timeout: float) -> bool:
        return self._asked.wait(timeout)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call it at every `ask`, and now where that has been already. It must not block."""
        self._listeners.append(listener)
        if self.asked:
            listener()
