"""Child processes and signals, as PID 1 has to handle them. Standard library only."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Self

ADOPTION = 5.0
"""Seconds for the end of the process between a worker and the one that forked it."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_DEFAULTS = (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def adopt_orphans() -> bool:
    """Become the parent of orphans, as PID 1 is anyway, so that none outlives the server on a
    user's machine; return False if the kernel can't do that."""
    return ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 or os.getpid() == 1


def end_with_parent() -> None:
    """Let the kernel end this process when its parent is killed; a container does so anyway."""
    parent = os.getppid()
    if not _ends_with(parent):
        sys.exit(0)


def _ends_with(parent: int) -> bool:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    return os.getppid() == parent


def is_adopted(parent: int) -> bool:
    """Wait until `parent` is this process's parent, and return whether it is; this process then
    ends with it."""
    until = time.monotonic() + ADOPTION
    while os.getppid() != parent:
        if time.monotonic() > until:
            return False
        time.sleep(0.001)
    return _ends_with(parent)


def spawn(
    module: str,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    *,
    options: Sequence[str],
    inherit: Sequence[int] = (),
) -> int:
    """Start `python OPTIONS -m module arguments` in its own session; return its pid.

    The session keeps a terminal's Ctrl-C from reaching it, and lets it be killed with everything
    that it started.
    """
    for descriptor in inherit:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - positional only
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, *options, "-m", module, *arguments],
            dict(environ),
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsid=True,
            setsigdef=_DEFAULTS,
            setsigmask=(),
        )
    finally:
        for descriptor in inherit:
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - positional only


def send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def kill_session(pid: int) -> None:
    """Kill the process and everything that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def is_session_gone(pid: int) -> bool:
    """Return whether no process of the session is left, zombies included."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def reap() -> list[tuple[int, int]]:
    """Return pid and return code (negative: the signal) of every child that ended, orphans
    included."""
    ended = []
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended.append((pid, os.waitstatus_to_exitcode(status)))
    return ended


def describe(returncode: int) -> str:
    """Describe how a process ended."""
    if returncode >= 0:
        return f"exited with code {returncode}"
    names = {number.value: number.name for number in signal.Signals}
    name = names.get(-returncode, f"signal {-returncode}")  # the real-time ones have none
    memory = "; out of memory?" if -returncode == signal.SIGKILL else ""
    return f"was ended by {name}{memory}"


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: a handler must exist for the wake-up pipe to be written."""


class SignalPipe:
    """A pipe that receives the signals `numbers` while it is open; select on `fileno`, then
    `read`."""

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._numbers = tuple(numbers)

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._former_descriptor = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._former = [(number, signal.signal(number, _ignore)) for number in self._numbers]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former:
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_descriptor)
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        return self._reader

    def read(self) -> list[int]:
        """Return the signal numbers since the last call."""
        try:
            return list(os.read(self._reader, 512))
        except BlockingIOError:
            return []
