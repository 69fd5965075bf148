"""One HTTP request and its response, as the services of the region see them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, unquote


class Body(Protocol):
    """The request's bytes, as they arrive; transfer coding already taken off."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises ConnectionError where the client goes away before the end."""

    async def read(self, limit: int) -> bytes:
        """All of it; raises EntityTooLargeError above `limit` bytes."""


@dataclass(slots=True, kw_only=True)
class Request:
    method: str
    target: str
    """The path as it was sent, with its percent signs, and without the query."""
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
        """By name; the last of those that came twice. A flag (`?uploads`) has an empty value."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class FilePart:
    """Bytes `start` to `start + length` of a file, read while they are sent."""

    path: Path
    start: int
    length: int


@dataclass(slots=True, kw_only=True)
class Response:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    """Content-Length is set by the server from `body`, unless it is given (as for HEAD)."""
    body: bytes | FilePart | AsyncIterator[bytes] = b""


class Handler(Protocol):
    """A service that reads requests itself: S3, the runtime, the registry."""

    async def __call__(self, request: Request) -> Response: ...
