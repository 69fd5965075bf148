"""Lines for the container's log: one event, one line, one write."""

from __future__ import annotations

import os

PREFIX = "byoc: "
STDOUT, STDERR = 1, 2


def say(message: str) -> None:
    """One line of ours on standard error, with our prefix on every line of `message`."""
    lines = message.rstrip("\n").splitlines()
    text = "".join(f"{PREFIX}{line}\n" for line in lines)
    write(STDERR, text.encode(errors="backslashreplace"))


def place_of(error: BaseException) -> str:
    """Its kind, and the line that raised it: for errors whose text may be made of a user's data."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    kind = type(error).__name__
    return f"{kind} at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else kind


def write(descriptor: int, data: bytes) -> None:
    """Past Python's buffers, so that lines of several threads and processes stay whole."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except OSError:
            return  # nobody reads the log: not a reason to fail a request
