"""Programs that a command starts, and that end with it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from threading import Thread

Process = subprocess.Popen[bytes]


@contextmanager
def child(
    start: Callable[[], Process], kill: Callable[[Process], object] = Process.kill
) -> Iterator[Process]:
    """Start a program, and `kill` it if it still runs at the end. Raise what `start` raises.

    A thread calls `start`: the exception of a signal is raised in the main thread, at any of its
    lines, and between the start of a process and a `try` it would leave the process behind.
    """
    starting: Future[Process] = Future()
    thread = Thread(target=_fulfill, args=(starting, start), daemon=True)
    try:
        thread.start()
        yield starting.result()
    finally:
        if not starting.cancel() and starting.exception() is None:
            process = starting.result()
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    kill(process)
                process.wait()


def _fulfill(starting: Future[Process], start: Callable[[], Process]) -> None:
    if not starting.set_running_or_notify_cancel():
        return
    try:
        starting.set_result(start())
    except BaseException as error:  # noqa: BLE001 - the caller gets it
        starting.set_exception(error)
