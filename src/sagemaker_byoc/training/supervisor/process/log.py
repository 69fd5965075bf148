"""The program's output on its way to the log, assembled into whole lines.

One thread writes them, so that a reader that stalls stops nothing else.
"""

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
"""A log that accepts nothing for this long has stalled; lines are then dropped."""


class Writer:
    """A bounded queue of whole lines, and the thread that empties it.

    A slow log slows the program down, as a pipe would. A stalled log does not: see STALL_SECONDS.
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
        """Write a line of the supervisor's to stderr, without secrets."""
        line = " ".join(self.mask(text).splitlines())
        self.put(ERR, f"{PREFIX}{line}\n".encode("utf-8", "replace"))

    def say_text(self, text: str) -> None:
        """Write several lines of the supervisor's."""
        for line in text.splitlines():
            self.say(line)

    def put(self, descriptor: int, lines: bytes) -> None:
        """Queue whole lines without waiting; drop and count them if there is no room."""
        with self._changed:
            if self._pending + len(lines) > self._capacity:
                self._dropped += lines.count(b"\n")
                return
            if self._dropped:
                self._append(ERR, self._notice())
            self._append(descriptor, lines)
            self._changed.notify_all()

    def wait_for_room(self, seconds: float) -> bool:
        """Return False if the log is slow and still full; True if it has room or has stalled."""
        with self._changed:
            if self._is_full():
                if monotonic() - self._progressed > STALL_SECONDS:
                    return True
                self._changed.wait(seconds)
            return not self._is_full()

    def close(self, limit: float) -> None:
        """Wait until everything is written, the log stalls, or `limit` seconds have passed."""
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
            self._progressed = monotonic()  # an empty queue is not a stall
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
        """Return what is queued, with neighbors of one stream joined; empty after the close."""
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
            except BlockingIOError:  # another process made our log non-blocking
                select.select([], [descriptor], [], STALL_SECONDS)
            except OSError:  # the log was closed, which must not end a job
                self._gone.add(descriptor)


LINE_LIMIT = 64 * 2**10
"""Bytes. No more is read at once, so only the first line of a piece can be longer."""
CUT = " …[line cut]\n".encode()
UPDATE_SECONDS = 1.0
TAIL_LIMIT = 32 * 2**10
TRACEBACK = b"Traceback (most recent call last)"


class Lines:
    """One stream, cut into whole lines, which are returned as soon as they are whole.

    A carriage return ends an update of a progress bar; one update per second is passed on.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._partial = bytearray()
        self._clock = clock
        self._shown = float("-inf")
        self._held = b""
        """The last update, if it was not passed on."""

    def feed(self, data: bytes) -> bytes:
        first = data.find(b"\n")
        is_plain = b"\r" not in data and self._partial[-1:] != b"\r"
        if is_plain and len(data) <= LINE_LIMIT and len(self._partial) + first <= LINE_LIMIT:
            if first >= 0:
                return self._split(data)
            if len(self._partial) + len(data) <= LINE_LIMIT:
                self._partial += data
                return b""
        return self._sort_out(data)

    def end(self) -> bytes:
        """Return what is left: an unfinished line, or an update that was held back."""
        rest = bytes(self._partial).rstrip(b"\r") or self._held
        self._partial.clear()
        self._held = b""
        return rest + b"\n" if rest else b""

    def _split(self, data: bytes) -> bytes:
        """Return the whole lines in the usual case, without work for each line."""
        end = data.rfind(b"\n") + 1
        whole = bytes(self._partial) + data[:end] if self._partial else data[:end]
        self._partial = bytearray(data[end:])
        self._held = b""
        return whole

    def _sort_out(self, data: bytes) -> bytes:
        """Return the whole lines of data with carriage returns or overlong lines."""
        *lines, rest = (bytes(self._partial) + data).split(b"\n")
        whole = b"".join([self._line(line) for line in lines])
        updates, rest = self._updates(rest)
        pieces, rest = _cut(rest)
        self._partial = bytearray(rest)
        return whole + updates + pieces

    def _line(self, line: bytes) -> bytes:
        *updates, last = line.removesuffix(b"\r").split(b"\r")
        passed = b"".join([self._update(update) for update in updates])
        self._held = b""
        return passed + b"".join(_cut(last)) + b"\n"

    def _updates(self, text: bytes) -> tuple[bytes, bytes]:
        """Return finished updates, and the rest; a carriage return at the end may begin CR LF."""
        body = text.removesuffix(b"\r")
        *updates, rest = body.split(b"\r")
        return b"".join([self._update(update) for update in updates]), rest + text[len(body) :]

    def _update(self, update: bytes) -> bytes:
        if not update.strip():
            return b""
        now = self._clock()
        if now - self._shown < UPDATE_SECONDS:
            self._held = update
            return b""
        self._shown = now
        self._held = b""
        return b"".join(_cut(update)) + b"\n"


def _cut(line: bytes) -> tuple[bytes, bytes]:
    """Return an overlong line as marked pieces, and what is left of it."""
    pieces = []
    while len(line) > LINE_LIMIT:
        end = LINE_LIMIT
        while end > LINE_LIMIT - 4 and line[end] & 0xC0 == 0x80:
            end -= 1  # not inside a character
        pieces.append(line[:end] + CUT)
        line = line[end:]
    return b"".join(pieces), line


class Tail:
    """The last bytes of a stream, for the failure text.

    If the message of the last traceback is longer than that, its beginning is kept as well.
    """

    def __init__(self, limit: int = TAIL_LIMIT) -> None:
        self._limit = limit
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._head = bytearray()
        """The beginning of the last traceback, at most a quarter of the limit."""
        self._since_head = 0

    def add(self, lines: bytes) -> None:
        start = lines.rfind(TRACEBACK)
        if start >= 0:
            start = lines.rfind(b"\n", 0, start) + 1  # with its label or margin
            self._head.clear()
            self._since_head = 0
        if start >= 0 or self._head:
            self._since_head += len(lines) - max(start, 0)
            self._head += lines[max(start, 0) :][: self._limit // 4 - len(self._head)]
        self._pieces.append(lines[-self._limit :])
        self._size += len(self._pieces[-1])
        while self._size - len(self._pieces[0]) >= self._limit:
            self._size -= len(self._pieces.popleft())

    def text(self) -> str:
        tail = b"".join(self._pieces)[-self._limit :]
        if self._since_head > len(tail):
            tail = bytes(self._head) + b"\n" + tail[len(self._head) :]
        return tail.decode("utf-8", "replace")
