"""Ranges of a file: the Range header of a request, and the bytes of the answer as a stream."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from concurrent.futures import Executor

_RANGE = re.compile(r"bytes=(\d{0,99})-(\d{0,99})")
_CHUNK = 1 << 20


class RangeError(ValueError):
    """The file has none of the bytes that are asked for: HTTP status 416."""


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return start and length, or None for the whole file, also if several ranges are named.

    Raise RangeError if the file has none of the bytes.
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found[1], found[2]
    if not first:
        length = min(int(last), size)
        start = size - length
    else:
        start = int(first)
        if last and int(last) < start:
            return None
        length = (min(int(last), size - 1) if last else size - 1) - start + 1
    if length <= 0 or start >= size:
        raise RangeError("The requested range is not satisfiable")
    return start, length


def content_range(start: int, length: int, size: int) -> str:
    """Return the value of the header Content-Range."""
    return f"bytes {start}-{start + length - 1}/{size}"


class FileStream(AsyncIterator[bytes]):
    """Part of an open file, closed at the end; the next piece is read while one is sent."""

    def __init__(self, file: int, start: int, length: int, threads: Executor) -> None:
        self._file: int | None = file
        self._position = start
        self._end = start + length
        self._threads = threads
        self._reading: asyncio.Future[bytes] | None = None

    def __aiter__(self) -> FileStream:
        return self

    async def __anext__(self) -> bytes:
        if self._reading is None:
            self._reading = self._read()
        if self._reading is None:
            await self.aclose()
            raise StopAsyncIteration
        data = await self._reading
        if not data:
            await self.aclose()
            raise ConnectionError("the file became shorter while it was sent")
        self._position += len(data)
        self._reading = self._read()
        return data

    async def aclose(self) -> None:
        if self._reading is not None and not self._reading.done():
            await asyncio.wait([self._reading])
        self._reading = None
        self._close()

    def __del__(self) -> None:
        """Close the file of a response that was dropped before its first byte was read."""
        self._close()

    def _read(self) -> asyncio.Future[bytes] | None:
        length = min(_CHUNK, self._end - self._position)
        if length <= 0 or self._file is None:
            return None
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._threads, os.pread, self._file, length, self._position)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
