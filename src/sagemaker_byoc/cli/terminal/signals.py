"""What SIGINT, SIGTERM and SIGHUP do to a command.

By default the first of them raises Interrupted in the main thread, so that `finally` blocks remove
what was begun; the clean-up itself is not interrupted, unless Ctrl-C is pressed twice more. While a
command is `asking`, a signal calls its functions instead, and nothing is raised.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.contract.lifecycle import SIGNAL_BASE

if TYPE_CHECKING:
    import subprocess

_HANGUP = getattr(signal, "SIGHUP", None)
"""Windows has none."""
NUMBERS = (signal.SIGINT, signal.SIGTERM, *filter(None, [_HANGUP]))
_IGNORED_IN_CLEANUP = 1
"""Ctrl-Cs; the next one ends the process at once."""

Ask = Callable[[], object]


def say(text: str) -> None:
    """Write one line from a signal handler, where a buffered stream may be in the middle of one."""
    if console.is_quiet():
        return
    with suppress(OSError):
        os.write(2, f"* {text}\n".encode())


class Interrupted(KeyboardInterrupt):
    """A signal ends the command."""


class Received:
    """The signals of one command."""

    def __init__(self) -> None:
        self.number = 0
        """The first signal; 0 before any."""
        self._asks: list[Ask] | None = None
        self._raised = False
        self._ignored = 0

    @property
    def exit_code(self) -> int:
        return SIGNAL_BASE + (self.number or signal.SIGINT)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Only Ctrl-C counts when repeated: a closed terminal and its shell send SIGHUP twice."""
        is_repeated = bool(self.number) and number != signal.SIGINT
        self.number = self.number or number
        if is_repeated:
            return
        if self._asks:
            self._asks.pop(0)()
        elif not self._raised:
            self._raised = True
            raise Interrupted
        elif self._ignored == _IGNORED_IN_CLEANUP:
            os._exit(self.exit_code)
        else:
            self._ignored += 1

    @contextmanager
    def asking(self, *asks: Ask) -> Iterator[None]:
        """Call the first of `asks` at the first signal, the next at the next Ctrl-C; then raise.

        They run in the signal handler, so they must not block.
        """
        self._asks = list(asks)
        if self.number:  # between the check of the caller and this line
            self._asks.pop(0)()
        try:
            yield
        finally:
            self._asks = None

    @contextmanager
    def leaving_terminal_to(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Leave Ctrl-C to `process`, which has the terminal; let other signals end it."""

        def handle(number: int, _frame: FrameType | None) -> None:
            if number != signal.SIGINT:
                self.number = self.number or number
                process.kill()

        # Not SIG_IGN, which the process and its children would inherit.
        previous = {number: signal.signal(number, handle) for number in NUMBERS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


_current = Received()


def received() -> Received:
    """Return the signals of the command that runs."""
    return _current


@contextmanager
def handled() -> Iterator[Received]:
    """Handle the signals of one command; in another thread than the main one, leave them alone."""
    global _current  # noqa: PLW0603 - signals belong to the process
    outer, _current = _current, Received()
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in NUMBERS:
            # What the caller ignores stays ignored: SIGHUP under nohup, SIGINT in a background job
            # of a shell. SIGTERM always ends the command.
            if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, _current.handle)
    try:
        yield _current
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _current = outer
