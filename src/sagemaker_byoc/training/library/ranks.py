"""The ranks of one job: a group on the CPU, a stop that all make at the same step, progress.

The group's messages never touch a GPU and never mix with the training's own. Without a launcher it
is a group of one. StopFlag is for user scripts; it works without torch.distributed and without a
Checkpointer. Progress is what the supervisor's hang detection looks for.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from sagemaker_byoc.contract.variables import PROGRESS_FILE

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Ranks:
    """A gloo group of all ranks. Making it is a collective: each rank does so at the same place."""

    def __init__(self, *, timeout_seconds: float = 1800.0) -> None:
        self.group: dist.ProcessGroup | None = None
        if is_distributed():
            timeout = timedelta(seconds=timeout_seconds)
            self.group = dist.new_group(backend="gloo", timeout=timeout)
            # Threads of gloo that outlive the interpreter abort the process: a job that has done
            # all its work would fail with SIGABRT, once in some hundred runs. Not sooner, when
            # other ranks may still be reading (github.com/pytorch/pytorch/pull/179291).
            atexit.register(self.close)

    def close(self) -> None:
        """End the group on this rank; on the others it lasts until they close it."""
        group, self.group = self.group, None
        if group is None:
            return
        atexit.unregister(self.close)
        if is_distributed():
            with contextlib.suppress(ValueError):  # a group of a world that is gone already
                dist.destroy_process_group(group)

    @property
    def rank(self) -> int:
        return dist.get_rank(self.group) if self.group else 0

    @property
    def count(self) -> int:
        return dist.get_world_size(self.group) if self.group else 1

    def gather(self, value: T) -> list[T]:
        """Return the `value` of each rank, in their order, on every rank."""
        if self.group is None:
            return [value]
        values: list[T] = [value] * self.count
        dist.all_gather_object(values, value, group=self.group)
        return values

    def largest(self, values: list[int]) -> list[int]:
        """Return the maximum of each position over all ranks."""
        if self.group is None:
            return values
        reduced = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(reduced, op=dist.ReduceOp.MAX, group=self.group)
        return [int(value) for value in reduced.tolist()]

    def wait(self) -> None:
        """Wait until every rank calls this."""
        self.gather(None)


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def global_rank() -> int:
    """Return this process's rank, before the process group exists as well as after."""
    return dist.get_rank() if is_distributed() else int(os.environ.get("RANK", "0"))


def global_count() -> int:
    return dist.get_world_size() if is_distributed() else int(os.environ.get("WORLD_SIZE", "1"))


PROGRESS_SECONDS = 0.5
"""Between two renewals of the file."""


class Progress:
    """A file whose time `report` renews; without the supervisor's variable it does nothing."""

    def __init__(self) -> None:
        name = os.environ.get(PROGRESS_FILE)
        self._file = Path(name) if name else None
        self._next = 0.0

    def report(self) -> None:
        """Call after each step; nearly free."""
        if self._file is None or (now := time.monotonic()) < self._next:
            return
        self._next = now + PROGRESS_SECONDS
        self._file.touch()


MOST_STEPS_APART = 32
MEETING_SECONDS = 1.0
"""Between two agreements of the ranks, about."""


class StopFlag:
    """A flag that SIGTERM on any rank sets, and on which all ranks agree.

    `every` is the number of steps between two agreements; by default about a second's worth, at
    most 32, by the slowest rank's clock. Every rank makes a flag, and calls `agreed` with the same
    steps.
    """

    def __init__(self, *, every: int | None = None, catch_sigterm: bool = True) -> None:
        if every is not None and every < 1:
            raise ValueError(f"every={every}: at least 1 step")
        self.is_set = False
        """On this rank only; another rank may not know yet."""
        self._ranks = Ranks()
        self._every = every
        self._is_agreed = False
        self._wish = False
        self._wish_agreed = False
        self._next = 0
        self._last: tuple[int, float] | None = None
        self._former: Any = None
        self._catches = catch_sigterm and self._catch()

    def set(self) -> None:
        """Ask for a stop, as SIGTERM does."""
        self.is_set = True

    def agreed(self, step: int, *, wish: Callable[[], bool] | None = None) -> bool:
        """Return whether all ranks stop now; each rank gets the same answer for the same `step`.

        `wish` is sent with the flag in one message: see `wished`.
        """
        self._wish_agreed = False
        if self._is_agreed or step < self._next:
            return self._is_agreed
        self._wish = wish is not None and wish()
        stop, wished, microseconds = self._ranks.largest(
            [int(self.is_set), int(self._wish), self._step_microseconds(step)]
        )
        self._is_agreed, self._wish_agreed = bool(stop), bool(wished)
        # From a value that all ranks have, so that the next agreement is at the same step on each.
        self._next = step + (self._every or steps_apart(microseconds))
        if self._is_agreed:
            logger.info("stopping after step %d, as agreed by all ranks", step)
        return self._is_agreed

    @property
    def wished(self) -> bool:
        """Whether the ranks exchanged messages in the last `agreed`, and any had its wish."""
        return self._wish_agreed

    def close(self) -> None:
        """Restore the former handler of SIGTERM."""
        if self._catches and signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.signal(signal.SIGTERM, self._former)
        self._catches = False

    def _catch(self) -> bool:
        try:
            self._former = signal.signal(signal.SIGTERM, self._on_signal)
        except ValueError:
            logger.warning("SIGTERM can only be caught in the main thread: no graceful stop")
            return False
        if self._former is None:  # a handler that was not set from Python can't be put back
            self._former = signal.SIG_DFL
        return True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
        if callable(self._former):
            self._former(number, frame)

    def _step_microseconds(self, step: int) -> int:
        now = time.monotonic()
        last_step, last_time = self._last or (step, now)
        self._last = (step, now)
        return int((now - last_time) * 1e6 / max(step - last_step, 1))


def steps_apart(microseconds: int) -> int:
    """Return the number of steps to the next agreement; 1 while their duration is unknown."""
    if microseconds <= 0:
        return 1
    return max(1, min(MOST_STEPS_APART, int(MEETING_SECONDS * 1e6 / microseconds)))
