"""A wait at the exit that keeps gloo's threads from aborting a program that has finished well.

A thread of gloo drops the tensors of a collective after it has reported that the collective is
done. If the interpreter ends in between, Python before 3.14 unwinds the stack of the thread as
soon as it asks for the interpreter's lock, and C++ calls std::terminate: "terminate called without
an active exception", SIGABRT. destroy_process_group() does not help while anything else refers to
the group, as DistributedDataParallel does (github.com/pytorch/pytorch/pull/179291).

site/sitecustomize.py imports this module in the middle of torch's import: it must not need torch.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

THREAD_NAME = "pt_gloo_runloop"
"""torch/csrc/distributed/c10d/ProcessGroupGloo.cpp, `runLoop`."""
LIMIT_SECONDS = 10.0
PAUSE_SECONDS = 0.005
ENOUGH_CHECKS = 2
TASKS = Path("/proc/self/task")
FUTEX = ("202", "98")
"""The number of futex(2) on x86-64 and on aarch64."""
WAIT_BITSET = 9
COMMAND = 0x7F
"""The bits of futex(2)'s second argument that hold the command; the others are flags."""


def wait_until_idle(seconds: float = LIMIT_SECONDS) -> bool:
    """Wait until every gloo thread of this process is idle; return False after `seconds`.

    Registered with `atexit`. A thread counts as idle if two checks in a row say so: one that works
    can wait for the interpreter without a timeout for a moment. Without threads, one check is made.
    """
    deadline = time.monotonic() + seconds
    checks = 0
    while threads := _threads():
        checks = checks + 1 if all(map(_is_idle, threads)) else 0
        if checks == ENOUGH_CHECKS:
            break
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE_SECONDS)  # also releases the interpreter's lock
    return True


def _threads() -> list[Path]:
    found = []
    for name in TASKS.glob("*/comm"):  # none without /proc
        with suppress(OSError):  # the thread has ended
            if name.read_text("ascii", "replace") == f"{THREAD_NAME}\n":
                found.append(name.parent)
    return found


def _is_idle(thread: Path) -> bool:
    """Return whether a thread waits for its next collective.

    Only for that it waits on a condition without a timeout. In a collective it waits for its peers
    and for the interpreter's lock with a timeout, and for a mutex by FUTEX_WAIT.
    """
    try:
        call = (thread / "syscall").read_text("ascii").split()  # proc_pid_syscall(5)
    except OSError:  # it has ended, or this kernel does not show it
        return True
    return call[0] in FUTEX and int(call[2], 16) & COMMAND == WAIT_BITSET and int(call[4], 16) == 0
