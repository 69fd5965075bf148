"""Keep gloo's threads from ending a program that has finished well.

A thread of gloo drops the tensors of a collective after it has reported that the collective is
done. If the interpreter ends in between, Python before 3.14 unwinds the stack of the thread as
soon as it asks for the interpreter's lock, and C++ calls std::terminate: "terminate called without
an active exception", SIGABRT. destroy_process_group() does not help while anything else refers to
the group, as DistributedDataParallel does (github.com/pytorch/pytorch/pull/179291).
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

THREAD_NAME = "pt_gloo_runloop"
"""torch/csrc/distributed/c10d/ProcessGroupGloo.cpp, `runLoop`."""
LIMIT_SECONDS = 10.0
PAUSE_SECONDS = 0.006
"""Longer than a thread that wants the interpreter's lock waits before it asks again."""
TASKS = Path("/proc/self/task")

Looks: TypeAlias = dict[str, str]
"""The state and the context switches of each thread, by its id."""


def wait_until_idle(seconds: float = LIMIT_SECONDS) -> bool:
    """Return whether every gloo thread of this process sleeps, after `seconds` at the latest.

    Registered with `atexit`. Takes 6 ms if there are such threads and they are idle.
    """
    deadline = time.monotonic() + seconds
    before = _look()
    while before:
        time.sleep(PAUSE_SECONDS)  # also gives the interpreter's lock away
        now = _look()
        # A thread that did not run between two looks, and does not want to, waits for work.
        if now == before and all("State:\tS" in state for state in now.values()):
            break
        if time.monotonic() > deadline:
            return False
        before = now
    return True


def _look() -> Looks:
    found = {}
    for file in TASKS.glob("*/status"):  # none without /proc
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            lines = file.read_text("ascii", "replace").splitlines()
            if lines[0] == f"Name:\t{THREAD_NAME}":
                told = (line for line in lines if line.startswith("State:") or "ctxt" in line)
                found[file.parent.name] = " ".join(told)
    return found
