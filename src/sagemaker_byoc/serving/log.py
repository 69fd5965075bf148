"""The container's log: one event, one line, one write."""

from __future__ import annotations

import fcntl
import os
import resource
import select
from contextlib import suppress

PREFIX = "byoc: "
STDIN, STDOUT, STDERR = 0, 1, 2
KEPT = 100
"""First descriptor of the copies: above those that a program closes one by one."""
_kept: dict[int, int] = {}


def say(message: str) -> None:
    """Write a message to standard error, with the server's prefix on each of its lines."""
    lines = message.rstrip("\n").splitlines()
    text = "".join(f"{PREFIX}{line}\n" for line in lines)
    write(STDERR, text.encode(errors="backslashreplace"))


def keep() -> None:
    """Keep copies of the standard streams, since user code may close its own."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = KEPT if limit == resource.RLIM_INFINITY else min(KEPT, limit // 2)
    for descriptor in (STDIN, STDOUT, STDERR):
        _kept[descriptor] = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)


def watch(poll: select.poll) -> None:
    """Make `poll` return as soon as one of the two streams is closed."""
    for descriptor in (STDOUT, STDERR):
        poll.register(descriptor, 0)


def restore() -> None:
    """Reopen the streams that user code has closed; else another file gets their numbers, and with
    them the log lines."""
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
    """Return a descriptor of the supervisor's own log if it can be opened again, as a pipe or file
    can; else one of /dev/null."""
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
    """Return the error's type and the line that raised it, for errors whose text may contain a
    user's data."""
    trace = vars(BaseException)["__traceback__"].__get__(error)
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    kind = kind_of(error)
    return f"{kind} at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else kind


def kind_of(value: object) -> str:
    """Return the name of a type, even if its metaclass is broken."""
    return str(vars(type)["__name__"].__get__(type(value)))


def write(descriptor: int, data: bytes) -> None:
    """Write without Python's buffers, so that lines of several threads and processes stay whole."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except OSError:
            return  # nobody reads the log: not a reason to fail a request
