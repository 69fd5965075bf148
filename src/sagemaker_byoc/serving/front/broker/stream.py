"""A reply that comes in pieces, on its way from the worker's lane to one client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

HIGH = 256 * 1024
"""Bytes that may wait for a slow client before the worker is held up."""


class StreamCutError(Exception):
    """The stream ended before its end: nothing may make it look whole."""


class Stream:
    """Filled by the broker, emptied by whoever answers the client; one event loop."""

    def __init__(self, hold: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._is_over = False
        self._error: str | None = None
        self._hold = hold
        self._resume = resume
        self._is_held = False

    def put(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > HIGH and not self._is_held:
            self._is_held = True
            self._hold()
        self._wake()

    def end(self, error: str | None = None) -> None:
        if not self._is_over:
            self._is_over, self._error = True, error
            self._wake()

    def release(self) -> None:
        """Let the worker go on, whether or not anyone still listens."""
        if self._is_held:
            self._is_held = False
            self._resume()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces; StreamCutError at the end if that is not the stream's own."""
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._size -= len(piece)
                if self._size <= HIGH // 2:
                    self.release()
                yield piece
            if self._is_over:
                break
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise StreamCutError(self._error)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
