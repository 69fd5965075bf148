"""The answer of a container to one request, as its bytes arrive, and what can go wrong.

UpstreamError             with a text for the caller
├── UnreachableError      no connection: nothing listens, or not to us
├── BusyError             as many connections as one container gets are in use
├── BrokenError           the connection ended before the answer did
├── MalformedError        the answer is not HTTP, or its head has no end
├── OverdueError          the time for the whole answer is over
├── BodyError             the request's own body could not be read to its end
└── OversizeError         the body is over the limit
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

HIGH_WATER = 256 * 2**10
"""Unread bytes of a body after which no more are read from the container."""
TOGETHER = 16 * 2**10
"""Bytes of chunks that are joined, at most: each chunk that is passed on costs time, and so do
copies of large ones."""


class Flow(Protocol):
    """What a reader controls of the connection."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abandon(self) -> None: ...


class Reply:
    """Status, headers, and a body that is read once: whole with `read`, or piece by piece.

    The connection calls `begin`, `extend`, `finish` and `fail`.
    """

    __slots__ = (
        "_buffered",
        "_chunks",
        "_error",
        "_flow",
        "_waiter",
        "complete",
        "headers",
        "status",
    )

    def __init__(self, flow: Flow) -> None:
        self.status = 0
        """0 until the head has arrived."""
        self.headers: list[tuple[bytes, bytes]] = []
        """Names in lower case."""
        self.complete = False
        self._flow = flow
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def header(self, name: bytes) -> str | None:
        """Return the first header of that name (lower case), or None."""
        for found, value in self.headers:
            if found == name:
                return value.decode("latin-1")
        return None

    async def head(self) -> None:
        """Wait for status and headers. Raise UpstreamError."""
        while not self.status:
            await self._changed()

    async def read(self, limit: int) -> bytes:
        """Return the rest of the body. Raise OversizeError above `limit` bytes, UpstreamError."""
        parts: list[bytes] = []
        size = 0
        async for part in self:
            size += len(part)
            if size > limit:
                self.close()
                raise OversizeError(f"its body is over {limit} bytes")
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            while self._chunks:
                # Kept until the next one: memory that is freed at once is faulted in again.
                chunk = self._next()
                yield chunk
            if self.complete:
                return
            self._flow.resume()
            await self._changed()

    def _next(self) -> bytes:
        """Return the next chunk, joined with small ones that have come meanwhile."""
        chunks = self._chunks
        chunk = chunks.popleft()
        size = len(chunk)
        if chunks and size + len(chunks[0]) <= TOGETHER:
            parts = [chunk]
            while chunks and size + len(chunks[0]) <= TOGETHER:
                parts.append(chunks.popleft())
                size += len(parts[-1])
            chunk = b"".join(parts)
        self._buffered -= size
        return chunk

    def close(self) -> None:
        """Give up the rest of the answer, and with it the connection, which can't be reused."""
        if not self.complete and self._error is None:
            self._error = BrokenError("the answer was given up")
            self._flow.abandon()

    async def _changed(self) -> None:
        """Wait for a change. Raise the error, after all that came before it has been read."""
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._error is not None and not self._chunks:
            raise self._error

    # ── from the connection ──

    def begin(self, status: int) -> None:
        self.status = status
        self._wake()

    def extend(self, data: bytes) -> None:
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > HIGH_WATER:
            self._flow.pause()
        self._wake()

    def finish(self) -> None:
        self.complete = True
        self._wake()

    def fail(self, error: UpstreamError) -> None:
        if not self.complete and self._error is None:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class UpstreamError(Exception):
    """An exchange that gave no whole answer; its connection is gone."""


class UnreachableError(UpstreamError):
    pass


class BusyError(UpstreamError):
    pass


class BrokenError(UpstreamError):
    pass


class MalformedError(UpstreamError):
    pass


class OverdueError(UpstreamError):
    pass


class BodyError(UpstreamError):
    """`error` is what the body raised."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(f"the request's body has no end: {error}")


class OversizeError(UpstreamError):
    pass
