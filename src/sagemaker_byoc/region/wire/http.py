"""HTTP requests, their bodies and ranges, and responses, as the services of the region see them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qsl, unquote

from sagemaker_byoc.region.wire.operations import AwsError, EntityTooLargeError

CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""What a header must not hold: clients end a line at a lone CR, too."""
_RANGE = re.compile(r"bytes=(\d{0,99})-(\d{0,99})")
_CHUNK = 1 << 20
"""Bytes of a file that are read at once."""


class Body(Protocol):
    """The request's bytes, as they arrive, without their transfer coding."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the bytes; raise ConnectionError if the client leaves before the end."""

    async def read(self, limit: int) -> bytes:
        """Return all of it; raise EntityTooLargeError above `limit` bytes."""


@dataclass(slots=True, kw_only=True)
class Request:
    method: str
    target: str
    """The path as it was sent: percent-encoded, without the query."""
    query_string: str
    headers: Mapping[str, str]
    """Names in lower case; a name that came twice has its values joined by commas."""
    body: Body
    id: str
    """The request id that goes back in the headers, and into errors."""

    @property
    def path(self) -> str:
        return unquote(self.target)

    @property
    def query(self) -> dict[str, str]:
        """Values by name, the last one if a name came twice; "" for a flag (`?uploads`)."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))


def new_request_id() -> str:
    """Return a UUID of version 4."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


@dataclass(slots=True, kw_only=True)
class Response:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    """Content-Length is set by the server from `body`, unless it is given (as for HEAD)."""
    body: bytes | AsyncIterator[bytes] = b""


def json_response(
    document: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(
        status=status,
        headers={"Content-Type": "application/json", **(headers or {})},
        body=json.dumps(document).encode(),
    )


async def read_document(request: Request, limit: int) -> bytes:
    """Return a body of at most `limit` bytes, also if the client sent it compressed by gzip.

    SDKs compress what some operations take from 10 KB on. Raise EntityTooLargeError, and AwsError
    for what is not gzip.
    """
    data = await request.body.read(limit)
    if request.headers.get("content-encoding") != "gzip":
        return data
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise AwsError("SerializationException", f"The body is not gzip: {error}") from error
    if len(plain) > limit:
        raise EntityTooLargeError(limit)
    if not inflater.eof or inflater.unused_data:
        raise AwsError("SerializationException", "The body is not one whole gzip stream")
    return plain


class Handler(Protocol):
    """A service that reads requests itself: S3, the runtime, the registry."""

    async def __call__(self, request: Request) -> Response: ...


Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientLeftError(ConnectionError):
    """The client went away before the end of its request."""


class IncomingBody:
    """A Body read from ASGI messages. `at_end` is called once, after the last byte."""

    def __init__(
        self, receive: Receive, headers: Mapping[str, str], at_end: Callable[[], None]
    ) -> None:
        self._receive = receive
        self._at_end = at_end
        self._length = _length(headers)
        self._more = "transfer-encoding" in headers or self._length > 0
        self._asked = False
        self._expects = headers.get("expect", "").lower() == "100-continue"
        if not self._more:
            at_end()

    @property
    def awaits_permission(self) -> bool:
        """Whether the client waits to be asked for its body (`Expect: 100-continue`)."""
        return self._expects and not self._asked and self._more

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._more:
            self._asked = True
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._more = False
                raise ClientLeftError("the client left before the end of its request")
            self._more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]
            if not self._more:
                self._at_end()

    async def read(self, limit: int) -> bytes:
        if self._length > limit:
            raise EntityTooLargeError(limit)
        data = bytearray()
        async for chunk in self:
            data += chunk
            if len(data) > limit:
                raise EntityTooLargeError(limit)
        return bytes(data)


class BufferedBody:
    """A Body of bytes that have been read already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._data:
            yield self._data

    async def read(self, limit: int) -> bytes:
        if len(self._data) > limit:
            raise EntityTooLargeError(limit)
        return self._data


class HashedBody:
    """A Body whose SHA-256 was signed.

    `read` verifies it. Code that iterates verifies it itself, in the thread that gets the bytes.
    """

    def __init__(self, body: Body, sha256: str) -> None:
        self._body = body
        self._sha256 = sha256

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body.__aiter__()

    async def read(self, limit: int) -> bytes:
        data = await self._body.read(limit)
        if hashlib.sha256(data).hexdigest() != self._sha256:
            raise sha256_mismatch()
        return data


def sha256_mismatch() -> AwsError:
    return AwsError(
        "XAmzContentSHA256Mismatch",
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    )


def _length(headers: Mapping[str, str]) -> int:
    text = headers.get("content-length", "0")
    return int(text) if text.isascii() and text.isdigit() else 0


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
