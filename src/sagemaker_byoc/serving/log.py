"""Lines for the container's log: one event, one line, one write."""

from __future__ import annotations

import fcntl
import os
import resource
import select
from contextlib import suppress

PREFIX = "byoc: "
STDIN, STDOUT, STDERR = 0, 1, 2
KEPT = 100
"""Where copies are kept: above what a program that closes its files goes through one by one."""
_kept: dict[int, int] = {}


def say(message: str) -> None:
    """One line of ours on standard error, with our prefix on every line of `message`."""
    lines = message.rstrip("\n").splitlines()
    text = "".join(f"{PREFIX}{line}\n" for line in lines)
    write(STDERR, text.encode(errors="backslashreplace"))


def keep() -> None:
    """Hold copies of the streams, since user code may close its own."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = KEPT if limit == resource.RLIM_INFINITY else min(KEPT, limit // 2)
    for descriptor in (STDIN, STDOUT, STDERR):
        _kept[descriptor] = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)


def watch(poll: select.poll) -> None:
    """Have `poll` return as soon as one of the two streams is closed."""
    for descriptor in (STDOUT, STDERR):
        poll.register(descriptor, 0)


def restore() -> None:
    """Open again what user code has closed: another file would get its number, and our lines."""
    watched = select.poll()  # for this call alone: two threads can't use one at once
    watch(watched)
    if not watched.poll(0):
        return
    for descriptor, copy in _kept.items():
        if not _is_open(descriptor):
            with suppress(OSError):  # no descriptor is left
                _reopen(descriptor, copy)


def _reopen(descriptor: int, copy: int) -> None:
    source = copy if _is_open(copy) else _of_parent(descriptor)
    if source != descriptor:
        os.dup2(source, descriptor)
        if source != copy:
            os.close(source)


def _of_parent(descriptor: int) -> int:
    """The supervisor's own log, if it can be opened again, as a pipe or file can; else nothing."""
    if descriptor != STDIN:
        with suppress(OSError):
            return os.open(f"/proc/{os.getppid()}/fd/{descriptor}", os.O_WRONLY | os.O_APPEND)
    return os.open(os.devnull, os.O_RDWR)


def _is_open(descriptor: int) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def place_of(error: BaseException) -> str:
    """Its kind, and the line that raised it: for errors whose text may be made of a user's data."""
    trace = vars(BaseException)["__traceback__"].__get__(error)
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    kind = kind_of(error)
    return f"{kind} at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else kind


def kind_of(value: object) -> str:
    """The name of its type, past what a metaclass says."""
    return str(vars(type)["__name__"].__get__(type(value)))


def write(descriptor: int, data: bytes) -> None:
    """Past Python's buffers, so that lines of several threads and processes stay whole."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except OSError:
            return  # nobody reads the log: not a reason to fail a request
