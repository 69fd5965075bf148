"""All processes that descend from the programs: to signal them, to reap them, to know they're gone.

They are the programs' process groups and, since orphans fall to us, our own other children.
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


class Descendants:
    """The programs, each the leader of its own process group, and the processes they start."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        """The programs' process ids, which are their groups' as well."""
        self.continued: int | None = None
        """The last process that had stopped itself; it was continued."""

    def reap(self) -> list[tuple[int, int]]:
        """Collect every child that has ended; process id and wait status of each.

        A child that is stopped (SIGSTOP) is continued: nobody else in a container would do it.
        """
        ended = []
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG | os.WUNTRACED))[0]:
                if os.WIFSTOPPED(found[1]):
                    self.continued = found[0]
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(found[0], signal.SIGCONT)
                else:
                    ended.append(found)
        return ended

    def signal_all(self, number: signal.Signals) -> None:
        """Signal the groups, and processes that left them. A child can't be a reused process id."""
        for group in self.groups:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
        for pid in _children():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def signal_strays(self, number: signal.Signals) -> None:
        """Signal our children outside of the groups."""
        for pid in _children():
            with suppress(ProcessLookupError, PermissionError):
                if os.getpgid(pid) not in self.groups:
                    os.kill(pid, number)

    def remain(self) -> bool:
        """Return whether any process is left."""
        return bool(_children()) or any(map(_is_alive, self.groups))


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _children() -> list[int]:
    """Return our own children; none if the kernel does not list them."""
    children: list[int] = []
    with suppress(OSError):
        for task in TASKS.iterdir():
            children += map(int, (task / "children").read_text().split())
    return children
