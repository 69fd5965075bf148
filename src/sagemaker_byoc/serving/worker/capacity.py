"""How many workers pay on CPUs: as many as CPUs, the model's threads and the free memory allow."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sagemaker_byoc.contract import machine
from sagemaker_byoc.serving.settings import Settings

STATUS = Path("/proc/self/status")
LEAST = 64 * 2**20
"""Bytes that each further worker is counted as, at least: for its requests."""
SHARE = 16
"""The requests of a large model need more: this fraction (1/n) of its memory."""
OBJECT = 64
"""Bytes of one object of Python's allocator. A forked worker gets a copy of each that it uses,
since it counts references in it; it never copies weights: docs/decisions/0032."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is known of the process that has loaded the model; memory in bytes."""

    threads: int
    """Threads that a request computes on."""
    own: int
    """Memory that a copy of the process could come to have for itself: all but mapped files."""
    objects: int
    """The part of it that consists of Python's objects."""
    peak: int
    """The most of it that the load needed."""
    free: int
    """Memory that further workers may take."""

    @classmethod
    def measure(cls, settings: Settings) -> Self:
        fields = _fields(STATUS)
        resident, files = fields.get("VmRSS", 0), fields.get("RssFile", 0)
        return cls(
            threads=threads_of_model(settings),
            own=resident - files,
            objects=sys.getallocatedblocks() * OBJECT,
            peak=fields.get("VmHWM", resident) - files,
            free=machine.free_memory() - settings.queue_bytes,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """How many workers there are, and of how many threads each; `why` if memory allows no more."""

    workers: int
    threads: int
    why: str = ""


def decide(settings: Settings, loaded: Loaded, *, is_forked: bool, of: int = 0) -> Decision:
    """Return the number of workers: the one decided before (`of`), or the user's, else the one that
    pays."""
    if of or not settings.is_automatic:
        return Decision(of or settings.slots, loaded.threads)
    most = max(1, min(settings.cpus // loaded.threads, settings.slots))
    each = LEAST + (loaded.own // SHARE + loaded.objects if is_forked else loaded.peak)
    fit = 1 + max(0, loaded.free) // each
    if fit >= most:
        return Decision(most, loaded.threads)
    why = f"each further one takes {_megabytes(each)} MB, and {_megabytes(loaded.free)} MB are free"
    # The CPUs that have no worker compute for the others, unless the number is the user's.
    is_ours = loaded.threads == settings.threads and not settings.are_threads_given
    threads = settings.cpus // fit if is_ours else loaded.threads
    return Decision(fit, threads, why)


def threads_of_model(settings: Settings) -> int:
    """Return the threads that torch uses, which model_fn may have set, else those configured."""
    count = getattr(sys.modules.get("torch"), "get_num_threads", None)
    return settings.threads if count is None else max(1, int(count()))


def use_threads(count: int) -> None:
    """Let torch compute on that many threads."""
    choose = getattr(sys.modules.get("torch"), "set_num_threads", None)
    if choose is not None:
        choose(count)


def _megabytes(size: int) -> int:
    return max(0, size) // 2**20


def _fields(status: Path) -> dict[str, int]:
    """Return the sizes in a status file of /proc, in bytes; none of those that it lacks."""
    try:
        lines = [line.split() for line in status.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0][:-1]: int(words[1]) * 1024 for words in lines if words[-1:] == ["kB"]}
