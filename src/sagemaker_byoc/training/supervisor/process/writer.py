"""The way out to the log: one thread that writes, so that a stalled reader stalls nothing else."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

OUT = 1
ERR = 2
PREFIX = "byoc: "
CAPACITY = 8 * 2**20
ROOM = 128 * 2**10
"""Free bytes below which nothing more is read from the program."""
STALL_SECONDS = 1.0
"""A log that has taken nothing for this long has stalled; lines are dropped from then on."""


class Writer:
    """A bounded queue of whole lines, and the thread that empties it.

    A slow log slows the program down, as a pipe would. A stalled one does not: see STALL_SECONDS.
    """

    def __init__(self, *, capacity: int = CAPACITY, mask: Callable[[str], str] = str) -> None:
        self.mask = mask
        self._capacity = capacity
        self._queue: deque[tuple[int, bytes]] = deque()
        self._pending = 0
        self._dropped = 0
        self._gone: set[int] = set()
        self._is_closed = False
        self._progressed = monotonic()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """A line of the supervisor's own, on stderr, without secrets."""
        line = " ".join(self.mask(text).splitlines())
        self.put(ERR, f"{PREFIX}{line}\n".encode("utf-8", "replace"))

    def say_text(self, text: str) -> None:
        """Several lines of the supervisor's own."""
        for line in text.splitlines():
            self.say(line)

    def put(self, descriptor: int, lines: bytes) -> None:
        """Queue whole lines; never waits. Without room they are dropped and counted."""
        with self._changed:
            if self._pending + len(lines) > self._capacity:
                self._dropped += lines.count(b"\n")
                return
            if self._dropped:
                self._append(ERR, self._notice())
            self._append(descriptor, lines)
            self._changed.notify_all()

    def wait_for_room(self, seconds: float) -> bool:
        """False if the log is slow and still has no room; True if it has, or if it stalled."""
        with self._changed:
            if self._is_full():
                if monotonic() - self._progressed > STALL_SECONDS:
                    return True
                self._changed.wait(seconds)
            return not self._is_full()

    def close(self, limit: float) -> None:
        """Wait until all is written, the log has stalled, or `limit` seconds are over."""
        with self._changed:
            if self._dropped:
                self._append(ERR, self._notice())
            self._is_closed = True
            self._changed.notify_all()
        now = monotonic()
        self._progressed = max(self._progressed, now)
        deadline = now + limit
        while self._thread.is_alive() and now < min(deadline, self._progressed + STALL_SECONDS):
            self._thread.join(0.1)
            now = monotonic()

    def _append(self, descriptor: int, lines: bytes) -> None:
        if not self._pending:
            self._progressed = monotonic()  # an empty queue is no stall
        self._queue.append((descriptor, lines))
        self._pending += len(lines)

    def _is_full(self) -> bool:
        return self._capacity - self._pending < ROOM

    def _notice(self) -> bytes:
        count, self._dropped = self._dropped, 0
        what = f"{count} lines of output were dropped: nothing read the log while they came"
        return f"{PREFIX}{what}\n".encode()

    def _write_all(self) -> None:
        while batch := self._next_batch():
            for descriptor, lines in batch:
                self._write(descriptor, lines)
                with self._changed:
                    self._pending -= len(lines)
                    self._changed.notify_all()

    def _next_batch(self) -> list[tuple[int, bytes]]:
        """All that is queued, neighbours of one stream joined; empty once closed and written."""
        with self._changed:
            while not self._queue and not self._is_closed:
                self._changed.wait()
            batch: list[tuple[int, bytes]] = []
            while self._queue:
                descriptor, lines = self._queue.popleft()
                if batch and batch[-1][0] == descriptor and len(batch[-1][1]) < ROOM:
                    batch[-1] = (descriptor, batch[-1][1] + lines)
                else:
                    batch.append((descriptor, lines))
            return batch

    def _write(self, descriptor: int, lines: bytes) -> None:
        rest = memoryview(lines)
        while rest and descriptor not in self._gone:
            try:
                rest = rest[os.write(descriptor, rest[:16384]) :]
                self._progressed = monotonic()
            except BlockingIOError:  # someone made our log non-blocking
                select.select([], [descriptor], [], STALL_SECONDS)
            except OSError:  # the log was closed: no reason to end a job
                self._gone.add(descriptor)
