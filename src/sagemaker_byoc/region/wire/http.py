"""HTTP requests, their bodies and responses, as the services of the region see them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qsl, unquote

from sagemaker_byoc.region.wire.operations import AwsError, EntityTooLargeError


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


@dataclass(slots=True, kw_only=True)
class Response:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    """Content-Length is set by the server from `body`, unless it is given (as for HEAD)."""
    body: bytes | AsyncIterator[bytes] = b""


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
