"""The processes of one job as a group on the CPU; a group of one if there is no launcher.

For stop.py and checkpoint/: their messages never touch a GPU and never meet the training's own.
Also the signs of progress that the supervisor's hang detection looks for.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import TypeVar

import torch
import torch.distributed as dist

from sagemaker_byoc.contract.variables import PROGRESS_FILE

T = TypeVar("T")


class Ranks:
    """Every rank makes it at the same place of its program: a new gloo group is a collective."""

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
        """End the group of this rank; the others' go on until they close their own."""
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
        """The `value` of every rank, in their order, on every rank."""
        if self.group is None:
            return [value]
        values: list[T] = [value] * self.count
        dist.all_gather_object(values, value, group=self.group)
        return values

    def largest(self, values: list[int]) -> list[int]:
        """The greatest of each position over all ranks."""
        if self.group is None:
            return values
        reduced = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(reduced, op=dist.ReduceOp.MAX, group=self.group)
        return [int(value) for value in reduced.tolist()]

    def wait(self) -> None:
        """Until every rank is here."""
        self.gather(None)


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def global_rank() -> int:
    """This process's rank, before the process group exists as well as after."""
    return dist.get_rank() if is_distributed() else int(os.environ.get("RANK", "0"))


def global_count() -> int:
    return dist.get_world_size() if is_distributed() else int(os.environ.get("WORLD_SIZE", "1"))


SECONDS_APART = 0.5


class Progress:
    """One file, renewed by `report`; without the supervisor's variable it does nothing."""

    def __init__(self) -> None:
        name = os.environ.get(PROGRESS_FILE)
        self._file = Path(name) if name else None
        self._next = 0.0

    def report(self) -> None:
        """Call after each step; nearly free."""
        if self._file is None or (now := monotonic()) < self._next:
            return
        self._next = now + SECONDS_APART
        self._file.touch()
