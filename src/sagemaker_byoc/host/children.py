"""Programs that a command starts, and that end with it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import TypeAlias

Process: TypeAlias = "subprocess.Popen[bytes]"


class Child:
    """A program that runs for a `with` block: at the end it is killed if it still runs, its pipes
    are closed and it is reaped.

    A thread calls `start`: the exception of a signal is raised in the main thread, at any of its
    lines, and between the start of a process and a `try` it would leave the process behind.
    """

    def __init__(
        self,
        start: Callable[[], Process],
        kill: Callable[[Process], object] = subprocess.Popen.kill,
    ) -> None:
        self._start = start
        self._kill = kill
        self._starting: Future[Process] = Future()

    def __enter__(self) -> Process:
        """Start the program. Raise what `start` raises."""
        try:
            Thread(target=self._fulfill, daemon=True).start()
            return self._starting.result()
        except BaseException:
            self._end()
            raise

    def __exit__(self, *_: object) -> None:
        self._end()

    def _fulfill(self) -> None:
        if not self._starting.set_running_or_notify_cancel():
            return
        try:
            self._starting.set_result(self._start())
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            self._starting.set_exception(error)

    def _end(self) -> None:
        if self._starting.cancel() or self._starting.exception() is not None:
            return
        process = self._starting.result()
        if process.poll() is None:
            with suppress(ProcessLookupError):
                self._kill(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(OSError):  # what was not sent yet
                    pipe.close()
        process.wait()
