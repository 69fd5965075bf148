"""The program's output, assembled into whole lines whatever pieces it was written in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic

LINE_LIMIT = 64 * 2**10
"""Bytes; also the most that is read at once, so only the first line of a piece can be longer."""
CUT = " …[line cut]\n".encode()
UPDATE_SECONDS = 1.0
TAIL_LIMIT = 32 * 2**10
TRACEBACK = b"Traceback (most recent call last)"


class Lines:
    """One stream. What is fed comes back as whole lines as soon as they are whole.

    A carriage return ends an update of a progress bar; of those one a second is passed on.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._partial = bytearray()
        self._clock = clock
        self._shown = float("-inf")
        self._held = b""
        """The last update that was not passed on."""

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
        """What is left: an unfinished line, or an update that was held back."""
        rest = bytes(self._partial).rstrip(b"\r") or self._held
        self._partial.clear()
        self._held = b""
        return rest + b"\n" if rest else b""

    def _split(self, data: bytes) -> bytes:
        """The usual case, with no work for each line."""
        end = data.rfind(b"\n") + 1
        whole = bytes(self._partial) + data[:end] if self._partial else data[:end]
        self._partial = bytearray(data[end:])
        self._held = b""
        return whole

    def _sort_out(self, data: bytes) -> bytes:
        """Carriage returns and overlong lines."""
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
        pieces, last = _cut(last)
        return passed + pieces + last + b"\n"

    def _updates(self, text: bytes) -> tuple[bytes, bytes]:
        """Finished updates, and the rest; a return at the end may yet prove part of CR LF."""
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
        pieces, last = _cut(update)
        return pieces + last + b"\n"


def _cut(line: bytes) -> tuple[bytes, bytes]:
    """An overlong line as marked pieces, and what is left of it."""
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

    Where the last traceback's message is longer than that, its beginning is kept as well.
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
