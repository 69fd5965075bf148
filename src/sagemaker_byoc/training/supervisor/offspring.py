"""All processes that descend from the program: to signal them, to reap them, to know they're gone.

They are the program's process group and, since orphans fall to us, our own other children.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
TASKS = Path("/proc/self/task")


def adopt_orphans() -> None:
    """Have descendants whose parent ends fall to this process. PID 1 gets them anyway."""
    if os.getpid() == 1:
        return
    with suppress(ImportError, OSError, AttributeError):  # only Linux has it
        import ctypes  # noqa: PLC0415 - not needed in a container, and slow to import

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Offspring:
    """The program, started as leader of its own process group, and all that comes of it."""

    def __init__(self, program: int) -> None:
        self.program = program
        self.status: int | None = None
        """The program's wait status, once it has ended."""

    def reap(self) -> None:
        """Collect every child that has ended; keep the program's status."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self.program:
                self.status = status

    def signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.program, number)

    def signal_all(self, number: signal.Signals) -> None:
        """The group, and whoever left it. A child of ours can't be a reused process id."""
        self.signal_group(number)
        for pid in _children():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def remain(self) -> bool:
        """Whether any process is left."""
        if _children():
            return True
        try:
            os.killpg(self.program, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def _children() -> list[int]:
    """Our own children; none where the kernel doesn't say."""
    children: list[int] = []
    with suppress(OSError):
        for task in TASKS.iterdir():
            children += map(int, (task / "children").read_text().split())
    return children
